//! A stage for the pages: the real router over HTTP, a real SQLite file, an executor's key that the
//! test holds, and a tiny API server that knows one namespace. Shared by the tests and by the
//! example that shows the pages in a browser.

#![allow(dead_code, reason = "the example and each test use a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "test code, also where an example includes it"
)]

mod api_server;
pub mod serving;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, RwLock};

use countersign_domain::{
    Action, ActionId, ActionKind, AuditEvent, Author, Clock, ClusterRef, Code, Count, EventName,
    ExecutionRecord, Inverse, OsEntropy, OwnerRef, Policy, Predicate, Proposal, Reason, RecordKind,
    Registry, Requirement, Risk, Signed, Signer, Statement, Success, SystemClock, Target, Tier,
};
use countersign_domain::{Channel, Held};
use countersign_integrations::kubernetes::KubeReader;
use countersign_server::app::{App, ClusterHandle, Rules, SharedApp};
use countersign_store::{
    Caps, Claimed, Database, ExecutorStore, Heartbeat, Hold, OpenOptions, Proposed, ServerStore,
    SignedStep, Ticket, Transition,
};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use api_server::{api_server, kubeconfig_for};

pub const CLUSTER: &str = "prod-eu";
pub const PASSWORD: &str = "correct horse battery";
const KUBE_SYSTEM: &str = "3f0c7b1e-5f63-4a9e-8f55-0d1c7a9b2e10";

const POLICY: &str = r#"
    [[rule]]
    name = "shop-restart"
    actions = ["restart_pod"]
    clusters = ["prod-*"]
    namespaces = ["shop"]
    risk = "high"
    require = [{ group = "sre", count = 1, tier = 1, channels = ["web", "jira"] }]
    decide_within = "15m"
    execute_within = "5m"
"#;

const REGISTRY: &str = r#"
    [[person]]
    id = "maria"
    name = "Maria K."
    groups = ["sre"]
    [[person]]
    id = "li"
    name = "Li Wei"
    groups = ["sre"]
    [[person]]
    id = "omar"
    name = "Omar"
    groups = ["sre"]
    [[person]]
    id = "sam"
    name = "Sam (support)"
    groups = ["support"]
    [[agent]]
    id = "claude-ops"
    people = ["maria"]
"#;

/// A running stage. Dropping it ends the server and deletes the database.
pub struct Stage {
    pub url: String,
    pub app: SharedApp,
    pub store: ServerStore,
    pub executor: ExecutorStore,
    pub signer: Signer,
    /// What the tiny API server says about every pod.
    pub restarts: Arc<AtomicU32>,
    /// Where the database is, for whoever writes to it behind the product's back.
    pub database: String,
    db: Database,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
    }
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

/// What differs from one proposal to the next.
#[derive(Clone)]
pub struct Ask {
    pub pod: String,
    pub risk: Risk,
    pub count: u32,
    pub reason: String,
    pub self_approval: bool,
    pub decide_in: SignedDuration,
    pub restarts: u32,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            pod: "checkout-7d9f8b6c5-x2k4q".into(),
            risk: Risk::Low,
            count: 1,
            reason: "Memory at 97 % for 22 minutes, p95 latency is up fivefold.".into(),
            self_approval: false,
            decide_in: SignedDuration::from_mins(15),
            restarts: 3,
        }
    }
}

