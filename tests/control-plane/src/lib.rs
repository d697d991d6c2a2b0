//! A real Kubernetes control plane for tests: etcd, API server, controllers and
//! scheduler as child processes, and a fake kubelet in this one.
//!
//! What the product relies on in Kubernetes is tested here against Kubernetes, not
//! against an idea of it. There are no containers: pods are records that the
//! fake kubelet moves along (see [`Behavior`]), so nothing can be exec'd into and
//! logs are made up. Nothing of this is for production.

mod api;
mod audit;
mod behavior;
mod binaries;
pub mod contract;
mod credentials;
mod developer;
mod kubelet;
mod logs;
mod pod_status;
mod process;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use api::{Api, Patch, Reply, Watch, documents, eventually, object_path};
pub use audit::AuditEvent;
pub use behavior::{ANNOTATION, Behavior, Outcome, UnknownBehavior};
pub use developer::run_for_developer;
pub use logs::LOG_ANNOTATION;

use binaries::Binaries;
use credentials::{ADMIN, CONTROLLER_MANAGER, Credentials, FAKE_KUBELET, SCHEDULER};
use kubelet::{Kubelet, Overrides};
use process::Process;

/// Ready in 3 s on an idle machine; tests run on busy ones.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The controllers that workloads need. Those that evict pods from nodes without
/// heartbeats are left out: the fake kubelet sends none.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,statefulset-controller,\
    daemonset-controller,job-controller,garbage-collector-controller,namespace-controller,\
    serviceaccount-controller,root-ca-certificate-publisher-controller,disruption-controller,\
    validatingadmissionpolicy-status-controller";

#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes of the fake kubelet, `node-1` and so on.
    pub nodes: usize,
    /// Whether controllers, scheduler and fake kubelet run at all. Without them
    /// the API server stores objects and nothing moves: enough for RBAC and
    /// admission policies, and a second faster.
    pub controllers: bool,
    /// More flags for the API server.
    pub api_server_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            controllers: true,
            api_server_flags: Vec::new(),
        }
    }
}

/// A running control plane. Dropping it kills every process and removes its folder;
/// the processes also die with this process, however it ends (where util-linux'
/// `setpriv` is installed).
///
/// All methods take `&self`, and none depends on the runtime that started it: a
/// test binary may keep one in a `static` and share it.
pub struct ControlPlane {
    url: String,
    etcd_url: String,
    credentials: Credentials,
    binaries: Binaries,
    api_server_args: Vec<String>,
    overrides: Overrides,
    // Dropped in this order: the kubelet first, the folder last.
    kubelet: Mutex<Option<Kubelet>>,
    processes: Mutex<Processes>,
    folder: TempDir,
}

/// Field order is kill order. An API server that outlives etcd hangs on to its port.
#[derive(Default)]
struct Processes {
    api_server: Option<Process>,
    others: Vec<Process>,
    etcd: Option<Process>,
}

impl ControlPlane {
    /// Starts everything and returns when the API server is ready, the nodes are
    /// Ready and the controllers work.
    ///
    /// The first start on a machine builds the programs (minutes, with progress on
    /// stderr).
    ///
    /// # Errors
    /// No Go and no `KUBEBUILDER_ASSETS`, or a component that ends early: with the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
        let folder = tempfile::Builder::new()
            .prefix("countersign-control-plane-")
            .tempdir()?;
        let credentials = Credentials::create(folder.path())?;
        let [etcd_port, etcd_peer_port, port] = process::free_ports()?;
        let url = format!("https://127.0.0.1:{port}");
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let api_server_args = api_server_args(&credentials, &etcd_url, port, &options);
        let plane = Self {
            url,
            etcd_url: etcd_url.clone(),
            credentials,
            binaries,
            api_server_args,
            overrides: Overrides::default(),
            kubelet: Mutex::new(None),
            processes: Mutex::new(Processes::default()),
            folder,
        };

