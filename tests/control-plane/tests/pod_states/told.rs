//! States that share their verdict with one of [`super::states`] and are told apart by the words of
//! the diagnosis: each is known by what is said about it, as the document has it.

use serde_json::{Value, json};

use crate::states::{API_SERVER, SCHEDULER, WRITTEN, deployment, kubelet, merge, pod, written};
use crate::statuses::{
    before, condition, container, crash_loop, failed_pod, restarted, running, running_pod,
    waiting_pod,
};
use crate::{Case, Step, slug};

const IMAGE: &str = "registry.invalid/app:1";
/// A node whose kubelet has gone silent. No pod goes there by itself.
const LOST: &str = "lost";

pub(crate) fn all() -> Vec<Case> {
    let groups = [
        crashing(),
        pulling(),
        creating(),
        mounting(),
        serving(),
        // A pod here keeps apart from one above.
        scheduling(),
        ending(),
    ];
    groups.into_iter().flatten().collect()
}

fn crashing() -> Vec<Case> {
    let looping = |name, reason, code| {
        let app = crash_loop("app", reason, code);
        written(name, json!({}), running_pod("False", 10, &json!([app])))
    };
    let probed = json!({"containers": [{
        "name": "app", "image": IMAGE,
        "livenessProbe": {"httpGet": {"path": "/healthz?token=s3cret", "port": 8080}},
    }]});
    let killed = crash_loop("app", "Error", 137);
    vec![
        looping(
            "crash loop, out of memory without a limit",
            "OOMKilled",
            137,
        )
        .says("it has no memory limit of its own"),
        looping("crash loop, command not found", "Error", 127)
            .says("exited with code 127 (the command or a library was not found in the image)"),
        looping("crash loop, command not executable", "Error", 126)
            .says("exited with code 126 (the command is there but cannot be executed)"),
        looping("crash loop, segmentation fault", "Error", 139)
            .says("exited with code 139 (SIGSEGV: a segmentation fault in native code)"),
        looping("crash loop, killed without an OOM mark", "Error", 137)
            .says("exited with code 137 (SIGKILL without an OOM mark"),
        written(
            "crash loop, killed by its liveness probe",
            probed,
            running_pod("False", 25, &json!([killed])),
        )
        .event(
            3,
            "Killing",
            "Container app failed liveness probe, will be restarted",
        )
        .event(
            3,
            "Unhealthy",
            "Liveness probe failed: HTTP probe failed with statuscode: 500",
        )
        .says(
            "because its liveness probe (GET :8080/healthz, 3 failures 10 s apart, timeout 1 s) \
             failed: ",
        ),
        looping("crash loop, told to stop", "Error", 143)
            .says("exited with code 143 (SIGTERM: it was told to stop)"),
        written(
            "lost by the kubelet, ready again",
            json!({}),
            restarted(1, "ContainerStatusUnknown", 137, 6),
        )
        .says(
            "exited with code 137 (the kubelet lost track of it, as after a restart of its node)",
        ),
    ]
}

fn pulling() -> Vec<Case> {
    let back_off = format!("Back-off pulling image \"{IMAGE}\"");
    let failed = |name, cause: &str| {
        let message = format!("{back_off}: ErrImagePull: rpc error: code = Unknown desc = {cause}");
        written(name, json!({}), waiting_pod("ImagePullBackOff", &message))
    };
    let secret = json!({"imagePullSecrets": [{"name": "regcred"}]});
    let unauthorized = "failed to authorize: unexpected status: 401 Unauthorized";
    vec![
        written(
            "image not found, told by an event only",
            json!({}),
            waiting_pod("ImagePullBackOff", &back_off),
        )
        .event(
            3,
            "Failed",
            "Failed to pull image \"registry.invalid/app:1\": manifest unknown",
        )
        .says("the registry has no such image or tag"),
        written(
            "image refused, credentials",
            secret,
            waiting_pod("ImagePullBackOff", unauthorized),
        )
        .says("refuses it for want of valid credentials; the pod uses the imagePullSecret regcred"),
        failed(
            "image missing or secret",
            "pull access denied, repository does not exist or may require authorization",
        )
        .says("the registry says that it does not exist or needs credentials"),
        failed(
            "image rate limit",
            "429 Too Many Requests - toomanyrequests: You have reached your pull rate limit",
        )
        .says("the registry's rate limit is reached (429)"),
        failed(
            "image registry does not resolve",
            "dial tcp: lookup registry.invalid on 10.0.0.10:53: no such host",
        )
        .says("the registry's name does not resolve on node node-1 (DNS)"),
        failed(
            "image registry does not answer",
            "dial tcp 10.1.2.3:443: i/o timeout",
        )
        .says("the registry does not answer node node-1 (timeout or refused connection)"),
        failed(
            "image registry is not trusted",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        )
        .says("node node-1 does not trust the registry's certificate (x509)"),
        failed(
            "image of another platform",
            "no match for platform in manifest: not found",
        )
        .says("the image has no variant for the platform of node node-1"),
        failed(
            "image pull fails for an unheard-of cause",
            "the moon is in the wrong house",
        )
        .says("desc = the moon is in the wrong house"),
    ]
}

