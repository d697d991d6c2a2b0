//! Containers that are not there yet: configuration, volumes, sandboxes, init containers.

use super::words::{anything_between, between, count, is_name, lower, named, quote};
use super::{Cause, Situation};
use crate::kubernetes::failing::Failing;
use crate::kubernetes::records::{ContainerKind, ContainerRecord, ContainerState};

pub(super) fn config_error(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let start = format!(
        "{} has not been created for {}",
        named(container),
        situation.ago(failing.since)
    );
    let Some(message) = &failing.message else {
        return Cause::unexplained(format!(
            "{start}: something it is configured with is missing"
        ));
    };
    Cause::explained(match missing(message, &situation.pod.namespace) {
        Some(missing) => {
            format!("{start}: {missing}. It starts by itself once that is put right")
        }
        None => format!("{start}: {}", quote(message)),
    })
}

/// Which object or key a message misses; names only, as the API gives them.
fn missing(message: &str, namespace: &str) -> Option<String> {
    for (kind, word) in [("Secret", "secret"), ("ConfigMap", "configmap")] {
        let name = between(message, &format!("{word} \""), "\"");
        if let Some(name) = name.filter(|_| message.contains("not found")) {
            return Some(format!(
                "{kind} {name} does not exist in namespace {namespace}"
            ));
        }
        let holder = between(message, &format!(" in {kind} "), " ");
        if let (Some(key), Some(holder)) = (between(message, "find key ", " in "), holder) {
            let name = holder.rsplit('/').next().unwrap_or(holder);
            return Some(format!("{kind} {name} has no key {key}"));
        }
    }
    if let Some(key) = between(message, "references non-existent secret key: ", " ") {
        return Some(format!("its Secret has no key {key}"));
    }
    if let Some(key) = between(message, "references non-existent config key: ", " ") {
        return Some(format!("its ConfigMap has no key {key}"));
    }
    if message.contains("image will run as root") {
        return Some(
            "its securityContext demands runAsNonRoot, and the image runs as root".to_owned(),
        );
    }
    message.contains("non-numeric user").then(|| {
        "its securityContext demands runAsNonRoot, and the image names its user instead of \
         numbering it: set runAsUser"
            .to_owned()
    })
}

pub(super) fn not_created(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let start = format!(
        "The runtime of {} cannot start {}",
        situation.node_name(),
        lower(&named(container))
    );
    let Some(message) = &failing.message else {
        return Cause::unexplained(format!("{start} ({})", failing.reason));
    };
    let because = if message.contains("executable file not found")
        || message.contains("no such file or directory")
    {
        match anything_between(message, "exec: \"", "\"") {
            // A command is part of the spec and may carry a secret; its first word does not.
            Some(command) => format!(
                "the command {} is not in the image",
                quote(command.split_whitespace().next().unwrap_or(command))
            ),
            None => format!("a file is missing in the image: {}", quote(message)),
        }
    } else if message.contains("permission denied") {
        "the command is not executable (permission denied)".to_owned()
    } else if message.contains("exec format error") {
        "the image is for another processor architecture (exec format error)".to_owned()
    } else {
        quote(message)
    };
    Cause::explained(format!("{start}: {because}"))
}

pub(super) fn creating(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let start = format!(
        "{} has been in ContainerCreating for {}",
        named(container),
        situation.ago(failing.since)
    );
    let trouble = situation.event(&[
        "FailedMount",
        "FailedAttachVolume",
        "FailedMapVolume",
        "FailedCreatePodSandBox",
        "FailedCreatePodContainer",
        "NetworkNotReady",
    ]);
    if let Some(event) = trouble {
        let times = count(event.count, "time");
        let seen = situation.ago(event.last_seen);
        let what = match event.reason.as_str() {
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => {
                volume_trouble(&event.message, &situation.pod.namespace)
            }
            _ => format!(
                "its sandbox or network cannot be set up: {}",
                quote(&event.message)
            ),
        };
        return Cause::explained(format!("{start}: {what} ({times}, last {seen} ago)"));
    }
    if let Some(pulling) = pulling(situation) {
        return Cause::explained(format!("{start}: {pulling}"));
    }
    match &failing.message {
        Some(message) => Cause::explained(format!("{start}: {}", quote(message))),
        None => Cause::unexplained(format!("{start}, and no event says why")),
    }
}

