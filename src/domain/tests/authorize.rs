//! Attacks on `authorize`. The base case is authorized; each test changes one thing and names the
//! verdict that must follow. Remove a guard and its test fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "authorize/jira.rs"]
mod jira;
#[path = "authorize/target.rs"]
mod target;

use std::collections::BTreeMap;

use countersign_domain::*;
use jiff::{SignedDuration, Timestamp};

const POLICY: &str = r#"
    [[rule]]
    name = "shop"
    actions = ["restart_pod"]
    clusters = ["prod"]
    namespaces = ["shop"]
    risk = "high"
    require = [{ group = "sre", count = 1, tier = 1, channels = ["web", "jira"] }]
    decide_within = "15m"
    execute_within = "5m"
"#;

const REGISTRY: &str = r#"
    jira_bots = ["bot-account"]
    [[person]]
    id = "li"
    groups = ["sre"]
    jira = ["li-account"]
    [[person]]
    id = "maria"
    groups = ["sre"]
    jira = ["maria-account"]
    [[person]]
    id = "guest"
    groups = ["readers"]
    jira = ["guest-account"]
    [[agent]]
    id = "claude"
    people = ["maria"]
"#;

struct World {
    executor: Signer,
    server: Signer,
    id: ActionId,
    statement: Statement,
    sealed: Option<Sealed>,
    decisions: Vec<StoredDecision>,
    jira: Option<JiraMove>,
    live: LiveFacts,
    cluster: ClusterRef,
    policy: String,
    registry: String,
    now: Timestamp,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn owner() -> OwnerRef {
    OwnerRef {
        kind: "ReplicaSet".into(),
        name: "checkout-7d9f".into(),
        uid: "rs-1".into(),
    }
}

impl World {
    /// Admitted at 02:00, approved by Li on the page at 02:01, looked at 02:02.
    fn new() -> Self {
        let executor = Signer::generate(&OsEntropy);
        let server = Signer::generate(&OsEntropy);
        let admitted = at("2026-11-22T02:00:00Z");
        let id = ActionId::new(admitted, &OsEntropy);
        let cluster = ClusterRef {
            id: "prod".into(),
            kube_system_uid: "ks-1".into(),
        };
        let policy = Policy::from_toml(POLICY).unwrap();
        let rule = &policy.rules[0];
        let statement = Statement {
            v: "1".into(),
            kid: executor.kid().into(),
            action_id: id,
            cluster: cluster.clone(),
            kind: ActionKind::RestartPod,
            namespace: "shop".into(),
            name: "checkout-7d9f-abcde".into(),
            uid: "pod-1".into(),
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            facts: BTreeMap::new(),
            predicates: vec![
                Predicate::Uid {
                    uid: "pod-1".into(),
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
                because: "an evicted pod cannot come back".into(),
            },
            agent: "claude".into(),
            on_behalf_of: vec!["maria".into()],
            rule: rule.name.clone(),
            risk: rule.risk,
            require: rule.require.clone(),
            self_approval: "forbidden".into(),
            policy_hash: policy.hash(),
            admitted_at: admitted,
            decide_by: admitted + SignedDuration::from_mins(15),
            execute_by: admitted + SignedDuration::from_mins(20),
        };
        let mut world = Self {
            executor,
            server,
            id,
            statement,
            sealed: None,
            decisions: Vec::new(),
            jira: None,
            live: LiveFacts {
                cluster: cluster.clone(),
                pod: Some(LivePod {
                    uid: "pod-1".into(),
                    resource_version: "77".into(),
                    owner: Some(owner()),
                    labels: BTreeMap::new(),
                    ready: false,
                    last_failure_at: None,
                    terminating: false,
                }),
                server_date: at("2026-11-22T02:02:00Z"),
                date_read_at: at("2026-11-22T02:02:00Z"),
            },
            cluster,
            policy: POLICY.into(),
            registry: REGISTRY.into(),
            now: at("2026-11-22T02:02:00Z"),
        };
        world.decisions = vec![world.web("li", Verb::Approve)];
        world
    }

    /// The cluster's clock, read at this world's `now`.
    fn look_again(&mut self) {
        self.live.server_date = self.now;
        self.live.date_read_at = self.now;
    }

    fn sealed(&self) -> Sealed {
        self.sealed.clone().unwrap_or_else(|| {
            Signed::sign(self.statement.clone(), &self.executor)
                .unwrap()
                .sealed()
                .clone()
        })
    }

    fn decision(&self, person: &str, verb: Verb) -> Decision {
        Decision {
            v: "1".into(),
            statement: self.sealed().digest::<Statement>(),
            verb,
            person: person.into(),
            channel: Channel::Web,
            reason_digest: digest_text("because"),
            decided_at: at("2026-11-22T02:01:00Z"),
            valid_until: self.statement.execute_by,
        }
    }

    fn store(&self, decision: Decision, signer: &Signer) -> StoredDecision {
        StoredDecision {
            sealed: Signed::sign(decision, signer).unwrap().sealed().clone(),
            reason: "because".into(),
        }
    }

    fn web(&self, person: &str, verb: Verb) -> StoredDecision {
        self.store(self.decision(person, verb), &self.server)
    }

    /// Re-makes the approval after the statement was changed.
    fn approve_again(&mut self) {
        self.decisions = vec![self.web("li", Verb::Approve)];
    }

    fn run(&self) -> Result<Authorized, Verdict> {
        authorize(Evidence {
            action_id: self.id,
            cluster: &self.cluster,
            statement: &self.sealed(),
            executor_keys: &self.executor.key_ring(),
            decisions: &self.decisions,
            attestation_keys: &self.server.key_ring(),
            jira: self.jira.as_ref(),
            live: &self.live,
            policy: &Policy::from_toml(&self.policy).unwrap(),
            registry: &Registry::from_toml(&self.registry).unwrap(),
            now: self.now,
        })
    }

    #[track_caller]
    fn refuses(&self, code: Code) {
        match self.run() {
            Err(Verdict::Refuse(reason)) => assert_eq!(reason.code, code, "{reason}"),
            other => panic!("expected refuse {code}, got {other:?}"),
        }
    }

    #[track_caller]
    fn holds(&self, code: Code) {
        match self.run() {
            Err(Verdict::Hold(reason)) => assert_eq!(reason.code, code, "{reason}"),
            other => panic!("expected hold {code}, got {other:?}"),
        }
    }

    fn pod(&mut self) -> &mut LivePod {
        self.live.pod.as_mut().unwrap()
    }
}

#[test]
fn the_base_case_is_authorized_briefly_and_names_its_approvals() {
    let world = World::new();
    let authorized = world.run().unwrap();
    assert_eq!(authorized.resource_version(), "77");
    assert_eq!(authorized.expires_at(), at("2026-11-22T02:02:15Z"));
    assert_eq!(authorized.approvals().len(), 1);
    assert_eq!(authorized.digest(), world.sealed().digest::<Statement>());
}

#[test]
fn permission_never_outlives_execute_by() {
    let mut world = World::new();
    world.now = world.statement.execute_by - SignedDuration::from_secs(3);
    world.look_again();
    assert_eq!(
        world.run().unwrap().expires_at(),
        world.statement.execute_by
    );
}

// --- the statement ---

#[test]
fn a_statement_signed_by_another_key_is_refused() {
    let mut world = World::new();
    let mut forged = world.statement.clone();
    let thief = Signer::generate(&OsEntropy);
    forged.kid = thief.kid().into();
    world.sealed = Some(Signed::sign(forged, &thief).unwrap().sealed().clone());
    world.refuses(Code::StatementForged);
}

#[test]
fn one_altered_byte_of_the_statement_is_refused() {
    let mut world = World::new();
    let mut sealed = world.sealed();
    sealed.json = sealed
        .json
        .replace("checkout-7d9f-abcde", "database-0-abcdefgh");
    world.sealed = Some(sealed);
    world.refuses(Code::StatementForged);
}

#[test]
fn a_genuine_statement_of_another_action_is_refused() {
    let mut world = World::new();
    world.id = ActionId::new(world.now, &OsEntropy);
    world.refuses(Code::StatementMismatch);
}

#[test]
fn another_cluster_is_refused_also_a_clone_with_the_same_uid() {
    let mut world = World::new();
    world.cluster.id = "staging".into();
    world.refuses(Code::WrongCluster);
    let mut world = World::new();
    world.live.cluster.kube_system_uid = "ks-2".into();
    world.refuses(Code::WrongCluster);
}

#[test]
fn a_statement_without_an_owner_is_refused() {
    let mut world = World::new();
    world
        .statement
        .predicates
        .retain(|p| !matches!(p, Predicate::Owner { .. }));
    world.approve_again();
    world.refuses(Code::StatementMismatch);
}

// --- decisions ---

#[test]
fn a_decision_signed_by_a_stranger_is_refused() {
    let mut world = World::new();
    let forged = world.store(
        world.decision("li", Verb::Approve),
        &Signer::generate(&OsEntropy),
    );
    world.decisions = vec![forged];
    world.refuses(Code::DecisionForged);
}

#[test]
fn the_executors_own_key_attests_nothing() {
    let mut world = World::new();
    world.decisions = vec![world.store(world.decision("li", Verb::Approve), &world.executor)];
    world.refuses(Code::DecisionForged);
}

#[test]
fn an_approval_of_another_statement_is_refused() {
    let mut world = World::new();
    let mut decision = world.decision("li", Verb::Approve);
    decision.statement = digest_text("another");
    world.decisions = vec![world.store(decision, &world.server)];
    world.refuses(Code::DecisionForged);
}

#[test]
fn a_web_attestation_that_claims_to_be_a_jira_move_is_refused() {
    let mut world = World::new();
    let mut decision = world.decision("li", Verb::Approve);
    decision.channel = Channel::Jira;
    world.decisions = vec![world.store(decision, &world.server)];
    world.refuses(Code::DecisionForged);
}

#[test]
fn an_altered_reason_is_refused() {
    let mut world = World::new();
    world.decisions[0].reason = "something else".into();
    world.refuses(Code::DecisionForged);
}

#[test]
fn a_forged_decision_beside_a_good_one_is_refused_too() {
    let mut world = World::new();
    let forged = world.store(
        world.decision("guest", Verb::Approve),
        &Signer::generate(&OsEntropy),
    );
    world.decisions.push(forged);
    world.refuses(Code::DecisionForged);
}

#[test]
fn no_decisions_hold() {
    let mut world = World::new();
    world.decisions.clear();
    world.holds(Code::MissingEvidence);
}

#[test]
fn any_person_of_the_registry_can_say_no_even_beside_an_approval() {
    let mut world = World::new();
    world.decisions.push(world.web("guest", Verb::Reject));
    world.refuses(Code::WasRejected);
}

#[test]
fn a_withdrawal_is_final_whatever_its_order() {
    let mut world = World::new();
    world.decisions.insert(0, world.web("li", Verb::Withdraw));
    world.holds(Code::MissingEvidence);
}

#[test]
fn the_human_behind_the_agent_may_not_approve() {
    let mut world = World::new();
    world.decisions = vec![world.web("maria", Verb::Approve)];
    world.holds(Code::SelfApproval);
    // Not even when today's registry has forgotten that she is behind it.
    world.registry = world
        .registry
        .replace("people = [\"maria\"]", "people = [\"guest\"]");
    world.holds(Code::SelfApproval);
}

#[test]
fn a_person_who_is_newly_behind_the_agent_may_not_approve() {
    let mut world = World::new();
    world.registry = world
        .registry
        .replace("people = [\"maria\"]", "people = [\"maria\", \"li\"]");
    world.holds(Code::SelfApproval);
}

#[test]
fn self_approval_needs_both_the_signed_statement_and_todays_rule() {
    let mut world = World::new();
    world.statement.self_approval = "allowed".into();
    world.decisions = vec![world.web("maria", Verb::Approve)];
    world.holds(Code::SelfApproval);
    world.policy = world
        .policy
        .replace("risk =", "allow_requester = true\n    risk =");
    assert!(world.run().is_ok());
    world.statement.self_approval = "forbidden".into();
    world.decisions = vec![world.web("maria", Verb::Approve)];
    world.holds(Code::SelfApproval);
}

#[test]
fn strangers_expired_people_and_wrong_groups_fill_no_seat() {
    for person in ["nobody", "guest"] {
        let mut world = World::new();
        world.decisions = vec![world.web(person, Verb::Approve)];
        world.holds(Code::NotEligible);
    }
    let mut world = World::new();
    world.registry = world.registry.replace(
        "id = \"li\"",
        "id = \"li\"\n    valid_until = \"2026-11-22T02:01:30Z\"",
    );
    world.holds(Code::NotEligible);
}

#[test]
fn one_person_twice_is_one_seat() {
    let mut world = World::new();
    world.statement.require[0].count = Count(2);
    world.decisions = vec![
        world.web("li", Verb::Approve),
        world.web("li", Verb::Approve),
    ];
    world.holds(Code::MissingEvidence);
}

#[test]
fn todays_policy_must_be_met_as_well() {
    let mut world = World::new();
    world.policy = world.policy.replace("count = 1", "count = 2");
    world.holds(Code::MissingEvidence);
    let mut world = World::new();
    world.policy = world
        .policy
        .replace("namespaces = [\"shop\"]", "namespaces = [\"other\"]");
    world.holds(Code::PolicyUnmet);
    let mut world = World::new();
    world.policy = world
        .policy
        .replace("risk =", "labels = { app = \"x\" }\n    risk =");
    world.holds(Code::PolicyUnmet);
}

#[test]
fn late_early_and_future_decisions_do_not_count() {
    for decided_at in [
        "2026-11-22T02:15:01Z",
        "2026-11-22T01:59:00Z",
        "2026-11-22T02:10:00Z",
    ] {
        let mut world = World::new();
        let mut decision = world.decision("li", Verb::Approve);
        decision.decided_at = at(decided_at);
        world.decisions = vec![world.store(decision, &world.server)];
        if decided_at.contains("02:15") {
            world.now = at("2026-11-22T02:16:00Z");
            world.look_again();
        }
        world.holds(Code::MissingEvidence);
    }
    let mut world = World::new();
    let mut decision = world.decision("li", Verb::Approve);
    decision.valid_until = world.now;
    world.decisions = vec![world.store(decision, &world.server)];
    world.holds(Code::MissingEvidence);
}
