//! What Countersign relies on in a Kubernetes API, as checks over plain HTTP.
//!
//! The real control plane and the simulated cluster are held to the same list, so
//! that what is tried on the simulation holds on the real thing. A check states
//! what the API server was seen to do, nothing that Countersign does not need.
//!
//! The target must have, before [`run`]:
//! - a namespace opted in for the executor and one that is not,
//! - a server account that may read (get, list, watch) namespaces, pods, their logs,
//!   events, PodDisruptionBudgets, Deployments and ReplicaSets everywhere, and nothing else,
//! - an executor account that may get and list pods, get Deployments and ReplicaSets,
//!   list PodDisruptionBudgets and create pods/eviction in the opted-in namespace, create,
//!   get and list Leases in its own, get the namespace kube-system, and nothing else.
//!
//! Deployments and PodDisruptionBudgets are made by the checks, through [`Prepare`]. The
//! pods' fate ([`Fate`]) stands in annotations of the pod template, in the words of
//! both targets; each ignores the other's.

mod access;
mod evictions;
mod reads;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{ANNOTATION, Api, ControlPlane, Reply, eventually};

/// For what controllers and kubelet must bring about.
const SETTLE: Duration = Duration::from_secs(30);

/// The cluster under test.
#[derive(Clone, Debug)]
pub struct ContractTarget {
    /// Used for [`Prepare`] only.
    pub admin_kubeconfig: PathBuf,
    pub server_kubeconfig: PathBuf,
    pub executor_kubeconfig: PathBuf,
    /// Opted in.
    pub namespace: String,
    /// Not opted in; may be empty.
    pub other_namespace: String,
    /// Holds the executor's Leases.
    pub register_namespace: String,
    pub prepare: Prepare,
}

/// How a Deployment or PodDisruptionBudget (JSON, as in a manifest) gets into the target.
#[derive(Clone, Debug)]
pub enum Prepare {
    ServerSideApply,
    /// POST of one object per request to this path of the admin's cluster.
    Post(String),
}

/// Every check's outcome, in order.
#[derive(Debug)]
pub struct Report {
    pub checks: Vec<Check>,
}

#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    /// Why the target breaks the contract.
    pub failure: Option<String>,
    pub elapsed: Duration,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check {
            name,
            failure,
            elapsed,
        } in &self.checks
        {
            let verdict = failure.as_ref().map_or("ok", |_| "FAILED");
            writeln!(f, "{verdict:6} {:5} ms  {name}", elapsed.as_millis())?;
            if let Some(failure) = failure {
                writeln!(f, "       {failure}")?;
            }
        }
        Ok(())
    }
}

/// Runs every check once; a failed one does not keep the next from running.
///
/// # Errors
/// Only when the target cannot be reached with its kubeconfigs.
pub async fn run(target: &ContractTarget) -> Result<Report> {
    let session = Session {
        admin: Api::from_kubeconfig(&target.admin_kubeconfig).await?,
        server: Api::from_kubeconfig(&target.server_kubeconfig).await?,
        executor: Api::from_kubeconfig(&target.executor_kubeconfig).await?,
        target: target.clone(),
        // Names of objects differ from those of an earlier run on the same target.
        run: std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_millis() % 10_000_000),
    };
    let mut checks = Vec::new();
    // One line per check: a macro, because async functions of one signature are
    // still functions of different types.
    macro_rules! check {
        ($($check:path),+ $(,)?) => { $(
            let start = Instant::now();
            let failure = $check(&session).await.err().map(|error| format!("{error:#}"));
            checks.push(Check { name: stringify!($check), failure, elapsed: start.elapsed() });
        )+ };
    }
    check![
        reads::tells_identity_version_and_time,
        reads::lists_pods_by_label,
        reads::pages_with_limit_and_continue,
        reads::gets_one_pod,
        reads::owners_lead_to_the_deployment,
        reads::missing_pod_is_a_404_status,
        reads::events_are_found_by_uid,
        reads::crashing_pod_says_so,
        reads::crashing_pod_left_a_log,
        reads::watch_reports_what_happens_after_a_list,
        reads::watch_from_an_ancient_version_is_gone,
        evictions::dry_run_changes_nothing,
        evictions::eviction_brings_a_replacement,
        evictions::audit_id_and_annotations_are_taken,
        evictions::wrong_uid_conflicts,
        evictions::stale_resource_version_conflicts,
        evictions::missing_pod_is_not_found,
        evictions::budget_without_room_refuses,
        evictions::budget_with_room_allows_one,
        evictions::budget_met_by_others_lets_an_unready_pod_go,
        evictions::conflict_spends_the_budget,
        evictions::two_budgets_are_an_error,
        evictions::default_budget_refuses_when_all_pods_are_unready,
        evictions::always_allow_budget_lets_unready_pods_go,
        access::lease_is_created_once,
        access::executor_cannot_change_or_delete_a_lease,
        access::server_cannot_evict,
        access::server_cannot_read_secrets,
        access::executor_cannot_delete_pods,
        access::executor_cannot_read_secrets,
        access::executor_cannot_see_other_namespaces,
        access::executor_cannot_evict_in_other_namespaces,
    ];
    Ok(Report { checks })
}

