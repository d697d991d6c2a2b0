//! The main story on whole processes, on each engine and on each cluster. SQLite on the playground
//! is `cargo demo --walkthrough` itself: the README's promise, run as the README says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use countersign_tests::scenarios::{self, Scene};
use countersign_tests::stack::{ClusterKind, Engine, Options, Stack};

/// Every scenario on one stack: what one leaves behind must not disturb the next.
async fn whole_story(engine: Engine, cluster: ClusterKind) {
    let tell = |evidence: &str| eprintln!("  {evidence}");
    let options = Options {
        engine,
        cluster,
        ..Options::default()
    };
    let mut stack = Stack::start(options).await.unwrap();
    let scene = Scene::new(&stack, &tell).await.unwrap();
    scenarios::page_approval(&scene).await.unwrap();
    scenarios::ticket_approval(&scene).await.unwrap();
    scenarios::two_answers_at_once(&scene).await.unwrap();
    scenarios::rejection(&scene).await.unwrap();
    scenarios::pod_replaced(&scene).await.unwrap();
    scenarios::budget_without_room(&scene).await.unwrap();
    scenarios::forged_decision(&scene).await.unwrap();
    scenarios::forged_state(&scene).await.unwrap();
    if engine == Engine::Postgres {
        scenarios::set_back_while_it_runs(&scene).await.unwrap();
        scenarios::three_at_once(&scene).await.unwrap();
    }
    scenarios::replacement_never_ready(&scene).await.unwrap();
    drop(scene);
    scenarios::database_from_before_execution(&mut stack, &tell)
        .await
        .unwrap();
    scenarios::database_from_before_admission(&mut stack, &tell)
        .await
        .unwrap();
    stack.stop().await.unwrap();
}

#[test]
fn sqlite_on_the_playground_is_the_walkthrough() {
    let output = Command::new(env!("CARGO_BIN_EXE_walkthrough"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("All of it happened"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_the_playground() {
    whole_story(Engine::Postgres, ClusterKind::Playground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_on_the_control_plane() {
    whole_story(Engine::Sqlite, ClusterKind::ControlPlane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_the_control_plane() {
    whole_story(Engine::Postgres, ClusterKind::ControlPlane).await;
}
