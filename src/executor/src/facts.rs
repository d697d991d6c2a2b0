//! From what was read to what is said: facts for people, and the live pod that `authorize` weighs.
//! Pure.

use std::collections::BTreeMap;

use countersign_domain::{Count, LivePod, OwnerRef, Predicate, one_line};
use countersign_integrations::kubernetes::{
    self as kubernetes, ContainerKind, ContainerRecord, ContainerState, EvictionPreview,
    OwnerLookup, PdbRecord, PodRecord, RestartWarning, Terminated, Thresholds, failing,
};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::Preview;

/// How far back a failure still counts for the health predicate.
pub const UNHEALTHY_WINDOW: Count = Count(600);
/// Longest value of one fact.
const CAP: usize = 300;

/// Everything that admission looked at.
pub struct Seen<'a> {
    pub pod: &'a PodRecord,
    pub owner: &'a OwnerLookup,
    /// All pods of the controller, this one included.
    pub family: &'a [PodRecord],
    pub pdbs: &'a [PdbRecord],
    pub warnings: &'a [RestartWarning],
    pub dry_run: &'a Preview,
    pub now: Timestamp,
}

/// The facts that people are shown. Enforced is only what the predicates say.
pub fn facts(seen: &Seen<'_>) -> BTreeMap<String, String> {
    let Seen {
        pod,
        owner,
        family,
        pdbs,
        warnings,
        dry_run,
        now,
    } = *seen;
    let mut facts = BTreeMap::new();
    let mut say = |key: &str, value: String| {
        if !value.is_empty() {
            facts.insert(key.to_owned(), one_line(&value, CAP));
        }
    };
    let (ready, containers) = pod.ready_containers();
    say("phase", format!("{:?}", pod.phase));
    say(
        "ready",
        format!(
            "{}, {ready} of {containers} containers",
            yes_no(pod.ready())
        ),
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
    say("owner", owner_text(owner));
    say("siblings", siblings(family));
    say(
        "node",
        pod.node.clone().unwrap_or_else(|| "none yet".to_owned()),
    );
    say("budget", budget_text(pod, owner, pdbs));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    say("warnings", warnings.join("; "));
    say(
        "dry run",
        match dry_run {
            Preview::Accepted => "accepted".to_owned(),
            Preview::OverBudget(why) => format!("would be refused now: {why}"),
            Preview::Changed(why) | Preview::Rejected(why) | Preview::Unreachable(why) => {
                format!("not accepted: {why}")
            }
        },
    );
    facts
}

/// What is checked again before the write. Health only where it is bad now: a predicate that does
/// not hold at admission could never be met.
pub fn predicates(pod: &PodRecord, owner: &OwnerRef, now: Timestamp) -> Vec<Predicate> {
    let mut predicates = vec![
        Predicate::Uid {
            uid: pod.uid.clone(),
        },
        Predicate::Owner {
            owner: owner.clone(),
        },
    ];
    let window = SignedDuration::from_secs(i64::from(UNHEALTHY_WINDOW.0));
    let failed_recently = last_failure(pod).is_some_and(|at| at + window >= now);
    if !pod.ready() || failed_recently {
        predicates.push(Predicate::Unhealthy {
            window_seconds: UNHEALTHY_WINDOW,
        });
    }
    predicates
}

/// The pod as `authorize` weighs it.
pub fn live_pod(pod: &PodRecord) -> LivePod {
    LivePod {
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        owner: pod.owner.as_ref().map(owner_ref),
        labels: pod.labels.clone(),
        ready: pod.ready(),
        last_failure_at: last_failure(pod),
        terminating: pod.deletion_timestamp.is_some(),
    }
}

pub fn owner_ref(owner: &kubernetes::OwnerRef) -> OwnerRef {
    OwnerRef {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    }
}

/// When a container last ended with an error, or since when the pod is held up by one that cannot
/// start.
fn last_failure(pod: &PodRecord) -> Option<Timestamp> {
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

/// Why a container waits.
pub fn waiting_reason(container: &ContainerRecord) -> Option<&str> {
    match &container.state {
        Some(ContainerState::Waiting { reason, .. }) => reason.as_deref(),
        _ => None,
    }
}

/// Waiting reasons that mean that it does not get going.
fn cannot_start(reason: &str) -> bool {
    reason == "CrashLoopBackOff" || reason == "RunContainerError" || will_not_start(reason)
}

/// Waiting reasons that no further try of the kubelet will mend soon.
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

fn siblings(family: &[PodRecord]) -> String {
    let ready = family.iter().filter(|pod| pod.ready()).count();
    format!("{ready} of {} ready, this pod included", family.len())
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
    match kubernetes::eviction_preview(pod, owner, pdbs) {
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
    format!("{then} ({} ago)", kubernetes::diagnosis::ago(then, now))
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use countersign_integrations::kubernetes::PodPhase;

    use super::*;
    use crate::sample_pod::{at, crashed_at, pod, waiting};

    fn is_unhealthy(pod: &PodRecord) -> bool {
        let owner = owner_ref(pod.owner.as_ref().unwrap());
        predicates(pod, &owner, at("20:00"))
            .iter()
            .any(|predicate| matches!(predicate, Predicate::Unhealthy { .. }))
    }

    #[test]
    fn bad_health_is_stated_only_where_it_holds() {
        assert!(!is_unhealthy(&pod("a")));
        assert!(is_unhealthy(&waiting("a", "CrashLoopBackOff")));
        assert!(
            is_unhealthy(&crashed_at("a", at("11:00"))),
            "Ready for a moment in a crash loop"
        );
        assert!(!is_unhealthy(&crashed_at("a", at("09:00"))));
    }

    #[test]
    fn the_last_failure_is_an_error_and_not_an_ordinary_end() {
        assert_eq!(
            live_pod(&crashed_at("a", at("11:00"))).last_failure_at,
            Some(at("11:00"))
        );
        let mut ended = crashed_at("a", at("11:00"));
        let last = ended.containers[0].last_terminated.as_mut().unwrap();
        (last.exit_code, last.reason) = (0, Some("Completed".into()));
        assert_eq!(live_pod(&ended).last_failure_at, None);
        let mut debug = crashed_at("a", at("11:00"));
        debug.containers[0].kind = ContainerKind::Ephemeral;
        assert_eq!(live_pod(&debug).last_failure_at, None);
        // Since when the pod is held up: it is not Ready since 01:00.
        let stuck = live_pod(&waiting("a", "ImagePullBackOff"));
        assert_eq!(stuck.last_failure_at, Some(at("01:00")));
    }

    #[test]
    fn facts_read_like_what_they_are() {
        let pod = crashed_at("a", at("19:00"));
        let seen = Seen {
            pod: &pod,
            owner: &OwnerLookup::Unverified {
                owner: pod.owner.clone().unwrap(),
            },
            family: &[pod.clone(), waiting("b", "CrashLoopBackOff")],
            pdbs: &[],
            warnings: &[RestartWarning::EmptyDir {
                volumes: vec!["cache".into()],
            }],
            dry_run: &Preview::OverBudget("Needs\u{202e} 2.".into()),
            now: at("20:00"),
        };
        let facts = facts(&seen);
        for (key, want) in [
            ("phase", "Running"),
            ("ready", "yes, 1 of 1 containers"),
            (
                "last exit",
                "OOMKilled, code 137, 2026-11-22T02:19:00Z (60 s ago)",
            ),
            ("siblings", "1 of 2 ready, this pod included"),
            ("owner", "ReplicaSet checkout, which could not be read"),
            ("budget", "none"),
            ("warnings", "the content of emptyDir cache is lost"),
            ("dry run", "would be refused now: Needs⟨U+202E⟩ 2."),
        ] {
            assert_eq!(facts.get(key).map(String::as_str), Some(want), "{key}");
        }
        let mut pending = pod.clone();
        pending.phase = PodPhase::Pending;
        let facts = super::facts(&Seen {
            pod: &pending,
            ..seen
        });
        assert!(facts["budget"].contains("not under any disruption budget"));
    }
}
