//! Answers about workloads, rollouts and nodes.

use schemars::JsonSchema;
use serde::Serialize;

use super::{EventLine, Origin};

#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkloadLine {
    pub namespace: String,
    pub kind: String,
    pub name: String,
    pub healthy: bool,
    /// low, medium or high.
    pub severity: Option<String>,
    pub why: Option<String>,
    /// Of a Job its completions; a CronJob has none of the four.
    pub desired: Option<i32>,
    pub ready: Option<i32>,
    pub updated: Option<i32>,
    pub available: Option<i32>,
    /// Who would undo a change by hand.
    pub managed_by: Option<String>,
    /// Such as `web, 2 to 10 replicas`.
    pub autoscaler: Option<String>,
}

/// Answer of `list_workloads`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Workloads {
    pub cluster: String,
    /// Absent: all namespaces that this caller may see.
    pub namespace: Option<String>,
    pub workloads_seen: u32,
    pub unhealthy: u32,
    /// Problems first.
    pub workloads: Vec<WorkloadLine>,
    /// What our account may not read.
    pub not_read: Vec<String>,
    pub complete: bool,
    pub next_cursor: Option<String>,
    #[serde(flatten)]
    pub origin: Origin,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct HoldUp {
    pub pod: String,
    /// It has the newest revision.
    pub updated: bool,
    pub failing: bool,
    pub problem: String,
    pub since: String,
}

/// Answer of `get_rollout_status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RolloutStatus {
    pub cluster: String,
    pub namespace: String,
    pub kind: String,
    pub name: String,
    /// complete, progressing, stuck, paused, waits_for_deletion or not_observed.
    pub state: String,
    pub summary: String,
    pub revision: Option<String>,
    pub desired: i32,
    pub updated: i32,
    pub ready: i32,
    pub available: i32,
    pub paused: bool,
    pub strategy: String,
    pub held_up_by: Vec<HoldUp>,
    pub held_up_total: u32,
    /// About the workload itself.
    pub warnings: Vec<EventLine>,
    pub managed_by: Option<String>,
    pub next_tool: Option<String>,
    #[serde(flatten)]
    pub origin: Origin,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangeLine {
    /// Absent for the pod as a whole.
    pub container: Option<String>,
    pub what: String,
    pub change: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RevisionLine {
    pub revision: i64,
    pub current: bool,
    /// When its template was first used.
    pub created_at: String,
    pub change_cause: Option<String>,
    /// Numbers that it had before it was rolled back to.
    pub earlier_numbers: Vec<i64>,
    /// The revision before it; absent for the oldest that is kept.
    pub compared_with: Option<i64>,
    pub changes: Vec<ChangeLine>,
    pub changes_left_out: u32,
}

/// Answer of `get_rollout_history`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RolloutHistory {
    pub cluster: String,
    pub namespace: String,
    pub kind: String,
    pub name: String,
    /// Newest first.
    pub revisions: Vec<RevisionLine>,
    pub revisions_total: u32,
    pub managed_by: Option<String>,
    #[serde(flatten)]
    pub origin: Origin,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct NodeLine {
    pub name: String,
    pub ready: bool,
    pub cordoned: bool,
    /// The worst first.
    pub problems: Vec<String>,
    pub taints: Vec<String>,
    pub cpu_requested_milli: i64,
    pub cpu_allocatable_milli: i64,
    pub memory_requested_mib: i64,
    pub memory_allocatable_mib: i64,
    pub pods: u32,
    pub pods_allocatable: i64,
    pub pods_failing: u32,
    /// Up to five, as `namespace/name`.
    pub failing: Vec<String>,
    pub kubelet_version: Option<String>,
}

/// Answer of `list_nodes`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Nodes {
    pub cluster: String,
    pub nodes_seen: u32,
    pub nodes_with_problems: u32,
    /// Problems first.
    pub nodes: Vec<NodeLine>,
    /// Absent: all pods are counted. Else only those in these namespaces.
    pub pods_counted_in: Option<Vec<String>>,
    pub complete: bool,
    pub next_cursor: Option<String>,
    #[serde(flatten)]
    pub origin: Origin,
}
