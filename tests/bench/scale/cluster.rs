//! A simulated API server with many pods: lists in pages, single objects, watches. It answers from
//! texts made beforehand, so that the two CPUs work for the product and not for the simulation.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{
    Arc, RwLock,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::pods::{self, FAILING, Looks};

const PODS_OF_A_WORKLOAD: usize = 5;

/// How many pods of which kind.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub pods: usize,
    pub failing: usize,
    pub alike: usize,
}

pub struct BigCluster {
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Failing pods by (namespace, workload): their names.
pub type Truth = BTreeMap<(String, String), Vec<String>>;

struct Shared {
    /// Sorted by namespace and name, as a list comes.
    pods: RwLock<Vec<Pod>>,
    index: HashMap<String, usize>,
    replica_sets: Vec<Bytes>,
    revision: AtomicU64,
    changes: broadcast::Sender<Bytes>,
    truth: Truth,
}

struct Pod {
    namespace: String,
    looks: Looks,
    workload: String,
    number: usize,
    text: Bytes,
}

impl BigCluster {
    /// Makes the pods and listens on a free loopback port.
    pub async fn start(shape: Shape, folder: &Path, now: Timestamp) -> Result<Self> {
        let shared = Arc::new(Shared::new(shape, now));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.ok();
        });
        let kubeconfig = folder.join("big.kubeconfig");
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: big\n\
                 clusters: [{{name: big, cluster: {{server: \"http://{address}\"}}}}]\n\
                 users: [{{name: big, user: {{}}}}]\n\
                 contexts: [{{name: big, context: {{cluster: big, user: big}}}}]\n"
            ),
        )?;
        Ok(Self {
            kubeconfig,
            shared,
            task,
        })
    }

    pub fn truth(&self) -> &Truth {
        &self.shared.truth
    }

    /// A namespace and a pod that is fine in it.
    pub fn healthy_pod(&self) -> (String, String) {
        let pods = self.shared.read();
        let pod = pods.iter().find(|pod| pod.looks == Looks::Healthy);
        pod.map_or_else(Default::default, |pod| (pod.namespace.clone(), pod.name()))
    }

    /// Changes this many healthy pods, one after the other and without a pause. The last `crashed`
    /// of them crash, so that the end of the changes can be seen from outside.
    pub fn change(&self, count: usize, crashed: usize, now: Timestamp) {
        let mut pods = self
            .shared
            .pods
            .write()
            .unwrap_or_else(|broken| broken.into_inner());
        let healthy: Vec<usize> = (0..pods.len())
            .filter(|at| pods[*at].looks == Looks::Healthy)
            .take(count)
            .collect();
        for (done, at) in healthy.iter().enumerate() {
            let looks = match done >= count - crashed {
                true => Looks::Failing(0),
                false => Looks::Healthy,
            };
            let revision = self.shared.revision.fetch_add(1, Ordering::SeqCst) + 1;
            let pod = &mut pods[*at];
            pod.looks = looks;
            let mut object = pods::pod(&pod.namespace, &pod.workload, pod.number, looks, now);
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            pod.text = object.to_string().into();
            let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
            self.shared.changes.send(line.into()).ok();
        }
    }
}

impl Drop for BigCluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pod {
    fn name(&self) -> String {
        format!("{}-7d9f8b6c5-{:05}", self.workload, self.number)
    }
}

impl Shared {
    fn new(shape: Shape, now: Timestamp) -> Self {
        let mut all = Vec::with_capacity(shape.pods);
        let mut truth = Truth::new();
        let mut replica_sets = Vec::new();
        for workload in 0..shape.pods.div_ceil(PODS_OF_A_WORKLOAD) {
            // Fifty namespaces; a workload looks the same in all its pods.
            let namespace = format!("team-{:02}", workload % 50);
            let first = workload * PODS_OF_A_WORKLOAD;
            let looks = if first < shape.failing {
                Looks::Failing(workload % FAILING.len())
            } else if first < shape.failing + shape.alike {
                Looks::Alike(workload)
            } else {
                Looks::Healthy
            };
            let name = format!("service-{workload:05}");
            let numbers = first..(first + PODS_OF_A_WORKLOAD).min(shape.pods);
            for number in numbers {
                let object = pods::pod(&namespace, &name, number, looks, now);
                let pod = Pod {
                    namespace: namespace.clone(),
                    looks,
                    workload: name.clone(),
                    number,
                    text: object.to_string().into(),
                };
                if let Looks::Failing(_) = looks {
                    let place = (namespace.clone(), name.clone());
                    truth.entry(place).or_default().push(pod.name());
                }
                all.push(pod);
            }
            replica_sets.push(replica_set(&namespace, &name, now));
        }
        all.sort_by_cached_key(|pod| (pod.namespace.clone(), pod.name()));
        let index = all
            .iter()
            .enumerate()
            .map(|(at, pod)| (format!("{}/{}", pod.namespace, pod.name()), at))
            .collect();
        Self {
            pods: RwLock::new(all),
            index,
            replica_sets,
            revision: AtomicU64::new(1_000),
            changes: broadcast::channel(16_384).0,
            truth,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Pod>> {
        self.pods
            .read()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

fn replica_set(namespace: &str, workload: &str, now: Timestamp) -> Bytes {
    let made = pods::text(now - jiff::SignedDuration::from_hours(48));
    json!({
        "metadata": {"name": format!("{workload}-7d9f8b6c5"), "namespace": namespace,
            "uid": pods::replica_set_uid(namespace, workload), "resourceVersion": "1",
            "creationTimestamp": made, "generation": 1,
            "annotations": {"deployment.kubernetes.io/revision": "3"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": workload,
                "uid": format!("00000000-0000-4000-a000-{:012x}", pods::fold(workload)),
                "controller": true}]},
        "spec": {"replicas": PODS_OF_A_WORKLOAD, "selector": {"matchLabels": {"app": workload}}},
        "status": {"replicas": PODS_OF_A_WORKLOAD, "readyReplicas": PODS_OF_A_WORKLOAD,
            "availableReplicas": PODS_OF_A_WORKLOAD, "observedGeneration": 1},
    })
    .to_string()
    .into()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    uri: Uri,
) -> Response {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let watch = query
        .get("watch")
        .is_some_and(|watch| watch == "true" || watch == "1");
    match parts.as_slice() {
        ["version"] => {
            text(json!({"gitVersion": "v1.36.3", "major": "1", "minor": "36"}).to_string())
        }
        [.., "pods"] if watch => watched(shared.changes.subscribe(), &shared),
        _ if watch => watched(broadcast::channel(1).0.subscribe(), &shared),
        ["api", "v1", "pods"] => list_pods(&shared, &query, None),
        ["api", "v1", "namespaces", namespace, "pods"] => {
            list_pods(&shared, &query, Some(namespace))
        }
        ["api", "v1", "namespaces", namespace, "pods", name] => {
            match shared.index.get(&format!("{namespace}/{name}")) {
                Some(at) => {
                    // Items of a list do without these two.
                    let mut object = b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",".to_vec();
                    object.extend_from_slice(&shared.read()[*at].text[1..]);
                    text(object)
                }
                None => missing(name),
            }
        }
        ["api", "v1", "namespaces"] => {
            let items = (0..50).map(|n| namespace(&format!("team-{n:02}")));
            text(list(items.map(Bytes::from), &shared, ""))
        }
        ["api", "v1", "namespaces", name] => text(namespace(name)),
        ["apis", "apps", "v1", "replicasets"] => page(&shared.replica_sets, &shared, &query),
        ["apis", "apps", "v1", "namespaces", _, "replicasets", name] => {
            // `service-00012-7d9f8b6c5` is the twelfth.
            let number = name
                .split('-')
                .nth(1)
                .and_then(|number| number.parse::<usize>().ok());
            let found = number.and_then(|number| shared.replica_sets.get(number));
            found.map_or_else(|| missing(name), |set| text(set.clone()))
        }
        [
            "apis",
            "apps",
            "v1",
            "namespaces",
            namespace,
            "deployments",
            name,
        ] => text(deployment(namespace, name)),
        ["api"] => text(json!({"kind": "APIVersions", "versions": ["v1"]}).to_string()),
        ["apis"] => text(discovery::groups()),
        ["api", "v1"] => text(discovery::core()),
        ["apis", "apps", "v1"] => text(discovery::apps()),
        [
            "apis",
            "authorization.k8s.io",
            "v1",
            "selfsubjectaccessreviews",
        ] => text(discovery::allowed()),
        // Of everything else there is nothing.
        _ => text(list(std::iter::empty(), &shared, "")),
    }
}

/// What clients with a generic mapper ask first.
mod discovery {
    use serde_json::json;

    pub fn groups() -> String {
        let version = json!({"groupVersion": "apps/v1", "version": "v1"});
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "apps", "versions": [version], "preferredVersion": version}]})
        .to_string()
    }

    pub fn core() -> String {
        let kind = |name: &str, kind: &str, namespaced: bool| {
            json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced,
                "verbs": ["get", "list", "watch"]})
        };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [
            kind("pods", "Pod", true), kind("namespaces", "Namespace", false),
            kind("events", "Event", true), kind("nodes", "Node", false)]})
        .to_string()
    }

    pub fn apps() -> String {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1",
            "resources": [{"name": "replicasets", "singularName": "", "kind": "ReplicaSet",
                "namespaced": true, "verbs": ["get", "list", "watch"]}]})
        .to_string()
    }

    pub fn allowed() -> String {
        json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {}, "status": {"allowed": true}})
        .to_string()
    }
}

