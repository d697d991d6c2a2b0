//! `/playground`: what a scenario does to the cluster behind everyone's back. Admin token only.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::Account;
use super::faults::Fault;
use super::kinds::{by_plural, find_by_kind};
use super::logs::{self, Writing};
use super::object;
use super::request::Asked;
use super::state::{Cluster, Shared};
use super::status::{Refusal, answer};
use super::writes;

pub async fn control(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let asked = Asked::parse(&method, uri.path(), uri.query());
    match shared.tokens.account(headers.get(header::AUTHORIZATION)) {
        None => return Refusal::unauthorized().into_response(),
        Some(Account::Admin) => {}
        Some(other) => return Refusal::forbidden(other.user(), &asked.attributes).into_response(),
    }
    let outcome = match (method, uri.path()) {
        (Method::GET, "/playground/audit") => {
            let items = shared.read().audit.clone();
            Ok(json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items}))
        }
        (Method::POST, "/playground/apply") => {
            read(&body).and_then(|documents| shared.write(|cluster| apply(cluster, documents)))
        }
        (Method::POST, "/playground/replace-pod") => {
            read(&body).and_then(|which| shared.write(|cluster| replace_pod(cluster, &which)))
        }
        (Method::POST, "/playground/pdb") => {
            read(&body).and_then(|budget| shared.write(|cluster| set_budget(cluster, budget)))
        }
        (Method::POST, "/playground/log") => read::<Writing>(&body)
            .and_then(|writing| shared.write(|cluster| logs::write(cluster, &writing))),
        (Method::POST, "/playground/fail") => read::<Fault>(&body).map(|fault| {
            shared.write(|cluster| cluster.faults.add(fault));
            json!({"status": "Success"})
        }),
        _ => Err(Refusal::no_such_resource()),
    };
    match outcome {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(refusal) => refusal.into_response(),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(&format!("this document does not fit: {error}")))
}

/// One document, an array, or a List. Each replaces the object of the same name, and all that it
/// owned, with a new one.
fn apply(cluster: &mut Cluster, documents: Value) -> Result<Value, Refusal> {
    let documents = match documents {
        Value::Array(documents) => documents,
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        single => vec![single],
    };
    let mut applied = Vec::new();
    for document in documents {
        applied.push(apply_one(cluster, document)?);
    }
    Ok(json!({"applied": applied}))
}

fn apply_one(cluster: &mut Cluster, mut document: Value) -> Result<Value, Refusal> {
    let (version, kind) = (
        object::text(&document, "/apiVersion"),
        object::text(&document, "/kind"),
    );
    let Some(kind) = find_by_kind(version, kind) else {
        let message = format!("the playground has no kind {kind:?} in apiVersion {version:?}");
        return Err(Refusal::bad_request(&message));
    };
    let name = object::name(&document).to_owned();
    if name.is_empty() {
        return Err(Refusal::bad_request(&format!(
            "{} has no metadata.name",
            kind.kind
        )));
    }
    let namespace = match (kind.namespaced, object::namespace(&document)) {
        (false, _) => String::new(),
        (true, "") => "default".to_owned(),
        (true, namespace) => namespace.to_owned(),
    };
    if kind.namespaced {
        let namespaces = by_plural("namespaces");
        if cluster.store.get(namespaces, "", &namespace).is_none() {
            return Err(Refusal::not_found(namespaces, &namespace));
        }
        document["metadata"]["namespace"] = namespace.clone().into();
    }
    cluster.delete(kind, &namespace, &name, Some(0));
    let pods = writes::put(cluster, kind, document)?;
    let uid = cluster.store.get(kind, &namespace, &name);
    Ok(json!({
        "kind": kind.kind, "namespace": namespace, "name": name,
        "uid": uid.as_deref().map(object::uid), "pods": pods,
    }))
}

/// The body of `POST /playground/replace-pod`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplacePod {
    namespace: String,
    name: String,
    /// The new pod keeps the name, as a StatefulSet's would: the UID alone tells them apart.
    #[serde(default)]
    same_name: bool,
}

fn replace_pod(cluster: &mut Cluster, which: &ReplacePod) -> Result<Value, Refusal> {
    let pods = by_plural("pods");
    let ReplacePod {
        namespace,
        name,
        same_name,
    } = which;
    let Some(old) = cluster.store.get(pods, namespace, name) else {
        return Err(Refusal::not_found(pods, name));
    };
    let before: Vec<String> = uids(cluster, namespace);
    cluster.delete(pods, namespace, name, Some(0));
    if *same_name {
        let mut twin = Value::clone(&old);
        if let Some(fields) = twin.as_object_mut() {
            fields.shift_remove("status");
        }
        writes::put(cluster, pods, twin)?;
    } else {
        let owner = object::list(&old, "/metadata/ownerReferences")
            .iter()
            .find(|owner| owner["controller"] == true && owner["kind"] == "ReplicaSet");
        if let Some(owner) = owner {
            cluster.reconcile(namespace, object::text(owner, "/name"));
        }
    }
    let created: Vec<Value> = cluster
        .store
        .list(pods, namespace)
        .filter(|pod| !before.iter().any(|uid| uid == object::uid(pod)))
        .map(|pod| json!({"name": object::name(pod), "uid": object::uid(pod)}))
        .collect();
    Ok(json!({"deleted": {"name": name, "uid": object::uid(&old)}, "created": created}))
}

fn uids(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let pods = cluster.store.list(by_plural("pods"), namespace);
    pods.map(|pod| object::uid(pod).to_owned()).collect()
}

/// The body of `POST /playground/pdb`: a short form of a PodDisruptionBudget.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Budget {
    namespace: String,
    name: String,
    /// Value of the `app` label that it selects; the budget's name when missing.
    app: Option<String>,
    min_available: Option<Value>,
    max_unavailable: Option<Value>,
    unhealthy_pod_eviction_policy: Option<String>,
    #[serde(default)]
    delete: bool,
}

fn set_budget(cluster: &mut Cluster, budget: Budget) -> Result<Value, Refusal> {
    if budget.delete {
        let kind = by_plural("poddisruptionbudgets");
        if cluster
            .store
            .get(kind, &budget.namespace, &budget.name)
            .is_none()
        {
            return Err(Refusal::not_found(kind, &budget.name));
        }
        cluster.delete(kind, &budget.namespace, &budget.name, None);
        return Ok(json!({"deleted": budget.name}));
    }
    let app = budget.app.unwrap_or_else(|| budget.name.clone());
    let mut spec = json!({"selector": {"matchLabels": {"app": app}}});
    for (field, value) in [
        ("minAvailable", budget.min_available),
        ("maxUnavailable", budget.max_unavailable),
        (
            "unhealthyPodEvictionPolicy",
            budget.unhealthy_pod_eviction_policy.map(Value::from),
        ),
    ] {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    let document = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": budget.name, "namespace": budget.namespace}, "spec": spec,
    });
    apply_one(cluster, document)
}
