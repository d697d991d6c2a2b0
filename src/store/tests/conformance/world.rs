//! Two handles on one fresh database, and short ways to bring an action where a test wants it.

use std::collections::BTreeMap;

use countersign_domain::*;
use countersign_store::testing::{Role, Tamper, ThrowawayPostgres};
use countersign_store::*;
use jiff::{SignedDuration, Timestamp};

pub const CAPS: Caps = Caps {
    pending: 100,
    per_hour: 1000,
};
pub const LEASE: SignedDuration = SignedDuration::from_secs(30);

pub struct World {
    pub server_db: Database,
    pub executor_db: Database,
    pub server: ServerStore,
    pub executor: ExecutorStore,
    pub signer: Signer,
    /// Runs a statement with every right: what an attacker or administrator does by hand.
    pub by_hand: ByHand,
    _folder: Option<tempfile::TempDir>,
}

pub enum ByHand {
    Sqlite(std::path::PathBuf),
    Postgres(String),
}

/// See [`World::hold_proposals`].
pub struct Blocker(Tamper);

impl Blocker {
    pub async fn let_go(self) {
        self.0.execute("ROLLBACK").await.unwrap();
    }
}

impl ByHand {
    pub async fn execute(&self, text: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(path) => countersign_store::testing::execute_sqlite(path, text).await,
            Self::Postgres(name) => ThrowawayPostgres::shared().await.execute(name, text).await,
        }
    }
}

pub fn options() -> OpenOptions {
    OpenOptions {
        create: true,
        migrate: true,
        ..OpenOptions::default()
    }
}

pub fn now() -> Timestamp {
    "2026-11-22T02:00:00.123Z".parse().unwrap()
}

pub fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub fn id_at(at: Timestamp) -> ActionId {
    ActionId::new(at, &OsEntropy)
}

pub fn proposal(pod: &str) -> Proposal {
    Proposal {
        kind: ActionKind::RestartPod,
        target: Target {
            cluster: "prod".into(),
            namespace: "shop".into(),
            name: pod.into(),
            uid: format!("uid-of-{pod}"),
        },
        params: BTreeMap::from([("mode".to_owned(), "evict".to_owned())]),
        agent: "claude".into(),
        session: "s1".into(),
        reason: "it crashes \u{202e}'; DROP TABLE actions; --".into(),
        idempotency_key: None,
    }
}

pub fn server_event(name: EventName, at: Timestamp) -> AuditEvent {
    AuditEvent::new(at, &OsEntropy, Author::Server, name, "li").with("outcome", "ok")
}

