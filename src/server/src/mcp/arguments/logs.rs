//! What `get_pod_logs` takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLUSTER, NAMESPACE, OPAQUE, POD, SELECTOR, WORKLOAD};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct GetPodLogs {
    /// Cluster id, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 128), regex(pattern = CLUSTER))]
    pub cluster: Option<String>,
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    pub namespace: String,
    /// One pod, or use `workload` or `label_selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 253), regex(pattern = POD))]
    pub pod: Option<String>,
    /// Pods of a workload: `Deployment/web` or just `web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 280), regex(pattern = WORKLOAD))]
    pub workload: Option<String>,
    /// Pods by label: `app=web,tier!=cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 500), regex(pattern = SELECTOR))]
    pub label_selector: Option<String>,
    /// Needed where a pod has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63), regex(pattern = NAMESPACE))]
    pub container: Option<String>,
    /// The run before the last restart: why it crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub previous: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 31_536_000))]
    pub since_seconds: Option<u32>,
    /// Newest lines to look at; 500, or 5000 with grep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 20_000))]
    pub tail_lines: Option<u32>,
    /// Only messages that match this regular expression; `(?i)` ignores case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 200), extend("format" = "regex"))]
    pub grep: Option<String>,
    /// Messages around each match; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = 10))]
    pub context: Option<u32>,
    /// `older_before` of the previous answer: what it left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 40), regex(pattern = OPAQUE))]
    pub before: Option<String>,
}