fn namespace(name: &str) -> String {
    json!({"metadata": {"name": name, "uid": format!("00000000-0000-4000-b000-{:012x}", pods::fold(name)),
        "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"kubernetes.io/metadata.name": name}},
        "status": {"phase": "Active"}})
    .to_string()
}

fn deployment(namespace: &str, name: &str) -> String {
    json!({"metadata": {"name": name, "namespace": namespace, "resourceVersion": "1", "generation": 1,
        "uid": format!("00000000-0000-4000-a000-{:012x}", pods::fold(name)),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"deployment.kubernetes.io/revision": "3"}},
        "spec": {"replicas": PODS_OF_A_WORKLOAD, "selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": 1, "replicas": PODS_OF_A_WORKLOAD}})
    .to_string()
}

fn list_pods(
    shared: &Shared,
    query: &HashMap<String, String>,
    namespace: Option<&str>,
) -> Response {
    let pods = shared.read();
    let texts: Vec<Bytes> = pods
        .iter()
        .filter(|pod| namespace.is_none_or(|namespace| pod.namespace == namespace))
        .map(|pod| pod.text.clone())
        .collect();
    drop(pods);
    page(&texts, shared, query)
}

/// `limit` and `continue`, which is the place to go on from.
fn page(all: &[Bytes], shared: &Shared, query: &HashMap<String, String>) -> Response {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0).min(all.len());
    let until = from
        + number("limit")
            .filter(|limit| *limit > 0)
            .unwrap_or(all.len());
    let next = if until < all.len() {
        until.to_string()
    } else {
        String::new()
    };
    let until = until.min(all.len());
    text(list(all[from..until].iter().cloned(), shared, &next))
}

