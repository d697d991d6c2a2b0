//! The watch cache against real API servers: bookmarks, a freeze, a death, and a neighbour's death.
#![allow(clippy::unwrap_used, reason = "a failure here is the test failing")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_control_plane::{ControlPlane, Options, Patch, eventually};
use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{
    CacheSettings, ClusterReads, FailingFilter, Freshness, KubeReader, ReadSource, Scope,
    Thresholds,
};
use jiff::SignedDuration;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);
/// More than a watch lasts by what a busy machine may take to begin the next one.
const FRESH_FOR: Duration = Duration::from_secs(16);
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn plane() -> ControlPlane {
    let options = Options {
        controllers: false,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n";
    plane.apply_yaml(account).await.unwrap();
    plane
}

async fn create_pod(plane: &ControlPlane, name: &str, waiting_for: Option<&str>) {
    let api = plane.admin().await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": "registry.invalid/app:1"}]},
    });
    api.post(PODS, &pod).await.unwrap().success().unwrap();
    let (ready, state) = match waiting_for {
        None => (
            "True",
            json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
        ),
        Some(reason) => ("False", json!({"waiting": {"reason": reason}})),
    };
    let status = json!({"status": {
        "phase": "Running",
        "conditions": [{
            "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "containerStatuses": [{
            "name": "app", "image": "x", "imageID": "x", "ready": waiting_for.is_none(),
            "restartCount": 0, "state": state,
        }],
    }});
    let path = format!("{PODS}/{name}/status");
    let patched = api.patch(&path, Patch::Merge, &status).await.unwrap();
    patched.success().unwrap();
}

fn reader(plane: &ControlPlane) -> KubeReader {
    KubeReader::from_kubeconfig(Some(&plane.admin_kubeconfig()), None)
}

async fn cached(plane: &ControlPlane) -> ClusterReads {
    let settings = CacheSettings {
        watch_for: Duration::from_secs(6),
        grace: Duration::from_secs(2),
        fresh_for: FRESH_FOR,
        ..CacheSettings::default()
    };
    let reads = ClusterReads::cached(reader(plane), None, Arc::new(SystemClock), settings);
    assert!(reads.filled(LIMIT).await);
    reads
}

/// Pods seen and failing, and how fresh that is.
async fn failing(reads: &ClusterReads) -> (usize, usize, Freshness) {
    let (thresholds, filter) = (Thresholds::default(), FailingFilter::default());
    let reading = reads.begin();
    let now = SystemClock.now();
    let (collector, tops) = reading
        .collect_failing(&Scope::All, now, &thresholds, &filter)
        .await
        .unwrap();
    let page = collector.page(&tops, "", 10, None).unwrap();
    (page.pods_seen, page.pods_failing, reading.freshness())
}

async fn until(what: &str, reads: &ClusterReads, met: impl Fn(usize, usize, &Freshness) -> bool) {
    eventually(LIMIT, what, async || {
        let (seen, failed, fresh) = failing(reads).await;
        Ok(met(seen, failed, &fresh).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn real_api_servers_come_and_go() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (one, other) = (plane().await, plane().await);
    create_pod(&one, "well", None).await;
    create_pod(&one, "ill", Some("CrashLoopBackOff")).await;
    create_pod(&other, "elsewhere", Some("ImagePullBackOff")).await;
    let (reads, elsewhere) = tokio::join!(cached(&one), cached(&other));
    let (seen, failed, fresh) = failing(&reads).await;
    assert_eq!((seen, failed, &fresh.source), (2, 1, &ReadSource::Cache));
    let live = ClusterReads::live(reader(&one), None, Arc::new(SystemClock));
    let (seen, failed, _) = failing(&live).await;
    assert_eq!((seen, failed), (2, 1));

    // Nothing happens, and the answer does not grow old: the watch vouches for it, for longer than an
    // answer is fresh and without a break. A starved machine may need another stretch.
    let stretch = SignedDuration::try_from(FRESH_FOR).unwrap() + SignedDuration::from_secs(4);
    let over = Cell::new(None);
    until("bookmarks", &reads, |_, _, fresh| {
        let begun = fresh.source == ReadSource::Cache;
        over.set(begun.then(|| over.get().unwrap_or(fresh.as_of + stretch)));
        over.get().is_some_and(|over| fresh.as_of > over)
    })
    .await;
    create_pod(&one, "new", Some("ImagePullBackOff")).await;
    until("a change", &reads, |seen, failed, fresh| {
        (seen, failed, &fresh.source) == (3, 2, &ReadSource::Cache)
    })
    .await;

    // A neighbour's death is nobody else's.
    other.kill_api_server();
    until(
        "the neighbour's last picture",
        &elsewhere,
        |_, failed, fresh| failed == 1 && matches!(fresh.source, ReadSource::Old(_)),
    )
    .await;
    for _ in 0..20 {
        let began = Instant::now();
        let (both, (_, _, fresh)) = (failing(&elsewhere), failing(&reads).await);
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(fresh.source, ReadSource::Cache);
        both.await;
    }

    one.freeze_api_server().unwrap();
    until(
        "a frozen server is noticed",
        &reads,
        |seen, failed, fresh| {
            (seen, failed) == (3, 2) && matches!(fresh.source, ReadSource::Old(_))
        },
    )
    .await;
    one.thaw_api_server().unwrap();
    until("after the thaw", &reads, |_, _, fresh| {
        fresh.source == ReadSource::Cache
    })
    .await;

    one.kill_api_server();
    until("a killed server is noticed", &reads, |seen, _, fresh| {
        seen == 3 && matches!(fresh.source, ReadSource::Old(_))
    })
    .await;
    one.restart_api_server().await.unwrap();
    create_pod(&one, "reborn", None).await;
    until("after the restart", &reads, |seen, failed, fresh| {
        (seen, failed, &fresh.source) == (4, 2, &ReadSource::Cache)
    })
    .await;
}
