//! Pod and node statuses and events as a kubelet would write them. Pure: no calls, no clock.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::behavior::Outcome;

/// Stands for "several times" wherever a container restarted.
const RESTARTS: u32 = 7;

/// What a status says about time and place.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Value,
    pub(crate) now: Timestamp,
    /// When the outcome began.
    pub(crate) since: Timestamp,
    /// Distinct per pod.
    pub(crate) ip: &'a str,
}

/// A status for a strategic merge patch: conditions of others (PodScheduled,
/// DisruptionTarget) stay as they are.
pub(crate) fn pod_status(facts: &Facts, outcome: Outcome) -> Value {
    let spec = &facts.pod["spec"];
    let inits = names(&spec["initContainers"]);
    let init_fails = outcome == Outcome::InitCrashLoop && !inits.is_empty();
    let containers: Vec<Value> = names(&spec["containers"])
        .iter()
        .enumerate()
        .map(|(index, container)| {
            let state = if init_fails {
                waiting("PodInitializing", "")
            } else {
                // The first container fails; sidecars run on.
                container_state(
                    facts,
                    container,
                    if index == 0 { outcome } else { beside(outcome) },
                )
            };
            container_status(container, &state)
        })
        .collect();
    let init_containers: Vec<Value> = inits
        .iter()
        .enumerate()
        .map(|(index, container)| {
            let sidecar = spec["initContainers"][index]["restartPolicy"] == "Always";
            let state = if init_fails {
                container_state(facts, container, Outcome::CrashLoop)
            } else if sidecar && phase_is_open(outcome) {
                container_state(facts, container, Outcome::Ready)
            } else {
                completed(facts)
            };
            container_status(container, &state)
        })
        .collect();

    let unready: Vec<&str> = containers
        .iter()
        .filter(|status| status["ready"] != true)
        .filter_map(|status| status["name"].as_str())
        .collect();
    let ready = match (outcome, unready.is_empty()) {
        (Outcome::Succeeded, _) => condition("Ready", false, "PodCompleted", "", facts),
        (Outcome::Evicted | Outcome::Failed, _) => {
            condition("Ready", false, "PodFailed", "", facts)
        }
        (_, true) => condition("Ready", true, "", "", facts),
        (_, false) => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            condition("Ready", false, "ContainersNotReady", &message, facts)
        }
    };
    let mut containers_ready = ready.clone();
    containers_ready["type"] = "ContainersReady".into();

    let (phase, reason, message) = match outcome {
        Outcome::Ready
        | Outcome::NeverReady
        | Outcome::CrashLoop
        | Outcome::OomKilled
        | Outcome::Restarting
        | Outcome::StuckTerminating => ("Running", Value::Null, Value::Null),
        Outcome::InitCrashLoop if !init_fails => ("Running", Value::Null, Value::Null),
        Outcome::ImagePull
        | Outcome::CreateConfigError
        | Outcome::ContainerCreating
        | Outcome::InitCrashLoop
        | Outcome::Silent => ("Pending", Value::Null, Value::Null),
        Outcome::Evicted => (
            "Failed",
            "Evicted".into(),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi."
                .into(),
        ),
        Outcome::Failed => ("Failed", Value::Null, Value::Null),
        Outcome::Succeeded => ("Succeeded", Value::Null, Value::Null),
    };
    json!({
        "phase": phase,
        "reason": reason,
        "message": message,
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": facts.ip,
        "podIPs": [{"ip": facts.ip}],
        "startTime": facts.since.to_string(),
        "conditions": [
            condition("PodReadyToStartContainers", true, "", "", facts),
            condition("Initialized", !init_fails, "", "", facts),
            ready,
            containers_ready,
        ],
        "initContainerStatuses": init_containers,
        "containerStatuses": containers,
    })
}

/// What a kubelet reports beside the status: type, reason, message.
pub(crate) fn pod_event(pod: &Value, outcome: Outcome) -> Option<(&'static str, String)> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let container = &pod["spec"]["containers"][0];
    let image = container["image"].as_str().unwrap_or_default();
    let container = container["name"].as_str().unwrap_or_default();
    Some(match outcome {
        Outcome::CrashLoop | Outcome::OomKilled | Outcome::InitCrashLoop => (
            "BackOff",
            format!("Back-off restarting failed container {container} in pod {name}"),
        ),
        Outcome::ImagePull => ("BackOff", format!("Back-off pulling image \"{image}\"")),
        Outcome::CreateConfigError => ("Failed", format!("Error: {MISSING_SECRET}")),
        Outcome::NeverReady => (
            "Unhealthy",
            "Readiness probe failed: HTTP probe failed with statuscode: 503".into(),
        ),
        Outcome::Evicted => ("Evicted", "The node was low on resource: memory.".into()),
        Outcome::Ready
        | Outcome::Restarting
        | Outcome::ContainerCreating
        | Outcome::Failed
        | Outcome::Succeeded
        | Outcome::StuckTerminating
        | Outcome::Silent => return None,
    })
}

