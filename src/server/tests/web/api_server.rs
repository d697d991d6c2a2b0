//! An API server that knows one namespace, only as far as the page looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{now, owner, uid_of};

pub fn kubeconfig_for(server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: {server}\n\
         users:\n- name: u\n  user:\n    token: t\ncontexts:\n- name: c\n  context:\n    cluster: c\n    user: u\n"
    )
}

/// Every pod of every name exists and crashes, but those whose name begins with `gone` or `slow`.
pub async fn api_server(restarts: Arc<AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let list = |kind: &'static str| {
        move || async move {
            Json(json!({ "kind": format!("{kind}List"), "metadata": {}, "items": [] }))
        }
    };
    let router = axum::Router::new()
        .route("/api/v1/namespaces/shop/pods/{name}", get(pod))
        .route("/api/v1/namespaces/shop/pods", get(siblings))
        .route(
            "/apis/apps/v1/namespaces/shop/replicasets/{name}",
            get(replica_set),
        )
        .route(
            "/apis/policy/v1/namespaces/shop/poddisruptionbudgets",
            get(list("PodDisruptionBudget")),
        )
        .with_state(restarts);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn pod(
    State(restarts): State<Arc<AtomicU32>>,
    Path(name): Path<String>,
) -> (StatusCode, Json<Value>) {
    if name.starts_with("gone") {
        let status =
            json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404 });
        return (StatusCode::NOT_FOUND, Json(status));
    }
    if name.starts_with("slow") {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    }
    (
        StatusCode::OK,
        Json(pod_json(
            &name,
            &uid_of(&name),
            false,
            restarts.load(Ordering::Relaxed),
        )),
    )
}

fn pod_json(name: &str, uid: &str, ready: bool, restarts: u32) -> Value {
    let since = (now() - SignedDuration::from_mins(22)).to_string();
    let state = if ready {
        json!({ "running": { "startedAt": since } })
    } else {
        json!({ "waiting": { "reason": "CrashLoopBackOff" } })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid, "resourceVersion": "42",
            "creationTimestamp": since, "labels": { "app": "checkout" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": owner().name, "uid": owner().uid }],
        },
        "spec": { "nodeName": "node-3", "restartPolicy": "Always",
            "containers": [{ "name": "app", "image": "shop/checkout:1.4.2" }] },
        "status": {
            "phase": "Running", "startTime": since,
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": since }],
            "containerStatuses": [{ "name": "app", "ready": ready, "restartCount": restarts,
                "image": "shop/checkout:1.4.2", "imageID": "", "state": state }],
        },
    })
}

async fn siblings() -> Json<Value> {
    let others = ["checkout-7d9f8b6c5-b7t2m", "checkout-7d9f8b6c5-kk9wd"];
    let mut items: Vec<Value> = others
        .iter()
        .map(|name| pod_json(name, &uid_of(name), true, 0))
        .collect();
    let failing = "checkout-7d9f8b6c5-x2k4q";
    items.push(pod_json(failing, &uid_of(failing), false, 3));
    Json(json!({ "kind": "PodList", "metadata": { "resourceVersion": "42" }, "items": items }))
}

async fn replica_set(Path(name): Path<String>) -> Json<Value> {
    Json(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": name, "namespace": "shop", "uid": owner().uid, "resourceVersion": "7",
            "creationTimestamp": now().to_string(), "generation": 1 },
        "spec": { "replicas": 3 }, "status": { "replicas": 3, "readyReplicas": 2, "observedGeneration": 1 },
    }))
}
