//! The process dies at a named point; a new one finds out what happened. Nothing runs twice.

use std::path::Path;

use countersign_domain::{Code, StateName};

use crate::world::{World, text};

/// Crashes at `point`, starts a new executor, and returns how it ended and how many evictions the
/// cluster saw.
async fn crash_at(point: &str) -> (StateName, Code, usize) {
    let world = World::new().await;
    let mut first = world.executor(Some(point));
    let id = world.propose(&world.failing_pod("inventory").await).await;
    if point.starts_with("admission") {
        first.ended().await;
        let _second = world.executor(None);
        world.wait(id, StateName::Pending).await;
        world.approve(id).await;
        let end = world.wait(id, StateName::Succeeded).await;
        return (
            end.state.name(),
            end.state.end().unwrap().reason.code,
            evicted(&world).await,
        );
    }
    world.wait(id, StateName::Pending).await;
    world.approve(id).await;
    first.ended().await;
    let _second = world.executor(None);
    let end = world
        .wait_until(id, "any end", |action| action.state.name().is_terminal())
        .await;
    (
        end.state.name(),
        end.state.end().unwrap().reason.code,
        evicted(&world).await,
    )
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

async fn evicted(world: &World) -> usize {
    world.evictions().await.len()
}

#[tokio::test]
async fn before_the_point_of_no_return_the_claim_is_taken_over() {
    let (before, after, claim) = tokio::join!(
        crash_at("admission.before"),
        crash_at("admission.after"),
        crash_at("claim.after"),
    );
    for end in [before, after, claim] {
        assert_eq!(end, (StateName::Succeeded, Code::Verified, 1));
    }
}

#[tokio::test]
async fn after_the_intent_nothing_is_sent_that_was_not_spent() {
    let (intent, spent) = tokio::join!(crash_at("intent.after"), crash_at("spent.before"));
    for end in [intent, spent] {
        assert_eq!(end, (StateName::Failed, Code::Interrupted, 0));
    }
}

#[tokio::test]
async fn a_chance_that_was_spent_and_not_used_is_not_used_later() {
    let (spent, before) = tokio::join!(crash_at("spent.after"), crash_at("evict.before"));
    for end in [spent, before] {
        assert_eq!(end, (StateName::Failed, Code::NotApplied, 0));
    }
}

#[tokio::test]
async fn what_was_sent_is_found_by_looking_and_not_sent_again() {
    let (sent, outcome, committed) = tokio::join!(
        crash_at("evict.after"),
        crash_at("outcome.before"),
        crash_at("outcome.after"),
    );
    for end in [sent, outcome, committed] {
        assert_eq!(end, (StateName::Succeeded, Code::Verified, 1));
    }
}

#[tokio::test]
async fn an_old_copy_of_the_database_runs_nothing_twice() {
    let mut world = World::new().await;
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    let unadmitted = world.folder.path().join("unadmitted.db");
    world.with_file(|file| copy(file, &unadmitted)).await;

    let mut executor = world.executor(None);
    world.wait(id, StateName::Pending).await;
    executor.terminate().await;
    world.approve(id).await;
    let approved = world.folder.path().join("approved.db");
    world.with_file(|file| copy(file, &approved)).await;
    let mut executor = world.executor(None);
    world.wait(id, StateName::Succeeded).await;
    executor.terminate().await;
    assert_eq!(evicted(&world).await, 1);

    for (old, end) in [
        (approved, StateName::Refused),
        (unadmitted, StateName::Denied),
    ] {
        world.with_file(|file| copy(&old, file)).await;
        let mut executor = world.executor(None);
        let ended = world.wait(id, end).await;
        assert_eq!(ended.state.end().unwrap().reason.code, Code::AlreadySpent);
        executor.terminate().await;
        assert_eq!(evicted(&world).await, 1);
    }
}

/// Crashes after the intent, then starts an executor with a new key; `former` says that it knows the
/// old one. Returns the code and the message of the end.
async fn with_a_new_key(former: bool) -> (Code, String) {
    let world = World::new().await;
    let at = |name: &str| world.folder.path().join(name);
    let mut first = world.executor(Some("intent.after"));
    let id = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(id, StateName::Pending).await;
    world.approve(id).await;
    first.ended().await;
    copy(&at("executor.pub"), &at("former.pub"));
    std::fs::remove_file(at("executor.key")).unwrap();
    std::fs::remove_file(at("executor.try.cluster")).unwrap();
    if former {
        let text = std::fs::read_to_string(at("executor.toml")).unwrap();
        let keys = "[keys]\nformer_public_files = [\"former.pub\"]";
        std::fs::write(at("executor.toml"), text.replace("[keys]", keys)).unwrap();
    }
    let _second = world.executor(None);
    let end = world.wait(id, StateName::Failed).await;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases/{id}");
    let holder = text(&world.get(&lease).await, "/spec/holderIdentity");
    assert!(holder.starts_with("burnt-by-"), "the door is shut");
    assert!(world.evictions().await.is_empty());
    let reason = end.state.end().unwrap().reason.clone();
    (reason.code, reason.message)
}

#[tokio::test]
async fn what_cannot_be_opened_is_closed_by_the_register_and_a_former_key_opens_it() {
    let (lost, known) = tokio::join!(with_a_new_key(false), with_a_new_key(true));
    assert_eq!(lost.0, Code::StatementForged);
    assert!(lost.1.contains("nothing was sent"), "{}", lost.1);
    assert_eq!(known.0, Code::Interrupted);
}
