//! The shapes of texts that several tools take: what the schema of an argument says, and what a call
//! is checked against. The values themselves are plain texts.

#![expect(dead_code, reason = "a shape is read by its schema alone")]

use schemars::JsonSchema;

use super::{CLUSTER, KIND, NAMESPACE, OPAQUE, POD, SELECTOR, UUID, WORKLOAD};

/// Needed only with several clusters.
#[derive(JsonSchema)]
pub struct Cluster(#[schemars(length(max = 128), regex(pattern = CLUSTER))] String);

#[derive(JsonSchema)]
pub struct Namespace(#[schemars(length(max = 63), regex(pattern = NAMESPACE))] String);

/// Only this namespace; all if left out.
#[derive(JsonSchema)]
pub struct OnlyNamespace(#[schemars(length(max = 63), regex(pattern = NAMESPACE))] String);

/// A pod, a workload or a node.
#[derive(JsonSchema)]
pub struct Name(#[schemars(length(max = 253), regex(pattern = POD))] String);

/// As manifests write it.
#[derive(JsonSchema)]
pub struct Kind(#[schemars(length(max = 63), regex(pattern = KIND))] String);

/// `web` or `Deployment/web`.
#[derive(JsonSchema)]
pub struct Workload(#[schemars(length(max = 320), regex(pattern = WORKLOAD))] String);

/// By label, as in `kubectl -l`: `app=web,tier!=db`.
#[derive(JsonSchema)]
pub struct LabelSelector(#[schemars(length(max = 1024), regex(pattern = SELECTOR))] String);

/// A word of somebody else's choice.
#[derive(JsonSchema)]
pub struct Word(#[schemars(length(max = 128), regex(pattern = OPAQUE))] String);

/// `next_cursor` of the previous answer, with the same filters.
#[derive(JsonSchema)]
pub struct Cursor(#[schemars(length(max = 2048), regex(pattern = OPAQUE))] String);

/// As restart_pod returned it.
#[derive(JsonSchema)]
pub struct ActionId(#[schemars(length(max = 36), regex(pattern = UUID))] String);

/// The kinds that roll out, of [`super::WorkloadKind`].
#[derive(JsonSchema)]
pub enum RolloutKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}
