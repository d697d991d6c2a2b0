//! A store with an executor's hand in it, the simulated Jira, receivers of notifications, and the
//! workers between them; all over real HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use countersign_domain::{
    ActionId, ActionKind, AuditEvent, Author, Channel, Clock, ClusterRef, Count, Decision,
    EventName, ExecutionRecord, Inverse, OsEntropy, OwnerRef, Policy, Predicate, Proposal,
    RecordKind, Registry, Requirement, Risk, Signed, Signer, Statement, Success, SystemClock,
    Target, Tier, Verb, digest_text,
};
use countersign_server::app::{App, Rules, SharedApp};
use countersign_server::config::{Config, Loaded};
use countersign_server::workers;
use countersign_store::{
    ActionDetail, Caps, Database, ExecutorStore, NewDecision, NextState, OpenOptions, Proposed,
    ServerStore, SignedStep, Transition,
};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::jira::TestJira;

pub const EXECUTOR: &str = "test-executor";

/// Asks again until `found` answers, for at most `seconds`.
pub async fn until<T>(seconds: u64, what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .unwrap()
}

/// The machine's clock, moved.
pub struct Late(pub SignedDuration);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0
    }
}

/// Everything but the workers.
pub struct World {
    pub dir: tempfile::TempDir,
    pub jira: TestJira,
    pub store: ServerStore,
    pub executor: ExecutorStore,
    pub executor_key: Signer,
    pub attestor_text: String,
    /// How many of the group `sre` have to approve.
    pub seats: u32,
    /// TOML that follows the registry.
    pub more_people: String,
}

/// Workers that run.
pub struct Workers {
    pub app: SharedApp,
    task: JoinHandle<()>,
}

impl Workers {
    pub async fn stop(self) {
        self.app.shutdown.cancel();
        self.task.await.unwrap();
    }
}

