//! From what was read to what is said: facts for people, and the live pod that `authorize` weighs.
//! Pure.

use std::collections::BTreeMap;

use countersign_domain::{Count, LivePod, OwnerRef, Predicate, one_line};
use countersign_integrations::kubernetes::facts::{LONGEST_FACT, last_failure};
use countersign_integrations::kubernetes::{
    self as kubernetes, Observed, OwnerLookup, PdbRecord, PodRecord, pod_facts,
};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::Preview;

/// How far back a failure still counts for the health predicate.
pub const UNHEALTHY_WINDOW: Count = Count(600);

/// Everything that admission looked at.
pub struct Seen<'a> {
    pub pod: &'a PodRecord,
    pub owner: &'a OwnerLookup,
    /// All pods of the controller, this one included.
    pub family: &'a [PodRecord],
    pub pdbs: &'a [PdbRecord],
    pub dry_run: &'a Preview,
    pub now: Timestamp,
}

/// The facts that people are shown. Enforced is only what the predicates say.
pub fn facts(seen: &Seen<'_>) -> BTreeMap<String, String> {
    let observed = Observed {
        pod: seen.pod,
        owner: Some(seen.owner),
        family: Some(seen.family),
        pdbs: Some(seen.pdbs),
    };
    let mut facts = pod_facts(&observed, seen.now);
    let dry_run = match seen.dry_run {
        Preview::Accepted => "accepted".to_owned(),
        Preview::OverBudget(why) => format!("would be refused now: {why}"),
        Preview::Changed(why) | Preview::Rejected(why) | Preview::Unreachable(why) => {
            format!("not accepted: {why}")
        }
    };
    facts.insert("dry run".to_owned(), one_line(&dry_run, LONGEST_FACT));
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
    let failed_recently = last_failure(pod).is_some_and(|at| now.duration_since(at) <= window);
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

#[cfg(test)]
mod tests {
    use countersign_integrations::kubernetes::{ContainerKind, PodPhase};

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
        assert!(is_unhealthy(&crashed_at("a", Timestamp::MAX)));
        assert!(!is_unhealthy(&crashed_at("a", Timestamp::MIN)));
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
        let mut pod = crashed_at("a", at("19:00"));
        pod.volumes.empty_dir = vec!["cache".into()];
        let seen = Seen {
            pod: &pod,
            owner: &OwnerLookup::Unverified {
                owner: pod.owner.clone().unwrap(),
            },
            family: &[pod.clone(), waiting("b", "CrashLoopBackOff")],
            pdbs: &[],
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
            (
                "warnings",
                "ReplicaSet checkout could not be read: whether it replaces the pod is not known; \
                 the content of emptyDir cache is lost",
            ),
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
