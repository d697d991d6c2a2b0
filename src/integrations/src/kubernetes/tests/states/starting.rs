//! Containers that are not there yet.

use super::*;

fn waits(reason: &str, message: Option<&str>, minutes: f64) -> Value {
    let mut app = waiting("app", reason, 0);
    if let Some(message) = message {
        app["state"]["waiting"]["message"] = json!(message);
    }
    json!({ "status": {
        "phase": "Pending", "startTime": before(minutes), "conditions": [
            condition("PodScheduled", "True", minutes),
            condition("Initialized", "True", minutes),
            condition("ContainersReady", "False", minutes),
            condition("Ready", "False", minutes),
        ],
        "containerStatuses": [app],
    } })
}

fn initializing(inits: &Value, statuses: &Value) -> Value {
    json!({
        "spec": { "initContainers": inits },
        "status": {
            "phase": "Pending", "startTime": before(12.0), "conditions": [
                condition("PodScheduled", "True", 12.0),
                condition("Initialized", "False", 12.0),
                condition("Ready", "False", 12.0),
            ],
            "initContainerStatuses": statuses,
            "containerStatuses": [waiting("app", "PodInitializing", 0)],
        },
    })
}

pub(super) fn states() -> Vec<State> {
    let config = "CreateContainerConfigError";
    vec![
        state("Secret missing", config, waits(config, Some("secret \"database-password\" not found"), 12.0))
            .rollout(3, "8", 13.0)
            .judged("CreateContainerConfigError, 12 min")
            .says(
                "Container app has not been created for 12 min: Secret database-password does \
                 not exist in namespace shop. It starts by itself once that is put right. \
                 Revision 8 of Deployment web was first rolled out at 01:47 UTC.",
            ),
        state("ConfigMap missing", config, waits(config, Some("configmap \"web-settings\" not found"), 12.0))
            .judged("CreateContainerConfigError, 12 min")
            .says(
                "Container app has not been created for 12 min: ConfigMap web-settings does not \
                 exist in namespace shop. It starts by itself once that is put right.",
            ),
        state(
            "key of a Secret missing",
            config,
            waits(config, Some("couldn't find key password in Secret shop/database"), 12.0),
        )
        .judged("CreateContainerConfigError, 12 min")
        .says(
            "Container app has not been created for 12 min: Secret database has no key password. \
             It starts by itself once that is put right.",
        ),
        state(
            "key of a ConfigMap missing",
            config,
            waits(config, Some("couldn't find key LOG_LEVEL in ConfigMap shop/web-settings"), 12.0),
        )
        .judged("CreateContainerConfigError, 12 min")
        .says(
            "Container app has not been created for 12 min: ConfigMap web-settings has no key \
             LOG_LEVEL. It starts by itself once that is put right.",
        ),
        state(
            "image runs as root against its security context",
            config,
            waits(
                config,
                Some("container has runAsNonRoot and image will run as root (pod: \"web_shop(1)\", \
                      container: app)"),
                12.0,
            ),
        )
        .judged("CreateContainerConfigError, 12 min")
        .says(
            "Container app has not been created for 12 min: its securityContext demands \
             runAsNonRoot, and the image runs as root. It starts by itself once that is put right.",
        ),
        state(
            "command not in the image",
            "RunContainerError or CreateContainerError",
            waits(
                "RunContainerError",
                Some("failed to create containerd task: OCI runtime create failed: exec: \
                      \"/bin/serve --token=x\": stat /bin/serve: no such file or directory: unknown"),
                3.0,
            ),
        )
        .judged("RunContainerError, 3 min")
        .says(
            "The runtime of node node-1 cannot start container app: the command ⟦/bin/serve⟧ is \
             not in the image.",
        ),
        state(
            "image for another processor",
            "CreateContainerError, exec format error",
            waits("CreateContainerError", Some("exec /app: exec format error"), 3.0),
        )
        .judged("CreateContainerError, 3 min")
        .says(
            "The runtime of node node-1 cannot start container app: the image is for another \
             processor architecture (exec format error).",
        ),
        state("volume's ConfigMap missing", "ContainerCreating, event FailedMount", waits("ContainerCreating", None, 9.0))
            .event(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"settings\" : configmap \"web-files\" not found",
                12,
                0.5,
            )
            .judged("ContainerCreating, 9 min")
            .says(
                "Container app has been in ContainerCreating for 9 min: volume settings cannot be \
                 mounted: ConfigMap web-files does not exist in namespace shop (12 times, last \
                 30 s ago).",
            ),
        state(
            "volume still on another node",
            "ContainerCreating, event FailedAttachVolume",
            waits("ContainerCreating", None, 9.0),
        )
        .event(
            "FailedAttachVolume",
            "Multi-Attach error for volume \"pvc-7f\" Volume is already used by pod(s) web-0",
            1,
            8.0,
        )
        .judged("ContainerCreating, 9 min")
        .says(
            "Container app has been in ContainerCreating for 9 min: volume pvc-7f is still \
             attached to another node, by pod web-0 (1 time, last 8 min ago).",
        ),
        state(
            "volumes do not get mounted",
            "ContainerCreating, event FailedMount, timeout",
            waits("ContainerCreating", None, 9.0),
        )
        .event(
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[data logs], unattached \
             volumes=[], failed to process volumes=[]: timed out waiting for the condition",
            3,
            1.0,
        )
        .judged("ContainerCreating, 9 min")
        .says(
            "Container app has been in ContainerCreating for 9 min: volumes [data, logs] do not \
             get mounted in time (3 times, last 60 s ago).",
        ),
        state(
            "network of the pod not set up",
            "ContainerCreating, event FailedCreatePodSandBox",
            waits("ContainerCreating", None, 9.0),
        )
        .event(
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: plugin type=\"calico\" failed (add): no IP addresses \
             available in network",
            40,
            0.2,
        )
        .judged("ContainerCreating, 9 min")
        .says(
            "Container app has been in ContainerCreating for 9 min: its sandbox or network cannot \
             be set up: ⟦Failed to create pod sandbox: plugin type=\"calico\" failed (add): no IP \
             addresses available in network⟧ (40 times, last 12 s ago).",
        ),
        state("slow image pull", "ContainerCreating, event Pulling", waits("ContainerCreating", None, 9.0))
            .event("Pulling", "Pulling image \"web:1.2\"", 1, 8.8)
            .judged("ContainerCreating, 9 min")
            .says(
                "Container app has been in ContainerCreating for 9 min: node node-1 has been \
                 pulling image web:1.2 for 8 min.",
            ),
        state("creating without a word", "ContainerCreating, no events", waits("ContainerCreating", None, 9.0))
            .judged("ContainerCreating, 9 min")
            .says("Container app has been in ContainerCreating for 9 min, and no event says why."),
        state(
            "init container hangs",
            "Init:1/2",
            initializing(
                &json!([{ "name": "migrate", "image": "m" }, { "name": "wait-for-db", "image": "m" }]),
                &json!([
                    { "name": "migrate", "state": terminated("Completed", 0, 11.5) },
                    running("wait-for-db", 11.0),
                ]),
            ),
        )
        .judged("PodInitializing, 12 min")
        .says(
            "Init container wait-for-db has been running for 11 min, and the pod waits for it \
             (1 of 2 init containers are done).",
        ),
        state(
            "sidecar never ready, holds up the start",
            "Init:0/1, a native sidecar runs",
            initializing(
                &json!([{ "name": "mesh", "image": "m", "restartPolicy": "Always" }]),
                &json!([{ "name": "mesh", "ready": false, "restartCount": 0,
                         "state": { "running": { "startedAt": before(11.0) } } }]),
            ),
        )
        .event("Unhealthy", "Startup probe failed: connection refused", 60, 0.1)
        .judged("PodInitializing, 12 min")
        .says(
            "Sidecar mesh has been running for 11 min without being ready, and the pod waits for \
             it (0 of 1 init containers are done). Newest warning, 6 s ago: Unhealthy ⟦Startup \
             probe failed: connection refused⟧.",
        ),
        state(
            "kubelet silent",
            "Pending with a node, no container states",
            json!({ "status": {
                "phase": "Pending", "startTime": null, "containerStatuses": null,
                "conditions": [condition("PodScheduled", "True", 14.0)],
            } }),
        )
        .node(&json!([{
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": before(16.0),
        }]))
        .judged("NotStarted, 14 min")
        .says(
            "The kubelet of node node-1 has not reported on the pod in 14 min. Node node-1 has \
             not been Ready since 01:44 UTC (⟦Kubelet stopped posting node status.⟧).",
        ),
    ]
}
