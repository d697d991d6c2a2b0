//! Verdicts on objects as the API server sends them: JSON in, so that decoding is tested, too.

mod eviction;
mod facts;
mod failing;
mod grouping;
mod node;
mod properties;
mod revision;
mod rollout;
mod states;
mod workload;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::records::{OwnerChain, OwnerLookup, OwnerRef, PdbRecord, PodRecord, WorkloadRecord};
use super::wire::WirePdb;
use super::wire_pod::WirePod;
use super::wire_workload::WireWorkload;

/// The moment of all tests.
fn now() -> Timestamp {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

/// `minutes` before the moment, as the API writes times.
fn before(minutes: f64) -> String {
    let then = now() - SignedDuration::from_secs_f64(minutes * 60.0);
    then.round(jiff::Unit::Second).unwrap().to_string()
}

/// A ready pod of ReplicaSet web-7d9f, two hours old, changed by merging `patch` into it.
fn pod(patch: Value) -> PodRecord {
    record(pod_json(patch))
}

fn record(pod: Value) -> PodRecord {
    serde_json::from_value::<WirePod>(pod).unwrap().into()
}

fn pod_json(patch: Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "web-7d9f-abcde", "namespace": "shop", "uid": "pod-1",
            "resourceVersion": "100", "creationTimestamp": before(120.0),
            "labels": { "app": "web" },
            "managedFields": [{ "manager": "kubelet" }],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f",
                "uid": "rs-1", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "nodeName": "node-1", "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "app", "image": "web:1.2",
                "env": [{ "name": "PASSWORD", "value": "hunter2" }],
                "resources": { "limits": { "memory": "512Mi" } },
            }],
        },
        "status": {
            "phase": "Running", "startTime": before(120.0),
            "conditions": [
                condition("PodScheduled", "True", 120.0),
                condition("Initialized", "True", 120.0),
                condition("ContainersReady", "True", 119.0),
                condition("Ready", "True", 119.0),
            ],
            "containerStatuses": [running("app", 119.0)],
        },
    });
    merge(&mut pod, patch);
    pod
}

fn condition(kind: &str, status: &str, minutes: f64) -> Value {
    json!({ "type": kind, "status": status, "lastTransitionTime": before(minutes) })
}

/// The conditions of a running pod that has been unready for `minutes`.
fn unready(minutes: f64) -> Value {
    json!([
        condition("PodScheduled", "True", 120.0),
        condition("Initialized", "True", 120.0),
        condition("ContainersReady", "False", minutes),
        condition("Ready", "False", minutes),
    ])
}

fn running(name: &str, minutes: f64) -> Value {
    json!({
        "name": name, "ready": true, "restartCount": 0, "lastState": {},
        "state": { "running": { "startedAt": before(minutes) } },
    })
}

fn waiting(name: &str, reason: &str, restarts: u32) -> Value {
    json!({
        "name": name, "ready": false, "restartCount": restarts,
        "state": { "waiting": { "reason": reason } },
    })
}

fn terminated(reason: &str, code: i32, minutes: f64) -> Value {
    json!({ "terminated": { "reason": reason, "exitCode": code, "finishedAt": before(minutes) } })
}

/// JSON merge patch, without deletion by null.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn workload(kind: &str, name: &str, patch: Value) -> WorkloadRecord {
    let mut workload = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("{name}-uid"),
            "resourceVersion": "7", "creationTimestamp": before(600.0), "generation": 3,
        },
        "spec": { "replicas": 3 },
        "status": { "observedGeneration": 3, "readyReplicas": 2, "availableReplicas": 2 },
    });
    merge(&mut workload, patch);
    serde_json::from_value::<WireWorkload>(workload)
        .unwrap()
        .record(kind)
}

fn owned_by(kind: &str, name: &str) -> OwnerLookup {
    let controller = workload(kind, name, json!({}));
    let top = controller.clone();
    OwnerLookup::Found(Box::new(OwnerChain { controller, top }))
}

fn owner_ref(kind: &str, name: &str) -> OwnerRef {
    OwnerRef {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("{name}-uid"),
    }
}

/// A budget over `app=web` that needs two healthy pods.
fn pdb(name: &str, patch: Value) -> PdbRecord {
    let mut pdb = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
            "creationTimestamp": before(600.0), "generation": 1,
        },
        "spec": { "minAvailable": 2, "selector": { "matchLabels": { "app": "web" } } },
        "status": {
            "observedGeneration": 1, "currentHealthy": 3, "desiredHealthy": 2,
            "disruptionsAllowed": 1, "expectedPods": 3,
        },
    });
    merge(&mut pdb, patch);
    serde_json::from_value::<WirePdb>(pdb).unwrap().into()
}
