//! The slim shapes in which the API's JSON is decoded, and their way into records.
//!
//! Only fields that are used are named: serde then skips the rest without allocating, which is
//! most of the cost of reading pods. Lists may be `null` where Go had a nil slice.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::records::{
    ConditionRecord, ConditionStatus, EventRecord, NamespaceRecord, ObjectRef, OwnerRef, PdbRecord,
    UnhealthyPodPolicy,
};
use super::selector::LabelSelector;
use super::watch::Identified;
use crate::masking::mask;
use crate::untrusted;

/// Longest message kept, in characters. Kubelet messages may be arbitrarily long.
const MESSAGE: usize = 1024;
pub(super) const REASON: usize = 128;

pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn message(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
        .map(|text| untrusted::line(&mask(&text), MESSAGE))
}

pub(super) fn reason(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
        .map(|text| untrusted::line(&text, REASON))
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(
        deserialize_with = "nullable",
        bound(deserialize = "T: Deserialize<'de>")
    )]
    pub items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    #[serde(rename = "continue")]
    pub next: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub creation_timestamp: Timestamp,
    #[serde(default)]
    pub generation: i64,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: Annotations,
    #[serde(default, deserialize_with = "nullable")]
    pub owner_references: Vec<WireOwner>,
    pub deletion_timestamp: Option<Timestamp>,
    pub deletion_grace_period_seconds: Option<i64>,
    #[serde(default, deserialize_with = "nullable")]
    pub finalizers: Vec<String>,
}

/// The few annotations that mean something here; the rest may be large and private.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub mirror: Option<IgnoredAny>,
    #[serde(rename = "deployment.kubernetes.io/revision")]
    pub revision: Option<String>,
    /// Numbers that a ReplicaSet had before it was rolled back to, separated by commas.
    #[serde(rename = "deployment.kubernetes.io/revision-history")]
    pub revision_history: Option<String>,
    #[serde(rename = "kubernetes.io/change-cause")]
    pub change_cause: Option<String>,
    #[serde(rename = "argocd.argoproj.io/tracking-id")]
    pub argo: Option<IgnoredAny>,
    #[serde(rename = "meta.helm.sh/release-name")]
    pub helm: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: Option<bool>,
}

impl Meta {
    /// The owner with `controller: true`; the API allows at most one.
    pub(super) fn controller(&mut self) -> Option<OwnerRef> {
        let at = self
            .owner_references
            .iter()
            .position(|owner| owner.controller == Some(true))?;
        let WireOwner {
            api_version,
            kind,
            name,
            uid,
            ..
        } = self.owner_references.swap_remove(at);
        Some(OwnerRef {
            api_version,
            kind: plain(kind),
            name: plain(name),
            uid,
        })
    }

