//! How far a rollout is, judged as `kubectl rollout status` judges it, and which pods hold it up.
//! Pure.

use jiff::{SignedDuration, Timestamp};

use super::diagnosis::quote;
use super::failing::{Thresholds, failing};
use super::records::{ConditionStatus, ContainerState, PodRecord, UpdateStrategy, WorkloadRecord};
use super::workload::{condition, said};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutState {
    /// Every pod that should have the newest revision has it and is available.
    Complete,
    Progressing,
    /// The progress deadline passed, or pods cannot be created.
    Stuck,
    /// Somebody holds it, and it is not complete.
    Paused,
    /// Strategy OnDelete: it goes on when somebody deletes pods.
    WaitsForDeletion,
    /// The controller has not seen the newest spec.
    NotObserved,
}

impl RolloutState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Progressing => "progressing",
            Self::Stuck => "stuck",
            Self::Paused => "paused",
            Self::WaitsForDeletion => "waits_for_deletion",
            Self::NotObserved => "not_observed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub state: RolloutState,
    /// Without a capital and a full stop, to be part of another.
    pub sentence: String,
}

/// The verdict on a Deployment, StatefulSet or DaemonSet; nothing for kinds that do not roll out.
#[must_use]
pub fn rollout(workload: &WorkloadRecord) -> Option<Rollout> {
    let verdict = |state: RolloutState, sentence: String| Some(Rollout { state, sentence });
    let known = matches!(
        workload.kind.as_str(),
        "Deployment" | "StatefulSet" | "DaemonSet"
    );
    if !known {
        return None;
    }
    if workload.observed_generation < workload.generation || workload.observed_generation == 0 {
        return verdict(
            RolloutState::NotObserved,
            "the controller has not yet seen the newest spec".to_owned(),
        );
    }
    let unfinished = match workload.kind.as_str() {
        "Deployment" => return Some(deployment(workload)),
        "StatefulSet" => stateful_set(workload),
        _ => daemon_set(workload),
    };
    let desired = workload.replicas.unwrap_or(1);
    match unfinished {
        Some(what) if workload.strategy == UpdateStrategy::OnDelete => {
            verdict(RolloutState::WaitsForDeletion, what)
        }
        Some(what) => verdict(RolloutState::Progressing, what),
        None => verdict(RolloutState::Complete, complete(workload, desired)),
    }
}

fn complete(workload: &WorkloadRecord, desired: i32) -> String {
    match workload.strategy {
        UpdateStrategy::RollingUpdate { partition } if partition > 0 => format!(
            "the partition of {partition} is reached: {} of {desired} pods have the newest revision",
            workload.updated
        ),
        _ => format!("all {desired} pods have the newest revision and are available"),
    }
}

