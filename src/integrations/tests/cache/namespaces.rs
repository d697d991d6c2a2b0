//! An account without rights to the whole cluster, and kinds that it may not read at all.

use std::time::Duration;

use countersign_integrations::kubernetes::{ClusterReads, KubeError, ReadSource, Scope};
use serde_json::json;

use crate::api::{Api, eventually, meta, owned, pod, quick};
use crate::warm::{failing, furnish};

#[tokio::test]
async fn only_the_configured_namespaces_are_asked_for() {
    let api = Api::start().await;
    furnish(&api);
    api.behave(|world| world.only = Some(vec!["shop".to_owned()]));
    let only = Some(vec!["shop".to_owned()]);
    let reads = api.cached_with(only, quick()).await;
    let scope = reads.scope(None);
    assert_eq!(scope, Scope::namespace("shop"));
    let (page, fresh) = failing(&reads, &scope).await;
    assert_eq!((page.pods_seen, page.pods_failing), (4, 2));
    assert_eq!(fresh.source, ReadSource::Cache);
    assert_eq!(page.groups[0].owner.as_ref().unwrap().name, "web");
    assert_eq!(reads.begin().namespace_names().await.unwrap(), ["shop"]);
    let visible = ["shop".to_owned(), "billing".to_owned()];
    assert_eq!(reads.scope(Some(&visible)), Scope::namespace("shop"));
    let beyond = api
        .world()
        .requests
        .iter()
        .any(|target| target.contains("billing"));
    assert!(!beyond);
    api.put("pods", pod("shop", "new", "CrashLoopBackOff"));
    eventually("followed", || async {
        let (page, fresh) = failing(&reads, &scope).await;
        page.pods_failing == 3 && fresh.source == ReadSource::Cache
    })
    .await;
}

#[tokio::test]
async fn jobs_that_may_not_be_read_in_one_namespace_are_known_in_the_others() {
    let api = Api::start().await;
    for namespace in ["shop", "billing"] {
        let mut failed = owned(pod(namespace, "job-1", "ready"), "Job", "job");
        failed["status"]["phase"] = "Failed".into();
        api.put("pods", failed);
        api.put(
            "jobs",
            json!({"metadata": meta(namespace, "job"), "status": {"failed": 1}}),
        );
    }
    api.behave(|world| {
        world.forbidden.insert("billing/jobs".to_owned());
    });
    let both = ["shop".to_owned(), "billing".to_owned()].to_vec();
    let cached = api.cached_with(Some(both.clone()), quick()).await;
    let clock = std::sync::Arc::new(countersign_domain::SystemClock);
    let live = ClusterReads::live(api.reader(), Some(both), clock);
    for reads in [&cached, &live] {
        let (page, _) = failing(reads, &reads.scope(None)).await;
        // The Job in shop tries again; of the one in billing nothing is known.
        assert_eq!((page.pods_seen, page.pods_failing), (2, 1));
        assert_eq!(page.groups[0].namespace, "billing");
        let of_shop = failing(reads, &Scope::namespace("shop")).await.0;
        assert_eq!(of_shop.pods_failing, 0);
        let pod = reads.begin().get_pod("shop", "job-1").await.unwrap();
        assert!(pod.job.is_some());
    }
    let (_, fresh) = failing(&cached, &cached.scope(None)).await;
    assert_eq!(fresh.source, ReadSource::Cache);
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_left_out_as_on_the_live_path() {
    let api = Api::start().await;
    furnish(&api);
    let mut failed = owned(pod("shop", "job-1", "ready"), "Job", "job");
    failed["status"]["phase"] = "Failed".into();
    api.put("pods", failed);
    api.put(
        "jobs",
        json!({"metadata": meta("shop", "job"), "status": {"failed": 1}}),
    );
    let reads = api.cached().await;
    assert_eq!(failing(&reads, &Scope::All).await.0.pods_failing, 4);

    api.behave(|world| {
        world.forbidden = ["jobs", "replicasets"].map(str::to_owned).into();
    });
    let blind = api.cached().await;
    let (page, fresh) = failing(&blind, &Scope::All).await;
    assert_eq!((page.pods_failing, fresh.source), (5, ReadSource::Cache));
    assert_eq!(page.groups[0].owner.as_ref().unwrap().name, "web-1");
    let (live, _) = failing(&api.live(), &Scope::All).await;
    assert_eq!(live.pods_failing, 5);

    api.behave(|world| {
        world.forbidden.insert("pods".to_owned());
    });
    let none = api.cached().await;
    let refused = none.begin().get_pod("shop", "web-1-a").await;
    assert!(matches!(refused, Err(KubeError::Forbidden { .. })));
    assert!(none.filled(Duration::ZERO).await);
}
