//! Pods of which the truth is known: whether each is failing is decided here, when it is made, and
//! not by the product's own definition.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Bytes of one pod as an API server would send it: with managed fields, environment and mounts.
pub const POD_BYTES: usize = 10_000;

/// What a pod looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    Healthy,
    Failing(usize),
    /// Healthy, though a careless look says otherwise.
    Alike(usize),
}

type Dress = fn(&mut Value, Timestamp);

/// Each way to fail that a pod's own object shows, one dress each.
pub const FAILING: [(&str, Dress); 18] = [
    ("CrashLoopBackOff", |pod, now| {
        waiting(pod, "CrashLoopBackOff");
        last_end(pod, 1, "Error", ago(now, 2));
        unready(pod, ago(now, 30));
    }),
    ("ImagePullBackOff", |pod, now| {
        not_begun(pod, "ImagePullBackOff", ago(now, 3));
    }),
    ("ErrImagePull", |pod, now| {
        not_begun(pod, "ErrImagePull", ago(now, 1));
    }),
    ("InvalidImageName", |pod, now| {
        not_begun(pod, "InvalidImageName", ago(now, 9));
    }),
    ("CreateContainerConfigError", |pod, now| {
        not_begun(pod, "CreateContainerConfigError", ago(now, 2));
    }),
    ("CreateContainerError", |pod, now| {
        not_begun(pod, "CreateContainerError", ago(now, 2));
    }),
    ("RunContainerError", |pod, now| {
        not_begun(pod, "RunContainerError", ago(now, 2));
    }),
    ("ContainerCreating", |pod, now| {
        not_begun(pod, "ContainerCreating", ago(now, 20));
    }),
    ("PodInitializing", |pod, now| {
        not_begun(pod, "PodInitializing", ago(now, 25));
    }),
    ("Evicted", |pod, now| {
        pod["status"] = json!({"phase": "Failed", "reason": "Evicted", "startTime": text(ago(now, 60)),
            "message": "The node was low on resource: memory."});
    }),
    ("Unknown", |pod, now| {
        unready(pod, ago(now, 11));
        pod["status"]["phase"] = json!("Unknown");
    }),
    ("Unschedulable", |pod, now| {
        pod["spec"]
            .as_object_mut()
            .map(|spec| spec.remove("nodeName"));
        pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "lastTransitionTime": text(ago(now, 15)),
            "message": "0/100 nodes are available: 100 Insufficient cpu."}]});
    }),
    ("OOMKilled", |pod, now| {
        last_end(pod, 137, "OOMKilled", ago(now, 4));
    }),
    ("Crashed", |pod, now| last_end(pod, 3, "Error", ago(now, 6))),
    ("NotReady", |pod, now| unready(pod, ago(now, 8))),
    ("ReadinessGatePending", |pod, now| {
        gated(pod, ago(now, 12));
    }),
    ("StuckTerminating", |pod, now| {
        pod["metadata"]["deletionTimestamp"] = text(ago(now, 4)).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        pod["metadata"]["finalizers"] = json!(["example.com/wait"]);
    }),
    ("CrashLoopBackOff", |pod, now| {
        pod["status"]["initContainerStatuses"] = json!([{"name": "setup", "image": "setup:1",
            "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error",
                "finishedAt": text(ago(now, 1)), "startedAt": text(ago(now, 1))}}}]);
        pod["spec"]["initContainers"] = json!([{"name": "setup", "image": "setup:1"}]);
        not_begun(pod, "PodInitializing", ago(now, 7));
    }),
];

/// Each healthy look-alike.
pub const ALIKE: [(&str, Dress); 8] = [
    ("completed", |pod, now| {
        pod["status"]["phase"] = json!("Succeeded");
        let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed",
            "finishedAt": text(ago(now, 30)), "startedAt": text(ago(now, 40))}});
        pod["status"]["containerStatuses"][0]["state"] = ended;
        pod["status"]["containerStatuses"][0]["ready"] = false.into();
        pod["spec"]["restartPolicy"] = json!("Never");
        unready(pod, ago(now, 30));
        pod["status"]["phase"] = json!("Succeeded");
    }),
    ("scheduling-gated", |pod, now| {
        pod["spec"]["schedulingGates"] = json!([{"name": "example.com/quota"}]);
        pod["spec"]
            .as_object_mut()
            .map(|spec| spec.remove("nodeName"));
        pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "reason": "SchedulingGated", "lastTransitionTime": text(ago(now, 60))}]});
    }),
    ("fresh rollout", |pod, now| {
        not_begun(pod, "ContainerCreating", seconds_ago(now, 20));
    }),
    ("not ready yet", |pod, now| {
        unready(pod, seconds_ago(now, 40));
    }),
    ("terminating", |pod, now| {
        // The deletion timestamp has the grace in it: it lies ahead.
        pod["metadata"]["deletionTimestamp"] = text(now + SignedDuration::from_mins(30)).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 3_600.into();
        unready(pod, ago(now, 20));
    }),
    ("restarted long ago", |pod, now| {
        last_end(pod, 1, "Error", ago(now, 600));
        pod["status"]["containerStatuses"][0]["restartCount"] = 40.into();
    }),
    ("gate within its time", |pod, now| {
        gated(pod, seconds_ago(now, 30));
    }),
    ("native sidecar", |pod, now| {
        pod["spec"]["initContainers"] =
            json!([{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]);
        pod["status"]["initContainerStatuses"] = json!([{"name": "proxy", "image": "proxy:1",
            "imageID": "", "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": text(ago(now, 90))}}}]);
    }),
];

