//! Starting and leaving.

use std::time::Duration;

use countersign_domain::StateName;

use crate::world::World;

#[tokio::test]
async fn a_stopped_executor_leaves_no_lease_and_another_goes_on() {
    let world = World::new().await;
    let mut first = world.executor(None);
    let id = world.propose(&world.failing_pod("pricing").await).await;
    world.wait(id, StateName::Pending).await;
    world.approve(id).await;
    // In the middle of watching: the replacement takes 0.6 s to get ready.
    world.wait(id, StateName::Executing).await;
    assert!(first.terminate().await < Duration::from_secs(20));
    assert_eq!(
        world.store.gauges().await.unwrap().leased,
        0,
        "{}",
        first.log()
    );
    let heartbeat = world.store.heartbeats().await.unwrap().remove(0);
    assert_eq!(heartbeat.status, "the executor was stopped");

    let _second = world.executor(None);
    world.wait(id, StateName::Succeeded).await;
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn it_leaves_with_its_parent_and_says_how_it_is() {
    let world = World::new().await;
    let mut executor = world.executor(None);
    let id = world.propose(&world.failing_pod("pricing").await).await;
    world.wait(id, StateName::Pending).await;
    world.heartbeat("ok").await;
    let health = executor.get("/readyz").await;
    assert_eq!((health.0, health.1.as_str()), (200, "ok\n"));
    let metrics = executor.get("/metrics").await.1;
    assert!(
        metrics.contains("countersign_admissions_total 1"),
        "{metrics}"
    );
    executor.orphan();
    assert!(executor.ended().await.success());
}

#[tokio::test]
async fn another_cluster_under_the_same_name_is_refused() {
    let world = World::new().await;
    let mut executor = world.executor(None);
    world.heartbeat("ok").await;
    executor.terminate().await;
    let pin = world.folder.path().join("executor.try.cluster");
    std::fs::write(&pin, "another\n").unwrap();
    let mut executor = world.executor(None);
    assert!(!executor.ended().await.success());
    assert!(
        executor.log().contains("another cluster"),
        "{}",
        executor.log()
    );
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_in_silence() {
    let world = World::new().await;
    let mut executor = world.executor(None);
    world.heartbeat("ok").await;
    executor.terminate().await;
    std::fs::remove_file(world.folder.path().join("executor.key")).unwrap();
    let mut executor = world.executor(None);
    assert!(!executor.ended().await.success());
    assert!(executor.log().contains("is gone"), "{}", executor.log());
}
