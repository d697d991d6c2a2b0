//! States of docs/pod-states.md brought about on a real control plane and judged there: what the
//! scheduler, the Job and Deployment controllers and the API server do is theirs, what a kubelet
//! would report comes from the fake kubelet or is written as its status.
//!
//! The document says what the verdict on each state is; this test may not say otherwise.
#![allow(clippy::unwrap_used, reason = "a failure here is the test failing")]

mod states;
mod statuses;
mod told;

use std::collections::{BTreeSet, HashSet};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_control_plane::{Api, ControlPlane, Options, Patch, eventually, object_path};
use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{
    ClusterReads, KubeReader, PodPhase, PodRecord, Scope, Situation, Thresholds, diagnosis,
    failing, fold_events, scheduling_gated,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::sleep;

use states::all;

const LIMIT: Duration = Duration::from_secs(90);
/// How long the verdicts must stand once all are right.
const HOLD: Duration = Duration::from_secs(3);
/// Controllers say why a moment after the verdict.
const TOLD: Duration = Duration::from_secs(10);
const PODS: &str = "/api/v1/namespaces/golden/pods";

/// A state to be made, named as in the document.
struct Case {
    name: &'static str,
    made_by: &'static str,
    object: Value,
    /// What must be there before, with its status where that is given.
    needs: Vec<Value>,
    /// What remains to be done once the pod is there.
    then: Vec<Step>,
    /// Judged with limits of seconds, where the time that counts is a real component's.
    soon: bool,
    /// The state has come about. Without it a pod that has only just been created would pass for
    /// each of its healthy look-alikes.
    there: fn(&PodRecord) -> bool,
    /// What the diagnosis says, where that tells the state from others of the same verdict.
    says: Option<&'static str>,
}

enum Step {
    /// An event about the pod: minutes ago, reason and message.
    Event(i64, &'static str, &'static str),
    /// Writes the status of a pod whose kubelet is silent, when it has a node.
    Status(Value),
    /// Attaches a debug container to a pod that has a node.
    Debug,
    /// Deletes a ready pod, with this grace in seconds.
    Delete(u32),
    /// Suspends the Job of a failed pod.
    Suspend,
}

impl Step {
    fn due(&self, pod: &PodRecord) -> bool {
        match self {
            Self::Status(_) | Self::Debug | Self::Event(..) => pod.node.is_some(),
            Self::Delete(_) => pod.ready(),
            Self::Suspend => pod.phase == PodPhase::Failed,
        }
    }

    async fn take(&self, api: &Api, pod: &PodRecord) {
        let path = format!("{PODS}/{}", pod.name);
        let reply = match self {
            Self::Status(status) => {
                let body = json!({"metadata": {"uid": pod.uid}, "status": status});
                let path = format!("{path}/status");
                api.patch(&path, Patch::StrategicMerge, &body).await
            }
            Self::Event(minutes, reason, message) => {
                let path = "/api/v1/namespaces/golden/events";
                api.post(path, &event(pod, *minutes, reason, message)).await
            }
            Self::Debug => {
                let body = json!({"spec": {"ephemeralContainers": [
                    {"name": "shell", "image": "registry.invalid/shell:1"},
                ]}});
                let path = format!("{path}/ephemeralcontainers");
                api.patch(&path, Patch::StrategicMerge, &body).await
            }
            Self::Delete(grace) => {
                let body = json!({"gracePeriodSeconds": grace});
                api.delete(&path, &body).await
            }
            Self::Suspend => {
                let job = &pod.owner.as_ref().unwrap().name;
                let path = format!("/apis/batch/v1/namespaces/golden/jobs/{job}");
                let body = json!({"spec": {"suspend": true}});
                api.patch(&path, Patch::Merge, &body).await
            }
        };
        let done = reply.unwrap().success();
        done.unwrap_or_else(|error| panic!("{}: {error}", pod.name));
    }
}

impl Case {
    fn new(name: &'static str, made_by: &'static str, object: Value) -> Self {
        Self {
            name,
            made_by,
            object,
            needs: Vec::new(),
            then: Vec::new(),
            soon: false,
            there: |_| true,
            says: None,
        }
    }

    fn then(mut self, step: Step) -> Self {
        self.then.push(step);
        self
    }

    fn needs(mut self, object: Value) -> Self {
        self.needs.push(object);
        self
    }

    fn event(self, minutes: i64, reason: &'static str, message: &'static str) -> Self {
        self.then(Step::Event(minutes, reason, message))
    }

    fn says(mut self, words: &'static str) -> Self {
        self.says = Some(words);
        self
    }

    fn soon(mut self) -> Self {
        self.soon = true;
        self
    }

    fn there(mut self, there: fn(&PodRecord) -> bool) -> Self {
        self.there = there;
        self
    }

    fn limits(&self) -> Thresholds {
        match self.soon {
            true => soon(),
            false => Thresholds::default(),
        }
    }

    /// The name as that of an object, and as the label of its pods.
    fn slug(&self) -> String {
        slug(self.name)
    }

    /// What is wrong with the state by now.
    fn wrong(&self, pods: &[PodRecord], judged: &str, now: Timestamp) -> Option<String> {
        let limits = self.limits();
        let verdicts: Vec<String> = pods_of(self, pods)
            .filter(|pod| (self.there)(pod))
            .map(|pod| match failing(pod, now, &limits) {
                None => "healthy".to_owned(),
                Some(failing) => failing.reason.to_string(),
            })
            .collect();
        let right = !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict == judged);
        (!right).then(|| format!("{}: {verdicts:?}, not {judged}", self.name))
    }
}

