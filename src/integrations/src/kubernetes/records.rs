//! What we keep of a cluster's objects: the fields that answers need, and no more.
//!
//! Free text (messages, reasons) has passed [`crate::untrusted`]; names have the shape that the
//! API server enforces. Times are the API server's or the kubelet's clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::selector::LabelSelector;

/// A pod without its spec, environment or managed fields.
#[derive(Clone, Debug, Serialize)]
pub struct PodRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
    /// A static pod of a kubelet, mirrored: deleting the mirror does nothing.
    pub mirror: bool,
    /// The owner with `controller: true`.
    pub owner: Option<OwnerRef>,
    /// The owning Job, where there is one and it could be read.
    pub job: Option<JobState>,
    pub node: Option<String>,
    pub phase: PodPhase,
    /// Such as `Evicted`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub conditions: Vec<ConditionRecord>,
    pub start_time: Option<Timestamp>,
    /// Set by the API server to the time of the deletion request plus the grace.
    pub deletion_timestamp: Option<Timestamp>,
    pub deletion_grace_seconds: Option<i64>,
    pub finalizers: Vec<String>,
    pub restart_policy: RestartPolicy,
    pub termination_grace_seconds: i64,
    /// Condition types that other controllers must set before the pod is Ready.
    pub readiness_gates: Vec<String>,
    pub scheduling_gates: Vec<String>,
    pub containers: Vec<ContainerRecord>,
    pub volumes: Volumes,
    /// Of the whole pod, as the scheduler counts it.
    pub requests: Requests,
}

impl PodRecord {
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&ConditionRecord> {
        self.conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }

