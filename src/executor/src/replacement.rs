//! Watching for the outcome: is the old pod gone, and is a new one of its controller Ready.
//!
//! New is what was not in the list before the write: creation times have a resolution of one
//! second and would confuse a sibling with a replacement. Where several pods of one workload are
//! restarted at once, each new pod counts for one action: whoever counts it says so in the cluster's
//! register first. Each takes the oldest, since a later write cannot count what stood before it. Of a
//! StatefulSet only a pod of the old one's name can take its place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign_domain::{ActionId, Statement, one_line};
use countersign_integrations::kubernetes::facts::{waiting_reason, will_not_start};
use countersign_integrations::kubernetes::{KubeError, KubeReader, PodRecord};
use jiff::Timestamp;

use crate::cluster::{Credit, Register, RegisterError};
use crate::sightings::Sightings;

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
    /// Pods that were not there before the write and do not count for another action, oldest first.
    pub new: Vec<PodRecord>,
    /// Those that do, in words.
    pub others: Vec<String>,
}

/// New pods that count for other actions: UID and action.
pub type Taken = BTreeMap<String, String>;

impl Look {
    /// The pod that would be the replacement, if the old one is gone. While an older new pod may still
    /// get Ready, a younger one is left for whoever cannot count that older one: until the time is
    /// over, when any that fits will do.
    fn candidate(&self, over: bool, fits: &dyn Fn(&PodRecord) -> bool) -> Option<&PodRecord> {
        if self.old != Old::Gone {
            return None;
        }
        let mut staying = self
            .new
            .iter()
            .filter(|pod| pod.deletion_timestamp.is_none());
        let good = |pod: &&PodRecord| serves(pod) && fits(pod);
        match over {
            true => staying.find(good),
            false => staying.find(|pod| !is_stuck(pod)).filter(good),
        }
    }

    /// The replacement that meets the criterion, and counts for this action from now on. Pods that
    /// turn out to be another's are remembered in `taken`.
    pub async fn claim(
        &mut self,
        register: &Register,
        action: ActionId,
        taken: &mut Taken,
        over: bool,
        fits: &(dyn Fn(&PodRecord) -> bool + Sync),
    ) -> Result<Option<PodRecord>, RegisterError> {
        while let Some(pod) = self.candidate(over, fits).cloned() {
            match register.credit(&pod.uid, action).await? {
                Credit::Ours => return Ok(Some(pod)),
                Credit::Anothers(holder) => {
                    taken.insert(pod.uid, holder);
                    self.leave_out(taken);
                }
            }
        }
        Ok(None)
    }

    fn leave_out(&mut self, taken: &Taken) {
        let (others, new) = std::mem::take(&mut self.new)
            .into_iter()
            .partition(|pod| taken.contains_key(&pod.uid));
        self.new = new;
        let others: Vec<PodRecord> = others;
        self.others.extend(others.iter().map(|pod| {
            let action = taken.get(&pod.uid).map_or("", String::as_str);
            format!("new pod {} replaces the one of action {action}", pod.name)
        }));
    }

