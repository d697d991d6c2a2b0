//! What is wrong with a node, and what its pods ask of it. Pure.

use std::collections::HashMap;

use jiff::Timestamp;

use super::failing::{Severity, Thresholds, failing};
use super::records::{ConditionStatus, NodeRecord, PodPhase, PodRecord, Requests};

/// Of the pods on one node that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Without those that have ended.
    pub pods: usize,
    pub requested: Requests,
    pub failing: usize,
    /// `namespace/name`, the worst first.
    pub failing_names: Vec<String>,
}

/// Names of failing pods kept for a node.
const NAMES: usize = 5;

/// Adds up `pods` by node. Pods that have ended request nothing.
#[must_use]
pub fn loads(
    pods: &[PodRecord],
    now: Timestamp,
    thresholds: &Thresholds,
) -> HashMap<String, NodeLoad> {
    let mut loads: HashMap<String, NodeLoad> = HashMap::new();
    let mut worst: HashMap<&str, Vec<(Severity, String)>> = HashMap::new();
    for pod in pods {
        let Some(node) = &pod.node else { continue };
        let load = loads.entry(node.clone()).or_default();
        if !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
            load.pods += 1;
            let (sum, own) = (&mut load.requested, pod.requests);
            sum.cpu_milli = sum.cpu_milli.saturating_add(own.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.saturating_add(own.memory_bytes);
        }
        if let Some(verdict) = failing(pod, now, thresholds) {
            load.failing += 1;
            let name = format!("{}/{}", pod.namespace, pod.name);
            worst
                .entry(node.as_str())
                .or_default()
                .push((verdict.severity, name));
        }
    }
    for (node, mut names) in worst {
        names.sort_by(|(a, left), (b, right)| b.cmp(a).then_with(|| left.cmp(right)));
        if let Some(load) = loads.get_mut(node) {
            load.failing_names = names
                .into_iter()
                .take(NAMES)
                .map(|(_, name)| name)
                .collect();
        }
    }
    loads
}

/// What is wrong with a node itself, the worst first. By convention every condition but Ready is
/// a problem when it is True.
#[must_use]
pub fn node_problems(node: &NodeRecord) -> Vec<(Severity, String)> {
    let mut problems = Vec::new();
    let ready = node.conditions.iter().find(|c| c.kind == "Ready");
    match ready {
        None => problems.push((
            Severity::High,
            "its kubelet has not reported yet".to_owned(),
        )),
        Some(ready) if ready.status != ConditionStatus::True => {
            let mut text = match ready.status {
                ConditionStatus::Unknown => "its kubelet has stopped reporting",
                _ => "not ready",
            }
            .to_owned();
            if let Some(since) = ready.last_transition_at {
                text.push_str(&format!(" since {since}"));
            }
            for said in [&ready.reason, &ready.message].into_iter().flatten() {
                text.push_str(": ");
                text.push_str(said);
            }
            problems.push((Severity::High, text));
        }
        Some(_) => {}
    }
    for condition in &node.conditions {
        if condition.kind == "Ready" || condition.status != ConditionStatus::True {
            continue;
        }
        let mut text = condition.kind.clone();
        if let Some(since) = condition.last_transition_at {
            text.push_str(&format!(" since {since}"));
        }
        if let Some(message) = &condition.message {
            text.push_str(": ");
            text.push_str(message);
        }
        problems.push((Severity::Medium, text));
    }
    if node.unschedulable {
        let text = "cordoned: no new pods are placed on it";
        problems.push((Severity::Low, text.to_owned()));
    }
    problems
}