fn creating() -> Vec<Case> {
    let config = |name, message| {
        let status = waiting_pod("CreateContainerConfigError", message);
        written(name, json!({}), status)
    };
    vec![
        config("ConfigMap missing", "configmap \"web-settings\" not found")
            .says("ConfigMap web-settings does not exist in namespace golden"),
        config(
            "key of a Secret missing",
            "couldn't find key password in Secret golden/database",
        )
        .says("Secret database has no key password"),
        config(
            "key of a ConfigMap missing",
            "couldn't find key LOG_LEVEL in ConfigMap golden/web-settings",
        )
        .says("ConfigMap web-settings has no key LOG_LEVEL"),
        config(
            "image runs as root against its security context",
            "container has runAsNonRoot and image will run as root (container: app)",
        )
        .says("its securityContext demands runAsNonRoot, and the image runs as root"),
    ]
}

fn mounting() -> Vec<Case> {
    let case = |name, reason, message| {
        kubelet(name, "container-creating since=9m")
            .soon()
            .event(0, reason, message)
    };
    vec![
        case(
            "volume's ConfigMap missing",
            "FailedMount",
            "MountVolume.SetUp failed for volume \"settings\" : configmap \"web-files\" not found",
        )
        .says("volume settings cannot be mounted: ConfigMap web-files does not exist"),
        case(
            "volume still on another node",
            "FailedAttachVolume",
            "Multi-Attach error for volume \"pvc-7f\" Volume is already used by pod(s) web-0",
        )
        .says("volume pvc-7f is still attached to another node, by pod web-0"),
        case(
            "volumes do not get mounted",
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[data logs], unattached \
             volumes=[], failed to process volumes=[]: timed out waiting for the condition",
        )
        .says("volumes [data, logs] do not get mounted in time"),
        case(
            "network of the pod not set up",
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: plugin type=\"calico\" failed (add): no IP addresses",
        )
        .says("its sandbox or network cannot be set up: "),
        case(
            "slow image pull",
            "Pulling",
            "Pulling image \"registry.invalid/app:1\"",
        )
        .says("node node-1 has been pulling image registry.invalid/app:1 for"),
    ]
}

fn claim(name: &str, volume: Option<&str>) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "golden"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    if let Some(volume) = volume {
        // As the controller leaves it that binds claims.
        claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        claim["spec"]["volumeName"] = volume.into();
        claim["status"] = json!({"phase": "Bound"});
    }
    claim
}

fn mounts(claim: &str) -> Value {
    json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]})
}

fn scheduling() -> Vec<Case> {
    let unbound = "its claim is not bound";
    let elsewhere = "its volume is elsewhere, and pods keep apart";
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "far-away"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/data"}, "storageClassName": "",
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "far-away",
                "namespace": "golden",
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [LOST]},
            ]}]}},
        },
        "status": {"phase": "Bound"},
    });
    let mut apart = mounts("far-away");
    apart["tolerations"] = json!([{"operator": "Exists"}]);
    apart["affinity"] = json!({"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"state": slug("node not ready")}},
        }],
    }});
    vec![
        Case::new(unbound, SCHEDULER, pod(unbound, "ready", mounts("unbound")))
            .needs(claim("unbound", None))
            .soon()
            .says("a PersistentVolumeClaim of the pod is not bound to a volume"),
        Case::new(elsewhere, SCHEDULER, pod(elsewhere, "ready", apart))
            .needs(lost_node())
            .needs(volume)
            .needs(claim("far-away", Some("far-away")))
            .soon()
            .says("of 2 nodes, 1 is not where its volume is, 1 is ruled out by pod anti-affinity"),
    ]
}

