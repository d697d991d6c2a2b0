//! A pod's JSON, and its way into a [`PodRecord`]: spec and status of each container joined.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::quantity::Milli;
use super::records::{
    ContainerKind, ContainerRecord, ContainerState, PodPhase, PodRecord, Requests, RestartPolicy,
    Terminated, Volumes,
};
use super::watch::Identified;
use super::wire::{Meta, WireCondition, conditions, message, nullable, reason};
use crate::untrusted;

const IMAGE: usize = 512;

#[derive(Deserialize)]
pub(super) struct WirePod {
    metadata: Meta,
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    node_name: Option<String>,
    restart_policy: Option<String>,
    termination_grace_period_seconds: Option<i64>,
    #[serde(default, deserialize_with = "nullable")]
    readiness_gates: Vec<WireReadinessGate>,
    #[serde(default, deserialize_with = "nullable")]
    scheduling_gates: Vec<WireNamed>,
    #[serde(default, deserialize_with = "nullable")]
    init_containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    ephemeral_containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    volumes: Vec<WireVolume>,
    /// Of the pod as a whole, where it has them: they replace the containers' sum.
    #[serde(default, deserialize_with = "nullable")]
    resources: WireResources,
    /// What the runtime class adds.
    #[serde(default, deserialize_with = "nullable")]
    overhead: WireRequests,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReadinessGate {
    condition_type: String,
}

#[derive(Deserialize)]
struct WireNamed {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    name: String,
    image: Option<String>,
    restart_policy: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    resources: WireResources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireResources {
    #[serde(deserialize_with = "nullable")]
    limits: WireLimits,
    #[serde(deserialize_with = "nullable")]
    requests: WireRequests,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct WireRequests {
    cpu: Option<Milli>,
    memory: Option<Milli>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireLimits {
    memory: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVolume {
    name: String,
    empty_dir: Option<IgnoredAny>,
    host_path: Option<IgnoredAny>,
    persistent_volume_claim: Option<WireClaim>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireClaim {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus {
    phase: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    start_time: Option<Timestamp>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<WireCondition>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<WireContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<WireContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<WireContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainerStatus {
    name: String,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    restart_count: u32,
    #[serde(default, deserialize_with = "nullable")]
    state: WireState,
    #[serde(default, deserialize_with = "nullable")]
    last_state: WireState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireState {
    waiting: Option<WireWaiting>,
    running: Option<WireRunning>,
    terminated: Option<WireTerminated>,
}

#[derive(Deserialize)]
struct WireWaiting {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRunning {
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTerminated {
    reason: Option<String>,
    message: Option<String>,
    #[serde(default)]
    exit_code: i32,
    signal: Option<i32>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl Identified for WirePod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl From<WireTerminated> for Terminated {
    fn from(wire: WireTerminated) -> Self {
        Self {
            reason: reason(wire.reason),
            message: message(wire.message),
            exit_code: wire.exit_code,
            signal: wire.signal,
            started_at: wire.started_at,
            finished_at: wire.finished_at,
        }
    }
}

impl WireState {
    fn record(self) -> Option<ContainerState> {
        if let Some(waiting) = self.waiting {
            return Some(ContainerState::Waiting {
                reason: reason(waiting.reason),
                message: message(waiting.message),
            });
        }
        if let Some(running) = self.running {
            return Some(ContainerState::Running {
                since: running.started_at,
            });
        }
        self.terminated
            .map(|terminated| ContainerState::Terminated(terminated.into()))
    }
}

/// The spec names the containers, the status may lag behind it.
fn containers(
    specs: Vec<WireContainer>,
    mut statuses: Vec<WireContainerStatus>,
    kind: ContainerKind,
    into: &mut Vec<ContainerRecord>,
) {
    for spec in specs {
        let status = statuses
            .iter()
            .position(|status| status.name == spec.name)
            .map(|at| statuses.swap_remove(at));
        let sidecar =
            kind == ContainerKind::Init && spec.restart_policy.as_deref() == Some("Always");
        let (ready, restart_count, state, last) = match status {
            Some(s) => (
                s.ready,
                s.restart_count,
                s.state.record(),
                s.last_state.terminated,
            ),
            None => (false, 0, None, None),
        };
        into.push(ContainerRecord {
            name: spec.name,
            image: untrusted::line(&spec.image.unwrap_or_default(), IMAGE),
            kind: if sidecar {
                ContainerKind::Sidecar
            } else {
                kind
            },
            ready,
            restart_count,
            state,
            last_terminated: last.map(Terminated::from),
            memory_limit: spec.resources.limits.memory,
        });
    }
}

fn volumes(wire: Vec<WireVolume>) -> Volumes {
    let mut volumes = Volumes::default();
    for volume in wire {
        if volume.empty_dir.is_some() {
            volumes.empty_dir.push(volume.name);
        } else if volume.host_path.is_some() {
            volumes.host_path.push(volume.name);
        } else if let Some(claim) = volume.persistent_volume_claim {
            volumes.persistent_volume_claims.push(claim.claim_name);
        }
    }
    volumes
}

/// What the scheduler reserves: the containers that run together, or one init container with the
/// sidecars that were started before it, whichever is more; in each resource by itself.
fn requests(spec: &WireSpec) -> Requests {
    let of = |pick: fn(&WireRequests) -> Option<Milli>| -> Milli {
        let asked =
            |container: &WireContainer| pick(&container.resources.requests).unwrap_or_default().0;
        let (mut sidecars, mut starting) = (0, 0);
        for init in &spec.init_containers {
            if init.restart_policy.as_deref() == Some("Always") {
                sidecars += asked(init);
                starting = sidecars.max(starting);
            } else {
                starting = starting.max(sidecars + asked(init));
            }
        }
        let running: i128 = spec.containers.iter().map(asked).sum();
        let containers = starting.max(running + sidecars);
        let pod = pick(&spec.resources.requests).map_or(containers, |pod| pod.0);
        Milli(pod + pick(&spec.overhead).unwrap_or_default().0)
    };
    Requests {
        cpu_milli: of(|requests| requests.cpu).thousandths(),
        memory_bytes: of(|requests| requests.memory).units(),
    }
}

impl From<WirePod> for PodRecord {
    fn from(
        WirePod {
            mut metadata,
            spec,
            status,
        }: WirePod,
    ) -> Self {
        let requests = requests(&spec);
        let mut all = Vec::with_capacity(spec.containers.len());
        let init = ContainerKind::Init;
        containers(
            spec.init_containers,
            status.init_container_statuses,
            init,
            &mut all,
        );
        containers(
            spec.containers,
            status.container_statuses,
            ContainerKind::App,
            &mut all,
        );
        let ephemeral = ContainerKind::Ephemeral;
        containers(
            spec.ephemeral_containers,
            status.ephemeral_container_statuses,
            ephemeral,
            &mut all,
        );
        Self {
            owner: metadata.controller(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            created_at: metadata.creation_timestamp,
            labels: metadata.labels,
            mirror: metadata.annotations.mirror.is_some(),
            job: None,
            node: spec.node_name.filter(|node| !node.is_empty()),
            phase: match status.phase.as_deref() {
                // A pod that no kubelet has reported on is Pending.
                Some("Pending" | "") | None => PodPhase::Pending,
                Some("Running") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                Some(_) => PodPhase::Unknown,
            },
            reason: reason(status.reason),
            message: message(status.message),
            conditions: conditions(status.conditions),
            start_time: status.start_time,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_seconds: metadata.deletion_grace_period_seconds,
            finalizers: metadata.finalizers,
            restart_policy: match spec.restart_policy.as_deref() {
                Some("Never") => RestartPolicy::Never,
                Some("OnFailure") => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            termination_grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30),
            readiness_gates: spec
                .readiness_gates
                .into_iter()
                .map(|g| g.condition_type)
                .collect(),
            scheduling_gates: spec
                .scheduling_gates
                .into_iter()
                .map(|gate| gate.name)
                .collect(),
            containers: all,
            volumes: volumes(spec.volumes),
            requests,
        }
    }
}
