//! Somebody with every right on the database changes rows under a running execution. Nothing is sent
//! twice, and what the executor signed about the outcome is the truth.

use std::time::Duration;

use countersign_domain::{ActionId, Code, ExecutionRecord, StateName};

use crate::world::World;

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
    let started = std::time::Instant::now();
    loop {
        for (record, sealed) in world.detail(id).await.records {
            if record.state == state.as_str() {
                let opened = sealed.open::<ExecutionRecord>(&world.keys(), record.at);
                assert_eq!(opened.unwrap().body().action_id, id);
                return record;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no {state}");
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
async fn an_outcome_that_the_row_does_not_take_is_kept_beside_it() {
    let world = World::new().await;
    let _executor = world.executor(None);
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
    assert_eq!(world.evictions().await.len(), 1);
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
    let world = World::new().await;
    let _executor = world.executor(None);
    let done = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(done, StateName::Pending).await;
    world.approve(done).await;
    world.wait(done, StateName::Succeeded).await;
    let id = world.propose(&world.failing_pod("search").await).await;
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
    assert!(
        reason.message.contains("nothing was sent"),
        "{}",
        reason.message
    );
    assert_eq!(world.evictions().await.len(), 1);
}
