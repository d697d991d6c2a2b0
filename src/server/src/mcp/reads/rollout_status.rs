//! `get_rollout_status`: how far a rollout is, and which pods hold it up.

use countersign_integrations::kubernetes::{
    HoldingUp, KubeError, PodRecord, RevisionRecord, RolloutState, Thresholds, UpdateStrategy,
    WorkloadRecord, fold_events, holding_up, rollout,
};
use countersign_integrations::near_matches::near_matches;
use jiff::Timestamp;

use super::recent_events::event_line;
use super::{ClusterView, MOST_CANDIDATES, View, bounded, unreadable};
use crate::mcp::answers::{Answer, Complaint, EventLine, HoldUp, RolloutStatus};
use crate::mcp::arguments::{GetRolloutStatus, WorkloadKind};

/// Pods named in one answer; the total is told.
const MOST_NAMED: usize = 10;
const WARNINGS: usize = 3;

impl View<'_> {
    pub async fn get_rollout_status(&self, args: GetRolloutStatus) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let workload = cluster
            .rolling(&args.namespace, args.kind, &args.name)
            .await?;
        let Some(verdict) = rollout(&workload) else {
            return Err(unrolling(&workload));
        };
        let desired = workload.replicas.unwrap_or(1);
        let at_rest = verdict.state == RolloutState::Complete
            && workload.available >= desired
            && workload.ready >= desired;
        let (held, warnings) = if at_rest {
            (Vec::new(), Vec::new())
        } else {
            let held = cluster
                .held_up(&workload, self.now, &self.thresholds)
                .await?;
            let warnings = cluster.warnings_about(&workload).await;
            (held, warnings)
        };
        let next_tool = match held.iter().find(|one| one.failing).or(held.first()) {
            Some(one) => Some(format!("get_pod_status for pod {}", one.pod)),
            None if at_rest => None,
            None => Some(format!(
                "get_recent_events with kind {} and name {}",
                workload.kind, workload.name
            )),
        };
        let mut summary = verdict.sentence.clone();
        if workload.kind == "StatefulSet" && held.iter().any(|one| one.updated && one.failing) {
            summary.push_str(
                "; a StatefulSet does not go past a pod that is not ready, and keeps that pod even \
                 after its template is repaired, until somebody deletes it",
            );
        }
        let total = held.len();
        let body = RolloutStatus {
            cluster: cluster.id.to_owned(),
            namespace: workload.namespace.clone(),
            kind: workload.kind.clone(),
            name: workload.name.clone(),
            state: verdict.state.as_str().to_owned(),
            summary,
            revision: workload
                .revision
                .clone()
                .or(workload.update_revision.clone()),
            desired,
            updated: workload.updated,
            ready: workload.ready,
            available: workload.available,
            paused: workload.paused,
            strategy: strategy(workload.strategy),
            held_up_by: held.iter().take(MOST_NAMED).map(hold_up).collect(),
            held_up_total: bounded(total),
            warnings,
            managed_by: workload.managed_by.clone(),
            next_tool,
            origin: cluster.origin(),
        };
        let text = cluster.framed(&told(&body, &cluster.title()));
        Ok(Answer::new(text, &body))
    }
}

impl ClusterView<'_> {
    /// A workload that rolls out, of the kind asked for or else of any, that this caller may see.
    pub(super) async fn rolling(
        &self,
        namespace: &str,
        kind: Option<WorkloadKind>,
        name: &str,
    ) -> Result<WorkloadRecord, Complaint> {
        if !self.sees(namespace) {
            return Err(self.no_namespace(namespace).await);
        }
        let kinds = match kind {
            Some(kind) => vec![kind],
            None => WorkloadKind::ROLLING.to_vec(),
        };
        for kind in kinds {
            match self
                .reader
                .get_workload(namespace, kind.as_str(), name)
                .await
            {
                Ok(workload) => return Ok(workload),
                Err(KubeError::NotFound { .. }) => {}
                Err(error) => return Err(unreadable(&error)),
            }
        }
        Err(self.no_workload(namespace, kind, name).await)
    }

    async fn no_workload(
        &self,
        namespace: &str,
        kind: Option<WorkloadKind>,
        name: &str,
    ) -> Complaint {
        let _place = match self.place().await {
            Ok(place) => place,
            Err(complaint) => return complaint,
        };
        let mut all: Vec<(String, &'static str)> = Vec::new();
        for kind in WorkloadKind::ROLLING {
            let listed = self
                .reader
                .list_workloads(kind.as_str(), Some(namespace), None)
                .await;
            if let Ok(list) = listed {
                let names = list.workloads.into_iter();
                all.extend(names.map(|workload| (workload.name, kind.as_str())));
            }
        }
        if all.is_empty()
            && let Err(complaint) = self.namespace_exists(namespace).await
        {
            return complaint;
        }
        let near: Vec<String> = near_matches(name, all.iter().map(|(name, _)| name.as_str()))
            .into_iter()
            .flat_map(|near| all.iter().filter(move |(name, _)| name == near))
            .map(|(name, kind)| format!("{kind} {name}"))
            .take(5)
            .collect();
        let advice = match (near.is_empty(), all.len()) {
            (false, _) => format!("near it are: {}", near.join(", ")),
            (true, 1..=10) => {
                let all: Vec<String> = all
                    .iter()
                    .map(|(name, kind)| format!("{kind} {name}"))
                    .collect();
                format!("there are: {}", all.join(", "))
            }
            (true, _) => "list_workloads shows the names of all".to_owned(),
        };
        let kind = kind.map_or("Deployment, StatefulSet or DaemonSet", WorkloadKind::as_str);
        Complaint::new(
            "unknown_workload",
            format!(
                "there is no {kind} `{name}` in namespace `{namespace}` of {}; {advice}",
                self.title()
            ),
        )
    }

    async fn held_up(
        &self,
        workload: &WorkloadRecord,
        now: Timestamp,
        thresholds: &Thresholds,
    ) -> Result<Vec<HoldingUp>, Complaint> {
        let _place = self.place().await?;
        let revisions = match self.reader.revisions_of(workload).await {
            Ok(revisions) => revisions,
            // Then every pod counts as one of the newest revision.
            Err(KubeError::Forbidden { .. }) => Vec::new(),
            Err(error) => return Err(unreadable(&error)),
        };
        let selector = workload.selector.as_ref().map(|selector| selector.query());
        let namespace = Some(workload.namespace.as_str());
        let list = self
            .reader
            .list_pods(namespace, selector.as_deref(), MOST_CANDIDATES)
            .await
            .map_err(|error| unreadable(&error))?;
        self.reading.missing(list.unreadable);
        let mut pods = list.pods;
        let owners: Vec<&str> = if workload.kind == "Deployment" {
            revisions.iter().map(|one| one.uid.as_str()).collect()
        } else {
            vec![workload.uid.as_str()]
        };
        pods.retain(|pod| {
            let owner = pod.owner.as_ref().map(|owner| owner.uid.as_str());
            owner.is_some_and(|owner| owners.contains(&owner))
        });
        let newest = revisions.first();
        let updated = |pod: &PodRecord| is_updated(pod, workload, newest);
        Ok(holding_up(&pods, updated, now, thresholds))
    }

    /// Quotas and admission policies that refuse a pod speak only there. Best effort.
    async fn warnings_about(&self, workload: &WorkloadRecord) -> Vec<EventLine> {
        let found = self
            .reader
            .newest_events(
                Some(&workload.namespace),
                Some((&workload.kind, &workload.name)),
                |event| event.kind == "Warning" && about(event.object.uid.as_deref(), workload),
                100,
            )
            .await;
        let events = found.map(|found| found.events).unwrap_or_default();
        fold_events(&events)
            .iter()
            .take(WARNINGS)
            .map(event_line)
            .collect()
    }
}

