//! Starts the simulated servers in this process and talks to them over HTTP.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_playground::{cluster, jira};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// Asks again until `found` answers, for at most ten seconds.
pub async fn until<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut found: F) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct TestCluster {
    pub started: cluster::Started,
    pub client: Client,
    pub server: String,
    pub executor: String,
    pub admin: String,
    pub dir: tempfile::TempDir,
}

fn token(kubeconfig: &Path) -> String {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("token:"))
        .unwrap();
    line.split(':').nth(1).unwrap().trim().to_owned()
}

impl TestCluster {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = cluster::Options {
            listen: ANY_PORT,
            dir: dir.path().to_owned(),
            seed: true,
        };
        let started = cluster::start(options).await.unwrap();
        Self {
            client: client(),
            server: token(&started.server_kubeconfig),
            executor: token(&started.executor_kubeconfig),
            admin: token(&started.admin_kubeconfig),
            started,
            dir,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.started.server.url())
    }

    pub async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let mut request = self
            .client
            .request(method, self.url(path))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// Status code and JSON body.
    pub async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let response = self.send(token, method, path, body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn get(&self, token: &str, path: &str) -> Value {
        let (code, body) = self.ask(token, Method::GET, path, None).await;
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    /// Pods of an app, in the order of their names.
    pub async fn pods(&self, namespace: &str, app: &str) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}");
        self.get(&self.server, &path).await["items"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub async fn apply(&self, documents: Value) -> Value {
        let (code, body) = self
            .ask(
                &self.admin,
                Method::POST,
                "/playground/apply",
                Some(documents),
            )
            .await;
        assert_eq!(code, 200, "{body}");
        body
    }

    /// Applies a Deployment in `shop` and waits for all its pods to satisfy `wanted`.
    pub async fn deploy(
        &self,
        name: &str,
        replicas: u32,
        behavior: &str,
        wanted: fn(&Value) -> bool,
    ) -> Vec<Value> {
        self.apply(deployment(name, replicas, behavior)).await;
        until("pods of the new deployment", async || {
            let pods = self.pods("shop", name).await;
            (pods.len() == replicas as usize && pods.iter().all(wanted)).then_some(pods)
        })
        .await
    }

    pub async fn evict(&self, pod: &Value, options: Value, query: &str) -> (u16, Value) {
        let (namespace, name) = (
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name"),
        );
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction{query}");
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options,
        });
        self.ask(&self.executor, Method::POST, &path, Some(body))
            .await
    }
}

pub fn deployment(name: &str, replicas: u32, behavior: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {"app": name},
                    "annotations": {
                        "playground.countersign.dev/behavior": behavior,
                        "playground.countersign.dev/replacement": "ready",
                    },
                },
                "spec": {"containers": [{"name": "app", "image": "registry.example/x:1"}]},
            },
        },
    })
}

/// Takes the spec by value: every caller makes it on the spot.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers write the document in place"
)]
pub fn budget(name: &str, app: &str, spec: Value) -> Value {
    let mut document = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    });
    document["spec"]["selector"] = json!({"matchLabels": {"app": app}});
    document
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .map_or("", |condition| text(condition, "/status"))
}

pub fn is_crash_looping(pod: &Value) -> bool {
    text(pod, "/status/containerStatuses/0/state/waiting/reason") == "CrashLoopBackOff"
}

pub struct TestJira {
    pub started: jira::Started,
    pub client: Client,
    pub credentials: Value,
    pub dir: tempfile::TempDir,
}

impl TestJira {
    pub async fn start(rate_limit: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = jira::Options {
            listen: ANY_PORT,
            dir: dir.path().to_owned(),
            webhook_url: None,
            rate_limit,
        };
        let started = jira::start(options).await.unwrap();
        let credentials =
            serde_json::from_str(&std::fs::read_to_string(&started.credentials).unwrap()).unwrap();
        Self {
            started,
            client: client(),
            credentials,
            dir,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.started.server.url())
    }

    pub fn request(&self, user: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        let user = &self.credentials["users"][user];
        self.client
            .request(method, self.url(path))
            .basic_auth(text(user, "/email"), Some(text(user, "/token")))
    }

    pub async fn send(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let mut request = self.request(user, method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// Status code and JSON body, null when there is none.
    pub async fn ask(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let response = self.send(user, method, path, body).await;
        let code = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub async fn get(&self, user: &str, path: &str) -> Value {
        let (code, body) = self.ask(user, Method::GET, path, None).await;
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    pub async fn control(&self, action: &str, body: Value) {
        let path = format!("/playground/{action}");
        let (code, answer) = self.ask("admin", Method::POST, &path, Some(body)).await;
        assert_eq!(code, 200, "{answer}");
    }

    /// Creates a ticket as the bot and returns its key.
    pub async fn create(&self, summary: &str, label: &str) -> String {
        let (code, made) = self
            .ask(
                "bot",
                Method::POST,
                "/rest/api/3/issue",
                Some(issue(summary, label)),
            )
            .await;
        assert_eq!(code, 201, "{made}");
        text(&made, "/key").to_owned()
    }

    pub async fn transition(&self, user: &str, key: &str, id: &str) -> u16 {
        let path = format!("/rest/api/3/issue/{key}/transitions");
        self.ask(
            user,
            Method::POST,
            &path,
            Some(json!({"transition": {"id": id}})),
        )
        .await
        .0
    }
}

pub fn document(text: &str) -> Value {
    json!({"type": "doc", "version": 1, "content": [
        {"type": "paragraph", "content": [{"type": "text", "text": text}]},
    ]})
}

pub fn issue(summary: &str, label: &str) -> Value {
    json!({"fields": {
        "project": {"key": "OPS"}, "issuetype": {"id": "10200"}, "summary": summary,
        "description": document("what will change"), "labels": [label],
    }})
}
