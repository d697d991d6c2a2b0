//! What the watch cache costs: memory and time over a synthetic cluster of large pods.
//!
//! `cache_footprint [PODS] [serve]` starts a second process of itself as the API server, so that
//! its memory is not counted, fills a cache from it, asks, lets 10,000 pods change, and does the
//! same without a cache.

#![expect(clippy::unwrap_used, reason = "a measurement that fails may stop")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{
    CacheSettings, ClusterReads, FailingFilter, KubeReader, Scope, Thresholds,
};
use serde_json::json;
use tokio::sync::watch;

const CHANGES: usize = 10_000;

#[derive(serde::Deserialize)]
struct Asked {
    limit: Option<usize>,
    #[serde(rename = "continue")]
    from: Option<usize>,
    watch: Option<bool>,
}

struct Cluster {
    pods: usize,
    /// Changes that were made known.
    changed: watch::Sender<usize>,
}

/// About 10 kB. Of 100 pods two are failing, and ten look like it.
fn pod(number: usize, version: usize) -> String {
    let fate = number % 100;
    let (workload, namespace) = (number / 25, number / 25 % 40);
    let bulk = "x".repeat(160);
    let env: Vec<_> = (0..40)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": bulk}))
        .collect();
    let (ready, state) = match fate {
        0 => (
            "False",
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}),
        ),
        1 => (
            "False",
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}),
        ),
        _ => (
            "True",
            json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}}),
        ),
    };
    let mut status = json!({
        "name": "app", "ready": ready == "True", "restartCount": 2, "state": state,
        "image": "registry.example.com/team/service:1.2.3", "imageID": bulk, "containerID": bulk,
    });
    if (2..12).contains(&fate) {
        status["lastState"] = json!({"terminated": {
            "exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z",
        }});
    }
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:06Z"});
    json!({
        "metadata": {
            "name": format!("service-{workload}-7d9f8b6c5-{number:05}"),
            "namespace": format!("team-{namespace}"),
            "uid": format!("0b6cd6a8-1d2e-4f5a-9b3c-{number:012}"),
            "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "app": format!("service-{workload}"), "pod-template-hash": "7d9f8b6c5",
                "team": format!("team-{namespace}"), "version": "1.2.3",
            },
            "annotations": {"example.com/config": bulk},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("service-{workload}-7d9f8b6c5"), "uid": format!("rs-{workload}"),
            }],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": bulk}}],
        },
        "spec": {
            "nodeName": format!("node-{}", number % 200), "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [{
                "name": "app", "image": "registry.example.com/team/service:1.2.3", "env": env,
                "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
            }],
        },
        "status": {
            "phase": "Running", "containerStatuses": [status],
            "conditions": [
                condition("PodScheduled", "True"), condition("Initialized", "True"),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
        },
    })
    .to_string()
}

async fn answer(
    State(cluster): State<Arc<Cluster>>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    if request.uri().path() == "/change" {
        cluster.changed.send_replace(CHANGES);
        return "ok".into_response();
    }
    let pods = request.uri().path() == "/api/v1/pods";
    if asked.watch == Some(true) {
        let mut changed = cluster.changed.subscribe();
        changed.mark_changed();
        let stream = futures::stream::unfold((0, changed), move |(sent, mut changed)| async move {
            loop {
                let target = *changed.borrow_and_update();
                if pods && sent < target {
                    let pod = pod(sent * 2, 1000 + sent);
                    let line = format!("{{\"type\":\"MODIFIED\",\"object\":{pod}}}\n");
                    let piece = Ok::<_, std::convert::Infallible>(Bytes::from(line));
                    return Some((piece, (sent + 1, changed)));
                }
                changed.changed().await.ok()?;
            }
        });
        return Body::from_stream(stream).into_response();
    }
    let all = if pods { cluster.pods } else { 0 };
    let from = asked.from.unwrap_or(0);
    let to = all.min(from + asked.limit.unwrap_or(all));
    let items: Vec<String> = (from..to).map(|number| pod(number, 1)).collect();
    let next = if to < all {
        to.to_string()
    } else {
        String::new()
    };
    let items = items.join(",");
    format!(r#"{{"metadata":{{"resourceVersion":"999","continue":"{next}"}},"items":[{items}]}}"#)
        .into_response()
}

async fn serve(pods: usize) {
    let cluster = Arc::new(Cluster {
        pods,
        changed: watch::Sender::new(0),
    });
    let router = axum::Router::new().fallback(answer).with_state(cluster);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// Of this process, now and at most, in MB.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let number: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        number / 1024.0
    };
    (field("VmRSS"), field("VmHWM"))
}