impl Stage {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0", None).await
    }

    /// `external`: the address at which a proxy serves it.
    pub async fn start_at(listen: &str, external: Option<&str>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let restarts = Arc::new(AtomicU32::new(3));
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(
            &kubeconfig,
            kubeconfig_for(&api_server(restarts.clone()).await),
        )
        .unwrap();
        let listener = TcpListener::bind(listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());

        let loaded = serving::configure(folder.path());
        let path = folder.path().join("test.db");
        let database = format!("sqlite://{}", path.display());
        let db = Database::open(
            &database,
            OpenOptions {
                create: true,
                migrate: true,
                ..OpenOptions::default()
            },
        )
        .await
        .unwrap();
        let signer = Signer::generate(&OsEntropy);
        let reader = KubeReader::from_kubeconfig(Some(&kubeconfig), None);
        let app: SharedApp = Arc::new(App {
            loaded,
            store: db.server(),
            clusters: BTreeMap::from([(CLUSTER.to_owned(), ClusterHandle::live(reader, true))]),
            rules: RwLock::new(Rules {
                policy: Arc::new(Policy::from_toml(POLICY).unwrap()),
                registry: Arc::new(Registry::from_toml(REGISTRY).unwrap()),
            }),
            attestor: Signer::generate(&OsEntropy),
            executor_keys: signer.key_ring(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            metrics: None,
            external_url: external
                .map_or(format!("{url}/"), str::to_owned)
                .parse()
                .unwrap(),
            shutdown: CancellationToken::new(),
        });
        serving::serve(&app, listener);
        let stage = Self {
            url,
            store: db.server(),
            executor: db.executor(),
            app,
            signer,
            restarts,
            database,
            db,
            _folder: folder,
        };
        stage.heartbeat(now(), "ok").await;
        stage
    }

    /// The server anew, on the same database and with the same rules, and with something changed.
    pub async fn restart(&mut self, change: impl FnOnce(&mut App)) {
        self.app.shutdown.cancel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        let mut app = App {
            loaded: self.app.loaded.clone(),
            store: self.db.server(),
            clusters: BTreeMap::new(),
            rules: RwLock::new(self.app.rules()),
            attestor: Signer::generate(&OsEntropy),
            executor_keys: self.signer.key_ring(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            metrics: None,
            external_url: format!("{}/", self.url).parse().unwrap(),
            shutdown: CancellationToken::new(),
        };
        change(&mut app);
        self.app = Arc::new(app);
        serving::serve(&self.app, listener);
    }

    pub async fn heartbeat(&self, at: Timestamp, status: &str) {
        let beat = Heartbeat {
            cluster: CLUSTER.into(),
            executor: "executor-1".into(),
            at,
            status: status.into(),
            policy_hash: self.app.rules().policy.hash().to_string(),
            cluster_lock: "absent".into(),
        };
        self.executor.heartbeat(&beat).await.unwrap();
    }

    /// A proposal in state `checking`.
    pub async fn propose(&self, ask: &Ask) -> Action {
        let proposal = Proposal {
            kind: ActionKind::RestartPod,
            target: Target {
                cluster: CLUSTER.into(),
                namespace: "shop".into(),
                name: ask.pod.clone(),
                uid: uid_of(&ask.pod),
            },
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            agent: "claude-ops".into(),
            session: "test".into(),
            reason: ask.reason.clone(),
            idempotency_key: None,
        };
        let at = now();
        let id = ActionId::new(at, &OsEntropy);
        let event = AuditEvent::new(
            at,
            &OsEntropy,
            Author::Server,
            EventName::Proposed,
            "claude-ops",
        )
        .about(id)
        .with("tool", "restart_pod");
        let caps = Caps {
            pending: 100,
            per_hour: 100,
        };
        match self
            .store
            .propose(&proposal, id, caps, at, event)
            .await
            .unwrap()
        {
            Proposed::Created(action) => action,
            other => panic!("not created: {other:?}"),
        }
    }

    /// A proposal that the executor has admitted: state `pending`.
    pub async fn ask(&self, ask: &Ask) -> Action {
        self.propose(ask).await;
        let at = now();
        let lease = SignedDuration::from_secs(30);
        let work = self
            .executor
            .next_to_admit(CLUSTER, "executor-1", lease, at)
            .await
            .unwrap();
        let work = work.expect("something to admit");
        let statement = self.statement(work.action.id, ask, at);
        let event = self.event(EventName::Admitted, work.action.id, at, "");
        match self
            .executor
            .admit(&work, &statement, &event)
            .await
            .unwrap()
        {
            Transition::Done(action) => action,
            Transition::Conflict(found) => panic!("conflict: {found:?}"),
        }
    }

    pub fn statement(&self, id: ActionId, ask: &Ask, at: Timestamp) -> Signed<Statement> {
        let decide_by = at + ask.decide_in;
        let statement = Statement {
            v: "1".into(),
            kid: self.signer.kid().into(),
            action_id: id,
            cluster: ClusterRef {
                id: CLUSTER.into(),
                kube_system_uid: KUBE_SYSTEM.into(),
            },
            kind: ActionKind::RestartPod,
            namespace: "shop".into(),
            name: ask.pod.clone(),
            uid: uid_of(&ask.pod),
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            facts: BTreeMap::from([
                ("phase".into(), "Running".into()),
                ("ready".into(), "no, 0 of 1 containers".into()),
                ("restarts".into(), ask.restarts.to_string()),
                ("reason".into(), "CrashLoopBackOff".into()),
                ("since".into(), format!("{at} (40 s ago)")),
                ("siblings".into(), "2 of 3 ready, this pod included".into()),
                (
                    "owner".into(),
                    "ReplicaSet checkout-7d9f8b6c5 of Deployment checkout".into(),
                ),
                ("budget".into(), "none".into()),
                ("dry run".into(), "accepted".into()),
                ("node".into(), "node-3".into()),
            ]),
            predicates: vec![
                Predicate::Uid {
                    uid: uid_of(&ask.pod),
                },
                Predicate::Owner { owner: owner() },
                Predicate::Unhealthy {
                    window_seconds: Count(600),
                },
            ],
            success: Success::ReplacementReady {
                deadline_seconds: Count(120),
            },
            inverse: Inverse::None {
                because: "a restart cannot be undone".into(),
            },
            agent: "claude-ops".into(),
            on_behalf_of: vec!["maria".into()],
            rule: "shop-restart".into(),
            risk: ask.risk,
            require: vec![Requirement {
                group: "sre".into(),
                count: Count(ask.count),
                tier: Tier::Attested,
                channels: vec![Channel::Web, Channel::Jira],
            }],
            self_approval: if ask.self_approval {
                "allowed"
            } else {
                "forbidden"
            }
            .into(),
            policy_hash: self.app.rules().policy.hash(),
            admitted_at: at,
            decide_by,
            execute_by: decide_by + SignedDuration::from_mins(5),
        };
        Signed::sign(statement, &self.signer).unwrap()
    }

    pub fn event(
        &self,
        name: EventName,
        id: ActionId,
        at: Timestamp,
        message: &str,
    ) -> Signed<AuditEvent> {
        let mut event =
            AuditEvent::new(at, &OsEntropy, Author::Executor, name, "executor-1").about(id);
        if !message.is_empty() {
            event = event.with("message", message);
        }
        Signed::sign(event, &self.signer).unwrap()
    }

    async fn claim(&self, id: ActionId) -> Claimed {
        let lease = SignedDuration::from_secs(30);
        loop {
            let work = self
                .executor
                .next_approved(CLUSTER, "executor-1", lease, now())
                .await;
            let work = work.unwrap().expect("approved work");
            if work.action.id == id {
                return work;
            }
        }
    }

    fn step(
        &self,
        work: &Claimed,
        record: RecordKind,
        state: &str,
        name: EventName,
        code: Code,
        message: &str,
        details: &[(&str, &str)],
    ) -> SignedStep {
        let at = now();
        let id = work.action.id;
        let record = ExecutionRecord {
            v: "1".into(),
            record,
            action_id: id,
            statement: work.statement.digest::<Statement>(),
            state: state.into(),
            code: code.as_str().into(),
            message: message.into(),
            details: details
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            executor: "executor-1".into(),
            at,
        };
        SignedStep {
            record: Signed::sign(record, &self.signer).unwrap(),
            event: self.event(name, id, at, message),
        }
    }

    /// `approved` -> `executing`.
    pub async fn begin(&self, id: ActionId) -> Claimed {
        let work = self.claim(id).await;
        self.begin_claimed(work).await
    }

    pub async fn begin_claimed(&self, mut work: Claimed) -> Claimed {
        let step = self.step(
            &work,
            RecordKind::Intent,
            "executing",
            EventName::Executing,
            Code::Verified,
            "",
            &[],
        );
        match self
            .executor
            .begin(&work.action, &work.lease, &step)
            .await
            .unwrap()
        {
            Transition::Done(action) => work.action = action,
            Transition::Conflict(found) => panic!("conflict: {found:?}"),
        }
        work
    }

    /// `executing` -> an end.
    pub async fn finish(&self, work: &Claimed, state: &str, code: Code, message: &str) {
        let name = if state == "succeeded" {
            EventName::Succeeded
        } else {
            EventName::Failed
        };
        let details = [
            ("old_uid", work.action.proposal.target.uid.as_str()),
            ("new_pod", "checkout-7d9f8b6c5-9vzlt"),
            ("new_uid", "0b7e3a52-6f0d-4d2b-9a43-1fd2b0f0c1aa"),
        ];
        let step = self.step(
            work,
            RecordKind::Outcome,
            state,
            name,
            code,
            message,
            &details,
        );
        let done = self
            .executor
            .finish(&work.action, &work.lease, &step)
            .await
            .unwrap();
        assert!(matches!(done, Transition::Done(_)));
    }

    /// `approved` -> `refused`.
    pub async fn refuse(&self, id: ActionId, code: Code, message: &str) {
        let work = self.claim(id).await;
        let details = [
            ("approved uid", work.action.proposal.target.uid.as_str()),
            ("found uid", "9a9a0000-1111-4222-8333-444455556666"),
        ];
        let step = self.step(
            &work,
            RecordKind::Refusal,
            "refused",
            EventName::Refused,
            code,
            message,
            &details,
        );
        let done = self
            .executor
            .refuse(&work.action, &work.lease, &step)
            .await
            .unwrap();
        assert!(matches!(done, Transition::Done(_)));
    }

    /// Stays `approved`, visibly on hold.
    pub async fn hold(&self, id: ActionId, code: Code, message: &str) {
        let work = self.claim(id).await;
        let at = now();
        let hold = Hold {
            held: Held {
                reason: Reason::new(code, message),
                since: at,
            },
            retry_at: at + SignedDuration::from_mins(10),
        };
        let event = self.event(EventName::Held, id, at, message);
        assert!(
            self.executor
                .hold(id, &work.lease, hold, Some(&event))
                .await
                .unwrap()
        );
    }

    pub async fn ticket(&self, id: ActionId, key: &str, url: &str) {
        let ticket = Ticket {
            issue_id: "10042".into(),
            key: key.into(),
            url: url.into(),
        };
        let event = AuditEvent::new(
            now(),
            &OsEntropy,
            Author::Server,
            EventName::TicketOpened,
            "countersign",
        )
        .about(id)
        .with("ticket", key);
        self.store.ticket_record(id, &ticket, event).await.unwrap();
    }

    pub async fn close(&self) {
        self.app.shutdown.cancel();
        self.db.close().await;
    }
}

pub fn uid_of(pod: &str) -> String {
    let hash = countersign_domain::digest_text(pod).to_string();
    format!(
        "{}-{}-4{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[12..15],
        &hash[15..18],
        &hash[18..30]
    )
}

pub fn owner() -> OwnerRef {
    OwnerRef {
        kind: "ReplicaSet".into(),
        name: "checkout-7d9f8b6c5".into(),
        uid: "5a1d1f0e-9f8b-4a7d-9c51-b3e8d2a4c6f1".into(),
    }
}
