//! A Kubernetes API server as small as these tests need: it answers reads from a list of objects
//! and counts everything that is not one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

struct Object {
    group: String,
    plural: String,
    namespace: Option<String>,
    body: Value,
}

#[derive(Clone, Default)]
pub struct FakeCluster {
    objects: Arc<Mutex<Vec<Object>>>,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    /// Lists of pods that are being answered, and how many that were at most.
    lists: Arc<AtomicUsize>,
    most_lists: Arc<AtomicUsize>,
}

impl FakeCluster {
    /// Starts to answer, and writes a kubeconfig for it.
    pub async fn start(folder: &Path) -> (Self, PathBuf) {
        let cluster = Self::default();
        let router = Router::new().fallback(answer).with_state(cluster.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "fake", "user": {"token": "cluster-token"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        });
        let path = folder.join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        (cluster, path)
    }

    pub fn put(&self, group: &str, plural: &str, namespace: Option<&str>, body: Value) {
        let name = body["metadata"]["name"].clone();
        let mut objects = self.objects.lock().unwrap();
        objects.retain(|o| {
            !(o.plural == plural
                && o.namespace.as_deref() == namespace
                && o.body["metadata"]["name"] == name)
        });
        objects.push(Object {
            group: group.into(),
            plural: plural.into(),
            namespace: namespace.map(str::to_owned),
            body,
        });
    }

    pub fn remove(&self, plural: &str, name: &str) {
        let mut objects = self.objects.lock().unwrap();
        objects.retain(|o| !(o.plural == plural && o.body["metadata"]["name"] == name));
    }

    /// Requests that were no GET.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many lists of pods were asked for at once, at most.
    pub fn most_lists(&self) -> usize {
        self.most_lists.load(Ordering::SeqCst)
    }

    pub fn namespace(&self, name: &str) {
        let body = json!({"metadata": meta(name, None, &format!("uid-ns-{name}"))});
        self.put("/api/v1", "namespaces", None, body);
    }

    /// A ReplicaSet `{app}-1` under a Deployment `{app}`.
    pub fn workload(&self, namespace: &str, app: &str) {
        let mut deployment = json!({
            "metadata": meta(app, Some(namespace), &format!("uid-deploy-{app}")),
            "spec": {"replicas": 2}, "status": {"observedGeneration": 1},
        });
        deployment["metadata"]["generation"] = 1.into();
        self.put("/apis/apps/v1", "deployments", Some(namespace), deployment);
        let mut set = json!({
            "metadata": meta(&format!("{app}-1"), Some(namespace), &format!("uid-rs-{app}")),
            "spec": {"replicas": 2}, "status": {"observedGeneration": 1},
        });
        set["metadata"]["generation"] = 1.into();
        set["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": app,
            "uid": format!("uid-deploy-{app}"), "controller": true,
        }]);
        self.put("/apis/apps/v1", "replicasets", Some(namespace), set);
    }

    pub fn pod(&self, namespace: &str, body: Value) {
        self.put("/api/v1", "pods", Some(namespace), body);
    }
}

pub fn meta(name: &str, namespace: Option<&str>, uid: &str) -> Value {
    let mut meta = json!({
        "name": name, "uid": uid, "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": name},
    });
    if let Some(namespace) = namespace {
        meta["namespace"] = namespace.into();
    }
    meta
}

/// A pod of workload `app` in a crash loop.
pub fn crashing(namespace: &str, name: &str, uid: &str, app: &str) -> Value {
    let mut pod = healthy(namespace, name, uid, app);
    pod["status"]["conditions"][0]["status"] = "False".into();
    pod["status"]["containerStatuses"] = json!([{
        "name": "app", "image": "example/app:1", "imageID": "", "ready": false,
        "restartCount": 7,
        "state": {"waiting": {
            "reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container",
        }},
        "lastState": {"terminated": {
            "exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T02:00:00Z",
        }},
    }]);
    pod
}

pub fn healthy(namespace: &str, name: &str, uid: &str, app: &str) -> Value {
    let mut pod = json!({
        "metadata": meta(name, Some(namespace), uid),
        "spec": {
            "nodeName": "worker-1", "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "example/app:1"}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z",
            }],
            "containerStatuses": [{
                "name": "app", "image": "example/app:1", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T01:00:00Z"}},
            }],
        },
    });
    pod["metadata"]["labels"] = json!({"app": app});
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-1"),
        "uid": format!("uid-rs-{app}"), "controller": true,
    }]);
    pod
}

pub fn event(name: &str, pod: &str, pod_uid: &str, message: &str) -> Value {
    json!({
        "metadata": meta(name, Some("shop"), &format!("uid-event-{name}")),
        "type": "Warning", "reason": "BackOff", "message": message, "count": 3,
        "firstTimestamp": "2026-01-01T01:00:00Z", "lastTimestamp": "2026-01-01T02:00:00Z",
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": pod_uid},
    })
}

async fn answer(State(cluster): State<FakeCluster>, request: Request) -> Response {
    if request.method() != Method::GET {
        cluster.writes.fetch_add(1, Ordering::SeqCst);
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    cluster.reads.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    if path == "/version" {
        return axum::Json(json!({"gitVersion": "v1.36.3", "major": "1", "minor": "36"}))
            .into_response();
    }
    let query = request.uri().query().unwrap_or_default();
    let involved = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldSelector=involvedObject.uid%3D"))
        .map(str::to_owned);
    let wanted = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldSelector=involvedObject.kind%3D"))
        .and_then(|pair| pair.split_once("%2CinvolvedObject.name%3D"))
        .map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => (format!("/api/{version}"), rest),
        ["apis", group, version, rest @ ..] => (format!("/apis/{group}/{version}"), rest),
        _ => return status(StatusCode::NOT_FOUND),
    };
    if query.split('&').any(|pair| pair == "watch=true") {
        // Nothing changes while anybody looks.
        return Body::from_stream(futures::stream::pending::<std::io::Result<String>>())
            .into_response();
    }
    let (namespace, plural, name) = match rest {
        ["namespaces"] => (None, "namespaces", None),
        ["namespaces", name] => (None, "namespaces", Some(*name)),
        ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
        ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
        [plural] => (None, *plural, None),
        _ => return status(StatusCode::NOT_FOUND),
    };
    if plural == "pods" && name.is_none() {
        let now = cluster.lists.fetch_add(1, Ordering::SeqCst) + 1;
        cluster.most_lists.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        cluster.lists.fetch_sub(1, Ordering::SeqCst);
    }
    let objects = cluster.objects.lock().unwrap();
    let mut found = objects.iter().filter(|object| {
        object.group == group
            && object.plural == plural
            && (namespace.is_none() || object.namespace.as_deref() == namespace)
            && name.is_none_or(|name| object.body["metadata"]["name"] == name)
            && involved
                .as_ref()
                .is_none_or(|uid| object.body["involvedObject"]["uid"] == uid.as_str())
            && wanted.as_ref().is_none_or(|(kind, name)| {
                let of = &object.body["involvedObject"];
                of["kind"] == kind.as_str() && of["name"] == name.as_str()
            })
    });
    if name.is_some() {
        return match found.next() {
            Some(object) => axum::Json(object.body.clone()).into_response(),
            None => status(StatusCode::NOT_FOUND),
        };
    }
    let items: Vec<Value> = found.map(|object| object.body.clone()).collect();
    axum::Json(json!({"metadata": {"resourceVersion": "9"}, "items": items})).into_response()
}

fn status(code: StatusCode) -> Response {
    let body =
        json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": "no"});
    (code, axum::Json(body)).into_response()
}
