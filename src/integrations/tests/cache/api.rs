//! An API server as small as these tests need: lists in pages, watches with bookmarks, and every
//! way to go wrong. It runs on a runtime of its own, so that it can be killed with all its
//! connections and started again on the same port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use countersign_domain::SystemClock;
use countersign_integrations::kubernetes::{CacheSettings, ClusterReads, KubeReader};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

type Key = (String, String, String);

#[derive(Default)]
pub struct World {
    version: u64,
    /// By plural, namespace and name.
    pub objects: BTreeMap<Key, Value>,
    /// Version, plural, namespace and line of each change.
    log: Vec<(u64, String, String, String)>,
    /// Watches from before this version get 410.
    oldest: u64,
    /// Watches say nothing any more, and do not end.
    pub frozen: bool,
    /// Nothing is answered.
    pub hanging: bool,
    /// Pieces of this many bytes.
    pub chunk: Option<usize>,
    /// No bookmarks.
    pub quiet: bool,
    /// `pods` or `shop/pods`: 403.
    pub forbidden: BTreeSet<String>,
    /// Everything but these namespaces is 403.
    pub only: Option<Vec<String>>,
    /// What was asked for: path and query.
    pub requests: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
}

pub struct Api {
    shared: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
    folder: TempDir,
}

impl Api {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = World {
            version: 100,
            oldest: 100,
            ..World::default()
        };
        let shared = Shared {
            world: Arc::new(Mutex::new(world)),
            changed: watch::Sender::new(0),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut api = Self {
            shared,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            runtime: None,
            folder,
        };
        api.revive().await;
        for namespace in ["shop", "billing"] {
            api.put("namespaces", json!({"metadata": meta("", namespace)}));
        }
        api
    }

