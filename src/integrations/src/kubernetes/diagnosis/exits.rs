//! Containers that ended: what an exit code means, and who sent the signal.

use jiff::SignedDuration;

use super::words::{ago, count, length, named, quote};
use super::{Cause, Situation};
use crate::kubernetes::events::FoldedEvent;
use crate::kubernetes::failing::Failing;
use crate::kubernetes::pod_detail::ProbeKind;
use crate::kubernetes::records::{
    ContainerKind, ContainerRecord, ContainerState, PodRecord, RestartPolicy, Terminated,
};

/// A kill is told as an event this close to the end of the container, at most.
const SAME_KILL: SignedDuration = SignedDuration::from_secs(90);

pub(super) fn crash_loop(situation: &Situation, container: &ContainerRecord) -> Cause {
    let mut text = format!(
        "{} is in CrashLoopBackOff: {}",
        named(container),
        restarts(situation, container)
    );
    if let Some(end) = last_end(container) {
        text.push_str(&format!(
            ", the last run {}",
            ending(situation, container, end)
        ));
    }
    text.push_str(beside(situation.pod, container));
    Cause::explained(text)
}

pub(super) fn crashed(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let ended = container
        .last_terminated
        .iter()
        .chain(current_end(container))
        .filter(|end| end.finished_at == Some(failing.since))
        .find(|end| is_bad(end));
    let how = ended.map_or_else(
        || format!("ended badly ({} ago)", situation.ago(failing.since)),
        |end| ending(situation, container, end),
    );
    let now = match &container.state {
        Some(ContainerState::Running { .. }) if container.ready => "it is ready again",
        Some(ContainerState::Running { .. }) => "it runs again and is not ready yet",
        _ if situation.pod.restart_policy == RestartPolicy::Never => {
            "restartPolicy Never leaves it so"
        }
        _ => "it has not been started again",
    };
    let restarts = match container.restart_count {
        0 => String::new(),
        _ => format!(", {}", restarts(situation, container)),
    };
    Cause::explained(format!("{} {how}; {now}{restarts}", named(container)))
}

pub(super) fn restarting_often(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let how = match last_end(container) {
        Some(end) => format!("the last run {}", ending(situation, container, end)),
        None => format!("the last one {} ago", situation.ago(failing.since)),
    };
    Cause::explained(format!(
        "{} keeps restarting: {}, {how}",
        named(container),
        restarts(situation, container)
    ))
}

/// `12 restarts in 2 h`: since the pod started, for nothing tells when each was.
pub(super) fn restarts(situation: &Situation, container: &ContainerRecord) -> String {
    match container.restart_count {
        0 => "no restart yet".to_owned(),
        many => format!(
            "{} in {}",
            count(many.into(), "restart"),
            situation.ago(situation.started_at())
        ),
    }
}

fn current_end(container: &ContainerRecord) -> Option<&Terminated> {
    match &container.state {
        Some(ContainerState::Terminated(end)) => Some(end),
        _ => None,
    }
}

/// The end of the newest run.
pub(super) fn last_end(container: &ContainerRecord) -> Option<&Terminated> {
    current_end(container).or(container.last_terminated.as_ref())
}

fn is_bad(end: &Terminated) -> bool {
    end.exit_code != 0 || is_oom(end)
}

fn is_oom(end: &Terminated) -> bool {
    end.reason.as_deref() == Some("OOMKilled")
}

/// How a run ended, as what follows `the last run`: with the probe that had it killed, the meaning
/// of the exit code, how long the run was, how long ago, and the container's last words.
pub(super) fn ending(
    situation: &Situation,
    container: &ContainerRecord,
    end: &Terminated,
) -> String {
    let killed = killed_by_probe(situation, container, end).filter(|_| !is_oom(end));
    let code = end.exit_code;
    let mut text = if is_oom(end) {
        out_of_memory(situation, container)
    } else if killed.is_some() {
        format!("was killed (exit code {code})")
    } else {
        match meaning(end, situation.pod.restart_policy) {
            Some(meaning) => format!("exited with code {code} ({meaning})"),
            None => format!("exited with code {code}"),
        }
    };
    if let (Some(started), Some(finished)) = (end.started_at, end.finished_at)
        && finished >= started
    {
        let lasted = length(finished.duration_since(started).as_secs());
        text.push_str(&format!(" after {lasted}"));
    }
    if let Some(finished) = end.finished_at {
        text.push_str(&format!(", {} ago", ago(finished, situation.now)));
    }
    if let Some(event) = killed {
        text.push_str(&because(situation, container, event));
    }
    if let Some(words) = &end.message {
        text.push_str(&format!(", with the words {}", quote(words)));
    }
    text
}

