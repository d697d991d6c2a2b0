//! The states, in the order of the document: what is created, what is done to it, and what it is
//! known by.

use countersign_control_plane::ANNOTATION;
use countersign_integrations::kubernetes::{ContainerState, PodPhase, PodRecord, scheduling_gated};
use serde_json::{Value, json};

use crate::statuses::{
    behind_gate, container, crash_loop, ended, failed_pod, initializing_pod, restarted, running,
    running_pod, waiting_pod,
};
use crate::{Case, Step, slug, told};

pub(crate) const SCHEDULER: &str = "scheduler";
const JOBS: &str = "Job controller";
const DEPLOYMENTS: &str = "Deployment controller";
pub(crate) const API_SERVER: &str = "API server";
const KUBELET: &str = "fake kubelet";
pub(crate) const WRITTEN: &str = "status in the kubelet's place";

pub(crate) fn all() -> Vec<Case> {
    [
        crashing(),
        starting(),
        scheduling(),
        serving_and_ending(),
        look_alikes(),
        told::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn crashing() -> Vec<Case> {
    let mut words = crash_loop("app", "Error", 1);
    words["lastState"]["terminated"]["message"] = "panic: no route to 'db'".into();
    let alone = |container: Value| running_pod("False", 2, &json!([container]));
    let mut mesh = running_pod(
        "False",
        18,
        &json!([container("app", true, 0, &running(120))]),
    );
    mesh["initContainerStatuses"] = json!([crash_loop("mesh", "Error", 139)]);
    let init = json!({"initContainers": [{"name": "migrate", "image": "registry.invalid/m:1"}]});
    let broken = "init container in a crash loop";
    let task = json!([
        container("app", false, 0, &ended("Error", 3, 2)),
        container("uploader", true, 0, &running(120)),
    ]);
    vec![
        kubelet("crash loop, out of memory", "oomkilled since=2m").there(|pod| {
            let last = pod.containers[0].last_terminated.as_ref();
            last.is_some_and(|end| end.reason.as_deref() == Some("OOMKilled"))
        }),
        written("crash loop, error with last words", json!({}), alone(words)),
        written(
            "crash loop, finishes by itself",
            json!({}),
            alone(crash_loop("app", "Completed", 0)),
        ),
        Case::new(
            broken,
            KUBELET,
            pod(broken, "init-crashloop since=13m", init),
        )
        .there(|pod| waits_for(pod, "PodInitializing")),
        written("native sidecar in a crash loop", sidecar(), mesh).there(|pod| runs(pod, "app")),
        written(
            "out of memory once, ready again",
            json!({}),
            restarted(2, "OOMKilled", 137, 8),
        )
        .there(PodRecord::ready),
        written(
            "ended for good, the other container runs",
            two_containers(),
            running_pod("False", 2, &task),
        ),
        written(
            "restarts often, each run ends well",
            json!({}),
            restarted(9, "Completed", 0, 4),
        )
        .there(PodRecord::ready),
    ]
}

fn starting() -> Vec<Case> {
    let refused = "failed to pull and unpack image: 403 Forbidden";
    let no_command = "exec: \"/bin/serve\": stat /bin/serve: no such file or directory";
    let init =
        json!({"initContainers": [{"name": "wait-for-db", "image": "registry.invalid/w:1"}]});
    let hangs = initializing_pod(&container("wait-for-db", false, 0, &running(11)));
    let unready = initializing_pod(&container("mesh", false, 0, &running(11)));
    vec![
        kubelet("image not found", "imagepull since=12m"),
        written(
            "image refused, no credentials",
            json!({}),
            waiting_pod("ErrImagePull", refused),
        ),
        written(
            "image name not valid",
            json!({}),
            waiting_pod("InvalidImageName", "couldn't parse image name"),
        ),
        written(
            "image may not be pulled",
            json!({}),
            waiting_pod("ErrImageNeverPull", "not present with pull policy of Never"),
        )
        .soon(),
        kubelet("Secret missing", "create-config-error since=12m"),
        written(
            "command not in the image",
            json!({}),
            waiting_pod("RunContainerError", no_command),
        ),
        written(
            "image for another processor",
            json!({}),
            waiting_pod("CreateContainerError", "exec format error"),
        ),
        kubelet("creating without a word", "container-creating since=9m").soon(),
        written("init container hangs", init, hangs).soon(),
        written(
            "sidecar never ready, holds up the start",
            sidecar(),
            unready,
        )
        .soon(),
        kubelet("kubelet silent", "silent").soon(),
    ]
}

fn scheduling() -> Vec<Case> {
    let case = |name, spec| Case::new(name, SCHEDULER, pod(name, "ready", spec)).soon();
    let nobody = json!({"schedulerName": "nobody"});
    let unscheduled = Case::new(
        "no scheduler",
        API_SERVER,
        pod("no scheduler", "ready", nobody),
    );
    let claim = json!({"volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    ]});
    vec![
        case("no room for its requests", too_large())
            .there(|pod| scheduler_says(pod, "Insufficient cpu")),
        case(
            "all nodes cordoned or not matching",
            json!({"nodeSelector": {"disk": "ssd"}}),
        )
        .there(|pod| scheduler_says(pod, "node affinity/selector")),
        case("its claim is missing", claim).there(|pod| scheduler_says(pod, "not found")),
        unscheduled.soon(),
    ]
}

fn too_large() -> Value {
    json!({"containers": [{
        "name": "app", "image": "registry.invalid/app:1",
        "resources": {"requests": {"cpu": "1000"}},
    }]})
}

fn serving_and_ending() -> Vec<Case> {
    let held = "deletion held by finalizers";
    let mut finalized = pod(held, "ready", json!({}));
    finalized["metadata"]["finalizers"] = json!(["example.org/wait"]);
    let endless = "deletion does not end";
    let over = |name, reason, message| written(name, json!({}), failed_pod(reason, message));
    let mut lost = running_pod(
        "False",
        38,
        &json!([container("app", false, 0, &running(120))]),
    );
    lost["phase"] = "Unknown".into();
    vec![
        kubelet("readiness probe fails", "never-ready since=22m"),
        written("readiness gate not set for long", gate(), behind_gate(60)),
        kubelet("evicted, memory", "evicted since=33m"),
        over("preempted by the kubelet", "Preempting", "Preempted"),
        over("deadline exceeded", "DeadlineExceeded", "Pod was active"),
        over(
            "refused by its node, no room",
            "OutOfcpu",
            "Node didn't have",
        ),
        over(
            "refused by its node, error",
            "UnexpectedAdmissionError",
            "Allocate failed",
        ),
        over("node shut down", "Terminated", "Pod was terminated"),
        over("node lost", "NodeLost", ""),
        kubelet("bare pod failed", "failed since=33m"),
        job("Job has given up", "failed", 0)
            .there(|pod| pod.job.as_ref().is_some_and(|job| !job.retrying)),
        written("state unknown", json!({}), lost),
        Case::new(held, API_SERVER, finalized)
            .then(Step::Delete(1))
            .soon(),
        Case::new(
            endless,
            API_SERVER,
            pod(endless, "stuck-terminating", json!({})),
        )
        .then(Step::Delete(1))
        .soon(),
    ]
}

fn look_alikes() -> Vec<Case> {
    let gated = "scheduling-gated";
    let gates = json!({"schedulingGates": [{"name": "example.org/quota"}]});
    let waiting = "waiting for a node";
    let meshed = "native sidecar runs";
    let in_grace = "terminating within its grace";
    let app = || container("app", true, 0, &running(119));
    let init = json!({"initContainers": [{"name": "migrate", "image": "registry.invalid/m:1"}]});
    let mut sidecar_ended = running_pod(
        "False",
        6,
        &json!([container("app", false, 0, &ended("Completed", 0, 6))]),
    );
    sidecar_ended["initContainerStatuses"] =
        json!([container("mesh", false, 0, &ended("Error", 143, 0))]);
    let mut sidecar_of_task = sidecar();
    sidecar_of_task["restartPolicy"] = "Never".into();
    let one_done = json!([
        container("app", false, 0, &ended("Completed", 0, 40)),
        container("uploader", true, 0, &running(119)),
    ]);
    let mut debugged = running_pod("True", 119, &json!([app()]));
    debugged["ephemeralContainerStatuses"] =
        json!([container("shell", false, 0, &ended("Error", 130, 1))]);
    vec![
        deployment("ready", "ready").there(PodRecord::ready),
        job("completed", "succeeded", 6).there(|pod| pod.phase == PodPhase::Succeeded),
        job("Job tries again", "failed, ready", 6).there(|pod| {
            pod.job
                .as_ref()
                .is_some_and(|job| job.retrying && job.failed > 0)
        }),
        job("Job completed later", "failed, succeeded", 6)
            .there(|pod| pod.job.as_ref().is_some_and(|job| job.complete)),
        job("Job suspended", "failed, ready", 6)
            .then(Step::Suspend)
            .there(|pod| pod.job.as_ref().is_some_and(|job| job.suspended)),
        Case::new(gated, SCHEDULER, pod(gated, "ready", gates))
            .soon()
            .there(scheduling_gated),
        deployment("fresh rollout", "never-ready").there(|pod| runs(pod, "app") && !pod.ready()),
        kubelet("creating", "container-creating").there(|pod| waits_for(pod, "ContainerCreating")),
        written(
            "initializing",
            init,
            initializing_pod(&container("migrate", false, 0, &running(1))),
        )
        .there(|pod| waits_for(pod, "PodInitializing")),
        Case::new(waiting, SCHEDULER, pod(waiting, "ready", too_large()))
            .there(|pod| scheduler_says(pod, "Insufficient cpu")),
        Case::new(meshed, KUBELET, pod(meshed, "ready since=2h", sidecar()))
            .there(|pod| runs(pod, "mesh")),
        written(
            "native sidecar ended after the work",
            sidecar_of_task,
            sidecar_ended,
        )
        .there(|pod| exit_code(pod, "mesh") == Some(143)),
        written(
            "one of two containers of a task is done",
            two_containers(),
            running_pod("False", 40, &one_done),
        )
        .there(|pod| exit_code(pod, "app") == Some(0)),
        Case::new(
            in_grace,
            API_SERVER,
            pod(in_grace, "stuck-terminating", json!({})),
        )
        .then(Step::Delete(600))
        .soon()
        .there(|pod| pod.deletion_timestamp.is_some()),
        Case::new(
            "debug container ended",
            API_SERVER,
            pod("debug container ended", "silent", json!({})),
        )
        .then(Step::Debug)
        .then(Step::Status(debugged))
        .there(|pod| exit_code(pod, "shell") == Some(130)),
        written("readiness gate just opened", gate(), behind_gate(2))
            .there(|pod| !pod.open_readiness_gates().is_empty() && runs(pod, "app")),
        written(
            "many restarts long ago",
            json!({}),
            restarted(12, "OOMKilled", 137, 180),
        )
        .there(|pod| pod.restarts() == 12),
        written(
            "one crash long ago",
            json!({}),
            restarted(1, "Error", 1, 60),
        )
        .there(|pod| pod.restarts() == 1),
    ]
}

fn template(name: &str, behavior: &str, spec: Value) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"state": slug(name)}, "annotations": {ANNOTATION: behavior}},
        "spec": {"containers": [{"name": "app", "image": "registry.invalid/app:1"}]},
    });
    merge(&mut template["spec"], spec);
    template
}

