//! The read tools. They see what the caller may see, through the read-only client or the cache
//! that it fills; what they quote from a cluster is marked as data and says how old it is.

mod failing_pods;
mod nodes;
mod pod_logs;
mod pod_status;
mod recent_events;
mod rollout_history;
mod rollout_status;
mod workloads;

use std::collections::BTreeMap;

use countersign_integrations::kubernetes::{
    BadCursor, ClusterReads, Freshness, KubeError, KubeReader, OwnerRef, PodDetail, PodRecord,
    ReadSource, Reading, Scope, Severity, Thresholds,
};
use countersign_integrations::near_matches::near_matches;
use countersign_integrations::untrusted;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::SemaphorePermit;

use super::answers::{Complaint, ObjectName, Origin, UNTRUSTED};
use super::auth::Caller;
use crate::app::ClusterHandle;

pub use pod_status::why_denied;

/// Pods read live to find those of one workload or label, at most.
const MOST_CANDIDATES: usize = 50_000;
/// Containers told of one pod.
const MOST_CONTAINERS: usize = 20;

/// The clusters, a caller and a moment: what every read needs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub clusters: &'a BTreeMap<String, ClusterHandle>,
    pub caller: &'a Caller,
    pub now: Timestamp,
    /// The operator's, of what counts as failing.
    pub thresholds: Thresholds,
}

/// One cluster as a caller sees it, for one answer.
pub struct ClusterView<'a> {
    pub id: &'a str,
    /// Live, for what somebody decides on.
    pub reader: &'a KubeReader,
    /// From the cache if there is one: for all else. It knows how old the answer is.
    pub reading: Reading,
    pub simulated: bool,
    pub caller: &'a Caller,
    /// The namespaces that are configured and that the caller may see.
    visible: Scope,
    reads: &'a ClusterReads,
    now: Timestamp,
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
            reading: handle.reads.begin(),
            simulated: handle.simulated,
            caller: self.caller,
            visible: handle.reads.scope(self.caller.namespaces.as_deref()),
            reads: &handle.reads,
            now: self.now,
        })
    }
}

