//! The cluster of a stack, simulated or real, behind one interface: workloads that fail in a chosen
//! way, and the list of writes that its API server received.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use countersign_control_plane::{Api, ControlPlane, eventually};
use serde_json::{Value, json};

use super::ClusterKind;
use super::process::Process;

pub struct Cluster {
    /// The operator's name for it.
    pub id: String,
    pub kind: ClusterKind,
    pub server_kubeconfig: PathBuf,
    pub executor_kubeconfig: PathBuf,
    admin: Api,
    admin_kubeconfig: PathBuf,
    backing: Backing,
}

enum Backing {
    /// Held so that it ends with us.
    Playground {
        _process: Box<Process>,
    },
    ControlPlane(Box<ControlPlane>),
}

/// A pod as the tests care about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub ready: bool,
    /// A container waits in CrashLoopBackOff.
    pub crashing: bool,
    pub terminating: bool,
}

/// What the API server saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub user: String,
    pub uri: String,
    pub dry_run: bool,
    pub code: u16,
    pub audit_id: String,
}

impl Write {
    fn is_eviction_of(&self, pod: &str) -> bool {
        self.uri
            .split('?')
            .next()
            .is_some_and(|path| path.ends_with(&format!("/pods/{pod}/eviction")))
    }
}

impl Cluster {
    pub async fn start(kind: ClusterKind, folder: &Path) -> Result<Self> {
        match kind {
            ClusterKind::Playground => Self::playground(folder).await,
            ClusterKind::ControlPlane => Self::control_plane().await,
        }
    }

    async fn playground(folder: &Path) -> Result<Self> {
        let mut process = Process::start(
            "playground cluster",
            "countersign-playground",
            |command| {
                command
                    .arg("cluster")
                    .arg("--dir")
                    .arg(folder)
                    .arg("--exit-with-parent");
            },
            &folder.join("log"),
        )?;
        process.ready(Duration::from_secs(20)).await?;
        Ok(Self {
            id: "playground".to_owned(),
            kind: ClusterKind::Playground,
            server_kubeconfig: folder.join("server.kubeconfig"),
            executor_kubeconfig: folder.join("executor.kubeconfig"),
            admin: Api::from_kubeconfig(&folder.join("admin.kubeconfig")).await?,
            admin_kubeconfig: folder.join("admin.kubeconfig"),
            backing: Backing::Playground {
                _process: Box::new(process),
            },
        })
    }

    async fn control_plane() -> Result<Self> {
        let plane = ControlPlane::start(countersign_control_plane::Options::default()).await?;
        // The product's own manifests, as an installer would apply them.
        plane
            .apply_yaml(&manifests::base()?)
            .await
            .context("deploy/kustomize/base")?;
        plane.apply_yaml(manifests::NAMESPACES).await?;
        for namespace in ["shop", "payments"] {
            plane.apply_yaml(&manifests::opt_in(namespace)?).await?;
        }
        let server = plane
            .kubeconfig_for_service_account("countersign", "countersign-server")
            .await?;
        let executor = plane
            .kubeconfig_for_service_account("countersign-executor", "countersign-executor")
            .await?;
        Ok(Self {
            id: "control-plane".to_owned(),
            kind: ClusterKind::ControlPlane,
            server_kubeconfig: server,
            executor_kubeconfig: executor,
            admin: plane.admin().await?,
            admin_kubeconfig: plane.admin_kubeconfig(),
            backing: Backing::ControlPlane(Box::new(plane)),
        })
    }

    /// The real thing, for what only it can do (freeze, restart).
    pub fn plane(&self) -> Option<&ControlPlane> {
        match &self.backing {
            Backing::ControlPlane(plane) => Some(plane),
            Backing::Playground { .. } => None,
        }
    }

    /// A Deployment whose first pods fail (`failing` of them) and whose later pods behave as
    /// `replacement` says. Behaviours: `ready`, `crashloop`, `never-ready`, `slow-ready=...`.
    /// Returns a failing pod once all pods are as they should be.
    pub async fn deploy(
        &self,
        namespace: &str,
        name: &str,
        replicas: usize,
        failing: usize,
        replacement: &str,
    ) -> Result<Pod> {
        self.deploy_as(
            "Deployment",
            namespace,
            name,
            (replicas, failing),
            replacement,
        )
        .await
    }

