//! Pods that run and do not serve.

use super::*;

fn unready_for(minutes: f64, spec: &Value) -> Value {
    let mut app = running("app", 119.0);
    app["ready"] = json!(false);
    let mut pod =
        json!({ "status": { "conditions": unready(minutes), "containerStatuses": [app] } });
    merge(&mut pod, json!({ "spec": spec }));
    pod
}

pub(super) fn states() -> Vec<State> {
    let probed = json!({ "containers": [{
        "name": "app", "image": "web:1.2",
        "readinessProbe": {
            "httpGet": { "path": "/ready", "port": "http" },
            "periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 3,
        },
    }] });
    let starting = json!({ "containers": [{
        "name": "app", "image": "web:1.2",
        "startupProbe": { "tcpSocket": { "port": 5432 }, "failureThreshold": 60 },
    }] });
    vec![
        state(
            "readiness probe fails",
            "Running, 0/1 ready, event Unhealthy",
            unready_for(22.0, &probed),
        )
        .event(
            "Unhealthy",
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
            260,
            0.1,
        )
        .rollout(0, "2", 9000.0)
        .judged("NotReady, 22 min")
        .says(
            "Container app runs but has not been ready for 22 min: its readiness probe (GET \
             :http/ready, 2 failures 5 s apart, timeout 3 s) fails with ⟦HTTP probe failed with \
             statuscode: 503⟧ (260 times, last 6 s ago). Last ready at 01:38 UTC; Deployment web \
             has 0 of 3 available.",
        ),
        state(
            "startup probe has not passed",
            "Running, 0/1 ready, event Unhealthy of the startup probe",
            unready_for(120.0, &starting),
        )
        .event(
            "Unhealthy",
            "Startup probe failed: dial tcp 10.1.0.7:5432: connect: connection refused",
            40,
            0.2,
        )
        .judged("NotReady, 2 h")
        .says(
            "Container app runs but has not been ready for 2 h: its startup probe (TCP :5432, 60 \
             failures 10 s apart, timeout 1 s) fails with ⟦dial tcp 10.1.0.7:5432: connect: \
             connection refused⟧ (40 times, last 12 s ago). Not ready since it started at 00:00 \
             UTC.",
        ),
        state(
            "not ready, events gone",
            "Running, 0/1 ready, no events",
            unready_for(300.0, &probed),
        )
        .judged("NotReady, 5 h")
        .says(
            "Container app runs but has not been ready for 5 h; its readiness probe is GET \
             :http/ready, 2 failures 5 s apart, timeout 3 s, and no event says how it fails. Not \
             ready since it started at 00:00 UTC.",
        ),
        state(
            "node not ready",
            "Running, Ready=False, node NotReady",
            unready_for(11.0, &json!({})),
        )
        .node(&json!([{
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": before(11.5),
        }]))
        .judged("NotReady, 11 min")
        .says(
            "The pod has not been ready for 11 min: node node-1 has not been Ready since 01:48 UTC \
             (⟦Kubelet stopped posting node status.⟧). Last ready at 01:49 UTC.",
        ),
        state(
            "readiness gate not set for long",
            "Running, 1/1 containers, Ready=False, a readiness gate",
            json!({
                "spec": { "readinessGates": [{ "conditionType": "lb.example/healthy" }] },
                "status": { "conditions": [
                    condition("ContainersReady", "True", 60.0),
                    condition("Ready", "False", 60.0),
                    { "type": "lb.example/healthy", "status": "False",
                      "message": "target is draining" },
                ] },
            }),
        )
        .judged("ReadinessGatePending, 60 min")
        .says(
            "All containers are ready, but for 60 min the pod has waited for the readiness gate \
             lb.example/healthy (⟦target is draining⟧), which another controller has to set.",
        ),
        state(
            "not ready, and a quota stops the other pods",
            "Running, 0/1 ready, the workload has ReplicaFailure",
            unready_for(30.0, &json!({})),
        )
        .owned(
            "ReplicaSet",
            "web-7d9f",
            json!({ "status": { "conditions": [{
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "pods \"web-7d9f-x\" is forbidden: exceeded quota: compute, requested: \
                            limits.memory=512Mi, used: limits.memory=2Gi, limited: \
                            limits.memory=2Gi",
            }] } }),
        )
        .judged("NotReady, 30 min")
        .says(
            "Container app runs but has not been ready for 30 min. Last ready at 01:30 UTC; \
             ReplicaSet web-7d9f has 2 of 3 available; ReplicaSet web-7d9f cannot make more pods: \
             ResourceQuota compute is used up (requested limits.memory=512Mi, limited to \
             limits.memory=2Gi).",
        ),
        state(
            "not ready, rollout stalled",
            "Running, 0/1 ready, the Deployment has ProgressDeadlineExceeded",
            unready_for(30.0, &json!({})),
        )
        .owned(
            "Deployment",
            "web",
            json!({ "status": { "conditions": [{
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            }] } }),
        )
        .event(
            "DNSConfigForming",
            "Search Line limits were exceeded",
            9,
            3.0,
        )
        .judged("NotReady, 30 min")
        .says(
            "Container app runs but has not been ready for 30 min. Last ready at 01:30 UTC; \
             Deployment web has 2 of 3 available; its rollout has passed its progress deadline; \
             newest warning, 3 min ago: DNSConfigForming ⟦Search Line limits were exceeded⟧.",
        ),
    ]
}
