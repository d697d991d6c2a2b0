//! A read-only view of one Kubernetes cluster.
//!
//! [`KubeReader`] fetches small records of our own; everything that judges them (is this pod
//! failing, could it be evicted, may it be restarted) is a pure function over records and a
//! `now`, so that the server, the executor and the tests reach the same verdict.
//!
//! This module may not write to a cluster and may not export a type of `kube`.

mod cache;
mod connection;
pub mod diagnosis;
mod error;
pub mod events;
pub mod eviction_preview;
pub mod facts;
pub mod failing;
mod freshness;
pub mod grouping;
mod lists;
mod names;
pub mod node;
mod owners;
mod page_cursor;
pub mod paging;
mod pod_detail;
mod pod_log;
mod quantity;
mod reader;
mod reading;
mod records;
pub mod revision;
pub mod rollout;
mod selector;
#[cfg(test)]
mod tests;
mod watch;
mod wire;
mod wire_node;
mod wire_pod;
mod wire_revision;
mod wire_workload;
pub mod workload;
mod workload_reads;

pub use cache::{Scope, Settings as CacheSettings};
pub use diagnosis::{Situation, ago, diagnosis};
pub use error::KubeError;
pub use events::{FoldedEvent, fold_events, newest_first};
pub use eviction_preview::{
    EvictionPreview, NotRestartable, RestartWarning, eviction_preview, restartable,
};
pub use facts::{Observed, pod_facts};
pub use failing::{Failing, FailingReason, Severity, Thresholds, failing, scheduling_gated};
pub use freshness::{Freshness, ReadSource};
pub use grouping::{
    FailingCollector, FailingFilter, FailingGroup, FailingPage, FailingPod, OwnerFilter,
};
pub use node::{NodeLoad, node_problems};
pub use page_cursor::BadCursor;
pub use paging::{Page, page};
pub use pod_detail::{ContainerDetail, PodDetail, Probe, ProbeKind};
pub use pod_log::{LogLook, LogPart};
pub use reader::{KubeReader, PodList};
pub use reading::{ClusterReads, Reading};
pub use records::{
    BatchRecord, ConditionRecord, ConditionStatus, ContainerKind, ContainerRecord, ContainerState,
    EventRecord, HpaRecord, JobEnd, JobState, NamespaceRecord, NodeRecord, ObjectRef, OwnerChain,
    OwnerLookup, OwnerRef, PdbRecord, PodPhase, PodRecord, Requests, RestartPolicy, Terminated,
    UnhealthyPodPolicy, UpdateStrategy, VersionRecord, Volumes, WorkloadRecord,
};
pub use revision::{Change, RevisionRecord, changes};
pub use rollout::{HoldingUp, Rollout, RolloutState, holding_up, rollout};
pub use selector::{BadSelector, LabelSelector, Requirement, SelectorOperator};
pub use workload::{Health, fold_runs, health};
pub use workload_reads::{EventList, WorkloadList};