    /// A workload with one failing pod, which brings its pods back under their names. The playground
    /// has no such controller: there [`Cluster::replace_pod`] keeps the name.
    pub async fn deploy_named(
        &self,
        namespace: &str,
        name: &str,
        replicas: usize,
        replacement: &str,
    ) -> Result<Pod> {
        let kind = match self.kind {
            ClusterKind::Playground => "Deployment",
            ClusterKind::ControlPlane => "StatefulSet",
        };
        self.deploy_as(kind, namespace, name, (replicas, 1), replacement)
            .await
    }

    async fn deploy_as(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        (replicas, failing): (usize, usize),
        replacement: &str,
    ) -> Result<Pod> {
        let (annotations, slow) = match self.kind {
            ClusterKind::Playground => (
                json!({
                    "playground.countersign.dev/behavior": "crashloop",
                    "playground.countersign.dev/failing": failing.to_string(),
                    "playground.countersign.dev/replacement": replacement,
                }),
                false,
            ),
            ClusterKind::ControlPlane => {
                let mut each: Vec<&str> = vec!["crashloop since=20m"; failing];
                each.extend(vec!["ready"; replicas - failing]);
                each.push(replacement);
                (
                    json!({"fake.countersign.dev/behavior": each.join(", ")}),
                    true,
                )
            }
        };
        let mut document = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": annotations},
                    "spec": {"containers": [{"name": name, "image": format!("registry.invalid/{name}:1")}]},
                },
            },
        });
        if kind == "StatefulSet" {
            document["spec"]["serviceName"] = json!(name);
            // Else the second pod waits for a first that is never Ready.
            document["spec"]["podManagementPolicy"] = json!("Parallel");
        }
        self.apply(&document).await?;
        let limit = if slow {
            Duration::from_secs(60)
        } else {
            Duration::from_secs(20)
        };
        eventually(limit, &format!("pods of {name}"), async || {
            let pods = self.pods(namespace, name).await?;
            let ready = pods.iter().filter(|pod| pod.ready).count();
            let broken = pods.iter().find(|pod| pod.crashing).cloned();
            Ok(if pods.len() == replicas && ready == replicas - failing {
                broken
            } else {
                None
            })
        })
        .await
    }

    /// A PodDisruptionBudget over a workload of [`Cluster::deploy`].
    pub async fn budget(&self, namespace: &str, name: &str, min_available: usize) -> Result<()> {
        let document = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": name}}},
        });
        self.apply(&document).await?;
        let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{name}");
        eventually(Duration::from_secs(30), "the budget's status", async || {
            let budget = self.admin.get(&path).await?.success()?;
            let seen = budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
                && budget["status"]["desiredHealthy"] == json!(min_available);
            Ok(seen.then_some(()))
        })
        .await
    }

    async fn apply(&self, document: &Value) -> Result<()> {
        match self.kind {
            ClusterKind::Playground => {
                self.admin
                    .post("/playground/apply", document)
                    .await?
                    .success()?;
            }
            ClusterKind::ControlPlane => {
                self.admin.apply(document).await?;
            }
        }
        Ok(())
    }

    pub async fn pods(&self, namespace: &str, app: &str) -> Result<Vec<Pod>> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}");
        let list = self.admin.get(&path).await?.success()?;
        let items = list["items"].as_array().context("no items")?;
        Ok(items.iter().map(pod).collect())
    }

    /// As if somebody else had restarted it: another pod under the same name. Of a workload of
    /// [`Cluster::deploy_named`].
    pub async fn replace_pod(&self, namespace: &str, old: &Pod) -> Result<Pod> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{}", old.name);
        match self.kind {
            ClusterKind::Playground => {
                let which = json!({"namespace": namespace, "name": old.name, "same_name": true});
                self.admin
                    .post("/playground/replace-pod", &which)
                    .await?
                    .success()?;
            }
            ClusterKind::ControlPlane => {
                self.admin
                    .delete(&path, &json!({"gracePeriodSeconds": 0}))
                    .await?
                    .success()?;
            }
        }
        eventually(Duration::from_secs(30), "the pod's successor", async || {
            let reply = self.admin.get(&path).await?;
            let found = (reply.status == 200).then(|| pod(&reply.body));
            Ok(found.filter(|new| new.uid != old.uid))
        })
        .await
    }

    /// Every write that the API server received, except this harness's own.
    pub async fn writes(&self) -> Result<Vec<Write>> {
        match &self.backing {
            Backing::ControlPlane(plane) => Ok(plane
                .audit_events()?
                .into_iter()
                .filter(|event| event.verb == "create" && event.user.contains("countersign"))
                .map(|event| Write {
                    user: event.user,
                    uri: event.request_uri,
                    dry_run: event.dry_run,
                    code: event.code,
                    audit_id: event.audit_id,
                })
                .collect()),
            Backing::Playground { .. } => {
                let list = self.admin.get("/playground/audit").await?.success()?;
                let items = list["items"].as_array().context("no audit items")?;
                Ok(items.iter().map(playground_write).collect())
            }
        }
    }

    /// How many evictions of this pod took effect (not dry runs, answered 2xx).
    pub async fn evictions(&self, pod: &str) -> Result<usize> {
        Ok(self
            .writes()
            .await?
            .iter()
            .filter(|write| write.is_eviction_of(pod) && !write.dry_run && write.code < 300)
            .count())
    }

    /// How many real evictions of this pod were sent at all, whatever the answer.
    pub async fn evictions_sent(&self, pod: &str) -> Result<usize> {
        Ok(self
            .writes()
            .await?
            .iter()
            .filter(|write| write.is_eviction_of(pod) && !write.dry_run)
            .count())
    }

    /// The spent record of an action, if there is one.
    pub async fn spent(&self, action: &str) -> Result<Option<Value>> {
        let path =
            format!("/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases/{action}");
        let reply = self.admin.get(&path).await?;
        match reply.status {
            404 => Ok(None),
            200 => Ok(Some(reply.body)),
            other => bail!("lease {action}: {other}"),
        }
    }

    /// What a person with every right has on a workstation.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The context that the admin's kubeconfig names.
    pub fn admin_context(&self) -> String {
        let text = std::fs::read_to_string(&self.admin_kubeconfig).unwrap_or_default();
        let value = text.split("current-context").nth(1).unwrap_or_default();
        let value = value.trim_start_matches(['"', ':', ' ']);
        value
            .split(['"', '\n', ',', '}'])
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// The admin's client, for assertions.
    pub fn admin(&self) -> &Api {
        &self.admin
    }
}