    /// The condition Ready is True: the API server's own meaning of a healthy pod.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.condition("Ready")
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    }

    /// Since when the pod is Ready, or since when it is not.
    #[must_use]
    pub fn ready_changed_at(&self) -> Option<Timestamp> {
        self.condition("Ready")
            .and_then(|ready| ready.last_transition_at)
    }

    /// Readiness gates that are not True yet.
    #[must_use]
    pub fn open_readiness_gates(&self) -> Vec<&str> {
        let open = |gate: &&str| {
            self.condition(gate)
                .is_none_or(|condition| condition.status != ConditionStatus::True)
        };
        let gates = self.readiness_gates.iter().map(String::as_str);
        gates.filter(open).collect()
    }

    /// Restarts of all containers together.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.containers
            .iter()
            .map(|container| container.restart_count)
            .fold(0, u32::saturating_add)
    }

    /// App containers that are ready, and how many there are.
    #[must_use]
    pub fn ready_containers(&self) -> (usize, usize) {
        let serving = |container: &&ContainerRecord| {
            matches!(container.kind, ContainerKind::App | ContainerKind::Sidecar)
        };
        let all = self.containers.iter().filter(serving);
        (
            all.clone().filter(|container| container.ready).count(),
            all.count(),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionRecord {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: ConditionStatus,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub last_transition_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

#[derive(Clone, Debug, Serialize)]
pub struct ContainerRecord {
    pub name: String,
    pub image: String,
    pub kind: ContainerKind,
    pub ready: bool,
    pub restart_count: u32,
    /// Nothing before the kubelet has reported.
    pub state: Option<ContainerState>,
    /// How the run before the present state ended.
    pub last_terminated: Option<Terminated>,
    /// As written in the spec, such as `512Mi`.
    pub memory_limit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerKind {
    Init,
    App,
    /// A native sidecar: an init container with restart policy Always.
    Sidecar,
    /// Added for debugging.
    Ephemeral,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ContainerState {
    Waiting {
        reason: Option<String>,
        message: Option<String>,
    },
    Running {
        since: Option<Timestamp>,
    },
    Terminated(Terminated),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Terminated {
    /// Such as `OOMKilled`, `Error`, `Completed`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// Volumes whose content a restart loses or carries along, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volumes {
    pub empty_dir: Vec<String>,
    pub host_path: Vec<String>,
    /// Names of the claims, not of the volumes.
    pub persistent_volume_claims: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OwnerRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// What a Job makes of its failed pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobState {
    pub failed: u32,
    pub backoff_limit: u32,
    /// Neither failed nor complete for good, and not suspended.
    pub retrying: bool,
    /// It has succeeded, whatever became of single pods.
    pub complete: bool,
    pub suspended: bool,
}

/// A controller of pods, or what controls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkloadRecord {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created_at: Timestamp,
    pub generation: i64,
    pub observed_generation: i64,
    /// Desired: `spec.replicas`, or for a DaemonSet the nodes it should run on.
    pub replicas: Option<i32>,
    pub ready: i32,
    pub available: i32,
    pub updated: i32,
    /// A Deployment whose rollouts are held.
    pub paused: bool,
    /// The annotation `deployment.kubernetes.io/revision`.
    pub revision: Option<String>,
    pub conditions: Vec<ConditionRecord>,
    pub owner: Option<OwnerRef>,
    /// Who would undo a change by hand: `Argo CD`, `Flux`, `Helm`.
    pub managed_by: Option<String>,
    /// Only for a Job.
    pub job: Option<JobState>,
    /// Which pods are its own, with an owner reference to it or to its ReplicaSets.
    pub selector: Option<LabelSelector>,
    /// Pods there are, of any revision; for a DaemonSet nodes that run one and should.
    pub current: i32,
    /// Nodes that run a DaemonSet's pod and should not.
    pub misscheduled: i32,
    pub strategy: UpdateStrategy,
    /// A StatefulSet's revision that pods are updated to (a ControllerRevision's name).
    pub update_revision: Option<String>,
    pub current_revision: Option<String>,
    /// Only for a Job or CronJob.
    pub batch: Option<BatchRecord>,
}

/// How a workload brings a new template to its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStrategy {
    /// For a StatefulSet pods with an ordinal below `partition` keep the old revision.
    RollingUpdate { partition: i32 },
    /// Not before somebody deletes the pod.
    OnDelete,
    /// All old pods go first.
    Recreate,
    /// The kind does not roll out, or has not said.
    #[default]
    None,
}

/// How far a Job is, or when a CronJob last ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchRecord {
    /// Successful pods that make a Job complete, where it says.
    pub completions: Option<i32>,
    pub active: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub suspended: bool,
    pub ended: Option<JobEnd>,
    /// Of a CronJob.
    pub schedule: Option<String>,
    pub last_scheduled: Option<Timestamp>,
    pub last_succeeded: Option<Timestamp>,
    /// Of a CronJob: its newest Job, see [`super::workload::fold_runs`].
    pub last_run: Option<Box<WorkloadRecord>>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobEnd {
    pub succeeded: bool,
    /// Such as `BackoffLimitExceeded`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub at: Option<Timestamp>,
}

/// The controllers above a pod.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerChain {
    /// The pod's own controller.
    pub controller: WorkloadRecord,
    /// The last controller upwards that could be read: the Deployment of a ReplicaSet, the
    /// CronJob of a Job, else the controller itself.
    pub top: WorkloadRecord,
}

/// What became of the question who controls a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "lookup", rename_all = "snake_case")]
pub enum OwnerLookup {
    NoController,
    Found(Box<OwnerChain>),
    /// The name is unknown, or belongs to an object with another UID.
    Gone {
        owner: OwnerRef,
    },
    /// A kind that we do not read (a custom resource): it may or may not exist.
    Unverified {
        owner: OwnerRef,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct PdbRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    pub observed_generation: i64,
    /// Absent selects nothing, empty selects every pod of the namespace.
    pub selector: Option<LabelSelector>,
    /// As written: a number or a percentage.
    pub min_available: Option<String>,
    pub max_unavailable: Option<String>,
    pub unhealthy_pod_policy: UnhealthyPodPolicy,
    pub current_healthy: i32,
    pub desired_healthy: i32,
    pub disruptions_allowed: i32,
    pub expected_pods: i32,
    /// Why the controller could not compute the budget, if so.
    pub sync_failed: Option<String>,
    /// Pods whose eviction was granted and is not yet seen.
    pub disrupted_pods: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum UnhealthyPodPolicy {
    /// The default.
    IfHealthyBudget,
    AlwaysAllow,
}

#[derive(Clone, Debug, Serialize)]
pub struct HpaRecord {
    pub namespace: String,
    pub name: String,
    pub target_kind: String,
    pub target_name: String,
    pub min_replicas: i32,
    pub max_replicas: i32,
    /// Why it does not scale at the moment, such as `FailedGetResourceMetric`.
    pub inactive: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct EventRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub object: ObjectRef,
    /// How often the event was seen, at least 1.
    pub count: u32,
    pub first_seen: Timestamp,
    /// `series.lastObservedTime`, else `lastTimestamp`, else `eventTime`, else creation.
    pub last_seen: Timestamp,
    pub source: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NodeRecord {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created_at: Timestamp,
    pub unschedulable: bool,
    pub ready: bool,
    pub conditions: Vec<ConditionRecord>,
    /// As `key=value:Effect`.
    pub taints: Vec<String>,
    pub kubelet_version: Option<String>,
    /// What pods may request in all.
    pub allocatable: Requests,
    /// How many pods it takes.
    pub allocatable_pods: i64,
}

/// Of cpu and memory: what a pod requests, or what a node has for requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    pub memory_bytes: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct NamespaceRecord {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub terminating: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionRecord {
    /// Such as `v1.36.3`.
    pub git_version: String,
    pub major: String,
    pub minor: String,
}