fn deployment(workload: &WorkloadRecord) -> Rollout {
    let desired = workload.replicas.unwrap_or(1);
    let (updated, available) = (workload.updated, workload.available);
    let unfinished = if updated < desired {
        Some(format!(
            "{updated} of {desired} pods have the newest revision"
        ))
    } else if workload.current > updated {
        Some(format!(
            "{} old pods are still to go",
            workload.current - updated
        ))
    } else if available < updated {
        Some(format!("{available} of {updated} new pods are available"))
    } else {
        None
    };
    let progressing = condition(workload, "Progressing", ConditionStatus::False);
    let late = progressing.filter(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let refused = condition(workload, "ReplicaFailure", ConditionStatus::True);
    let (state, sentence) = match (unfinished, late, refused) {
        // Paused beats late: the clock of a paused Deployment stands.
        (Some(what), ..) if workload.paused => {
            (RolloutState::Paused, format!("paused by somebody: {what}"))
        }
        (what, Some(_), refused) => {
            let what = what.unwrap_or_else(|| "it made no progress".to_owned());
            let because = refused.map_or_else(String::new, |c| format!(": {}", said(c)));
            (
                RolloutState::Stuck,
                format!("the progress deadline has passed: {what}{because}"),
            )
        }
        (Some(what), None, Some(refused)) => (
            RolloutState::Stuck,
            format!("pods cannot be created ({}): {what}", said(refused)),
        ),
        (Some(what), None, None) => (RolloutState::Progressing, what),
        (None, None, _) => (RolloutState::Complete, complete(workload, desired)),
    };
    Rollout { state, sentence }
}

/// What is left to do, if anything.
fn stateful_set(workload: &WorkloadRecord) -> Option<String> {
    let desired = workload.replicas.unwrap_or(1);
    let updated = workload.updated;
    if workload.strategy == UpdateStrategy::OnDelete {
        return on_delete(updated, desired);
    }
    if workload.ready < desired {
        return Some(format!("{} of {desired} pods are ready", workload.ready));
    }
    if let UpdateStrategy::RollingUpdate { partition } = workload.strategy
        && partition > 0
    {
        let wanted = (desired - partition).max(0);
        return (updated < wanted).then(|| {
            format!("{updated} of the {wanted} pods above the partition have the newest revision")
        });
    }
    (workload.update_revision != workload.current_revision && updated < desired)
        .then(|| format!("{updated} of {desired} pods have the newest revision"))
}

fn daemon_set(workload: &WorkloadRecord) -> Option<String> {
    let desired = workload.replicas.unwrap_or(0);
    let (updated, available) = (workload.updated, workload.available);
    if workload.strategy == UpdateStrategy::OnDelete {
        return on_delete(updated, desired);
    }
    if updated < desired {
        return Some(format!(
            "{updated} of {desired} pods have the newest revision"
        ));
    }
    (available < desired).then(|| format!("{available} of {desired} pods are available"))
}

fn on_delete(updated: i32, desired: i32) -> Option<String> {
    (updated < desired).then(|| {
        format!(
            "{updated} of {desired} pods have the newest revision; strategy OnDelete: the others \
             change when somebody deletes them"
        )
    })
}

/// A pod that a rollout waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldingUp {
    pub pod: String,
    /// Of the newest revision.
    pub updated: bool,
    pub failing: bool,
    pub problem: String,
    pub since: Timestamp,
}

/// The pods that a rollout waits for, failing ones first: new ones that are not available, and old
/// ones that are not gone although told to. `updated` knows a pod of the newest revision.
#[must_use]
pub fn holding_up(
    pods: &[PodRecord],
    updated: impl Fn(&PodRecord) -> bool,
    now: Timestamp,
    thresholds: &Thresholds,
) -> Vec<HoldingUp> {
    let mut found: Vec<HoldingUp> = pods
        .iter()
        .filter_map(|pod| {
            let updated = updated(pod);
            let verdict = failing(pod, now, thresholds);
            let (failing, problem, since) = match verdict {
                Some(verdict) => {
                    let problem = match &verdict.message {
                        Some(message) => format!("{}: {}", verdict.reason, quote(message)),
                        None => verdict.reason.to_string(),
                    };
                    (true, problem, verdict.since)
                }
                None if pod.deletion_timestamp.is_some() => {
                    let since = pod.deletion_timestamp.unwrap_or(now)
                        - SignedDuration::from_secs(pod.deletion_grace_seconds.unwrap_or(0));
                    (
                        false,
                        "is being deleted, within its grace period".to_owned(),
                        since,
                    )
                }
                None if updated && !pod.ready() => (
                    false,
                    starting(pod),
                    pod.ready_changed_at().unwrap_or(pod.created_at),
                ),
                None => return None,
            };
            Some(HoldingUp {
                pod: pod.name.clone(),
                updated,
                failing,
                problem,
                since,
            })
        })
        .collect();
    found.sort_by(|a, b| {
        let key = |one: &HoldingUp| (!one.updated, !one.failing, one.since, one.pod.clone());
        key(a).cmp(&key(b))
    });
    found
}

/// What a pod that is not ready and not yet failing does.
fn starting(pod: &PodRecord) -> String {
    if let Some(unscheduled) = pod
        .condition("PodScheduled")
        .filter(|c| c.status == ConditionStatus::False)
    {
        return format!("is not scheduled: {}", said(unscheduled));
    }
    let waiting = pod.containers.iter().find_map(|container| {
        let Some(ContainerState::Waiting { reason, .. }) = &container.state else {
            return None;
        };
        let reason = reason.as_deref().unwrap_or("no reason given");
        Some(format!("container {} waits: {reason}", container.name))
    });
    waiting.unwrap_or_else(|| "runs and is not ready yet".to_owned())
}
