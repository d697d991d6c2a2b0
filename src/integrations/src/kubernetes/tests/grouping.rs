//! Short answers over many pods, complete in their counts.

use std::collections::HashMap;

use super::*;
use crate::kubernetes::{Thresholds, group_failing};

fn crashing(name: &str, replica_set: &str, restarts: u32) -> PodRecord {
    let mut pod = pod(json!({ "status": {
        "conditions": unready(f64::from(restarts)),
        "containerStatuses": [waiting("app", "CrashLoopBackOff", restarts)],
    } }));
    pod.name = name.into();
    pod.owner = Some(owner_ref("ReplicaSet", replica_set));
    pod
}

#[test]
fn pods_are_grouped_by_workload_and_reason_and_paged() {
    let mut pods: Vec<PodRecord> = (1..=7)
        .map(|n| crashing(&format!("web-{n}"), &format!("web-rs{}", n % 2), n))
        .collect();
    pods.push(pod(json!({})));
    let mut alone = crashing("alone", "x", 2);
    alone.owner = None;
    pods.push(alone);
    let mut unready = pod(json!({ "status": { "conditions": unready(20.0) } }));
    unready.name = "slow".into();
    pods.push(unready);
    let tops: HashMap<String, OwnerRef> = ["web-rs0-uid", "web-rs1-uid"]
        .into_iter()
        .map(|uid| (uid.to_owned(), owner_ref("Deployment", "web")))
        .collect();
    let page = |limit, cursor: Option<&str>| {
        group_failing(&pods, &tops, now(), &Thresholds::default(), limit, cursor).unwrap()
    };

    let first = page(1, None);
    assert_eq!(
        (first.pods_seen, first.pods_failing, first.groups_total),
        (10, 9, 3)
    );
    let web = &first.groups[0];
    assert_eq!(web.owner.as_ref().unwrap().kind, "Deployment");
    assert_eq!(
        (web.count, web.restarts, web.worst.name.as_str()),
        (7, 28, "web-7")
    );
    assert_eq!(web.names, ["web-7", "web-6", "web-5", "web-4", "web-3"]);
    assert_eq!(web.since, before(7.0).parse().unwrap());

    let mut seen = vec![web.reason.clone()];
    let mut cursor = first.next_cursor;
    while let Some(at) = cursor {
        let next = page(1, Some(&at));
        assert_eq!(next.pods_failing, 9, "counts cover all pages");
        seen.extend(next.groups.iter().map(|group| group.reason.clone()));
        cursor = next.next_cursor;
    }
    assert_eq!(seen, ["CrashLoopBackOff", "CrashLoopBackOff", "NotReady"]);
    assert!(page(10, None).next_cursor.is_none());
    let limits = Thresholds::default();
    for bad in ["x", "00", "zz"] {
        assert!(group_failing(&pods, &tops, now(), &limits, 1, Some(bad)).is_err());
    }
}
