//! Statuses of pods as a kubelet reports them; times are minutes ago.

use countersign_domain::{Clock as _, SystemClock};
use jiff::{SignedDuration, Unit};
use serde_json::{Value, json};

/// As the API writes times.
pub(crate) fn before(minutes: i64) -> String {
    let then = SystemClock.now() - SignedDuration::from_mins(minutes);
    then.round(Unit::Second).unwrap().to_string()
}

pub(crate) fn condition(kind: &str, status: &str, minutes: i64) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": before(minutes)})
}

/// Of a pod that has run for two hours and was (un)ready for the last `minutes`.
pub(crate) fn running_pod(ready: &str, minutes: i64, containers: &Value) -> Value {
    json!({
        "phase": "Running", "startTime": before(120), "containerStatuses": containers,
        "conditions": [
            condition("Initialized", "True", 120),
            condition("ContainersReady", ready, minutes),
            condition("Ready", ready, minutes),
        ],
    })
}

/// Of a pod that waits for its only container.
pub(crate) fn waiting_pod(reason: &str, message: &str) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    let mut status = running_pod("False", 12, &json!([container("app", false, 0, &state)]));
    status["phase"] = "Pending".into();
    status
}

pub(crate) fn failed_pod(reason: &str, message: &str) -> Value {
    json!({
        "phase": "Failed", "reason": reason, "message": message,
        "conditions": [condition("Ready", "False", 33)],
    })
}

/// Init containers are not done, and the app waits for them.
pub(crate) fn initializing_pod(init: &Value) -> Value {
    let app = json!({"waiting": {"reason": "PodInitializing"}});
    json!({
        "phase": "Pending", "startTime": before(12),
        "conditions": [condition("Initialized", "False", 12), condition("Ready", "False", 12)],
        "initContainerStatuses": [init],
        "containerStatuses": [container("app", false, 0, &app)],
    })
}

pub(crate) fn container(name: &str, ready: bool, restarts: u32, state: &Value) -> Value {
    json!({
        "name": name, "image": "x", "imageID": "x", "ready": ready, "restartCount": restarts,
        "state": state,
    })
}

pub(crate) fn running(minutes: i64) -> Value {
    json!({"running": {"startedAt": before(minutes)}})
}

pub(crate) fn ended(reason: &str, code: i32, minutes: i64) -> Value {
    json!({"terminated": {
        "reason": reason, "exitCode": code, "finishedAt": before(minutes),
        "startedAt": before(minutes + 5),
    }})
}

/// Runs again since its last end.
pub(crate) fn restarted(restarts: u32, reason: &str, code: i32, minutes: i64) -> Value {
    let mut app = container("app", true, restarts, &running(minutes));
    app["lastState"] = ended(reason, code, minutes);
    running_pod("True", minutes, &json!([app]))
}

pub(crate) fn crash_loop(name: &str, reason: &str, code: i32) -> Value {
    let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let mut container = container(name, false, 7, &state);
    container["lastState"] = ended(reason, code, 2);
    container
}

pub(crate) fn behind_gate(minutes: i64) -> Value {
    let app = container("app", true, 0, &running(120));
    let mut status = running_pod("False", minutes, &json!([app]));
    status["conditions"][1]["status"] = "True".into();
    status
}
