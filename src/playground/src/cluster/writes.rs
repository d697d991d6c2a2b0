//! Create, update, patch and delete. Who may do which was decided before.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::eviction::is_dry_run;
use super::kinds::{Kind, by_plural};
use super::object;
use super::request::Asked;
use super::rest::{kind_of, namespace_of};
use super::state::{Cluster, Task};
use super::status::Refusal;
use crate::{clock, random};

/// The body as JSON: null when there is none.
pub fn read_body(headers: &HeaderMap, body: &Bytes) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let readable = matches!(
        essence,
        "" | "application/json"
            | "application/merge-patch+json"
            | "application/strategic-merge-patch+json"
    );
    if !readable {
        return Err(Refusal::unsupported_media_type(essence));
    }
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(&format!("the object provided is unrecognized: {error}"))
    })?;
    let fits = document.is_object()
        && (document["metadata"].is_null() || document["metadata"].is_object());
    if fits {
        Ok(document)
    } else {
        Err(Refusal::bad_request("the body is not a Kubernetes object"))
    }
}

pub fn perform(
    cluster: &mut Cluster,
    asked: &Asked,
    document: Value,
) -> Result<(StatusCode, Value), Refusal> {
    let kind = kind_of(asked)?;
    match (asked.attributes.verb, &*asked.attributes.subresource) {
        ("create", "eviction") if kind.plural == "pods" => cluster
            .evict(asked, &document)
            .map(|body| (StatusCode::CREATED, body)),
        ("create", "") if asked.attributes.name.is_empty() => {
            create(cluster, kind, asked, document)
        }
        ("update" | "patch", "" | "status") => change(cluster, kind, asked, &document),
        ("delete", "") => delete(cluster, kind, asked, &document),
        (
            "create" | "update" | "patch" | "delete" | "deletecollection",
            "" | "eviction" | "log",
        ) => Err(Refusal::method_not_allowed()),
        _ => Err(Refusal::no_such_resource()),
    }
}

fn create(
    cluster: &mut Cluster,
    kind: &'static Kind,
    asked: &Asked,
    mut document: Value,
) -> Result<(StatusCode, Value), Refusal> {
    let version = object::text(&document, "/apiVersion");
    if version != kind.api_version() {
        let message = format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        );
        return Err(Refusal::bad_request(&message));
    }
    if document["kind"] != kind.kind {
        let message = format!(
            "{} in version {:?} cannot be handled as a {}",
            object::text(&document, "/kind"),
            kind.version,
            kind.kind
        );
        return Err(Refusal::bad_request(&message));
    }
    let namespace = namespace_of(kind, asked);
    if kind.namespaced {
        let own = object::namespace(&document);
        if !own.is_empty() && own != namespace {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Refusal::bad_request(message));
        }
        document["metadata"]["namespace"] = namespace.into();
        let namespaces = by_plural("namespaces");
        if cluster.store.get(namespaces, "", namespace).is_none() {
            return Err(Refusal::not_found(namespaces, namespace));
        }
    }
    if object::name(&document).is_empty() {
        let prefix = object::text(&document, "/metadata/generateName");
        if prefix.is_empty() {
            let why = "Required value: name or generateName is required";
            return Err(Refusal::invalid(kind, "", "metadata.name", why));
        }
        document["metadata"]["name"] = format!("{prefix}{}", random::name_suffix()).into();
    }
    let name = object::name(&document).to_owned();
    check_name(kind, &name)?;
    if cluster.store.get(kind, namespace, &name).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    if is_dry_run(asked, &document) {
        document["metadata"]["uid"] = random::uuid().into();
        document["metadata"]["creationTimestamp"] = clock::kubernetes(clock::now()).into();
        return Ok((StatusCode::CREATED, document));
    }
    put(cluster, kind, document)?;
    let made = cluster
        .store
        .get(kind, namespace, &name)
        .ok_or_else(|| Refusal::internal("the new object is not there"))?;
    Ok((StatusCode::CREATED, Value::clone(&made)))
}

/// Stores a new object and what its controller makes of it. Returns names of pods it created.
pub fn put(
    cluster: &mut Cluster,
    kind: &'static Kind,
    mut document: Value,
) -> Result<Vec<String>, Refusal> {
    let now = clock::now();
    for server_side in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
    ] {
        if let Some(metadata) = document["metadata"].as_object_mut() {
            metadata.shift_remove(server_side);
        }
    }
    for field in ["spec", "status"] {
        if !(document[field].is_null() || document[field].is_object()) {
            let why = "Invalid value: must be an object";
            return Err(Refusal::invalid(kind, object::name(&document), field, why));
        }
    }
    match kind.plural {
        "deployments" => return cluster.create_deployment(document, now),
        "pods" => {
            let name = object::name(&document).to_owned();
            cluster.create_bare_pod(document, now)?;
            return Ok(vec![name]);
        }
        "namespaces" => document["status"] = json!({"phase": "Active"}),
        _ => {}
    }
    let namespace = object::namespace(&document).to_owned();
    cluster.store.insert(kind, document, now);
    cluster.settle(&namespace);
    Ok(Vec::new())
}

