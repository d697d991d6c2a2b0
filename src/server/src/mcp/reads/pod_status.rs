//! `get_pod_status`: one pod, and what is wrong with it.

use super::recent_events::event_line;
use super::*;

impl View<'_> {
    pub async fn get_pod_status(&self, args: GetPodStatus) -> Result<Answer, Complaint> {
        let cluster = self.cluster(args.cluster.as_deref())?;
        let pod = cluster.pod(&args.namespace, &args.pod).await?;
        let verdict = failing(&pod, self.now, &Thresholds::default());
        // Without a cache a healthy pod costs one request; a failing one is worth two more.
        let (owner, warnings) = if verdict.is_some() {
            let scope = cluster.scope(Some(&pod.namespace));
            let (owner, events) = tokio::join!(
                cluster.reading.owner_of(&pod),
                cluster.reading.list_events(&scope, Some(&pod.uid)),
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
            as_of: cluster.as_of(),
            source: cluster.source(),
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
        let text = cluster.warning() + &text + &cluster.imprint();
        Ok(Answer::new(text, &body))
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
