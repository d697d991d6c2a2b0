//! What tools read through: the same questions as [`KubeReader`] answers, from the cache where one
//! is kept and right, else live, and always with the age of what was answered.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use countersign_domain::Clock;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::cache::{Cache, Looked, Scope, Settings};
use super::error::KubeError;
use super::events::newest_first;
use super::failing::Thresholds;
use super::freshness::{Freshness, ReadSource};
use super::grouping::{FailingCollector, FailingFilter};
use super::lists::{LONGEST_LIST, anew_once};
use super::node::{NodeLoad, NodeLoads};
use super::owners::{KINDS, WorkloadLookup, owner_chain};
use super::pod_detail::PodDetail;
use super::reader::KubeReader;
use super::records::{EventRecord, NodeRecord, OwnerLookup, OwnerRef, PodRecord, WorkloadRecord};
use super::workload_reads::EventList;

/// Owners that are looked up one by one; more are found in a list.
const FEW_OWNERS: usize = 20;
/// Live lists of one cluster at once: each has a page of some megabytes in memory.
const LISTS_AT_ONCE: usize = 3;
/// Longest wait for a place among them.
const TURN: Duration = Duration::from_secs(15);

/// One cluster for reading. Cheap to clone; one per cluster and process.
#[derive(Clone)]
pub struct ClusterReads {
    live: KubeReader,
    clock: Arc<dyn Clock>,
    /// A place for each live list that may be under way at once, for all callers together.
    lists: Arc<Semaphore>,
    /// Only these namespaces are read, because our account has no rights beyond them.
    namespaces: Option<Arc<[String]>>,
    cache: Option<Arc<LazyCache>>,
}

struct LazyCache {
    settings: Settings,
    started: OnceLock<Cache>,
}

/// The reads for one answer. It remembers how old they were.
pub struct Reading {
    reads: ClusterReads,
    now: Timestamp,
    /// Of the oldest read so far.
    freshness: Mutex<Option<Freshness>>,
}

