//! What the tools that read a cluster take.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shapes::{
    Cluster, Cursor, Kind, LabelSelector, Name, Namespace, OnlyNamespace, Word, Workload,
};

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetPodStatus {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Namespace")]
    pub namespace: String,
    /// Full name of the pod, as list_failing_pods gives it.
    #[schemars(with = "Name")]
    pub pod: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListFailingPods {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Option<OnlyNamespace>")]
    pub namespace: Option<String>,
    #[schemars(with = "Option<LabelSelector>")]
    pub label_selector: Option<String>,
    /// Only pods of this workload: `web` or `Deployment/web`.
    #[schemars(with = "Option<Workload>")]
    pub owner: Option<String>,
    /// Only this reason, such as OOMKilled or ImagePullBackOff.
    #[schemars(with = "Option<Word>")]
    pub reason: Option<String>,
    /// Groups at most; 20 if left out.
    #[schemars(range(min = 1, max = 50))]
    pub limit: Option<u32>,
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetRecentEvents {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Option<OnlyNamespace>")]
    pub namespace: Option<String>,
    /// Only events of objects of this kind, such as Pod or Node; `Pod` if only `name` is given.
    #[schemars(with = "Option<Kind>")]
    pub kind: Option<String>,
    /// Only events of the object of this name.
    #[schemars(with = "Option<Name>")]
    pub name: Option<String>,
    /// Also events of type Normal, not only warnings.
    pub include_normal: Option<bool>,
    /// Events at most; 20 if left out.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
}
