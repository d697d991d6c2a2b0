//! The same words for the statement and for the look of now.

use super::*;
use crate::kubernetes::Terminated;
use crate::kubernetes::facts::{Observed, pod_facts};

#[test]
fn what_could_not_be_read_is_left_out_and_the_rest_is_said() {
    let pod = pod(json!({ "status": { "conditions": unready(10.0) } }));
    let alone = Observed {
        pod: &pod,
        owner: None,
        family: None,
        pdbs: None,
    };
    let keys: Vec<String> = pod_facts(&alone, now()).into_keys().collect();
    assert_eq!(
        keys,
        ["node", "phase", "ready", "reason", "restarts", "since"]
    );

    let all = Observed {
        owner: Some(&owned_by("ReplicaSet", "web-7d9f")),
        family: Some(std::slice::from_ref(&pod)),
        pdbs: Some(&[pdb("web", json!({}))]),
        ..alone
    };
    let facts = pod_facts(&all, now());
    assert_eq!(facts["siblings"], "0 of 1 ready, this pod included");
    assert_eq!(facts["owner"], "ReplicaSet web-7d9f");
    assert_eq!(facts["since"], "2026-11-22T01:50:00Z (10 min ago)");
    assert!(facts["budget"].starts_with("web: 3 healthy of 3, needs 2"));
}

#[test]
fn a_kubelet_may_claim_that_a_container_ended_at_the_end_of_time() {
    let mut pod = pod(json!({}));
    let end = Terminated {
        reason: None,
        message: None,
        exit_code: 1,
        signal: None,
        started_at: None,
        finished_at: Some(Timestamp::MAX),
    };
    pod.containers[0].last_terminated = Some(end);
    let observed = Observed {
        pod: &pod,
        owner: None,
        family: None,
        pdbs: None,
    };
    assert!(pod_facts(&observed, now())["last exit"].contains("9999-12-30"));
}
