//! An API server of canned answers, and objects for them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use countersign_integrations::kubernetes::KubeReader;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub const TOKEN: &str = "planted-token";

/// Status and body, by path and query; the last one for a target is repeated.
type Answers = HashMap<String, Vec<(u16, String)>>;

/// An API server of canned answers. Each request is noted as `METHOD target`.
#[derive(Clone, Default)]
pub struct Api {
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Api {
    pub fn on(&self, target: &str, status: u16, body: impl Into<Value>) -> &Self {
        let body = match body.into() {
            Value::String(text) => text,
            json => json.to_string(),
        };
        let mut answers = self.answers.lock().unwrap();
        answers
            .entry(target.to_owned())
            .or_default()
            .push((status, body));
        self
    }

    /// Has no answers any more.
    pub fn forget(&self) {
        self.answers.lock().unwrap().clear();
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    let target = request.uri().to_string();
    api.seen
        .lock()
        .unwrap()
        .push(format!("{} {target}", request.method()));
    if target == "/hang" || target.ends_with("/pods/slow") {
        std::future::pending::<()>().await;
    }
    let sent = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if sent != Some(&format!("Bearer {TOKEN}")) {
        return (StatusCode::UNAUTHORIZED, "{}").into_response();
    }
    let mut answers = api.answers.lock().unwrap();
    let (status, body) = match answers.get_mut(&target) {
        Some(list) if list.len() > 1 => list.remove(0),
        Some(list) => list[0].clone(),
        None => (
            404,
            json!({ "kind": "Status", "message": "no such thing" }).to_string(),
        ),
    };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

pub fn kubeconfig(url: &str, user: &Value) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ctx",
        "clusters": [{ "name": "c", "cluster": { "server": url } }],
        "users": [{ "name": "u", "user": user }],
        "contexts": [{ "name": "ctx", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    (dir, path)
}

pub async fn reader(api: &Api) -> (TempDir, KubeReader) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (dir, path) = kubeconfig(&api.start().await, &json!({ "token": TOKEN }));
    (dir, KubeReader::from_kubeconfig(Some(&path), None))
}

pub fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": "1", "creationTimestamp": "2026-11-22T01:00:00Z",
        },
        "spec": { "containers": [{ "name": "app", "image": "web" }] },
        "status": { "phase": "Running" },
    })
}

pub fn owned(mut object: Value, api_version: &str, kind: &str, name: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": api_version, "kind": kind, "name": name, "uid": format!("uid-{name}"),
        "controller": true,
    }]);
    object
}

pub fn workload(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": "1", "creationTimestamp": "2026-11-22T01:00:00Z",
        },
        "spec": { "replicas": 3 }, "status": {},
    })
}

pub fn list(items: &[Value], next: &str) -> Value {
    json!({ "metadata": { "continue": next, "resourceVersion": "9" }, "items": items })
}
