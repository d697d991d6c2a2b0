//! Is a pod failing, why, and since when. The phase alone is wrong: a pod in CrashLoopBackOff is
//! in phase Running, and a pod whose Job will try again is in phase Failed.
//!
//! Pure: the server's tools, the page and the executor's facts come from this one definition.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use super::records::{
    ConditionStatus, ContainerKind, ContainerRecord, ContainerState, JobState, PodPhase, PodRecord,
    RestartPolicy, Terminated,
};

/// When slow becomes failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Creating, initialising, unschedulable or not ready for longer than this is failing.
    pub stuck_after: SignedDuration,
    /// A crash or a restart counts while it is younger than this.
    pub recent: SignedDuration,
    /// Allowed beyond `deletionTimestamp`, which has the grace in it already.
    pub slack: SignedDuration,
    /// This many restarts, of which one recent, are failing.
    pub restarts: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            stuck_after: SignedDuration::from_mins(5),
            recent: SignedDuration::from_mins(10),
            slack: SignedDuration::from_secs(30),
            restarts: 5,
        }
    }
}

/// The main reason why a pod is failing. Displays as Kubernetes names it where it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailingReason {
    CrashLoopBackOff,
    RunContainerError,
    CreateContainerConfigError,
    CreateContainerError,
    InvalidImageName,
    ErrImagePull,
    ImagePullBackOff,
    ContainerCreating,
    PodInitializing,
    /// Phase Failed, with `status.reason` such as `Evicted`, or `Failed` without one.
    PodFailed(String),
    PhaseUnknown,
    /// Waiting for longer than the limit with a reason beside those of the definition, such as
    /// `ErrImageNeverPull`.
    OtherWaiting(String),
    Unschedulable,
    /// No scheduler has taken up the pod.
    NotScheduled,
    /// The pod has a node whose kubelet does not report on it.
    NotStarted,
    OomKilled,
    /// A non-zero exit inside the window.
    Crashed,
    RestartingOften,
    NotReady,
    /// All containers are ready; another controller has not set a readiness gate.
    ReadinessGatePending,
    /// The deletion should have ended.
    StuckTerminating,
}

impl FailingReason {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::CrashLoopBackOff => "CrashLoopBackOff",
            Self::RunContainerError => "RunContainerError",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::InvalidImageName => "InvalidImageName",
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::ContainerCreating => "ContainerCreating",
            Self::PodInitializing => "PodInitializing",
            Self::PodFailed(reason) | Self::OtherWaiting(reason) => reason,
            Self::PhaseUnknown => "Unknown",
            Self::Unschedulable => "Unschedulable",
            Self::NotScheduled => "NotScheduled",
            Self::NotStarted => "NotStarted",
            Self::OomKilled => "OOMKilled",
            Self::Crashed => "Crashed",
            Self::RestartingOften => "RestartingOften",
            Self::NotReady => "NotReady",
            Self::ReadinessGatePending => "ReadinessGatePending",
            Self::StuckTerminating => "StuckTerminating",
        }
    }

    /// How bad a pod with this reason can be: known from the reason alone.
    #[must_use]
    pub fn at_worst(&self) -> Severity {
        severity(self, false)
    }
}

impl std::fmt::Display for FailingReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FailingReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How much a failing pod matters, for order. The last is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It serves again, or nothing depends on it any more.
    Low,
    /// It does not serve and may still recover.
    Medium,
    /// It does not serve and will not by itself.
    High,
}

/// The verdict on one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    pub reason: FailingReason,
    pub since: Timestamp,
    /// The cluster's own words, if it has any.
    pub message: Option<String>,
    /// The container at fault.
    pub container: Option<String>,
    /// Of the container at fault, else of the whole pod.
    pub restarts: u32,
    pub severity: Severity,
}

/// The verdict on `pod`; nothing if it is not failing. Where several reasons hold, the one that
/// explains most: a crash before the unreadiness that follows from it.
#[must_use]
pub fn failing(pod: &PodRecord, now: Timestamp, thresholds: &Thresholds) -> Option<Failing> {
    let mut verdict = verdict(pod, now, thresholds)?;
    // A kubelet's clock may run ahead of ours.
    verdict.since = verdict.since.min(now);
    Some(verdict)
}

