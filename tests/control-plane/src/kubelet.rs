//! A kubelet without containers: makes nodes, gives scheduled pods the status that
//! their [`Behavior`] asks for, and finishes deletions.
//!
//! It holds no truth of its own: what it does follows from the pods it reads and
//! the overrides a test set, and everyone else sees it only through the API.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::{Api, Patch, Reply};
use crate::behavior::{ANNOTATION, Behavior, Outcome};
use crate::logs::LogServer;
use crate::pod_status::{Facts, node, node_status, pod_event, pod_status};

/// How often delayed outcomes are looked at; changes of pods are seen at once.
const TICK: Duration = Duration::from_millis(50);
const MERGE: Patch = Patch::StrategicMerge;

/// Behaviour set by a test rather than by annotation.
#[derive(Clone, Default)]
pub(crate) struct Overrides(Arc<Mutex<OverrideMap>>);

#[derive(Default)]
struct OverrideMap {
    /// By namespace and workload: for pods not seen yet.
    workloads: HashMap<(String, String), Behavior>,
    /// By namespace and pod: for pods seen or not.
    pods: HashMap<(String, String), Behavior>,
}

impl Overrides {
    fn lock(&self) -> MutexGuard<'_, OverrideMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_workload(&self, namespace: &str, workload: &str, behavior: Behavior) {
        self.lock()
            .workloads
            .insert((namespace.into(), workload.into()), behavior);
    }

    pub(crate) fn set_pod(&self, namespace: &str, pod: &str, behavior: Behavior) {
        self.lock()
            .pods
            .insert((namespace.into(), pod.into()), behavior);
    }
}

pub(crate) struct Config {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) nodes: usize,
    pub(crate) overrides: Overrides,
    /// Of the log endpoint: PEM files.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Runs on a thread and runtime of its own, so that it does not end with the