/// Accounts and namespaces of the contract, for a control plane.
const ACCOUNTS: &str = include_str!("contract/accounts.yaml");

/// Makes a fresh control plane a target. It is restarted once: only an API server
/// that did not see the first changes itself calls their versions too old.
pub async fn prepare_control_plane(plane: &ControlPlane) -> Result<ContractTarget> {
    plane.apply_yaml(ACCOUNTS).await?;
    plane.restart_api_server().await?;
    Ok(ContractTarget {
        admin_kubeconfig: plane.admin_kubeconfig(),
        server_kubeconfig: plane
            .kubeconfig_for_service_account("countersign", "countersign-server")
            .await?,
        executor_kubeconfig: plane
            .kubeconfig_for_service_account("countersign-executor", "countersign-executor")
            .await?,
        namespace: "shop".into(),
        other_namespace: "warehouse".into(),
        register_namespace: "countersign-executor".into(),
        prepare: Prepare::ServerSideApply,
    })
}

/// What becomes of a Deployment's pods.
#[derive(Clone, Copy)]
enum Fate {
    Ready,
    /// All crash, replacements too.
    Crash,
    /// One crashes; the others and its replacement are ready.
    FirstCrashes,
}

impl Fate {
    fn annotations(self) -> Value {
        match self {
            Self::Ready => json!({}),
            Self::Crash => json!({
                ANNOTATION: "crashloop",
                "playground.countersign.dev/behavior": "crashloop",
            }),
            Self::FirstCrashes => json!({
                ANNOTATION: "crashloop, ready",
                "playground.countersign.dev/behavior": "crashloop",
                "playground.countersign.dev/failing": "1",
                "playground.countersign.dev/replacement": "ready",
            }),
        }
    }

    fn crashing(self, replicas: usize) -> usize {
        match self {
            Self::Ready => 0,
            Self::Crash => replicas,
            Self::FirstCrashes => 1,
        }
    }
}

/// One run against one target.
struct Session {
    admin: Api,
    server: Api,
    executor: Api,
    target: ContractTarget,
    run: u128,
}

