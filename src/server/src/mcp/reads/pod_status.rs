//! `get_pod_status`: one pod, and what is wrong with it.

use std::collections::BTreeMap;

use countersign_domain::Code;
use countersign_integrations::kubernetes::{
    ConditionRecord, ConditionStatus, ContainerDetail, ContainerRecord, ContainerState,
    FoldedEvent, NodeRecord, NotRestartable, OwnerLookup, PodDetail, PodRecord, Probe, Situation,
    Terminated, diagnosis, failing, fold_events, node_problems, restartable,
};
use countersign_integrations::masking::mask;
use countersign_integrations::untrusted;

use super::recent_events::event_line;
use super::{ClusterView, MOST_CONTAINERS, View, object_name, severity_word, short};
use crate::mcp::answers::{
    Answer, Complaint, ContainerStatus, FailingNow, ObjectName, PodStatus, UNTRUSTED, Why,
};
use crate::mcp::arguments::GetPodStatus;

const NEWEST_WARNINGS: usize = 5;
/// Finalizers, gates, resources: what is listed of each.
const MOST_NAMES: usize = 10;

impl View<'_> {
    pub async fn get_pod_status(&self, args: GetPodStatus) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let (mut pod, detail) = cluster.pod_in_detail(&args.namespace, &args.pod).await?;
        redact_words(&mut pod);
        let verdict = failing(&pod, self.now, &self.thresholds);
        // Without a cache a healthy pod costs one request; a failing one is worth three more.
        let around = match verdict {
            Some(_) => Around::read(&cluster, &pod).await,
            None => Around::default(),
        };
        let owner = around.owner.as_ref();
        let denied = match owner {
            Some(owner) => restartable(&pod, owner).err(),
            None => restartable(&pod, &presumed_owner(&pod)).err(),
        };
        let summary = diagnosis(&Situation {
            pod: &pod,
            failing: verdict.as_ref(),
            detail: Some(&detail),
            owner,
            node: around.node.as_ref(),
            events: &around.events,
            now: self.now,
        });
        let (ready, all) = pod.ready_containers();
        let mut containers: Vec<&ContainerRecord> = pod.containers.iter().collect();
        // The interesting ones must not be the ones that are cut.
        containers.sort_by_key(|container| container.ready);
        let chain = match owner {
            Some(OwnerLookup::Found(chain)) => Some(chain),
            _ => None,
        };
        let warnings = around.events.iter().filter(|event| event.kind == "Warning");
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
                severity: severity_word(verdict.severity),
                container: verdict.container,
                message: verdict.message.as_deref().map(short),
            }),
            ready_containers: format!("{ready}/{all}"),
            restarts: pod.restarts(),
            created_at: pod.created_at.to_string(),
            node: pod.node.clone(),
            controller: pod.owner.as_ref().map(object_name),
            workload: chain.map(|chain| ObjectName {
                kind: chain.top.kind.clone(),
                name: chain.top.name.clone(),
            }),
            revision: chain.and_then(|chain| chain.controller.revision.clone()),
            conditions: pod.conditions.iter().filter_map(condition_line).collect(),
            containers: containers
                .into_iter()
                .take(MOST_CONTAINERS)
                .map(|container| container_line(container, &detail))
                .collect(),
            notes: notes(&pod, &detail, around.node.as_ref()),
            warnings: warnings.take(NEWEST_WARNINGS).map(event_line).collect(),
            restart_denied: denied.as_ref().map(why_denied),
            as_of: cluster.as_of(),
            source: cluster.source(),
            simulated: cluster.simulated,
            note: UNTRUSTED.to_owned(),
        };
        let text = cluster.framed(&text(&body, &cluster.title()));
        Ok(Answer::new(text, &body))
    }
}

/// What was read around a failing pod. What could not be read is absent: the pod alone is an
/// answer, too.
#[derive(Default)]
struct Around {
    owner: Option<OwnerLookup>,
    node: Option<NodeRecord>,
    events: Vec<FoldedEvent>,
}

impl Around {
    async fn read(cluster: &ClusterView<'_>, pod: &PodRecord) -> Self {
        let node = async {
            match &pod.node {
                Some(node) => cluster.reading.get_node(node).await.ok(),
                None => None,
            }
        };
        let scope = cluster.scope(Some(&pod.namespace));
        let (owner, events, node) = tokio::join!(
            cluster.reading.owner_of(pod),
            cluster.reading.list_events(&scope, Some(&pod.uid)),
            node,
        );
        let mut events = fold_events(&events.unwrap_or_default());
        for event in &mut events {
            event.message = mask(&event.message).into_owned();
        }
        Self {
            owner: owner.ok(),
            node,
            events,
        }
    }
}

