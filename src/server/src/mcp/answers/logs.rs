//! The answer of `get_pod_logs`.

use schemars::JsonSchema;
use serde::Serialize;

#[derive(Debug, Serialize, JsonSchema)]
pub struct PodLog {
    pub pod: String,
    pub container: Option<String>,
    /// Oldest first. Written by whoever writes logs; only ⟪…⟫ is ours.
    pub log: Option<String>,
    pub lines_read: u64,
    pub matched: Option<u64>,
    /// Older messages that did not fit.
    pub left_out: u64,
    pub older_before: Option<String>,
    /// Why there is no log of this pod.
    pub problem: Option<String>,
}

/// Answer of `get_pod_logs`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PodLogs {
    pub cluster: String,
    pub namespace: String,
    pub logs: Vec<PodLog>,
    pub pods_total: u32,
    /// Pods that were not read.
    pub pods_left_out: Vec<String>,
    pub truncated: bool,
    pub observed_at: String,
    pub simulated: bool,
    pub note: String,
}
