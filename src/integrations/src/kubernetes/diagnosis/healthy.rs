//! Pods that are not failing, described as what they are.

use super::Situation;
use super::exits::{last_end, restarts};
use super::words::{lower, named, quote};
use crate::kubernetes::records::{ConditionStatus, ContainerRecord, ContainerState, PodPhase};

pub(super) fn healthy(situation: &Situation) -> String {
    let pod = situation.pod;
    if let Some(due) = pod.deletion_timestamp {
        let due = situation.clock(due);
        return format!("The pod is being deleted, within its grace period, which ends at {due}.");
    }
    match pod.phase {
        PodPhase::Succeeded => "The pod has completed successfully.".to_owned(),
        PodPhase::Failed => failed(situation),
        PodPhase::Pending if !pod.scheduling_gates.is_empty() => format!(
            "The pod is held back on purpose by the scheduling gate {}.",
            pod.scheduling_gates.join(", ")
        ),
        PodPhase::Pending => pending(situation),
        PodPhase::Running | PodPhase::Unknown => running(situation),
    }
}

/// Failed without failing: the Job above decides.
fn failed(situation: &Situation) -> String {
    match &situation.pod.job {
        Some(job) if job.retrying => format!(
            "The pod failed, and its Job will try again ({} failed of {} allowed).",
            job.failed, job.backoff_limit
        ),
        Some(job) if job.complete => {
            "The pod failed, and its Job has completed without it.".to_owned()
        }
        Some(job) if job.suspended => "The pod failed, and its Job is suspended.".to_owned(),
        _ => "The pod failed.".to_owned(),
    }
}

fn pending(situation: &Situation) -> String {
    let pod = situation.pod;
    let since = pod.start_time.unwrap_or(pod.created_at);
    let unscheduled = pod
        .condition("PodScheduled")
        .filter(|scheduled| scheduled.status == ConditionStatus::False);
    if let Some(scheduled) = unscheduled {
        let waited = situation.ago(scheduled.last_transition_at.unwrap_or(pod.created_at));
        let said = scheduled
            .message
            .as_deref()
            .map(|text| format!(": {}", quote(text)));
        return format!(
            "The pod has been waiting for a node for {waited}{}.",
            said.unwrap_or_default()
        );
    }
    format!("The pod has been starting for {}.", situation.ago(since))
}

fn running(situation: &Situation) -> String {
    let pod = situation.pod;
    let changed = pod.ready_changed_at();
    if !pod.ready() {
        if pod.containers.iter().any(ended_well) {
            return "Containers of the pod have completed, the others run on.".to_owned();
        }
        let since = changed.map(|at| format!(" for {}", situation.ago(at)));
        return format!(
            "The pod is not ready yet; it has been starting{}.",
            since.unwrap_or_default()
        );
    }
    let since = changed.map(|at| format!(" for {}", situation.ago(at)));
    let since = since.unwrap_or_default();
    let worst = pod
        .containers
        .iter()
        .max_by_key(|container| container.restart_count);
    match worst.filter(|container| container.restart_count > 0) {
        None => format!("The pod has been ready{since}, without restarts."),
        Some(container) => format!(
            "The pod has been ready{since}; {} has had {}{}.",
            lower(&named(container)),
            restarts(situation, container),
            last_end_of(situation, container)
        ),
    }
}

fn ended_well(container: &ContainerRecord) -> bool {
    matches!(&container.state, Some(ContainerState::Terminated(end)) if end.exit_code == 0)
}

/// `, the last one 3 h ago (OOMKilled)`.
fn last_end_of(situation: &Situation, container: &ContainerRecord) -> String {
    let Some(end) = last_end(container) else {
        return String::new();
    };
    let Some(at) = end.finished_at else {
        return String::new();
    };
    let how = match end.reason.as_deref() {
        Some(reason) => format!(" ({reason}, exit code {})", end.exit_code),
        None => format!(" (exit code {})", end.exit_code),
    };
    format!(", the last one {} ago{how}", situation.ago(at))
}
