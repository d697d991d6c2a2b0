//! Where the objects of one kind are held, by namespace and name: the order of the API's lists.
//!
//! Each namespace has a table of symbols of its own. So what a caller may not see is not even
//! touched for its answer, and a table that has grown stale is made anew for one namespace.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;

use super::super::records::{EventRecord, NamespaceRecord, NodeRecord, WorkloadRecord};
use super::super::watch::{Decode, Identified, WirePodInFull};
use super::super::wire::{WireEvent, WireNamespace};
use super::super::wire_node::WireNode;
use super::super::wire_workload::WireWorkload;
use super::super::workload_reads::EventList;
use super::packed_pod::{self, PodInFull};
use super::packed_workload::{pack_event, pack_workload, unpack_event, unpack_workload};
use super::suspects::Suspicion;
use super::symbols::Symbols;

/// A table of symbols may grow to twice of what was in use, and this many.
const SYMBOLS_TO_SPARE: usize = 512;
/// Events held for one namespace. A real cluster keeps an hour's worth.
const MOST_EVENTS: usize = 2_000;
/// Events held for a whole cluster.
const MOST_EVENTS_IN_ALL: usize = 40_000;

/// What a feed fills.
pub(super) trait Shelf: Default + Send + Sync + 'static {
    type Wire: Decode + Identified + Send + 'static;

    /// Takes in a new or changed object. `kind` is the API's name of its kind.
    fn put(&mut self, wire: Self::Wire, kind: &'static str);

    /// As [`Self::put`], of an object that was there before.
    fn change(&mut self, wire: Self::Wire, kind: &'static str) {
        self.put(wire, kind);
    }

    /// `namespace` is empty for what has none.
    fn remove(&mut self, namespace: &str, name: &str);
}

/// A record that is held as bytes.
pub(super) trait Packed: Sized + Send + Sync + 'static {
    /// What is known of a record without unpacking it.
    type Note: Copy + Send + Sync;
    type Wire: Decode + Identified + Send + 'static;

    fn from_wire(wire: Self::Wire, kind: &'static str) -> Self;
    fn key(&self) -> (&str, &str);
    fn note(&self) -> Self::Note;
    fn pack(&self, symbols: &mut Symbols) -> Box<[u8]>;
    fn unpack(namespace: &str, name: &str, bytes: &[u8], symbols: &Symbols) -> Self;
}

pub(super) struct Entry<N> {
    pub bytes: Box<[u8]>,
    pub note: N,
}

/// The objects of one namespace.
pub(super) struct Shard<R: Packed> {
    pub symbols: Symbols,
    pub entries: BTreeMap<Box<str>, Entry<R::Note>>,
    symbols_in_use: usize,
}

impl<R: Packed> Default for Shard<R> {
    fn default() -> Self {
        Self {
            symbols: Symbols::default(),
            entries: BTreeMap::new(),
            symbols_in_use: 0,
        }
    }
}

impl<R: Packed> Shard<R> {
    fn put(&mut self, record: &R) {
        let entry = Entry {
            bytes: record.pack(&mut self.symbols),
            note: record.note(),
        };
        let (_, name) = record.key();
        match self.entries.get_mut(name) {
            Some(held) => *held = entry,
            None => {
                self.entries.insert(name.into(), entry);
            }
        }
    }

    /// Forgets texts that no record has any more.
    fn tidy(&mut self, namespace: &str) {
        if self.symbols.len() <= self.symbols_in_use * 2 + SYMBOLS_TO_SPARE {
            return;
        }
        let mut fresh = Symbols::default();
        for (name, entry) in &mut self.entries {
            let record = R::unpack(namespace, name, &entry.bytes, &self.symbols);
            entry.bytes = record.pack(&mut fresh);
        }
        self.symbols_in_use = fresh.len();
        self.symbols = fresh;
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<R> {
        let entry = self.entries.get(name)?;
        Some(R::unpack(namespace, name, &entry.bytes, &self.symbols))
    }
}

pub(super) struct PackedShelf<R: Packed> {
    pub namespaces: BTreeMap<Box<str>, Shard<R>>,
}

impl<R: Packed> Default for PackedShelf<R> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
        }
    }
}

