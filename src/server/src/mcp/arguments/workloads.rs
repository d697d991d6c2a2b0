//! What the tools about workloads, rollouts and nodes take.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shapes::{Cluster, Cursor, LabelSelector, Name, Namespace, OnlyNamespace, RolloutKind};

#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListWorkloads {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Option<OnlyNamespace>")]
    pub namespace: Option<String>,
    /// Only this kind.
    pub kind: Option<WorkloadKind>,
    #[schemars(with = "Option<LabelSelector>")]
    pub label_selector: Option<String>,
    /// Leave out those that are well.
    pub only_unhealthy: Option<bool>,
    /// Workloads at most; 20 if left out.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}

/// Kinds that list_workloads knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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
    /// Those that roll out.
    pub const ROLLING: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

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

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetRolloutStatus {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Namespace")]
    pub namespace: String,
    /// Leave it out when you do not know it.
    #[schemars(with = "Option<RolloutKind>")]
    pub kind: Option<WorkloadKind>,
    /// Name of the workload, not of a pod.
    #[schemars(with = "Name")]
    pub name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetRolloutHistory {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Namespace")]
    pub namespace: String,
    /// Leave it out when you do not know it.
    #[schemars(with = "Option<RolloutKind>")]
    pub kind: Option<WorkloadKind>,
    /// Name of the workload, not of a pod.
    #[schemars(with = "Name")]
    pub name: String,
    /// Newest revisions; 5 if left out.
    #[schemars(range(min = 1, max = 50))]
    pub limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListNodes {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    /// Only this node.
    #[schemars(with = "Option<Name>")]
    pub node: Option<String>,
    /// Leave out nodes without problems and failing pods.
    pub only_problems: Option<bool>,
    /// Nodes at most; 20 if left out.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}
