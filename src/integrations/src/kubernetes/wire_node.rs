//! A node's JSON, and its way into a record.

use serde::Deserialize;

use super::quantity::Milli;
use super::records::{NodeRecord, Requests};
use super::watch::Identified;
use super::wire::{Meta, REASON, WireCondition, conditions, is_true, nullable, reason};
use crate::untrusted;

#[derive(Deserialize)]
pub(super) struct WireNode {
    metadata: Meta,
    #[serde(default)]
    spec: WireNodeSpec,
    #[serde(default)]
    status: WireNodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNodeSpec {
    unschedulable: bool,
    #[serde(deserialize_with = "nullable")]
    taints: Vec<WireTaint>,
}

#[derive(Deserialize)]
struct WireTaint {
    key: String,
    value: Option<String>,
    effect: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireNodeStatus {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<WireCondition>,
    node_info: Option<WireNodeInfo>,
    #[serde(deserialize_with = "nullable")]
    allocatable: WireAllocatable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireAllocatable {
    cpu: Milli,
    memory: Milli,
    pods: Milli,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireNodeInfo {
    kubelet_version: Option<String>,
}

impl From<WireNode> for NodeRecord {
    fn from(
        WireNode {
            metadata,
            spec,
            status,
        }: WireNode,
    ) -> Self {
        let conditions = conditions(status.conditions);
        Self {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            created_at: metadata.creation_timestamp,
            unschedulable: spec.unschedulable,
            ready: is_true(&conditions, "Ready"),
            conditions,
            taints: spec
                .taints
                .into_iter()
                .map(|WireTaint { key, value, effect }| match value {
                    Some(value) if !value.is_empty() => format!("{key}={value}:{effect}"),
                    _ => format!("{key}:{effect}"),
                })
                .map(|taint| untrusted::line(&taint, 2 * REASON))
                .collect(),
            kubelet_version: reason(status.node_info.and_then(|info| info.kubelet_version)),
            allocatable: Requests {
                cpu_milli: status.allocatable.cpu.thousandths(),
                memory_bytes: status.allocatable.memory.units(),
            },
            allocatable_pods: status.allocatable.pods.units(),
        }
    }
}

impl Identified for WireNode {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}