fn verdict(pod: &PodRecord, now: Timestamp, thresholds: &Thresholds) -> Option<Failing> {
    if pod.deletion_timestamp.is_some() {
        // Killed containers and lost readiness are what a deletion looks like.
        return stuck_terminating(pod, now, thresholds);
    }
    match pod.phase {
        PodPhase::Succeeded => return None,
        PodPhase::Failed => return pod_failed(pod),
        PodPhase::Unknown => {
            let since = pod.ready_changed_at().unwrap_or(pod.created_at);
            let message = pod.message.clone();
            return Some(of_pod(pod, FailingReason::PhaseUnknown, since, message));
        }
        PodPhase::Pending | PodPhase::Running => {}
    }
    if !pod.scheduling_gates.is_empty() || completed(pod) {
        return None;
    }
    bad_waiting(pod)
        .or_else(|| unschedulable(pod, now, thresholds))
        .or_else(|| bad_exit(pod, now, thresholds))
        .or_else(|| restarting_often(pod, now, thresholds))
        .or_else(|| stuck_starting(pod, now, thresholds))
        .or_else(|| not_started(pod, now, thresholds))
        .or_else(|| not_ready(pod, now, thresholds))
}

/// Held back on purpose by a scheduling gate: not failing, to be listed apart.
#[must_use]
pub fn scheduling_gated(pod: &PodRecord) -> bool {
    pod.deletion_timestamp.is_none()
        && pod.phase == PodPhase::Pending
        && !pod.scheduling_gates.is_empty()
}

/// All app containers ended well and none will be started again; the phase follows soon.
fn completed(pod: &PodRecord) -> bool {
    let said_so = pod
        .condition("Ready")
        .is_some_and(|ready| ready.reason.as_deref() == Some("PodCompleted"));
    let mut apps = pod
        .containers
        .iter()
        .filter(|c| c.kind == ContainerKind::App)
        .peekable();
    let ended_well = apps.peek().is_some() && apps.all(|c| done_for_good(pod, c));
    said_so || ended_well
}

/// Ended well, and not to be started again.
fn done_for_good(pod: &PodRecord, container: &ContainerRecord) -> bool {
    let ended_well = matches!(
        &container.state, Some(ContainerState::Terminated(end)) if end.exit_code == 0
    );
    ended_well && pod.restart_policy != RestartPolicy::Always
}

/// The API server sets `deletionTimestamp` to the time of the request plus the grace, so that it is
/// the instant by which the pod should be gone (docs/decisions/0003).
fn stuck_terminating(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    // The time of the request plus the grace: the API server has added it.
    let due = pod.deletion_timestamp?;
    let overdue = now.duration_since(due) > limits.slack;
    overdue.then(|| {
        let message = (!pod.finalizers.is_empty())
            .then(|| format!("waiting for finalizers: {}", pod.finalizers.join(", ")));
        of_pod(pod, FailingReason::StuckTerminating, due, message)
    })
}

fn pod_failed(pod: &PodRecord) -> Option<Failing> {
    // The Job tries again, has succeeded with another pod, or is held on purpose.
    let excused = |job: &JobState| job.retrying || job.complete || job.suspended;
    if pod.job.as_ref().is_some_and(excused) {
        return None;
    }
    let ended = pod.containers.iter().filter_map(|c| match &c.state {
        Some(ContainerState::Terminated(end)) => end.finished_at,
        _ => None,
    });
    let since = ended
        .max()
        .or(pod.ready_changed_at())
        .unwrap_or(pod.created_at);
    let reason = pod.reason.clone().unwrap_or_else(|| "Failed".to_owned());
    let crashed = pod
        .containers
        .iter()
        .find(|c| matches!(&c.state, Some(ContainerState::Terminated(end)) if end.exit_code != 0));
    let mut failing = of_pod(
        pod,
        FailingReason::PodFailed(reason),
        since,
        pod.message.clone(),
    );
    failing.container = crashed.map(|container| container.name.clone());
    Some(failing)
}

/// Waiting reasons that do not pass by themselves, the most telling first.
const BAD_WAITING: [FailingReason; 7] = [
    FailingReason::CrashLoopBackOff,
    FailingReason::RunContainerError,
    FailingReason::CreateContainerConfigError,
    FailingReason::CreateContainerError,
    FailingReason::InvalidImageName,
    FailingReason::ErrImagePull,
    FailingReason::ImagePullBackOff,
];