    /// What is in the way, for people.
    pub fn obstacle(&self) -> String {
        let old = match self.old {
            Old::Gone => None,
            Old::Terminating => Some("the old pod is still terminating".to_owned()),
            Old::Untouched => Some("the old pod is still there".to_owned()),
        };
        let new: Vec<String> = self
            .new
            .iter()
            .map(state_of)
            .chain(self.others.iter().cloned())
            .collect();
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

/// It waits for something that no further try will mend soon.
fn is_stuck(pod: &PodRecord) -> bool {
    let mut reasons = pod.containers.iter().filter_map(waiting_reason);
    reasons.any(will_not_start)
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
    pub sightings: &'a Sightings,
}

impl Search<'_> {
    /// Reads and sorts. The pod is also asked for by name: one that lost its owner is not gone.
    pub async fn look(&self, reader: &KubeReader, taken: &Taken) -> Result<Look, KubeError> {
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
        let mut look = self.sort(family?, by_name.as_ref());
        look.leave_out(taken);
        Ok(look)
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
        // Its pods have identities: the name is the place.
        let by_place = self
            .statement
            .owner()
            .is_some_and(|owner| owner.kind == "StatefulSet");
        let is_new = |pod: &PodRecord| {
            pod.uid != *uid
                && !self.before.contains(&pod.uid)
                && (!by_place || pod.name == self.statement.name)
        };
        let mut new = self.sightings.saw(family);
        new.retain(|(_, pod)| is_new(pod));
        new.sort_by(|(a_seen, a), (b_seen, b)| {
            (a.created_at, a_seen, &a.uid).cmp(&(b.created_at, b_seen, &b.uid))
        });
        Look {
            old,
            version,
            new: new.into_iter().map(|(_, pod)| pod).collect(),
            others: Vec::new(),
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
            let stuck = match is_stuck(pod) {
                true => {
                    let since = *self.since.entry(pod.uid.clone()).or_insert(now);
                    now.saturating_duration_since(since) >= PERSISTS
                }
                false => {
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
    use countersign_domain::Predicate;

    use super::*;
    use crate::sample_pod::{at, pod, statement, waiting};

    fn sort(family: Vec<PodRecord>, by_name: Option<&PodRecord>) -> Look {
        let before = BTreeSet::from(["old".to_owned(), "sibling".to_owned()]);
        Search {
            statement: &statement(),
            before: &before,
            sightings: &Sightings::default(),
        }
        .sort(family, by_name)
    }

    fn replacement(look: &Look) -> Option<&str> {
        look.candidate(false, &|_| true).map(|pod| pod.uid.as_str())
    }

    fn replacement_at_last(look: &Look) -> Option<&str> {
        look.candidate(true, &|_| true).map(|pod| pod.uid.as_str())
    }

    #[test]
    fn a_sibling_that_was_ready_all_along_is_no_replacement() {
        let look = sort(vec![pod("sibling")], None);
        assert_eq!(look.old, Old::Gone);
        assert_eq!(replacement(&look), None);
        let look = sort(vec![pod("sibling"), pod("new")], None);
        assert_eq!(replacement(&look), Some("new"));
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
        assert_eq!(replacement_at_last(&look), None);
        // It lost its owner, so the list does not have it; by name it is still there.
        assert_eq!(sort(vec![pod("new")], Some(&old)).old, Old::Terminating);
    }

    #[test]
    fn a_new_pod_that_is_leaving_does_not_serve() {
        let mut new = pod("new");
        new.deletion_timestamp = Some(at("02:00"));
        assert_eq!(replacement_at_last(&sort(vec![new], None)), None);
        let crashing = sort(vec![waiting("new", "CrashLoopBackOff")], None);
        assert_eq!(replacement_at_last(&crashing), None);
    }

    #[test]
    fn the_oldest_new_pod_is_waited_for_until_the_time_is_over() {
        let mut younger = pod("a");
        younger.created_at = at("00:09");
        let starting = waiting("z", "ContainerCreating");
        let look = sort(vec![younger.clone(), starting], None);
        assert_eq!(replacement(&look), None);
        assert_eq!(replacement_at_last(&look), Some("a"));
        // One that will not start is not waited for.
        let broken = waiting("z", "ErrImagePull");
        assert_eq!(
            replacement(&sort(vec![younger.clone(), broken], None)),
            Some("a")
        );
        assert_eq!(replacement(&sort(vec![younger, pod("z")], None)), Some("z"));
    }

    /// Three restarts at once: the first write made `z`, which the third found there; had the first one
    /// counted what the third made, none would be left for the third.
    #[test]
    fn within_one_second_what_an_earlier_look_showed_is_older() {
        let sightings = Sightings::default();
        let (statement, nobody) = (statement(), BTreeSet::new());
        let first = Search {
            statement: &statement,
            before: &nobody,
            sightings: &sightings,
        };
        let at_the_third_write = sightings.saw(vec![pod("z")]);
        assert_eq!(at_the_third_write.len(), 1);
        let look = first.sort(vec![pod("a"), pod("z")], None);
        assert_eq!(replacement(&look), Some("z"));
    }

    #[test]
    fn a_pod_that_counts_for_another_action_is_left_out_and_named() {
        let mut look = sort(vec![pod("a"), pod("b")], None);
        look.leave_out(&Taken::from([("a".to_owned(), "action-7".to_owned())]));
        assert_eq!(replacement(&look), Some("b"));
        look.leave_out(&Taken::from([("b".to_owned(), "action-8".to_owned())]));
        assert_eq!(replacement_at_last(&look), None);
        let obstacle = look.obstacle();
        assert!(
            obstacle.contains("action-7") && obstacle.contains("action-8"),
            "{obstacle}"
        );
    }

    #[test]
    fn of_a_stateful_set_only_the_same_name_takes_the_place() {
        let mut statement = statement();
        for predicate in &mut statement.predicates {
            if let Predicate::Owner { owner } = predicate {
                owner.kind = "StatefulSet".into();
            }
        }
        let before = BTreeSet::new();
        let search = Search {
            statement: &statement,
            before: &before,
            sightings: &Sightings::default(),
        };
        let mut own = pod("new");
        own.name.clone_from(&statement.name);
        let look = search.sort(vec![pod("other"), own.clone()], Some(&own));
        assert_eq!(look.old, Old::Gone);
        assert_eq!(replacement(&look), Some("new"));
        assert_eq!(search.sort(vec![pod("other")], None).new.len(), 0);
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