impl ClusterReads {
    /// Every read goes to the API.
    #[must_use]
    pub fn live(live: KubeReader, namespaces: Option<Vec<String>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            live,
            clock,
            lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)),
            namespaces: namespaces.map(Into::into),
            cache: None,
        }
    }

    /// With a cache, which begins to fill with [`Self::start`] or the first read.
    #[must_use]
    pub fn cached(
        live: KubeReader,
        namespaces: Option<Vec<String>>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let cache = LazyCache {
            settings,
            started: OnceLock::new(),
        };
        Self {
            cache: Some(Arc::new(cache)),
            ..Self::live(live, namespaces, clock)
        }
    }

    /// Begins to fill the cache, if there is one. Needs a tokio runtime.
    pub fn start(&self) {
        self.cache();
    }

    fn cache(&self) -> Option<&Cache> {
        let cache = self.cache.as_ref()?;
        Some(cache.started.get_or_init(|| {
            let namespaces = self.namespaces.as_deref();
            Cache::start(&self.live, namespaces, self.clock.clone(), cache.settings)
        }))
    }

    /// Waits for a place among the live lists of this cluster; to be held while the list is read.
    ///
    /// # Errors
    /// [`KubeError::Busy`]
    pub async fn place_for_list(&self) -> Result<SemaphorePermit<'_>, KubeError> {
        let place = timeout(TURN, self.lists.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(KubeError::Busy)
    }

    /// The namespaces that are configured, where not all are read.
    #[must_use]
    pub fn namespaces(&self) -> Option<&[String]> {
        self.namespaces.as_deref()
    }

    /// What is left of `visible` (all, if nothing).
    #[must_use]
    pub fn scope(&self, visible: Option<&[String]>) -> Scope {
        match (self.namespaces.as_deref(), visible) {
            (None, None) => Scope::All,
            (Some(only), None) | (None, Some(only)) => Scope::Namespaces(only.to_vec()),
            (Some(configured), Some(visible)) => {
                let both = visible.iter().filter(|name| configured.contains(name));
                Scope::Namespaces(both.cloned().collect())
            }
        }
    }

    /// Begins the reads for one answer.
    #[must_use]
    pub fn begin(&self) -> Reading {
        Reading {
            reads: self.clone(),
            now: self.clock.now(),
            freshness: Mutex::new(None),
        }
    }

    /// Waits until the cache has been filled once, at most `patience`. True if it has.
    pub async fn filled(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let Some(cache) = self.cache() else {
            return true;
        };
        while !cache.is_filled() {
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

impl Reading {
    /// How old the oldest part of what was read is; of this moment if nothing was read.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let freshness = self.freshness.lock();
        let freshness = freshness.unwrap_or_else(PoisonError::into_inner).clone();
        freshness.unwrap_or(Freshness {
            as_of: self.now,
            source: ReadSource::Live,
            unreadable: 0,
        })
    }

    /// One pod. A failed pod of a Job comes with the Job's state.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<PodRecord, KubeError> {
        let held = self.ask(|cache| cache.pod(namespace, name, self.now));
        let held = held.map(|held| held.map(|whole| whole.pod));
        self.either(held, self.reads.live.get_pod(namespace, name))
            .await
    }

    /// One pod with what only a close look needs.
    pub async fn get_pod_in_detail(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(PodRecord, PodDetail), KubeError> {
        let held = self.ask(|cache| cache.pod(namespace, name, self.now));
        let held = held.map(|held| held.map(|whole| (whole.pod, whole.detail)));
        let live = self.reads.live.get_pod_in_detail(namespace, name);
        self.either(held, live).await
    }

    /// Pods of a scope in the API's order. Prefer [`Self::collect_failing`]: it holds no list.
    pub async fn list_pods(&self, scope: &Scope) -> Result<Vec<PodRecord>, KubeError> {
        let held = self.ask(|cache| cache.pods(scope, self.now));
        let live = async {
            let _place = self.reads.place_for_list().await?;
            let (mut pods, mut unreadable) = (Vec::new(), 0);
            for part in scope.parts() {
                let left = LONGEST_LIST.saturating_sub(pods.len());
                let list = self.reads.live.list_pods(part, None, left).await?;
                pods.extend(list.pods);
                unreadable += list.unreadable;
            }
            self.missing(unreadable);
            Ok(pods)
        };
        self.either(held, live).await
    }

    /// The names of the pods of a namespace.
    pub async fn pod_names(&self, namespace: &str) -> Result<Vec<String>, KubeError> {
        let held = self.ask(|cache| cache.pod_names(namespace, self.now));
        let live = async {
            let _place = self.reads.place_for_list().await?;
            let scope = Scope::namespace(namespace);
            let see = |names: &mut Vec<String>, pod: &PodRecord| names.push(pod.name.clone());
            let mut names = self.see_all(&scope, Vec::new, see).await?;
            names.sort_unstable();
            Ok(names)
        };
        self.either(held, live).await
    }

    /// All pods of `scope`, seen by a collector, and the workloads above what fails. No list of
    /// pods is held, from the cache or live.
    pub async fn collect_failing<'a>(
        &self,
        scope: &Scope,
        now: Timestamp,
        thresholds: &'a Thresholds,
        filter: &'a FailingFilter,
    ) -> Result<(FailingCollector<'a>, HashMap<String, OwnerRef>), KubeError> {
        let held = self.ask(|cache| {
            let mut collector = FailingCollector::new(now, thresholds, filter);
            let pods = cache.collect_failing(scope, self.now, now, thresholds, &mut collector)?;
            let tops = cache.tops(collector.owners(), scope, self.now)?;
            let pods = pods.and(&tops);
            Some(pods.map(|()| (collector, tops.data)))
        });
        let live = async {
            let _place = self.reads.place_for_list().await?;
            let begin = || FailingCollector::new(now, thresholds, filter);
            let collector = self.see_all(scope, begin, |all, pod| all.see(pod)).await?;
            let tops = self.tops(&collector, scope).await?;
            Ok((collector, tops))
        };
        self.either(held, live).await
    }

    /// What the pods of `scope` ask of their nodes, by the nodes' names. No list of pods is held,
    /// from the cache or live.
    pub async fn node_loads(
        &self,
        scope: &Scope,
        now: Timestamp,
        thresholds: &Thresholds,
    ) -> Result<HashMap<String, NodeLoad>, KubeError> {
        let begin = || NodeLoads::new(now, thresholds);
        let held = self.ask(|cache| {
            let mut loads = begin();
            let looked = cache.add_up(scope, self.now, &mut loads)?;
            Some(looked.map(|()| loads))
        });
        let live = async {
            let _place = self.reads.place_for_list().await?;
            self.see_all(scope, begin, |loads, pod| loads.see(pod))
                .await
        };
        Ok(self.either(held, live).await?.finish())
    }

    /// Shows every pod of `scope` to what `begin` makes, live, a page at a time.
    async fn see_all<C>(
        &self,
        scope: &Scope,
        begin: impl Fn() -> C,
        see: impl Fn(&mut C, &PodRecord),
    ) -> Result<C, KubeError> {
        let (begin, see) = (&begin, &see);
        let (seen, unreadable) = anew_once(|| async move {
            let (mut seen, mut unreadable) = (begin(), 0);
            for part in scope.parts() {
                let one = |pod: &PodRecord| see(&mut seen, pod);
                unreadable += self.reads.live.each_pod(part, one).await?;
            }
            Ok((seen, unreadable))
        })
        .await?;
        self.missing(unreadable);
        Ok(seen)
    }

    /// So many objects of a live read do not decode and are missing in the answer.
    pub fn missing(&self, unreadable: usize) {
        self.note(Freshness {
            as_of: self.now,
            source: ReadSource::Live,
            unreadable,
        });
    }

    /// Best effort, as owners only make groups larger.
    async fn tops(
        &self,
        collector: &FailingCollector<'_>,
        scope: &Scope,
    ) -> Result<HashMap<String, OwnerRef>, KubeError> {
        let mut wanted: HashMap<&str, (&str, &OwnerRef)> = HashMap::new();
        for (namespace, owner) in collector.owners() {
            if matches!(owner.kind.as_str(), "ReplicaSet" | "Job") {
                wanted.insert(&owner.uid, (namespace, owner));
            }
        }
        let live = &self.reads.live;
        let mut tops = HashMap::new();
        if wanted.len() <= FEW_OWNERS {
            for (uid, (namespace, owner)) in wanted {
                match live.get_workload(namespace, &owner.kind, &owner.name).await {
                    Ok(found) if found.uid == uid => {
                        tops.extend(found.owner.map(|top| (uid.to_owned(), top)));
                    }
                    Ok(_) | Err(KubeError::NotFound { .. } | KubeError::Forbidden { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(tops);
        }
        let kinds: HashSet<&str> = wanted
            .values()
            .map(|(_, owner)| owner.kind.as_str())
            .collect();
        for part in scope.parts() {
            let wanted = |kind: &str, uid: &str| kinds.contains(kind) && wanted.contains_key(uid);
            tops.extend(live.top_owners_if(part, wanted).await?);
        }
        Ok(tops)
    }

    /// Who controls `pod`, up to the top.
    pub async fn owner_of(&self, pod: &PodRecord) -> Result<OwnerLookup, KubeError> {
        match &pod.owner {
            None => Ok(OwnerLookup::NoController),
            Some(owner) => owner_chain(self, &pod.namespace, owner).await,
        }
    }

    /// A workload by kind and name.
    pub async fn get_workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<WorkloadRecord, KubeError> {
        let held = self.ask(|cache| cache.workload(namespace, kind, name, self.now));
        let live = self.reads.live.get_workload(namespace, kind, name);
        self.either(held, live).await
    }

    /// All Deployments, StatefulSets and DaemonSets of a scope.
    pub async fn list_workloads(&self, scope: &Scope) -> Result<Vec<WorkloadRecord>, KubeError> {
        let held = self.ask(|cache| {
            let mut all = Looked::<Vec<WorkloadRecord>>::certain(self.now);
            for (_, _, kind) in &KINDS[..3] {
                let mut one = cache.workloads(kind, scope, self.now)?;
                all = all.and(&one);
                all.data.append(&mut one.data);
            }
            Some(all)
        });
        let live = async {
            let _place = self.reads.place_for_list().await?;
            let (mut workloads, mut unreadable) = (Vec::new(), 0);
            for part in scope.parts() {
                for (_, _, kind) in &KINDS[..3] {
                    let list = self.reads.live.list_workloads(kind, part, None).await?;
                    workloads.extend(list.workloads);
                    unreadable += list.unreadable;
                }
            }
            self.missing(unreadable);
            Ok(workloads)
        };
        self.either(held, live).await
    }

    /// Events of a scope, of one object if its UID is given, newest first.
    pub async fn list_events(
        &self,
        scope: &Scope,
        involved_uid: Option<&str>,
    ) -> Result<Vec<EventRecord>, KubeError> {
        let held = self.ask(|cache| {
            let looked = cache.events(scope, involved_uid, self.now)?;
            looked.data.complete.then(|| looked.map(|list| list.events))
        });
        let live = async {
            // The events of one object are few.
            let _place = match involved_uid {
                None => Some(self.reads.place_for_list().await?),
                Some(_) => None,
            };
            let mut events = Vec::new();
            for part in scope.parts() {
                events.extend(self.reads.live.list_events(part, involved_uid).await?);
            }
            Ok(events)
        };
        let mut events = self.either(held, live).await?;
        newest_first(&mut events);
        Ok(events)
    }

    /// Events of a scope that are `wanted`, newest first, of one object where its kind and name are
    /// given. Of more than `most` the newest.
    pub async fn newest_events(
        &self,
        scope: &Scope,
        object: Option<(&str, &str)>,
        wanted: impl Fn(&EventRecord) -> bool,
        most: usize,
    ) -> Result<EventList, KubeError> {
        let asked = |event: &EventRecord| {
            let of = &event.object;
            object.is_none_or(|(kind, name)| of.kind == kind && of.name == name) && wanted(event)
        };
        let held = self.ask(|cache| {
            let mut looked = cache.events(scope, None, self.now)?;
            looked.data.events.retain(asked);
            // One namespace with more events than are held must not make all others be read live.
            let one = matches!(scope, Scope::Namespaces(names) if names.len() == 1);
            let narrow = one || object.is_some();
            (looked.data.complete || !narrow).then_some(looked)
        });
        let live = async {
            // The events of one object are few.
            let _place = match object {
                None => Some(self.reads.place_for_list().await?),
                Some(_) => None,
            };
            let mut all = EventList::default();
            for part in scope.parts() {
                let list = self.reads.live.newest_events(part, object, &wanted, most);
                let list = list.await?;
                all.complete &= list.complete;
                all.unreadable += list.unreadable;
                all.events.extend(list.events);
            }
            self.missing(all.unreadable);
            Ok(all)
        };
        let mut list = self.either(held, live).await?;
        list.cut(most);
        Ok(list)
    }

    pub async fn list_nodes(&self) -> Result<Vec<NodeRecord>, KubeError> {
        let held = self.ask(|cache| cache.nodes(self.now));
        self.either(held, self.reads.live.list_nodes()).await
    }

    pub async fn get_node(&self, name: &str) -> Result<NodeRecord, KubeError> {
        let held = self.ask(|cache| cache.node(name, self.now));
        self.either(held, self.reads.live.get_node(name)).await
    }

    /// The namespaces that we read: of the cluster, or as configured.
    pub async fn namespace_names(&self) -> Result<Vec<String>, KubeError> {
        if let Some(configured) = self.reads.namespaces() {
            return Ok(configured.to_vec());
        }
        let held = self.ask(|cache| cache.namespace_names(self.now));
        let live = async {
            let all = self.reads.live.list_namespaces().await?;
            Ok(all.into_iter().map(|namespace| namespace.name).collect())
        };
        self.either(held, live).await
    }

    fn ask<T>(&self, question: impl FnOnce(&Cache) -> Option<Looked<T>>) -> Option<Looked<T>> {
        self.reads.cache().and_then(question)
    }

    /// What is `held`, if it is fresh; else what the API says; else, when the API does not answer,
    /// what is held, old as it is.
    async fn either<T>(
        &self,
        held: Option<Looked<T>>,
        live: impl Future<Output = Result<T, KubeError>>,
    ) -> Result<T, KubeError> {
        let cache = self.reads.cache();
        let held = match (held, cache.and_then(Cache::live_failed_lately)) {
            (Some(held), _) if held.fresh => return Ok(self.noted(held, ReadSource::Cache)),
            (Some(old), Some(error)) => return Ok(self.noted(old, ReadSource::Old(error))),
            (held, _) => held,
        };
        match (live.await, held) {
            (Ok(data), _) => {
                self.note(Freshness {
                    as_of: self.now,
                    source: ReadSource::Live,
                    unreadable: 0,
                });
                Ok(data)
            }
            (Err(error), Some(old)) if error.is_transient() => {
                if let Some(cache) = cache {
                    cache.live_failed();
                }
                Ok(self.noted(old, ReadSource::Old(error)))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn noted<T>(&self, looked: Looked<T>, source: ReadSource) -> T {
        let Looked {
            data,
            as_of,
            unreadable,
            ..
        } = looked;
        self.note(Freshness {
            as_of,
            source,
            unreadable,
        });
        data
    }

    fn note(&self, freshness: Freshness) {
        let mut oldest = self
            .freshness
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *oldest = Some(match oldest.take() {
            Some(before) => before.and(freshness),
            None => freshness,
        });
    }
}

impl WorkloadLookup for Reading {
    async fn find_workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<WorkloadRecord, KubeError> {
        self.get_workload(namespace, kind, name).await
    }
}