pub(crate) fn pod(name: &str, behavior: &str, spec: Value) -> Value {
    let mut pod = template(name, behavior, spec);
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = slug(name).into();
    pod["metadata"]["namespace"] = "golden".into();
    pod
}

/// A pod whose status the fake kubelet writes.
pub(crate) fn kubelet(name: &'static str, behavior: &str) -> Case {
    Case::new(name, KUBELET, pod(name, behavior, json!({})))
}

/// A pod whose status is written for its silent kubelet.
pub(crate) fn written(name: &'static str, spec: Value, status: Value) -> Case {
    Case::new(name, WRITTEN, pod(name, "silent", spec)).then(Step::Status(status))
}

fn job(name: &'static str, behavior: &str, backoff_limit: u32) -> Case {
    let spec = json!({"restartPolicy": "Never"});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": slug(name), "namespace": "golden"},
        "spec": {"backoffLimit": backoff_limit, "template": template(name, behavior, spec)},
    });
    Case::new(name, JOBS, job)
}

pub(crate) fn deployment(name: &'static str, behavior: &str) -> Case {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": slug(name), "namespace": "golden"},
        "spec": {
            "selector": {"matchLabels": {"state": slug(name)}},
            "template": template(name, behavior, json!({})),
        },
    });
    Case::new(name, DEPLOYMENTS, deployment)
}