    pub(super) fn managed_by(&self) -> Option<String> {
        let label = |key: &str| self.labels.contains_key(key);
        let name = if self.annotations.argo.is_some() || label("argocd.argoproj.io/instance") {
            "Argo CD"
        } else if label("kustomize.toolkit.fluxcd.io/name") || label("helm.toolkit.fluxcd.io/name")
        {
            "Flux"
        } else if self.annotations.helm.is_some()
            || self
                .labels
                .get("app.kubernetes.io/managed-by")
                .is_some_and(|by| by == "Helm")
        {
            "Helm"
        } else {
            return None;
        };
        Some(name.to_owned())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    reason: Option<String>,
    message: Option<String>,
    last_transition_time: Option<Timestamp>,
}

pub(super) fn conditions(wire: Vec<WireCondition>) -> Vec<ConditionRecord> {
    wire.into_iter()
        .map(|condition| ConditionRecord {
            kind: untrusted::line(&condition.kind, 316),
            status: match condition.status.as_str() {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            },
            reason: reason(condition.reason),
            message: message(condition.message),
            last_transition_at: condition.last_transition_time,
        })
        .collect()
}

pub(super) fn is_true(conditions: &[ConditionRecord], kind: &str) -> bool {
    conditions
        .iter()
        .any(|c| c.kind == kind && c.status == ConditionStatus::True)
}

#[derive(Deserialize)]
pub(super) struct WirePdb {
    metadata: Meta,
    spec: WirePdbSpec,
    #[serde(default)]
    status: WirePdbStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePdbSpec {
    selector: Option<LabelSelector>,
    min_available: Option<IntOrString>,
    max_unavailable: Option<IntOrString>,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePdbStatus {
    observed_generation: i64,
    current_healthy: i32,
    desired_healthy: i32,
    disruptions_allowed: i32,
    expected_pods: i32,
    #[serde(deserialize_with = "nullable")]
    disrupted_pods: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<WireCondition>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IntOrString {
    Int(i64),
    Text(String),
}

impl IntOrString {
    fn text(self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => untrusted::line(&text, REASON),
        }
    }
}

impl From<WirePdb> for PdbRecord {
    fn from(
        WirePdb {
            metadata,
            spec,
            status,
        }: WirePdb,
    ) -> Self {
        let sync_failed = conditions(status.conditions)
            .into_iter()
            .find(|condition| {
                condition.kind == "DisruptionAllowed"
                    && condition.status == ConditionStatus::False
                    && condition.reason.as_deref() == Some("SyncFailed")
            })
            .map(|condition| {
                condition
                    .message
                    .unwrap_or_else(|| "no reason given".to_owned())
            });
        Self {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            generation: metadata.generation,
            observed_generation: status.observed_generation,
            selector: spec.selector,
            min_available: spec.min_available.map(IntOrString::text),
            max_unavailable: spec.max_unavailable.map(IntOrString::text),
            unhealthy_pod_policy: match spec.unhealthy_pod_eviction_policy.as_deref() {
                Some("AlwaysAllow") => UnhealthyPodPolicy::AlwaysAllow,
                _ => UnhealthyPodPolicy::IfHealthyBudget,
            },
            current_healthy: status.current_healthy,
            desired_healthy: status.desired_healthy,
            disruptions_allowed: status.disruptions_allowed,
            expected_pods: status.expected_pods,
            sync_failed,
            disrupted_pods: status.disrupted_pods.into_keys().collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireEvent {
    metadata: Meta,
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    involved_object: WireObject,
    count: Option<u32>,
    series: Option<WireSeries>,
    first_timestamp: Option<Timestamp>,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    source: Option<WireSource>,
    reporting_component: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireObject {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
    namespace: Option<String>,
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSeries {
    count: Option<u32>,
    last_observed_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct WireSource {
    component: Option<String>,
}

impl From<WireEvent> for EventRecord {
    fn from(wire: WireEvent) -> Self {
        let created = wire.metadata.creation_timestamp;
        let series = wire.series.as_ref();
        let last_seen = series
            .and_then(|series| series.last_observed_time)
            .or(wire.last_timestamp)
            .or(wire.event_time)
            .unwrap_or(created);
        let count = series
            .and_then(|series| series.count)
            .or(wire.count)
            .unwrap_or(1)
            .max(1);
        Self {
            namespace: wire.metadata.namespace,
            name: wire.metadata.name,
            uid: wire.metadata.uid,
            kind: reason(wire.kind).unwrap_or_else(|| "Normal".to_owned()),
            reason: reason(wire.reason).unwrap_or_default(),
            message: message(wire.message).unwrap_or_default(),
            object: ObjectRef {
                kind: untrusted::line(&wire.involved_object.kind, REASON),
                namespace: wire
                    .involved_object
                    .namespace
                    .filter(|name| !name.is_empty()),
                name: untrusted::line(&wire.involved_object.name, 253),
                uid: wire.involved_object.uid.filter(|uid| !uid.is_empty()),
            },
            count,
            first_seen: wire
                .first_timestamp
                .or(wire.event_time)
                .unwrap_or(created)
                .min(last_seen),
            last_seen,
            source: reason(wire.source.and_then(|source| source.component))
                .or_else(|| reason(wire.reporting_component)),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireNamespace {
    metadata: Meta,
    #[serde(default)]
    status: WireNamespaceStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNamespaceStatus {
    phase: Option<String>,
}

impl From<WireNamespace> for NamespaceRecord {
    fn from(WireNamespace { metadata, status }: WireNamespace) -> Self {
        Self {
            name: metadata.name,
            uid: metadata.uid,
            labels: metadata.labels,
            terminating: status.phase.as_deref() == Some("Terminating"),
        }
    }
}

impl Identified for WireEvent {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Identified for WireNamespace {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

/// Of an owner's kind and name the API server asks only that they are not empty: whoever makes a pod
/// could write sentences there, which we would repeat as our own.
fn plain(word: String) -> String {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if word.len() <= 253 && word.chars().all(usual) {
        word
    } else {
        "(not-a-name)".to_owned()
    }
}
