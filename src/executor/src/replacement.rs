//! Watching for the outcome: is the old pod gone, and is a new one of its controller Ready.
//!
//! New is what was not in the list before the write: creation times have a resolution of one
//! second and would confuse a sibling with a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign_domain::{Statement, one_line};
use countersign_integrations::kubernetes::facts::{waiting_reason, will_not_start};
use countersign_integrations::kubernetes::{KubeError, KubeReader, PodRecord};
use jiff::Timestamp;

/// A new pod that cannot start is believed to be stuck after this long: the first pull may fail
/// and the second work.
const PERSISTS: Duration = Duration::from_secs(5);

/// The old pod, as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    Gone,
    Terminating,
    /// As if nothing had happened.
    Untouched,
}

/// One look at the controller's pods.
#[derive(Debug, Clone)]
pub struct Look {
    pub old: Old,
    /// Resource version of the old pod, as long as it is there.
    pub version: Option<String>,
    /// Pods that were not there before the write.
    pub new: Vec<PodRecord>,
}

impl Look {
    /// The replacement that meets the criterion, if the old pod is gone.
    pub fn replacement(&self) -> Option<&PodRecord> {
        match self.old {
            Old::Gone => self.new.iter().find(|pod| serves(pod)),
            Old::Terminating | Old::Untouched => None,
        }
    }

    /// What is in the way, for people.
    pub fn obstacle(&self) -> String {
        let old = match self.old {
            Old::Gone => None,
            Old::Terminating => Some("the old pod is still terminating".to_owned()),
            Old::Untouched => Some("the old pod is still there".to_owned()),
        };
        let new: Vec<String> = self.new.iter().map(state_of).collect();
        let new = match new.is_empty() {
            true => "no new pod of its controller has appeared".to_owned(),
            false => new.join("; "),
        };
        one_line(&old.map_or(new.clone(), |old| format!("{old}; {new}")), 400)
    }
}

fn serves(pod: &PodRecord) -> bool {
    pod.ready() && pod.deletion_timestamp.is_none()
}

fn state_of(pod: &PodRecord) -> String {
    let waiting = pod.containers.iter().find_map(waiting_reason);
    match waiting {
        _ if serves(pod) => format!("new pod {} is Ready", pod.name),
        Some(reason) => format!("new pod {} waits: {reason}", pod.name),
        None => format!("new pod {} is {:?} and not Ready", pod.name, pod.phase),
    }
}

/// What to look for.
pub struct Search<'a> {
    pub statement: &'a Statement,
    /// UIDs of the controller's pods before the write.
    pub before: &'a BTreeSet<String>,
}

