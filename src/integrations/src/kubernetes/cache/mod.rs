//! A picture of one cluster, held in memory and kept right by watches, so that a question costs no
//! request. It holds records of a few hundred bytes, never the API's objects.
//!
//! Every look says as of when it is right. It is an aid to reading and no more: what is written is
//! decided on live reads, and that something does *not* exist is said by the API alone.

mod feed;
mod packed_pod;
mod packed_workload;
mod packing;
mod shelf;
mod suspects;
mod symbols;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::{Clock, OsEntropy};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::KubeError;
use super::failing::Thresholds;
use super::grouping::FailingCollector;
use super::node::NodeLoads;
use super::owners::KINDS;
use super::reader::{KubeReader, job_of, needs_job};
use super::records::{NamespaceRecord, NodeRecord, OwnerRef, PodRecord, WorkloadRecord};
use super::workload_reads::EventList;
pub(super) use feed::Looked;
use feed::{Feed, Resource, Supply};
pub(super) use packed_pod::PodInFull;
use shelf::{Events, Plain, Pods, Workloads};

/// After a failed live read old data is given out at once for this long: nobody waits for the same
/// time-out again and again.
const SPARED: Duration = Duration::from_secs(3);

/// Which namespaces an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Namespaces(Vec<String>),
}

impl Scope {
    #[must_use]
    pub fn namespace(name: &str) -> Self {
        Self::Namespaces(vec![name.to_owned()])
    }

    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| name == namespace),
        }
    }

    /// What has to be asked for: everything at once, or one namespace after the other.
    pub(super) fn parts(&self) -> Vec<Option<&str>> {
        match self {
            Self::All => vec![None],
            Self::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        }
    }
}

/// How the cache talks to the API server.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Objects in a page of a list.
    pub page: usize,
    /// Longest life of one watch. Its orderly end vouches for what is held, so this bounds the age
    /// of an answer in a quiet cluster.
    pub watch_for: Duration,
    /// How much later than that a watch may end before it counts as frozen.
    pub grace: Duration,
    /// An answer older than this is not given while the API answers.
    pub fresh_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page: 500,
            watch_for: Duration::from_secs(40),
            grace: Duration::from_secs(10),
            fresh_for: Duration::from_secs(60),
        }
    }
}

/// See the module. Stops watching when it is dropped.
pub struct Cache {
    pods: Vec<Arc<Feed<Pods>>>,
    /// By kind, as in [`KINDS`].
    workloads: Vec<(&'static str, Vec<Arc<Feed<Workloads>>>)>,
    events: Vec<Arc<Feed<Events>>>,
    nodes: Vec<Arc<Feed<Plain<NodeRecord>>>>,
    namespaces: Vec<Arc<Feed<Plain<NamespaceRecord>>>>,
    fresh_for: SignedDuration,
    /// The last live read that failed for want of an answer.
    failure: Mutex<Option<Instant>>,
    /// Ended when this is dropped.
    _feeding: JoinSet<()>,
}

impl Cache {
    /// Begins to fill. `namespaces`: only these, where our account may not list the whole cluster.
    #[must_use]
    pub(super) fn start(
        reader: &KubeReader,
        namespaces: Option<&[String]>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let supply = Arc::new(Supply {
            reader: reader.clone(),
            clock,
            entropy: Arc::new(OsEntropy),
            settings,
            turn: Semaphore::new(1),
        });
        let parts: Vec<Option<String>> = match namespaces {
            None => vec![None],
            Some(names) => names.iter().cloned().map(Some).collect(),
        };
        let core = |plural, kind| Resource {
            group: "/api/v1",
            plural,
            kind,
        };
        let mut feeding = JoinSet::new();
        let pods = feeds(core("pods", "Pod"), &parts, &supply, &mut feeding);
        let workloads = KINDS
            .iter()
            .map(|(group, plural, kind)| {
                let resource = Resource {
                    group,
                    plural,
                    kind,
                };
                (*kind, feeds(resource, &parts, &supply, &mut feeding))
            })
            .collect();
        let events = feeds(core("events", "Event"), &parts, &supply, &mut feeding);
        let nodes = feeds(core("nodes", "Node"), &[None], &supply, &mut feeding);
        let everywhere: &[Option<String>] = match namespaces {
            None => &[None],
            // They are known by name.
            Some(_) => &[],
        };
        let namespaces = core("namespaces", "Namespace");
        let namespaces = feeds(namespaces, everywhere, &supply, &mut feeding);
        Self {
            pods,
            workloads,
            events,
            nodes,
            namespaces,
            fresh_for: SignedDuration::try_from(settings.fresh_for).unwrap_or(SignedDuration::MAX),
            failure: Mutex::new(None),
            _feeding: feeding,
        }
    }