/// RFC 1123 subdomain, as almost every kind wants its name.
fn check_name(kind: &Kind, name: &str) -> Result<(), Refusal> {
    let edge = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let fine = name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(edge)
                && label.ends_with(edge)
                && label.chars().all(|letter| edge(letter) || letter == '-')
        });
    if fine {
        return Ok(());
    }
    let why = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case \
         alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
    );
    Err(Refusal::invalid(kind, name, "metadata.name", &why))
}

/// PUT replaces, PATCH merges (RFC 7396). Identity and status stay as they were.
fn change(
    cluster: &mut Cluster,
    kind: &'static Kind,
    asked: &Asked,
    document: &Value,
) -> Result<(StatusCode, Value), Refusal> {
    let (namespace, name) = (namespace_of(kind, asked), &*asked.attributes.name);
    let Some(before) = cluster.store.get(kind, namespace, name) else {
        return Err(Refusal::not_found(kind, name));
    };
    let version = object::resource_version(document);
    if !version.is_empty() && version != object::resource_version(&before) {
        return Err(Refusal::modified(kind, name));
    }
    let mut after = Value::clone(&before);
    if asked.attributes.verb == "patch" {
        merge(&mut after, document);
    } else {
        after = document.clone();
    }
    if !after["metadata"].is_object() {
        return Err(Refusal::bad_request("the object has no metadata"));
    }
    for identity in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
    ] {
        after["metadata"][identity] = before["metadata"][identity].clone();
        if let (true, Some(metadata)) = (
            after["metadata"][identity].is_null(),
            after["metadata"].as_object_mut(),
        ) {
            metadata.shift_remove(identity);
        }
    }
    for identity in ["apiVersion", "kind", "status"] {
        if let Some(value) = before.get(identity) {
            after[identity] = value.clone();
        }
    }
    if is_dry_run(asked, document) {
        return Ok((StatusCode::OK, after));
    }
    if after["spec"] != before["spec"] && !before["metadata"]["generation"].is_null() {
        after["metadata"]["generation"] =
            (object::integer(&before, "/metadata/generation") + 1).into();
    }
    let replicas = after["spec"]["replicas"].clone();
    cluster
        .store
        .update(kind, namespace, name, |object| *object = after);
    if kind.plural == "deployments" && replicas != before["spec"]["replicas"] {
        scale(cluster, &before, &replicas);
    }
    if kind.plural == "pods" && object::is_terminating(&before) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let uid = object::uid(&before).to_owned();
        cluster.schedule(
            super::kubelet::STOPPING,
            Task::Finish {
                namespace,
                name,
                uid,
            },
        );
    }
    cluster.settle(namespace);
    let object = cluster.store.get(kind, namespace, name);
    let object = object.ok_or_else(|| Refusal::not_found(kind, name))?;
    Ok((StatusCode::OK, Value::clone(&object)))
}

fn scale(cluster: &mut Cluster, deployment: &Value, replicas: &Value) {
    if let Some(set) = cluster.newest_set(deployment) {
        let (namespace, name) = (object::namespace(&set), object::name(&set));
        cluster
            .store
            .update(by_plural("replicasets"), namespace, name, |set| {
                set["spec"]["replicas"] = replicas.clone();
            });
        cluster.reconcile(namespace, name);
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn delete(
    cluster: &mut Cluster,
    kind: &'static Kind,
    asked: &Asked,
    options: &Value,
) -> Result<(StatusCode, Value), Refusal> {
    let (namespace, name) = (namespace_of(kind, asked), &*asked.attributes.name);
    let Some(found) = cluster.store.get(kind, namespace, name) else {
        return Err(Refusal::not_found(kind, name));
    };
    let precondition = |field: &str| {
        options
            .pointer(&format!("/preconditions/{field}"))
            .and_then(Value::as_str)
    };
    if let Some(uid) = precondition("uid").filter(|uid| *uid != object::uid(&found)) {
        return Err(Refusal::uid_differs(kind, name, uid, object::uid(&found)));
    }
    let version = object::resource_version(&found);
    if let Some(asked_for) = precondition("resourceVersion").filter(|asked| *asked != version) {
        return Err(Refusal::version_differs(kind, name, asked_for, version));
    }
    let grace = options["gracePeriodSeconds"].as_i64().or_else(|| {
        asked
            .query("gracePeriodSeconds")
            .and_then(|text| text.parse().ok())
    });
    if !is_dry_run(asked, options) {
        cluster.delete(kind, namespace, name, grace);
    }
    if kind.plural == "pods" {
        let now = cluster.store.get(kind, namespace, name).unwrap_or(found);
        return Ok((StatusCode::OK, Value::clone(&now)));
    }
    let mut details = json!({"name": name});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details["kind"] = kind.plural.into();
    details["uid"] = object::uid(&found).into();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    Ok((StatusCode::OK, body))
}