fn about(uid: Option<&str>, workload: &WorkloadRecord) -> bool {
    uid.is_none_or(|uid| uid == workload.uid)
}

fn is_updated(pod: &PodRecord, workload: &WorkloadRecord, newest: Option<&RevisionRecord>) -> bool {
    const HASH: &str = "controller-revision-hash";
    let Some(newest) = newest else { return true };
    match workload.kind.as_str() {
        "Deployment" => pod.owner.as_ref().is_some_and(|set| set.uid == newest.uid),
        "StatefulSet" => pod.labels.get(HASH) == workload.update_revision.as_ref(),
        _ => pod.labels.get(HASH) == newest.hash.as_ref(),
    }
}

fn unrolling(workload: &WorkloadRecord) -> Complaint {
    Complaint::new(
        "invalid_arguments",
        format!("a {} does not roll out", workload.kind),
    )
}

fn strategy(strategy: UpdateStrategy) -> String {
    match strategy {
        UpdateStrategy::RollingUpdate { partition: 0 } => "RollingUpdate".to_owned(),
        UpdateStrategy::RollingUpdate { partition } => {
            format!("RollingUpdate, partition {partition}")
        }
        UpdateStrategy::OnDelete => "OnDelete".to_owned(),
        UpdateStrategy::Recreate => "Recreate".to_owned(),
        UpdateStrategy::None => "not said".to_owned(),
    }
}

fn hold_up(one: &HoldingUp) -> HoldUp {
    HoldUp {
        pod: one.pod.clone(),
        updated: one.updated,
        failing: one.failing,
        problem: one.problem.clone(),
        since: one.since.to_string(),
    }
}

fn told(body: &RolloutStatus, cluster: &str) -> String {
    let revision = match &body.revision {
        Some(revision) => format!(", revision {revision}"),
        None => String::new(),
    };
    let mut text = format!(
        "Rollout of {} {}/{} in {cluster}: {}: {}.\n{} desired, {} updated, {} ready, {} \
         available; {}{revision}.",
        body.kind,
        body.namespace,
        body.name,
        body.state,
        body.summary,
        body.desired,
        body.updated,
        body.ready,
        body.available,
        body.strategy
    );
    if body.paused {
        text.push_str(" Its rollouts are paused.");
    }
    if let Some(by) = &body.managed_by {
        text.push_str(&format!(" Managed by {by}."));
    }
    if !body.held_up_by.is_empty() {
        let shown = body.held_up_by.len();
        text.push_str(&format!(
            "\nHeld up by {} pods{}:",
            body.held_up_total,
            if shown < body.held_up_total as usize {
                format!(", the worst {shown} of them")
            } else {
                String::new()
            }
        ));
    }
    for one in &body.held_up_by {
        let revision = if one.updated { "new" } else { "old" };
        text.push_str(&format!(
            "\n- {} ({revision} revision), since {}: {}",
            one.pod, one.since, one.problem
        ));
    }
    for event in &body.warnings {
        text.push_str(&format!(
            "\nWarning {}x {}: ⟦{}⟧",
            event.count, event.reason, event.message
        ));
    }
    if let Some(next) = &body.next_tool {
        text.push_str(&format!(
            "\nNext: {next}; get_rollout_history tells what changed."
        ));
    }
    text
}
