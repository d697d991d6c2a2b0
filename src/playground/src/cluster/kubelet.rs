//! The kubelet's part: how a pod's containers live, and the status and events that show it.
//!
//! A pod follows a [`Behavior`] through [`Stage`]s. Each stage is entered at an explicit time, so
//! that the seed can tell a history; nothing here decides whether a pod should exist.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::by_plural;
use super::object;
use super::state::{Cluster, Task};
use crate::{clock, random};

pub const BEHAVIOR: &str = "playground.countersign.dev/behavior";
pub const REPLACEMENT: &str = "playground.countersign.dev/replacement";
pub const FAILING: &str = "playground.countersign.dev/failing";

const CREATING: Duration = Duration::from_millis(150);
const STARTING: Duration = Duration::from_millis(150);
const CRASH_AFTER: Duration = Duration::from_millis(200);
/// The longest that a kubelet waits, and what it waits for pods that have failed as often as ours.
const BACK_OFF: Duration = Duration::from_secs(300);
const RESTARTED_RUNS: Duration = Duration::from_millis(1500);
pub const STOPPING: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    Ready,
    SlowReady(Duration),
    NeverReady,
    CrashLoop,
    OomKilled,
    ImagePull,
}

impl Behavior {
    /// `ready`, `slow-ready=800`, `never-ready`, `crashloop`, `oomkilled`, `imagepull`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("slow-ready", millis)) => millis
                .parse()
                .map(|millis| Self::SlowReady(Duration::from_millis(millis)))
                .map_err(|_| format!("slow-ready takes milliseconds, not {millis:?}")),
            None => match text {
                "ready" => Ok(Self::Ready),
                "never-ready" => Ok(Self::NeverReady),
                "crashloop" => Ok(Self::CrashLoop),
                "oomkilled" => Ok(Self::OomKilled),
                "imagepull" => Ok(Self::ImagePull),
                _ => Err(unknown(text)),
            },
            Some(_) => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> String {
    format!(
        "unknown behavior {text:?}; use ready, slow-ready=MILLISECONDS, never-ready, crashloop, \
         oomkilled or imagepull"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Creating,
    PullFailed {
        attempts: u32,
    },
    Running,
    Ready,
    /// Waiting in CrashLoopBackOff.
    Crashed {
        restarts: u32,
    },
    /// Started again, about to crash again.
    Restarted {
        restarts: u32,
    },
    Completed,
}

/// The life of one pod's containers so far.
#[derive(Clone, Debug)]
pub struct Life {
    pub behavior: Behavior,
    pub stage: Stage,
    pub started: Timestamp,
    /// The last run that ended: from, until.
    pub last_run: Option<(Timestamp, Timestamp)>,
    /// How many stages were entered: a step planned before another one happened is void.
    pub steps: u32,
    container_id: String,
}

impl Life {
    pub fn new(behavior: Behavior, at: Timestamp) -> Self {
        Self {
            behavior,
            stage: Stage::Creating,
            started: at,
            last_run: None,
            steps: 0,
            container_id: container_id(),
        }
    }

    fn next(&self) -> Option<(Duration, Stage)> {
        use Behavior as B;
        use Stage as S;
        match (self.behavior, self.stage) {
            (B::ImagePull, S::Creating) => Some((CREATING, S::PullFailed { attempts: 1 })),
            (B::ImagePull, S::PullFailed { attempts }) => Some((
                BACK_OFF,
                S::PullFailed {
                    attempts: attempts + 1,
                },
            )),
            (_, S::Creating) => Some((CREATING, S::Running)),
            (B::Ready, S::Running) => Some((STARTING, S::Ready)),
            (B::SlowReady(after), S::Running) => Some((after.saturating_sub(CREATING), S::Ready)),
            (B::CrashLoop | B::OomKilled, S::Running) => {
                Some((CRASH_AFTER, S::Crashed { restarts: 1 }))
            }
            (_, S::Crashed { restarts }) => Some((
                BACK_OFF,
                S::Restarted {
                    restarts: restarts + 1,
                },
            )),
            (_, S::Restarted { restarts }) => Some((RESTARTED_RUNS, S::Crashed { restarts })),
            _ => None,
        }
    }

    fn terminated(&self) -> Value {
        let (started, finished) = self.last_run.unwrap_or((self.started, self.started));
        let (reason, exit_code) = match self.behavior {
            Behavior::OomKilled => ("OOMKilled", 137),
            _ => ("Error", 1),
        };
        json!({"terminated": {
            "exitCode": exit_code, "reason": reason,
            "startedAt": clock::kubernetes(started), "finishedAt": clock::kubernetes(finished),
            "containerID": self.container_id,
        }})
    }
}

fn container_id() -> String {
    format!("containerd://{}", random::token())
}

impl Cluster {
    /// Moves a pod to `stage`; a pod that is gone, replaced or terminating stays as it is.
    pub fn enter(&mut self, namespace: &str, name: &str, uid: &str, stage: Stage, at: Timestamp) {
        let pods = by_plural("pods");
        let Some(pod) = self.store.get(pods, namespace, name) else {
            return;
        };
        if object::uid(&pod) != uid || object::is_terminating(&pod) {
            return;
        }
        let Some(life) = self.lives.get_mut(uid) else {
            return;
        };
        match stage {
            Stage::Running | Stage::Restarted { .. } => {
                life.started = at;
                life.container_id = container_id();
            }
            Stage::Crashed { .. } => life.last_run = Some((life.started, at)),
            _ => {}
        }
        life.stage = stage;
        life.steps += 1;
        let life = life.clone();
        self.store
            .update(pods, namespace, name, |pod| write_status(pod, &life, at));
        self.tell(&pod, &life, at);
        if let Some((after, stage)) = life.next() {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let (uid, steps) = (uid.to_owned(), life.steps);
            self.schedule(
                after,
                Task::Enter {
                    namespace,
                    name,
                    uid,
                    steps,
                    stage,
                },
            );
        }
        self.settle(namespace);
    }

    /// The events that a kubelet would write on entering a stage.
    fn tell(&mut self, pod: &Value, life: &Life, at: Timestamp) {
        let container = object::text(pod, "/spec/containers/0/name").to_owned();
        let image = object::text(pod, "/spec/containers/0/image").to_owned();
        let node = object::text(pod, "/spec/nodeName").to_owned();
        let (namespace, name, uid) = (
            object::namespace(pod).to_owned(),
            object::name(pod).to_owned(),
            object::uid(pod).to_owned(),
        );
        let mut tell = |warning: bool, reason: &str, message: &str, count: u32| {
            self.tell_event(pod, warning, reason, message, count, at);
        };
        match life.stage {
            Stage::Creating => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                tell(false, "Scheduled", &message, 1);
            }
            Stage::Running => {
                tell(
                    false,
                    "Pulled",
                    &format!("Container image {image:?} already present on machine"),
                    1,
                );
                tell(
                    false,
                    "Created",
                    &format!("Created container: {container}"),
                    1,
                );
                tell(
                    false,
                    "Started",
                    &format!("Started container {container}"),
                    1,
                );
                if life.behavior == Behavior::NeverReady {
                    let message = "Readiness probe failed: HTTP probe failed with statuscode: 503";
                    tell(true, "Unhealthy", message, 1);
                }
            }
            Stage::Crashed { restarts } => {
                if life.behavior == Behavior::OomKilled {
                    let message = format!(
                        "Memory cgroup out of memory: killed process in container {container}"
                    );
                    tell(true, "OOMKilling", &message, restarts);
                }
                let message = format!(
                    "Back-off restarting failed container {container} in pod {name}_{namespace}({uid})"
                );
                tell(true, "BackOff", &message, restarts);
            }
            Stage::PullFailed { attempts } => {
                let message = format!(
                    "Failed to pull image {image:?}: rpc error: code = NotFound desc = failed to \
                     pull and unpack image: {image}: not found"
                );
                tell(true, "Failed", &message, attempts);
                tell(
                    false,
                    "BackOff",
                    &format!("Back-off pulling image {image:?}"),
                    attempts,
                );
            }
            Stage::Ready | Stage::Restarted { .. } | Stage::Completed => {}
        }
    }

    /// Writes an event about a pod, or counts the one that is already there.
    pub fn tell_event(
        &mut self,
        pod: &Value,
        warning: bool,
        reason: &str,
        message: &str,
        count: u32,
        at: Timestamp,
    ) {
        let events = by_plural("events");
        let (namespace, uid) = (object::namespace(pod), object::uid(pod));
        let found = self
            .store
            .list(events, namespace)
            .find(|event| event["involvedObject"]["uid"] == uid && event["reason"] == reason)
            .map(|event| object::name(event).to_owned());
        let last = clock::kubernetes(at);
        if let Some(name) = found {
            self.store.update(events, namespace, &name, |event| {
                let seen = object::integer(event, "/count") + 1;
                event["count"] = json!(seen.max(i64::from(count)));
                event["lastTimestamp"] = last.into();
                event["message"] = message.into();
            });
            return;
        }
        let node = object::text(pod, "/spec/nodeName");
        let component = if reason == "Scheduled" {
            "default-scheduler"
        } else {
            "kubelet"
        };
        let mut involved = json!({
            "kind": "Pod", "namespace": namespace, "name": object::name(pod), "uid": uid,
            "apiVersion": "v1", "resourceVersion": object::resource_version(pod),
        });
        if component == "kubelet" {
            let container = object::text(pod, "/spec/containers/0/name");
            involved["fieldPath"] = format!("spec.containers{{{container}}}").into();
        }
        let event = json!({
            "metadata": {
                "name": format!("{}.{}", object::name(pod), random::short_hex()),
                "namespace": namespace,
            },
            "involvedObject": involved,
            "reason": reason, "message": message,
            "source": {"component": component, "host": node},
            "firstTimestamp": last, "lastTimestamp": last, "count": count,
            "type": if warning { "Warning" } else { "Normal" },
            "eventTime": null, "reportingComponent": component, "reportingInstance": node,
        });
        self.store.insert(events, event, at);
    }

    /// The containers of a terminating pod have stopped: the object goes, unless a finalizer
    /// holds it.
    pub fn finish_deletion(&mut self, namespace: &str, name: &str, uid: &str) {
        let pods = by_plural("pods");
        let Some(pod) = self.store.get(pods, namespace, name) else {
            return;
        };
        if object::uid(&pod) != uid || !object::list(&pod, "/metadata/finalizers").is_empty() {
            return;
        }
        self.store.remove(pods, namespace, name);
        self.lives.remove(uid);
        self.settle(namespace);
    }
}

/// Renders `status` for the stage that the pod's containers are in. The first container shows
/// the behavior; any others are fine.
fn write_status(pod: &mut Value, life: &Life, at: Timestamp) {
    let now = clock::kubernetes(at);
    let ready = life.stage == Stage::Ready;
    let phase = match life.stage {
        Stage::Creating | Stage::PullFailed { .. } => "Pending",
        Stage::Completed => "Succeeded",
        _ => "Running",
    };
    let containers = object::list(pod, "/spec/containers").to_vec();
    let statuses: Vec<Value> = containers
        .iter()
        .enumerate()
        .map(|(index, container)| container_status(pod, container, life, index == 0))
        .collect();
    let unready = json!({
        "status": "False",
        "reason": if life.stage == Stage::Completed { "PodCompleted" } else { "ContainersNotReady" },
        "message": format!(
            "containers with unready status: [{}]",
            object::text(pod, "/spec/containers/0/name")
        ),
    });
    let of_containers = if ready {
        json!({"status": "True"})
    } else {
        unready
    };
    let (host, address) = (
        pod["status"]["hostIP"].clone(),
        pod["status"]["podIP"].clone(),
    );
    let status = &mut pod["status"];
    status["phase"] = phase.into();
    status["hostIPs"] = json!([{"ip": host}]);
    status["podIPs"] = json!([{"ip": address}]);
    if life.stage == Stage::Creating {
        status["startTime"] = now.clone().into();
    }
    for name in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        let mut condition = match name {
            "Ready" | "ContainersReady" => of_containers.clone(),
            "PodReadyToStartContainers" if life.stage == Stage::Creating => {
                json!({"status": "False"})
            }
            _ => json!({"status": "True"}),
        };
        condition["type"] = name.into();
        condition["lastProbeTime"] = Value::Null;
        object::set_condition(status, condition, &now);
    }
    status["containerStatuses"] = Value::Array(statuses);
    status["qosClass"] = "Burstable".into();
}

