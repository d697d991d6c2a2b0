//! Random verbs in random order on both engines, against one small model of what must follow.
//! Checked after each verb: state and version of every action; at the end: one audit event for
//! each transition, no more and no fewer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign_domain::*;
use countersign_store::*;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::world::*;

#[derive(Debug, Clone)]
enum Op {
    Propose {
        pod: u8,
    },
    Claim {
        what: u8,
    },
    Admit {
        hand: u8,
    },
    Deny {
        hand: u8,
    },
    Decide {
        which: u8,
        person: u8,
        verb: Verb,
        next: u8,
        stale: bool,
        jira: bool,
    },
    Cancel {
        which: u8,
    },
    Hold {
        hand: u8,
        event: bool,
    },
    Release {
        hand: u8,
    },
    Renew {
        hand: u8,
    },
    Begin {
        hand: u8,
    },
    Refuse {
        hand: u8,
    },
    Finish {
        hand: u8,
        outcome: u8,
    },
    Advance {
        seconds: u16,
    },
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    let hand = any::<u8>;
    prop_oneof![
        3 => (0..4u8).prop_map(|pod| Op::Propose { pod }),
        6 => (0..3u8).prop_map(|what| Op::Claim { what }),
        4 => hand().prop_map(|hand| Op::Admit { hand }),
        1 => hand().prop_map(|hand| Op::Deny { hand }),
        6 => (hand(), 0..2u8, prop::sample::select(Verb::ALL), 0..4u8, prop::bool::weighted(0.1),
              prop::bool::weighted(0.2))
            .prop_map(|(which, person, verb, next, stale, jira)|
                Op::Decide { which, person, verb, next, stale, jira }),
        1 => hand().prop_map(|which| Op::Cancel { which }),
        1 => (hand(), any::<bool>()).prop_map(|(hand, event)| Op::Hold { hand, event }),
        1 => hand().prop_map(|hand| Op::Release { hand }),
        1 => hand().prop_map(|hand| Op::Renew { hand }),
        4 => hand().prop_map(|hand| Op::Begin { hand }),
        1 => hand().prop_map(|hand| Op::Refuse { hand }),
        4 => (hand(), 0..3u8).prop_map(|(hand, outcome)| Op::Finish { hand, outcome }),
        2 => (1..200u16).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Expire),
    ]
}

/// What the model knows of an action.
#[derive(Debug)]
struct Known {
    id: ActionId,
    pod: u8,
    state: StateName,
    version: i64,
    created: Timestamp,
    decide_by: Timestamp,
    execute_by: Timestamp,
    /// Token and end of the current lease.
    lease: Option<(String, Timestamp)>,
    retry_at: Option<Timestamp>,
    said: BTreeSet<(u8, Verb)>,
    events: usize,
}

impl Known {
    fn move_to(&mut self, state: StateName) {
        assert!(
            self.state.may_become(state),
            "the model itself: {} -> {state}",
            self.state
        );
        self.state = state;
        self.version += 1;
        self.events += 1;
        self.retry_at = None;
        if state != StateName::Executing {
            self.lease = None;
        }
    }

    fn leased(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|(_, until)| *until > now)
    }

    fn holds(&self, lease: &Lease) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|(token, _)| *token == lease.token)
    }
}

struct Run<'a> {
    world: &'a World,
    cluster: String,
    now: Timestamp,
    actions: Vec<Known>,
    /// Every lease ever given, with the action as it was then. Most are stale.
    hand: Vec<(Action, Lease)>,
}