/// As a kubelet tells of a pod.
fn event(pod: &PodRecord, minutes: i64, reason: &str, message: &str) -> Value {
    let kind = match reason {
        "Pulling" | "Killing" => "Normal",
        _ => "Warning",
    };
    let then = statuses::before(minutes);
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "generateName": "told-", "namespace": "golden",
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": "golden",
            "uid": pod.uid,
        },
        "type": kind, "reason": reason, "message": message, "count": 3,
        "firstTimestamp": then, "lastTimestamp": then, "source": {"component": "kubelet"},
    })
}

/// Limits that real components reach within a test.
fn soon() -> Thresholds {
    Thresholds {
        stuck_after: SignedDuration::from_secs(2),
        slack: SignedDuration::from_secs(1),
        ..Thresholds::default()
    }
}

fn slug(name: &str) -> String {
    name.replace([',', '\''], "")
        .replace(' ', "-")
        .to_lowercase()
}

fn pods_of<'a>(case: &Case, pods: &'a [PodRecord]) -> impl Iterator<Item = &'a PodRecord> {
    let slug = case.slug();
    pods.iter()
        .filter(move |pod| pod.labels.get("state") == Some(&slug))
}

/// Cells of the rows of each of the document's two tables.
fn document() -> [Vec<Vec<String>>; 2] {
    let text = include_str!("../../../../docs/pod-states.md");
    ["|---|---|---|---|\n", "\n|---|---|\n"].map(|rule| {
        let (_, rows) = text.split_once(rule).unwrap();
        let rows = rows.lines().take_while(|line| line.starts_with('|'));
        rows.map(|row| {
            let cells = row.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
    })
}

/// The document's verdict on a state: the reason alone.
fn judged(states: &[Vec<String>], name: &str) -> String {
    let row = states.iter().find(|row| row[0] == name);
    let row = row.unwrap_or_else(|| panic!("docs/pod-states.md has no state {name}"));
    row[2].split(',').next().unwrap().to_owned()
}

#[test]
fn the_document_lists_what_is_made_here() {
    let [states, made] = document();
    let here: String = all()
        .iter()
        .map(|case| format!("| {} | {} |\n", case.name, case.made_by))
        .collect();
    let there: String = made
        .iter()
        .map(|row| format!("| {} |\n", row.join(" | ")))
        .collect();
    assert_eq!(
        here, there,
        "the second table of docs/pod-states.md must be\n{here}"
    );
    let reasons = |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        names.map(|name| judged(&states, name)).collect()
    };
    assert_eq!(
        reasons(&mut states.iter().map(|row| row[0].as_str())),
        reasons(&mut all().iter().map(|case| case.name)),
        "every verdict of the document is reached on a control plane, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_a_real_control_plane_are_judged_as_documented() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let [states, _] = document();
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: golden}\n";
    plane.apply_yaml(namespace).await.unwrap();
    let api = plane.admin().await.unwrap();
    let reader = KubeReader::from_kubeconfig(Some(&plane.admin_kubeconfig()), None);
    let mut cases = all();
    let names: BTreeSet<String> = cases.iter().map(Case::slug).collect();
    assert_eq!(names.len(), cases.len(), "two states share a name");
    for case in &cases {
        for needed in &case.needs {
            let stored = api.apply(needed).await.unwrap();
            if let Some(status) = needed.get("status") {
                let path = format!("{}/status", object_path(&stored).unwrap());
                let body = json!({"status": status});
                let answer = api.patch(&path, Patch::StrategicMerge, &body).await;
                answer.unwrap().success().unwrap();
            }
        }
        api.apply(&case.object).await.unwrap();
    }

    let mut wrong = Vec::new();
    let reached = eventually(LIMIT, "each state as documented", async || {
        let pods = pods(&reader).await;
        for case in &mut cases {
            let Some(step) = case.then.first() else {
                continue;
            };
            let Some(pod) = pods_of(case, &pods).find(|pod| step.due(pod)) else {
                continue;
            };
            step.take(&api, pod).await;
            case.then.remove(0);
        }
        wrong = all_wrong(&cases, &states, &pods);
        let done = cases.iter().all(|case| case.then.is_empty());
        Ok((done && wrong.is_empty()).then_some(()))
    })
    .await;
    reached.unwrap_or_else(|error| panic!("{error}\n{}", wrong.join("\n")));

    // They stay so: a look-alike is no failure that only takes a moment longer.
    let held_until = Instant::now() + HOLD;
    let pods = eventually(LIMIT, "the verdicts hold", async || {
        let pods = pods(&reader).await;
        let wrong = all_wrong(&cases, &states, &pods);
        assert!(
            wrong.is_empty(),
            "no longer as documented\n{}",
            wrong.join("\n")
        );
        Ok((Instant::now() > held_until).then_some(pods))
    })
    .await
    .unwrap();

    // And what is said about them tells them apart.
    let reads = ClusterReads::live(reader.clone(), None, Arc::new(SystemClock));
    let mut untold = Vec::new();
    for case in &cases {
        let Some(words) = case.says else { continue };
        let began = Instant::now();
        loop {
            let mut told = Vec::new();
            for pod in pods_of(case, &pods) {
                told.push(diagnosed(&reads, case, &pod.name).await);
            }
            if told.iter().any(|told| told.contains(words)) {
                break;
            }
            if began.elapsed() > TOLD {
                untold.push(format!("{}: {told:#?} without `{words}`", case.name));
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(untold.is_empty(), "{}", untold.join("\n"));

    let gated: Vec<&str> = pods
        .iter()
        .filter(|pod| scheduling_gated(pod))
        .map(|pod| pod.name.as_str())
        .collect();
    assert_eq!(gated, ["scheduling-gated"]);
    let now = SystemClock.now();
    let kinds: HashSet<_> = pods
        .iter()
        .filter_map(|pod| failing(pod, now, &soon()))
        .map(|failing| discriminant(&failing.reason))
        .collect();
    assert_eq!(kinds.len(), 21, "each kind of reason that there is");
}

async fn pods(reader: &KubeReader) -> Vec<PodRecord> {
    let list = reader.list_pods(Some("golden"), None, 1000).await.unwrap();
    assert!(list.complete);
    list.pods
}

fn all_wrong(cases: &[Case], states: &[Vec<String>], pods: &[PodRecord]) -> Vec<String> {
    let now = SystemClock.now();
    cases
        .iter()
        .filter_map(|case| case.wrong(pods, &judged(states, case.name), now))
        .collect()
}

/// As `get_pod_status` reads and says it.
async fn diagnosed(reads: &ClusterReads, case: &Case, name: &str) -> String {
    let reading = reads.begin();
    let pod = reading.get_pod_in_detail("golden", name).await;
    let (pod, detail) = pod.unwrap();
    let now = SystemClock.now();
    let node = match &pod.node {
        Some(node) => reading.get_node(node).await.ok(),
        None => None,
    };
    let scope = Scope::namespace("golden");
    let events = reading.list_events(&scope, Some(&pod.uid)).await.unwrap();
    diagnosis(&Situation {
        pod: &pod,
        failing: failing(&pod, now, &case.limits()).as_ref(),
        detail: Some(&detail),
        owner: reading.owner_of(&pod).await.ok().as_ref(),
        node: node.as_ref(),
        events: &fold_events(&events),
        now,
    })
}
