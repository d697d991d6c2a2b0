//! What a filled cache answers, and that it asks nobody for it.

use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{
    ClusterReads, FailingFilter, FailingPage, Freshness, LabelSelector, OwnerLookup, ReadSource,
    Scope, Thresholds,
};
use serde_json::json;

use crate::api::{Api, eventually, meta, owned, pod};

pub async fn failing(reads: &ClusterReads, scope: &Scope) -> (FailingPage, Freshness) {
    let (thresholds, filter) = (Thresholds::default(), FailingFilter::default());
    let reading = reads.begin();
    let now = SystemClock.now();
    let (collector, tops) = reading
        .collect_failing(scope, now, &thresholds, &filter)
        .await
        .unwrap();
    (
        collector.page(&tops, "", 50, None).unwrap(),
        reading.freshness(),
    )
}

pub fn furnish(api: &Api) {
    for namespace in ["shop", "billing"] {
        api.put("deployments", json!({"metadata": meta(namespace, "web")}));
        let set = json!({"metadata": meta(namespace, "web-1")});
        api.put("replicasets", owned(set, "Deployment", "web"));
        for (name, fate) in [
            ("web-1-a", "CrashLoopBackOff"),
            ("web-1-b", "ready"),
            ("web-1-c", "ready"),
            ("web-1-d", "ImagePullBackOff"),
        ] {
            let pod = owned(pod(namespace, name, fate), "ReplicaSet", "web-1");
            api.put("pods", pod);
        }
    }
    api.put("nodes", json!({"metadata": meta("", "n1")}));
    api.put(
        "events",
        json!({
            "metadata": meta("shop", "e1"), "type": "Warning", "reason": "BackOff",
            "message": "back-off restarting", "count": 3, "lastTimestamp": "2026-11-22T02:00:00Z",
            "involvedObject": {
                "kind": "Pod", "namespace": "shop", "name": "web-1-a", "uid": "uid-shop-web-1-a",
            },
        }),
    );
}

#[tokio::test]
async fn a_warm_answer_asks_nobody() {
    let api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    // Watches come and go.
    let asked = || {
        let world = api.world();
        let lists = world
            .requests
            .iter()
            .filter(|target| !target.contains("watch=true"));
        lists.count()
    };
    let before = asked();
    let (page, fresh) = failing(&reads, &Scope::All).await;
    assert_eq!(
        (page.pods_seen, page.pods_failing, page.groups_total),
        (8, 4, 4)
    );
    assert_eq!(page.groups[0].owner.as_ref().unwrap().name, "web");
    assert_eq!(fresh.source, ReadSource::Cache);
    let (page, _) = failing(&reads, &Scope::namespace("shop")).await;
    assert_eq!((page.pods_seen, page.pods_failing), (4, 2));
    let labels = LabelSelector {
        match_labels: [("app".to_owned(), "web-1-c".to_owned())].into(),
        match_expressions: Vec::new(),
    };
    let filter = FailingFilter {
        labels: Some(labels),
        ..FailingFilter::default()
    };
    let (thresholds, reading) = (Thresholds::default(), reads.begin());
    let scope = Scope::All;
    let now = SystemClock.now();
    let (collector, _) = reading
        .collect_failing(&scope, now, &thresholds, &filter)
        .await
        .unwrap();
    assert_eq!(collector.seen(), 2);

    let sick = reading.get_pod("shop", "web-1-a").await.unwrap();
    assert_eq!(sick.uid, "uid-shop-web-1-a");
    let OwnerLookup::Found(chain) = reading.owner_of(&sick).await.unwrap() else {
        panic!("no owner");
    };
    assert_eq!(
        (chain.controller.name.as_str(), chain.top.name.as_str()),
        ("web-1", "web")
    );
    let scope = Scope::namespace("shop");
    let events = reading.list_events(&scope, Some(&sick.uid)).await.unwrap();
    assert_eq!((events.len(), events[0].count), (1, 3));
    assert_eq!(reading.list_nodes().await.unwrap()[0].name, "n1");
    assert_eq!(reading.get_node("n1").await.unwrap().name, "n1");
    assert_eq!(
        reading.namespace_names().await.unwrap(),
        ["billing", "shop"]
    );
    assert_eq!(reading.list_workloads(&scope).await.unwrap().len(), 1);
    assert_eq!(reading.pod_names("shop").await.unwrap().len(), 4);
    assert_eq!(asked(), before, "{:?}", api.world().requests);
    assert_eq!(reading.freshness().source, ReadSource::Cache);

    // That something does not exist is said by the API alone.
    assert!(reading.get_pod("shop", "web-1-z").await.is_err());
    assert_eq!(asked(), before + 1);
}

#[tokio::test]
async fn changes_arrive_and_a_pod_of_the_same_name_is_another_pod() {
    let api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    api.put("pods", pod("shop", "web-1-a", "ready"));
    eventually("healed", || async {
        failing(&reads, &Scope::All).await.0.pods_failing == 3
    })
    .await;
    api.delete("pods", "shop", "web-1-a");
    eventually("gone", || async {
        failing(&reads, &Scope::All).await.0.pods_seen == 7
    })
    .await;
    let mut again = pod("shop", "web-1-a", "CrashLoopBackOff");
    again["metadata"]["uid"] = "another".into();
    api.put("pods", again);
    eventually("back", || async {
        let pod = reads.begin().get_pod("shop", "web-1-a").await;
        pod.is_ok_and(|pod| pod.uid == "another")
    })
    .await;
    // A pod that is not held yet was read live.
    eventually("failing again", || async {
        failing(&reads, &Scope::All).await.0.pods_failing == 4
    })
    .await;
}

#[tokio::test]
async fn the_age_of_a_namespace_does_not_tell_of_changes_in_another() {
    let api = Api::start().await;
    furnish(&api);
    let reads = api.cached().await;
    let shop = Scope::namespace("shop");
    let before = failing(&reads, &shop).await.1.as_of;
    let all_before = failing(&reads, &Scope::All).await.1.as_of;
    api.put("pods", pod("billing", "secret", "ready"));
    eventually("seen", || async {
        failing(&reads, &Scope::All).await.1.as_of > all_before
    })
    .await;
    let after = failing(&reads, &shop).await.1;
    // A bookmark may have come meanwhile: it comes for all alike.
    let all = failing(&reads, &Scope::namespace("billing")).await.1;
    assert!(after.as_of == before || after.as_of == all.as_of || after.as_of > before);
    assert!(after.as_of <= all.as_of);
}
