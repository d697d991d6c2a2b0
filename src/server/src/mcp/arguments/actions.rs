//! What the tools about proposals take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLUSTER, NAMESPACE, OPAQUE, POD, UUID};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct RestartPod {
    /// Needed only with several clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Namespace of the pod.
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: String,
    /// Full name of the pod.
    #[schemars(length(max = 253), regex(pattern = POD))]
    pub pod: String,
    /// Why, for the person who decides: what you saw, since when, and why a restart should help.
    #[schemars(length(max = 2000))]
    pub reason: String,
    /// The pod's uid as get_pod_status gave it. With it, a pod that was replaced meanwhile is not proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = OPAQUE))]
    pub uid: Option<String>,
    /// Your own key for this proposal: the same key always returns the same action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = OPAQUE))]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetAction {
    /// The `action_id` that restart_pod returned.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub action_id: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListActions {
    /// Only this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    /// Only actions in this state; `open` means every state that is not an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StateWord")]
    pub state: Option<StateWord>,
    /// Actions in one answer; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous answer, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36), regex(pattern = UUID))]
    pub cursor: Option<String>,
}

/// States as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    Open,
    Checking,
    Pending,
    Approved,
    Executing,
    Indeterminate,
    Succeeded,
    Failed,
    Denied,
    Rejected,
    Cancelled,
    Expired,
    Refused,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct WaitForAction {
    /// The `action_id` that restart_pod returned.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub action_id: String,
    /// How long to wait at most, in seconds; 30 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 45))]
    pub timeout_seconds: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct CancelAction {
    /// The `action_id` that restart_pod returned.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub action_id: String,
    /// Why you take it back, for the people who were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 500))]
    pub reason: Option<String>,
}
