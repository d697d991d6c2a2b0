//! What is said about a pod, key by key, from records alone: in the executor's signed statement and
//! in the server's look of now, so that the two differ only where the pod does.
//!
//! Enforces nothing, reads nothing, and leaves out what could not be read.

use std::collections::BTreeMap;

use countersign_domain::one_line;
use jiff::Timestamp;

use super::diagnosis::ago;
use super::eviction_preview::{EvictionPreview, eviction_preview, restartable};
use super::failing::{Thresholds, failing};
use super::records::{
    ContainerKind, ContainerRecord, ContainerState, OwnerLookup, PdbRecord, PodRecord, Terminated,
};

/// Longest value of one fact, in characters.
pub const LONGEST_FACT: usize = 300;

/// What was read. `None` is what could not be read; facts that need it are left out.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub pod: &'a PodRecord,
    pub owner: Option<&'a OwnerLookup>,
    /// All pods of the controller, this one included.
    pub family: Option<&'a [PodRecord]>,
    /// All budgets of the namespace.
    pub pdbs: Option<&'a [PdbRecord]>,
}

/// The facts for people: `phase`, `ready`, `restarts`, `reason`, `since`, `last exit`, `owner`,
/// `siblings`, `node`, `budget`, `warnings`. Each on one line, at most [`LONGEST_FACT`] long.
/// `since` and `last exit` say how long ago that was at `now`.
///
/// A pod counts as failing here by the thresholds of the definition, not by those that an operator
/// set for the read tools: the executor does not know these, and both sides must judge alike.
#[must_use]
pub fn pod_facts(observed: &Observed<'_>, now: Timestamp) -> BTreeMap<String, String> {
    let Observed {
        pod,
        owner,
        family,
        pdbs,
    } = *observed;
    let mut facts = BTreeMap::new();
    let mut say = |key: &str, value: String| {
        if !value.is_empty() {
            facts.insert(key.to_owned(), one_line(&value, LONGEST_FACT));
        }
    };
    let (ready, containers) = pod.ready_containers();
    let is_ready = if pod.ready() { "yes" } else { "no" };
    say("phase", format!("{:?}", pod.phase));
    say(
        "ready",
        format!("{is_ready}, {ready} of {containers} containers"),
    );
    say("restarts", pod.restarts().to_string());
    if let Some(failing) = failing(pod, now, &Thresholds::default()) {
        say("reason", failing.reason.to_string());
        say("since", at(failing.since, now));
    } else if let Some(since) = pod.ready_changed_at() {
        say("since", at(since, now));
    }
    if let Some(ended) = last_exit(pod) {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        let when = ended
            .finished_at
            .map_or(String::new(), |then| format!(", {}", at(then, now)));
        say(
            "last exit",
            format!("{reason}, code {}{when}", ended.exit_code),
        );
    }
    say(
        "node",
        pod.node.clone().unwrap_or_else(|| "none yet".to_owned()),
    );
    if let Some(family) = family {
        say("siblings", siblings(family));
    }
    if let Some(owner) = owner {
        say("owner", owner_text(owner));
        if let Some(pdbs) = pdbs {
            say("budget", budget_text(pod, owner, pdbs));
        }
        let warnings = restartable(pod, owner).unwrap_or_default();
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        say("warnings", warnings.join("; "));
    }
    facts
}

/// When a container last ended with an error, or since when the pod is held up by one that cannot
/// start. Debug containers do not count.
#[must_use]
pub fn last_failure(pod: &PodRecord) -> Option<Timestamp> {
    let ended = serving(pod)
        .flat_map(ends)
        .filter(|ended| is_error(ended))
        .filter_map(|ended| ended.finished_at)
        .max();
    let stuck = serving(pod)
        .any(|container| waiting_reason(container).is_some_and(cannot_start))
        .then(|| pod.ready_changed_at())
        .flatten();
    ended.max(stuck)
}

/// Why a container waits.
#[must_use]
pub fn waiting_reason(container: &ContainerRecord) -> Option<&str> {
    match &container.state {
        Some(ContainerState::Waiting { reason, .. }) => reason.as_deref(),
        _ => None,
    }
}

/// Waiting reasons that no further try of the kubelet will mend soon.
#[must_use]
pub fn will_not_start(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "CreateContainerConfigError"
            | "CreateContainerError"
    )
}

/// Waiting reasons that mean that it does not get going.
fn cannot_start(reason: &str) -> bool {
    reason == "CrashLoopBackOff" || reason == "RunContainerError" || will_not_start(reason)
}

fn last_exit(pod: &PodRecord) -> Option<&Terminated> {
    serving(pod)
        .flat_map(ends)
        .max_by_key(|ended| (is_error(ended), ended.finished_at))
}

/// Debug containers say nothing about the pod's health.
fn serving(pod: &PodRecord) -> impl Iterator<Item = &ContainerRecord> {
    pod.containers
        .iter()
        .filter(|container| container.kind != ContainerKind::Ephemeral)
}

fn ends(container: &ContainerRecord) -> impl Iterator<Item = &Terminated> {
    let now = match &container.state {
        Some(ContainerState::Terminated(ended)) => Some(ended),
        _ => None,
    };
    now.into_iter().chain(container.last_terminated.as_ref())
}

fn is_error(ended: &Terminated) -> bool {
    ended.exit_code != 0 || ended.reason.as_deref() == Some("OOMKilled")
}

fn siblings(family: &[PodRecord]) -> String {
    let ready = family.iter().filter(|pod| pod.ready()).count();
    format!("{ready} of {} ready, this pod included", family.len())
}

fn owner_text(owner: &OwnerLookup) -> String {
    match owner {
        OwnerLookup::NoController => "none".to_owned(),
        OwnerLookup::Found(chain) => {
            let own = format!("{} {}", chain.controller.kind, chain.controller.name);
            match chain.top.uid == chain.controller.uid {
                true => own,
                false => format!("{own} of {} {}", chain.top.kind, chain.top.name),
            }
        }
        OwnerLookup::Gone { owner } => format!("{} {}, which is gone", owner.kind, owner.name),
        OwnerLookup::Unverified { owner } => {
            format!("{} {}, which could not be read", owner.kind, owner.name)
        }
    }
}

fn budget_text(pod: &PodRecord, owner: &OwnerLookup, pdbs: &[PdbRecord]) -> String {
    let numbers = |name: &str| {
        pdbs.iter().find(|pdb| pdb.name == name).map_or_else(
            || name.to_owned(),
            |pdb| {
                format!(
                    "{name}: {} healthy of {}, needs {}",
                    pdb.current_healthy, pdb.expected_pods, pdb.desired_healthy
                )
            },
        )
    };
    match eviction_preview(pod, owner, pdbs) {
        EvictionPreview::Allowed { pdb: None } => "none".to_owned(),
        EvictionPreview::Allowed { pdb: Some(name) } => format!("{}: room", numbers(&name)),
        EvictionPreview::AllowedBypass { pdb, why } => match pdb {
            Some(name) => format!("{}: not in the way, {why}", numbers(&name)),
            None => why,
        },
        EvictionPreview::Blocked { pdb, why } => format!("{}: no room, {why}", numbers(&pdb)),
        EvictionPreview::TwoBudgets { pdbs } => {
            format!(
                "{} select this pod, and the API then refuses evictions",
                pdbs.join(" and ")
            )
        }
        EvictionPreview::NotRestartable { reason } => reason.to_string(),
    }
}

fn at(then: Timestamp, now: Timestamp) -> String {
    format!("{then} ({} ago)", ago(then, now))
}