fn lost_node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": LOST, "labels": {"kubernetes.io/hostname": LOST}},
        "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{
                "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastHeartbeatTime": before(42), "lastTransitionTime": before(40),
            }],
        },
    })
}

fn serving() -> Vec<Case> {
    let probe = |kind: &str, probe: Value| {
        let mut app = json!({"name": "app", "image": IMAGE});
        app[kind] = probe;
        json!({"containers": [app]})
    };
    let startup = probe(
        "startupProbe",
        json!({"tcpSocket": {"port": 5432}, "failureThreshold": 60}),
    );
    let readiness = probe(
        "readinessProbe",
        json!({"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5}),
    );
    let unready = |minutes| {
        let app = container("app", false, 0, &running(119));
        running_pod("False", minutes, &json!([app]))
    };
    let lost = "node not ready";
    let quota = "not ready, and a quota stops the other pods";
    let stalled = "not ready, rollout stalled";
    let mut short = deployment(quota, "never-ready since=30m");
    let spec = json!({"replicas": 2, "template": {"spec": {"priorityClassName": "counted"}}});
    merge(&mut short.object["spec"], spec);
    let mut late = deployment(stalled, "never-ready since=30m");
    late.object["spec"]["progressDeadlineSeconds"] = 1.into();
    vec![
        written("startup probe has not passed", startup, unready(120))
            .event(
                3,
                "Unhealthy",
                "Startup probe failed: dial tcp 10.1.0.7:5432: connect: connection refused",
            )
            .says("its startup probe (TCP :5432, 60 failures 10 s apart, timeout 1 s) fails with"),
        written("not ready, events gone", readiness, unready(300)).says(
            "its readiness probe is GET :http/ready, 3 failures 5 s apart, timeout 1 s, and no \
             event says how it fails",
        ),
        Case::new(
            lost,
            WRITTEN,
            pod(lost, "silent", json!({"nodeName": LOST})),
        )
        .needs(lost_node())
        .then(Step::Status(unready(11)))
        .says("node lost has not been Ready since"),
        short
            .needs(json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": "counted"}, "value": 0, "preemptionPolicy": "Never",
            }))
            .needs(json!({
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": {"name": "compute", "namespace": "golden"},
                "spec": {
                    "hard": {"pods": "1"},
                    "scopeSelector": {"matchExpressions": [{
                        "scopeName": "PriorityClass", "operator": "In", "values": ["counted"],
                    }]},
                },
                // As its controller, which does not run here, begins.
                "status": {"hard": {"pods": "1"}, "used": {"pods": "0"}},
            }))
            .says("cannot make more pods: ResourceQuota compute is used up"),
        late.says("its rollout has passed its progress deadline"),
    ]
}

fn ending() -> Vec<Case> {
    let evicted = |name, message| written(name, json!({}), failed_pod("Evicted", message));
    let mut preempted = failed_pod("", "");
    let mut disrupted = condition("DisruptionTarget", "True", 33);
    disrupted["reason"] = "PreemptionByScheduler".into();
    preempted["conditions"]
        .as_array_mut()
        .unwrap()
        .push(disrupted);
    let lost = "deletion on a lost node";
    vec![
        evicted(
            "evicted, ephemeral storage",
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        )
        .says("because it used more ephemeral storage than its limit of 1Gi"),
        evicted(
            "evicted, emptyDir",
            "Usage of EmptyDir volume \"cache\" exceeds the limit \"2Gi\". ",
        )
        .says("because its emptyDir volume cache outgrew its limit of 2Gi"),
        evicted(
            "evicted, disk pressure",
            "The node had condition: [DiskPressure]. ",
        )
        .says("because the node had DiskPressure"),
        written("preempted by the scheduler", json!({}), preempted)
            .says("the scheduler preempted it for a pod of higher priority"),
        Case::new(
            lost,
            API_SERVER,
            pod(lost, "stuck-terminating", json!({"nodeName": LOST})),
        )
        .needs(lost_node())
        .then(Step::Delete(1))
        .soon()
        .says("node lost has not been Ready since"),
    ]
}