fn container_status(pod: &Value, container: &Value, life: &Life, first: bool) -> Value {
    let name = object::text(container, "/name");
    let image = object::text(container, "/image");
    let running = json!({"running": {"startedAt": clock::kubernetes(life.started)}});
    let waiting = |reason: &str, message: Option<String>| {
        let mut waiting = json!({"reason": reason});
        if let Some(message) = message {
            waiting["message"] = message.into();
        }
        json!({"waiting": waiting})
    };
    let stage = match life.stage {
        Stage::Crashed { .. } | Stage::Restarted { .. } | Stage::Running if !first => Stage::Ready,
        stage => stage,
    };
    let (state, last, restarts) = match stage {
        Stage::Creating => (waiting("ContainerCreating", None), json!({}), 0),
        Stage::PullFailed { attempts: 1 } => (
            waiting("ErrImagePull", Some(format!("{image}: not found"))),
            json!({}),
            0,
        ),
        Stage::PullFailed { .. } => {
            let message =
                format!("Back-off pulling image {image:?}: ErrImagePull: {image}: not found");
            (waiting("ImagePullBackOff", Some(message)), json!({}), 0)
        }
        Stage::Running | Stage::Ready => (running, json!({}), 0),
        Stage::Restarted { restarts } => (running, life.terminated(), restarts),
        Stage::Crashed { restarts } => {
            let message = format!(
                "back-off 5m0s restarting failed container={name} pod={}_{}({})",
                object::name(pod),
                object::namespace(pod),
                object::uid(pod)
            );
            (
                waiting("CrashLoopBackOff", Some(message)),
                life.terminated(),
                restarts,
            )
        }
        Stage::Completed => {
            let (started, finished) = life.last_run.unwrap_or((life.started, life.started));
            let done = json!({"terminated": {
                "exitCode": 0, "reason": "Completed", "containerID": life.container_id,
                "startedAt": clock::kubernetes(started), "finishedAt": clock::kubernetes(finished),
            }});
            (done, json!({}), 0)
        }
    };
    let up = matches!(
        stage,
        Stage::Running | Stage::Ready | Stage::Restarted { .. }
    );
    json!({
        "name": name, "state": state, "lastState": last, "ready": stage == Stage::Ready,
        "restartCount": restarts, "image": image,
        "imageID": if up { format!("{image}@sha256:{}", image_digest(image)) } else { String::new() },
        "containerID": if stage == Stage::Creating { "" } else { &*life.container_id },
        "started": up,
    })
}

fn image_digest(image: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(image.as_bytes()))
}