pub(crate) fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn sidecar() -> Value {
    json!({"initContainers": [
        {"name": "mesh", "image": "registry.invalid/mesh:1", "restartPolicy": "Always"},
    ]})
}

fn two_containers() -> Value {
    json!({"restartPolicy": "Never", "containers": [
        {"name": "app", "image": "registry.invalid/app:1"},
        {"name": "uploader", "image": "registry.invalid/uploader:1"},
    ]})
}

fn gate() -> Value {
    json!({"readinessGates": [{"conditionType": "lb.example/healthy"}]})
}

fn waits_for(pod: &PodRecord, awaited: &str) -> bool {
    pod.containers.iter().any(|container| {
        matches!(&container.state, Some(ContainerState::Waiting { reason, .. })
            if reason.as_deref() == Some(awaited))
    })
}

fn scheduler_says(pod: &PodRecord, words: &str) -> bool {
    let said = pod
        .condition("PodScheduled")
        .and_then(|c| c.message.as_ref());
    said.is_some_and(|message| message.contains(words))
}

fn exit_code(pod: &PodRecord, name: &str) -> Option<i32> {
    let container = pod.containers.iter().find(|c| c.name == name)?;
    match &container.state {
        Some(ContainerState::Terminated(end)) => Some(end.exit_code),
        _ => None,
    }
}

fn runs(pod: &PodRecord, name: &str) -> bool {
    pod.containers.iter().any(|container| {
        let running = matches!(container.state, Some(ContainerState::Running { .. }));
        container.name == name && running
    })
}