impl ClusterView<'_> {
    /// The name for texts.
    pub fn title(&self) -> String {
        let simulated = if self.simulated { " (simulated)" } else { "" };
        format!("cluster {}{simulated}", self.id)
    }

    /// Whether a namespace exists, as far as this caller is told.
    pub fn sees(&self, namespace: &str) -> bool {
        self.visible.covers(namespace)
    }

    /// What an answer is about: one namespace, or all that this caller may see.
    pub fn scope(&self, namespace: Option<&str>) -> Scope {
        match namespace {
            Some(namespace) => Scope::namespace(namespace),
            None => self.visible.clone(),
        }
    }

    /// A pod that this caller may see.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<PodRecord, Complaint> {
        if !self.sees(namespace) {
            return Err(self.no_namespace(namespace).await);
        }
        let read = self.reading.get_pod(namespace, name).await;
        self.found(namespace, name, read).await
    }

    /// A pod that this caller may see, read live: somebody will decide on it.
    pub async fn pod_now(&self, namespace: &str, name: &str) -> Result<PodRecord, Complaint> {
        if !self.sees(namespace) {
            return Err(self.no_namespace(namespace).await);
        }
        let read = self.reader.get_pod(namespace, name).await;
        self.found(namespace, name, read).await
    }

    /// As [`Self::pod`], with its resources and probes.
    pub async fn pod_in_detail(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(PodRecord, PodDetail), Complaint> {
        if !self.sees(namespace) {
            return Err(self.no_namespace(namespace).await);
        }
        let read = self.reading.get_pod_in_detail(namespace, name).await;
        self.found(namespace, name, read).await
    }

    async fn found<T>(
        &self,
        namespace: &str,
        name: &str,
        read: Result<T, KubeError>,
    ) -> Result<T, Complaint> {
        match read {
            Ok(pod) => Ok(pod),
            Err(KubeError::NotFound { .. }) => Err(self.no_pod(namespace, name).await),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Where to look: one pass over everything, or one for each namespace that this caller may see.
    pub(super) async fn scopes<'s>(
        &'s self,
        namespace: Option<&'s str>,
    ) -> Result<Vec<Option<&'s str>>, Complaint> {
        match (namespace, &self.visible) {
            (Some(one), _) if !self.sees(one) => Err(self.no_namespace(one).await),
            (Some(one), _) => Ok(vec![Some(one)]),
            (None, Scope::All) => Ok(vec![None]),
            (None, Scope::Namespaces(all)) => {
                Ok(all.iter().map(|one| Some(one.as_str())).collect())
            }
        }
    }

    /// Waits for a place among the live lists. Held while the list is in memory.
    pub async fn place(&self) -> Result<SemaphorePermit<'_>, Complaint> {
        let place = self.reads.place_for_list().await;
        place.map_err(|error| unreadable(&error))
    }

    /// When the cluster was as the answer shows it, cut to the second.
    pub fn as_of(&self) -> String {
        seconds(self.reading.freshness().as_of)
    }

    /// `cache`, `live`, or why the answer is old.
    pub fn source(&self) -> String {
        let source = self.reading.freshness().source;
        match &source {
            ReadSource::Old(error) => format!("{}: {error}", source.as_str()),
            ReadSource::Cache | ReadSource::Live => source.as_str().to_owned(),
        }
    }

    /// Of an answer whose reads are done.
    fn origin(&self) -> Origin {
        Origin {
            as_of: self.as_of(),
            source: self.source(),
            simulated: self.simulated,
            note: UNTRUSTED.to_owned(),
        }
    }

    /// Everything that was read for the answer could be understood.
    fn understood(&self) -> bool {
        self.reading.freshness().unreadable == 0
    }

    /// A whole text: what stands before it where it is old, and the last line.
    fn framed(&self, text: &str) -> String {
        self.warning() + text + &self.imprint()
    }

    /// What stands before an answer that may not be true any more.
    pub fn warning(&self) -> String {
        let Freshness { as_of, source, .. } = self.reading.freshness();
        match source {
            ReadSource::Cache | ReadSource::Live => String::new(),
            ReadSource::Old(error) => {
                let age = SignedDuration::from_secs(self.now.duration_since(as_of).as_secs());
                let as_of = seconds(as_of);
                format!(
                    "OLD: this is what was seen {age:#} ago, at {as_of}; it may have changed \
                     since. {error}.\n"
                )
            }
        }
    }

    /// The last line of a text: what it is, as of when, and what is missing.
    pub fn imprint(&self) -> String {
        let Freshness {
            source, unreadable, ..
        } = self.reading.freshness();
        let source = source.as_str();
        let mut line = String::new();
        if unreadable > 0 {
            line = format!("\n{unreadable} objects could not be read and are missing here.");
        }
        if let (Some(_), Scope::Namespaces(names)) = (self.reads.namespaces(), &self.visible) {
            let names = names.join(", ");
            line += &format!("\nOf this cluster only these namespaces are read: {names}.");
        }
        line + &format!("\n(As of {}, {source}. {UNTRUSTED})", self.as_of())
    }

    async fn no_pod(&self, namespace: &str, name: &str) -> Complaint {
        let pods = match self.reading.pod_names(namespace).await {
            Ok(names) => names,
            Err(error) => return unreadable(&error),
        };
        if pods.is_empty()
            && let Err(complaint) = self.namespace_exists(namespace).await
        {
            return complaint;
        }
        let near = near_matches(name, pods.iter().map(String::as_str));
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
        match self.reading.namespace_names().await {
            Ok(all) if all.iter().any(|one| one == namespace) => Ok(()),
            Ok(_) => Err(self.no_namespace(namespace).await),
            // Our account may not list them: an empty answer is all there is to say.
            Err(_) => Ok(()),
        }
    }

    /// Says nothing about namespaces that do not exist for this caller.
    async fn no_namespace(&self, namespace: &str) -> Complaint {
        let visible: Vec<String> = match &self.caller.namespaces {
            Some(visible) => visible.clone(),
            None => self.reading.namespace_names().await.unwrap_or_default(),
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

fn seconds(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second());
    whole.unwrap_or(at).to_string()
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

/// `low`, `medium` or `high`.
fn severity_word(severity: Severity) -> String {
    format!("{severity:?}").to_lowercase()
}

fn bad_cursor(error: BadCursor) -> Complaint {
    Complaint::new("invalid_arguments", error.to_string())
}

/// Under a page that is not the last. `only` leaves out what has no problem.
fn more_pages(total: usize, only: &str) -> String {
    format!(
        "\nThere are more, {total} in all: pass next_cursor as `cursor` (later pages are in order \
         of name), or set {only}."
    )
}

/// Of the cluster's words: also those that passed no other filter cannot hold our marks.
fn short(text: &str) -> String {
    untrusted::line(text, 300)
}