impl<R: Packed> PackedShelf<R> {
    fn put_record(&mut self, record: &R) {
        let (namespace, _) = record.key();
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), Shard::default());
        }
        if let Some(shard) = self.namespaces.get_mut(namespace) {
            shard.put(record);
            shard.tidy(namespace);
        }
    }

    fn take_out(&mut self, namespace: &str, name: &str) {
        if let Some(shard) = self.namespaces.get_mut(namespace) {
            shard.entries.remove(name);
            if shard.entries.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<R> {
        self.namespaces.get(namespace)?.get(namespace, name)
    }

    /// The namespaces that `wanted` names.
    pub(super) fn shards<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a Shard<R>)> + 'a {
        let all = self.namespaces.iter();
        all.map(|(namespace, shard)| (&**namespace, shard))
            .filter(move |(namespace, _)| wanted(namespace))
    }

    /// Every record of the shards that `wanted` names, unpacked.
    pub(super) fn records<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = R> + 'a {
        self.shards(wanted).flat_map(|(namespace, shard)| {
            shard
                .entries
                .iter()
                .map(move |(name, entry)| R::unpack(namespace, name, &entry.bytes, &shard.symbols))
        })
    }
}

pub(super) type Pods = PackedShelf<PodInFull>;
pub(super) type Workloads = PackedShelf<WorkloadRecord>;

impl Packed for PodInFull {
    type Note = Suspicion;
    type Wire = WirePodInFull;

    fn from_wire(wire: WirePodInFull, _kind: &'static str) -> Self {
        Self {
            pod: wire.pod.into(),
            detail: wire.detail.into(),
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.pod.namespace, &self.pod.name)
    }

    fn note(&self) -> Suspicion {
        Suspicion::of(&self.pod)
    }

    fn pack(&self, symbols: &mut Symbols) -> Box<[u8]> {
        packed_pod::pack(self, symbols)
    }

    fn unpack(namespace: &str, name: &str, bytes: &[u8], symbols: &Symbols) -> Self {
        packed_pod::unpack_in_full(namespace, name, bytes, symbols)
    }
}

impl Packed for WorkloadRecord {
    type Note = ();
    type Wire = WireWorkload;

    fn from_wire(wire: WireWorkload, kind: &'static str) -> Self {
        wire.record(kind)
    }

    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn note(&self) {}

    fn pack(&self, symbols: &mut Symbols) -> Box<[u8]> {
        pack_workload(self, symbols)
    }

    fn unpack(namespace: &str, name: &str, bytes: &[u8], symbols: &Symbols) -> Self {
        unpack_workload(namespace, name, bytes, symbols)
    }
}

/// When an event was last seen, and a hash of the UID of the object that it is about.
#[derive(Clone, Copy)]
pub(super) struct EventNote {
    last_seen: Timestamp,
    about: u64,
}