impl Session {
    fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.target.namespace)
    }

    fn unique(&self, name: &str) -> String {
        format!("contract-{name}-{}", self.run)
    }

    async fn prepare(&self, object: &Value) -> Result<()> {
        match &self.target.prepare {
            Prepare::ServerSideApply => self.admin.apply(object).await.map(drop),
            Prepare::Post(path) => self
                .admin
                .post(path, object)
                .await?
                .success()
                .map(drop)
                .with_context(|| format!("POST {path} of a {}", object["kind"])),
        }
    }

    /// A Deployment, once all its pods have met their fate. Answers the value of
    /// their `app` label.
    async fn deployment(&self, name: &str, replicas: usize, fate: Fate) -> Result<String> {
        let app = self.unique(name);
        self.prepare(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": app, "namespace": self.target.namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": app}},
                "template": {
                    "metadata": {"labels": {"app": app}, "annotations": fate.annotations()},
                    "spec": {"containers": [{"name": "app", "image": "registry.invalid/app:1"}]},
                },
            },
        }))
        .await?;
        let crashing = fate.crashing(replicas);
        let what =
            format!("{replicas} pods of {app}, {crashing} in CrashLoopBackOff, others ready");
        eventually(SETTLE, &what, async || {
            let pods = self.pods(&app).await?;
            let crashed = pods
                .iter()
                .filter(|pod| is_crashing(pod) && !is_ready(pod))
                .count();
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let settled = (pods.len(), crashed, ready) == (replicas, crashing, replicas - crashing);
            Ok(settled.then_some(()))
        })
        .await?;
        Ok(app)
    }

    /// A PodDisruptionBudget over the pods of `app`, once its status knows them.
    async fn budget(&self, app: &str, min_available: usize, policy: Option<&str>) -> Result<()> {
        self.named_budget(app, app, min_available, policy).await
    }

    async fn named_budget(
        &self,
        name: &str,
        app: &str,
        min_available: usize,
        policy: Option<&str>,
    ) -> Result<()> {
        let mut budget = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": self.target.namespace},
            "spec": {
                "minAvailable": min_available,
                "selector": {"matchLabels": {"app": app}},
            },
        });
        if let Some(policy) = policy {
            budget["spec"]["unhealthyPodEvictionPolicy"] = policy.into();
        }
        self.prepare(&budget).await?;
        let pods = self.pods(app).await?;
        let healthy = pods.iter().filter(|pod| is_ready(pod)).count();
        let namespace = &self.target.namespace;
        let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{name}");
        eventually(SETTLE, "the budget's status is up to date", async || {
            let budget = self.server.get(&path).await?.success()?;
            let status = &budget["status"];
            let current = status["observedGeneration"] == budget["metadata"]["generation"]
                && status["expectedPods"] == pods.len()
                && status["currentHealthy"] == healthy;
            Ok(current.then_some(()))
        })
        .await
    }

    /// The pods with this `app` label, as the server account sees them.
    async fn pods(&self, app: &str) -> Result<Vec<Value>> {
        let path = format!("{}?labelSelector=app%3D{app}", self.pods_path());
        let list = self.server.get(&path).await?.success()?;
        Ok(list["items"]
            .as_array()
            .context("a list without items")?
            .clone())
    }

    async fn first_pod(&self, app: &str) -> Result<Value> {
        self.pods(app)
            .await?
            .into_iter()
            .next()
            .with_context(|| format!("no pod of {app}"))
    }

    /// The pod as it is now, read by the executor.
    async fn read_again(&self, pod: &Value) -> Result<Reply> {
        self.executor
            .get(&format!("{}/{}", self.pods_path(), name(pod)))
            .await
    }

    /// Eviction by the executor with both preconditions taken from `pod`.
    async fn evict(&self, pod: &Value, dry_run: bool) -> Result<Reply> {
        let metadata = &pod["metadata"];
        let (uid, version) = (&metadata["uid"], &metadata["resourceVersion"]);
        self.evict_if(&name(pod), uid, version, dry_run).await
    }

    async fn evict_if(
        &self,
        pod: &str,
        uid: &Value,
        version: &Value,
        dry_run: bool,
    ) -> Result<Reply> {
        let namespace = &self.target.namespace;
        let mut options = json!({"preconditions": {"uid": uid, "resourceVersion": version}});
        if dry_run {
            options["dryRun"] = json!(["All"]);
        }
        let query = if dry_run { "?dryRun=All" } else { "" };
        let path = format!("{}/{pod}/eviction{query}", self.pods_path());
        self.executor
            .post(&path, &eviction(namespace, pod, &options))
            .await
    }
}

fn eviction(namespace: &str, pod: &str, options: &Value) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
        "deleteOptions": options,
    })
}

fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|list| {
        list.iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}

fn is_crashing(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
}

/// The UID of the owner that will replace the pod.
fn controller(pod: &Value) -> Option<String> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|o| o["controller"] == true)?["uid"]
        .as_str()
        .map(str::to_owned)
}

/// The answer is a `Status` of failure with this code and reason.
fn refused(reply: &Reply, code: u16, reason: &str) -> Result<()> {
    let body = &reply.body;
    if reply.status != code {
        bail!("expected {code} {reason}, got {reply}");
    }
    ensure!(
        body["kind"] == "Status"
            && body["apiVersion"] == "v1"
            && body["status"] == "Failure"
            && body["code"] == code
            && body["reason"] == reason
            && body["message"].is_string(),
        "expected a Status of {code} {reason}, got {body}"
    );
    Ok(())
}
