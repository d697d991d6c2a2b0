//! The read tools. They see what the caller may see, live, through the read-only client; what
//! they quote from a cluster is marked as data.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_domain::Code;
use countersign_integrations::kubernetes::{
    ContainerRecord, ContainerState, FoldedEvent, KubeError, KubeReader, NotRestartable,
    OwnerLookup, OwnerRef, PodRecord, Terminated, Thresholds, diagnosis, failing, fold_events,
    group_failing, restartable,
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

    pub async fn get_pod_status(&self, args: GetPodStatus) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let pod = cluster.pod(&args.namespace, &args.pod).await?;
        let verdict = failing(&pod, self.now, &Thresholds::default());
        // A healthy pod costs one request. For a failing one the cause is worth two more.
        let (owner, warnings) = if verdict.is_some() {
            let (owner, events) = tokio::join!(
                cluster.reader.owner_of(&pod),
                cluster
                    .reader
                    .list_events(Some(&pod.namespace), Some(&pod.uid)),
            );
            let mut events = events.unwrap_or_default();
            events.retain(|event| event.kind == "Warning");
            let mut folded = fold_events(&events);
            folded.truncate(NEWEST_WARNINGS);
            (owner.ok(), folded)
        } else {
            (None, Vec::new())
        };
        let denied = match &owner {
            Some(owner) => restartable(&pod, owner).err(),
            None => restartable(&pod, &presumed_owner(&pod)).err(),
        };
        let summary = diagnosis(&pod, verdict.as_ref(), owner.as_ref(), &warnings, self.now);
        let (ready, all) = pod.ready_containers();
        let mut containers: Vec<&ContainerRecord> = pod.containers.iter().collect();
        // The interesting ones must not be the ones that are cut.
        containers.sort_by_key(|container| container.ready);
        let workload = match &owner {
            Some(OwnerLookup::Found(chain)) => Some(ObjectName {
                kind: chain.top.kind.clone(),
                name: chain.top.name.clone(),
            }),
            _ => None,
        };
        let body = PodStatus {
            cluster: cluster.id.to_owned(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            phase: format!("{:?}", pod.phase),
            ready: pod.ready(),
            summary: summary.clone(),
            failing: verdict.map(|verdict| FailingNow {
                reason: verdict.reason.to_string(),
                since: verdict.since.to_string(),
                severity: format!("{:?}", verdict.severity).to_lowercase(),
                container: verdict.container,
                message: verdict.message.as_deref().map(short),
            }),
            ready_containers: format!("{ready}/{all}"),
            restarts: pod.restarts(),
            created_at: pod.created_at.to_string(),
            node: pod.node.clone(),
            controller: pod.owner.as_ref().map(object_name),
            workload,
            containers: containers
                .into_iter()
                .take(MOST_CONTAINERS)
                .map(container_line)
                .collect(),
            warnings: warnings.iter().map(event_line).collect(),
            restart_denied: denied.as_ref().map(why_denied),
            observed_at: self.now.to_string(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        let mut text = format!(
            "{}/{} in {}: {summary}\nPhase {}, {} containers ready, {} restarts, uid {}.",
            body.namespace,
            body.name,
            cluster.title(),
            body.phase,
            body.ready_containers,
            body.restarts,
            body.uid
        );
        for event in &body.warnings {
            text.push_str(&format!(
                "\nWarning {}x {}: {}",
                event.count, event.reason, event.message
            ));
        }
        match &body.restart_denied {
            Some(why) => text.push_str(&format!("\nrestart_pod would be denied: {}.", why.message)),
            None if body.failing.is_some() => {
                text.push_str("\nrestart_pod can be proposed, where the policy has a rule for it.");
            }
            None => {}
        }
        text.push_str(&format!("\n({UNTRUSTED})"));
        Ok(Answer::new(text, &body))
    }

    pub async fn list_failing_pods(&self, args: ListFailingPods) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_deref();
        if let Some(namespace) = namespace.filter(|namespace| !self.caller.sees(namespace)) {
            return Err(cluster.no_namespace(namespace).await);
        }
        let _place = cluster.place().await?;
        // One pass over everything, or one for each namespace that this caller may see.
        let scopes: Vec<Option<&str>> = match (namespace, &self.caller.namespaces) {
            (Some(namespace), _) => vec![Some(namespace)],
            (None, None) => vec![None],
            (None, Some(visible)) => visible.iter().map(|one| Some(one.as_str())).collect(),
        };
        let (mut pods, mut tops, mut complete) =
            (Vec::new(), std::collections::HashMap::new(), true);
        for scope in scopes {
            let (listed, owners) = tokio::join!(
                cluster.reader.list_pods(scope, None, MOST_PODS),
                cluster.reader.top_owners(scope),
            );
            let listed = listed.map_err(|error| unreadable(&error))?;
            complete &= listed.complete;
            pods.extend(listed.pods);
            tops.extend(owners.unwrap_or_default());
        }
        if let Some(namespace) = namespace.filter(|_| pods.is_empty()) {
            cluster.namespace_exists(namespace).await?;
        }
        let limit = args.limit.unwrap_or(10) as usize;
        let cursor = args.cursor.as_deref();
        let page = group_failing(
            &pods,
            &tops,
            self.now,
            &Thresholds::default(),
            limit,
            cursor,
        )
        .map_err(|error| Complaint::new("invalid_arguments", error.to_string()))?;
        let groups: Vec<FailingGroupLine> = page
            .groups
            .iter()
            .map(|group| FailingGroupLine {
                namespace: group.namespace.clone(),
                workload: group.owner.as_ref().map(object_name),
                reason: group.reason.clone(),
                severity: format!("{:?}", group.severity).to_lowercase(),
                pods: bounded(group.count),
                since: group.since.to_string(),
                restarts: group.restarts,
                names: group.names.clone(),
                message: group.worst.failing.message.as_deref().map(short),
            })
            .collect();
        let place = namespace.map_or_else(String::new, |name| format!(", namespace {name}"));
        let mut text = if page.pods_failing == 0 {
            format!(
                "No pod is failing in {}{place}; {} seen.",
                cluster.title(),
                page.pods_seen
            )
        } else {
            format!(
                "{} of {} pods are failing in {}{place}, in {} groups:",
                page.pods_failing,
                page.pods_seen,
                cluster.title(),
                page.groups_total
            )
        };
        for group in &groups {
            let owner = group.workload.as_ref().map_or_else(
                || "no controller".to_owned(),
                |w| format!("{} {}", w.kind, w.name),
            );
            text.push_str(&format!(
                "\n- [{}] {}: {}/{owner}, {} pod(s), {} restarts, since {}: {}",
                group.severity,
                group.reason,
                group.namespace,
                group.pods,
                group.restarts,
                group.since,
                group.names.join(", ")
            ));
        }
        if page.next_cursor.is_some() {
            text.push_str("\nThere are more groups: pass next_cursor as `cursor`.");
        }
        if !complete {
            text.push_str("\nThe cluster has more pods than were read: ask for one namespace.");
        }
        text.push_str(&format!("\n({UNTRUSTED})"));
        let body = FailingPods {
            cluster: cluster.id.to_owned(),
            namespace: args.namespace,
            pods_seen: bounded(page.pods_seen),
            pods_failing: bounded(page.pods_failing),
            groups_total: bounded(page.groups_total),
            groups,
            scheduling_gated: page.scheduling_gated.into_iter().take(20).collect(),
            complete,
            next_cursor: page.next_cursor,
            observed_at: self.now.to_string(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        Ok(Answer::new(text, &body))
    }

    pub async fn get_recent_events(&self, args: GetRecentEvents) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let namespace = args.namespace.as_str();
        if !self.caller.sees(namespace) {
            return Err(cluster.no_namespace(namespace).await);
        }
        let place = cluster.place().await?;
        let mut events = cluster
            .reader
            .list_events(Some(namespace), None)
            .await
            .map_err(|error| unreadable(&error))?;
        if let Some(pod) = &args.pod {
            // By name, not by UID: the events of a pod that was just replaced are the point.
            events.retain(|event| event.object.kind == "Pod" && event.object.name == *pod);
            if events.is_empty() {
                // The look for near names takes a place of its own.
                drop(place);
                cluster.pod(namespace, pod).await?;
            }
        } else if events.is_empty() {
            cluster.namespace_exists(namespace).await?;
        }
        if !args.include_normal.unwrap_or(false) {
            events.retain(|event| event.kind == "Warning");
        }
        let folded = fold_events(&events);
        let limit = args.limit.unwrap_or(20) as usize;
        let lines: Vec<EventLine> = folded.iter().take(limit).map(event_line).collect();
        let of = args
            .pod
            .as_ref()
            .map_or_else(String::new, |pod| format!(" of pod {pod}"));
        let mut text = if lines.is_empty() {
            format!(
                "No such events{of} in {}/{namespace}. Clusters forget them, usually after an hour.",
                cluster.title()
            )
        } else {
            format!(
                "{} of {} events{of} in {}/{namespace}, newest first:",
                lines.len(),
                folded.len(),
                cluster.title()
            )
        };
        for line in &lines {
            text.push_str(&format!(
                "\n- {} {} {}x {} {}: {}",
                line.last_seen, line.r#type, line.count, line.reason, line.object, line.message
            ));
        }
        text.push_str(&format!("\n({UNTRUSTED})"));
        let body = RecentEvents {
            cluster: cluster.id.to_owned(),
            namespace: namespace.to_owned(),
            pod: args.pod,
            events: lines,
            total: bounded(folded.len()),
            observed_at: self.now.to_string(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        Ok(Answer::new(text, &body))
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

/// What the pod says about its controller, without asking whether that still exists.
fn presumed_owner(pod: &PodRecord) -> OwnerLookup {
    match &pod.owner {
        None => OwnerLookup::NoController,
        Some(owner) => OwnerLookup::Unverified {
            owner: owner.clone(),
        },
    }
}

/// The code and sentence of a pod that must not be restarted.
pub fn why_denied(reason: &NotRestartable) -> Why {
    let code = match reason {
        NotRestartable::NoController => Code::NoController,
        NotRestartable::OwnerGone { .. } => Code::OwnerGone,
        NotRestartable::MirrorPod => Code::MirrorPod,
        NotRestartable::Terminating { .. } => Code::Terminating,
    };
    Why::new(code, reason.to_string())
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

fn event_line(event: &FoldedEvent) -> EventLine {
    EventLine {
        last_seen: event.last_seen.to_string(),
        first_seen: event.first_seen.to_string(),
        count: u32::try_from(event.count).unwrap_or(u32::MAX),
        r#type: event.kind.clone(),
        reason: event.reason.clone(),
        object: format!("{}/{}", event.object.kind, event.object.name),
        message: short(&event.message),
    }
}

fn short(text: &str) -> String {
    countersign_domain::one_line(text, 300)
}

fn container_line(container: &ContainerRecord) -> ContainerStatus {
    let state = match &container.state {
        None => "not reported yet".to_owned(),
        Some(ContainerState::Waiting { reason, message }) => {
            let reason = reason.as_deref().unwrap_or("no reason given");
            match message {
                Some(message) => format!("waiting: {reason}: {}", short(message)),
                None => format!("waiting: {reason}"),
            }
        }
        Some(ContainerState::Running { since }) => match since {
            Some(since) => format!("running since {since}"),
            None => "running".to_owned(),
        },
        Some(ContainerState::Terminated(end)) => format!("ended: {}", end_line(end)),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: countersign_domain::one_line(&container.image, 200),
        kind: format!("{:?}", container.kind).to_lowercase(),
        ready: container.ready,
        restarts: container.restart_count,
        state,
        last_end: container.last_terminated.as_ref().map(end_line),
        memory_limit: container.memory_limit.clone(),
    }
}

fn end_line(end: &Terminated) -> String {
    let mut line = format!(
        "{} (exit code {}",
        end.reason.as_deref().unwrap_or("ended"),
        end.exit_code
    );
    if let Some(at) = end.finished_at {
        line.push_str(&format!(", at {at}"));
    }
    line.push(')');
    if let Some(message) = &end.message {
        line.push_str(&format!(": {}", short(message)));
    }
    line
}
