//! The golden set: states of pods as the API shows them, each with its verdict and the whole
//! diagnosis, written by hand. docs/pod-states.md has the same states, and this test holds it to
//! that.

mod crashing;
mod ending;
mod healthy;
mod images;
mod scheduling;
mod serving;
mod starting;

use super::*;
use crate::kubernetes::pod_detail::WireDetail;
use crate::kubernetes::wire_node::WireNode;
use crate::kubernetes::{
    FoldedEvent, JobState, NodeRecord, ObjectRef, Situation, Thresholds, diagnosis, failing,
};

/// One state and what must be said about it.
struct State {
    name: &'static str,
    /// How it looks to who knows kubectl.
    looks: &'static str,
    pod: Value,
    job: Option<JobState>,
    owner: Option<OwnerLookup>,
    node: Option<NodeRecord>,
    events: Vec<FoldedEvent>,
    /// The reason, and for how long; `healthy` if it is not failing.
    judged: &'static str,
    says: &'static str,
}

fn state(name: &'static str, looks: &'static str, patch: Value) -> State {
    State {
        name,
        looks,
        pod: pod_json(patch),
        job: None,
        owner: None,
        node: None,
        events: Vec::new(),
        judged: "",
        says: "",
    }
}

impl State {
    fn event(mut self, reason: &str, message: &str, count: u64, minutes: f64) -> Self {
        let normal = ["Killing", "Pulling", "Pulled", "Scheduled"].contains(&reason);
        let at = before(minutes).parse().unwrap();
        self.events.push(FoldedEvent {
            object: ObjectRef {
                kind: "Pod".into(),
                namespace: Some("shop".into()),
                name: "web-7d9f-abcde".into(),
                uid: Some("pod-1".into()),
            },
            kind: if normal { "Normal" } else { "Warning" }.into(),
            reason: reason.into(),
            message: message.into(),
            source: Some("kubelet".into()),
            count,
            first_seen: at,
            last_seen: at,
        });
        self
    }

    /// Of Deployment web, which wants 3.
    fn rollout(mut self, available: i32, revision: &str, minutes: f64) -> Self {
        let controller = workload(
            "ReplicaSet",
            "web-7d9f",
            json!({ "metadata": {
                "creationTimestamp": before(minutes),
                "annotations": { "deployment.kubernetes.io/revision": revision },
            } }),
        );
        let top = workload(
            "Deployment",
            "web",
            json!({ "status": { "availableReplicas": available } }),
        );
        self.owner = Some(OwnerLookup::Found(Box::new(OwnerChain { controller, top })));
        self
    }

    /// Of a workload whose own record is patched.
    fn owned(mut self, kind: &str, name: &str, patch: Value) -> Self {
        let controller = workload(kind, name, patch);
        let top = controller.clone();
        self.job.clone_from(&controller.job);
        self.owner = Some(OwnerLookup::Found(Box::new(OwnerChain { controller, top })));
        self
    }

    fn node(mut self, conditions: &Value) -> Self {
        let node: WireNode = serde_json::from_value(json!({
            "metadata": {
                "name": "node-1", "uid": "n", "resourceVersion": "1",
                "creationTimestamp": before(9000.0),
            },
            "status": { "conditions": conditions },
        }))
        .unwrap();
        self.node = Some(node.into());
        self
    }

    fn judged(mut self, judged: &'static str) -> Self {
        self.judged = judged;
        self
    }

    fn says(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    fn record(&self) -> PodRecord {
        let mut pod = record(self.pod.clone());
        pod.job.clone_from(&self.job);
        pod
    }

    fn verdict(&self) -> String {
        match failing(&self.record(), now(), &Thresholds::default()) {
            None => "healthy".to_owned(),
            Some(failing) => {
                let since = crate::kubernetes::diagnosis::ago(failing.since, now());
                format!("{}, {since}", failing.reason)
            }
        }
    }

    fn diagnosis(&self) -> String {
        let pod = self.record();
        let failing = failing(&pod, now(), &Thresholds::default());
        let wire: WireDetail = serde_json::from_value(self.pod.clone()).unwrap();
        let detail = wire.into();
        diagnosis(&Situation {
            pod: &pod,
            failing: failing.as_ref(),
            detail: Some(&detail),
            owner: self.owner.as_ref(),
            node: self.node.as_ref(),
            events: &self.events,
            now: now(),
        })
    }
}

/// All of them, in the order of the document.
fn all() -> Vec<State> {
    [
        crashing::states(),
        images::states(),
        starting::states(),
        scheduling::states(),
        serving::states(),
        ending::states(),
        healthy::states(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn each_state_is_judged_right() {
    let wrong: Vec<String> = all()
        .iter()
        .filter(|state| state.verdict() != state.judged)
        .map(|state| {
            format!(
                "{}: {} is not {}",
                state.name,
                state.verdict(),
                state.judged
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_diagnosis_is_the_one_that_was_written_for_it() {
    let wrong: Vec<String> = all()
        .iter()
        .filter(|state| state.diagnosis() != state.says)
        .map(|state| {
            format!(
                "{}\n  says:   {}\n  wanted: {}",
                state.name,
                state.diagnosis(),
                state.says
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_document_has_the_same_states() {
    let rows: String = all()
        .iter()
        .map(|state| {
            let cell = |text: &str| text.replace('|', "\\|");
            format!(
                "| {} | {} | {} | {} |\n",
                state.name,
                cell(state.looks),
                state.judged,
                cell(state.says)
            )
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pod-states.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, rest) = document.split_once("|---|---|---|---|\n").unwrap();
    let (table, foot) = rest.split_once("\n\n").unwrap_or((rest.trim_end(), ""));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, format!("{head}|---|---|---|---|\n{rows}\n{foot}")).unwrap();
    } else {
        assert_eq!(
            format!("{table}\n"),
            rows,
            "docs/pod-states.md differs from the golden set; if that is meant, run again with \
             UPDATE_SNAPSHOTS=1 and review the difference"
        );
    }
    let mut names: Vec<&str> = all().iter().map(|state| state.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all().len(), "two states share a name");
}
