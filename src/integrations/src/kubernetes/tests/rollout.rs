//! Rollouts as `kubectl rollout status` judges them, and which pods hold them up.

use super::super::rollout::{RolloutState, holding_up, rollout};
use super::*;
use crate::kubernetes::Thresholds;

fn judged(kind: &str, patch: Value) -> (RolloutState, String) {
    let verdict = rollout(&workload(kind, "web", patch)).unwrap();
    (verdict.state, verdict.sentence)
}

/// A Deployment's or StatefulSet's status.
fn status(total: i32, updated: i32, ready: i32, available: i32) -> Value {
    json!({ "status": {
        "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
        "availableReplicas": available,
    } })
}

#[test]
fn deployments_are_judged_in_the_order_of_kubectl() {
    for (counts, state, want) in [
        ((4, 1, 3, 3), RolloutState::Progressing, "1 of 3 pods have"),
        (
            (4, 3, 4, 4),
            RolloutState::Progressing,
            "1 old pods are still to go",
        ),
        (
            (3, 3, 3, 2),
            RolloutState::Progressing,
            "2 of 3 new pods are available",
        ),
        ((3, 3, 3, 3), RolloutState::Complete, "all 3 pods"),
    ] {
        let (total, updated, ready, available) = counts;
        let (seen, sentence) = judged("Deployment", status(total, updated, ready, available));
        assert_eq!(seen, state, "{counts:?}");
        assert!(sentence.contains(want), "{sentence}");
    }
    let unseen = json!({ "metadata": { "generation": 4 } });
    assert_eq!(judged("Deployment", unseen).0, RolloutState::NotObserved);
    assert!(rollout(&workload("Job", "once", json!({}))).is_none());
}

#[test]
fn a_deadline_a_pause_and_a_quota_have_their_own_states() {
    let mut late = status(4, 1, 3, 3);
    merge(
        &mut late,
        json!({ "status": { "conditions": [{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "lastTransitionTime": before(3.0),
        }] } }),
    );
    let (state, sentence) = judged("Deployment", late.clone());
    assert_eq!(state, RolloutState::Stuck);
    assert_eq!(
        sentence,
        "the progress deadline has passed: 1 of 3 pods have the newest revision"
    );
    merge(&mut late, json!({ "spec": { "paused": true } }));
    assert_eq!(judged("Deployment", late).0, RolloutState::Paused);
    let mut done = status(3, 3, 3, 3);
    merge(&mut done, json!({ "spec": { "paused": true } }));
    assert_eq!(judged("Deployment", done).0, RolloutState::Complete);

    let mut refused = status(3, 0, 3, 3);
    merge(
        &mut refused,
        json!({ "status": { "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "exceeded quota: pods=3", "lastTransitionTime": before(3.0),
        }] } }),
    );
    let (state, sentence) = judged("Deployment", refused);
    assert_eq!(state, RolloutState::Stuck);
    assert!(sentence.contains("exceeded quota"), "{sentence}");
}

#[test]
fn stateful_sets_know_partitions_and_deletion_by_hand() {
    let set = |spec: Value, counts: Value| {
        let mut patch = counts;
        merge(&mut patch, json!({ "spec": spec }));
        merge(
            &mut patch,
            json!({ "status": { "updateRevision": "web-2", "currentRevision": "web-1" } }),
        );
        judged("StatefulSet", patch)
    };
    let rolling = |partition: i32| {
        json!({ "updateStrategy": {
            "type": "RollingUpdate", "rollingUpdate": { "partition": partition },
        } })
    };
    let (state, sentence) = set(rolling(0), status(3, 1, 3, 3));
    assert_eq!(state, RolloutState::Progressing);
    assert_eq!(sentence, "1 of 3 pods have the newest revision");
    let (state, sentence) = set(rolling(0), status(3, 1, 2, 2));
    assert_eq!(state, RolloutState::Progressing);
    assert_eq!(sentence, "2 of 3 pods are ready");
    let (state, sentence) = set(rolling(2), status(3, 1, 3, 3));
    assert_eq!(state, RolloutState::Complete);
    assert!(sentence.contains("partition of 2"), "{sentence}");
    assert_eq!(
        set(rolling(2), status(3, 0, 3, 3)).0,
        RolloutState::Progressing
    );
    // A partition beyond the last ordinal holds everything.
    assert_eq!(
        set(rolling(9), status(3, 0, 3, 3)).0,
        RolloutState::Complete
    );
    let by_hand = json!({ "updateStrategy": { "type": "OnDelete" } });
    let (state, sentence) = set(by_hand, status(3, 1, 3, 3));
    assert_eq!(state, RolloutState::WaitsForDeletion);
    assert!(sentence.contains("OnDelete"), "{sentence}");
}

#[test]
fn daemon_sets_count_nodes() {
    let counts = |updated: i32, available: i32| {
        json!({ "status": {
            "desiredNumberScheduled": 5, "currentNumberScheduled": 5, "numberReady": available,
            "numberAvailable": available, "updatedNumberScheduled": updated,
        } })
    };
    let (state, sentence) = judged("DaemonSet", counts(2, 5));
    assert_eq!(state, RolloutState::Progressing);
    assert_eq!(sentence, "2 of 5 pods have the newest revision");
    let (_, sentence) = judged("DaemonSet", counts(5, 4));
    assert_eq!(sentence, "4 of 5 pods are available");
    assert_eq!(judged("DaemonSet", counts(5, 5)).0, RolloutState::Complete);
}

#[test]
fn failing_new_pods_hold_up_first_and_healthy_old_ones_do_not() {
    let named = |name: &str, patch: Value| {
        let mut all = json!({ "metadata": { "name": name } });
        merge(&mut all, patch);
        pod(all)
    };
    let unready_now = json!({ "status": { "conditions": unready(1.0) } });
    let crashing = json!({ "status": {
        "conditions": unready(9.0),
        "containerStatuses": [{
            "name": "app", "ready": false, "restartCount": 4,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": {},
        }],
    } });
    let going = json!({ "metadata": {
        "deletionTimestamp": before(-0.4), "deletionGracePeriodSeconds": 30,
    } });
    let pods = [
        named("old-fine", json!({})),
        named("old-going", going),
        named("new-starting", unready_now),
        named("new-crashing", crashing),
    ];
    let updated = |pod: &PodRecord| pod.name.starts_with("new");
    let found = holding_up(&pods, updated, now(), &Thresholds::default());
    let told: Vec<(&str, bool)> = found.iter().map(|h| (h.pod.as_str(), h.failing)).collect();
    assert_eq!(
        told,
        [
            ("new-crashing", true),
            ("new-starting", false),
            ("old-going", false)
        ]
    );
    assert!(found[0].problem.starts_with("CrashLoopBackOff"));
    assert_eq!(found[2].since.to_string(), before(0.1));
}