fn pod(item: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ready = item["status"]["conditions"].as_array().is_some_and(|all| {
        all.iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    });
    Pod {
        name: text(&item["metadata"]["name"]),
        uid: text(&item["metadata"]["uid"]),
        ready,
        crashing: item["status"]["containerStatuses"]
            .as_array()
            .is_some_and(|all| {
                all.iter()
                    .any(|one| one["state"]["waiting"]["reason"] == "CrashLoopBackOff")
            }),
        terminating: item["metadata"]["deletionTimestamp"].is_string(),
    }
}

fn playground_write(item: &Value) -> Write {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let uri = [&item["requestURI"], &item["uri"]]
        .into_iter()
        .find_map(Value::as_str);
    let user = [&item["user"]["username"], &item["user"]]
        .into_iter()
        .find_map(Value::as_str);
    let code = [&item["responseStatus"]["code"], &item["code"]]
        .into_iter()
        .find_map(Value::as_u64);
    let audit_id = [&item["auditID"], &item["audit_id"]]
        .into_iter()
        .find_map(Value::as_str);
    Write {
        user: user.unwrap_or_default().to_owned(),
        uri: uri.unwrap_or_default().to_owned(),
        dry_run: item["dry_run"]
            .as_bool()
            .unwrap_or_else(|| text(&item["requestURI"]).contains("dryRun=All")),
        code: code
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or_default(),
        audit_id: audit_id.unwrap_or_default().to_owned(),
    }
}

/// The product's manifests under `deploy/`.
pub mod manifests {
    use std::path::{Path, PathBuf};

    use anyhow::{Context as _, Result};

    pub const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: payments}
";

    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base")
    }

    /// The whole base, Deployments included: PodSecurity and the schema judge them too.
    pub fn base() -> Result<String> {
        let mut text = String::new();
        for file in resources()? {
            text.push_str("---\n");
            text.push_str(&read(&file)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Every file that kustomization.yaml names.
    pub fn resources() -> Result<Vec<String>> {
        let text = read("kustomization.yaml")?;
        let after = text.split("resources:").nth(1).context("no resources")?;
        Ok(after
            .lines()
            .skip(1)
            .map_while(|line| {
                line.trim()
                    .strip_prefix("- ")
                    .map(|name| name.trim().to_owned())
            })
            .collect())
    }

    /// What a platform engineer applies to let the executor work in a namespace.
    pub fn opt_in(namespace: &str) -> Result<String> {
        Ok(read("../opt-in/rolebinding.yaml")?.replace("NAMESPACE", namespace))
    }

    pub fn read(name: &str) -> Result<String> {
        let path = folder().join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}
