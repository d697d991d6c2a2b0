//! The reads behind the tools about workloads, rollouts, nodes and events.

use serde::Serialize;

use super::error::KubeError;
use super::events::newest_first;
use super::lists::{LONGEST_LIST, Listing, Page};
use super::names::subdomain;
use super::owners::kind_of;
use super::reader::{KubeReader, collection};
use super::records::{EventRecord, HpaRecord, NodeRecord, WorkloadRecord};
use super::revision::RevisionRecord;
use super::wire::WireEvent;
use super::wire_node::WireNode;
use super::wire_revision::{Owned, WireControllerRevision, WireReplicaSet};
use super::wire_workload::{WireHpa, WireWorkload};
use crate::untrusted;

/// Workloads of one kind in the API's order, and whether these are all.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadList {
    pub workloads: Vec<WorkloadRecord>,
    pub complete: bool,
    /// How many do not decode and are missing in `workloads`.
    pub unreadable: usize,
}

/// Events, newest first, and whether these are all: else older ones were left out.
#[derive(Clone, Debug, Serialize)]
pub struct EventList {
    pub events: Vec<EventRecord>,
    pub complete: bool,
    /// How many do not decode and are missing in `events`.
    pub unreadable: usize,
}

impl Default for EventList {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            complete: true,
            unreadable: 0,
        }
    }
}

impl EventList {
    /// Puts the newest first and keeps `most` of them.
    pub(super) fn cut(&mut self, most: usize) {
        newest_first(&mut self.events);
        self.complete &= self.events.len() <= most;
        self.events.truncate(most);
    }
}

impl KubeReader {
    /// The workloads of one kind (see [`KubeReader::get_workload`]) of a namespace, or of all.
    /// `label_selector` is the API's own text, such as `app=web,tier!=db`.
    pub async fn list_workloads(
        &self,
        kind: &str,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Result<WorkloadList, KubeError> {
        let (group, plural, kind) = kind_of(kind)?;
        let path = collection(group, namespace, plural)?;
        let query = [("labelSelector", label_selector)];
        let record = |wire: WireWorkload| wire.record(kind);
        let Listing {
            items,
            complete,
            unreadable,
            ..
        } = self
            .list(&path, &query, plural, LONGEST_LIST, record)
            .await?;
        Ok(WorkloadList {
            workloads: items,
            complete,
            unreadable,
        })
    }

    /// The HorizontalPodAutoscalers (KEDA makes one, too) of a namespace, or of all.
    pub async fn list_autoscalers(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<HpaRecord>, KubeError> {
        let path = collection(
            "/apis/autoscaling/v2",
            namespace,
            "horizontalpodautoscalers",
        )?;
        let what = "HorizontalPodAutoscalers";
        let convert = |wire: WireHpa| HpaRecord::from(wire);
        Ok(self
            .list(&path, &[], what, LONGEST_LIST, convert)
            .await?
            .items)
    }

    /// The revisions of a Deployment, StatefulSet or DaemonSet that the cluster still keeps, the
    /// newest first.
    pub async fn revisions_of(
        &self,
        workload: &WorkloadRecord,
    ) -> Result<Vec<RevisionRecord>, KubeError> {
        let namespace = Some(workload.namespace.as_str());
        let selector = workload.selector.as_ref().map(|selector| selector.query());
        let query = [("labelSelector", selector.as_deref())];
        let owned = if workload.kind == "Deployment" {
            let path = collection("/apis/apps/v1", namespace, "replicasets")?;
            let convert = |wire: WireReplicaSet| wire.revision();
            self.list(&path, &query, "replicasets", LONGEST_LIST, convert)
                .await?
        } else {
            let path = collection("/apis/apps/v1", namespace, "controllerrevisions")?;
            let convert = |wire: WireControllerRevision| wire.revision();
            self.list(&path, &query, "controllerrevisions", LONGEST_LIST, convert)
                .await?
        };
        let mut revisions: Vec<RevisionRecord> = owned
            .items
            .into_iter()
            .filter(|(owner, _): &Owned| owner.as_ref() == Some(&workload.uid))
            .map(|(_, revision)| revision)
            .collect();
        revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        Ok(revisions)
    }

    pub async fn get_node(&self, name: &str) -> Result<NodeRecord, KubeError> {
        let name = subdomain("node", name)?;
        let path = format!("/api/v1/nodes/{name}");
        let wire: WireNode = self.connection.get(&path, &format!("node {name}")).await?;
        Ok(wire.into())
    }

    pub async fn list_nodes(&self) -> Result<Vec<NodeRecord>, KubeError> {
        let convert = |wire: WireNode| NodeRecord::from(wire);
        Ok(self
            .list("/api/v1/nodes", &[], "nodes", LONGEST_LIST, convert)
            .await?
            .items)
    }

    /// Events of a namespace (or all) that are `wanted`, newest first, of one object where its
    /// kind and name are given. Read to the end, as the API returns them in no useful order. Of
    /// more than `most` the newest are kept.
    pub async fn newest_events(
        &self,
        namespace: Option<&str>,
        object: Option<(&str, &str)>,
        wanted: impl Fn(&EventRecord) -> bool,
        most: usize,
    ) -> Result<EventList, KubeError> {
        let path = collection("/api/v1", namespace, "events")?;
        let field_selector = match object {
            Some((kind, name)) => {
                let name = subdomain("object", name)?;
                if !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(KubeError::Invalid {
                        problem: format!("`{}` is not a kind", untrusted::line(kind, 60)),
                    });
                }
                Some(format!(
                    "involvedObject.kind={kind},involvedObject.name={name}"
                ))
            }
            None => None,
        };
        let query = [("fieldSelector", field_selector.as_deref())];
        let take = |kept: &mut EventList, page: Page<WireEvent>| {
            kept.unreadable += page.unreadable.len();
            let events = page.items.into_iter().map(EventRecord::from);
            kept.events.extend(events.filter(|event| wanted(event)));
            // Twice as many may wait, so that not each page is sorted.
            if kept.events.len() > most.saturating_mul(2) {
                kept.cut(most);
            }
        };
        let mut list = self.fold_pages(&path, &query, "events", take).await?;
        list.cut(most);
        Ok(list)
    }
}
