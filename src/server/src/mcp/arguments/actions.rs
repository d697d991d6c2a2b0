//! What the tools about proposals take.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shapes::{ActionId, Cluster, Name, Namespace, Word};

#[derive(Debug, Deserialize, JsonSchema)]
pub struct RestartPod {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Namespace")]
    pub namespace: String,
    /// Full name of the pod.
    #[schemars(with = "Name")]
    pub pod: String,
    /// Why, for the person who decides: what you saw, since when, and why a restart should help.
    #[schemars(length(max = 2000))]
    pub reason: String,
    /// The pod's uid as get_pod_status gave it. With it, a pod that was replaced meanwhile is not proposed.
    #[schemars(with = "Option<Word>")]
    pub uid: Option<String>,
    /// Your own key for this proposal: the same key always returns the same action.
    #[schemars(with = "Option<Word>")]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetAction {
    /// Not needed.
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "ActionId")]
    pub action_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListActions {
    /// Only this cluster.
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    /// Only actions in this state; `open` means every state that is not an end.
    pub state: Option<StateWord>,
    /// Actions at most; 20 if left out.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous answer, unchanged.
    #[schemars(with = "Option<ActionId>")]
    pub cursor: Option<String>,
}

/// States as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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

#[derive(Debug, Deserialize, JsonSchema)]
pub struct WaitForAction {
    /// Not needed.
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "ActionId")]
    pub action_id: String,
    /// How long to wait at most, in seconds; 30 if left out.
    #[schemars(range(min = 1, max = 45))]
    pub timeout_seconds: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct CancelAction {
    /// Not needed.
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "ActionId")]
    pub action_id: String,
    /// Why you take it back, for the people who were asked.
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
}