fn out_of_memory(situation: &Situation, container: &ContainerRecord) -> String {
    let detail = situation.detail_of(container);
    let limit = container
        .memory_limit
        .as_ref()
        .or_else(|| detail?.limits.get("memory"));
    match limit {
        Some(limit) => format!("was OOMKilled at its memory limit of {limit}"),
        None => "was OOMKilled (it has no memory limit of its own, so its node or a limit on the \
                 whole pod ran out)"
            .to_owned(),
    }
}

/// The kubelet says that it kills for a probe in an event of type Normal; `Unhealthy` alone may
/// have passed again.
fn killed_by_probe<'a>(
    situation: &Situation<'a>,
    container: &ContainerRecord,
    end: &Terminated,
) -> Option<&'a FoldedEvent> {
    let finished = end.finished_at?;
    let name = format!("Container {} failed ", container.name);
    situation.events.iter().find(|event| {
        // The kill comes first; the container then has its grace to end.
        let grace =
            SignedDuration::from_secs(situation.pod.termination_grace_seconds.clamp(0, 3600));
        let before = finished.duration_since(event.last_seen);
        event.reason == "Killing"
            && event.message.starts_with(&name)
            && event.message.contains("probe")
            && before <= SAME_KILL + grace
            && before >= -SAME_KILL
    })
}

/// `, because its liveness probe (GET :8080/healthz, ...) failed: "..."`.
fn because(situation: &Situation, container: &ContainerRecord, event: &FoldedEvent) -> String {
    let kind = match event.message.contains("startup") {
        true => ProbeKind::Startup,
        false => ProbeKind::Liveness,
    };
    let probe = situation
        .detail_of(container)
        .and_then(|detail| detail.probe(kind))
        .map(|probe| format!(" ({probe})"))
        .unwrap_or_default();
    let said = probe_failure(situation, kind)
        .map(|event| format!(": {}", quote(probe_words(event))))
        .unwrap_or_default();
    format!(", because its {} probe{probe} failed{said}", kind.as_str())
}

/// The newest event in which this kind of probe failed.
pub(super) fn probe_failure<'a>(
    situation: &Situation<'a>,
    kind: ProbeKind,
) -> Option<&'a FoldedEvent> {
    situation
        .events
        .iter()
        .filter(|event| event.reason == "Unhealthy")
        .filter(|event| {
            let message = event.message.to_ascii_lowercase();
            message.starts_with(kind.as_str())
        })
        .max_by_key(|event| event.last_seen)
}

/// What comes behind `Readiness probe failed:`.
pub(super) fn probe_words(event: &FoldedEvent) -> &str {
    let message = event.message.as_str();
    message
        .split_once(" probe failed: ")
        .or_else(|| message.split_once(" probe errored: "))
        .map_or(message, |(_, words)| words)
}

/// What an exit code stands for by the customs of shells and runtimes.
pub(super) fn meaning(end: &Terminated, policy: RestartPolicy) -> Option<&'static str> {
    if end.reason.as_deref() == Some("ContainerStatusUnknown") {
        return Some("the kubelet lost track of it, as after a restart of its node");
    }
    Some(match end.exit_code {
        0 if policy == RestartPolicy::Always => {
            "it finished by itself, and restartPolicy Always starts it again"
        }
        1 => "an error of the program: its log says which",
        2 => "wrong arguments, or the panic of a Go program",
        126 => "the command is there but cannot be executed",
        127 => "the command or a library was not found in the image",
        128 => "the runtime could not start the command",
        130 => "SIGINT: interrupted",
        134 => "SIGABRT: the program aborted itself, as after a failed assertion",
        135 => "SIGBUS: bad memory access",
        136 => "SIGFPE: a bad calculation",
        137 => {
            "SIGKILL without an OOM mark: killed from outside, as when a probe fails, the grace \
             period passes or the node lacks memory"
        }
        139 => "SIGSEGV: a segmentation fault in native code",
        143 => "SIGTERM: it was told to stop",
        255 => "-1, or the runtime could not tell",
        _ => return None,
    })
}

/// What the others do meanwhile, where that decides how bad it is.
fn beside(pod: &PodRecord, container: &ContainerRecord) -> &'static str {
    let mut apps = pod
        .containers
        .iter()
        .filter(|one| one.kind == ContainerKind::App)
        .peekable();
    let running = |one: &ContainerRecord| matches!(one.state, Some(ContainerState::Running { .. }));
    match container.kind {
        ContainerKind::Init => "; the app containers wait for it",
        ContainerKind::Sidecar if apps.peek().is_some() && apps.all(running) => {
            "; the app containers run meanwhile"
        }
        _ => "",
    }
}