        let peer_url = format!("http://127.0.0.1:{etcd_peer_port}");
        let data = plane.credentials.path("etcd").display().to_string();
        let etcd = plane.spawn(
            "etcd",
            &[
                "--unsafe-no-fsync".into(),
                format!("--data-dir={data}"),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
            ],
        )?;
        plane.processes().etcd = Some(etcd);
        eventually(START_LIMIT, "etcd listens", async || {
            if let Some(etcd) = &mut plane.processes().etcd {
                etcd.check_alive()?;
            }
            Ok(std::net::TcpStream::connect(("127.0.0.1", etcd_port)).ok())
        })
        .await?;
        plane.start_api_server().await?;
        if options.controllers {
            tokio::try_join!(
                plane.start_controllers(),
                plane.start_kubelet(options.nodes)
            )?;
        }
        Ok(plane)
    }

    /// One control plane with default options for all tests of this process that
    /// run at the same time; it stops with the last of them.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: tokio::sync::Mutex<Weak<ControlPlane>> =
            tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start(Options::default()).await?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    /// `https://127.0.0.1:<port>`; the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate authority of [`Self::url`], PEM.
    pub fn ca(&self) -> &str {
        &self.credentials.ca_pem
    }

    /// The folder with kubeconfigs, logs (`kube-apiserver.log`, ...) and etcd's data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Group `system:masters`: RBAC does not bind it.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.credentials.path(&format!("{ADMIN}.kubeconfig"))
    }

    /// A client of the admin, for the current runtime.
    pub async fn admin(&self) -> Result<Api> {
        Api::from_kubeconfig(&self.admin_kubeconfig()).await
    }

    /// A kubeconfig with a token of the service account, valid for an hour and bound to no pod.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        self.token_kubeconfig(namespace, name, None).await
    }

    /// The same, with a token bound to a pod, as a kubelet would project into it.
    /// The pod must exist and run as the service account.
    pub async fn kubeconfig_for_pod(&self, namespace: &str, pod: &str) -> Result<PathBuf> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        let object = self.admin().await?.get(&path).await?.success()?;
        let account = object["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default");
        let bound = json!({
            "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": object["metadata"]["uid"],
        });
        self.token_kubeconfig(namespace, account, Some(bound)).await
    }

    async fn token_kubeconfig(
        &self,
        namespace: &str,
        account: &str,
        bound: Option<Value>,
    ) -> Result<PathBuf> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let pod = bound
            .as_ref()
            .and_then(|pod| pod["name"].as_str())
            .map(str::to_owned);
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        });
        if let Some(bound) = bound {
            request["spec"]["boundObjectRef"] = bound;
        }
        let answer = self.admin().await?.post(&path, &request).await?.success();
        let answer = answer.with_context(|| format!("token of {namespace}/{account}"))?;
        let token = answer["status"]["token"]
            .as_str()
            .context("TokenRequest without token")?;
        let mut name = format!("{namespace}.{account}");
        if let Some(pod) = pod {
            name.push_str(&format!(".{pod}"));
        }
        self.credentials
            .kubeconfig(&name, token, &self.url, namespace)
    }

    /// Server-side apply of a multi-document YAML as the admin; see [`Api::apply_yaml`].
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<Value>> {
        self.admin().await?.apply_yaml(yaml).await
    }

    /// What pods of this workload (the Deployment's, StatefulSet's, ... name) do that
    /// are created from now on, whatever their annotation says.
    pub fn set_behavior(&self, namespace: &str, workload: &str, behavior: impl Into<Behavior>) {
        self.overrides
            .set_workload(namespace, workload, behavior.into());
    }

    /// What this one pod does from now on.
    pub fn set_pod_behavior(&self, namespace: &str, pod: &str, behavior: impl Into<Behavior>) {
        self.overrides.set_pod(namespace, pod, behavior.into());
    }

    /// Where etcd listens, without log-in: for objects that no API call can make.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// JSON lines, flushed about when each request ends.
    pub fn audit_log_path(&self) -> PathBuf {
        self.credentials.path("audit.log")
    }

    /// Every request so far, in the order of the log. The answer to a request can
    /// reach its client just before the line is written: poll for what must be
    /// there, and count only after something later has shown up.
    pub fn audit_events(&self) -> Result<Vec<AuditEvent>> {
        let log = std::fs::read(self.audit_log_path()).context("audit log")?;
        Ok(audit::parse(&String::from_utf8_lossy(&log)))
    }

    /// Waits for an audit event that `matches`.
    pub async fn audit_event(&self, matches: impl Fn(&AuditEvent) -> bool) -> Result<AuditEvent> {
        eventually(Duration::from_secs(10), "the audit event", async || {
            Ok(self
                .audit_events()?
                .into_iter()
                .find(|event| matches(event)))
        })
        .await
    }

    /// Stops the API server in its tracks (SIGSTOP): connections hang.
    pub fn freeze_api_server(&self) -> Result<()> {
        self.signal_api_server("STOP")
    }

    pub fn thaw_api_server(&self) -> Result<()> {
        self.signal_api_server("CONT")
    }

    fn signal_api_server(&self, signal: &str) -> Result<()> {
        self.processes()
            .api_server
            .as_ref()
            .context("no API server")?
            .signal(signal)
    }

    /// SIGKILL: connections break, new ones are refused, what etcd has stays.
    pub fn kill_api_server(&self) {
        self.processes().api_server = None;
    }

    /// Kills the API server if it still runs, starts it again on the same port, and
    /// waits until it is ready. Controllers and scheduler start anew as well: left
    /// alone, they would come back after a back-off of up to half a minute.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.kill_api_server();
        let controllers = !std::mem::take(&mut self.processes().others).is_empty();
        self.start_api_server().await?;
        if controllers {
            self.start_controllers().await?;
        }
        Ok(())
    }

    /// Process ids of all components, for tests of this crate's own promise to leave none.
    pub fn process_ids(&self) -> Vec<u32> {
        let processes = self.processes();
        processes
            .api_server
            .iter()
            .chain(&processes.others)
            .chain(&processes.etcd)
            .map(Process::id)
            .collect()
    }

    /// Kills everything and removes the folder; the same as dropping.
    pub fn stop(self) {}

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, component: &'static str, args: &[String]) -> Result<Process> {
        let log = self.credentials.path(&format!("{component}.log"));
        Process::spawn(component, &self.binaries.program(component), args, &log)
    }

    async fn start_api_server(&self) -> Result<()> {
        let process = self.spawn("kube-apiserver", &self.api_server_args)?;
        self.processes().api_server = Some(process);
        self.credentials.static_kubeconfig(ADMIN, &self.url)?;
        let api = self.admin().await?;
        eventually(START_LIMIT, "the API server is ready", async || {
            if let Some(server) = &mut self.processes().api_server {
                server.check_alive()?;
            }
            // Until it listens, the call itself fails.
            let ready = api
                .get("/readyz")
                .await
                .is_ok_and(|reply| reply.status == 200);
            Ok(ready.then_some(()))
        })
        .await
    }

    async fn start_controllers(&self) -> Result<()> {
        let path = |name: &str| self.credentials.path(name).display().to_string();
        let common = |account| -> Result<Vec<String>> {
            let kubeconfig = self.credentials.static_kubeconfig(account, &self.url)?;
            Ok(vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                "--leader-elect=false".into(),
                "--secure-port=0".into(),
                "--kube-api-qps=500".into(),
                "--kube-api-burst=1000".into(),
            ])
        };
        let mut args = common(CONTROLLER_MANAGER)?;
        args.extend([
            "--use-service-account-credentials".into(),
            format!(
                "--service-account-private-key-file={}",
                path("service-account.key")
            ),
            format!("--root-ca-file={}", path("ca.crt")),
            format!("--controllers={CONTROLLERS}"),
        ]);
        let manager = self.spawn("kube-controller-manager", &args)?;
        let scheduler = self.spawn("kube-scheduler", &common(SCHEDULER)?)?;
        self.processes().others.extend([manager, scheduler]);
        let api = self.admin().await?;
        eventually(START_LIMIT, "the controllers work", async || {
            for process in &mut self.processes().others {
                process.check_alive()?;
            }
            let account = "/api/v1/namespaces/default/serviceaccounts/default";
            Ok((api.get(account).await?.status == 200).then_some(()))
        })
        .await
    }

    async fn start_kubelet(&self, nodes: usize) -> Result<()> {
        let config = kubelet::Config {
            kubeconfig: self
                .credentials
                .static_kubeconfig(FAKE_KUBELET, &self.url)?,
            nodes,
            overrides: self.overrides.clone(),
            certificate: self.credentials.path("server.crt"),
            key: self.credentials.path("server.key"),
        };
        let kubelet = Kubelet::start(config).await?;
        *self.kubelet.lock().unwrap_or_else(PoisonError::into_inner) = Some(kubelet);
        Ok(())
    }
}

fn api_server_args(
    credentials: &Credentials,
    etcd_url: &str,
    port: u16,
    options: &Options,
) -> Vec<String> {
    let path = |name: &str| credentials.path(name).display().to_string();
    let mut args = vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        "--endpoint-reconciler-type=none".into(),
        format!("--cert-dir={}", path("certificates")),
        format!("--client-ca-file={}", path("ca.crt")),
        format!("--tls-cert-file={}", path("server.crt")),
        format!("--tls-private-key-file={}", path("server.key")),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", path("service-account.pub")),
        format!(
            "--service-account-signing-key-file={}",
            path("service-account.key")
        ),
        "--allow-privileged".into(),
        format!("--audit-policy-file={}", path("audit-policy.yaml")),
        format!("--audit-log-path={}", path("audit.log")),
    ];
    args.extend(options.api_server_flags.iter().cloned());
    args
}
