//! Failing pods of a namespace or cluster as a short answer: grouped by owner and reason, the
//! worst first, with counts that cover everything and a cursor for the rest.
//!
//! Pods are shown to a [`FailingCollector`] one at a time, so that nobody needs to hold them all:
//! it keeps a summary of each group, whatever the number of pods.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use super::failing::{
    Failing, FailingReason, Severity, Thresholds, exit_text, failing, scheduling_gated,
};
use super::page_cursor::{BadCursor, Cursor, GroupId, Place};
use super::records::{ContainerState, OwnerRef, PodRecord};
use super::selector::LabelSelector;
use crate::untrusted;

/// Names kept of one group; its count says how many there are.
const NAMES: usize = 50;
/// Names of pods that wait at a scheduling gate.
const GATED: usize = 5;
/// Groups of direct owners that are kept: about 1 kB each. Pods of further ones are counted only.
const MOST_GROUPS: usize = 10_000;
/// Of the worst pod's message, in characters.
const MESSAGE: usize = 200;

/// Which failing pods are asked for; everything by default.
#[derive(Clone, Debug, Default)]
pub struct FailingFilter {
    pub labels: Option<LabelSelector>,
    /// The reason of the verdict, or how the container at fault last ended: `OOMKilled` also
    /// finds what is in CrashLoopBackOff for it. Without regard to case.
    pub reason: Option<String>,
    /// The pod's own controller or the workload above it.
    pub owner: Option<OwnerFilter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerFilter {
    /// Any kind if nothing. Without regard to case.
    pub kind: Option<String>,
    pub name: String,
}

impl OwnerFilter {
    fn fits(&self, owner: &OwnerRef) -> bool {
        let kind = self.kind.as_ref();
        owner.name == self.name && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(&owner.kind))
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct FailingPod {
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    #[serde(flatten)]
    pub failing: Failing,
}

/// Pods of one owner that fail for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct FailingGroup {
    pub namespace: String,
    /// The workload; nothing for pods without a controller.
    pub owner: Option<OwnerRef>,
    pub reason: String,
    /// The worst of its pods'.
    pub severity: Severity,
    pub count: usize,
    /// The earliest in the group.
    pub since: Timestamp,
    /// Restarts of all its pods.
    pub restarts: u32,
    pub worst: FailingPod,
    /// Up to fifty names, the worst first.
    pub names: Vec<String>,
}

/// One page of groups. The totals cover all pages.
#[derive(Clone, Debug, Serialize)]
pub struct FailingPage {
    /// Pods that were looked at and have the labels asked for.
    pub pods_seen: usize,
    pub pods_failing: usize,
    pub groups_total: usize,
    /// Failing pods that are in no group because there are too many groups to hold. Not in
    /// `pods_failing`, as their owner was not looked at.
    pub pods_ungrouped: usize,
    /// Held back by a scheduling gate: not failing. The first five.
    pub scheduling_gated: Vec<String>,
    pub scheduling_gated_total: usize,
    pub groups: Vec<FailingGroup>,
    pub next_cursor: Option<String>,
    #[serde(skip)]
    cursor: Cursor,
}

impl FailingPage {
    /// Keeps the first `groups` groups, at least one, and puts the cursor behind them.
    pub fn keep(&mut self, groups: usize) {
        if groups.max(1) < self.groups.len() {
            self.groups.truncate(groups.max(1));
            self.next_cursor = self.cursor.behind(self.groups.iter().map(place)).encode();
        }
    }
}

/// Takes in pods one after the other; see the module.
pub struct FailingCollector<'a> {
    now: Timestamp,
    thresholds: &'a Thresholds,
    filter: &'a FailingFilter,
    groups: HashMap<DirectKey, Members>,
    seen: usize,
    ungrouped: usize,
    gated: Vec<String>,
    gated_total: usize,
}

/// What is known while pods come in: the pod's own controller, not yet the workload above it.
#[derive(PartialEq, Eq, Hash)]
struct DirectKey {
    namespace: String,
    owner: Option<OwnerRef>,
    reason: String,
}

/// The summary of a group.
struct Members {
    severity: Severity,
    count: usize,
    since: Timestamp,
    restarts: u32,
    worst: FailingPod,
    /// The worst first, at most [`NAMES`].
    names: Vec<Rank>,
}

/// How bad a pod is within its group: the least is the worst.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    severity: Reverse<Severity>,
    restarts: Reverse<u32>,
    since: Timestamp,
    name: String,
}

