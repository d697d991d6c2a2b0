//! A read-only view of one Kubernetes cluster.
//!
//! [`KubeReader`] fetches small records of our own; everything that judges them (is this pod
//! failing, could it be evicted, may it be restarted) is a pure function over records and a
//! `now`, so that the server, the executor and the tests reach the same verdict.
//!
//! This module may not write to a cluster and may not export a type of `kube`.

mod connection;
pub mod diagnosis;
mod error;
pub mod events;
pub mod eviction_preview;
pub mod facts;
pub mod failing;
pub mod grouping;
mod names;
mod page_cursor;
mod pod_detail;
mod pod_log;
mod reader;
mod records;
mod selector;
#[cfg(test)]
mod tests;
mod wire;
mod wire_pod;

pub use diagnosis::diagnosis;
pub use error::KubeError;
pub use events::{FoldedEvent, fold_events, newest_first};
pub use eviction_preview::{
    EvictionPreview, NotRestartable, RestartWarning, eviction_preview, restartable,
};
pub use facts::{Observed, pod_facts};
pub use failing::{Failing, FailingReason, Severity, Thresholds, failing, scheduling_gated};
pub use grouping::{
    FailingCollector, FailingFilter, FailingGroup, FailingPage, FailingPod, OwnerFilter,
};
pub use page_cursor::BadCursor;
pub use pod_detail::{ContainerDetail, PodDetail, Probe, ProbeKind};
pub use pod_log::{LogLook, LogPart};
pub use reader::{KubeReader, PodList};
pub use records::{
    ConditionRecord, ConditionStatus, ContainerKind, ContainerRecord, ContainerState, EventRecord,
    HpaRecord, JobState, NamespaceRecord, NodeRecord, ObjectRef, OwnerChain, OwnerLookup, OwnerRef,
    PdbRecord, PodPhase, PodRecord, RestartPolicy, Terminated, UnhealthyPodPolicy, VersionRecord,
    Volumes, WorkloadRecord,
};
pub use selector::{LabelSelector, Requirement, SelectorOperator};