fn list(items: impl Iterator<Item = Bytes>, shared: &Shared, next: &str) -> Vec<u8> {
    let revision = shared.revision.load(Ordering::SeqCst);
    let mut text = format!(
        "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\
         \"continue\":\"{next}\"}},\"items\":["
    )
    .into_bytes();
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&item);
    }
    text.extend_from_slice(b"]}");
    text
}

/// What changes from now on, and a bookmark each second.
fn watched(changes: broadcast::Receiver<Bytes>, shared: &Arc<Shared>) -> Response {
    let lines = stream::unfold(
        (changes, Arc::clone(shared)),
        |(mut changes, shared)| async move {
            let line = match tokio::time::timeout(Duration::from_secs(1), changes.recv()).await {
                Ok(Ok(line)) => line,
                // Fell behind: the client has to list again.
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => return None,
                // Of other kinds nothing ever changes.
                Ok(Err(broadcast::error::RecvError::Closed)) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    bookmark(shared.revision.load(Ordering::SeqCst))
                }
                Err(_) => bookmark(shared.revision.load(Ordering::SeqCst)),
            };
            Some((Ok::<_, std::io::Error>(line), (changes, shared)))
        },
    );
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}

fn bookmark(revision: u64) -> Bytes {
    let mark: Value = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}}});
    format!("{mark}\n").into()
}

fn text(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn missing(name: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
        "reason": "NotFound", "message": format!("\"{name}\" not found"), "details": {"name": name}});
    (StatusCode::NOT_FOUND, text(status.to_string())).into_response()
}
