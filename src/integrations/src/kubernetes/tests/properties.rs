//! What holds for every record, whatever a kubelet claims.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq};
use proptest::proptest;

use super::*;
use crate::kubernetes::{
    ConditionRecord, ConditionStatus, ContainerKind, ContainerRecord, ContainerState,
    FailingCollector, FailingFilter, JobState, PodPhase, RestartPolicy, Situation, Terminated,
    Thresholds, diagnosis, failing,
};

/// Choices drawn from bytes; when they run out, the first choice.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.byte() % all.len()].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() > 80).then(|| make(self))
    }

    fn time(&mut self) -> Timestamp {
        let minute = |minutes: i64| now() - SignedDuration::from_mins(minutes);
        self.of(&[
            minute(0),
            minute(1),
            minute(4),
            minute(6),
            minute(30),
            minute(9000),
            minute(-3),
            minute(-9000),
            Timestamp::MIN,
            Timestamp::MAX,
        ])
    }

    fn text(&mut self) -> String {
        self.of(&[
            "",
            "OOMKilled",
            "Evicted",
            "ä\u{202e}\"|",
            "0/3 nodes are available: 1 {,",
        ])
        .to_owned()
    }

    fn end(&mut self) -> Terminated {
        Terminated {
            reason: self.maybe(Self::text),
            message: self.maybe(Self::text),
            exit_code: self.of(&[0, 1, 137, 143, i32::MAX, i32::MIN]),
            signal: self.maybe(|c| c.of(&[9, -1])),
            started_at: self.maybe(Self::time),
            finished_at: self.maybe(Self::time),
        }
    }

    fn container(&mut self, name: &str) -> ContainerRecord {
        use ContainerKind as K;
        let state = match self.byte() % 4 {
            0 => None,
            1 => Some(ContainerState::Running {
                since: self.maybe(Self::time),
            }),
            2 => Some(ContainerState::Terminated(self.end())),
            _ => Some(ContainerState::Waiting {
                reason: self.maybe(|c| {
                    c.of(&[
                        "CrashLoopBackOff",
                        "ImagePullBackOff",
                        "ContainerCreating",
                        "PodInitializing",
                        "CreateContainerConfigError",
                        "SomethingNew",
                    ])
                    .to_owned()
                }),
                message: self.maybe(Self::text),
            }),
        };
        ContainerRecord {
            name: name.to_owned(),
            image: self.text(),
            kind: self.of(&[K::App, K::Init, K::Sidecar, K::Ephemeral]),
            ready: self.of(&[true, false]),
            restart_count: self.of(&[0, 1, 5, u32::MAX]),
            state,
            last_terminated: self.maybe(Self::end),
            memory_limit: self.maybe(Self::text),
        }
    }

    fn condition(&mut self, kind: &str) -> Option<ConditionRecord> {
        use ConditionStatus as S;
        self.maybe(|c| ConditionRecord {
            kind: kind.to_owned(),
            status: c.of(&[S::True, S::False, S::Unknown]),
            reason: c.maybe(|c| c.of(&["Unschedulable", "PodCompleted", ""]).to_owned()),
            message: c.maybe(Self::text),
            last_transition_at: c.maybe(Self::time),
        })
    }

    fn pod(&mut self, name: usize) -> PodRecord {
        use PodPhase as P;
        let mut pod = super::pod(json!({}));
        pod.name = format!("pod-{name}");
        pod.namespace = self.of(&["shop", "billing"]).to_owned();
        pod.owner = self.maybe(|c| {
            let name = c.of(&["a", "b", "c"]);
            owner_ref("ReplicaSet", name)
        });
        pod.phase = self.of(&[P::Running, P::Pending, P::Failed, P::Unknown, P::Succeeded]);
        pod.created_at = self.time();
        pod.start_time = self.maybe(Self::time);
        pod.reason = self.maybe(Self::text);
        pod.message = self.maybe(Self::text);
        pod.deletion_timestamp = self.of(&[false, false, true]).then(|| self.time());
        pod.termination_grace_seconds = self.of(&[30, i64::MAX, i64::MIN]);
        pod.node = self.maybe(|_| "node-1".to_owned());
        pod.scheduling_gates = self.of(&[vec![], vec![], vec!["gate".to_owned()]]);
        pod.readiness_gates = self.of(&[vec![], vec!["gate".to_owned()]]);
        pod.restart_policy = self.of(&[
            RestartPolicy::Always,
            RestartPolicy::Never,
            RestartPolicy::OnFailure,
        ]);
        pod.job = self.maybe(|c| JobState {
            failed: 1,
            backoff_limit: 6,
            retrying: c.of(&[true, false]),
            complete: c.of(&[true, false]),
            suspended: c.of(&[true, false]),
        });
        pod.conditions = ["PodScheduled", "Ready", "ContainersReady", "Initialized"]
            .into_iter()
            .filter_map(|kind| self.condition(kind))
            .collect();
        pod.containers = ["app", "two"][..self.byte() % 3]
            .iter()
            .map(|name| self.container(name))
            .collect();
        pod
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_verdict_is_never_from_the_future_and_always_has_words(bytes in vec(any::<u8>(), 0..120)) {
        let pod = Choices(&bytes).pod(0);
        let failing = failing(&pod, now(), &Thresholds::default());
        if let Some(failing) = &failing {
            prop_assert!(failing.since <= now());
            prop_assert!(
                !pod.containers.iter().all(|c| Some(&c.name) != failing.container.as_ref())
                    || failing.container.is_none()
            );
        }
        let text = diagnosis(&Situation {
            pod: &pod,
            failing: failing.as_ref(),
            detail: None,
            owner: None,
            node: None,
            events: &[],
            now: now(),
        });
        prop_assert!(text.ends_with('.') && text.len() < 2000, "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_collector_counts_what_a_plain_count_finds(
        pods in vec(vec(any::<u8>(), 0..120), 0..40),
        limit in 1_usize..6,
    ) {
        let pods: Vec<PodRecord> =
            pods.iter().enumerate().map(|(n, bytes)| Choices(bytes).pod(n)).collect();
        let (limits, all) = (Thresholds::default(), FailingFilter::default());
        let tops: HashMap<String, OwnerRef> =
            [("a-uid".to_owned(), owner_ref("Deployment", "top")),
             ("b-uid".to_owned(), owner_ref("Deployment", "top"))].into();

        let mut plain: BTreeMap<(String, String, String), (usize, u64)> = BTreeMap::new();
        for pod in &pods {
            if let Some(verdict) = failing(pod, now(), &limits) {
                let owner = pod.owner.as_ref().map(|owner| {
                    let owner = tops.get(&owner.uid).unwrap_or(owner);
                    format!("{}/{}", owner.kind, owner.name)
                });
                let key = (pod.namespace.clone(), owner.unwrap_or_default(), verdict.reason.to_string());
                let group = plain.entry(key).or_default();
                group.0 += 1;
                group.1 += u64::from(verdict.restarts);
            }
        }

        let (mut found, mut cursor, mut names) = (BTreeMap::new(), None::<String>, BTreeSet::new());
        loop {
            let mut collector = FailingCollector::new(now(), &limits, &all);
            pods.iter().for_each(|pod| collector.see(pod));
            let page = collector.page(&tops, "", limit, cursor.as_deref()).unwrap();
            prop_assert_eq!(page.pods_seen, pods.len());
            prop_assert_eq!(page.groups_total, plain.len());
            prop_assert_eq!(page.pods_failing, plain.values().map(|(count, _)| count).sum::<usize>());
            for group in page.groups {
                let owner = group.owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
                let key = (group.namespace, owner.unwrap_or_default(), group.reason);
                let counted = (group.count, group.restarts);
                prop_assert!(group.names.contains(&group.worst.name));
                names.extend(group.names);
                prop_assert!(found.insert(key, counted).is_none(), "a group is shown twice");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let plain: BTreeMap<_, _> = plain
            .into_iter()
            .map(|(key, (count, restarts))| {
                (key, (count, u32::try_from(restarts).unwrap_or(u32::MAX)))
            })
            .collect();
        prop_assert_eq!(found, plain);
        prop_assert!(names.len() <= pods.len());
    }
}
