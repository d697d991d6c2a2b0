//! One or two sentences that say what is wrong with a pod, from facts alone.

use jiff::Timestamp;

use super::events::FoldedEvent;
use super::failing::{Failing, FailingReason, exit_text};
use super::records::{ContainerRecord, ContainerState, OwnerLookup, PodPhase, PodRecord};
use crate::untrusted;

/// Quoted words of the cluster, in characters.
const QUOTE: usize = 200;

/// What is wrong with `pod`, then what its workload and its newest warning add to that.
#[must_use]
pub fn diagnosis(
    pod: &PodRecord,
    failing: Option<&Failing>,
    owner: Option<&OwnerLookup>,
    events: &[FoldedEvent],
    now: Timestamp,
) -> String {
    let Some(failing) = failing else {
        return healthy(pod, now);
    };
    let first = first_sentence(pod, failing, now);
    match second_sentence(failing, owner, events, now) {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}

fn healthy(pod: &PodRecord, now: Timestamp) -> String {
    if pod.deletion_timestamp.is_some() {
        return "The pod is being deleted, within its grace period.".to_owned();
    }
    if pod.phase == PodPhase::Succeeded {
        return "The pod has completed successfully.".to_owned();
    }
    if !pod.scheduling_gates.is_empty() && pod.phase == PodPhase::Pending {
        return format!(
            "The pod is held back on purpose by the scheduling gate {}.",
            pod.scheduling_gates.join(", ")
        );
    }
    if pod.job.as_ref().is_some_and(|job| job.retrying) && pod.phase == PodPhase::Failed {
        return "The pod failed, and its Job will try again.".to_owned();
    }
    let since = pod
        .ready_changed_at()
        .map(|at| format!(" for {}", ago(at, now)));
    let since = since.unwrap_or_default();
    match (pod.ready(), pod.restarts()) {
        (true, 0) => format!("The pod has been ready{since}, without restarts."),
        (true, restarts) => format!("The pod has been ready{since}; {}.", times(restarts)),
        (false, _) => format!("The pod is not ready yet; it has been starting{since}."),
    }
}

fn first_sentence(pod: &PodRecord, failing: &Failing, now: Timestamp) -> String {
    use FailingReason as R;
    let name = failing.container.as_deref().unwrap_or("?");
    let container = pod
        .containers
        .iter()
        .find(|c| Some(&c.name) == failing.container.as_ref());
    let lasting = ago(failing.since, now);
    let quote = failing
        .message
        .as_deref()
        .map(|text| untrusted::line(text, QUOTE));
    let quoted = quote
        .as_ref()
        .map(|text| format!(": \"{text}\""))
        .unwrap_or_default();
    let image = container.map_or("?", |container| container.image.as_str());
    match &failing.reason {
        R::CrashLoopBackOff => {
            let end = container.map(|c| last_end(c, now)).unwrap_or_default();
            format!(
                "Container {name} keeps crashing: {}{end}.",
                times(failing.restarts)
            )
        }
        R::OomKilled => format!(
            "Container {name} was killed {lasting} ago for using more memory than its limit{}; {}.",
            limit(container),
            times(failing.restarts)
        ),
        R::Crashed => format!(
            "Container {name} ended badly {lasting} ago{quoted}; {}.",
            times(failing.restarts)
        ),
        R::RestartingOften => format!(
            "Container {name} restarts often: {}, the last one {lasting} ago.",
            times(failing.restarts)
        ),
        R::InvalidImageName => format!("The image of container {name} has no valid name: {image}."),
        R::ErrImagePull | R::ImagePullBackOff => {
            format!("Container {name} cannot get its image {image}{quoted}.")
        }
        R::CreateContainerConfigError => format!(
            "Container {name} cannot be created because something it is configured with is \
             missing{quoted}."
        ),
        R::CreateContainerError | R::RunContainerError => {
            format!("Container {name} cannot be started{quoted}.")
        }
        R::ContainerCreating | R::PodInitializing => {
            format!("Container {name} has been starting for {lasting}{quoted}.")
        }
        R::Unschedulable => format!("No node has taken the pod for {lasting}{quoted}."),
        R::PodFailed(reason) => format!("The pod failed {lasting} ago ({reason}){quoted}."),
        R::PhaseUnknown => {
            format!("The pod's node has not been heard of for {lasting}{quoted}.")
        }
        R::NotReady => format!("The pod runs but has not been ready for {lasting}{quoted}."),
        R::ReadinessGatePending => {
            format!("The pod has been waiting for a readiness gate for {lasting}{quoted}.")
        }
        R::StuckTerminating => {
            format!("The pod should have been gone {lasting} ago{quoted}.")
        }
    }
}

/// The workload's shortage, else the newest warning, if it says something new.
fn second_sentence(
    failing: &Failing,
    owner: Option<&OwnerLookup>,
    events: &[FoldedEvent],
    now: Timestamp,
) -> Option<String> {
    let warning = events
        .iter()
        .filter(|event| event.kind == "Warning" && event.reason != "BackOff")
        .filter(|event| failing.message.as_ref() != Some(&event.message))
        .max_by_key(|event| event.last_seen)
        .map(|event| {
            let text = untrusted::line(&event.message, QUOTE);
            format!(
                "Newest warning, {} ago: {} \"{text}\".",
                ago(event.last_seen, now),
                event.reason
            )
        });
    let shortage = match owner {
        Some(OwnerLookup::Found(chain)) => chain.top.replicas.and_then(|wanted| {
            let top = &chain.top;
            (wanted > top.available).then(|| {
                format!(
                    "{} {} has {} of {wanted} available.",
                    top.kind, top.name, top.available
                )
            })
        }),
        Some(OwnerLookup::Gone { owner }) => Some(format!(
            "Its owner, {} {}, is gone.",
            owner.kind, owner.name
        )),
        _ => None,
    };
    match (shortage, warning) {
        (Some(shortage), Some(warning)) => Some(format!("{shortage} {warning}")),
        (one, other) => one.or(other),
    }
}

fn last_end(container: &ContainerRecord, now: Timestamp) -> String {
    let end = match (&container.last_terminated, &container.state) {
        (Some(end), _) | (None, Some(ContainerState::Terminated(end))) => end,
        _ => return String::new(),
    };
    let when = end
        .finished_at
        .map(|at| format!(" {} ago", ago(at, now)))
        .unwrap_or_default();
    if end.reason.as_deref() == Some("OOMKilled") {
        let limit = limit(Some(container));
        return format!(", the last one killed{when} for using more memory than its limit{limit}");
    }
    format!(", last with {}{when}", exit_text(end))
}

fn limit(container: Option<&ContainerRecord>) -> String {
    let limit = container.and_then(|container| container.memory_limit.as_deref());
    limit
        .map(|limit| format!(" of {limit}"))
        .unwrap_or_default()
}

fn times(restarts: u32) -> String {
    match restarts {
        0 => "no restarts so far".to_owned(),
        1 => "1 restart".to_owned(),
        many => format!("{many} restarts"),
    }
}

/// A rough length of time, such as `40 s`, `3 min`, `2 h`, `5 d`.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
