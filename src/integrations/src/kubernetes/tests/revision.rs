//! What changed between two templates, and that no value of it can leave.

use super::super::revision::changes;
use super::super::wire_revision::{WireControllerRevision, WireReplicaSet};
use super::*;
use crate::kubernetes::RevisionRecord;

const SECRET: &str = "hunter2-secret-value";

fn template() -> Value {
    json!({
        "metadata": {
            "labels": { "app": "web", "pod-template-hash": "abc" },
            "annotations": { "checksum": SECRET },
        },
        "spec": {
            "serviceAccountName": "web",
            "initContainers": [{ "name": "migrate", "image": "migrate:1" }],
            "containers": [{
                "name": "app", "image": "web:1.2", "args": ["--token", SECRET],
                "env": [
                    { "name": "PASSWORD", "value": SECRET },
                    { "name": "MODE", "value": "fast" },
                    { "name": "OLD", "value": "1" },
                ],
                "resources": { "limits": { "memory": "256Mi" } },
                "readinessProbe": {
                    "httpGet": { "path": format!("/ready?key={SECRET}"), "port": 80 },
                    "periodSeconds": 5,
                },
                "livenessProbe": { "tcpSocket": { "port": 80 } },
                "ports": [{ "containerPort": 80 }],
            }],
        },
    })
}

fn replica_set(template: &Value) -> RevisionRecord {
    let set = json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "rs-1", "resourceVersion": "1",
            "creationTimestamp": before(60.0),
            "labels": { "pod-template-hash": "abc" },
            "annotations": {
                "deployment.kubernetes.io/revision": "7",
                "deployment.kubernetes.io/revision-history": "2,4",
                "kubernetes.io/change-cause": "ship\u{202e} it",
            },
        },
        "spec": { "replicas": 2, "template": template }, "status": { "replicas": 2 },
    });
    let (owner, revision) = serde_json::from_value::<WireReplicaSet>(set)
        .unwrap()
        .revision();
    assert_eq!(owner, None);
    revision
}

fn told(after: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut new = template();
    after(&mut new);
    let (before, after) = (replica_set(&template()), replica_set(&new));
    let shown = format!("{before:?} {after:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let found = changes(&before.template, &after.template);
    let lines: Vec<String> = found
        .iter()
        .map(|c| {
            let of = c.container.as_deref().unwrap_or("pod");
            format!("{of} {}: {}", c.what, c.change)
        })
        .collect();
    assert!(!lines.concat().contains("hunter2"), "{lines:?}");
    lines
}

#[test]
fn a_revision_knows_its_numbers_and_its_cause() {
    let revision = replica_set(&template());
    assert_eq!((revision.number, revision.pods), (7, Some(2)));
    assert_eq!(revision.earlier_numbers, [2, 4]);
    assert_eq!(revision.change_cause.as_deref(), Some("ship⟨U+202E⟩ it"));
}

#[test]
fn equal_templates_have_no_difference_whatever_the_order_of_members() {
    assert!(told(|_| {}).is_empty());
    assert!(
        told(|new| new["metadata"]["labels"]["pod-template-hash"] = "def".into()).is_empty(),
        "the controller's own label is no change"
    );
    let a: Value = serde_json::from_str(r#"{"spec":{"containers":[],"x":{"a":1,"b":2}}}"#).unwrap();
    let b: Value = serde_json::from_str(r#"{"spec":{"x":{"b":2,"a":1},"containers":[]}}"#).unwrap();
    assert!(changes(&replica_set(&a).template, &replica_set(&b).template).is_empty());
}

#[test]
fn each_difference_is_told_without_values() {
    let app = |new: &mut Value| new["spec"]["containers"][0].take();
    let put = |new: &mut Value, app: Value| new["spec"]["containers"][0] = app;
    let with = |change: fn(&mut Value)| {
        told(|new| {
            let mut container = app(new);
            change(&mut container);
            put(new, container);
        })
    };
    assert_eq!(
        with(|app| app["image"] = "web:1.3".into()),
        ["app image: web:1.2 -> web:1.3"]
    );
    assert_eq!(
        with(|app| {
            app["env"] = json!([
                { "name": "PASSWORD", "value": "hunter2-other" },
                { "name": "MODE", "value": "fast" },
                { "name": "DEBUG", "valueFrom": { "secretKeyRef": { "name": "hunter2" } } },
            ]);
        }),
        ["app env: added DEBUG; removed OLD; changed PASSWORD"]
    );
    assert_eq!(
        with(|app| app["resources"] = json!({
            "limits": { "memory": "512Mi" }, "requests": { "cpu": "100m" },
        })),
        ["app resources: limits.memory 256Mi -> 512Mi, requests.cpu 100m (was unset)"]
    );
    assert_eq!(
        with(|app| {
            app["readinessProbe"]["periodSeconds"] = 10.into();
            app["readinessProbe"]["httpGet"]["path"] = "/hunter2".into();
            app.as_object_mut().unwrap().remove("livenessProbe");
            app["startupProbe"] = json!({ "tcpSocket": { "port": 80 } });
        }),
        [
            "app probes: readiness: periodSeconds 5 -> 10, what it calls changed, startup added, \
             liveness removed"
        ]
    );
    assert_eq!(
        with(|app| {
            app["command"] = json!(["sh", "-c", SECRET]);
            app["args"] = json!(["hunter2"]);
            app["ports"] = json!([]);
        }),
        [
            "app command: added",
            "app args: changed",
            "app ports: changed"
        ]
    );
}

#[test]
fn changes_of_the_pod_and_of_its_set_of_containers_are_told() {
    assert_eq!(
        told(|new| {
            new["metadata"]["annotations"] = json!({
                "checksum": "hunter2", "kubectl.kubernetes.io/restartedAt": "2026-11-22T01:00:00Z",
            });
            new["spec"]["nodeSelector"] = json!({ "disk": "ssd" });
            new["spec"]["initContainers"] = json!([]);
            let proxy = json!({ "name": "proxy", "image": "proxy:9" });
            new["spec"]["containers"]
                .as_array_mut()
                .unwrap()
                .push(proxy);
        }),
        [
            "pod restart: restarted by hand at 2026-11-22T01:00:00Z",
            "pod annotations: changed checksum",
            "pod nodeSelector: added",
            "proxy container: added, image proxy:9",
            "migrate container: removed",
        ]
    );
}

#[test]
fn a_controller_revision_holds_a_template_too() {
    let revision = json!({
        "metadata": {
            "name": "db-66d8", "namespace": "shop", "uid": "cr-1", "resourceVersion": "1",
            "creationTimestamp": before(60.0), "labels": { "controller-revision-hash": "66d8" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db-uid",
                "controller": true,
            }],
        },
        "revision": 3, "data": { "spec": { "template": template() } },
    });
    let (owner, read) = serde_json::from_value::<WireControllerRevision>(revision)
        .unwrap()
        .revision();
    assert_eq!((owner.as_deref(), read.number), (Some("db-uid"), 3));
    assert_eq!(read.hash.as_deref(), Some("66d8"));
    assert!(changes(&replica_set(&template()).template, &read.template).is_empty());
}
