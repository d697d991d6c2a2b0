//! Pods that are over or should be.

use super::*;

fn failed(reason: Option<&str>, message: &str) -> Value {
    json!({ "status": {
        "phase": "Failed", "reason": reason, "message": message,
        "conditions": unready(33.0), "containerStatuses": null,
    } })
}

fn deleted(minutes: f64, finalizers: &[&str]) -> Value {
    json!({
        "metadata": {
            "deletionTimestamp": before(minutes), "deletionGracePeriodSeconds": 30,
            "finalizers": finalizers,
        },
        "status": { "conditions": unready(minutes) },
    })
}

/// Failed pod of Job import.
fn of_job(code: i32) -> Value {
    json!({
        "metadata": { "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "import", "uid": "import-uid",
            "controller": true,
        }] },
        "spec": { "restartPolicy": "Never" },
        "status": { "phase": "Failed", "conditions": unready(33.0), "containerStatuses": [
            { "name": "app", "state": terminated("Error", code, 33.0) },
        ] },
    })
}

pub(super) fn states() -> Vec<State> {
    let lost_node = json!([{
        "type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status.",
        "lastTransitionTime": before(40.0),
    }]);
    let mut deadline = failed(
        Some("DeadlineExceeded"),
        "Pod was active on the node longer than the specified deadline",
    );
    deadline["spec"] = json!({ "activeDeadlineSeconds": 3600 });
    let mut preempted = failed(None, "");
    preempted["status"]["conditions"] = json!([
        condition("Ready", "False", 33.0),
        { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" },
    ]);
    vec![
        state(
            "evicted, memory",
            "Failed, Evicted",
            failed(
                Some("Evicted"),
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: \
                 60Mi. Container app was using 900Mi, request is 256Mi, has larger consumption of \
                 memory. ",
            ),
        )
        .judged("Evicted, 33 min")
        .says(
            "The pod was evicted from node node-1 33 min ago because the node was low on memory \
             (60Mi left); container app was using 900Mi and had requested 256Mi.",
        ),
        state(
            "evicted, ephemeral storage",
            "Failed, Evicted, its own limit",
            failed(
                Some("Evicted"),
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            ),
        )
        .judged("Evicted, 33 min")
        .says(
            "The pod was evicted from node node-1 33 min ago because it used more ephemeral \
             storage than its limit of 1Gi.",
        ),
        state(
            "evicted, emptyDir",
            "Failed, Evicted, a volume's limit",
            failed(
                Some("Evicted"),
                "Usage of EmptyDir volume \"cache\" exceeds the limit \"2Gi\". ",
            ),
        )
        .judged("Evicted, 33 min")
        .says(
            "The pod was evicted from node node-1 33 min ago because its emptyDir volume cache \
             outgrew its limit of 2Gi.",
        ),
        state(
            "evicted, disk pressure",
            "Failed, Evicted, the node's condition",
            failed(Some("Evicted"), "The node had condition: [DiskPressure]. "),
        )
        .judged("Evicted, 33 min")
        .says("The pod was evicted from node node-1 33 min ago because the node had DiskPressure."),
        state(
            "preempted by the scheduler",
            "Failed, DisruptionTarget",
            preempted,
        )
        .judged("Failed, 33 min")
        .says(
            "The pod was ended 33 min ago: the scheduler preempted it for a pod of higher \
                 priority.",
        ),
        state(
            "preempted by the kubelet",
            "Failed, Preempting",
            failed(
                Some("Preempting"),
                "Preempted in order to admit critical pod",
            ),
        )
        .judged("Preempting, 33 min")
        .says("The pod was ended 33 min ago to make room on node node-1 for a more important pod."),
        state("deadline exceeded", "Failed, DeadlineExceeded", deadline)
            .judged("DeadlineExceeded, 33 min")
            .says(
                "The pod was ended 33 min ago because it was active for longer than its \
                 activeDeadlineSeconds of 3600.",
            ),
        state(
            "refused by its node, no room",
            "Failed, OutOfcpu",
            failed(
                Some("OutOfcpu"),
                "Node didn't have enough resource: cpu, requested: 500, used: 3900, capacity: 4000",
            ),
        )
        .judged("OutOfcpu, 33 min")
        .says(
            "Node node-1 refused the pod 33 min ago for want of cpu: ⟦Node didn't have enough \
             resource: cpu, requested: 500, used: 3900, capacity: 4000⟧.",
        ),
        state(
            "refused by its node, error",
            "Failed, UnexpectedAdmissionError",
            failed(
                Some("UnexpectedAdmissionError"),
                "Allocate failed due to no healthy devices present",
            ),
        )
        .judged("UnexpectedAdmissionError, 33 min")
        .says(
            "Node node-1 refused the pod 33 min ago with an unexpected error: ⟦Allocate failed \
             due to no healthy devices present⟧.",
        ),
        state(
            "node shut down",
            "Failed, Terminated",
            failed(
                Some("Terminated"),
                "Pod was terminated in response to imminent node shutdown.",
            ),
        )
        .judged("Terminated, 33 min")
        .says("The pod was ended 33 min ago because node node-1 was shut down."),
        state(
            "node lost",
            "Failed, NodeLost",
            failed(Some("NodeLost"), ""),
        )
        .judged("NodeLost, 33 min")
        .says("The pod was given up 33 min ago because node node-1 was lost."),
        state("bare pod failed", "Failed, exit code 1", {
            let mut pod = of_job(1);
            pod["metadata"] = json!({ "ownerReferences": null });
            pod
        })
        .judged("Failed, 33 min")
        .says(
            "The pod failed: Container app exited with code 1 (an error of the program: its log \
             says which), 33 min ago.",
        ),
        state("Job has given up", "Failed, its Job has failed", of_job(2))
            .owned(
                "Job",
                "import",
                json!({ "spec": { "backoffLimit": 3 }, "status": {
                    "failed": 4, "conditions": [condition("Failed", "True", 30.0)],
                } }),
            )
            .judged("Failed, 33 min")
            .says(
                "The pod failed: Container app exited with code 2 (wrong arguments, or the panic \
                 of a Go program), 33 min ago. Job import has counted 4 failed of 3 allowed and \
                 does not try again.",
            ),
        state(
            "state unknown",
            "Unknown",
            json!({ "status": { "phase": "Unknown", "conditions": unready(38.0) } }),
        )
        .node(&lost_node)
        .judged("Unknown, 38 min")
        .says(
            "The pod's state has been unknown for 38 min because node node-1 has not been Ready \
             since 01:20 UTC (⟦Kubelet stopped posting node status.⟧).",
        ),
        state(
            "deletion held by finalizers",
            "Terminating, past its grace, finalizers",
            deleted(12.0, &["example.org/wait", "example.org/unmount"]),
        )
        .judged("StuckTerminating, 12 min")
        .says(
            "The pod should have been gone since 01:48 UTC (12 min ago): the finalizers \
             example.org/wait, example.org/unmount hold it until their controllers take them off.",
        ),
        state(
            "deletion on a lost node",
            "Terminating, past its grace, node NotReady",
            deleted(12.0, &[]),
        )
        .node(&lost_node)
        .judged("StuckTerminating, 12 min")
        .says(
            "The pod should have been gone since 01:48 UTC (12 min ago): node node-1 has not been \
             Ready since 01:20 UTC (⟦Kubelet stopped posting node status.⟧), so nobody confirms \
             that its containers ended.",
        ),
        state(
            "deletion does not end",
            "Terminating, past its grace",
            deleted(12.0, &[]),
        )
        .event(
            "FailedKillPod",
            "error killing pod: context deadline exceeded",
            7,
            1.0,
        )
        .judged("StuckTerminating, 12 min")
        .says(
            "The pod should have been gone since 01:48 UTC (12 min ago): no finalizer holds it, \
             and node node-1 still reports 1 container as running. Newest warning, 60 s ago: \
             FailedKillPod ⟦error killing pod: context deadline exceeded⟧.",
        ),
    ]
}
