//! What `get_pod_logs` takes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shapes::{Cluster, LabelSelector, Name, Namespace, Word, Workload};

#[derive(Debug, Deserialize, JsonSchema)]
pub struct GetPodLogs {
    #[schemars(with = "Option<Cluster>")]
    pub cluster: Option<String>,
    #[schemars(with = "Namespace")]
    pub namespace: String,
    /// One pod, or use `workload` or `label_selector`.
    #[schemars(with = "Option<Name>")]
    pub pod: Option<String>,
    /// Pods of a workload: `web` or `Deployment/web`.
    #[schemars(with = "Option<Workload>")]
    pub workload: Option<String>,
    #[schemars(with = "Option<LabelSelector>")]
    pub label_selector: Option<String>,
    /// Needed where a pod has several.
    // A container's name is a DNS label, as a namespace's.
    #[schemars(with = "Option<Namespace>")]
    pub container: Option<String>,
    /// The run before the last restart: why it crashed.
    pub previous: Option<bool>,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub since_seconds: Option<u32>,
    /// Newest lines to look at; 500, or 5000 with grep.
    #[schemars(range(min = 1, max = 20_000))]
    pub tail_lines: Option<u32>,
    /// Only messages that match this regular expression; `(?i)` ignores case.
    #[schemars(length(min = 1, max = 200), extend("format" = "regex"))]
    pub grep: Option<String>,
    /// Messages around each match; 0 if left out.
    #[schemars(range(min = 0, max = 10))]
    pub context: Option<u32>,
    /// `older_before` of the previous answer: what it left out.
    #[schemars(with = "Option<Word>")]
    pub before: Option<String>,
}