const MISSING_SECRET: &str = "secret \"database-password\" not found";

fn container_state(facts: &Facts, (name, image): &(String, String), outcome: Outcome) -> Value {
    let running = json!({"running": {"startedAt": facts.since.to_string()}});
    let ended_before = |reason: &str, exit_code: i32| {
        let ended = facts.now - jiff::SignedDuration::from_secs(30);
        terminated(
            reason,
            exit_code,
            ended - jiff::SignedDuration::from_secs(5),
            ended,
        )
    };
    let back_off = || {
        let pod = facts.pod["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("back-off 5m0s restarting failed container={name} pod={pod}");
        waiting("CrashLoopBackOff", &message)
    };
    match outcome {
        Outcome::Ready | Outcome::StuckTerminating => json!({"state": running, "ready": true}),
        Outcome::NeverReady => json!({"state": running}),
        Outcome::Restarting => json!({
            "state": running, "ready": true,
            "lastState": ended_before("Error", 1), "restartCount": RESTARTS,
        }),
        Outcome::CrashLoop | Outcome::InitCrashLoop => {
            let mut state = back_off();
            state["lastState"] = ended_before("Error", 1);
            state["restartCount"] = RESTARTS.into();
            state
        }
        Outcome::OomKilled => {
            let mut state = back_off();
            state["lastState"] = ended_before("OOMKilled", 137);
            state["restartCount"] = RESTARTS.into();
            state
        }
        Outcome::ImagePull => waiting(
            "ImagePullBackOff",
            &format!("Back-off pulling image \"{image}\""),
        ),
        Outcome::CreateConfigError => waiting("CreateContainerConfigError", MISSING_SECRET),
        Outcome::ContainerCreating => waiting("ContainerCreating", ""),
        Outcome::Evicted => {
            json!({"state": terminated("Error", 137, facts.since, facts.since)})
        }
        Outcome::Failed => json!({"state": terminated("Error", 1, facts.since, facts.since)}),
        Outcome::Succeeded => completed(facts),
        Outcome::Silent => json!({}),
    }
}

/// Native sidecars run as long as the pod does.
fn phase_is_open(outcome: Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Evicted | Outcome::Failed | Outcome::Succeeded
    )
}

/// The other containers of a pod whose first container has `outcome`.
fn beside(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::NeverReady | Outcome::CrashLoop | Outcome::OomKilled | Outcome::Restarting => {
            Outcome::Ready
        }
        other => other,
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    if message.is_empty() {
        json!({"state": {"waiting": {"reason": reason}}})
    } else {
        json!({"state": {"waiting": {"reason": reason, "message": message}}})
    }
}

fn completed(facts: &Facts) -> Value {
    json!({"state": terminated("Completed", 0, facts.since, facts.since)})
}

fn terminated(reason: &str, exit_code: i32, started: Timestamp, finished: Timestamp) -> Value {
    json!({"terminated": {
        "reason": reason,
        "exitCode": exit_code,
        "startedAt": started.to_string(),
        "finishedAt": finished.to_string(),
        "containerID": "fake://ended",
    }})
}

/// `state` may hold state, lastState, ready and restartCount; the rest is filled in.
fn container_status((name, image): &(String, String), state: &Value) -> Value {
    let ready = state["ready"] == true;
    let running = !state["state"]["running"].is_null();
    let waiting = !state["state"]["waiting"].is_null();
    json!({
        "name": name,
        "image": image,
        "imageID": if waiting { String::new() } else { format!("fake://{image}") },
        "containerID": if waiting { String::new() } else { format!("fake://{name}") },
        "ready": ready,
        "started": running,
        "restartCount": state["restartCount"].as_u64().unwrap_or(0),
        "state": state["state"],
        "lastState": state["lastState"],
    })
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str, facts: &Facts) -> Value {
    let mut condition = json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "lastTransitionTime": facts.since.to_string(),
        "lastProbeTime": null,
        // Null takes away what an earlier status said.
        "reason": null,
        "message": null,
    });
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    condition
}

fn names(containers: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    containers
        .as_array()
        .map(|list| {
            list.iter()
                .map(|c| (text(&c["name"]), text(&c["image"])))
                .collect()
        })
        .unwrap_or_default()
}

/// A node that the scheduler likes.
pub(crate) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }},
    })
}

/// `port` is where the API server asks for logs.
pub(crate) fn node_status(now: Timestamp, port: u16) -> Value {
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti"});
    json!({
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "fake kubelet", "lastHeartbeatTime": now.to_string(),
            "lastTransitionTime": now.to_string(),
        }],
    })
}
