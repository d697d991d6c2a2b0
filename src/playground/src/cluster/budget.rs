//! Disruption budgets: the status that the disruption controller computes.
//! Rules as in kubernetes `pkg/controller/disruption`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::kinds::by_plural;
use super::object;
use super::selector::structured_matches;
use super::state::{Cluster, Task};
use crate::clock;

/// How long a pod counts as disrupted after its eviction was admitted but did not delete it.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// What the controller compares.
struct Count {
    expected: i64,
    desired: i64,
    healthy: i64,
    disrupted: Value,
}

impl Cluster {
    pub fn settle_budgets(&mut self, namespace: &str) {
        let kind = by_plural("poddisruptionbudgets");
        let budgets: Vec<_> = self.store.list(kind, namespace).cloned().collect();
        for budget in budgets {
            let count = self.count(&budget);
            let allowed = if count.expected <= 0 {
                0
            } else {
                (count.healthy - count.desired).max(0)
            };
            self.store
                .update(kind, namespace, object::name(&budget), |budget| {
                    let generation = budget["metadata"]["generation"].clone();
                    let status = &mut budget["status"];
                    status["currentHealthy"] = count.healthy.into();
                    status["desiredHealthy"] = count.desired.into();
                    status["expectedPods"] = count.expected.into();
                    status["disruptionsAllowed"] = allowed.into();
                    status["observedGeneration"] = generation.clone();
                    if count
                        .disrupted
                        .as_object()
                        .is_some_and(|pods| pods.is_empty())
                    {
                        if let Some(status) = status.as_object_mut() {
                            status.remove("disruptedPods");
                        }
                    } else {
                        status["disruptedPods"] = count.disrupted;
                    }
                    set_allowed_condition(status, &generation, allowed > 0);
                });
        }
    }

    fn count(&self, budget: &Value) -> Count {
        let selector = budget.pointer("/spec/selector");
        let pods: Vec<&Value> = self
            .store
            .list(by_plural("pods"), object::namespace(budget))
            .map(|pod| &**pod)
            .filter(|pod| structured_matches(selector, object::labels(pod)))
            // The controller drops finished pods from its count.
            .filter(|pod| !matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed"))
            .collect();
        let (expected, desired) = self.expectation(budget, &pods);
        let now = clock::now();
        let mut disrupted = json!({});
        let mut healthy = 0;
        for pod in pods.iter().filter(|pod| !object::is_terminating(pod)) {
            let since = &budget["status"]["disruptedPods"][object::name(pod)];
            if !since.is_null() && still_expected_to_go(since, now) {
                disrupted[object::name(pod)] = since.clone();
            } else if object::is_ready(pod) {
                healthy += 1;
            }
        }
        Count {
            expected,
            desired,
            healthy,
            disrupted,
        }
    }

    /// Expected pods and desired healthy pods.
    fn expectation(&self, budget: &Value, pods: &[&Value]) -> (i64, i64) {
        let spec = &budget["spec"];
        if !spec["maxUnavailable"].is_null() {
            let expected = self.scale_of(pods);
            return (
                expected,
                (expected - scaled(&spec["maxUnavailable"], expected)).max(0),
            );
        }
        match &spec["minAvailable"] {
            Value::Number(minimum) => {
                let expected = i64::try_from(pods.len()).unwrap_or(i64::MAX);
                (expected, minimum.as_i64().unwrap_or_default())
            }
            percentage @ Value::String(_) => {
                let expected = self.scale_of(pods);
                (expected, scaled(percentage, expected))
            }
            _ => (0, 0),
        }
    }

    /// The sum of the replicas that the pods' controllers want.
    fn scale_of(&self, pods: &[&Value]) -> i64 {
        let controllers: BTreeSet<&str> = pods
            .iter()
            .filter_map(|pod| object::controller_uid(pod))
            .collect();
        let namespace = pods.first().map_or("", |pod| object::namespace(pod));
        self.store
            .list(by_plural("replicasets"), namespace)
            .filter(|set| controllers.contains(object::uid(set)))
            .map(|set| object::integer(set, "/spec/replicas"))
            .sum()
    }

    /// Notes an admitted eviction in the budget's status, before the deletion is tried.
    pub fn spend_budget(&mut self, namespace: &str, budget: &str, pod: &str) {
        let at = clock::kubernetes(clock::now());
        self.store.update(
            by_plural("poddisruptionbudgets"),
            namespace,
            budget,
            |budget| {
                let status = &mut budget["status"];
                let left = object::integer(status, "/disruptionsAllowed") - 1;
                status["disruptionsAllowed"] = left.into();
                status["disruptedPods"][pod] = at.into();
                let generation = status["observedGeneration"].clone();
                set_allowed_condition(status, &generation, left > 0);
            },
        );
        let namespace = namespace.to_owned();
        self.schedule(
            DELETION_TIMEOUT + Duration::from_secs(1),
            Task::Settle { namespace },
        );
    }
}

fn set_allowed_condition(status: &mut Value, generation: &Value, allowed: bool) {
    let (flag, reason) = if allowed {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let condition = json!({
        "type": "DisruptionAllowed", "status": flag, "reason": reason, "message": "",
        "observedGeneration": generation,
    });
    object::set_condition(status, condition, &clock::kubernetes(clock::now()));
}

fn still_expected_to_go(since: &Value, now: Timestamp) -> bool {
    let limit = SignedDuration::from_secs(120);
    since
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|since| now.duration_since(since) < limit)
}

/// An integer, or a percentage of `total` rounded up.
fn scaled(value: &Value, total: i64) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            (percent * total + 99) / 100
        }
        number => number.as_i64().unwrap_or_default(),
    }
}
