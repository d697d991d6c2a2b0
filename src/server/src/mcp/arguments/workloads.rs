//! What the tools about workloads, rollouts and nodes take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLUSTER, NAMESPACE, OPAQUE, POD, SELECTOR};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListWorkloads {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Only this namespace. Leave it out for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkloadKind")]
    pub kind: Option<WorkloadKind>,
    /// Label selector, such as `app=web,tier!=db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 500), regex(pattern = SELECTOR))]
    pub selector: Option<String>,
    /// Leave out those that are well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub only_unhealthy: Option<bool>,
    /// Workloads in one answer; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous answer, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048), regex(pattern = OPAQUE))]
    pub cursor: Option<String>,
}

/// Kinds that list_workloads knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

impl WorkloadKind {
    pub const ALL: [Self; 5] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}

/// Kinds that roll out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RolloutKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl RolloutKind {
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetRolloutStatus {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Namespace of the workload.
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: String,
    /// Leave it out when you do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RolloutKind")]
    pub kind: Option<RolloutKind>,
    /// Name of the workload, not of a pod.
    #[schemars(length(max = 253), regex(pattern = POD))]
    pub name: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetRolloutHistory {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Namespace of the workload.
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: String,
    /// Leave it out when you do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RolloutKind")]
    pub kind: Option<RolloutKind>,
    /// Name of the workload, not of a pod.
    #[schemars(length(max = 253), regex(pattern = POD))]
    pub name: String,
    /// Newest revisions in the answer; 5 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 50))]
    pub limit: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListNodes {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Only this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253), regex(pattern = POD))]
    pub node: Option<String>,
    /// Leave out nodes without problems and failing pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub only_problems: Option<bool>,
    /// Nodes in one answer; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous answer, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048), regex(pattern = OPAQUE))]
    pub cursor: Option<String>,
}
