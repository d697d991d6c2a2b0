//! A cluster, a database and an executor, for one test each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use countersign_domain::{
    Action, ActionId, ActionKind, AuditEvent, Author, Channel, Clock as _, Decision, Digest,
    EventName, KeyRing, OsEntropy, Proposal, Sealed, Signed, Signer, StateName, Statement,
    SystemClock, Target, Verb, digest_text,
};
use countersign_playground::cluster;
use countersign_store::testing::Tamper;
use countersign_store::{
    ActionDetail, Caps, Database, NewDecision, NextState, OpenOptions, Proposed, ServerStore,
    Ticket, Transition,
};
use serde_json::{Value, json};
use tokio::process::{Child, ChildStdin, Command};

pub const CLUSTER: &str = "try";

pub struct World {
    pub folder: tempfile::TempDir,
    pub server_key: Signer,
    pub store: ServerStore,
    cluster: cluster::Started,
    database: Database,
    http: reqwest::Client,
    admin_token: String,
}

/// A running executor; killed when dropped.
pub struct Running {
    child: Child,
    /// Apart from the child, because waiting for a child closes its standard input.
    parent: Option<ChildStdin>,
    log: PathBuf,
}

impl World {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let cluster = cluster::start(cluster::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: at.join("cluster"),
            seed: true,
        })
        .await
        .unwrap();
        let admin = std::fs::read_to_string(&cluster.admin_kubeconfig).unwrap();
        let token = admin
            .split_once("token: ")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap()
            .trim();
        let server_key = Signer::generate(&OsEntropy);
        std::fs::write(at.join("server.pub"), server_key.public_text()).unwrap();
        std::fs::write(at.join("policy.toml"), POLICY).unwrap();
        std::fs::write(at.join("registry.toml"), REGISTRY).unwrap();
        let config = CONFIG
            .replace("DATABASE", &at.join("actions.db").display().to_string())
            .replace(
                "KUBECONFIG",
                &cluster.executor_kubeconfig.display().to_string(),
            );
        std::fs::write(at.join("executor.toml"), config).unwrap();
        let database = open(at).await;
        Self {
            admin_token: token.to_owned(),
            server_key,
            store: database.server(),
            database,
            cluster,
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(10))
                .build()
                .unwrap(),
            folder,
        }
    }

    /// Starts an executor; `crash_at` as in COUNTERSIGN_CRASH_AT.
    pub fn executor(&self, crash_at: Option<&str>) -> Running {
        let log = self
            .folder
            .path()
            .join(format!("{}.log", ActionId::new(now(), &OsEntropy)));
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign-executor"));
        command
            .args(["run", "--exit-with-parent", "--config"])
            .arg(self.folder.path().join("executor.toml"))
            .env_remove("COUNTERSIGN_CRASH_AT")
            .stdin(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true);
        if let Some(point) = crash_at {
            command.env("COUNTERSIGN_CRASH_AT", point);
        }
        let mut child = command.spawn().unwrap();
        Running {
            parent: child.stdin.take(),
            child,
            log,
        }
    }

    /// The first failing pod of an app: its name and uid.
    pub async fn failing_pod(&self, app: &str) -> (String, String) {
        self.pods(app)
            .await
            .into_iter()
            .find(|pod| !is_ready(pod))
            .map(|pod| (text(&pod, "/metadata/name"), text(&pod, "/metadata/uid")))
            .unwrap()
    }

    pub async fn pods(&self, app: &str) -> Vec<Value> {
        let list = self
            .get(&format!(
                "/api/v1/namespaces/shop/pods?labelSelector=app%3D{app}"
            ))
            .await;
        list["items"].as_array().unwrap().clone()
    }

    pub async fn propose(&self, pod: &(String, String)) -> ActionId {
        self.propose_as("claude", pod).await
    }

    pub async fn propose_as(&self, agent: &str, pod: &(String, String)) -> ActionId {
        self.propose_since(now(), agent, pod).await
    }

    /// `since`: the time in the action's id.
    pub async fn propose_since(
        &self,
        since: jiff::Timestamp,
        agent: &str,
        (name, uid): &(String, String),
    ) -> ActionId {
        let proposal = Proposal {
            kind: ActionKind::RestartPod,
            target: Target {
                cluster: CLUSTER.into(),
                namespace: "shop".into(),
                name: name.clone(),
                uid: uid.clone(),
            },
            params: [("mode".to_owned(), "evict".to_owned())].into(),
            agent: agent.into(),
            session: "test".into(),
            reason: "it crashes".into(),
            idempotency_key: None,
        };
        let id = ActionId::new(since, &OsEntropy);
        let event = event(EventName::Proposed, agent).about(id);
        let caps = Caps {
            pending: 100,
            per_hour: 100,
        };
        match self
            .store
            .propose(&proposal, id, caps, now(), event)
            .await
            .unwrap()
        {
            Proposed::Created(action) => action.id,
            other => panic!("{other:?}"),
        }
    }

    /// An approval by Ann, attested by the server.
    pub async fn approve(&self, id: ActionId) {
        self.decide(id, &self.server_key, "ann").await;
    }

    /// An approval signed with any key.
    pub async fn decide(&self, id: ActionId, key: &Signer, person: &str) {
        let action = self.store.get(id).await.unwrap().unwrap();
        let statement = self.statement(&action);
        let decision = Decision {
            v: "1".into(),
            statement: digest(&action),
            verb: Verb::Approve,
            person: person.into(),
            channel: Channel::Web,
            reason_digest: digest_text(""),
            decided_at: now(),
            valid_until: statement.execute_by,
        };
        let sealed = Signed::sign(decision, key).unwrap().sealed().clone();
        self.store_decision(&action, person, Channel::Web, Some(sealed))
            .await;
    }

    /// The server says that this person moved the ticket. A pointer, no evidence.
    pub async fn pointer(&self, id: ActionId, person: &str) {
        let action = self.store.get(id).await.unwrap().unwrap();
        self.store_decision(&action, person, Channel::Jira, None)
            .await;
    }

    async fn store_decision(
        &self,
        action: &Action,
        person: &str,
        channel: Channel,
        sealed: Option<Sealed>,
    ) {
        let new = NewDecision {
            action: action.id,
            version: action.version,
            person: person.into(),
            verb: Verb::Approve,
            channel,
            reason: String::new(),
            sealed,
            next: Some(NextState::Approved),
            at: now(),
        };
        let done = self
            .store
            .decide(new, event(EventName::Decided, person).about(action.id))
            .await;
        assert!(matches!(done.unwrap(), Transition::Done(_)));
    }

    pub async fn record_ticket(&self, id: ActionId, ticket: &Ticket) {
        let opened = event(EventName::TicketOpened, "countersign").about(id);
        self.store.ticket_record(id, ticket, opened).await.unwrap();
    }

    /// The executor's own.
    pub fn keys(&self) -> KeyRing {
        let public = std::fs::read_to_string(self.folder.path().join("executor.pub")).unwrap();
        KeyRing::from_text(&public).unwrap()
    }

    pub fn statement(&self, action: &Action) -> Statement {
        sealed(action)
            .open::<Statement>(&self.keys(), now())
            .unwrap()
            .body()
            .clone()
    }

    /// Waits until the action is in this state.
    pub async fn wait(&self, id: ActionId, state: StateName) -> Action {
        self.wait_until(id, &format!("{state}"), |action| {
            action.state.name() == state
        })
        .await
    }

    pub async fn wait_until(
        &self,
        id: ActionId,
        what: &str,
        is: impl Fn(&Action) -> bool,
    ) -> Action {
        let started = std::time::Instant::now();
        loop {
            let action = self.store.get(id).await.unwrap().unwrap();
            if is(&action) {
                return action;
            }
            assert!(
                started.elapsed() < Duration::from_secs(180) && !is_other_end(&action, what),
                "waited for {what}, is {:?}",
                action.state
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn detail(&self, id: ActionId) -> ActionDetail {
        self.store.detail(id).await.unwrap().unwrap()
    }

    /// Evictions that the cluster carried out for the executor, by pod name.
    pub async fn evictions(&self) -> Vec<String> {
        let log = self.get("/playground/audit").await;
        log["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| {
                event["objectRef"]["subresource"] == "eviction"
                    && event["dryRun"] == false
                    && event["responseStatus"]["code"] == 201
            })
            .map(|event| text(event, "/objectRef/name"))
            .collect()
    }

    pub async fn control(&self, action: &str, body: Value) -> Value {
        self.post(&format!("/playground/{action}"), &body).await
    }

    /// As the cluster's administrator.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.cluster.server.url());
        let request = self
            .http
            .post(url)
            .bearer_auth(&self.admin_token)
            .json(body);
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{:?}",
            response.text().await
        );
        response.json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.cluster.server.url());
        let request = self.http.get(url).bearer_auth(&self.admin_token);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// An attacker with every right on the database; the rows that it touched.
    pub async fn tamper(&self, sql: &str) -> u64 {
        let url = format!(
            "sqlite://{}",
            self.folder.path().join("actions.db").display()
        );
        let tamper = Tamper::open(&url).await.unwrap();
        tamper.execute(sql).await.unwrap()
    }

    /// Changes an action's row and takes it away from whoever works on it.
    pub async fn take_away(&self, id: ActionId, changes: &str) {
        let change = format!(
            "UPDATE actions SET {changes}, version = version + 1, lease_token = NULL, \
             lease_holder = NULL, lease_until = NULL WHERE id = '{id}'"
        );
        assert_eq!(self.tamper(&change).await, 1);
    }

    /// Closes the database so that its file is whole, runs `change` on it, and opens it again.
    pub async fn with_file(&mut self, change: impl FnOnce(&Path)) {
        self.database.close().await;
        change(&self.folder.path().join("actions.db"));
        self.database = open(self.folder.path()).await;
        self.store = self.database.server();
    }

    /// Waits for a heartbeat with this status.
    pub async fn heartbeat(&self, status: &str) {
        self.heartbeat_where(|said| said == status).await;
    }

    /// Waits for a heartbeat with such a status.
    pub async fn heartbeat_where(&self, is: impl Fn(&str) -> bool) {
        let beating = async {
            loop {
                let beats = self.store.heartbeats().await.unwrap();
                if beats
                    .iter()
                    .any(|beat| is(&beat.status) && beat.cluster_lock == "absent")
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), beating)
            .await
            .unwrap();
    }

    /// Adds lines to a file of the executor.
    pub fn append(&self, file: &str, lines: &str) {
        let path = self.folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + lines).unwrap();
    }

    pub fn policy(&self, change: impl FnOnce(&str) -> String) {
        std::fs::write(self.folder.path().join("policy.toml"), change(POLICY)).unwrap();
    }

    /// The registry as it was at first.
    pub fn registry(&self) {
        std::fs::write(self.folder.path().join("registry.toml"), REGISTRY).unwrap();
    }

    /// No budget room for an app, or room again.
    pub async fn budget(&self, app: &str, min_available: u32) {
        self.control(
            "pdb",
            json!({"namespace": "shop", "name": app, "minAvailable": min_available}),
        )
        .await;
    }
}

