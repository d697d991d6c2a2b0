//! Several pods of one workload at the same time: each new pod counts for one action.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use countersign_domain::{ActionId, Code, StateName};
use serde_json::{Value, json};

use crate::world::{World, text};

const SOON: Duration = Duration::from_secs(30);

/// A Deployment of three failing pods whose replacements behave so; a pending action for each.
async fn three(world: &World, replacement: &str) -> Vec<ActionId> {
    let pod = json!({"containers": [{"name": "till", "image": "registry.invalid/till:1"}]});
    let annotations = json!({
        "playground.countersign.dev/behavior": "crashloop",
        "playground.countersign.dev/replacement": replacement,
    });
    let template = json!({
        "metadata": {"labels": {"app": "till"}, "annotations": annotations}, "spec": pod
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "till", "namespace": "shop", "labels": {"app": "till"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "till"}}, "template": template},
    });
    world.control("apply", deployment).await;
    // A pod that still changes is not evicted.
    let began = Instant::now();
    let pods = loop {
        let pods = world.pods("till").await;
        let reason = "/status/containerStatuses/0/state/waiting/reason";
        let crashed = |pod: &Value| pod.pointer(reason) == Some(&json!("CrashLoopBackOff"));
        if pods.len() == 3 && pods.iter().all(crashed) {
            break pods;
        }
        assert!(began.elapsed() < SOON, "{pods:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut ids = Vec::new();
    for pod in pods {
        let pod = (text(&pod, "/metadata/name"), text(&pod, "/metadata/uid"));
        ids.push(world.propose(&pod).await);
    }
    assert_eq!(ids.len(), 3);
    for id in &ids {
        world.wait(*id, StateName::Pending).await;
    }
    ids
}

/// The UID of the pod that the action's outcome names.
async fn replacement(world: &World, id: ActionId) -> String {
    let records = world.detail(id).await.records;
    records.last().unwrap().0.details["replacement_uid"].clone()
}

#[tokio::test]
async fn each_of_three_has_a_replacement_of_its_own_whoever_executes() {
    let world = World::new().await;
    let (mut one, _other) = (world.executor(None), world.executor(None));
    let ids = three(&world, "slow-ready=1500").await;
    for id in &ids {
        world.approve(*id).await;
    }
    // One of the two leaves in the middle; whatever it watched is taken up.
    let began = Instant::now();
    while world.evictions().await.len() < 3 {
        assert!(began.elapsed() < SOON, "not evicted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.terminate().await;
    let mut named = BTreeSet::new();
    for id in &ids {
        world.wait(*id, StateName::Succeeded).await;
        named.insert(replacement(&world, *id).await);
    }
    let pods = world.pods("till").await;
    let now: BTreeSet<String> = pods.iter().map(|pod| text(pod, "/metadata/uid")).collect();
    assert_eq!(named, now, "three actions, three new pods");
    assert_eq!(world.evictions().await.len(), 3);
}

#[tokio::test]
async fn without_a_replacement_of_its_own_it_has_failed() {
    let world = World::new().await;
    world.policy(|policy| policy.replace("20s", "6s"));
    let _executor = world.executor(None);
    let ids = three(&world, "slow-ready=2000").await;
    let before: BTreeSet<String> = uids(&world.pods("till").await);
    world.approve(ids[0]).await;
    // What comes up counts for another action before it is Ready.
    let new = loop {
        let now = uids(&world.pods("till").await);
        if let Some(new) = now.difference(&before).next() {
            break new.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let taken = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": format!("replacement-{new}"), "namespace": "countersign-executor"},
        "spec": {"holderIdentity": ids[1].to_string()},
    });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";
    world.post(leases, &taken).await;
    let failed = world.wait(ids[0], StateName::Failed).await;
    let reason = &failed.state.end().unwrap().reason;
    assert_eq!(reason.code, Code::ReplacementNotReady);
    let message = &reason.message;
    assert!(message.contains("no replacement of its own"), "{message}");
    assert!(message.contains(&ids[1].to_string()), "{message}");
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(|pod| text(pod, "/metadata/uid")).collect()
}
