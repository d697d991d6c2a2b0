//! Pods that are over or should be: failed, evicted, lost with their node, stuck in deletion.

use super::context::node_trouble;
use super::exits::ending;
use super::words::{between, count, named, quote};
use super::{Cause, Situation};
use crate::kubernetes::failing::Failing;
use crate::kubernetes::records::{ContainerState, PodRecord};

pub(super) fn failed(situation: &Situation, failing: &Failing, reason: &str) -> Cause {
    let when = format!("{} ago", situation.ago(failing.since));
    let node = situation.node_name();
    let message = failing.message.as_deref();
    let said = message
        .map(|message| format!(": {}", quote(message)))
        .unwrap_or_default();
    Cause::explained(match reason {
        "Evicted" => match message.and_then(eviction) {
            Some(why) => format!("The pod was evicted from {node} {when} because {why}"),
            None => format!("The pod was evicted from {node} {when}{said}"),
        },
        "Preempting" => {
            format!("The pod was ended {when} to make room on {node} for a more important pod")
        }
        "DeadlineExceeded" => match situation.detail.and_then(|d| d.active_deadline_seconds) {
            Some(limit) => format!(
                "The pod was ended {when} because it was active for longer than its \
                 activeDeadlineSeconds of {limit}"
            ),
            None => format!(
                "The pod was ended {when} because it was active for longer than its deadline allows"
            ),
        },
        "NodeLost" => format!("The pod was given up {when} because {node} was lost"),
        "Terminated" | "NodeShutdown" | "Shutdown" => {
            format!("The pod was ended {when} because {node} was shut down")
        }
        "UnexpectedAdmissionError" => {
            format!("{node} refused the pod {when} with an unexpected error{said}")
        }
        "NodeAffinity" => format!(
            "{node} refused the pod {when} because its labels no longer match the pod's node \
             affinity or selector"
        ),
        _ if reason.starts_with("OutOf") => {
            let short_of = reason.trim_start_matches("OutOf");
            format!("{node} refused the pod {when} for want of {short_of}{said}")
        }
        _ => return ended(situation, failing, reason, &said),
    })
}

/// No reason on the pod, or one that we have no words for.
fn ended(situation: &Situation, failing: &Failing, reason: &str, said: &str) -> Cause {
    let reason = match reason {
        "Failed" => String::new(),
        other => format!(" with {other}"),
    };
    if let Some(by) = disruption(situation.pod) {
        return Cause::explained(format!(
            "The pod was ended {} ago{reason}: {by}{said}",
            situation.ago(failing.since)
        ));
    }
    let crashed =
        situation
            .container_at_fault(failing)
            .and_then(|container| match &container.state {
                Some(ContainerState::Terminated(end)) => Some(format!(
                    "{} {}",
                    named(container),
                    ending(situation, container, end)
                )),
                _ => None,
            });
    match crashed {
        Some(crashed) => Cause::explained(format!("The pod failed{reason}: {crashed}{said}")),
        None => Cause::unexplained(format!(
            "The pod failed{reason} {} ago{said}",
            situation.ago(failing.since)
        )),
    }
}

/// Who ended the pod from outside, by its condition DisruptionTarget.
fn disruption(pod: &PodRecord) -> Option<&'static str> {
    let condition = pod.condition("DisruptionTarget")?;
    Some(match condition.reason.as_deref()? {
        "PreemptionByScheduler" => "the scheduler preempted it for a pod of higher priority",
        "DeletionByTaintManager" => "its node got a taint that it does not tolerate",
        "EvictionByEvictionAPI" => "it was evicted through the API, as a drain does",
        "DeletionByPodGC" => "its node is gone",
        "TerminationByKubelet" => "the kubelet ended it, for want of resources or a shutdown",
        _ => return None,
    })
}

/// What ran out, from the kubelet's message.
fn eviction(message: &str) -> Option<String> {
    if let Some(resource) = between(message, "low on resource: ", ".") {
        let mut text = format!("the node was low on {resource}");
        if let Some(left) =
            between(message, "available: ", ". ").map(|left| left.trim_end_matches('.'))
        {
            text.push_str(&format!(" ({left} left)"));
        }
        if let Some((container, used)) = consumer(message) {
            text.push_str(&format!("; container {container} was using {used}"));
            if let Some(request) = between(message, "request is ", ",") {
                text.push_str(&format!(
                    " and had requested {}",
                    request.trim_end_matches('.')
                ));
            }
        }
        return Some(text);
    }
    if let Some(condition) = between(message, "had condition: [", "]") {
        return Some(format!("the node had {condition}"));
    }
    if let Some(volume) = between(message, "EmptyDir volume \"", "\"") {
        let limit = between(message, "exceeds the limit \"", "\"");
        let limit = limit
            .map(|limit| format!(" of {limit}"))
            .unwrap_or_default();
        return Some(format!(
            "its emptyDir volume {volume} outgrew its limit{limit}"
        ));
    }
    if message.contains("ephemeral") {
        let limit = between(message, "limit \"", "\"")
            .or_else(|| between(message, "limit of containers ", ". "))
            .map(|limit| format!(" of {}", limit.trim_end_matches('.')))
            .unwrap_or_default();
        let who = between(message, "Container ", " exceeded")
            .map_or_else(|| "it".to_owned(), |name| format!("container {name}"));
        return Some(format!(
            "{who} used more ephemeral storage than its limit{limit}"
        ));
    }
    None
}

fn consumer(message: &str) -> Option<(&str, &str)> {
    let container = between(message, "Container ", " was using ")?;
    let used = between(message, " was using ", ",")?;
    Some((container, used))
}

pub(super) fn unknown(situation: &Situation, failing: &Failing) -> Cause {
    let trouble = situation
        .node
        .and_then(|node| node_trouble(node, situation));
    let said = failing
        .message
        .as_deref()
        .map(|message| format!(": {}", quote(message)))
        .unwrap_or_default();
    let lasting = situation.ago(failing.since);
    match trouble {
        Some(trouble) => Cause::explained(format!(
            "The pod's state has been unknown for {lasting} because {trouble}{said}"
        )),
        None => Cause::unexplained(format!(
            "The pod's state has been unknown for {lasting}: {} does not report{said}",
            situation.node_name()
        )),
    }
}

pub(super) fn stuck_terminating(situation: &Situation, failing: &Failing) -> Cause {
    let pod = situation.pod;
    let start = format!(
        "The pod should have been gone since {} ({} ago)",
        situation.clock(failing.since),
        situation.ago(failing.since)
    );
    match pod.finalizers.as_slice() {
        [] => {}
        [one] => {
            return Cause::explained(format!(
                "{start}: the finalizer {one} holds it until its controller takes it off"
            ));
        }
        many => {
            return Cause::explained(format!(
                "{start}: the finalizers {} hold it until their controllers take them off",
                many.join(", ")
            ));
        }
    }
    if let Some(trouble) = situation
        .node
        .and_then(|node| node_trouble(node, situation))
    {
        return Cause::explained(format!(
            "{start}: {trouble}, so nobody confirms that its containers ended"
        ));
    }
    let running = pod
        .containers
        .iter()
        .filter(|container| matches!(container.state, Some(ContainerState::Running { .. })))
        .count();
    Cause::unexplained(format!(
        "{start}: no finalizer holds it, and {} still reports {} as running",
        situation.node_name(),
        count(running as u64, "container")
    ))
}