    /// Starts to answer, on the port of the last time.
    pub async fn revive(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let router = Router::new()
            .fallback(answer)
            .with_state(self.shared.clone());
        let address = self.address;
        let bound = runtime.spawn(async move {
            let until = Instant::now() + Duration::from_secs(5);
            let listener = loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        self.address = bound.await.unwrap();
        self.runtime = Some(runtime);
    }

    /// Dies, and every connection with it.
    pub fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    pub fn reader(&self) -> KubeReader {
        let path: PathBuf = self.folder.path().join("config");
        let url = format!("http://{}", self.address);
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "ctx",
            "clusters": [{ "name": "c", "cluster": { "server": url } }],
            "users": [{ "name": "u", "user": {"token": "t"} }],
            "contexts": [{ "name": "ctx", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        KubeReader::from_kubeconfig(Some(&path), None)
    }

    pub fn live(&self) -> ClusterReads {
        ClusterReads::live(self.reader(), None, Arc::new(SystemClock))
    }

    /// A cache that has been filled.
    pub async fn cached(&self) -> ClusterReads {
        self.cached_with(None, quick()).await
    }

    pub async fn cached_with(
        &self,
        namespaces: Option<Vec<String>>,
        settings: CacheSettings,
    ) -> ClusterReads {
        let clock = Arc::new(SystemClock);
        let reads = ClusterReads::cached(self.reader(), namespaces, clock, settings);
        assert!(reads.filled(Duration::from_secs(10)).await);
        reads
    }

    /// Adds or changes an object.
    pub fn put(&self, plural: &str, mut object: Value) {
        let mut world = self.world();
        world.version += 1;
        object["metadata"]["resourceVersion"] = world.version.to_string().into();
        let (namespace, name) = (text(&object, "namespace"), text(&object, "name"));
        let key = (plural.to_owned(), namespace, name);
        let before = world.objects.insert(key.clone(), object.clone());
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.record(world, &key, &line(kind, &object));
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut world = self.world();
        world.version += 1;
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(mut last) = world.objects.remove(&key) {
            last["metadata"]["resourceVersion"] = world.version.to_string().into();
            self.record(world, &key, &line("DELETED", &last));
        }
    }

    /// Says something in the watches of a kind. `{version}` stands for the next version.
    pub fn say(&self, plural: &str, line: &str) {
        let mut world = self.world();
        world.version += 1;
        let line = line.replace("{version}", &world.version.to_string()) + "\n";
        let key = (plural.to_owned(), String::new(), String::new());
        self.record(world, &key, &line);
    }

    fn record(&self, mut world: MutexGuard<'_, World>, key: &Key, line: &str) {
        let version = world.version;
        let (plural, namespace, _) = key.clone();
        world
            .log
            .push((version, plural, namespace, line.to_owned()));
        drop(world);
        self.shared.changed.send_replace(version);
    }

    /// Forgets all changes, as after a compaction, and ends every watch.
    pub fn compact(&self) {
        let mut world = self.world();
        world.version += 1;
        world.oldest = world.version;
        world.log.clear();
        let version = world.version;
        drop(world);
        self.shared.changed.send_replace(version);
    }

    /// Changes how it behaves, and wakes the watches.
    pub fn behave(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
        self.shared.changed.send_modify(|_| {});
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Settings with which a test need not wait for minutes.
pub fn quick() -> CacheSettings {
    CacheSettings {
        page: 3,
        watch_for: Duration::from_secs(2),
        grace: Duration::from_millis(500),
        fresh_for: Duration::from_secs(3),
    }
}

pub fn meta(namespace: &str, name: &str) -> Value {
    let mut meta = json!({
        "name": name, "uid": format!("uid-{namespace}-{name}"),
        "creationTimestamp": "2026-11-22T01:00:00Z", "labels": {"app": name},
    });
    if !namespace.is_empty() {
        meta["namespace"] = namespace.into();
    }
    meta
}

pub fn pod(namespace: &str, name: &str, fate: &str) -> Value {
    let (ready, state) = match fate {
        "ready" => (
            "True",
            json!({"running": {"startedAt": "2026-11-22T01:00:05Z"}}),
        ),
        reason => (
            "False",
            json!({"waiting": {"reason": reason, "message": "back-off 5m0s"}}),
        ),
    };
    json!({
        "metadata": meta(namespace, name),
        "spec": { "nodeName": "n1", "containers": [{ "name": "app", "image": "web:1" }] },
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": ready, "lastTransitionTime": "2026-11-22T01:00:09Z",
            }],
            "containerStatuses": [{
                "name": "app", "ready": fate == "ready", "restartCount": 3, "state": state,
            }],
        },
    })
}

pub fn owned(mut object: Value, kind: &str, owner: &str) -> Value {
    let namespace = text(&object, "namespace");
    let group = if kind.contains("Job") {
        "batch/v1"
    } else {
        "apps/v1"
    };
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": group, "kind": kind, "name": owner,
        "uid": format!("uid-{namespace}-{owner}"), "controller": true,
    }]);
    object
}

