//! What is wrong with a node, and what its pods ask of it. Pure.

use std::collections::HashMap;

use jiff::Timestamp;

use super::diagnosis::quote;
use super::failing::{Severity, Thresholds, failing};
use super::records::{ConditionStatus, NodeRecord, PodPhase, PodRecord, Requests};
use crate::untrusted;

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

/// Adds up pods by node. Holds no pod, so that it may see those of a large cluster.
pub(super) struct NodeLoads<'a> {
    now: Timestamp,
    thresholds: &'a Thresholds,
    sums: HashMap<String, Sum>,
}

#[derive(Default)]
struct Sum {
    load: NodeLoad,
    /// Failing pods, at most twice as many as are named in the end.
    failing: Vec<(Severity, String)>,
}

impl<'a> NodeLoads<'a> {
    pub(super) fn new(now: Timestamp, thresholds: &'a Thresholds) -> Self {
        Self {
            now,
            thresholds,
            sums: HashMap::new(),
        }
    }

    /// Counts a pod, if it has a node. One that has ended requests nothing.
    pub(super) fn see(&mut self, pod: &PodRecord) {
        let Some(node) = &pod.node else { return };
        if !self.sums.contains_key(node) {
            self.sums.insert(node.clone(), Sum::default());
        }
        let Some(sum) = self.sums.get_mut(node) else {
            return;
        };
        if !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
            sum.load.pods += 1;
            let (all, own) = (&mut sum.load.requested, pod.requests);
            all.cpu_milli = all.cpu_milli.saturating_add(own.cpu_milli);
            all.memory_bytes = all.memory_bytes.saturating_add(own.memory_bytes);
        }
        if let Some(verdict) = failing(pod, self.now, self.thresholds) {
            sum.load.failing += 1;
            let name = format!("{}/{}", pod.namespace, pod.name);
            sum.failing.push((verdict.severity, name));
            if sum.failing.len() > 2 * NAMES {
                sum.keep_worst();
            }
        }
    }

    /// By the nodes' names.
    pub(super) fn finish(self) -> HashMap<String, NodeLoad> {
        let sums = self.sums.into_iter();
        sums.map(|(node, mut sum)| {
            sum.keep_worst();
            let names = sum.failing.into_iter().map(|(_, name)| name);
            sum.load.failing_names = names.collect();
            (node, sum.load)
        })
        .collect()
    }
}

impl Sum {
    fn keep_worst(&mut self) {
        self.failing
            .sort_by(|(a, left), (b, right)| b.cmp(a).then_with(|| left.cmp(right)));
        self.failing.truncate(NAMES);
    }
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
            let message = ready.message.as_deref().map(quote);
            for said in [ready.reason.clone(), message].into_iter().flatten() {
                text.push_str(": ");
                text.push_str(&said);
            }
            problems.push((Severity::High, text));
        }
        Some(_) => {}
    }
    for condition in &node.conditions {
        if condition.kind == "Ready" || condition.status != ConditionStatus::True {
            continue;
        }
        let mut text = untrusted::line(&condition.kind, 128);
        if let Some(since) = condition.last_transition_at {
            text.push_str(&format!(" since {since}"));
        }
        if let Some(message) = &condition.message {
            text.push_str(": ");
            text.push_str(&quote(message));
        }
        problems.push((Severity::Medium, text));
    }
    if node.unschedulable {
        let text = "cordoned: no new pods are placed on it";
        problems.push((Severity::Low, text.to_owned()));
    }
    problems
}
