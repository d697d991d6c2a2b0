//! What the tools that read a cluster take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLUSTER, KIND, NAMESPACE, OPAQUE, POD, WORKLOAD};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetPodStatus {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Namespace of the pod.
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: String,
    /// Full name of the pod, as list_failing_pods gives it.
    #[schemars(length(max = 253), regex(pattern = POD))]
    pub pod: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListFailingPods {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Only this namespace. Leave it out for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
    /// Only pods with these labels, as in `kubectl -l`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub label_selector: Option<String>,
    /// Only pods of this workload: `web` or `Deployment/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 320), regex(pattern = WORKLOAD))]
    pub owner: Option<String>,
    /// Only this reason, such as OOMKilled or ImagePullBackOff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = OPAQUE))]
    pub reason: Option<String>,
    /// Groups in one answer, at most; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 50))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous answer, unchanged; repeat its filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048), regex(pattern = OPAQUE))]
    pub cursor: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetRecentEvents {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Only this namespace. Leave it out for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
    /// Only events of objects of this kind, such as Pod or Node; `Pod` if only `name` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = KIND))]
    pub kind: Option<String>,
    /// Only events of the object of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253), regex(pattern = POD))]
    pub name: Option<String>,
    /// `true`: also events of type Normal. Warnings only if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub include_normal: Option<bool>,
    /// Events in the answer; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100))]
    pub limit: Option<u32>,
}