fn waiting(container: &ContainerRecord) -> Option<(&str, Option<&String>)> {
    match container.state.as_ref()? {
        ContainerState::Waiting {
            reason: Some(reason),
            message,
        } => Some((reason, message.as_ref())),
        _ => None,
    }
}

fn bad_waiting(pod: &PodRecord) -> Option<Failing> {
    BAD_WAITING.into_iter().find_map(|reason| {
        let container = pod
            .containers
            .iter()
            .find(|c| waiting(c).is_some_and(|(waits_for, _)| waits_for == reason.as_str()))?;
        let not_ready_since = pod
            .condition("Ready")
            .filter(|ready| ready.status == ConditionStatus::False)
            .and_then(|ready| ready.last_transition_at);
        let last_end = container
            .last_terminated
            .as_ref()
            .and_then(|end| end.finished_at);
        let since = not_ready_since.or(last_end).unwrap_or(pod.created_at);
        let message = waiting(container).and_then(|(_, message)| message.cloned());
        Some(of_container(pod, container, reason, since, message))
    })
}

fn unschedulable(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    if pod.phase != PodPhase::Pending {
        return None;
    }
    let scheduled = pod.condition("PodScheduled");
    let (reason, since, message) = match scheduled {
        Some(no) if no.status == ConditionStatus::False => {
            let since = no.last_transition_at.unwrap_or(pod.created_at);
            (FailingReason::Unschedulable, since, no.message.clone())
        }
        None if pod.node.is_none() => (FailingReason::NotScheduled, pod.created_at, None),
        _ => return None,
    };
    let waited = now.duration_since(since);
    (waited > limits.stuck_after).then(|| of_pod(pod, reason, since, message))
}

/// How this container last ended, if that was bad. A debug container that ends with an error is
/// nobody's problem.
fn last_bad_end(container: &ContainerRecord) -> Option<&Terminated> {
    let current = match &container.state {
        Some(ContainerState::Terminated(end)) if container.kind != ContainerKind::Ephemeral => {
            Some(end)
        }
        _ => None,
    };
    current
        .into_iter()
        .chain(&container.last_terminated)
        .find(|end| end.exit_code != 0 || end.reason.as_deref() == Some("OOMKilled"))
}

fn bad_exit(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    let (at, container, end) = pod
        .containers
        .iter()
        .filter_map(|container| {
            let end = last_bad_end(container)?;
            Some((end.finished_at?, container, end))
        })
        .filter(|(at, _, _)| now.duration_since(*at) <= limits.recent)
        .max_by_key(|(at, _, _)| *at)?;
    let oom = end.reason.as_deref() == Some("OOMKilled");
    let reason = if oom {
        FailingReason::OomKilled
    } else {
        FailingReason::Crashed
    };
    let message = end
        .message
        .clone()
        .or_else(|| Some(exit_text(end).into_owned()));
    Some(of_container(pod, container, reason, at, message))
}

/// `exit code 1 (Error)`.
pub(super) fn exit_text(end: &Terminated) -> Cow<'static, str> {
    match (&end.reason, end.signal) {
        (Some(reason), _) => format!("exit code {} ({reason})", end.exit_code).into(),
        (None, Some(signal)) => format!("signal {signal}").into(),
        (None, None) => format!("exit code {}", end.exit_code).into(),
    }
}

fn restarting_often(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    pod.containers
        .iter()
        .filter(|container| container.restart_count >= limits.restarts)
        .filter_map(|container| {
            let ended = container
                .last_terminated
                .as_ref()
                .and_then(|end| end.finished_at);
            // Where the last end is not told, the present run began with a restart.
            let at = ended.or(match &container.state {
                Some(ContainerState::Running { since }) => *since,
                _ => None,
            })?;
            (now.duration_since(at) <= limits.recent).then_some((at, container))
        })
        .max_by_key(|(_, container)| container.restart_count)
        .map(|(at, container)| {
            of_container(pod, container, FailingReason::RestartingOften, at, None)
        })
}