/// runtime of the test that started it.
pub(crate) struct Kubelet {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelet {
    /// Makes `nodes` nodes named `node-1`... and returns when they are Ready.
    pub(crate) async fn start(config: Config) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (report, nodes_ready) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let life = async move {
            let (result, prepared) = match prepare(&config).await {
                Ok(prepared) => (Ok(()), Some(prepared)),
                Err(error) => (Err(error), None),
            };
            // Nobody listens when the start was given up; then `stopped` ends this too.
            let _ = report.send(result);
            let Some((api, logs)) = prepared else { return };
            let mut state = State::new(api.clone(), config.overrides);
            tokio::select! {
                () = state.run() => {}
                () = logs.run(api, now) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("fake-kubelet".into())
            .spawn(move || runtime.block_on(life))?;
        let kubelet = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        nodes_ready
            .await
            .context("the fake kubelet's thread ended")??;
        Ok(kubelet)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn prepare(config: &Config) -> Result<(Api, LogServer)> {
    let api = Api::from_kubeconfig(&config.kubeconfig).await?;
    let logs = LogServer::bind(&config.certificate, &config.key)
        .await
        .context("log endpoint")?;
    for number in 1..=config.nodes {
        let name = format!("node-{number}");
        let path = format!("/api/v1/nodes/{name}");
        api.post("/api/v1/nodes", &node(&name))
            .await?
            .success()
            .context("create node")?;
        let status = json!({"status": node_status(now(), logs.port()?)});
        api.patch(&format!("{path}/status"), MERGE, &status)
            .await?
            .success()?;
        // Every new node gets the not-ready taint, which a lifecycle controller would lift.
        let untainted = json!({"spec": {"taints": null}});
        api.patch(&path, Patch::Merge, &untainted)
            .await?
            .success()?;
    }
    Ok((api, logs))
}

struct State {
    api: Api,
    overrides: Overrides,
    pods: BTreeMap<String, Pod>,
    /// Pods seen so far, by namespace, workload and annotation: the place in a sequence.
    counts: HashMap<(String, String, String), usize>,
    next_ip: u32,
}

struct Pod {
    object: Value,
    namespace: String,
    name: String,
    annotation: Option<String>,
    behavior: Behavior,
    ip: String,
    started: Instant,
    /// What the status says already.
    written: Option<(Behavior, Outcome)>,
    deletion_finished: bool,
}

impl State {
    fn new(api: Api, overrides: Overrides) -> Self {
        let (pods, counts) = (BTreeMap::new(), HashMap::new());
        Self {
            api,
            overrides,
            pods,
            counts,
            next_ip: 0,
        }
    }

    /// List, watch, repeat; the API server may stop, freeze and come back.
    async fn run(&mut self) {
        loop {
            if let Err(error) = self.list_and_watch().await {
                tracing::debug!("fake kubelet: {error:#}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn list_and_watch(&mut self) -> Result<()> {
        let list = self.api.get("/api/v1/pods").await?.success()?;
        let mut items = list["items"].as_array().cloned().unwrap_or_default();
        items.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].to_string());
        let mut present = Vec::new();
        for mut pod in items {
            // Items of a list carry neither; events refer to both.
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            present.extend(self.observe(pod));
        }
        self.pods.retain(|uid, _| present.contains(uid));
        for uid in present {
            self.act(&uid).await?;
        }

        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let path = format!("/api/v1/pods?watch=true&timeoutSeconds=300&resourceVersion={version}");
        let mut watch = self
            .api
            .watch(&path)
            .await?
            .map_err(|reply| anyhow::anyhow!("{reply}"))?;
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                event = watch.next() => {
                    let Some(mut event) = event? else { return Ok(()) };
                    match event["type"].as_str() {
                        Some("ADDED" | "MODIFIED") => {
                            if let Some(uid) = self.observe(event["object"].take()) {
                                self.act(&uid).await?;
                            }
                        }
                        Some("DELETED") => {
                            let uid = event["object"]["metadata"]["uid"].as_str();
                            self.pods.remove(uid.unwrap_or_default());
                        }
                        _ => return Ok(()),
                    }
                }
                _ = tick.tick() => {
                    let uids: Vec<String> = self.pods.keys().cloned().collect();
                    for uid in uids {
                        self.act(&uid).await?;
                    }
                }
            }
        }
    }

    /// Takes in a pod that the scheduler has bound; answers its UID.
    fn observe(&mut self, object: Value) -> Option<String> {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let uid = metadata["uid"].as_str()?.to_owned();
        object["spec"]["nodeName"].as_str()?;
        let annotation = metadata["annotations"][ANNOTATION]
            .as_str()
            .map(str::to_owned);
        if let Some(pod) = self.pods.get_mut(&uid) {
            if pod.annotation != annotation {
                // An annotation put on a live pod: this pod's own behaviour from now on.
                pod.behavior = behavior(annotation.as_deref(), 0);
                pod.started = Instant::now();
                pod.annotation = annotation;
            }
            pod.object = object;
            return Some(uid);
        }
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let workload = workload(metadata);
        let sequence = (
            namespace.clone(),
            workload.clone(),
            annotation.clone().unwrap_or_default(),
        );
        let count = self.counts.entry(sequence).or_default();
        let index = *count;
        *count += 1;
        let overridden = self
            .overrides
            .lock()
            .workloads
            .get(&(namespace.clone(), workload.clone()))
            .copied();
        let behavior = overridden.unwrap_or_else(|| behavior(annotation.as_deref(), index));
        self.next_ip += 1;
        let ip = format!(
            "10.244.{}.{}",
            (self.next_ip >> 8) & 255,
            self.next_ip & 255
        );
        self.pods.insert(
            uid.clone(),
            Pod {
                object,
                namespace,
                name,
                annotation,
                behavior,
                ip,
                started: Instant::now(),
                written: None,
                deletion_finished: false,
            },
        );
        Some(uid)
    }

    /// Brings the API's view of one pod to where its behaviour has it by now.
    async fn act(&mut self, uid: &str) -> Result<()> {
        let Some(pod) = self.pods.get_mut(uid) else {
            return Ok(());
        };
        let key = (pod.namespace.clone(), pod.name.clone());
        // Taken, not read: a StatefulSet's next pod has the same name.
        if let Some(behavior) = self.overrides.lock().pods.remove(&key) {
            pod.behavior = behavior;
            pod.started = Instant::now();
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        if !pod.object["metadata"]["deletionTimestamp"].is_null() {
            let holds_on = matches!(
                pod.behavior.outcome,
                Outcome::StuckTerminating | Outcome::Silent
            );
            if pod.deletion_finished || holds_on {
                return Ok(());
            }
            let finish = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
            pod.deletion_finished = done(self.api.delete(&path, &finish).await?)?;
            return Ok(());
        }

        let outcome = if pod.started.elapsed() >= pod.behavior.after {
            pod.behavior.outcome
        } else if pod.behavior.outcome == Outcome::Ready {
            Outcome::NeverReady
        } else {
            Outcome::Ready
        };
        if outcome == Outcome::Silent || pod.written == Some((pod.behavior, outcome)) {
            return Ok(());
        }
        let now = now();
        let since = now - SignedDuration::try_from(pod.behavior.since)?;
        let facts = Facts {
            pod: &pod.object,
            now,
            since,
            ip: &pod.ip,
        };
        // With the UID, a patch cannot land on a successor of the same name.
        let patch = json!({"metadata": {"uid": uid}, "status": pod_status(&facts, outcome)});
        let reply = self
            .api
            .patch(&format!("{path}/status"), MERGE, &patch)
            .await?;
        if !done(reply)? {
            return Ok(());
        }
        pod.written = Some((pod.behavior, outcome));
        if let Some((reason, message)) = pod_event(&pod.object, outcome) {
            let event = event(pod, uid, now, reason, &message);
            let path = format!("/api/v1/namespaces/{}/events", pod.namespace);
            let reply = self.api.post(&path, &event).await?;
            // Forbidden: the namespace is being deleted.
            if reply.status != 403 {
                done(reply)?;
            }
        }
        Ok(())
    }
}

/// An annotation's behaviour; one that cannot be read shows on the pod itself.
fn behavior(annotation: Option<&str>, index: usize) -> Behavior {
    match annotation.map(|text| Behavior::nth(text, index)) {
        None => Outcome::Ready.into(),
        Some(Ok(behavior)) => behavior,
        Some(Err(error)) => {
            tracing::error!("fake kubelet: {error}");
            Outcome::CreateConfigError.into()
        }
    }
}

/// The name a user knows the pod's owner by: a Deployment's, not its ReplicaSet's.
fn workload(metadata: &Value) -> String {
    let owners = metadata["ownerReferences"].as_array();
    let owner = owners.and_then(|list| list.iter().find(|owner| owner["controller"] == true));
    let Some(name) = owner.and_then(|owner| owner["name"].as_str()) else {
        return metadata["name"].as_str().unwrap_or_default().to_owned();
    };
    let hash = metadata["labels"]["pod-template-hash"].as_str();
    let stem = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    stem.unwrap_or(name).to_owned()
}

fn event(pod: &Pod, uid: &str, now: Timestamp, reason: &str, message: &str) -> Value {
    let host = &pod.object["spec"]["nodeName"];
    // Kubernetes writes these timestamps to the second.
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}.", pod.name), "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name,
            "uid": uid, "resourceVersion": pod.object["metadata"]["resourceVersion"],
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "source": {"component": "kubelet", "host": host},
        "reportingComponent": "kubelet",
        "reportingInstance": host,
    })
}

/// Whether nothing is left to do: yes if the call went through or the pod is gone,
/// no if another writer came between and the next tick has to try again.
fn done(reply: Reply) -> Result<bool> {
    match reply.status {
        404 => Ok(true),
        409 => Ok(false),
        _ => reply.success().map(|_| true),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "statuses carry the API server's real time"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