async fn ask(reads: &ClusterReads) -> (usize, usize) {
    let (thresholds, filter) = (Thresholds::default(), FailingFilter::default());
    let reading = reads.begin();
    let now = SystemClock.now();
    let (collector, tops) = reading
        .collect_failing(&Scope::All, now, &thresholds, &filter)
        .await
        .unwrap();
    let page = collector.page(&tops, "", 10, None).unwrap();
    (page.pods_seen, page.pods_failing)
}

/// Tells the server to let pods change.
async fn change(url: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /change HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).await.unwrap();
}

fn start_server(pods: usize) -> (Child, String) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args([&pods.to_string(), "serve"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    (server, url.trim().to_owned())
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let pods = std::env::args()
        .nth(1)
        .map_or(20_000, |text| text.parse().unwrap());
    if std::env::args().nth(2).as_deref() == Some("serve") {
        return serve(pods).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut server, url) = start_server(pods);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ctx",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "ctx", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let reader = KubeReader::from_kubeconfig(Some(&path), None);
    let clock = Arc::new(SystemClock);
    println!("{pods} pods of {} bytes", pod(5, 1).len());
    let _ = reader.readyz().await;
    let (idle, _) = memory();

    let live = ClusterReads::live(reader.clone(), None, clock.clone());
    let began = Instant::now();
    let counts = ask(&live).await;
    let (_, peak) = memory();
    println!(
        "live: {counts:?} in {:?}; {:.1} MB over idle ({idle:.1}) at the peak",
        began.elapsed(),
        peak - idle
    );

    let settings = CacheSettings {
        watch_for: Duration::from_secs(600),
        fresh_for: Duration::from_secs(600),
        ..CacheSettings::default()
    };
    let cached = ClusterReads::cached(reader.clone(), None, clock, settings);
    let began = Instant::now();
    assert!(cached.filled(Duration::from_secs(600)).await);
    let filled = began.elapsed();
    let (now, peak) = memory();
    println!(
        "filled in {filled:?}; {:.1} MB over idle, {:.1} at the peak",
        now - idle,
        peak - idle
    );
    let mut times: Vec<Duration> = Vec::new();
    let mut counts = (0, 0);
    for _ in 0..200 {
        let began = Instant::now();
        counts = ask(&cached).await;
        times.push(began.elapsed());
    }
    times.sort();
    println!(
        "warm: {counts:?}, p50 {:?}, p99 {:?}",
        times[100], times[198]
    );

    let began = Instant::now();
    change(&url).await;
    let number = (CHANGES - 1) * 2;
    let (namespace, name) = (
        format!("team-{}", number / 25 % 40),
        format!("service-{}-7d9f8b6c5-{number:05}", number / 25),
    );
    let version = (1000 + CHANGES - 1).to_string();
    loop {
        let pod = cached.begin().get_pod(&namespace, &name).await;
        if pod.is_ok_and(|pod| pod.resource_version == version) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (now, peak) = memory();
    println!(
        "{CHANGES} changes in {:?}; {:.1} MB over idle, {:.1} at the peak",
        began.elapsed(),
        now - idle,
        peak - idle
    );
    server.kill().unwrap();
    server.wait().unwrap();
}
