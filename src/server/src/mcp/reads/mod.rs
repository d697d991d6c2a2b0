//! The read tools. They see what the caller may see, live, through the read-only client; what
//! they quote from a cluster is marked as data.

mod failing_pods;
mod nodes;
mod pod_logs;
mod pod_status;
mod recent_events;
mod rollout_history;
mod rollout_status;
mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_domain::Code;
use countersign_integrations::kubernetes::{
    ContainerRecord, ContainerState, FailingCollector, FailingFilter, FoldedEvent, KubeError,
    KubeReader, NotRestartable, OwnerLookup, OwnerRef, PodRecord, Terminated, Thresholds,
    diagnosis, failing, fold_events, restartable,
};
use countersign_integrations::near_matches::near_matches;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answers::{
    Answer, Complaint, ContainerStatus, EventLine, FailingGroupLine, FailingNow, FailingPods,
    ObjectName, PodStatus, RecentEvents, UNTRUSTED, Why,
};
use super::arguments::{GetPodStatus, GetRecentEvents, ListFailingPods};
use super::auth::Caller;
use crate::app::ClusterHandle;

pub use pod_status::why_denied;

/// Pods read for one answer, at most.
const MOST_PODS: usize = 50_000;
/// Longest wait for a place among the lists.
const TURN: Duration = Duration::from_secs(15);
const MOST_CONTAINERS: usize = 20;
const NEWEST_WARNINGS: usize = 5;

/// The clusters, a caller and a moment: what every read needs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub clusters: &'a BTreeMap<String, ClusterHandle>,
    pub caller: &'a Caller,
    pub now: Timestamp,
    /// A place for each list that may be in memory at once, for all callers together.
    pub lists: &'a Semaphore,
}

/// One cluster as a caller sees it.
#[derive(Clone, Copy)]
pub struct ClusterView<'a> {
    pub id: &'a str,
    pub reader: &'a KubeReader,
    pub simulated: bool,
    pub caller: &'a Caller,
    lists: &'a Semaphore,
}

impl<'a> View<'a> {
    /// The cluster that was meant: the named one, or the only one.
    pub fn cluster(&self, wanted: Option<&str>) -> Result<ClusterView<'a>, Complaint> {
        let ids = || self.clusters.keys().map(String::as_str);
        let found = match wanted {
            Some(id) => self.clusters.get_key_value(id).ok_or_else(|| {
                let near = near_matches(id, ids());
                let near = if near.is_empty() {
                    ids().take(10).collect()
                } else {
                    near
                };
                let shown = countersign_domain::one_line(id, 80);
                Complaint::new(
                    "unknown_cluster",
                    format!(
                        "there is no cluster `{shown}` here; there is: {}",
                        near.join(", ")
                    ),
                )
            })?,
            None if self.clusters.len() == 1 => {
                self.clusters.first_key_value().ok_or_else(no_cluster)?
            }
            None if self.clusters.is_empty() => return Err(no_cluster()),
            None => {
                let all: Vec<&str> = ids().take(20).collect();
                return Err(Complaint::new(
                    "cluster_needed",
                    format!(
                        "say which cluster: set `cluster` to one of {}",
                        all.join(", ")
                    ),
                ));
            }
        };
        let (id, handle) = found;
        Ok(ClusterView {
            id,
            reader: &handle.reader,
            simulated: handle.simulated,
            caller: self.caller,
            lists: self.lists,
        })
    }
}

