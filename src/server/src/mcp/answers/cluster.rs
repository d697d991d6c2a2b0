//! Answers about a cluster.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Origin, Why};

#[derive(Debug, Serialize, JsonSchema)]
pub struct ObjectName {
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct FailingNow {
    /// Such as CrashLoopBackOff or OOMKilled.
    pub reason: String,
    pub since: String,
    /// low, medium or high.
    pub severity: String,
    pub container: Option<String>,
    /// The cluster's own words.
    pub message: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ContainerStatus {
    pub name: String,
    pub image: String,
    /// init, app, sidecar or ephemeral.
    pub kind: String,
    pub ready: bool,
    pub restarts: u32,
    /// One line, such as `waiting: CrashLoopBackOff`.
    pub state: String,
    /// How the run before this one ended.
    pub last_end: Option<String>,
    /// Such as `cpu 250m, memory 512Mi`.
    pub requests: Option<String>,
    pub limits: Option<String>,
    /// Such as `liveness: GET :8080/healthz, 3 failures 10 s apart, timeout 1 s`.
    pub probes: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct EventLine {
    pub last_seen: String,
    pub first_seen: String,
    pub count: u32,
    /// Normal or Warning.
    pub r#type: String,
    pub reason: String,
    /// Empty for what has none, such as a Node.
    pub namespace: String,
    /// Such as `Pod/checkout-1`.
    pub object: String,
    pub message: String,
}

/// Answer of `get_pod_status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PodStatus {
    pub cluster: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub phase: String,
    pub ready: bool,
    /// What is wrong, or that nothing is, in a sentence or two.
    pub summary: String,
    /// Null when the pod is not failing.
    pub failing: Option<FailingNow>,
    /// Such as `1/2`.
    pub ready_containers: String,
    pub restarts: u32,
    pub created_at: String,
    pub node: Option<String>,
    /// The pod's own controller.
    pub controller: Option<ObjectName>,
    /// The workload above it, where it was looked up.
    pub workload: Option<ObjectName>,
    /// Of the rollout that made the pod.
    pub revision: Option<String>,
    /// Such as `Ready=False since 2026-11-22T02:11:00Z (ContainersNotReady)`.
    pub conditions: Vec<String>,
    pub containers: Vec<ContainerStatus>,
    /// What is unusual: a deletion under way, finalizers, gates, trouble of the node (looked up for
    /// failing pods only), containers left out here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The newest warnings; looked up for failing pods only.
    pub warnings: Vec<EventLine>,
    /// Why restart_pod would be denied; null when it can be proposed.
    pub restart_denied: Option<Why>,
    /// The cluster was so then, or is newer.
    pub as_of: String,
    /// `cache`, `live`, or `old: ` and why it is.
    pub source: String,
    pub simulated: bool,
    pub note: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct FailingGroupLine {
    pub namespace: String,
    pub workload: Option<ObjectName>,
    pub reason: String,
    pub severity: String,
    pub pods: u32,
    pub since: String,
    /// Of all its pods together.
    pub restarts: Option<u32>,
    /// Pods, the worst first: a few of each of several groups, up to fifty of a single one.
    pub names: Vec<String>,
    pub message: Option<String>,
    /// What to call about the worst pod.
    pub next_tool: String,
}

/// Answer of `list_failing_pods`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailingPods {
    pub cluster: String,
    /// Null: all namespaces that this caller may see.
    pub namespace: Option<String>,
    pub pods_seen: u32,
    pub pods_failing: u32,
    pub groups_total: u32,
    pub groups: Vec<FailingGroupLine>,
    /// Held back on purpose by a scheduling gate; not failing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scheduling_gated: Vec<String>,
    /// False: some pods could not be read.
    pub complete: bool,
    pub next_cursor: Option<String>,
    #[serde(flatten)]
    pub origin: Origin,
}

/// Answer of `get_recent_events`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RecentEvents {
    pub cluster: String,
    /// Absent: all namespaces that this caller may see.
    pub namespace: Option<String>,
    /// Newest first; repeated ones folded.
    pub events: Vec<EventLine>,
    /// How many there are in all, folded.
    pub total: u32,
    /// False: older ones were too many to be read.
    pub complete: bool,
    #[serde(flatten)]
    pub origin: Origin,
}