fn text(object: &Value, key: &str) -> String {
    object["metadata"][key]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn line(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// Waits until `true` comes out, at most 10 s.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let until = Instant::now() + Duration::from_secs(10);
    while !look().await {
        assert!(Instant::now() < until, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let target = request.uri().to_string();
    let hanging = {
        let mut world = shared.world.lock().unwrap();
        world.requests.push(target.clone());
        world.hanging
    };
    if hanging {
        std::future::pending::<()>().await;
    }
    let path = request.uri().path().to_owned();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["api", "v1", rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => return refuse(StatusCode::NOT_FOUND),
    };
    let (namespace, plural, name) = match rest {
        ["namespaces", namespace, plural, name] => (*namespace, *plural, Some(*name)),
        ["namespaces", namespace, plural] => (*namespace, *plural, None),
        [plural, name] => ("", *plural, Some(*name)),
        [plural] => ("", *plural, None),
        _ => return refuse(StatusCode::NOT_FOUND),
    };
    let world = shared.world.lock().unwrap();
    let outside = world
        .only
        .as_ref()
        .is_some_and(|only| !only.iter().any(|one| one == namespace));
    let forbidden = |what: &str| world.forbidden.contains(what);
    if outside || forbidden(plural) || forbidden(&format!("{namespace}/{plural}")) {
        return refuse(StatusCode::FORBIDDEN);
    }
    if let Some(name) = name {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        return match world.objects.get(&key) {
            Some(object) => axum::Json(object.clone()).into_response(),
            None => refuse(StatusCode::NOT_FOUND),
        };
    }
    if query.contains_key("watch") {
        let from: u64 = query["resourceVersion"].parse().unwrap();
        let seconds: u64 = query["timeoutSeconds"].parse().unwrap();
        drop(world);
        let watching = Watching {
            changed: shared.changed.subscribe(),
            shared,
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            from,
            until: Instant::now() + Duration::from_secs(seconds),
            pending: Vec::new(),
            bookmarked: false,
            ended: false,
        };
        let stream = futures::stream::unfold(watching, |mut watching| async move {
            let piece = watching.next().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), watching))
        });
        return Body::from_stream(stream).into_response();
    }
    let limit: usize = query
        .get("limit")
        .map_or(usize::MAX, |text| text.parse().unwrap());
    let involved = query
        .get("fieldSelector")
        .and_then(|text| text.strip_prefix("involvedObject.uid="));
    let after: Option<(String, String)> = query.get("continue").map(|token| {
        let (namespace, name) = token.split_once('/').unwrap();
        (namespace.to_owned(), name.to_owned())
    });
    let mut found = world
        .objects
        .iter()
        .filter(|((kind, of, name), object)| {
            kind == plural
                && (namespace.is_empty() || of == namespace)
                && after
                    .as_ref()
                    .is_none_or(|after| (of, name) > (&after.0, &after.1))
                && involved.is_none_or(|uid| object["involvedObject"]["uid"] == uid)
        })
        .peekable();
    let page: Vec<(&Key, &Value)> = found.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": world.version.to_string()});
    if let (Some(_), Some(((_, namespace, name), _))) = (found.peek(), page.last()) {
        metadata["continue"] = format!("{namespace}/{name}").into();
    }
    let items: Vec<&Value> = page.into_iter().map(|(_, object)| object).collect();
    axum::Json(json!({"metadata": metadata, "items": items})).into_response()
}

fn refuse(code: StatusCode) -> Response {
    let body = json!({"kind": "Status", "code": code.as_u16(), "message": "no"});
    (code, axum::Json(body)).into_response()
}

struct Watching {
    shared: Shared,
    changed: watch::Receiver<u64>,
    plural: String,
    namespace: String,
    from: u64,
    until: Instant,
    pending: Vec<u8>,
    bookmarked: bool,
    ended: bool,
}

impl Watching {
    /// The next piece of the body.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (frozen, chunk) = {
                let world = self.shared.world.lock().unwrap();
                (world.frozen, world.chunk)
            };
            if frozen {
                self.changed.changed().await.ok()?;
                continue;
            }
            if !self.pending.is_empty() {
                let length = chunk.unwrap_or(usize::MAX).min(self.pending.len());
                return Some(self.pending.drain(..length).collect::<Vec<u8>>().into());
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.collect();
            if !self.pending.is_empty() {
                continue;
            }
            let last_words = self.until - Duration::from_millis(500);
            let next = if self.bookmarked {
                self.until
            } else {
                last_words
            };
            tokio::select! {
                changed = self.changed.changed() => { changed.ok()?; }
                () = tokio::time::sleep_until(next) => {
                    if self.bookmarked {
                        self.ended = true;
                    } else {
                        self.bookmark();
                    }
                }
            }
        }
    }

    fn bookmark(&mut self) {
        self.bookmarked = true;
        let world = self.shared.world.lock().unwrap();
        if !world.quiet {
            // Never beyond what was told.
            let version = self.from.to_string();
            let mark = json!({"kind": "X", "metadata": {"resourceVersion": version}});
            self.pending.extend(line("BOOKMARK", &mark).bytes());
        }
    }

    fn collect(&mut self) {
        let world = self.shared.world.lock().unwrap();
        if self.from < world.oldest {
            let status = json!({"kind": "Status", "code": 410, "reason": "Expired"});
            self.pending.extend(line("ERROR", &status).bytes());
            self.ended = true;
            return;
        }
        for (version, plural, namespace, line) in &world.log {
            if *version <= self.from {
                continue;
            }
            self.from = *version;
            let mine = self.namespace.is_empty() || namespace == &self.namespace;
            if *plural == self.plural && mine {
                self.pending.extend(line.bytes());
            }
        }
    }
}
