//! What only looks like failing.

use super::*;

fn job_pod(status: &Value) -> Value {
    json!({
        "metadata": { "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": "import", "uid": "import-uid",
            "controller": true,
        }] },
        "spec": { "restartPolicy": "Never" },
        "status": status,
    })
}

fn failed_of_job() -> Value {
    job_pod(
        &json!({ "phase": "Failed", "conditions": unready(3.0), "containerStatuses": [
        { "name": "app", "state": terminated("Error", 1, 3.0) },
    ] }),
    )
}

pub(super) fn states() -> Vec<State> {
    let long_ago = {
        let mut app = running("app", 180.0);
        app["restartCount"] = json!(12);
        app["lastState"] = terminated("OOMKilled", 137, 180.5);
        json!({ "status": {
            "startTime": before(6000.0), "containerStatuses": [app],
            "conditions": [condition("Ready", "True", 179.0)],
        } })
    };
    let gated = json!({
        "spec": { "nodeName": null, "schedulingGates": [{ "name": "example.org/quota" }] },
        "status": { "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "lastTransitionTime": before(90.0),
        }], "containerStatuses": null },
    });
    let fresh = {
        let mut app = running("app", 0.7);
        app["ready"] = json!(false);
        json!({
            "metadata": { "creationTimestamp": before(1.0) },
            "status": { "startTime": before(1.0), "conditions": unready(1.0),
                        "containerStatuses": [app] },
        })
    };
    let pulling = json!({
        "metadata": { "creationTimestamp": before(2.5) },
        "status": {
            "phase": "Pending", "startTime": before(2.5), "conditions": [
                condition("PodScheduled", "True", 2.5), condition("Initialized", "True", 2.5),
                condition("Ready", "False", 2.5),
            ],
            "containerStatuses": [waiting("app", "ContainerCreating", 0)],
        },
    });
    let initializing = json!({
        "spec": { "initContainers": [{ "name": "migrate", "image": "m" }] },
        "status": {
            "phase": "Pending", "startTime": before(4.0), "conditions": [
                condition("PodScheduled", "True", 4.0), condition("Ready", "False", 4.0),
            ],
            "initContainerStatuses": [running("migrate", 3.9)],
            "containerStatuses": [waiting("app", "PodInitializing", 0)],
        },
    });
    let waiting_for_node = json!({
        "metadata": { "creationTimestamp": before(3.0) },
        "spec": { "nodeName": null },
        "status": { "phase": "Pending", "startTime": null, "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
            "lastTransitionTime": before(3.0),
        }], "containerStatuses": null },
    });
    let sidecar = json!({
        "spec": { "initContainers": [{ "name": "mesh", "image": "m", "restartPolicy": "Always" }] },
        "status": { "initContainerStatuses": [running("mesh", 119.5)] },
    });
    let sidecar_ends = {
        let mut pod = job_pod(&json!({
            "conditions": unready(6.0),
            "initContainerStatuses": [{ "name": "mesh", "state": terminated("Error", 143, 0.2) }],
            "containerStatuses": [{ "name": "app", "state": terminated("Completed", 0, 6.0) }],
        }));
        pod["spec"]["initContainers"] =
            json!([{ "name": "mesh", "image": "m", "restartPolicy": "Always" }]);
        pod
    };
    let one_done = job_pod(&json!({
        "conditions": unready(40.0),
        "containerStatuses": [
            { "name": "app", "state": terminated("Completed", 0, 40.0) },
            running("uploader", 119.0),
        ],
    }));
    let one_done = {
        let mut pod = one_done;
        pod["spec"]["containers"] =
            json!([{ "name": "app", "image": "a" }, { "name": "uploader", "image": "u" }]);
        pod
    };
    let terminating = json!({
        "metadata": { "deletionTimestamp": before(-0.4), "deletionGracePeriodSeconds": 30 },
        "status": { "conditions": unready(0.1), "containerStatuses": [
            { "name": "app", "ready": false, "state": terminated("Error", 143, 0.05) },
        ] },
    });
    let debugged = json!({
        "spec": { "ephemeralContainers": [{ "name": "shell", "image": "b" }] },
        "status": { "ephemeralContainerStatuses": [
            { "name": "shell", "state": terminated("Error", 130, 1.0) },
        ] },
    });
    let gate = json!({
        "spec": { "readinessGates": [{ "conditionType": "lb.example/healthy" }] },
        "status": { "conditions": [
            condition("ContainersReady", "True", 2.0), condition("Ready", "False", 2.0),
        ] },
    });
    let once = {
        let mut app = running("app", 60.0);
        app["restartCount"] = json!(1);
        app["lastState"] = terminated("Error", 1, 60.5);
        json!({ "status": {
            "containerStatuses": [app], "conditions": [condition("Ready", "True", 59.0)],
        } })
    };
    let suspended = json!({ "spec": { "suspend": true, "backoffLimit": 6 } });
    let complete = json!({ "status": { "conditions": [condition("Complete", "True", 1.0)] } });
    vec![
        state("ready", "Running and Ready", json!({}))
            .judged("healthy")
            .says("The pod has been ready for 119 min, without restarts."),
        state(
            "completed",
            "Succeeded",
            json!({ "status": { "phase": "Succeeded" } }),
        )
        .judged("healthy")
        .says("The pod has completed successfully."),
        state(
            "Job tries again",
            "Failed, its Job retries",
            failed_of_job(),
        )
        .owned(
            "Job",
            "import",
            json!({ "spec": { "backoffLimit": 6 }, "status": { "failed": 2 } }),
        )
        .judged("healthy")
        .says("The pod failed, and its Job will try again (2 failed of 6 allowed)."),
        state(
            "Job completed later",
            "Failed, its Job is complete",
            failed_of_job(),
        )
        .owned("Job", "import", complete)
        .judged("healthy")
        .says("The pod failed, and its Job has completed without it."),
        state(
            "Job suspended",
            "Failed, its Job is suspended",
            failed_of_job(),
        )
        .owned("Job", "import", suspended)
        .judged("healthy")
        .says("The pod failed, and its Job is suspended."),
        state("scheduling-gated", "Pending, SchedulingGated", gated)
            .judged("healthy")
            .says("The pod is held back on purpose by the scheduling gate example.org/quota."),
        state(
            "fresh rollout",
            "Running, 0/1 ready for less than 5 min",
            fresh,
        )
        .judged("healthy")
        .says("The pod is not ready yet; it has been starting for 60 s."),
        state("creating", "ContainerCreating for less than 5 min", pulling)
            .judged("healthy")
            .says("The pod has been starting for 2 min."),
        state("initializing", "Init:0/1 for less than 5 min", initializing)
            .judged("healthy")
            .says("The pod has been starting for 4 min."),
        state(
            "waiting for a node",
            "Pending, Unschedulable for less than 5 min",
            waiting_for_node,
        )
        .judged("healthy")
        .says(
            "The pod has been waiting for a node for 3 min: ⟦0/3 nodes are available: 3 \
                 Insufficient cpu.⟧.",
        ),
        state(
            "native sidecar runs",
            "Running and Ready, an init container still runs",
            sidecar,
        )
        .judged("healthy")
        .says("The pod has been ready for 119 min, without restarts."),
        state(
            "native sidecar ended after the work",
            "Running, app Completed, sidecar exit code 143",
            sidecar_ends,
        )
        .judged("healthy")
        .says("Containers of the pod have completed, the others run on."),
        state(
            "one of two containers of a task is done",
            "Running, 1/2 ready, Completed",
            one_done,
        )
        .judged("healthy")
        .says("Containers of the pod have completed, the others run on."),
        state("terminating within its grace", "Terminating", terminating)
            .judged("healthy")
            .says("The pod is being deleted, within its grace period, which ends at 02:00 UTC."),
        state(
            "debug container ended",
            "Running and Ready, an ephemeral container with exit code 130",
            debugged,
        )
        .judged("healthy")
        .says("The pod has been ready for 119 min, without restarts."),
        state(
            "readiness gate just opened",
            "Running, 1/1 containers, Ready=False for less than 5 min",
            gate,
        )
        .judged("healthy")
        .says("The pod is not ready yet; it has been starting for 2 min."),
        state(
            "many restarts long ago",
            "Running and Ready, 12 restarts, the last 3 h ago",
            long_ago,
        )
        .judged("healthy")
        .says(
            "The pod has been ready for 2 h; container app has had 12 restarts in 4 d, the \
                 last one 3 h ago (OOMKilled, exit code 137).",
        ),
        state(
            "one crash long ago",
            "Running and Ready, 1 restart an hour ago",
            once,
        )
        .judged("healthy")
        .says(
            "The pod has been ready for 59 min; container app has had 1 restart in 2 h, the \
                 last one 60 min ago (Error, exit code 1).",
        ),
    ]
}