/// A container's last words are written by the program in it, and may hold what it was given.
fn redact_words(pod: &mut PodRecord) {
    for container in &mut pod.containers {
        let current = match &mut container.state {
            Some(ContainerState::Terminated(end)) => Some(end),
            _ => None,
        };
        for end in current.into_iter().chain(&mut container.last_terminated) {
            end.message = end.message.as_deref().map(|text| mask(text).into_owned());
        }
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

fn text(body: &PodStatus, cluster: &str) -> String {
    let mut text = format!(
        "{}/{} in {cluster}: {}\nPhase {}, {} containers ready, {} restarts, uid {}.",
        body.namespace,
        body.name,
        body.summary,
        body.phase,
        body.ready_containers,
        body.restarts,
        body.uid
    );
    let owners = [&body.controller, &body.workload];
    let mut owners: Vec<String> = owners
        .into_iter()
        .flatten()
        .map(|owner| format!(" <- {} {}", owner.kind, owner.name))
        .collect();
    owners.dedup();
    text.push_str(&format!("\nPod{}", owners.concat()));
    if let Some(revision) = &body.revision {
        text.push_str(&format!(" (revision {revision})"));
    }
    match &body.node {
        Some(node) => text.push_str(&format!(", on node {node}")),
        None => text.push_str(", on no node"),
    }
    for note in &body.notes {
        text.push_str(&format!("\n{note}"));
    }
    for condition in body
        .conditions
        .iter()
        .filter(|line| !line.contains("=True"))
    {
        text.push_str(&format!("\nCondition ⟦{condition}⟧"));
    }
    for container in &body.containers {
        text.push_str(&container_text(container));
    }
    for event in &body.warnings {
        text.push_str(&format!(
            "\nWarning {}x {}: ⟦{}⟧",
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
    text
}

fn container_text(container: &ContainerStatus) -> String {
    let mut text = format!(
        "\n- {} {} ({}): ⟦{}⟧",
        container.kind, container.name, container.image, container.state
    );
    if container.restarts > 0 {
        text.push_str(&format!("; {} restarts", container.restarts));
    }
    if let Some(end) = &container.last_end {
        text.push_str(&format!("; before: ⟦{end}⟧"));
    }
    if let Some(limits) = &container.limits {
        text.push_str(&format!("; limits {limits}"));
    }
    text
}

/// `Ready=False since 02:11 (ContainersNotReady): ...`.
fn condition_line(condition: &ConditionRecord) -> Option<String> {
    // What kubelets say of every pod tells nothing.
    if condition.kind == "PodReadyToStartContainers" && condition.status == ConditionStatus::True {
        return None;
    }
    let mut line = format!("{}={:?}", short(&condition.kind), condition.status);
    if let Some(at) = condition.last_transition_at {
        line.push_str(&format!(" since {at}"));
    }
    if let Some(reason) = &condition.reason {
        line.push_str(&format!(" ({reason})"));
    }
    if let Some(message) = &condition.message {
        line.push_str(&format!(": {}", short(message)));
    }
    Some(line)
}

/// What a reader would not expect, a line each.
fn notes(pod: &PodRecord, detail: &PodDetail, node: Option<&NodeRecord>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(due) = pod.deletion_timestamp {
        notes.push(format!("being deleted, grace ends at {due}"));
    }
    let mut list = |what: &str, names: &[String]| {
        let names = &names[..names.len().min(MOST_NAMES)];
        if !names.is_empty() {
            let names = untrusted::quote(&names.join(", "), 300);
            notes.push(format!("{what}: {names}"));
        }
    };
    list("finalizers", &pod.finalizers);
    list("scheduling gates", &pod.scheduling_gates);
    list("image pull secrets", &detail.image_pull_secrets);
    if let Some(node) = node {
        let problems = node_problems(node).into_iter();
        notes.extend(problems.map(|(_, text)| format!("node: {text}")));
    }
    if let Some(left) = pod.containers.len().checked_sub(MOST_CONTAINERS + 1) {
        notes.push(format!("{} more containers are not shown", left + 1));
    }
    notes
}

fn container_line(container: &ContainerRecord, detail: &PodDetail) -> ContainerStatus {
    let detail = detail.container(&container.name);
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
        requests: detail.and_then(|detail| amounts(&detail.requests)),
        limits: detail.and_then(|detail| amounts(&detail.limits)),
        probes: detail.and_then(probes),
    }
}

/// `cpu 250m, memory 512Mi`.
fn amounts(amounts: &BTreeMap<String, String>) -> Option<String> {
    let all: Vec<String> = amounts
        .iter()
        .take(MOST_NAMES)
        .map(|(resource, amount)| format!("{resource} {}", short(amount)))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn probes(detail: &ContainerDetail) -> Option<String> {
    let line = |probe: &Probe| format!("{}: {probe}", probe.kind.as_str());
    let all: Vec<String> = detail.probes.iter().map(line).collect();
    (!all.is_empty()).then(|| all.join("; "))
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