pub fn cluster() -> ClusterRef {
    ClusterRef {
        id: "prod".into(),
        kube_system_uid: "kube-system-uid".into(),
    }
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let jira = TestJira::start(&dir.path().join("jira")).await;
        let db = open(dir.path()).await;
        Self {
            jira,
            store: db.server(),
            executor: db.executor(),
            executor_key: Signer::generate(&OsEntropy),
            attestor_text: Signer::generate(&OsEntropy).to_secret_text().to_string(),
            seats: 1,
            more_people: String::new(),
            dir,
        }
    }

    /// A configuration with Jira; `more` is TOML that follows it.
    pub fn config(&self, sweep_seconds: u32, more: &str) -> String {
        let jira = &self.jira;
        format!(
            r#"
            policy_file = "policy.toml"
            registry_file = "registry.toml"
            [database]
            [keys]
            file = "server.key"
            executor_public_key_file = "executor.pub"
            [jira]
            base_url = "{}"
            email = "{}"
            token = "{}"
            webhook_secret = "{}"
            project_id = "{}"
            issue_type_id = "{}"
            approving_status_ids = ["{}"]
            declining_status_ids = ["{}"]
            done_status_id = "{}"
            sweep_seconds = {sweep_seconds}
            {more}
            "#,
            jira.url(),
            jira.accounts["users"]["bot"]["email"].as_str().unwrap(),
            jira.accounts["users"]["bot"]["token"].as_str().unwrap(),
            jira.accounts["webhook_secret"].as_str().unwrap(),
            jira.accounts["project"]["id"].as_str().unwrap(),
            jira.accounts["issue_type"]["id"].as_str().unwrap(),
            jira.status("approved"),
            jira.status("declined"),
            jira.status("done"),
        )
    }

    /// Maria may approve, Li speaks through the agent, Jira's administrator is nobody here.
    pub fn registry(&self) -> String {
        format!(
            r#"
            jira_bots = ["{}", "{}"]
            [[person]]
            id = "maria"
            name = "Maria Keller"
            groups = ["sre"]
            jira = ["{}"]
            [[person]]
            id = "li"
            name = "Li Wei"
            groups = ["sre"]
            jira = ["{}"]
            [[agent]]
            id = "claude"
            people = ["li"]
            {}
            "#,
            self.jira.account("bot"),
            self.jira.account("executor_bot"),
            self.jira.account("maria"),
            self.jira.account("li"),
            self.more_people,
        )
    }

    pub fn app(&self, config: &str, late: SignedDuration) -> SharedApp {
        app(
            config,
            &self.registry(),
            self.store.clone(),
            &self.executor_key.public_text(),
            &self.attestor_text,
            late,
            self.dir.path(),
        )
    }

    pub fn work(&self, config: &str) -> Workers {
        self.work_late(config, SignedDuration::ZERO)
    }

    pub fn work_late(&self, config: &str, late: SignedDuration) -> Workers {
        let app = self.app(config, late);
        Workers {
            task: tokio::spawn(workers::run(app.clone())),
            app,
        }
    }

    /// An admitted proposal that waits for people, by way of the store's own verbs.
    pub async fn ask(&self, pod: &str) -> ActionId {
        self.ask_signed_by(&self.executor_key, pod, SignedDuration::from_mins(15))
            .await
    }

    pub async fn ask_signed_by(
        &self,
        key: &Signer,
        pod: &str,
        decide_within: SignedDuration,
    ) -> ActionId {
        let now = SystemClock.now();
        let proposal = Proposal {
            kind: ActionKind::RestartPod,
            target: Target {
                cluster: "prod".into(),
                namespace: "shop".into(),
                name: pod.into(),
                uid: format!("uid-{pod}"),
            },
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            agent: "claude".into(),
            session: "s1".into(),
            reason: "Memory 97% <!channel> @here".into(),
            idempotency_key: None,
        };
        let id = ActionId::new(now, &OsEntropy);
        let caps = Caps {
            pending: 100,
            per_hour: 100,
        };
        let event = AuditEvent::new(
            now,
            &OsEntropy,
            Author::Server,
            EventName::Proposed,
            "claude",
        );
        let proposed = self
            .store
            .propose(&proposal, id, caps, now, event.about(id))
            .await
            .unwrap();
        assert!(matches!(proposed, Proposed::Created(_)));
        let lease = SignedDuration::from_secs(30);
        let work = self
            .executor
            .next_to_admit("prod", EXECUTOR, lease, now)
            .await
            .unwrap()
            .unwrap();
        let mut statement = statement(id, pod, key, now, decide_within);
        statement.require[0].count = Count(self.seats);
        let statement = Signed::sign(statement, key).unwrap();
        let event = self.event(EventName::Admitted, id);
        let admitted = self
            .executor
            .admit(&work, &statement, &event)
            .await
            .unwrap();
        assert!(matches!(admitted, Transition::Done(_)), "{admitted:?}");
        id
    }

    fn event(&self, name: EventName, id: ActionId) -> Signed<AuditEvent> {
        let now = SystemClock.now();
        let event = AuditEvent::new(now, &OsEntropy, Author::Executor, name, EXECUTOR).about(id);
        Signed::sign(event, &self.executor_key).unwrap()
    }

    pub async fn detail(&self, id: ActionId) -> ActionDetail {
        self.store.detail(id).await.unwrap().unwrap()
    }

    pub async fn state(&self, id: ActionId) -> String {
        self.store
            .get(id)
            .await
            .unwrap()
            .unwrap()
            .state
            .name()
            .to_string()
    }

    pub async fn reaches(&self, id: ActionId, state: &str) {
        until(15, state, async || {
            (self.state(id).await == state).then_some(())
        })
        .await;
    }

    /// The key of the ticket, once its first comment stands.
    pub async fn ticket(&self, id: ActionId) -> String {
        let ticket = until(40, "the ticket", async || self.detail(id).await.ticket).await;
        until(15, "the first comment", async || {
            (!self.jira.comments(&ticket.key).await.is_empty()).then_some(())
        })
        .await;
        ticket.key
    }

    /// Maria approves on the page.
    pub async fn approve_on_page(&self, id: ActionId) {
        let detail = self.detail(id).await;
        let sealed = detail.action.state.statement().unwrap();
        let now = SystemClock.now();
        let decision = Decision {
            v: "1".into(),
            statement: sealed.digest::<Statement>(),
            verb: Verb::Approve,
            person: "maria".into(),
            channel: Channel::Web,
            reason_digest: digest_text("looks right"),
            decided_at: now,
            valid_until: now + SignedDuration::from_mins(5),
        };
        let attestor = Signer::from_text(&self.attestor_text).unwrap();
        let new = NewDecision {
            action: id,
            version: detail.action.version,
            person: "maria".into(),
            verb: Verb::Approve,
            channel: Channel::Web,
            reason: "looks right".into(),
            sealed: Some(Signed::sign(decision, &attestor).unwrap().sealed().clone()),
            next: Some(NextState::Approved),
            at: now,
        };
        let event = AuditEvent::new(
            now,
            &OsEntropy,
            Author::Server,
            EventName::Approved,
            "maria",
        );
        let decided = self.store.decide(new, event.about(id)).await.unwrap();
        assert!(matches!(decided, Transition::Done(_)), "{decided:?}");
    }

    /// The executor carries an approved action out.
    pub async fn execute(&self, id: ActionId) {
        let now = SystemClock.now();
        let lease = SignedDuration::from_secs(30);
        let claimed = self
            .executor
            .next_approved("prod", EXECUTOR, lease, now)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claimed.action.id, id);
        let step = |kind, state: &str, code: &str, message: &str, name| SignedStep {
            record: Signed::sign(
                ExecutionRecord {
                    v: "1".into(),
                    record: kind,
                    action_id: id,
                    statement: claimed.statement.digest::<Statement>(),
                    state: state.into(),
                    code: code.into(),
                    message: message.into(),
                    details: BTreeMap::new(),
                    executor: EXECUTOR.into(),
                    at: SystemClock.now(),
                },
                &self.executor_key,
            )
            .unwrap(),
            event: self.event(name, id),
        };
        let intent = step(
            RecordKind::Intent,
            "executing",
            "intent",
            "",
            EventName::Executing,
        );
        let begun = self
            .executor
            .begin(&claimed.action, &claimed.lease, &intent)
            .await
            .unwrap();
        let Transition::Done(running) = begun else {
            panic!("{begun:?}")
        };
        let outcome = step(
            RecordKind::Outcome,
            "succeeded",
            "verified",
            "a replacement is Ready",
            EventName::Succeeded,
        );
        let ended = self
            .executor
            .finish(&running, &claimed.lease, &outcome)
            .await
            .unwrap();
        assert!(matches!(ended, Transition::Done(_)), "{ended:?}");
    }
}

