//! The kinds that the simulated cluster serves, and discovery documents made from them.

use serde_json::{Value, json};

#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        namespaced,
    }
}

static KINDS: [Kind; 16] = [
    kind("", "v1", "Namespace", "namespaces", false),
    kind("", "v1", "Node", "nodes", false),
    kind("", "v1", "Pod", "pods", true),
    kind("", "v1", "Event", "events", true),
    kind("", "v1", "Secret", "secrets", true),
    kind(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        true,
    ),
    kind("apps", "v1", "Deployment", "deployments", true),
    kind("apps", "v1", "ReplicaSet", "replicasets", true),
    kind("apps", "v1", "StatefulSet", "statefulsets", true),
    kind("apps", "v1", "DaemonSet", "daemonsets", true),
    kind(
        "apps",
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        true,
    ),
    kind("batch", "v1", "Job", "jobs", true),
    kind("batch", "v1", "CronJob", "cronjobs", true),
    kind(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
    ),
    kind(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        true,
    ),
    kind("coordination.k8s.io", "v1", "Lease", "leases", true),
];

impl Kind {
    /// `v1`, `apps/v1`: what stands in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, `deployments.apps`: how messages of the API server name a resource.
    pub fn qualified(&self) -> String {
        qualified(self.group, self.plural)
    }
}

pub fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// For control documents, which name `apiVersion` and `kind`.
pub fn find_by_kind(api_version: &str, name: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.kind == name && kind.api_version() == api_version)
}

/// A kind by its plural alone, for the code that makes objects itself.
pub fn by_plural(plural: &'static str) -> &'static Kind {
    KINDS
        .iter()
        .find(|kind| kind.plural == plural)
        .unwrap_or(&KINDS[0])
}

/// `/api`, `/apis`, `/api/v1`, `/apis/GROUP`, `/apis/GROUP/VERSION`; `None` where nothing is.
pub fn discovery(segments: &[&str]) -> Option<Value> {
    match segments {
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => {
            let mut groups: Vec<(&str, &str)> = Vec::new();
            for kind in KINDS.iter().filter(|kind| !kind.group.is_empty()) {
                if !groups.contains(&(kind.group, kind.version)) {
                    groups.push((kind.group, kind.version));
                }
            }
            let groups: Vec<_> = groups
                .iter()
                .map(|(group, version)| api_group(group, version))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", version] => resource_list("", version),
        ["apis", group] => KINDS.iter().find(|kind| kind.group == *group).map(|kind| {
            let mut body = api_group(kind.group, kind.version);
            body["kind"] = json!("APIGroup");
            body["apiVersion"] = json!("v1");
            body
        }),
        ["apis", group, version] => resource_list(group, version),
        _ => None,
    }
}

fn api_group(group: &str, version: &str) -> Value {
    let served = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [served], "preferredVersion": served})
}

fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    let mut group_version = None;
    for kind in KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        group_version = Some(kind.api_version());
        resources.push(json!({
            "name": kind.plural, "singularName": kind.kind.to_lowercase(),
            "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }));
        if kind.plural == "pods" {
            resources.push(json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true,
                "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"],
            }));
            resources.push(json!({
                "name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod",
                "verbs": ["get"],
            }));
        }
    }
    group_version.map(|group_version| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": resources,
        })
    })
}