impl World {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let url = format!("sqlite://{}", path.display());
        let server = Database::open(&url, options()).await.unwrap();
        let executor = Database::open(&url, OpenOptions::default()).await.unwrap();
        Self::of(server, executor, ByHand::Sqlite(path), Some(folder))
    }

    pub async fn postgres() -> Self {
        let cluster = ThrowawayPostgres::shared().await;
        let name = cluster.fresh_database().await.unwrap();
        let open = async |role| {
            let options = OpenOptions {
                max_connections: 6,
                ..OpenOptions::default()
            };
            Database::open(&cluster.url_of(&name, role), options)
                .await
                .unwrap()
        };
        let (server, executor) = (open(Role::Server).await, open(Role::Executor).await);
        Self::of(server, executor, ByHand::Postgres(name), None)
    }

    fn of(
        server_db: Database,
        executor_db: Database,
        by_hand: ByHand,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        Self {
            server: server_db.server(),
            executor: executor_db.executor(),
            server_db,
            executor_db,
            signer: Signer::generate(&OsEntropy),
            by_hand,
            _folder: folder,
        }
    }

    /// One more server process on the same database.
    pub async fn another_server(&self) -> Database {
        let url = match &self.by_hand {
            ByHand::Sqlite(path) => format!("sqlite://{}", path.display()),
            ByHand::Postgres(name) => ThrowawayPostgres::shared().await.url_of(name, Role::Server),
        };
        Database::open(&url, OpenOptions::default()).await.unwrap()
    }

    /// Holds what every proposal needs, until [`Blocker::let_go`].
    pub async fn hold_proposals(&self) -> Blocker {
        let (url, begin) = match &self.by_hand {
            ByHand::Sqlite(path) => (format!("sqlite://{}", path.display()), "BEGIN IMMEDIATE"),
            ByHand::Postgres(name) => (
                ThrowawayPostgres::shared().await.url_of(name, Role::Admin),
                "BEGIN",
            ),
        };
        let other = Tamper::open(&url).await.unwrap();
        other.execute(begin).await.unwrap();
        if let ByHand::Postgres(_) = &self.by_hand {
            let lock =
                "SELECT pg_advisory_xact_lock(hashtextextended('countersign.may_propose', 0))";
            other.execute(lock).await.unwrap();
        }
        Blocker(other)
    }

    pub fn signed_event(
        &self,
        name: EventName,
        action: ActionId,
        at: Timestamp,
    ) -> Signed<AuditEvent> {
        let event =
            AuditEvent::new(at, &OsEntropy, Author::Executor, name, "executor-1").about(action);
        Signed::sign(event, &self.signer).unwrap()
    }

    pub fn statement(&self, action: &Action, at: Timestamp) -> Signed<Statement> {
        let proposal = &action.proposal;
        let statement = Statement {
            v: "1".into(),
            kid: self.signer.kid().into(),
            action_id: action.id,
            cluster: ClusterRef {
                id: proposal.target.cluster.clone(),
                kube_system_uid: "k".into(),
            },
            kind: proposal.kind,
            namespace: proposal.target.namespace.clone(),
            name: proposal.target.name.clone(),
            uid: proposal.target.uid.clone(),
            params: proposal.params.clone(),
            facts: BTreeMap::new(),
            predicates: vec![Predicate::Uid {
                uid: proposal.target.uid.clone(),
            }],
            success: Success::ReplacementReady {
                deadline_seconds: Count(120),
            },
            inverse: Inverse::None {
                because: "there is none".into(),
            },
            agent: proposal.agent.clone(),
            on_behalf_of: vec!["ann".into()],
            rule: "shop".into(),
            risk: *Risk::ALL.first().unwrap(),
            require: vec![],
            self_approval: "forbidden".into(),
            policy_hash: digest_text("policy"),
            admitted_at: at,
            decide_by: at + SignedDuration::from_secs(600),
            execute_by: at + SignedDuration::from_secs(900),
        };
        Signed::sign(statement, &self.signer).unwrap()
    }

    pub fn step(
        &self,
        action: &Action,
        kind: RecordKind,
        state: &str,
        at: Timestamp,
    ) -> SignedStep {
        let code = match state {
            "succeeded" => Code::Verified,
            "failed" => Code::ReplacementNotReady,
            "refused" => Code::TargetReplaced,
            _ => Code::Interrupted,
        };
        let name = match state {
            "succeeded" => EventName::Succeeded,
            "failed" => EventName::Failed,
            "refused" => EventName::Refused,
            "indeterminate" => EventName::Indeterminate,
            _ => EventName::Executing,
        };
        let record = ExecutionRecord {
            v: "1".into(),
            record: kind,
            action_id: action.id,
            statement: digest_text("statement"),
            state: state.into(),
            code: code.to_string(),
            message: format!("it {state}"),
            details: BTreeMap::new(),
            executor: "executor-1".into(),
            at,
        };
        SignedStep {
            record: Signed::sign(record, &self.signer).unwrap(),
            event: self.signed_event(name, action.id, at),
        }
    }

    /// One of the three outcomes.
    pub fn outcome(&self, action: &Action, which: u8, at: Timestamp) -> SignedStep {
        let state = ["succeeded", "failed", "indeterminate"][usize::from(which)];
        self.step(action, RecordKind::Outcome, state, at)
    }

    pub fn decision(
        &self,
        action: &Action,
        person: &str,
        verb: Verb,
        next: Option<NextState>,
    ) -> NewDecision {
        let at = later(10);
        let signed = Signed::sign(self.decision_body(person, verb, Channel::Web), &self.signer);
        NewDecision {
            action: action.id,
            version: action.version,
            person: person.into(),
            verb,
            channel: Channel::Web,
            reason: "because".into(),
            sealed: Some(signed.unwrap().sealed().clone()),
            next,
            at,
        }
    }

    pub fn decision_body(&self, person: &str, verb: Verb, channel: Channel) -> Decision {
        Decision {
            v: "1".into(),
            statement: digest_text("statement"),
            verb,
            person: person.into(),
            channel,
            reason_digest: digest_text("because"),
            decided_at: later(10),
            valid_until: later(900),
        }
    }

    pub async fn propose(&self, proposal: &Proposal) -> Action {
        self.propose_at(proposal, now()).await
    }

    pub async fn propose_at(&self, proposal: &Proposal, at: Timestamp) -> Action {
        let id = id_at(at);
        let event = server_event(EventName::Proposed, at).about(id);
        match self
            .server
            .propose(proposal, id, CAPS, at, event)
            .await
            .unwrap()
        {
            Proposed::Created(action) => action,
            other => panic!("not created: {other:?}"),
        }
    }

    pub async fn claim_to_admit(&self) -> ToAdmit {
        self.executor
            .next_to_admit("prod", "e1", LEASE, now())
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn pending(&self, pod: &str) -> Action {
        self.propose(&proposal(pod)).await;
        let work = self.claim_to_admit().await;
        assert_eq!(work.action.proposal.target.name, pod);
        let statement = self.statement(&work.action, now());
        let event = self.signed_event(EventName::Admitted, work.action.id, now());
        done(
            self.executor
                .admit(&work, &statement, &event)
                .await
                .unwrap(),
        )
    }

    pub async fn approved(&self, pod: &str) -> Action {
        let action = self.pending(pod).await;
        let decision = self.decision(&action, "li", Verb::Approve, Some(NextState::Approved));
        done(self.decide(decision).await)
    }

    pub async fn decide(&self, decision: NewDecision) -> Transition {
        let event = server_event(EventName::Decided, decision.at).about(decision.action);
        self.server.decide(decision, event).await.unwrap()
    }

    pub async fn claim_approved(&self) -> Claimed {
        self.executor
            .next_approved("prod", "e1", LEASE, later(20))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn executing(&self, pod: &str) -> (Action, Lease) {
        self.approved(pod).await;
        let claimed = self.claim_approved().await;
        let step = self.step(&claimed.action, RecordKind::Intent, "executing", later(21));
        let action = done(
            self.executor
                .begin(&claimed.action, &claimed.lease, &step)
                .await
                .unwrap(),
        );
        (action, claimed.lease)
    }

    /// Names of the audit events about an action, oldest first.
    pub async fn story(&self, id: ActionId) -> Vec<&'static str> {
        let detail = self.server.detail(id).await.unwrap().unwrap();
        detail
            .timeline
            .iter()
            .map(|row| row.event.event.as_str())
            .collect()
    }

    pub async fn audit_count(&self) -> usize {
        let filter = AuditFilter {
            limit: 500,
            ..AuditFilter::default()
        };
        self.server.audit_list(&filter).await.unwrap().len()
    }
}

pub fn done(transition: Transition) -> Action {
    match transition {
        Transition::Done(action) => action,
        Transition::Conflict(found) => panic!("conflict with {found:?}"),
    }
}

/// The action as a conflict shows it.
#[track_caller]
pub fn conflict(transition: Transition) -> Action {
    match transition {
        Transition::Done(action) => panic!("done: {action:?}"),
        Transition::Conflict(found) => found.expect("the action exists"),
    }
}