pub async fn open(dir: &Path) -> Database {
    let url = format!("sqlite://{}", dir.join("countersign.db").display());
    let options = OpenOptions {
        create: true,
        migrate: true,
        ..OpenOptions::default()
    };
    Database::open(&url, options).await.unwrap()
}

pub fn app(
    config: &str,
    registry: &str,
    store: ServerStore,
    executor_public: &str,
    attestor: &str,
    late: SignedDuration,
    folder: &Path,
) -> SharedApp {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config: Config = toml::from_str(config).unwrap();
    Arc::new(App {
        loaded: Loaded {
            config,
            folder: folder.to_owned(),
        },
        store,
        clusters: BTreeMap::new(),
        rules: RwLock::new(Rules {
            policy: Arc::new(Policy::from_toml("").unwrap()),
            registry: Arc::new(Registry::from_toml(registry).unwrap()),
        }),
        attestor: Signer::from_text(attestor).unwrap(),
        executor_keys: countersign_domain::KeyRing::from_text(executor_public).unwrap(),
        clock: Arc::new(Late(late)),
        entropy: Arc::new(OsEntropy),
        metrics: None,
        external_url: "https://countersign.example/".parse().unwrap(),
        shutdown: CancellationToken::new(),
    })
}

fn statement(
    id: ActionId,
    pod: &str,
    key: &Signer,
    now: Timestamp,
    decide_within: SignedDuration,
) -> Statement {
    Statement {
        v: "1".into(),
        kid: key.kid().into(),
        action_id: id,
        cluster: cluster(),
        kind: ActionKind::RestartPod,
        namespace: "shop".into(),
        name: pod.into(),
        uid: format!("uid-{pod}"),
        params: BTreeMap::from([("mode".into(), "evict".into())]),
        facts: BTreeMap::from([("phase".into(), "Running".into())]),
        predicates: vec![
            Predicate::Uid {
                uid: format!("uid-{pod}"),
            },
            Predicate::Owner {
                owner: OwnerRef {
                    kind: "ReplicaSet".into(),
                    name: "checkout".into(),
                    uid: "o".into(),
                },
            },
        ],
        success: Success::ReplacementReady {
            deadline_seconds: Count(60),
        },
        inverse: Inverse::None {
            because: "an evicted pod does not come back".into(),
        },
        agent: "claude".into(),
        on_behalf_of: vec!["li".into()],
        rule: "shop".into(),
        risk: Risk::Low,
        require: vec![Requirement {
            group: "sre".into(),
            count: Count(1),
            tier: Tier::Attested,
            channels: vec![Channel::Web, Channel::Jira],
        }],
        self_approval: "forbidden".into(),
        policy_hash: digest_text("policy"),
        admitted_at: now,
        decide_by: now + decide_within,
        execute_by: now + decide_within + SignedDuration::from_mins(5),
    }
}

/// Serves until the test ends; the address comes back.
pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
