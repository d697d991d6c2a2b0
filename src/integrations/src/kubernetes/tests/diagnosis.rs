//! The sentences that people and models read.

use super::*;
use crate::kubernetes::{FoldedEvent, ObjectRef, Thresholds, diagnosis, failing};

fn say(pod: &PodRecord, owner: Option<&OwnerLookup>, events: &[FoldedEvent]) -> String {
    let verdict = failing(pod, now(), &Thresholds::default());
    diagnosis(pod, verdict.as_ref(), owner, events, now())
}

fn warning(reason: &str, message: &str, minutes: f64) -> FoldedEvent {
    let at = before(minutes).parse().unwrap();
    FoldedEvent {
        object: ObjectRef {
            kind: "Pod".into(),
            namespace: Some("shop".into()),
            name: "web".into(),
            uid: None,
        },
        kind: "Warning".into(),
        reason: reason.into(),
        message: message.into(),
        source: None,
        count: 4,
        first_seen: at,
        last_seen: at,
    }
}

#[test]
fn crashes_are_explained_with_their_workload() {
    let mut app = waiting("app", "CrashLoopBackOff", 12);
    app["lastState"] = terminated("OOMKilled", 137, 1.0);
    let pod = pod(json!({ "status": {
        "conditions": unready(22.0), "containerStatuses": [app],
    } }));
    assert_eq!(
        say(&pod, Some(&owned_by("Deployment", "web")), &[]),
        "Container app keeps crashing: 12 restarts, the last one killed 60 s ago for using more \
         memory than its limit of 512Mi. Deployment web has 2 of 3 available."
    );
}

#[test]
fn the_newest_warning_adds_what_the_status_does_not_say() {
    let pod = pod(json!({ "status": {
        "conditions": unready(22.0),
        "containerStatuses": [{ "name": "app", "ready": false, "restartCount": 0,
            "state": { "running": { "startedAt": before(60.0) } } }],
    } }));
    let events = [
        warning("BackOff", "back-off restarting", 0.5),
        warning("Unhealthy", "Readiness probe failed: HTTP 503", 1.0),
        warning("FailedMount", "old", 50.0),
    ];
    assert_eq!(
        say(&pod, None, &events),
        "The pod runs but has not been ready for 22 min. Newest warning, 60 s ago: Unhealthy \
         \"Readiness probe failed: HTTP 503\"."
    );
}

#[test]
fn pods_that_are_not_failing_are_described_as_what_they_are() {
    assert_eq!(
        say(&pod(json!({})), None, &[]),
        "The pod has been ready for 119 min, without restarts."
    );
    assert_eq!(
        say(
            &pod(json!({ "status": { "phase": "Succeeded" } })),
            None,
            &[]
        ),
        "The pod has completed successfully."
    );
    let gated = pod(json!({
        "spec": { "schedulingGates": [{ "name": "quota" }] }, "status": { "phase": "Pending" },
    }));
    assert_eq!(
        say(&gated, None, &[]),
        "The pod is held back on purpose by the scheduling gate quota."
    );
    let leaving = pod(json!({ "metadata": { "deletionTimestamp": before(0.1) } }));
    assert_eq!(
        say(&leaving, None, &[]),
        "The pod is being deleted, within its grace period."
    );
}
