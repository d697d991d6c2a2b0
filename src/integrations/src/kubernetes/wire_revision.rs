//! The JSON of ReplicaSets and ControllerRevisions, read for what they hold of a pod template.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::revision::{
    Fingerprint, Fingerprints, RevisionRecord, Template, TemplateContainer, TemplateProbe,
};
use super::wire::{Meta, REASON, message};
use crate::untrusted;

const IMAGE: usize = 300;
/// Set by a controller for each revision: no change that somebody made.
const OWN_LABELS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Deserialize)]
pub(super) struct WireReplicaSet {
    metadata: Meta,
    spec: WireReplicaSetSpec,
    #[serde(default)]
    status: WireReplicaSetStatus,
}

#[derive(Deserialize)]
struct WireReplicaSetSpec {
    #[serde(default)]
    template: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireReplicaSetStatus {
    replicas: i32,
}

#[derive(Deserialize)]
pub(super) struct WireControllerRevision {
    metadata: Meta,
    revision: i64,
    #[serde(default)]
    data: Value,
}

/// The UID of the object's controller beside the object.
pub(super) type Owned = (Option<String>, RevisionRecord);

impl WireReplicaSet {
    pub(super) fn revision(mut self) -> Owned {
        let annotations = &self.metadata.annotations;
        let number = |text: &str| text.trim().parse::<i64>().ok();
        let earlier = annotations.revision_history.as_deref().unwrap_or_default();
        let record = RevisionRecord {
            number: annotations
                .revision
                .as_deref()
                .and_then(number)
                .unwrap_or(0),
            earlier_numbers: earlier.split(',').filter_map(number).collect(),
            change_cause: message(annotations.change_cause.clone()),
            hash: self.metadata.labels.get(OWN_LABELS[0]).cloned(),
            pods: Some(self.status.replicas),
            template: template(&self.spec.template),
            created_at: self.metadata.creation_timestamp,
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
        };
        (self.metadata.controller().map(|owner| owner.uid), record)
    }
}

impl WireControllerRevision {
    pub(super) fn revision(mut self) -> Owned {
        let template_json = self.data.pointer("/spec/template");
        let record = RevisionRecord {
            number: self.revision,
            earlier_numbers: Vec::new(),
            change_cause: message(self.metadata.annotations.change_cause.take()),
            // A StatefulSet labels its pods with the name, a DaemonSet with the hash.
            hash: self.metadata.labels.get(OWN_LABELS[1]).cloned(),
            pods: None,
            template: template_json.map(template).unwrap_or_default(),
            created_at: self.metadata.creation_timestamp,
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
        };
        (self.metadata.controller().map(|owner| owner.uid), record)
    }
}

fn template(json: &Value) -> Template {
    let at = |pointer: &str| json.pointer(pointer).and_then(Value::as_object);
    let mut labels = fingerprints(at("/metadata/labels"));
    labels.retain(|name, _| !OWN_LABELS.contains(&name.as_str()));
    let mut annotations = fingerprints(at("/metadata/annotations"));
    annotations.remove(RESTARTED);
    let restarted_at = at("/metadata/annotations")
        .and_then(|all| all.get(RESTARTED)?.as_str())
        .and_then(|text| text.parse().ok());
    let mut fields = fingerprints(at("/spec"));
    let mut containers = BTreeMap::new();
    for (list, init) in [("initContainers", true), ("containers", false)] {
        fields.remove(list);
        let all = json.pointer("/spec").and_then(|spec| spec[list].as_array());
        for one in all.into_iter().flatten().filter_map(Value::as_object) {
            let name = text(one.get("name"), REASON);
            containers.insert(name, container(one, init));
        }
    }
    Template {
        containers,
        fields,
        labels,
        annotations,
        restarted_at,
    }
}

fn container(json: &Map<String, Value>, init: bool) -> TemplateContainer {
    let mut fields = fingerprints(Some(json));
    let mut take = |name: &str| fields.remove(name);
    let (command, args) = (take("command"), take("args"));
    for known in ["name", "image", "env", "resources"] {
        take(known);
    }
    let mut probes = BTreeMap::new();
    for (field, name) in [
        ("startupProbe", "startup"),
        ("readinessProbe", "readiness"),
        ("livenessProbe", "liveness"),
    ] {
        if take(field).is_some()
            && let Some(json) = json[field].as_object()
        {
            probes.insert(name.to_owned(), probe(json));
        }
    }
    let mut env = Fingerprints::new();
    for one in json
        .get("env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        env.insert(text(one.get("name"), REASON), Fingerprint::of(one));
    }
    let mut resources = BTreeMap::new();
    for part in ["requests", "limits"] {
        let all = json.get("resources").and_then(|all| all[part].as_object());
        for (name, quantity) in all.into_iter().flatten() {
            let name = untrusted::line(&format!("{part}.{name}"), REASON);
            resources.insert(name, text(Some(quantity), 40));
        }
    }
    TemplateContainer {
        init,
        image: text(json.get("image"), IMAGE),
        env,
        resources,
        probes,
        command,
        args,
        fields,
    }
}

fn probe(json: &Map<String, Value>) -> TemplateProbe {
    let (numbers, handler): (Vec<_>, Vec<_>) = json.iter().partition(|(_, v)| v.is_i64());
    TemplateProbe {
        numbers: numbers
            .into_iter()
            .filter_map(|(name, value)| Some((untrusted::line(name, REASON), value.as_i64()?)))
            .collect(),
        handler: Fingerprint::of(
            &handler
                .into_iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        ),
    }
}

fn fingerprints(object: Option<&Map<String, Value>>) -> Fingerprints {
    object
        .into_iter()
        .flatten()
        .map(|(name, value)| (untrusted::line(name, REASON), Fingerprint::of(value)))
        .collect()
}

fn text(value: Option<&Value>, cap: usize) -> String {
    match value {
        Some(Value::String(text)) => untrusted::line(text, cap),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
