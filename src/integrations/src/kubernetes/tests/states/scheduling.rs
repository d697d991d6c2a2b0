//! Pods without a node.

use super::*;

fn pending(message: &str, spec: &Value) -> Value {
    let mut scheduled = condition("PodScheduled", "False", 17.0);
    scheduled["reason"] = json!("Unschedulable");
    scheduled["message"] = json!(message);
    let mut pod = json!({
        "spec": { "nodeName": null },
        "status": {
            "phase": "Pending", "startTime": null, "conditions": [scheduled],
            "containerStatuses": null,
        },
    });
    merge(&mut pod, json!({ "spec": spec }));
    pod
}

pub(super) fn states() -> Vec<State> {
    let looks = "Pending, PodScheduled=False, Unschedulable";
    let big = json!({ "containers": [{
        "name": "app", "image": "web:1.2",
        "resources": { "requests": { "cpu": "64", "memory": "1Gi" } },
    }] });
    vec![
        state(
            "no room for its requests",
            looks,
            pending(
                "0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint \
                 {dedicated: gpu}. preemption: 0/5 nodes are available: 2 No preemption victims \
                 found for incoming pod, 3 Preemption is not helpful for scheduling.",
                &big,
            ),
        )
        .judged("Unschedulable, 17 min")
        .says(
            "No node has taken the pod for 17 min: of 5 nodes, 2 lack cpu, 3 have the taint \
             dedicated=gpu, which it does not tolerate; container app asks for cpu 64.",
        ),
        state(
            "all nodes cordoned or not matching",
            looks,
            pending(
                "0/4 nodes are available: 1 node(s) were unschedulable, 3 node(s) didn't match \
                 Pod's node affinity/selector.",
                &json!({}),
            ),
        )
        .rollout(2, "4", 17.0)
        .judged("Unschedulable, 17 min")
        .says(
            "No node has taken the pod for 17 min: of 4 nodes, 1 is cordoned, 3 do not match its \
             node selector or affinity. Revision 4 of Deployment web was first rolled out at \
             01:43 UTC; Deployment web has 2 of 3 available.",
        ),
        state(
            "its claim is missing",
            looks,
            pending(
                "0/3 nodes are available: persistentvolumeclaim \"data\" not found.",
                &json!({}),
            ),
        )
        .judged("Unschedulable, 17 min")
        .says("No node has taken the pod for 17 min: PersistentVolumeClaim data does not exist."),
        state(
            "its claim is not bound",
            looks,
            pending(
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
                &json!({}),
            ),
        )
        .judged("Unschedulable, 17 min")
        .says(
            "No node has taken the pod for 17 min: a PersistentVolumeClaim of the pod is not \
             bound to a volume.",
        ),
        state(
            "its volume is elsewhere, and pods keep apart",
            looks,
            pending(
                "0/3 nodes are available: 1 node(s) had volume node affinity conflict, 2 node(s) \
                 didn't match pod anti-affinity rules.",
                &json!({}),
            ),
        )
        .judged("Unschedulable, 17 min")
        .says(
            "No node has taken the pod for 17 min: of 3 nodes, 1 is not where its volume is, 2 \
             are ruled out by pod anti-affinity.",
        ),
        state(
            "the only node is full",
            looks,
            pending("0/1 nodes are available: 1 Too many pods.", &json!({})),
        )
        .judged("Unschedulable, 17 min")
        .says("No node has taken the pod for 17 min: the only node is full of pods."),
        state(
            "no scheduler",
            "Pending, no conditions",
            json!({
                "metadata": { "creationTimestamp": before(25.0) },
                "spec": { "nodeName": null },
                "status": { "phase": "Pending", "startTime": null, "conditions": null,
                            "containerStatuses": null },
            }),
        )
        .judged("NotScheduled, 25 min")
        .says(
            "No scheduler has looked at the pod for 25 min: either the scheduler is down or the \
             pod's schedulerName is nobody's.",
        ),
    ]
}