impl Search<'_> {
    /// Reads and sorts. The pod is also asked for by name: one that lost its owner is not gone.
    pub async fn look(&self, reader: &KubeReader) -> Result<Look, KubeError> {
        let Statement {
            namespace, name, ..
        } = self.statement;
        let owner = self
            .statement
            .owner()
            .map_or("", |owner| owner.uid.as_str());
        let (family, by_name) = tokio::join!(
            reader.list_pods_of_controller(namespace, owner),
            reader.get_pod(namespace, name),
        );
        let by_name = match by_name {
            Ok(pod) => Some(pod),
            Err(KubeError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(self.sort(family?, by_name.as_ref()))
    }

    fn sort(&self, family: Vec<PodRecord>, by_name: Option<&PodRecord>) -> Look {
        let uid = &self.statement.uid;
        let found = by_name
            .into_iter()
            .chain(&family)
            .find(|pod| pod.uid == *uid);
        let old = found.map_or(Old::Gone, |pod| match pod.deletion_timestamp {
            Some(_) => Old::Terminating,
            None => Old::Untouched,
        });
        let version = found.map(|pod| pod.resource_version.clone());
        let is_new = |pod: &PodRecord| pod.uid != *uid && !self.before.contains(&pod.uid);
        Look {
            old,
            version,
            new: family.into_iter().filter(is_new).collect(),
        }
    }
}

/// Remembers since when each new pod cannot start.
#[derive(Default)]
pub struct Stuck {
    since: BTreeMap<String, Instant>,
}

impl Stuck {
    /// A sentence once every new pod has been unable to start for a while.
    pub fn notice(&mut self, look: &Look, now: Instant) -> Option<String> {
        let mut all = !look.new.is_empty();
        for pod in &look.new {
            let reason = pod
                .containers
                .iter()
                .filter_map(waiting_reason)
                .find(|reason| will_not_start(reason));
            let stuck = match reason {
                Some(_) => {
                    let since = *self.since.entry(pod.uid.clone()).or_insert(now);
                    now.saturating_duration_since(since) >= PERSISTS
                }
                None => {
                    self.since.remove(&pod.uid);
                    false
                }
            };
            all &= stuck;
        }
        all.then(|| look.obstacle())
    }
}

/// How long until the next look: quick at first, when most replacements come.
pub fn pause(since: Instant) -> Duration {
    match since.elapsed() {
        early if early < Duration::from_secs(10) => Duration::from_millis(250),
        _ => Duration::from_secs(1),
    }
}

/// Whether the replacement was Ready in time, by the cluster's own clock. A look after the
/// deadline must not turn a late success into one in time.
pub fn in_time(pod: &PodRecord, deadline: Timestamp, now: Timestamp) -> bool {
    now <= deadline || pod.ready_changed_at().is_none_or(|at| at <= deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_pod::{at, pod, statement, waiting};

    fn sort(family: Vec<PodRecord>, by_name: Option<&PodRecord>) -> Look {
        let before = BTreeSet::from(["old".to_owned(), "sibling".to_owned()]);
        Search {
            statement: &statement(),
            before: &before,
        }
        .sort(family, by_name)
    }

    #[test]
    fn a_sibling_that_was_ready_all_along_is_no_replacement() {
        let look = sort(vec![pod("sibling")], None);
        assert_eq!(look.old, Old::Gone);
        assert!(look.replacement().is_none());
        let look = sort(vec![pod("sibling"), pod("new")], None);
        assert_eq!(look.replacement().unwrap().uid, "new");
    }

    #[test]
    fn while_the_old_pod_is_there_nothing_has_succeeded() {
        let mut old = pod("old");
        assert_eq!(
            sort(vec![old.clone(), pod("new")], Some(&old)).old,
            Old::Untouched
        );
        old.deletion_timestamp = Some(at("02:00"));
        let look = sort(vec![old.clone(), pod("new")], Some(&old));
        assert_eq!(look.old, Old::Terminating);
        assert!(look.replacement().is_none());
        // It lost its owner, so the list does not have it; by name it is still there.
        assert_eq!(sort(vec![pod("new")], Some(&old)).old, Old::Terminating);
    }

    #[test]
    fn a_new_pod_that_is_leaving_does_not_serve() {
        let mut new = pod("new");
        new.deletion_timestamp = Some(at("02:00"));
        assert!(sort(vec![new], None).replacement().is_none());
        assert!(
            sort(vec![waiting("new", "CrashLoopBackOff")], None)
                .replacement()
                .is_none()
        );
    }

    #[test]
    fn given_up_early_only_when_every_new_pod_stays_unable_to_start() {
        let now = Instant::now();
        let later = now + PERSISTS;
        let bad = sort(vec![waiting("new", "ErrImagePull")], None);
        let mut stuck = Stuck::default();
        assert_eq!(stuck.notice(&bad, now), None);
        assert!(stuck.notice(&bad, later).unwrap().contains("ErrImagePull"));
        // One pull failed, the next one worked.
        let mut stuck = Stuck::default();
        stuck.notice(&bad, now);
        let creating = sort(vec![waiting("new", "ContainerCreating")], None);
        assert_eq!(stuck.notice(&creating, now), None);
        assert_eq!(stuck.notice(&bad, later), None);
        // Another new pod may still make it.
        let two = sort(
            vec![waiting("new", "ErrImagePull"), waiting("b", "x")],
            None,
        );
        let mut stuck = Stuck::default();
        stuck.notice(&two, now);
        assert_eq!(stuck.notice(&two, later), None);
        assert_eq!(Stuck::default().notice(&sort(vec![], None), later), None);
    }

    #[test]
    fn a_late_look_does_not_make_a_late_success_one_in_time() {
        let new = pod("new"); // Ready since 02:01:00
        assert!(in_time(&new, at("01:30"), at("01:10")));
        assert!(in_time(&new, at("01:30"), at("09:00")));
        assert!(!in_time(&new, at("00:30"), at("09:00")));
    }
}
