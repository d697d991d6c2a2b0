//! What the pod's workload and node add to the cause: the second sentence.

use jiff::SignedDuration;

use super::Situation;
use super::words::{between, quote};
use crate::kubernetes::failing::{Failing, FailingReason};
use crate::kubernetes::records::{
    ConditionRecord, ConditionStatus, NodeRecord, OwnerChain, OwnerLookup, PodPhase, WorkloadRecord,
};

/// A rollout this long before the trouble is worth naming.
const RELATED: SignedDuration = SignedDuration::from_hours(1);
/// A Ready condition that became False this long after the start was True before.
const AT_START: SignedDuration = SignedDuration::from_secs(10);

pub(super) fn clauses(situation: &Situation, failing: &Failing) -> Vec<String> {
    let mut clauses: Vec<String> = last_ready(situation, failing).into_iter().collect();
    match situation.owner {
        Some(OwnerLookup::Found(chain)) => of_workload(situation, failing, chain, &mut clauses),
        Some(OwnerLookup::Gone { owner }) => {
            clauses.push(format!("its owner, {} {}, is gone", owner.kind, owner.name));
        }
        Some(OwnerLookup::NoController) => {
            clauses.push("it has no controller, so nothing replaces it".to_owned());
        }
        Some(OwnerLookup::Unverified { .. }) | None => {}
    }
    if !tells_of_node(&failing.reason) {
        let trouble = situation
            .node
            .and_then(|node| node_trouble(node, situation));
        clauses.extend(trouble.or_else(|| situation.node.and_then(node_pressure)));
    }
    clauses
}

/// A transition to False some time after the start means that it was True until then.
fn last_ready(situation: &Situation, failing: &Failing) -> Option<String> {
    use FailingReason as R;
    let pod = situation.pod;
    let told = matches!(
        failing.reason,
        R::ReadinessGatePending | R::StuckTerminating | R::PhaseUnknown
    );
    let ready = pod.condition("Ready").filter(|ready| {
        !told && pod.phase == PodPhase::Running && ready.status == ConditionStatus::False
    })?;
    let (lost, start) = (ready.last_transition_at?, pod.start_time?);
    Some(if lost.duration_since(start) > AT_START {
        format!("last ready at {}", situation.clock(lost))
    } else {
        format!("not ready since it started at {}", situation.clock(start))
    })
}

fn of_workload(
    situation: &Situation,
    failing: &Failing,
    chain: &OwnerChain,
    clauses: &mut Vec<String>,
) {
    let (controller, top) = (&chain.controller, &chain.top);
    let name = format!("{} {}", top.kind, top.name);
    // A rollback gives an old ReplicaSet a new number: only "first" is true of its creation.
    if let (Some(revision), "ReplicaSet", "Deployment") = (
        &controller.revision,
        controller.kind.as_str(),
        top.kind.as_str(),
    ) {
        let before = failing.since.duration_since(controller.created_at);
        if before >= -SignedDuration::from_mins(1) && before <= RELATED {
            let at = situation.clock(controller.created_at);
            clauses.push(format!(
                "revision {revision} of {name} was first rolled out at {at}"
            ));
        }
    }
    if let Some(job) = &controller.job {
        let (failed, limit) = (job.failed, job.backoff_limit);
        clauses.push(format!(
            "Job {} has counted {failed} failed of {limit} allowed{}",
            controller.name,
            if job.retrying {
                ""
            } else {
                " and does not try again"
            }
        ));
    } else if let Some(wanted) = top.replicas.filter(|wanted| *wanted > top.available) {
        clauses.push(format!(
            "{name} has {} of {wanted} available",
            top.available
        ));
    }
    let holds = |kind: &str, status: ConditionStatus| {
        condition(top, kind, status).or_else(|| condition(controller, kind, status))
    };
    if let Some(failure) = holds("ReplicaFailure", ConditionStatus::True) {
        clauses.push(no_more_pods(&name, failure));
    }
    let stalled = holds("Progressing", ConditionStatus::False)
        .is_some_and(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    if stalled {
        clauses.push("its rollout has passed its progress deadline".to_owned());
    }
}

fn condition<'a>(
    workload: &'a WorkloadRecord,
    kind: &str,
    status: ConditionStatus,
) -> Option<&'a ConditionRecord> {
    let mut conditions = workload.conditions.iter();
    conditions.find(|condition| condition.kind == kind && condition.status == status)
}

fn no_more_pods(name: &str, failure: &ConditionRecord) -> String {
    let message = failure.message.as_deref().unwrap_or_default();
    match between(message, "exceeded quota: ", ",") {
        Some(quota) => {
            let requested = between(message, "requested: ", ", used")
                .map(|amount| format!(" (requested {amount}"));
            let limited =
                between(message, "limited: ", " ").map(|amount| format!(", limited to {amount})"));
            let amounts = match (requested, limited) {
                (Some(requested), Some(limited)) => requested + &limited,
                _ => String::new(),
            };
            format!("{name} cannot make more pods: ResourceQuota {quota} is used up{amounts}")
        }
        None if message.is_empty() => format!("{name} cannot make more pods"),
        None => format!("{name} cannot make more pods: {}", quote(message)),
    }
}

/// The cause tells of the node already.
fn tells_of_node(reason: &FailingReason) -> bool {
    use FailingReason as R;
    match reason {
        R::NotReady | R::PhaseUnknown | R::StuckTerminating | R::Unschedulable => true,
        R::PodFailed(reason) => reason == "NodeLost",
        _ => false,
    }
}

/// `node node-1 has not been Ready since 02:00 UTC (Kubelet stopped posting node status.)`.
pub(super) fn node_trouble(node: &NodeRecord, situation: &Situation) -> Option<String> {
    if node.ready {
        return None;
    }
    let ready = node
        .conditions
        .iter()
        .find(|condition| condition.kind == "Ready");
    let since = ready
        .and_then(|ready| ready.last_transition_at)
        .map(|at| format!(" since {}", situation.clock(at)))
        .unwrap_or_default();
    let said = ready
        .and_then(|ready| ready.message.as_deref())
        .map(|message| format!(" ({})", quote(message)))
        .unwrap_or_default();
    Some(format!(
        "node {} has not been Ready{since}{said}",
        node.name
    ))
}

fn node_pressure(node: &NodeRecord) -> Option<String> {
    let pressures: Vec<&str> = node
        .conditions
        .iter()
        .filter(|one| one.kind.ends_with("Pressure") && one.status == ConditionStatus::True)
        .map(|one| one.kind.as_str())
        .collect();
    let all = pressures.join(" and ");
    (!pressures.is_empty()).then(|| format!("node {} reports {all}", node.name))
}