/// One pod of a ReplicaSet.
pub fn pod(namespace: &str, workload: &str, index: usize, looks: Looks, now: Timestamp) -> Value {
    let name = format!("{workload}-7d9f8b6c5-{index:05}");
    let uid = format!(
        "00000000-0000-4000-8000-{:012x}",
        fold(&format!("{namespace}/{name}"))
    );
    let since = text(ago(now, 120));
    let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1",
            "creationTimestamp": since, "generateName": format!("{workload}-7d9f8b6c5-"),
            "labels": {"app": workload, "pod-template-hash": "7d9f8b6c5", "team": namespace},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "blockOwnerDeletion": true, "name": format!("{workload}-7d9f8b6c5"),
                "uid": replica_set_uid(namespace, workload)}],
        },
        "spec": {
            "nodeName": format!("node-{:03}", index % 100), "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30, "serviceAccountName": "default",
            "containers": [{"name": "app", "image": format!("registry.example.com/{workload}:1.4.2"),
                "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
                "env": (0..12).map(|n| json!({"name": format!("SETTING_{n}"), "value": "some value of a usual length"})).collect::<Vec<_>>()}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.1.0.1", "startTime": since,
            "conditions": [ready("PodScheduled"), ready("Initialized"), ready("ContainersReady"), ready("Ready")],
            "containerStatuses": [{"name": "app", "ready": true, "started": true, "restartCount": 0,
                "image": format!("registry.example.com/{workload}:1.4.2"),
                "imageID": "registry.example.com/x@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "containerID": "containerd://0000000000000000000000000000000000000000000000000000000000000000",
                "state": {"running": {"startedAt": since}}, "lastState": {}}],
        },
    });
    match looks {
        Looks::Healthy => {}
        Looks::Failing(kind) => FAILING[kind % FAILING.len()].1(&mut pod, now),
        Looks::Alike(kind) => ALIKE[kind % ALIKE.len()].1(&mut pod, now),
    }
    let missing = POD_BYTES.saturating_sub(pod.to_string().len() + 100);
    // Managed fields: what most of a real pod consists of, and nobody reads.
    let fields: serde_json::Map<String, Value> = (0..missing / 24)
        .map(|n| (format!("f:field-{n:06}"), json!({})))
        .collect();
    pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "operation": "Update",
        "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    pod
}

pub fn replica_set_uid(namespace: &str, workload: &str) -> String {
    format!(
        "00000000-0000-4000-9000-{:012x}",
        fold(&format!("{namespace}/{workload}"))
    )
}

/// 48 bits of a text (FNV-1a, as published): the same name has the same uid in every run.
pub fn fold(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash & 0xffff_ffff_ffff
}

fn ago(now: Timestamp, minutes: i64) -> Timestamp {
    now - SignedDuration::from_mins(minutes)
}

fn seconds_ago(now: Timestamp, seconds: i64) -> Timestamp {
    now - SignedDuration::from_secs(seconds)
}

pub fn text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn waiting(pod: &mut Value, reason: &str) {
    let status = &mut pod["status"]["containerStatuses"][0];
    status["state"] = json!({"waiting": {"reason": reason, "message": format!("{reason}: as the kubelet says it")}});
    status["ready"] = false.into();
    status["restartCount"] = 7.into();
}

/// The container never ran.
fn not_begun(pod: &mut Value, reason: &str, since: Timestamp) {
    waiting(pod, reason);
    pod["status"]["containerStatuses"][0]["restartCount"] = 0.into();
    pod["status"]["startTime"] = text(since).into();
    for condition in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        let status = if condition.ends_with("Ready") {
            "False"
        } else {
            "True"
        };
        set(pod, condition, status, since);
    }
    pod["status"]["phase"] = json!("Pending");
}

fn last_end(pod: &mut Value, code: i64, reason: &str, at: Timestamp) {
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": code,
        "reason": reason, "startedAt": text(at), "finishedAt": text(at)}});
    pod["status"]["containerStatuses"][0]["restartCount"] = 2.into();
}

fn unready(pod: &mut Value, since: Timestamp) {
    pod["status"]["containerStatuses"][0]["ready"] = false.into();
    set(pod, "ContainersReady", "False", since);
    set(pod, "Ready", "False", since);
}

fn gated(pod: &mut Value, since: Timestamp) {
    pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/balancer"}]);
    set(pod, "Ready", "False", since);
}

fn set(pod: &mut Value, condition: &str, status: &str, since: Timestamp) {
    let all = pod["status"]["conditions"].as_array_mut();
    for one in all
        .into_iter()
        .flatten()
        .filter(|one| one["type"] == condition)
    {
        one["status"] = status.into();
        one["lastTransitionTime"] = text(since).into();
    }
}