impl FailingPod {
    fn rank(&self) -> Rank {
        Rank {
            severity: Reverse(self.failing.severity),
            restarts: Reverse(self.failing.restarts),
            since: self.failing.since,
            name: self.name.clone(),
        }
    }
}

impl Members {
    fn of(pod: &PodRecord, mut verdict: Failing) -> Self {
        verdict.message = how_it_ended(pod, &verdict)
            .or(verdict.message)
            .map(|text| untrusted::line(&text, MESSAGE));
        let worst = FailingPod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            failing: verdict,
        };
        Self {
            severity: worst.failing.severity,
            count: 1,
            since: worst.failing.since,
            restarts: worst.failing.restarts,
            names: vec![worst.rank()],
            worst,
        }
    }

    fn merge(&mut self, other: Self) {
        self.severity = self.severity.max(other.severity);
        self.count += other.count;
        self.since = self.since.min(other.since);
        self.restarts = self.restarts.saturating_add(other.restarts);
        if other.names.first() < self.names.first() {
            self.worst = other.worst;
        }
        self.names.extend(other.names);
        self.names.sort();
        self.names.truncate(NAMES);
    }
}

impl<'a> FailingCollector<'a> {
    #[must_use]
    pub fn new(now: Timestamp, thresholds: &'a Thresholds, filter: &'a FailingFilter) -> Self {
        Self {
            now,
            thresholds,
            filter,
            groups: HashMap::new(),
            seen: 0,
            ungrouped: 0,
            gated: Vec::new(),
            gated_total: 0,
        }
    }

    /// Pods with any labels are asked for.
    pub(super) fn wants_all(&self) -> bool {
        self.filter.labels.is_none()
    }

    /// Whether a pod with these labels is asked for.
    pub(super) fn wants(&self, labels: impl FnOnce() -> BTreeMap<String, String>) -> bool {
        let selector = self.filter.labels.as_ref();
        selector.is_none_or(|selector| selector.matches(&labels()))
    }

    /// Counts pods that were looked at elsewhere: asked for, not failing, held by no gate.
    pub(super) fn pass(&mut self, pods: usize) {
        self.seen += pods;
    }

    /// Pods seen and passed.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Namespace and controller of what has been found to fail: whose workloads
    /// [`Self::page`] wants to know.
    pub(super) fn owners(&self) -> impl Iterator<Item = (&str, &OwnerRef)> {
        self.groups
            .keys()
            .filter_map(|key| Some((key.namespace.as_str(), key.owner.as_ref()?)))
    }

    /// Judges one pod. The caller shows it only pods of the namespaces that are asked for.
    pub fn see(&mut self, pod: &PodRecord) {
        let labels = self.filter.labels.as_ref();
        if labels.is_some_and(|selector| !selector.matches(&pod.labels)) {
            return;
        }
        self.seen += 1;
        if scheduling_gated(pod) {
            self.gated_total += 1;
            if self.gated.len() < GATED {
                self.gated.push(format!("{}/{}", pod.namespace, pod.name));
            }
        }
        let Some(verdict) = failing(pod, self.now, self.thresholds) else {
            return;
        };
        let reason = self.filter.reason.as_ref();
        if reason.is_some_and(|wanted| !has_reason(pod, &verdict, wanted)) {
            return;
        }
        let key = DirectKey {
            namespace: pod.namespace.clone(),
            owner: pod.owner.clone(),
            reason: verdict.reason.to_string(),
        };
        if let Some(members) = self.groups.get_mut(&key) {
            members.merge(Members::of(pod, verdict));
        } else if self.groups.len() < MOST_GROUPS {
            self.groups.insert(key, Members::of(pod, verdict));
        } else {
            self.ungrouped += 1;
        }
    }

