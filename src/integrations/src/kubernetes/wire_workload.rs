//! The JSON of workloads and their autoscalers, and its way into records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::records::{
    BatchRecord, ConditionRecord, ConditionStatus, HpaRecord, JobEnd, JobState, OwnerRef,
    UpdateStrategy, WorkloadRecord,
};
use super::selector::LabelSelector;
use super::watch::Identified;
use super::wire::{Meta, REASON, WireCondition, WireObject, conditions, nullable};
use crate::untrusted;

/// Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob and ReplicationController.
#[derive(Deserialize)]
pub(super) struct WireWorkload {
    metadata: Meta,
    #[serde(default)]
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec {
    replicas: Option<i32>,
    paused: bool,
    backoff_limit: Option<u32>,
    suspend: Option<bool>,
    selector: Option<WireSelector>,
    /// Of a Deployment.
    strategy: Option<WireStrategy>,
    /// Of a StatefulSet or DaemonSet.
    update_strategy: Option<WireStrategy>,
    completions: Option<i32>,
    schedule: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireSelector {
    /// Of a ReplicationController: labels alone. First, because all fields of the other may miss.
    Labels(BTreeMap<String, String>),
    Selector(LabelSelector),
}

impl WireSelector {
    fn selector(self) -> LabelSelector {
        match self {
            Self::Labels(match_labels) => LabelSelector {
                match_labels,
                ..LabelSelector::default()
            },
            Self::Selector(selector) => selector,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStrategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    rolling_update: WireRollingUpdate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRollingUpdate {
    partition: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus {
    observed_generation: i64,
    replicas: i32,
    ready_replicas: i32,
    available_replicas: i32,
    updated_replicas: i32,
    current_revision: Option<String>,
    update_revision: Option<String>,
    desired_number_scheduled: Option<i32>,
    current_number_scheduled: i32,
    number_misscheduled: i32,
    number_ready: i32,
    number_available: i32,
    updated_number_scheduled: i32,
    active: Option<WireActive>,
    succeeded: u32,
    failed: u32,
    last_schedule_time: Option<Timestamp>,
    last_successful_time: Option<Timestamp>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<WireCondition>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireActive {
    /// A Job's pods.
    Pods(u32),
    /// A CronJob's Jobs.
    Jobs(Vec<IgnoredAny>),
}

impl WireStrategy {
    fn strategy(&self) -> UpdateStrategy {
        match self.kind.as_deref() {
            Some("OnDelete") => UpdateStrategy::OnDelete,
            Some("Recreate") => UpdateStrategy::Recreate,
            _ => UpdateStrategy::RollingUpdate {
                partition: self.rolling_update.partition.unwrap_or(0),
            },
        }
    }
}

impl WireWorkload {
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn owner(&mut self) -> Option<OwnerRef> {
        self.metadata.controller()
    }

    pub(super) fn job(&self) -> JobState {
        let is = |kinds: [&str; 2]| {
            let mut conditions = self.status.conditions.iter();
            conditions.any(|condition| {
                condition.status == "True" && kinds.contains(&condition.kind.as_str())
            })
        };
        let complete = is(["Complete", "SuccessCriteriaMet"]);
        let suspended = self.spec.suspend == Some(true);
        JobState {
            failed: self.status.failed,
            // The API server fills in 6; NonIndexed Jobs always carry it.
            backoff_limit: self.spec.backoff_limit.unwrap_or(6),
            retrying: !complete && !is(["Failed", "FailureTarget"]) && !suspended,
            complete,
            suspended,
        }
    }

    /// The list's items carry no kind, so it is passed in.
    pub(super) fn record(mut self, kind: &str) -> WorkloadRecord {
        let daemon = kind == "DaemonSet";
        let job = (kind == "Job").then(|| self.job());
        let owner = self.metadata.controller();
        let managed_by = self.metadata.managed_by();
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let of = |usual: i32, of_daemon_set: i32| if daemon { of_daemon_set } else { usual };
        let conditions = conditions(status.conditions);
        let batch = matches!(kind, "Job" | "CronJob").then(|| BatchRecord {
            completions: spec.completions,
            active: match &status.active {
                Some(WireActive::Pods(count)) => *count,
                Some(WireActive::Jobs(jobs)) => u32::try_from(jobs.len()).unwrap_or(u32::MAX),
                None => 0,
            },
            succeeded: status.succeeded,
            failed: status.failed,
            suspended: spec.suspend == Some(true),
            ended: job_end(&conditions),
            schedule: spec.schedule.map(|text| untrusted::line(&text, REASON)),
            last_scheduled: status.last_schedule_time,
            last_succeeded: status.last_successful_time,
            last_run: None,
        });
        let strategy = spec.update_strategy.or(spec.strategy);
        WorkloadRecord {
            kind: kind.to_owned(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            created_at: metadata.creation_timestamp,
            generation: metadata.generation,
            observed_generation: status.observed_generation,
            replicas: if daemon {
                status.desired_number_scheduled
            } else {
                spec.replicas
            },
            ready: of(status.ready_replicas, status.number_ready),
            available: of(status.available_replicas, status.number_available),
            updated: of(status.updated_replicas, status.updated_number_scheduled),
            paused: spec.paused,
            revision: metadata
                .annotations
                .revision
                .map(|text| untrusted::line(&text, REASON)),
            conditions,
            owner,
            managed_by,
            job,
            selector: spec.selector.map(WireSelector::selector),
            current: of(status.replicas, status.current_number_scheduled),
            misscheduled: status.number_misscheduled,
            strategy: strategy.map_or_else(UpdateStrategy::default, |strategy| strategy.strategy()),
            update_revision: status.update_revision.filter(|name| !name.is_empty()),
            current_revision: status.current_revision.filter(|name| !name.is_empty()),
            batch,
        }
    }
}

fn job_end(conditions: &[ConditionRecord]) -> Option<JobEnd> {
    let ended = |kind: &str| {
        conditions
            .iter()
            .find(|c| c.kind == kind && c.status == ConditionStatus::True)
    };
    let (condition, succeeded) = match (ended("Failed"), ended("Complete")) {
        (Some(failed), _) => (failed, false),
        (None, Some(complete)) => (complete, true),
        (None, None) => return None,
    };
    Some(JobEnd {
        succeeded,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        at: condition.last_transition_at,
    })
}

#[derive(Deserialize)]
pub(super) struct WireHpa {
    metadata: Meta,
    spec: WireHpaSpec,
    #[serde(default)]
    status: WireHpaStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHpaSpec {
    scale_target_ref: WireObject,
    min_replicas: Option<i32>,
    max_replicas: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireHpaStatus {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<WireCondition>,
}

impl From<WireHpa> for HpaRecord {
    fn from(
        WireHpa {
            metadata,
            spec,
            status,
        }: WireHpa,
    ) -> Self {
        let inactive = conditions(status.conditions)
            .into_iter()
            .find(|condition| {
                matches!(condition.kind.as_str(), "ScalingActive" | "AbleToScale")
                    && condition.status == ConditionStatus::False
                    // Scaled to zero on purpose.
                    && condition.reason.as_deref() != Some("ScalingDisabled")
            })
            .map(|condition| condition.reason.unwrap_or(condition.kind));
        Self {
            namespace: metadata.namespace,
            name: metadata.name,
            target_kind: spec.scale_target_ref.kind,
            target_name: spec.scale_target_ref.name,
            min_replicas: spec.min_replicas.unwrap_or(1),
            max_replicas: spec.max_replicas,
            inactive,
        }
    }
}

impl Identified for WireWorkload {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}