fn about(uid: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

impl Packed for EventRecord {
    type Note = EventNote;
    type Wire = WireEvent;

    fn from_wire(wire: WireEvent, _kind: &'static str) -> Self {
        wire.into()
    }

    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn note(&self) -> EventNote {
        EventNote {
            last_seen: self.last_seen,
            about: about(self.object.uid.as_deref()),
        }
    }

    fn pack(&self, symbols: &mut Symbols) -> Box<[u8]> {
        pack_event(self, symbols)
    }

    fn unpack(namespace: &str, name: &str, bytes: &[u8], symbols: &Symbols) -> Self {
        unpack_event(namespace, name, bytes, symbols)
    }
}

impl<R: Packed> Shelf for PackedShelf<R>
where
    R: Unbounded,
{
    type Wire = R::Wire;

    fn put(&mut self, wire: R::Wire, kind: &'static str) {
        self.put_record(&R::from_wire(wire, kind));
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        self.take_out(namespace, name);
    }
}

/// Kinds of which all objects are held. Their number is bounded by the cluster's own size.
pub(super) trait Unbounded {}
impl Unbounded for PodInFull {}
impl Unbounded for WorkloadRecord {}

/// Events, which a broken controller can make without end: the newest of each namespace are held.
#[derive(Default)]
pub(super) struct Events {
    held: PackedShelf<EventRecord>,
    total: usize,
    /// By namespace. Clusters forget events after a while, and with the last one that was dropped
    /// the namespace is whole again.
    dropped: BTreeMap<Box<str>, Dropped>,
}

/// The older events of a namespace, which are not held.
struct Dropped {
    /// How many of them are still in the cluster.
    count: usize,
    /// When the newest of them was last seen: what is held is newer.
    until: Timestamp,
}

impl Events {
    /// Events of the namespaces that `wanted` names, of one object if its UID is given, in no
    /// useful order. They are not complete where some of their namespace were dropped.
    pub(super) fn of(&self, wanted: impl Fn(&str) -> bool, uid: Option<&str>) -> EventList {
        let hash = about(uid);
        let mut found = Vec::new();
        for (namespace, shard) in self.held.shards(&wanted) {
            for (name, entry) in &shard.entries {
                if uid.is_none() || entry.note.about == hash {
                    let event = EventRecord::unpack(namespace, name, &entry.bytes, &shard.symbols);
                    if uid.is_none() || event.object.uid.as_deref() == uid {
                        found.push(event);
                    }
                }
            }
        }
        EventList {
            events: found,
            complete: !self.dropped.keys().any(|namespace| wanted(namespace)),
            unreadable: 0,
        }
    }

    fn holds(&self, namespace: &str, name: &str) -> bool {
        let shard = self.held.namespaces.get(namespace);
        shard.is_some_and(|shard| shard.entries.contains_key(name))
    }

    /// Events of a namespace up to `until` are not held.
    fn drop_some(&mut self, namespace: &str, count: usize, until: Timestamp) {
        self.total -= count;
        let dropped = self
            .dropped
            .entry(namespace.into())
            .or_insert(Dropped { count: 0, until });
        dropped.count += count;
        dropped.until = dropped.until.max(until);
    }

    /// An event that was dropped is gone from the cluster, or has changed.
    fn no_longer_dropped(&mut self, namespace: &str) {
        if let Some(dropped) = self.dropped.get_mut(namespace) {
            dropped.count -= 1;
            if dropped.count == 0 {
                self.dropped.remove(namespace);
            }
        }
    }

    /// Drops the older half of a namespace.
    fn halve(&mut self, namespace: &str) {
        let Some(shard) = self.held.namespaces.get_mut(namespace) else {
            return;
        };
        let mut times: Vec<Timestamp> = shard.entries.values().map(|e| e.note.last_seen).collect();
        let middle = times.len() / 2;
        let (_, from, _) = times.select_nth_unstable(middle);
        let from = *from;
        let before = shard.entries.len();
        shard.entries.retain(|_, entry| entry.note.last_seen > from);
        let dropped = before - shard.entries.len();
        self.drop_some(namespace, dropped, from);
    }
}

impl Shelf for Events {
    type Wire = WireEvent;

    fn put(&mut self, wire: WireEvent, kind: &'static str) {
        let event = EventRecord::from_wire(wire, kind);
        let count = |events: &Self| {
            let shard = events.held.namespaces.get(event.namespace.as_str());
            shard.map_or(0, |shard| shard.entries.len())
        };
        let before = count(self);
        self.held.put_record(&event);
        self.total += count(self) - before;
        let dropped = self.dropped.get(event.namespace.as_str());
        if dropped.is_some_and(|dropped| event.last_seen <= dropped.until) {
            self.held.take_out(&event.namespace, &event.name);
            self.drop_some(&event.namespace, 1, event.last_seen);
        } else if count(self) > MOST_EVENTS {
            self.halve(&event.namespace);
        } else if self.total > MOST_EVENTS_IN_ALL {
            let shards = self.held.namespaces.iter();
            let most = shards.max_by_key(|(_, shard)| shard.entries.len());
            if let Some(namespace) = most.map(|(namespace, _)| namespace.clone()) {
                self.halve(&namespace);
            }
        }
    }

    fn change(&mut self, wire: WireEvent, kind: &'static str) {
        let meta = wire.meta();
        if !self.holds(&meta.namespace, &meta.name) {
            self.no_longer_dropped(&wire.meta().namespace);
        }
        self.put(wire, kind);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        if self.holds(namespace, name) {
            self.total -= 1;
            self.held.take_out(namespace, name);
        } else {
            self.no_longer_dropped(namespace);
        }
    }
}

/// Nodes and namespaces: few, without a namespace, held as they are.
pub(super) struct Plain<R> {
    pub records: BTreeMap<String, R>,
}

impl<R> Default for Plain<R> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
        }
    }
}

impl Shelf for Plain<NodeRecord> {
    type Wire = WireNode;

    fn put(&mut self, wire: WireNode, _kind: &'static str) {
        let node = NodeRecord::from(wire);
        self.records.insert(node.name.clone(), node);
    }

    fn remove(&mut self, _namespace: &str, name: &str) {
        self.records.remove(name);
    }
}

impl Shelf for Plain<NamespaceRecord> {
    type Wire = WireNamespace;

    fn put(&mut self, wire: WireNamespace, _kind: &'static str) {
        let namespace = NamespaceRecord::from(wire);
        self.records.insert(namespace.name.clone(), namespace);
    }

    fn remove(&mut self, _namespace: &str, name: &str) {
        self.records.remove(name);
    }
}