impl Run<'_> {
    fn known(&mut self, id: ActionId) -> &mut Known {
        self.actions
            .iter_mut()
            .find(|known| known.id == id)
            .unwrap()
    }

    fn hand(&self, index: u8) -> Option<(Action, Lease)> {
        // The newest ones are the interesting ones.
        let index = self.hand.len().checked_sub(1 + usize::from(index % 4))?;
        Some(self.hand[index].clone())
    }

    async fn step(&mut self, op: &Op) {
        let (world, now) = (self.world, self.now);
        match op {
            Op::Advance { seconds } => self.now += SignedDuration::from_secs(i64::from(*seconds)),
            Op::Propose { pod } => self.propose(*pod).await,
            Op::Claim { what } => self.claim(*what).await,
            Op::Decide { .. } => self.decide(op).await,
            Op::Cancel { which } => {
                if self.actions.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.actions.len();
                let known = &mut self.actions[index];
                let may = matches!(known.state, StateName::Checking | StateName::Pending)
                    || known.state == StateName::Approved && !known.leased(now);
                let event = server_event(EventName::Cancelled, now).about(known.id);
                let reason = Reason::new(Code::ByProposer, "x");
                let agent = format!("agent-{}", self.cluster);
                let result = world
                    .server
                    .cancel(known.id, &agent, reason, now, event)
                    .await
                    .unwrap();
                if check(&result, may) {
                    known.move_to(StateName::Cancelled);
                }
            }
            Op::Expire => self.expire().await,
            Op::Admit { hand } | Op::Deny { hand } => {
                let Some((action, lease)) = self.hand(*hand) else {
                    return;
                };
                let known = self.known(action.id);
                let may = known.state == StateName::Checking
                    && known.holds(&lease)
                    && known.version == action.version;
                let work = ToAdmit {
                    action: action.clone(),
                    lease,
                };
                let event = world.signed_event(EventName::Admitted, action.id, now);
                let (result, next) = if matches!(op, Op::Admit { .. }) {
                    let statement = world.statement(&action, now);
                    let result = world
                        .executor
                        .admit(&work, &statement, &event)
                        .await
                        .unwrap();
                    (result, StateName::Pending)
                } else {
                    let reason = Reason::new(Code::NoRule, "x");
                    let result = world.executor.deny(&work, &reason, &event).await.unwrap();
                    (result, StateName::Denied)
                };
                if check(&result, may) {
                    known.move_to(next);
                    known.decide_by = now + SignedDuration::from_secs(600);
                    known.execute_by = now + SignedDuration::from_secs(900);
                }
            }
            Op::Hold { hand, event } => {
                let Some((action, lease)) = self.hand(*hand) else {
                    return;
                };
                let signed = world.signed_event(EventName::Held, action.id, now);
                let held = Held {
                    reason: Reason::new(Code::Frozen, "x"),
                    since: now,
                };
                let retry_at = now + SignedDuration::from_secs(5);
                let hold = Hold { held, retry_at };
                let event = event.then_some(&signed);
                let result = world
                    .executor
                    .hold(action.id, &lease, hold, event)
                    .await
                    .unwrap();
                let known = self.known(action.id);
                assert_eq!(result, known.holds(&lease));
                if result {
                    known.lease = None;
                    known.retry_at = Some(retry_at);
                    known.events += usize::from(event.is_some());
                }
            }
            Op::Release { hand } => {
                let Some((action, lease)) = self.hand(*hand) else {
                    return;
                };
                let result = world.executor.release(action.id, &lease).await.unwrap();
                let known = self.known(action.id);
                assert_eq!(result, known.holds(&lease));
                if result {
                    known.lease = None;
                }
            }
            Op::Renew { hand } => {
                let Some((action, lease)) = self.hand(*hand) else {
                    return;
                };
                let until = now + LEASE;
                let result = world
                    .executor
                    .renew(action.id, &lease, until)
                    .await
                    .unwrap();
                let known = self.known(action.id);
                assert_eq!(result.is_some(), known.holds(&lease));
                if let Some(lease) = result {
                    known.lease = Some((lease.token, until));
                }
            }
            Op::Begin { hand } | Op::Refuse { hand } | Op::Finish { hand, .. } => {
                let Some((mut action, lease)) = self.hand(*hand) else {
                    return;
                };
                if matches!(op, Op::Finish { .. }) {
                    // `finish` is given what `begin` gave back.
                    action = world.server.get(action.id).await.unwrap().unwrap();
                }
                self.execute(op, &action, &lease).await;
            }
        }
    }

    async fn propose(&mut self, pod: u8) {
        let mut wanted = proposal(&format!("web-{pod}"));
        wanted.target.cluster.clone_from(&self.cluster);
        wanted.agent = format!("agent-{}", self.cluster);
        let id = id_at(self.now);
        let event = server_event(EventName::Proposed, self.now).about(id);
        let result = self
            .world
            .server
            .propose(&wanted, id, CAPS, self.now, event)
            .await
            .unwrap();
        let live = self
            .actions
            .iter()
            .find(|it| it.pod == pod && !it.state.is_terminal());
        match (result, live) {
            (Proposed::Existing(found), Some(live)) => assert_eq!(found.id, live.id),
            (Proposed::Created(_), None) => self.actions.push(Known {
                id,
                pod,
                state: StateName::Checking,
                version: 1,
                created: self.now,
                decide_by: Timestamp::MIN,
                execute_by: Timestamp::MIN,
                lease: None,
                retry_at: None,
                said: BTreeSet::new(),
                events: 1,
            }),
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&mut self, what: u8) {
        let (now, executor) = (self.now, &self.world.executor);
        let (states, claimed): (&[StateName], _) = match what {
            0 => {
                let work = executor
                    .next_to_admit(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                (
                    &[StateName::Checking],
                    work.map(|work| (work.action, work.lease)),
                )
            }
            1 => {
                let work = executor
                    .next_approved(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                (
                    &[StateName::Approved],
                    work.map(|work| (work.action, work.lease)),
                )
            }
            _ => {
                let work = executor
                    .next_orphan(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                let states = &[StateName::Executing, StateName::Indeterminate];
                (states, work.map(|work| (work.action, work.lease)))
            }
        };
        let free = self.actions.iter().filter(|known| {
            states.contains(&known.state)
                && !known.leased(now)
                && known.retry_at.is_none_or(|at| at <= now)
        });
        let oldest = free.map(|known| known.id).min();
        assert_eq!(claimed.as_ref().map(|(action, _)| action.id), oldest);
        if let Some((action, lease)) = claimed {
            self.known(action.id).lease = Some((lease.token.clone(), lease.until));
            self.hand.push((action, lease));
        }
    }

    async fn decide(&mut self, op: &Op) {
        let Op::Decide {
            which,
            person,
            verb,
            next,
            stale,
            jira,
        } = op
        else {
            return;
        };
        if self.actions.is_empty() {
            return;
        }
        let (world, now) = (self.world, self.now);
        let index = usize::from(*which) % self.actions.len();
        let known = &mut self.actions[index];
        let action = world.server.get(known.id).await.unwrap().unwrap();
        let (next, to) = match next {
            1 => (Some(NextState::Approved), Some(StateName::Approved)),
            2 if *verb != Verb::Approve => {
                let reason = Reason::new(Code::ByApprover, "x");
                (Some(NextState::Rejected(reason)), Some(StateName::Rejected))
            }
            3 => (Some(NextState::Reopened), Some(StateName::Pending)),
            _ => (None, None),
        };
        let mut decision = world.decision(&action, &format!("p{person}"), *verb, next);
        decision.at = now;
        decision.version -= i64::from(*stale);
        if *jira {
            decision.channel = Channel::Jira;
            decision.sealed = None;
        }
        let open = matches!(known.state, StateName::Pending | StateName::Approved);
        let in_time = known.decide_by > now
            || known.state == StateName::Approved
                && *verb != Verb::Approve
                && known.execute_by > now;
        let arrow = to.is_none_or(|to| known.state.may_become(to));
        let new = *jira || !known.said.contains(&(*person, *verb));
        let result = world.decide(decision).await;
        if check(&result, open && in_time && arrow && new && !stale) {
            if !jira {
                known.said.insert((*person, *verb));
            }
            match to {
                Some(to) => known.move_to(to),
                None => {
                    known.version += 1;
                    known.events += 1;
                    known.retry_at = None;
                }
            }
        }
    }

    async fn execute(&mut self, op: &Op, action: &Action, lease: &Lease) {
        let (world, now) = (self.world, self.now);
        let known = self.known(action.id);
        let fits = known.holds(lease) && known.version == action.version;
        let (result, may, next) = match op {
            Op::Begin { .. } => {
                let step = world.step(action, RecordKind::Intent, "executing", now);
                let result = world.executor.begin(action, lease, &step).await;
                let may = known.state == StateName::Approved && known.leased(now);
                (result, may, StateName::Executing)
            }
            Op::Refuse { .. } => {
                let step = world.step(action, RecordKind::Refusal, "refused", now);
                let result = world.executor.refuse(action, lease, &step).await;
                (
                    result,
                    known.state == StateName::Approved,
                    StateName::Refused,
                )
            }
            Op::Finish { outcome, .. } => {
                let next = [
                    StateName::Succeeded,
                    StateName::Failed,
                    StateName::Indeterminate,
                ][usize::from(*outcome)];
                let step = world.step(action, RecordKind::Outcome, next.as_str(), now);
                let result = world.executor.finish(action, lease, &step).await;
                (result, known.state.may_become(next), next)
            }
            _ => return,
        };
        if check(&result.unwrap(), may && fits) {
            known.move_to(next);
        }
    }

    async fn expire(&mut self) {
        let now = self.now;
        // Rounds before this one left rows behind; a call takes a hundred.
        let mut expired = BTreeSet::new();
        loop {
            let some = self.world.server.expire_due(now).await.unwrap();
            if some.is_empty() {
                break;
            }
            expired.extend(some);
        }
        for known in &mut self.actions {
            let due = match known.state {
                StateName::Checking => known.created + SignedDuration::from_secs(120) <= now,
                StateName::Pending => known.decide_by <= now,
                StateName::Approved => known.execute_by <= now && !known.leased(now),
                _ => false,
            };
            assert_eq!(expired.contains(&known.id), due, "{known:?} at {now}");
            if due {
                known.move_to(StateName::Expired);
            }
        }
    }

    async fn compare(&self) {
        for known in &self.actions {
            let found = self.world.server.get(known.id).await.unwrap().unwrap();
            assert_eq!(
                (found.state.name(), found.version),
                (known.state, known.version)
            );
        }
    }
}

fn check(result: &Transition, may: bool) -> bool {
    let moved = matches!(result, Transition::Done(_));
    assert_eq!(moved, may, "{result:?}");
    moved
}

fn random_verbs(world: &World, runtime: &tokio::runtime::Runtime, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rounds = AtomicU32::new(0);
    let result = TestRunner::new(config).run(&vec(op(), 1..60), |ops| {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            let cluster = format!("c{round}");
            let mut run = Run {
                world,
                cluster,
                now: now(),
                actions: Vec::new(),
                hand: Vec::new(),
            };
            for op in &ops {
                run.step(op).await;
                run.compare().await;
            }
            for known in &run.actions {
                let story = world.story(known.id).await;
                assert_eq!(story.len(), known.events, "{story:?}");
            }
        });
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn sqlite_follows_the_model() {
    let runtime = runtime();
    let world = runtime.block_on(World::sqlite());
    random_verbs(&world, &runtime, 48);
}

#[test]
fn postgres_follows_the_model() {
    let runtime = runtime();
    let world = runtime.block_on(World::postgres());
    random_verbs(&world, &runtime, 48);
}
