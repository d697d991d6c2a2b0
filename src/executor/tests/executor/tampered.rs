//! Somebody with every right on the database changes rows under a running execution. Nothing is sent
//! twice, and what the executor signed about the outcome is the truth.

use std::time::{Duration, Instant};

use countersign_domain::{ActionId, Code, ExecutionRecord, StateName};

use jiff::SignedDuration;

use crate::world::{World, now};

const PATIENCE: Duration = Duration::from_secs(60);

/// An execution whose eviction was sent and whose replacement never gets Ready, so that it is watched
/// for eight seconds.
async fn watched(world: &World) -> ActionId {
    world.policy(|policy| policy.replace("20s", "8s"));
    let id = world.propose(&world.failing_pod("search").await).await;
    world.wait(id, StateName::Pending).await;
    world.approve(id).await;
    world.wait(id, StateName::Executing).await;
    while world.evictions().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    id
}

/// Waits for an outcome of this state that the executor signed.
async fn signed(world: &World, id: ActionId, state: StateName) -> ExecutionRecord {
    let started = Instant::now();
    loop {
        for (record, sealed) in world.detail(id).await.records {
            if record.state == state.as_str() {
                let opened = sealed.open::<ExecutionRecord>(&world.keys(), record.at);
                assert_eq!(opened.unwrap().body().action_id, id);
                return record;
            }
        }
        assert!(started.elapsed() < PATIENCE, "no {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_row_set_back_after_the_eviction_ends_with_the_true_outcome() {
    for state in ["approved", "pending"] {
        let world = World::new().await;
        let _executor = world.executor(None);
        let id = watched(&world).await;
        let parked = "retry_at = 9000000000000000, decide_by = 1, execute_by = 1";
        world
            .take_away(id, &format!("state = '{state}', {parked}"))
            .await;
        let failed = world.wait(id, StateName::Failed).await;
        let reason = &failed.state.end().unwrap().reason;
        assert_eq!(reason.code, Code::ReplacementNotReady, "{}", reason.message);
        let unsure = signed(&world, id, StateName::Indeterminate).await;
        assert!(
            unsure.message.contains("set the stored action back"),
            "{}",
            unsure.message
        );
        signed(&world, id, StateName::Failed).await;
        assert_eq!(world.evictions().await.len(), 1);
    }
}

#[tokio::test]
async fn a_row_ended_by_hand_keeps_the_true_outcome_beside_it() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let id = watched(&world).await;
    let ended = "end_code = 'no_rule', end_message = 'nothing was done', ended_at = 1";
    world
        .take_away(id, &format!("state = 'refused', {ended}"))
        .await;
    let told = signed(&world, id, StateName::Failed).await;
    assert_eq!(told.code, Code::ReplacementNotReady.as_str());
    let action = world.detail(id).await.action;
    assert_eq!(
        action.state.name(),
        StateName::Refused,
        "the row is not ours to mend"
    );
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn an_outcome_that_the_row_does_not_take_is_kept_beside_it_once() {
    let world = World::new().await;
    let executor = world.executor(None);
    let id = watched(&world).await;
    world
        .tamper(
            "CREATE TRIGGER no_end BEFORE UPDATE OF state ON actions \
             BEGIN SELECT RAISE(ABORT, 'not while I am here'); END",
        )
        .await;
    let told = signed(&world, id, StateName::Failed).await;
    assert_eq!(told.code, Code::ReplacementNotReady.as_str());
    let action = world.detail(id).await.action;
    assert_eq!(action.state.name(), StateName::Executing);
    // It is taken up again and again, and ends the same way.
    world.take_away(id, "retry_at = NULL").await;
    let since = Instant::now();
    while !executor.log().contains("somebody saw the same") {
        assert!(since.elapsed() < PATIENCE, "not taken up again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let records = world.detail(id).await.records;
    let failed = records
        .iter()
        .filter(|(record, _)| record.state == StateName::Failed.as_str());
    assert_eq!(failed.count(), 1);
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn an_admission_that_cannot_be_stored_holds_no_other_up() {
    let world = World::new().await;
    let stuck = world.propose(&world.failing_pod("search").await).await;
    world
        .tamper(&format!(
            "CREATE TRIGGER not_this BEFORE UPDATE OF state ON actions \
             WHEN NEW.id = '{stuck}' AND NEW.state = 'pending' \
             BEGIN SELECT RAISE(ABORT, 'not while I am here'); END"
        ))
        .await;
    let _executor = world.executor(None);
    let waits = world
        .wait_until(stuck, "a reason", |action| action.state.held().is_some())
        .await;
    assert_eq!(waits.state.name(), StateName::Checking);
    let reason = &waits.state.held().unwrap().reason;
    assert!(
        reason.message.contains("cannot be stored"),
        "{}",
        reason.message
    );
    let other = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(other, StateName::Pending).await;
    world.tamper("DROP TRIGGER not_this").await;
    world.wait(stuck, StateName::Pending).await;
}

#[tokio::test]
async fn a_row_whose_intent_was_removed_is_refused_by_the_register_and_the_outcome_is_kept() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let id = watched(&world).await;
    world.tamper("DROP TRIGGER executions_no_delete").await;
    world
        .tamper(&format!("DELETE FROM executions WHERE action_id = '{id}'"))
        .await;
    world.take_away(id, "state = 'approved'").await;
    let refused = world.wait(id, StateName::Refused).await;
    let reason = &refused.state.end().unwrap().reason;
    assert_eq!(reason.code, Code::AlreadySpent);
    assert!(
        reason.message.contains("probably evicted"),
        "{}",
        reason.message
    );
    signed(&world, id, StateName::Failed).await;
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn an_intent_that_was_made_up_runs_nothing_and_is_called_so() {
    let reason = made_up(SignedDuration::ZERO).await;
    assert!(reason.contains("nothing was sent"), "{reason}");
}

/// Its record in the cluster could have been there and be collected.
#[tokio::test]
async fn of_an_old_action_nobody_says_that_nothing_was_sent() {
    let reason = made_up(SignedDuration::from_hours(24 * 365)).await;
    assert!(!reason.contains("nothing was sent"), "{reason}");
}

/// What is said of an action as old as this to which somebody gave another one's intent.
async fn made_up(age: SignedDuration) -> String {
    let world = World::new().await;
    let _executor = world.executor(None);
    let done = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(done, StateName::Pending).await;
    world.approve(done).await;
    world.wait(done, StateName::Succeeded).await;
    let pod = world.failing_pod("search").await;
    let id = world.propose_since(now() - age, "claude", &pod).await;
    world.wait(id, StateName::Pending).await;
    // A genuine one, of another action.
    world
        .tamper(&format!(
            "INSERT INTO executions (action_id, record, json, kid, signature, recorded_at) \
             SELECT '{id}', record, json, kid, signature, recorded_at FROM executions \
             WHERE action_id = '{done}' AND record = 'intent'"
        ))
        .await;
    let failed = world.wait(id, StateName::Failed).await;
    let reason = &failed.state.end().unwrap().reason;
    assert_eq!(reason.code, Code::StatementForged);
    assert_eq!(world.evictions().await.len(), 1);
    reason.message.clone()
}