    /// The groups of one page, at most `limit`. `tops` leads from a controller's UID to the
    /// workload above it ([`super::KubeReader::top_owners`]); it may be empty. `question` is
    /// what else the caller filtered by: a cursor is good for the same question only.
    ///
    /// The first page has the worst groups. The pages behind it have the others, by seriousness
    /// of the reason and then by name: an order that does not change with the pods. So a group
    /// that exists from the first page to the last is shown exactly once, whatever its count,
    /// age or severity does meanwhile; one that appears later may be missed, and its pods are
    /// still in the totals.
    ///
    /// # Errors
    /// A cursor that is none, or that belongs to another question.
    pub fn page(
        self,
        tops: &HashMap<String, OwnerRef>,
        question: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<FailingPage, BadCursor> {
        let question = format!("{question} {:?}", self.filter);
        let cursor = Cursor::decode(&question, cursor)?;
        let mut groups = merged(self.groups, tops, self.filter.owner.as_ref());
        let (pods_failing, groups_total) =
            (groups.iter().map(|group| group.count).sum(), groups.len());
        if cursor.is_start() {
            groups.sort_by_cached_key(|group| {
                let badness = (Reverse(group.severity), Reverse(group.count), group.since);
                (badness, place(group))
            });
        } else {
            groups.retain(|group| cursor.leads_to(&place(group)));
            groups.sort_by_cached_key(place);
        }
        let more = groups.len() > limit.max(1);
        groups.truncate(limit.max(1));
        let next_cursor = match more {
            true => cursor.behind(groups.iter().map(place)).encode(),
            false => None,
        };
        Ok(FailingPage {
            pods_seen: self.seen,
            pods_failing,
            groups_total,
            pods_ungrouped: self.ungrouped,
            scheduling_gated: self.gated,
            scheduling_gated_total: self.gated_total,
            groups,
            next_cursor,
            cursor,
        })
    }
}

/// The groups by the workloads at the top, without those that `owner` does not mean.
fn merged(
    direct: HashMap<DirectKey, Members>,
    tops: &HashMap<String, OwnerRef>,
    owner: Option<&OwnerFilter>,
) -> Vec<FailingGroup> {
    let mut merged: BTreeMap<Place, (DirectKey, Members)> = BTreeMap::new();
    for (mut key, members) in direct {
        let top = key.owner.as_ref().and_then(|owner| tops.get(&owner.uid));
        let mut controllers = key.owner.iter().chain(top);
        if owner.is_some_and(|wanted| !controllers.any(|one| wanted.fits(one))) {
            continue;
        }
        key.owner = top.cloned().or(key.owner);
        let place = place_of(
            &key.namespace,
            key.owner.as_ref(),
            &members.worst.failing,
            &key.reason,
        );
        match merged.entry(place) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert((key, members));
            }
            std::collections::btree_map::Entry::Occupied(mut held) => {
                held.get_mut().1.merge(members);
            }
        }
    }
    let group = |(key, members): (DirectKey, Members)| FailingGroup {
        namespace: key.namespace,
        owner: key.owner,
        reason: key.reason,
        severity: members.severity,
        count: members.count,
        since: members.since,
        restarts: members.restarts,
        worst: members.worst,
        names: members.names.into_iter().map(|rank| rank.name).collect(),
    };
    merged.into_values().map(group).collect()
}

fn place(group: &FailingGroup) -> Place {
    let failing = &group.worst.failing;
    place_of(
        &group.namespace,
        group.owner.as_ref(),
        failing,
        &group.reason,
    )
}

/// Where a group stands behind the first page. Nothing of it changes while the group exists: the
/// severity is what the reason alone can lead to.
fn place_of(namespace: &str, owner: Option<&OwnerRef>, failing: &Failing, reason: &str) -> Place {
    let mildness = u8::MAX - failing.reason.at_worst() as u8;
    let owner = owner.map(|owner| format!("{}/{}", owner.kind, owner.name));
    let owner = owner.unwrap_or_default();
    Place {
        mildness,
        group: GroupId(format!("{namespace} {owner} {reason}")),
    }
}

/// The message of a back-off says nothing that its reason does not: the last exit tells more.
fn how_it_ended(pod: &PodRecord, verdict: &Failing) -> Option<String> {
    let back_off = verdict.reason == FailingReason::CrashLoopBackOff;
    let mut containers = pod.containers.iter().filter(|_| back_off);
    let at_fault = containers.find(|one| Some(&one.name) == verdict.container.as_ref())?;
    let end = at_fault.last_terminated.as_ref()?;
    Some(format!("last run: {}", exit_text(end)))
}

/// The verdict's reason or how the container at fault ended.
fn has_reason(pod: &PodRecord, verdict: &Failing, wanted: &str) -> bool {
    let ended = pod
        .containers
        .iter()
        .filter(|container| Some(&container.name) == verdict.container.as_ref())
        .flat_map(|container| {
            let current = match &container.state {
                Some(ContainerState::Terminated(end)) => Some(end),
                _ => None,
            };
            current.into_iter().chain(&container.last_terminated)
        })
        .filter_map(|end| end.reason.as_deref());
    std::iter::once(verdict.reason.as_str())
        .chain(ended)
        .any(|reason| reason.eq_ignore_ascii_case(wanted))
}
