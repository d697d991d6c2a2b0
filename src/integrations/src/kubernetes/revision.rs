//! What changed from one revision of a workload to the next. Values of environment variables,
//! commands, arguments and annotations may be secrets: of them only a fingerprint is kept, enough
//! to say that they changed. Pure.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Tells equal from unequal without keeping the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(value: &Value) -> Self {
        let mut hasher = Sha256::new();
        feed(&mut hasher, value);
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize()[..16]);
        Self(short)
    }
}

/// The order of an object's members does not count.
fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            hasher.update(format!("{{{}", sorted.len()));
            for (name, member) in sorted {
                feed(hasher, &Value::String(name.clone()));
                feed(hasher, member);
            }
        }
        Value::Array(items) => {
            hasher.update(format!("[{}", items.len()));
            items.iter().for_each(|item| feed(hasher, item));
        }
        scalar => {
            let text = scalar.to_string();
            hasher.update(format!("{}:{text}", text.len()));
        }
    }
}

impl fmt::Debug for Fingerprint {
    /// A short value could be guessed from its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

pub(super) type Fingerprints = BTreeMap<String, Fingerprint>;

/// A ReplicaSet or ControllerRevision of a workload.
#[derive(Clone, Debug)]
pub struct RevisionRecord {
    pub number: i64,
    /// Of the ReplicaSet or ControllerRevision.
    pub name: String,
    pub uid: String,
    /// When its template was first used; a rollback gives an old one a new number.
    pub created_at: Timestamp,
    /// The annotation `kubernetes.io/change-cause`, in whoever's words.
    pub change_cause: Option<String>,
    /// Numbers that it had before it was rolled back to.
    pub earlier_numbers: Vec<i64>,
    /// Value of the label by which its pods are known: `pod-template-hash` or
    /// `controller-revision-hash`.
    pub hash: Option<String>,
    /// Pods of a ReplicaSet; a ControllerRevision does not know.
    pub pods: Option<i32>,
    pub template: Template,
}

/// A pod template, as far as differences are told.
#[derive(Clone, Debug, Default)]
pub struct Template {
    pub(super) containers: BTreeMap<String, TemplateContainer>,
    /// All else of the pod's spec, by field.
    pub(super) fields: Fingerprints,
    pub(super) labels: Fingerprints,
    pub(super) annotations: Fingerprints,
    /// What `kubectl rollout restart` leaves.
    pub(super) restarted_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TemplateContainer {
    pub init: bool,
    pub image: String,
    pub env: Fingerprints,
    /// As `limits.memory`.
    pub resources: BTreeMap<String, String>,
    pub probes: BTreeMap<String, TemplateProbe>,
    pub command: Option<Fingerprint>,
    pub args: Option<Fingerprint>,
    /// All else, by field.
    pub fields: Fingerprints,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateProbe {
    /// Such as `periodSeconds`.
    pub numbers: BTreeMap<String, i64>,
    /// How it probes: may hold headers or a command.
    pub handler: Fingerprint,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Nothing for a change of the pod as a whole.
    pub container: Option<String>,
    /// `image`, `env`, `resources`, `probes`, `command`, `args`, or the name of another field.
    pub what: String,
    /// Such as `web:1.2 -> web:1.3` or `added DEBUG`.
    pub change: String,
}

/// What is different in `after`.
#[must_use]
pub fn changes(before: &Template, after: &Template) -> Vec<Change> {
    let mut found = Vec::new();
    let mut pod = |what: &str, change: String| {
        found.push(Change {
            container: None,
            what: what.to_owned(),
            change,
        });
    };
    if before.restarted_at != after.restarted_at
        && let Some(at) = after.restarted_at
    {
        pod("restart", format!("restarted by hand at {at}"));
    }
    for (what, before, after) in [
        ("labels", &before.labels, &after.labels),
        ("annotations", &before.annotations, &after.annotations),
    ] {
        if let Some(change) = names(before, after) {
            pod(what, change);
        }
    }
    for (field, change) in each(&before.fields, &after.fields) {
        pod(&field, change.to_owned());
    }
    for (name, container) in &after.containers {
        match before.containers.get(name) {
            Some(old) => container_changes(name, old, container, &mut found),
            None => found.push(Change {
                container: Some(name.clone()),
                what: "container".to_owned(),
                change: format!("added, image {}", container.image),
            }),
        }
    }
    for name in before.containers.keys() {
        if !after.containers.contains_key(name) {
            found.push(Change {
                container: Some(name.clone()),
                what: "container".to_owned(),
                change: "removed".to_owned(),
            });
        }
    }
    found
}

fn container_changes(
    name: &str,
    before: &TemplateContainer,
    after: &TemplateContainer,
    found: &mut Vec<Change>,
) {
    let mut tell = |what: &str, change: String| {
        found.push(Change {
            container: Some(name.to_owned()),
            what: what.to_owned(),
            change,
        });
    };
    if before.image != after.image {
        tell("image", format!("{} -> {}", before.image, after.image));
    }
    if before.init != after.init {
        let now = if after.init { "an init" } else { "an app" };
        tell("container", format!("is now {now} container"));
    }
    if let Some(change) = names(&before.env, &after.env) {
        tell("env", change);
    }
    let resources = values(&before.resources, &after.resources);
    if !resources.is_empty() {
        tell("resources", resources.join(", "));
    }
    let probes = probe_changes(&before.probes, &after.probes);
    if !probes.is_empty() {
        tell("probes", probes.join(", "));
    }
    for (what, before, after) in [
        ("command", before.command, after.command),
        ("args", before.args, after.args),
    ] {
        if before != after {
            tell(what, word(before.is_some(), after.is_some()).to_owned());
        }
    }
    for (field, change) in each(&before.fields, &after.fields) {
        tell(&field, change.to_owned());
    }
}

fn probe_changes(
    before: &BTreeMap<String, TemplateProbe>,
    after: &BTreeMap<String, TemplateProbe>,
) -> Vec<String> {
    let mut told = Vec::new();
    for (name, probe) in after {
        match before.get(name) {
            None => told.push(format!("{name} added")),
            Some(old) if old == probe => {}
            Some(old) => {
                let mut what = values(&old.numbers, &probe.numbers);
                if old.handler != probe.handler {
                    what.push("what it calls changed".to_owned());
                }
                told.push(format!("{name}: {}", what.join(", ")));
            }
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    told.extend(gone.map(|name| format!("{name} removed")));
    told
}

/// `added A, B; removed C; changed D`, by names alone.
fn names(before: &Fingerprints, after: &Fingerprints) -> Option<String> {
    let all = each(before, after);
    let parts: Vec<String> = ["added", "removed", "changed"]
        .into_iter()
        .filter_map(|kind| {
            let of_kind: Vec<&str> = all
                .iter()
                .filter(|(_, change)| *change == kind)
                .map(|(name, _)| name.as_str())
                .collect();
            (!of_kind.is_empty()).then(|| format!("{kind} {}", listed(&of_kind)))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Up to twenty, and how many more there are.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 20;
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn each(before: &Fingerprints, after: &Fingerprints) -> Vec<(String, &'static str)> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let kind = word(before.contains_key(key), after.contains_key(key));
            (key.clone(), kind)
        })
        .collect()
}

fn word(before: bool, after: bool) -> &'static str {
    match (before, after) {
        (false, true) => "added",
        (true, false) => "removed",
        _ => "changed",
    }
}

/// `limits.memory 256Mi -> 512Mi`, for values that may be shown.
fn values<V: PartialEq + fmt::Display>(
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) => format!("{key} {old} -> {new}"),
            (None, Some(new)) => format!("{key} {new} (was unset)"),
            (Some(old), None) => format!("{key} unset (was {old})"),
            (None, None) => key.clone(),
        })
        .collect()
}