fn stuck_starting(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    let changed = |kind: &str| pod.condition(kind).and_then(|c| c.last_transition_at);
    let (container, reason) = pod.containers.iter().find_map(|container| {
        let reason = match waiting(container)?.0 {
            "ContainerCreating" => FailingReason::ContainerCreating,
            "PodInitializing" => FailingReason::PodInitializing,
            other => FailingReason::OtherWaiting(other.to_owned()),
        };
        Some((container, reason))
    })?;
    // A waiting state carries no time: it cannot be older than the step before it.
    let last_end = container
        .last_terminated
        .as_ref()
        .and_then(|end| end.finished_at);
    let since = [
        pod.start_time,
        changed("PodScheduled"),
        changed("Initialized"),
        last_end,
    ]
    .into_iter()
    .flatten()
    .max()
    .unwrap_or(pod.created_at);
    if now.duration_since(since) <= limits.stuck_after {
        return None;
    }
    let message = waiting(container)
        .and_then(|(_, message)| message.cloned())
        .or_else(|| {
            let init = pod.containers.iter().find(|c| {
                c.kind == ContainerKind::Init
                    && matches!(c.state, Some(ContainerState::Running { .. }))
            })?;
            Some(format!("init container {} is still running", init.name))
        });
    Some(of_container(pod, container, reason, since, message))
}

/// A pod that was given to a node an age ago, of which no kubelet has told anything.
fn not_started(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    let silent = pod.phase == PodPhase::Pending
        && pod.node.is_some()
        && pod
            .containers
            .iter()
            .all(|container| container.state.is_none());
    let scheduled = pod
        .condition("PodScheduled")
        .and_then(|c| c.last_transition_at);
    let since = scheduled.max(pod.start_time).unwrap_or(pod.created_at);
    (silent && now.duration_since(since) > limits.stuck_after)
        .then(|| of_pod(pod, FailingReason::NotStarted, since, None))
}

fn not_ready(pod: &PodRecord, now: Timestamp, limits: &Thresholds) -> Option<Failing> {
    let ready = pod
        .condition("Ready")
        .filter(|ready| pod.phase == PodPhase::Running && ready.status == ConditionStatus::False)?;
    let since = ready.last_transition_at?;
    if now.duration_since(since) <= limits.stuck_after {
        return None;
    }
    let containers_ready = pod
        .condition("ContainersReady")
        .is_some_and(|containers| containers.status == ConditionStatus::True);
    if containers_ready && !pod.readiness_gates.is_empty() {
        let open = pod.open_readiness_gates();
        let message = format!("containers are ready; waiting for {}", open.join(", "));
        return Some(of_pod(
            pod,
            FailingReason::ReadinessGatePending,
            since,
            Some(message),
        ));
    }
    let mut unready = pod.containers.iter().filter(|container| {
        matches!(container.kind, ContainerKind::App | ContainerKind::Sidecar) && !container.ready
    });
    let (done, unready): (Vec<_>, Vec<_>) = unready.by_ref().partition(|c| done_for_good(pod, c));
    if unready.is_empty() && !done.is_empty() {
        // One of several containers of a task has ended well; the others work on.
        return None;
    }
    let unready = unready.first().copied();
    let message = ready.message.clone();
    Some(match unready {
        Some(container) => of_container(pod, container, FailingReason::NotReady, since, message),
        None => of_pod(pod, FailingReason::NotReady, since, message),
    })
}

fn of_pod(
    pod: &PodRecord,
    reason: FailingReason,
    since: Timestamp,
    message: Option<String>,
) -> Failing {
    let severity = severity(&reason, pod.ready());
    Failing {
        reason,
        since,
        message,
        container: None,
        restarts: pod.restarts(),
        severity,
    }
}

fn of_container(
    pod: &PodRecord,
    container: &ContainerRecord,
    reason: FailingReason,
    since: Timestamp,
    message: Option<String>,
) -> Failing {
    Failing {
        container: Some(container.name.clone()),
        restarts: container.restart_count,
        ..of_pod(pod, reason, since, message)
    }
}

fn severity(reason: &FailingReason, ready: bool) -> Severity {
    use FailingReason as R;
    match reason {
        R::StuckTerminating | R::ReadinessGatePending => Severity::Low,
        R::OomKilled | R::Crashed | R::RestartingOften if ready => Severity::Low,
        R::Crashed | R::RestartingOften | R::NotReady => Severity::Medium,
        R::ContainerCreating | R::PodInitializing | R::NotStarted => Severity::Medium,
        R::PodFailed(reason) if reason == "Evicted" => Severity::Low,
        _ => Severity::High,
    }
}