impl Running {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the end that the process makes by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(Duration::from_secs(30), self.child.wait())
            .await
            .unwrap()
            .unwrap()
    }

    /// SIGTERM, and how long it took to leave.
    pub async fn terminate(&mut self) -> Duration {
        let started = std::time::Instant::now();
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        assert!(self.ended().await.success(), "{}", self.log());
        started.elapsed()
    }

    /// Asks its own listener: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let log = self.log();
        let address = log.split_once("health and metrics address=").unwrap().1;
        let address = address.split_whitespace().next().unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let answer = client
            .get(format!("http://{address}{path}"))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Closes standard input, as a parent does by dying.
    pub fn orphan(&mut self) {
        self.parent.take();
    }
}

async fn open(folder: &Path) -> Database {
    let url = format!("sqlite://{}", folder.join("actions.db").display());
    let options = OpenOptions {
        create: true,
        migrate: true,
        ..OpenOptions::default()
    };
    Database::open(&url, options).await.unwrap()
}

fn is_other_end(action: &Action, wanted: &str) -> bool {
    action.state.name().is_terminal() && action.state.name().as_str() != wanted
}

pub fn sealed(action: &Action) -> &Sealed {
    action.state.statement().unwrap()
}

pub fn digest(action: &Action) -> Digest {
    sealed(action).digest::<Statement>()
}

pub fn now() -> jiff::Timestamp {
    SystemClock.now()
}

fn event(name: EventName, actor: &str) -> AuditEvent {
    AuditEvent::new(now(), &OsEntropy, Author::Server, name, actor)
}

pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

const CONFIG: &str = r#"
policy_file = "policy.toml"
registry_file = "registry.toml"
[database]
url = "sqlite://DATABASE"
[cluster]
id = "try"
kubeconfig = "KUBECONFIG"
cluster_lock = "absent"
[keys]
file = "executor.key"
public_file = "executor.pub"
attestation_public_key_file = "server.pub"
[log]
format = "text"
[http]
listen = "127.0.0.1:0"
"#;

const POLICY: &str = r#"
[[rule]]
name = "shop"
actions = ["restart_pod"]
clusters = ["try"]
namespaces = ["shop"]
risk = "medium"
require = [{ group = "sre", count = 1, tier = 1, channels = ["web"] }]
decide_within = "5m"
execute_within = "5m"
success_within = "20s"
"#;

const REGISTRY: &str = r#"
[[person]]
id = "ann"
groups = ["sre"]
[[person]]
id = "bob"
groups = ["sre"]
[[agent]]
id = "claude"
people = ["bob"]
"#;
