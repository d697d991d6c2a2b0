//! Is a workload well, and if not, why, in a few words. Pure.

use jiff::Timestamp;

use super::diagnosis::quote;
use super::failing::Severity;
use super::records::{BatchRecord, ConditionRecord, ConditionStatus, JobEnd, WorkloadRecord};
use super::rollout::{RolloutState, rollout};

/// The verdict on a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Nothing: it is well.
    pub severity: Option<Severity>,
    /// What is wrong, or what else is to be known, such as `scaled to 0`.
    pub why: Option<String>,
}

impl Health {
    fn well(why: Option<&str>) -> Self {
        Self {
            severity: None,
            why: why.map(str::to_owned),
        }
    }

    fn ill(severity: Severity, why: String) -> Self {
        Self {
            severity: Some(severity),
            why: Some(why),
        }
    }
}

/// Judges a Deployment, StatefulSet, DaemonSet, Job or CronJob. A rollout that goes on while enough
/// pods are available is well.
#[must_use]
pub fn health(workload: &WorkloadRecord) -> Health {
    match &workload.batch {
        Some(batch) if workload.kind == "CronJob" => cron(batch),
        Some(batch) => job(batch),
        None => replicas(workload),
    }
}

fn replicas(workload: &WorkloadRecord) -> Health {
    let desired = workload.replicas.unwrap_or(1);
    let (ready, available) = (workload.ready, workload.available);
    if let Some(refused) = condition(workload, "ReplicaFailure", ConditionStatus::True) {
        let severity = if ready == 0 {
            Severity::High
        } else {
            Severity::Medium
        };
        return Health::ill(
            severity,
            format!("pods cannot be created: {}", said(refused)),
        );
    }
    let rollout = rollout(workload);
    let stuck = rollout
        .as_ref()
        .filter(|rollout| rollout.state == RolloutState::Stuck);
    if desired > 0 && ready == 0 {
        let more = stuck.map_or("", |_| "; its rollout is stuck");
        return Health::ill(Severity::High, format!("none of {desired} is ready{more}"));
    }
    if let Some(stuck) = stuck {
        return Health::ill(Severity::High, format!("rollout stuck: {}", stuck.sentence));
    }
    if available < desired {
        let what = if ready < desired {
            format!("{ready} of {desired} ready")
        } else {
            format!("{available} of {desired} available, all ready")
        };
        return Health::ill(Severity::Medium, what);
    }
    match rollout {
        Some(rollout) if rollout.state != RolloutState::Complete => {
            Health::well(Some(&rollout.sentence))
        }
        _ if desired == 0 && workload.kind == "DaemonSet" => {
            Health::well(Some("no node is eligible for it"))
        }
        _ if desired == 0 => Health::well(Some("scaled to 0")),
        _ if workload.paused => Health::well(Some("rollouts are paused")),
        _ if workload.misscheduled > 0 => Health::ill(
            Severity::Low,
            format!(
                "runs on {} nodes where it should not",
                workload.misscheduled
            ),
        ),
        _ => Health::well(None),
    }
}

fn job(batch: &BatchRecord) -> Health {
    let wanted = batch.completions.unwrap_or(1);
    match &batch.ended {
        Some(end) if !end.succeeded => Health::ill(Severity::High, failed(end)),
        Some(_) => Health::well(Some("completed")),
        None if batch.suspended => Health::well(Some("suspended")),
        None if batch.failed > 0 => Health::ill(
            Severity::Medium,
            format!(
                "{} pods have failed so far, {} of {wanted} succeeded; it tries on",
                batch.failed, batch.succeeded
            ),
        ),
        None => Health::well(Some("running")),
    }
}

fn cron(batch: &BatchRecord) -> Health {
    if let Some(run) = &batch.last_run
        && let Some(verdict) = run.batch.as_ref().map(job)
        && let (Some(severity), Some(why)) = (verdict.severity, verdict.why)
    {
        return Health::ill(severity, format!("its newest Job {}: {why}", run.name));
    }
    if batch.suspended {
        return Health::well(Some("suspended"));
    }
    Health::well(match batch.last_scheduled {
        None => Some("has not run yet"),
        Some(_) => None,
    })
}

fn failed(end: &JobEnd) -> String {
    let mut why = "failed".to_owned();
    let message = end.message.as_deref().map(quote);
    for said in [end.reason.clone(), message].into_iter().flatten() {
        why.push_str(": ");
        why.push_str(&said);
    }
    why
}

pub(super) fn condition<'a>(
    workload: &'a WorkloadRecord,
    kind: &str,
    status: ConditionStatus,
) -> Option<&'a ConditionRecord> {
    workload
        .conditions
        .iter()
        .find(|condition| condition.kind == kind && condition.status == status)
}

/// A condition's own words.
pub(super) fn said(condition: &ConditionRecord) -> String {
    match &condition.message {
        Some(message) => quote(message),
        None => condition
            .reason
            .clone()
            .unwrap_or_else(|| condition.kind.clone()),
    }
}

/// Hangs the newest Job of each CronJob on it and drops all Jobs of CronJobs from the list: a
/// failed run of last week that was followed by a good one is no news.
pub fn fold_runs(workloads: &mut Vec<WorkloadRecord>) {
    let mut newest: std::collections::HashMap<String, WorkloadRecord> =
        std::collections::HashMap::new();
    let crons: std::collections::HashSet<String> = workloads
        .iter()
        .filter(|workload| workload.kind == "CronJob")
        .map(|workload| workload.uid.clone())
        .collect();
    workloads.retain(|workload| {
        let Some(owner) = workload.owner.as_ref().filter(|o| crons.contains(&o.uid)) else {
            return true;
        };
        let later = |known: &WorkloadRecord| started(known) >= started(workload);
        if !newest.get(&owner.uid).is_some_and(later) {
            newest.insert(owner.uid.clone(), workload.clone());
        }
        false
    });
    for workload in workloads {
        if let (Some(batch), Some(run)) = (&mut workload.batch, newest.remove(&workload.uid)) {
            batch.last_run = Some(Box::new(run));
        }
    }
}

fn started(job: &WorkloadRecord) -> (Timestamp, &str) {
    (job.created_at, &job.name)
}