    /// The API did not answer just now.
    pub(super) fn live_failed(&self) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = Some(Instant::now());
    }

    /// Does not say what was asked: it may have been another caller's question, about what this one
    /// must not hear of.
    pub(super) fn live_failed_lately(&self) -> Option<KubeError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        (failure.as_ref()?.elapsed() < SPARED).then(|| KubeError::Unavailable {
            problem: "it did not answer a moment ago".to_owned(),
        })
    }

    /// Every kind that our account may read was listed once.
    pub(super) fn is_filled(&self) -> bool {
        let workloads = self.workloads.iter().flat_map(|(_, feeds)| feeds);
        self.pods.iter().all(|feed| feed.is_settled())
            && workloads.into_iter().all(|feed| feed.is_settled())
            && self.events.iter().all(|feed| feed.is_settled())
            && self.nodes.iter().all(|feed| feed.is_settled())
            && self.namespaces.iter().all(|feed| feed.is_settled())
    }

    pub(super) fn pod(
        &self,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Option<Looked<PodInFull>> {
        let scope = Scope::namespace(namespace);
        let looked = self.look(&self.pods, &scope, now, |pods| pods.get(namespace, name))?;
        let mut whole = found(looked)?;
        if needs_job(&whole.data.pod) {
            let jobs = self.attach_jobs(&scope, now, [&mut whole.data.pod])?;
            whole = whole.and(&jobs);
        }
        Some(whole)
    }

    pub(super) fn pods(&self, scope: &Scope, now: Timestamp) -> Option<Looked<Vec<PodRecord>>> {
        let looked = self.look(&self.pods, scope, now, |pods| -> Vec<PodRecord> {
            let pods = pods.records(|namespace| scope.covers(namespace));
            pods.map(|whole| whole.pod).collect()
        })?;
        let mut pods = looked.map(|parts| parts.into_iter().flatten().collect::<Vec<_>>());
        if pods.data.iter().any(needs_job) {
            let of_jobs = pods.data.iter_mut().filter(|pod| needs_job(pod));
            let jobs = self.attach_jobs(scope, now, of_jobs)?;
            pods = pods.and(&jobs);
        }
        Some(pods)
    }

    pub(super) fn pod_names(&self, namespace: &str, now: Timestamp) -> Option<Looked<Vec<String>>> {
        let scope = Scope::namespace(namespace);
        let looked = self.look(&self.pods, &scope, now, |pods| {
            let shard = pods.namespaces.get(namespace);
            let names = shard.into_iter().flat_map(|shard| shard.entries.keys());
            names.map(|name| name.to_string()).collect::<Vec<_>>()
        })?;
        Some(looked.map(|parts| parts.into_iter().flatten().collect()))
    }

    /// Shows `collector` every pod that could be failing and counts the others.
    pub(super) fn collect_failing(
        &self,
        scope: &Scope,
        now: Timestamp,
        judged_at: Timestamp,
        thresholds: &Thresholds,
        collector: &mut FailingCollector<'_>,
    ) -> Option<Looked<()>> {
        let mut of_jobs = Vec::new();
        let looked = self.look(&self.pods, scope, now, |pods| {
            for (namespace, shard) in pods.shards(|namespace| scope.covers(namespace)) {
                let (mut seen_labels, mut wanted): (&[u8], bool) = (&[], false);
                let mut first = true;
                for (name, entry) in &shard.entries {
                    if entry.note.stands(judged_at, thresholds) {
                        let pod = packed_pod::unpack(namespace, name, &entry.bytes, &shard.symbols);
                        if needs_job(&pod) {
                            of_jobs.push(pod);
                        } else {
                            collector.see(&pod);
                        }
                        continue;
                    }
                    if collector.wants_all() {
                        collector.pass(1);
                        continue;
                    }
                    // Neighbours are mostly of one workload and have the same labels.
                    let labels = packed_pod::label_bytes(&entry.bytes, &shard.symbols);
                    if first || labels != seen_labels {
                        wanted = collector.wants(|| packed_pod::labels(labels, &shard.symbols));
                        (seen_labels, first) = (labels, false);
                    }
                    if wanted {
                        collector.pass(1);
                    }
                }
            }
        })?;
        let jobs = self.attach_jobs(scope, now, &mut of_jobs)?;
        of_jobs.iter().for_each(|pod| collector.see(pod));
        Some(looked.map(|_| ()).and(&jobs))
    }

    /// Shows `loads` every pod, of which one is unpacked at a time.
    pub(super) fn add_up(
        &self,
        scope: &Scope,
        now: Timestamp,
        loads: &mut NodeLoads<'_>,
    ) -> Option<Looked<()>> {
        let mut of_jobs = Vec::new();
        let looked = self.look(&self.pods, scope, now, |pods| {
            for (namespace, shard) in pods.shards(|namespace| scope.covers(namespace)) {
                for (name, entry) in &shard.entries {
                    let pod = packed_pod::unpack(namespace, name, &entry.bytes, &shard.symbols);
                    match needs_job(&pod) {
                        true => of_jobs.push(pod),
                        false => loads.see(&pod),
                    }
                }
            }
        })?;
        let jobs = self.attach_jobs(scope, now, &mut of_jobs)?;
        of_jobs.iter().for_each(|pod| loads.see(pod));
        Some(looked.map(|_| ()).and(&jobs))
    }

    /// From the UIDs of `owners` to the workloads above them. What our account may not read, or
    /// what is not there, is left out.
    pub(super) fn tops<'a>(
        &self,
        owners: impl Iterator<Item = (&'a str, &'a OwnerRef)>,
        scope: &Scope,
        now: Timestamp,
    ) -> Option<Looked<HashMap<String, OwnerRef>>> {
        let mut by_kind: HashMap<&str, Vec<(&str, &OwnerRef)>> = HashMap::new();
        for (namespace, owner) in owners {
            by_kind
                .entry(owner.kind.as_str())
                .or_default()
                .push((namespace, owner));
        }
        let mut tops: Option<Looked<HashMap<String, OwnerRef>>> = Some(Looked::certain(now));
        for kind in ["ReplicaSet", "Job"] {
            let Some(owners) = by_kind.remove(kind) else {
                continue;
            };
            let looked = self.look_where_allowed(self.of_kind(kind)?, scope, now, |shelf| {
                owners
                    .iter()
                    .filter_map(|(namespace, owner)| {
                        let record = shelf.get(namespace, &owner.name)?;
                        let top = record.owner.filter(|_| record.uid == owner.uid)?;
                        Some((owner.uid.clone(), top))
                    })
                    .collect::<Vec<_>>()
            })?;
            tops = tops.map(|tops| {
                let mut tops = tops.and(&looked);
                tops.data.extend(looked.data.into_iter().flatten());
                tops
            });
        }
        tops
    }

    /// One workload of a kind in [`KINDS`].
    pub(super) fn workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        now: Timestamp,
    ) -> Option<Looked<WorkloadRecord>> {
        let scope = Scope::namespace(namespace);
        let feeds = self.of_kind(kind)?;
        found(self.look(feeds, &scope, now, |shelf| shelf.get(namespace, name))?)
    }

    pub(super) fn workloads(
        &self,
        kind: &str,
        scope: &Scope,
        now: Timestamp,
    ) -> Option<Looked<Vec<WorkloadRecord>>> {
        let looked = self.look(self.of_kind(kind)?, scope, now, |shelf| -> Vec<_> {
            shelf.records(|namespace| scope.covers(namespace)).collect()
        })?;
        Some(looked.map(|parts| parts.into_iter().flatten().collect()))
    }

    /// Events in no useful order, and whether these are all.
    pub(super) fn events(
        &self,
        scope: &Scope,
        involved_uid: Option<&str>,
        now: Timestamp,
    ) -> Option<Looked<EventList>> {
        let looked = self.look(&self.events, scope, now, |events| {
            events.of(|namespace| scope.covers(namespace), involved_uid)
        })?;
        Some(looked.map(|parts| {
            let mut all = EventList::default();
            for part in parts {
                all.complete &= part.complete;
                all.events.extend(part.events);
            }
            all
        }))
    }

    pub(super) fn nodes(&self, now: Timestamp) -> Option<Looked<Vec<NodeRecord>>> {
        let looked = self.look(&self.nodes, &Scope::All, now, |nodes| -> Vec<NodeRecord> {
            nodes.records.values().cloned().collect()
        })?;
        Some(looked.map(|parts| parts.into_iter().flatten().collect()))
    }

    pub(super) fn node(&self, name: &str, now: Timestamp) -> Option<Looked<NodeRecord>> {
        let node = |nodes: &Plain<NodeRecord>| nodes.records.get(name).cloned();
        found(self.look(&self.nodes, &Scope::All, now, node)?)
    }

    pub(super) fn namespace_names(&self, now: Timestamp) -> Option<Looked<Vec<String>>> {
        let looked = self.look(&self.namespaces, &Scope::All, now, |all| {
            all.records.keys().cloned().collect::<Vec<_>>()
        })?;
        Some(looked.map(|parts| parts.into_iter().flatten().collect()))
    }

    fn of_kind(&self, kind: &str) -> Option<&[Arc<Feed<Workloads>>]> {
        self.workloads
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, feeds)| feeds.as_slice())
    }

    /// Gives failed pods of Jobs the state of their Job. Where our account may not read Jobs there
    /// is none, as on the live path.
    fn attach_jobs<'p>(
        &self,
        scope: &Scope,
        now: Timestamp,
        pods: impl IntoIterator<Item = &'p mut PodRecord>,
    ) -> Option<Looked<()>> {
        let mut pods = pods.into_iter().peekable();
        if pods.peek().is_none() {
            return Some(Looked::certain(now));
        }
        let mut states = HashMap::new();
        let looked = self.look_where_allowed(self.of_kind("Job")?, scope, now, |jobs| {
            for job in jobs.records(|namespace| scope.covers(namespace)) {
                if let Some(state) = job.job {
                    states.insert(job.uid, state);
                }
            }
        })?;
        for pod in pods {
            pod.job = job_of(pod, &states);
        }
        Some(looked.map(|_| ()))
    }

    /// As [`Self::look`], without the namespaces that our account may not read.
    fn look_where_allowed<S: shelf::Shelf, T>(
        &self,
        feeds: &[Arc<Feed<S>>],
        scope: &Scope,
        now: Timestamp,
        read: impl FnMut(&S) -> T,
    ) -> Option<Looked<Vec<T>>> {
        let allowed = feeds.iter().filter(|feed| !feed.is_refused());
        let allowed: Vec<_> = allowed
            .filter(|feed| feed.concerns(scope))
            .cloned()
            .collect();
        if allowed.is_empty() {
            return Some(Looked::certain(now));
        }
        self.look(&allowed, scope, now, read)
    }

    /// Asks each feed that holds a part of `scope`; nothing if one of them has not been filled.
    fn look<S: shelf::Shelf, T>(
        &self,
        feeds: &[Arc<Feed<S>>],
        scope: &Scope,
        now: Timestamp,
        mut read: impl FnMut(&S) -> T,
    ) -> Option<Looked<Vec<T>>> {
        let mut all: Option<Looked<Vec<T>>> = None;
        for feed in feeds.iter().filter(|feed| feed.concerns(scope)) {
            let one = feed.look(scope, now, self.fresh_for, &mut read)?;
            all = Some(match all {
                None => one.map(|data| vec![data]),
                Some(before) => {
                    let mut both = before.and(&one);
                    both.unreadable += one.unreadable;
                    both.data.push(one.data);
                    both
                }
            });
        }
        all
    }
}

/// A single answer; nothing where no part has one.
fn found<T>(looked: Looked<Vec<Option<T>>>) -> Option<Looked<T>> {
    let Looked {
        data,
        as_of,
        fresh,
        unreadable,
    } = looked;
    let data = data.into_iter().flatten().next()?;
    Some(Looked {
        data,
        as_of,
        fresh,
        unreadable,
    })
}

fn feeds<S: shelf::Shelf>(
    resource: Resource,
    parts: &[Option<String>],
    supply: &Arc<Supply>,
    feeding: &mut JoinSet<()>,
) -> Vec<Arc<Feed<S>>> {
    parts
        .iter()
        .map(|namespace| {
            let feed = Arc::new(Feed::new(resource, namespace.clone()));
            feeding.spawn(feed.clone().run(supply.clone()));
            feed
        })
        .collect()
}
