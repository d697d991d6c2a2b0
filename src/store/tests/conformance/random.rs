//! Random verbs in random order on both engines, against one small model of what must follow.
//! Checked after each verb: state and version of every action; at the end: one audit event for
//! each transition, no more and no fewer.

mod op;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign_domain::*;
use countersign_store::*;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::op::{Op, op};
use crate::world::*;

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
    /// Its intent is stored, whatever the state says.
    begun: bool,
    fence: i64,
    appended: BTreeSet<String>,
    events: usize,
}

impl Known {
    /// What is begun is executing until it ends.
    fn may_become(&self, state: StateName) -> bool {
        match self.state {
            StateName::Pending | StateName::Approved if self.begun => {
                StateName::Executing.may_become(state)
            }
            other => other.may_become(state),
        }
    }

    fn move_to(&mut self, state: StateName) {
        assert!(
            self.may_become(state),
            "the model itself: {} -> {state}",
            self.state
        );
        self.state = state;
        self.version += 1;
        self.events += 1;
        self.retry_at = None;
        self.begun |= state == StateName::Executing;
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

    /// The operations that this one stands for.
    fn meant(&self, op: &Op) -> Vec<Op> {
        let Op::Onward { which, choice } = op else {
            return vec![op.clone()];
        };
        let Some(last) = self.actions.len().checked_sub(1) else {
            return vec![Op::Propose { pod: *choice }];
        };
        let known = &self.actions[usize::from(*which) % (last + 1)];
        let (hand, outcome) = (0, *choice);
        match known.state {
            StateName::Checking => vec![Op::Claim { what: 0 }, Op::Admit { hand }],
            _ if known.begun => vec![Op::Claim { what: 2 }, Op::Finish { hand, outcome }],
            StateName::Pending => vec![Op::Decide {
                which: *which,
                person: *choice,
                verb: Verb::Approve,
                next: 1,
                stale: false,
                jira: false,
            }],
            StateName::Approved => vec![Op::Claim { what: 1 }, Op::Begin { hand }],
            _ => vec![Op::Propose { pod: *choice }],
        }
    }

    async fn step(&mut self, op: &Op) {
        let (world, now) = (self.world, self.now);
        match op {
            Op::Onward { .. } => {}
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
                let may = !known.begun
                    && (matches!(known.state, StateName::Checking | StateName::Pending)
                        || known.state == StateName::Approved && !known.leased(now));
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
            Op::Append { which, outcome } => {
                if self.actions.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.actions.len();
                let known = &mut self.actions[index];
                let action = world.server.get(known.id).await.unwrap().unwrap();
                let step = world.outcome(&action, *outcome, now);
                let new = known.appended.insert(step.record.sealed().json.clone());
                let result = world.executor.append_outcome(&action, &step).await.unwrap();
                assert_eq!(result, new);
                known.events += usize::from(new);
            }
            Op::SetBack { which, approved } => {
                if self.actions.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.actions.len();
                let known = &mut self.actions[index];
                if !matches!(known.state, StateName::Executing | StateName::Indeterminate) {
                    return;
                }
                known.state = match approved {
                    true => StateName::Approved,
                    false => StateName::Pending,
                };
                known.lease = None;
                world
                    .by_hand
                    .execute(&format!(
                        "UPDATE actions SET state = '{}', lease_token = NULL, lease_holder = NULL, \
                         lease_until = NULL, retry_at = 9000000000000000 WHERE id = '{}'",
                        known.state, known.id
                    ))
                    .await
                    .unwrap();
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
                begun: false,
                fence: 0,
                appended: BTreeSet::new(),
                events: 1,
            }),
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&mut self, what: u8) {
        let (now, executor) = (self.now, &self.world.executor);
        let (fits, claimed): (fn(&Known) -> bool, _) = match what {
            0 => {
                let work = executor
                    .next_to_admit(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                (
                    |known| known.state == StateName::Checking,
                    work.map(|work| (work.action, work.lease)),
                )
            }
            1 => {
                let work = executor
                    .next_approved(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                (
                    |known| known.state == StateName::Approved && !known.begun,
                    work.map(|work| (work.action, work.lease)),
                )
            }
            _ => {
                let work = executor
                    .next_orphan(&self.cluster, "e", LEASE, now)
                    .await
                    .unwrap();
                (
                    |known| known.begun && !known.state.is_terminal(),
                    work.map(|work| (work.action, work.lease)),
                )
            }
        };
        let free = self.actions.iter().filter(|known| {
            fits(known)
                && !known.leased(now)
                && (known.begun || known.retry_at.is_none_or(|at| at <= now))
        });
        let first = free.min_by_key(|known| match known.begun {
            true => (known.fence, known.id),
            false => (
                known.retry_at.unwrap_or(known.created).as_millisecond(),
                known.id,
            ),
        });
        let first = first.map(|known| known.id);
        assert_eq!(claimed.as_ref().map(|(action, _)| action.id), first);
        if let Some((action, lease)) = claimed {
            let known = self.known(action.id);
            known.lease = Some((lease.token.clone(), lease.until));
            known.fence += 1;
            assert_eq!(lease.fence, known.fence);
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
        if check(
            &result,
            open && !known.begun && in_time && arrow && new && !stale,
        ) {
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
                let may = known.state == StateName::Approved && known.leased(now) && !known.begun;
                (result, may, StateName::Executing)
            }
            Op::Refuse { .. } => {
                let step = world.step(action, RecordKind::Refusal, "refused", now);
                let result = world.executor.refuse(action, lease, &step).await;
                let may = known.state == StateName::Approved && !known.begun;
                (result, may, StateName::Refused)
            }
            Op::Finish { outcome, .. } => {
                let step = world.outcome(action, *outcome, now);
                let record = step.record.body();
                let next = record.state.parse().unwrap();
                let result = world.executor.finish(action, lease, &step).await;
                let may = known.begun && known.may_become(next);
                if may && fits {
                    known.appended.insert(step.record.sealed().json.clone());
                }
                (result, may, next)
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
                _ if known.begun => false,
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
    let reached = RefCell::new(BTreeSet::new());
    let result = TestRunner::new(config).run(&vec(op(), 1..100), |ops| {
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
                for op in run.meant(op) {
                    run.step(&op).await;
                    run.compare().await;
                    let states = run.actions.iter().map(|known| (known.state, known.begun));
                    reached.borrow_mut().extend(states);
                }
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
    // A model that nothing follows to the end would agree with everything.
    let reached = reached.into_inner();
    for state in [
        StateName::Executing,
        StateName::Succeeded,
        StateName::Failed,
        StateName::Rejected,
    ] {
        let found = reached.iter().any(|(seen, _)| *seen == state);
        assert!(found, "no case came to {state}: {reached:?}");
    }
    let set_back = [(StateName::Approved, true), (StateName::Pending, true)];
    assert!(
        set_back.iter().any(|it| reached.contains(it)),
        "{reached:?}"
    );
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
