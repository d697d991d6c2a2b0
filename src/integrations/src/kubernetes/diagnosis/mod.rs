//! One or two sentences that say what is wrong with a pod, from facts alone: the first names the
//! cause as far as the cluster tells it, the second what the pod's workload and node add.
//!
//! Every clause must be true of its input. What the API does not say (how many of the restarts
//! were for want of memory, say) is not guessed.

mod context;
mod endings;
mod exits;
mod healthy;
mod images;
mod readiness;
mod scheduling;
mod starting;
mod words;

use jiff::Timestamp;

use super::events::FoldedEvent;
use super::failing::{Failing, FailingReason};
use super::pod_detail::{ContainerDetail, PodDetail};
use super::records::{ContainerRecord, NodeRecord, OwnerLookup, PodRecord};

pub use words::ago;
pub(super) use words::quote;
use words::sentence;

/// What is known about a pod. Only the pod and the verdict on it are needed; the more there is
/// besides, the more the sentences say.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    pub pod: &'a PodRecord,
    pub failing: Option<&'a Failing>,
    pub detail: Option<&'a PodDetail>,
    pub owner: Option<&'a OwnerLookup>,
    /// Where the pod is, or was.
    pub node: Option<&'a NodeRecord>,
    /// Of this pod, newest first, folded. Those of type Normal explain, too.
    pub events: &'a [FoldedEvent],
    pub now: Timestamp,
}

/// A cause in words, without a full stop.
struct Cause {
    text: String,
    /// The text names why; else the newest warning may add to it.
    explained: bool,
}

impl Cause {
    fn explained(text: String) -> Self {
        Self {
            text,
            explained: true,
        }
    }

    fn unexplained(text: String) -> Self {
        Self {
            text,
            explained: false,
        }
    }
}

/// What is wrong with the pod, or that nothing is.
#[must_use]
pub fn diagnosis(situation: &Situation) -> String {
    let Some(failing) = situation.failing else {
        return healthy::healthy(situation);
    };
    let cause = cause(situation, failing);
    let mut text = sentence(&cause.text);
    let mut more = context::clauses(situation, failing);
    if !cause.explained {
        more.extend(situation.newest_warning(failing));
    }
    if !more.is_empty() {
        text.push(' ');
        text.push_str(&sentence(&more.join("; ")));
    }
    text
}

fn cause(situation: &Situation, failing: &Failing) -> Cause {
    use FailingReason as R;
    let Some(container) = situation.container_at_fault(failing) else {
        return cause_of_pod(situation, failing);
    };
    match &failing.reason {
        R::CrashLoopBackOff => exits::crash_loop(situation, container),
        R::OomKilled | R::Crashed => exits::crashed(situation, failing, container),
        R::RestartingOften => exits::restarting_often(situation, failing, container),
        R::ErrImagePull | R::ImagePullBackOff => images::pull(situation, failing, container),
        R::InvalidImageName => images::invalid_name(container),
        R::CreateContainerConfigError => starting::config_error(situation, failing, container),
        R::CreateContainerError | R::RunContainerError => {
            starting::not_created(situation, failing, container)
        }
        R::OtherWaiting(reason) => images::other_waiting(situation, failing, container, reason),
        R::ContainerCreating => starting::creating(situation, failing, container),
        R::PodInitializing => starting::initializing(situation, failing, container),
        R::NotReady => readiness::not_ready(situation, failing, Some(container)),
        _ => cause_of_pod(situation, failing),
    }
}

fn cause_of_pod(situation: &Situation, failing: &Failing) -> Cause {
    use FailingReason as R;
    match &failing.reason {
        R::Unschedulable => scheduling::unschedulable(situation, failing),
        R::NotScheduled => scheduling::not_scheduled(situation, failing),
        R::NotStarted => starting::not_started(situation, failing),
        R::PodFailed(reason) => endings::failed(situation, failing, reason),
        R::PhaseUnknown => endings::unknown(situation, failing),
        R::StuckTerminating => endings::stuck_terminating(situation, failing),
        R::ReadinessGatePending => readiness::gate_pending(situation, failing),
        R::NotReady => readiness::not_ready(situation, failing, None),
        // The reasons of a container, in a record that lacks it.
        _ => Cause::unexplained(format!(
            "The pod is failing with {} for {}",
            failing.reason,
            ago(failing.since, situation.now)
        )),
    }
}

impl<'a> Situation<'a> {
    fn container_at_fault(&self, failing: &Failing) -> Option<&'a ContainerRecord> {
        let name = failing.container.as_ref()?;
        self.pod
            .containers
            .iter()
            .find(|container| container.name == *name)
    }

    fn detail_of(&self, container: &ContainerRecord) -> Option<&'a ContainerDetail> {
        self.detail?.container(&container.name)
    }

    /// `ago`, from this moment.
    fn ago(&self, then: Timestamp) -> String {
        ago(then, self.now)
    }

    fn clock(&self, at: Timestamp) -> String {
        words::clock(at, self.now)
    }

    /// The newest event with one of these reasons.
    fn event(&self, reasons: &[&str]) -> Option<&'a FoldedEvent> {
        self.events
            .iter()
            .filter(|event| reasons.contains(&event.reason.as_str()))
            .max_by_key(|event| event.last_seen)
    }

    /// When the pod's containers could first run.
    fn started_at(&self) -> Timestamp {
        self.pod.start_time.unwrap_or(self.pod.created_at)
    }

    /// `node node-1`, or `its node`.
    fn node_name(&self) -> String {
        match &self.pod.node {
            Some(node) => format!("node {node}"),
            None => "its node".to_owned(),
        }
    }

    /// A warning that says more than that something is tried again.
    fn newest_warning(&self, failing: &Failing) -> Option<String> {
        let event = self
            .events
            .iter()
            .filter(|event| event.kind == "Warning" && event.reason != "BackOff")
            .filter(|event| failing.message.as_ref() != Some(&event.message))
            .max_by_key(|event| event.last_seen)?;
        Some(format!(
            "newest warning, {} ago: {} {}",
            self.ago(event.last_seen),
            event.reason,
            quote(&event.message)
        ))
    }
}