fn volume_trouble(message: &str, namespace: &str) -> String {
    let volume = between(message, "for volume \"", "\"");
    let named = volume.map_or_else(|| "a volume".to_owned(), |name| format!("volume {name}"));
    if let Some(missing) = missing(message, namespace) {
        return format!("{named} cannot be mounted: {missing}");
    }
    if message.contains("Multi-Attach") {
        let by = between(message, "used by pod(s) ", " ")
            .map(|pod| format!(", by pod {pod}"))
            .unwrap_or_default();
        return format!("{named} is still attached to another node{by}");
    }
    if let Some(volumes) = anything_between(message, "unmounted volumes=[", "]") {
        let volumes = volumes.replace(' ', ", ");
        return match is_name(&volumes) {
            true => format!("volumes [{volumes}] do not get mounted in time"),
            false => format!("volumes do not get mounted in time: {}", quote(&volumes)),
        };
    }
    format!("{named} cannot be mounted: {}", quote(message))
}

/// The last that was heard is that an image is being pulled.
fn pulling(situation: &Situation) -> Option<String> {
    let newest = situation
        .events
        .iter()
        .max_by_key(|event| event.last_seen)?;
    let image = between(&newest.message, "Pulling image \"", "\"")
        .filter(|_| newest.reason == "Pulling")?;
    Some(format!(
        "{} has been pulling image {image} for {}",
        situation.node_name(),
        situation.ago(newest.last_seen)
    ))
}

pub(super) fn initializing(
    situation: &Situation,
    failing: &Failing,
    container: &ContainerRecord,
) -> Cause {
    let inits: Vec<&ContainerRecord> = situation
        .pod
        .containers
        .iter()
        .filter(|one| matches!(one.kind, ContainerKind::Init | ContainerKind::Sidecar))
        .collect();
    let done = inits.iter().filter(|init| is_done(init)).count();
    let Some(held_by) = inits.iter().find(|init| !is_done(init)) else {
        return creating(situation, failing, container);
    };
    let of = format!("{done} of {} init containers are done", inits.len());
    let name = named(held_by);
    let text = match &held_by.state {
        Some(ContainerState::Running { since: Some(since) }) => {
            let not_ready = match held_by.kind {
                ContainerKind::Sidecar => " without being ready",
                _ => "",
            };
            format!(
                "{name} has been running for {}{not_ready}, and the pod waits for it ({of})",
                situation.ago(*since)
            )
        }
        Some(ContainerState::Running { since: None }) => {
            format!("{name} is still running, and the pod waits for it ({of})")
        }
        Some(ContainerState::Waiting {
            reason: Some(reason),
            ..
        }) => {
            format!("{name} is in {reason}, and the pod waits for it ({of})")
        }
        _ => format!(
            "The pod has been initialising for {}, and waits for {} ({of})",
            situation.ago(failing.since),
            lower(&name)
        ),
    };
    Cause::unexplained(text)
}

/// An init container ended well, or a sidecar has started.
fn is_done(container: &ContainerRecord) -> bool {
    match (&container.state, container.kind) {
        (Some(ContainerState::Terminated(end)), _) => end.exit_code == 0,
        (Some(ContainerState::Running { .. }), ContainerKind::Sidecar) => container.ready,
        _ => false,
    }
}

pub(super) fn not_started(situation: &Situation, failing: &Failing) -> Cause {
    Cause::unexplained(format!(
        "The kubelet of {} has not reported on the pod in {}",
        situation.node_name(),
        situation.ago(failing.since)
    ))
}