impl ClusterView<'_> {
    /// The name for texts.
    pub fn title(&self) -> String {
        let simulated = if self.simulated { " (simulated)" } else { "" };
        format!("cluster {}{simulated}", self.id)
    }

    /// A pod that this caller may see, read now.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<PodRecord, Complaint> {
        if !self.caller.sees(namespace) {
            return Err(self.no_namespace(namespace).await);
        }
        match self.reader.get_pod(namespace, name).await {
            Ok(pod) => Ok(pod),
            Err(KubeError::NotFound { .. }) => Err(self.no_pod(namespace, name).await),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Where to look: one pass over everything, or one for each namespace that this caller may see.
    async fn scopes<'s>(
        &'s self,
        namespace: Option<&'s str>,
    ) -> Result<Vec<Option<&'s str>>, Complaint> {
        match (namespace, &self.caller.namespaces) {
            (Some(one), _) if !self.caller.sees(one) => Err(self.no_namespace(one).await),
            (Some(one), _) => Ok(vec![Some(one)]),
            (None, None) => Ok(vec![None]),
            (None, Some(visible)) => Ok(visible.iter().map(|one| Some(one.as_str())).collect()),
        }
    }

    /// Waits for a place among the lists. Held while the list is in memory.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Complaint> {
        match tokio::time::timeout(TURN, self.lists.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Complaint::new(
                "busy",
                "too many lists are being read just now: wait 5 s and try again, for one \
                 namespace if you can",
            )),
        }
    }

    async fn no_pod(&self, namespace: &str, name: &str) -> Complaint {
        let _place = match self.place().await {
            Ok(place) => place,
            Err(complaint) => return complaint,
        };
        let pods = match self
            .reader
            .list_pods(Some(namespace), None, MOST_PODS)
            .await
        {
            Ok(listed) => listed.pods,
            Err(error) => return unreadable(&error),
        };
        if pods.is_empty()
            && let Err(complaint) = self.namespace_exists(namespace).await
        {
            return complaint;
        }
        let near = near_matches(name, pods.iter().map(|pod| pod.name.as_str()));
        let advice = if near.is_empty() {
            "list_failing_pods shows the names of failing ones".to_owned()
        } else {
            format!("near it are: {}", near.join(", "))
        };
        Complaint::new(
            "unknown_pod",
            format!(
                "there is no pod `{name}` in namespace `{namespace}` of {}; {advice}",
                self.title()
            ),
        )
    }

    async fn namespace_exists(&self, namespace: &str) -> Result<(), Complaint> {
        match self.reader.list_namespaces().await {
            Ok(all) if all.iter().any(|one| one.name == namespace) => Ok(()),
            Ok(_) => Err(self.no_namespace(namespace).await),
            // Our account may not list them: an empty answer is all there is to say.
            Err(_) => Ok(()),
        }
    }

    /// Says nothing about namespaces that do not exist for this caller.
    async fn no_namespace(&self, namespace: &str) -> Complaint {
        let visible: Vec<String> = match &self.caller.namespaces {
            Some(visible) => visible.clone(),
            None => {
                let all = self.reader.list_namespaces().await.unwrap_or_default();
                all.into_iter().map(|one| one.name).collect()
            }
        };
        let near = near_matches(namespace, visible.iter().map(String::as_str));
        let advice = match (near.is_empty(), visible.len()) {
            (false, _) => format!("; near it are: {}", near.join(", ")),
            (true, 1..=20) => format!("; there are: {}", visible.join(", ")),
            (true, _) => String::new(),
        };
        Complaint::new(
            "unknown_namespace",
            format!(
                "there is no namespace `{namespace}` in {}, or this key may not see it{advice}",
                self.title()
            ),
        )
    }
}
pub fn unreadable(error: &KubeError) -> Complaint {
    if error.is_transient() {
        tracing::warn!(%error, "a cluster could not be read");
    }
    let again = if error.is_transient() {
        ". Try again in a few seconds"
    } else {
        ""
    };
    Complaint::new(error.code(), format!("{error}{again}"))
}

fn no_cluster() -> Complaint {
    Complaint::new(
        "no_cluster",
        "no cluster is configured: an operator has to add one",
    )
}

fn object_name(owner: &OwnerRef) -> ObjectName {
    ObjectName {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
    }
}

fn bounded(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
fn short(text: &str) -> String {
    countersign_domain::one_line(text, 300)
}
