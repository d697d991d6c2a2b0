//! Everything the simulated cluster remembers, behind one lock, and its timetable.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::access::Tokens;
use super::faults::Faults;
use super::kubelet::{Life, Stage};
use super::logs::Written;
use super::store::Store;

/// Something that a controller or a kubelet does later.
#[derive(Clone, Debug)]
pub enum Task {
    /// A pod's containers reach their next stage, if they have made `steps` so far.
    Enter {
        namespace: String,
        name: String,
        uid: String,
        steps: u32,
        stage: Stage,
    },
    /// A terminating pod's containers have stopped.
    Finish {
        namespace: String,
        name: String,
        uid: String,
    },
    /// A ReplicaSet compares what it wants with what it has.
    Reconcile { namespace: String, name: String },
    /// A disruption budget forgets pods that were never deleted.
    Settle { namespace: String },
}

#[derive(Default)]
pub struct Cluster {
    pub store: Store,
    /// By pod UID.
    pub lives: HashMap<String, Life>,
    pub audit: Vec<Value>,
    pub faults: Faults,
    /// What scenarios had containers write.
    pub logs: HashMap<Written, Vec<(Timestamp, String)>>,
    due: BTreeMap<(Instant, u64), Task>,
    scheduled: u64,
    /// Round-robin over the nodes, and the last octet of pod addresses.
    pub pods_placed: u32,
}

impl Cluster {
    pub fn schedule(&mut self, after: Duration, task: Task) {
        self.scheduled += 1;
        self.due
            .insert((Instant::now() + after, self.scheduled), task);
    }

    /// Does what is due and says when to come back.
    fn step(&mut self) -> Option<Instant> {
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > Instant::now() {
                return Some(at);
            }
            let task = entry.remove();
            self.perform(&task);
        }
        None
    }

    fn perform(&mut self, task: &Task) {
        match task {
            Task::Enter {
                namespace,
                name,
                uid,
                steps,
                stage,
            } => {
                if self.lives.get(uid).is_some_and(|life| life.steps == *steps) {
                    self.enter(namespace, name, uid, *stage, crate::clock::now());
                }
            }
            Task::Finish {
                namespace,
                name,
                uid,
            } => self.finish_deletion(namespace, name, uid),
            Task::Reconcile { namespace, name } => self.reconcile(namespace, name),
            Task::Settle { namespace } => self.settle(namespace),
        }
    }
}

/// What handlers and the timetable share.
pub struct Shared {
    cluster: Mutex<Cluster>,
    rescheduled: Notify,
    pub tokens: Tokens,
}

impl Shared {
    pub fn new(cluster: Cluster, tokens: Tokens) -> Arc<Self> {
        Arc::new(Self {
            cluster: Mutex::new(cluster),
            rescheduled: Notify::new(),
            tokens,
        })
    }

    /// The state, for reading. A panic elsewhere does not take the cluster down with it.
    pub fn read(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the timetable, which may have something sooner to do.
    pub fn write<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let outcome = change(&mut self.read());
        self.rescheduled.notify_one();
        outcome
    }

    /// The timetable: runs until the server stops.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.read().step();
            let rescheduled = self.rescheduled.notified();
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = rescheduled => {}
                },
                None => rescheduled.await,
            }
        }
    }
}
