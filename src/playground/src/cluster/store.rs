//! The object store: one counter for every write, a bounded log of changes for watches.
//!
//! It knows nothing about what an object means; controllers and the kubelet's part do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::kinds::Kind;
use super::object;
use crate::{clock, random};

/// The first resource version. Clients that ask for an older one get 410, as after a compaction.
const FIRST_VERSION: u64 = 1000;
/// How many changes a watch can look back.
const LOG_LENGTH: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub plural: &'static str,
    pub kind: ChangeKind,
    pub object: Arc<Value>,
    /// The object before a modification: a watch with a selector reports leaving it as a deletion.
    pub before: Option<Arc<Value>>,
}

/// Plural, namespace (empty for cluster scope), name: the order in which lists come.
type Key = (&'static str, String, String);

pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    log: VecDeque<Change>,
    written: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            version: FIRST_VERSION,
            log: VecDeque::new(),
            written: watch::Sender::new(FIRST_VERSION),
        }
    }
}

fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
    (kind.plural, namespace.to_owned(), name.to_owned())
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Announces the version of each write.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&key(kind, namespace, name)).cloned()
    }

    /// Objects of a kind in key order; an empty namespace means all of them.
    pub fn list<'a>(
        &'a self,
        kind: &Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Value>> + use<'a> {
        let plural = kind.plural;
        self.objects
            .range((plural, namespace.to_owned(), String::new())..)
            .take_while(move |((found, in_namespace, _), _)| {
                *found == plural && (namespace.is_empty() || in_namespace == namespace)
            })
            .map(|(_, object)| object)
    }

    /// Adds an object that was checked not to exist; fills in what the API server fills in.
    pub fn insert(&mut self, kind: &'static Kind, mut new: Value, at: Timestamp) -> Arc<Value> {
        new["apiVersion"] = kind.api_version().into();
        new["kind"] = kind.kind.into();
        let metadata = &mut new["metadata"];
        if metadata["uid"].as_str().is_none() {
            metadata["uid"] = random::uuid().into();
        }
        metadata["creationTimestamp"] = clock::kubernetes(at).into();
        if matches!(
            kind.kind,
            "Deployment" | "ReplicaSet" | "PodDisruptionBudget" | "Job" | "StatefulSet"
        ) {
            metadata["generation"] = json!(1);
        }
        self.version += 1;
        metadata["resourceVersion"] = self.version.to_string().into();
        let key = key(kind, object::namespace(&new), object::name(&new));
        let new = Arc::new(new);
        self.objects.insert(key, new.clone());
        self.record(kind, ChangeKind::Added, new.clone(), None);
        new
    }

    /// Applies `change`; a change that alters nothing is not a write.
    pub fn update(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Arc<Value>> {
        let key = key(kind, namespace, name);
        let before = self.objects.get(&key)?.clone();
        let mut object = Value::clone(&before);
        change(&mut object);
        if object == *before {
            return Some(before);
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.objects.insert(key, object.clone());
        self.record(kind, ChangeKind::Modified, object.clone(), Some(before));
        Some(object)
    }

    pub fn remove(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let before = self.objects.remove(&key(kind, namespace, name))?;
        self.version += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let last = Arc::new(last);
        self.record(kind, ChangeKind::Deleted, last.clone(), Some(before));
        Some(last)
    }

    fn record(
        &mut self,
        kind: &'static Kind,
        change: ChangeKind,
        object: Arc<Value>,
        before: Option<Arc<Value>>,
    ) {
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        let version = self.version;
        self.log.push_back(Change {
            version,
            plural: kind.plural,
            kind: change,
            object,
            before,
        });
        self.written.send_replace(version);
    }

    /// The oldest version from which a watch can go on without having missed a change.
    pub fn oldest_watchable(&self) -> u64 {
        self.log
            .front()
            .map_or(self.version, |change| change.version - 1)
    }

    pub fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let start = self.log.partition_point(|change| change.version <= version);
        self.log.range(start..)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::by_plural;
    use super::*;

    #[test]
    fn every_write_raises_the_version_and_an_idle_one_does_not() {
        let mut store = Store::default();
        let pods = by_plural("pods");
        let pod = json!({"metadata": {"name": "a", "namespace": "shop"}});
        let first = store.insert(pods, pod, clock::now());
        let same = store.update(pods, "shop", "a", |_| {}).unwrap();
        assert_eq!(
            object::resource_version(&first),
            object::resource_version(&same)
        );
        let next = store
            .update(pods, "shop", "a", |pod| pod["spec"] = json!({}))
            .unwrap();
        assert_ne!(
            object::resource_version(&first),
            object::resource_version(&next)
        );
        let gone = store.remove(pods, "shop", "a").unwrap();
        assert_eq!(object::resource_version(&gone), store.version().to_string());
        assert_eq!(store.changes_after(FIRST_VERSION).count(), 3);
        assert_eq!(store.changes_after(FIRST_VERSION + 2).count(), 1);
        assert_eq!(store.oldest_watchable(), FIRST_VERSION);
    }

    #[test]
    fn a_namespace_lists_itself_alone() {
        let mut store = Store::default();
        let pods = by_plural("pods");
        for (namespace, name) in [("shop", "b"), ("shop", "a"), ("shop-2", "c"), ("pay", "d")] {
            let pod = json!({"metadata": {"name": name, "namespace": namespace}});
            store.insert(pods, pod, clock::now());
        }
        let names = |namespace: &str| -> Vec<String> {
            store
                .list(pods, namespace)
                .map(|pod| object::name(pod).to_owned())
                .collect()
        };
        assert_eq!(names("shop"), ["a", "b"]);
        assert_eq!(names(""), ["d", "a", "b", "c"]);
    }
}
