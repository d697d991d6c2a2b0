//! kill -9 at every named point, on both engines, against the real control plane: after the restart
//! no action is lost, stuck or run twice, counted from the API server's own audit log.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use countersign_tests::stack::{ClusterKind, Engine, Options, Stack};
use serde_json::json;

/// Where a process dies, and what must be true in the end.
struct Point {
    name: &'static str,
    /// Evictions that take effect.
    evictions: usize,
    /// One of these is the end.
    ends: &'static [&'static str],
}

const fn point(name: &'static str, evictions: usize, ends: &'static [&'static str]) -> Point {
    Point {
        name,
        evictions,
        ends,
    }
}

const EXECUTOR: &[Point] = &[
    // First: their end is certain when nothing that was sent can arrive any more, after two minutes
    // that the others fill.
    point("spent.after", 0, &["failed"]),
    point("evict.before", 0, &["failed"]),
    point("admission.before", 1, &["succeeded"]),
    point("admission.after", 1, &["succeeded"]),
    // From the committed intent on, nothing is ever sent by a successor.
    point("intent.after", 0, &["failed"]),
    point("spent.before", 0, &["failed"]),
    point("evict.after", 1, &["succeeded"]),
    point("outcome.before", 1, &["succeeded"]),
    point("outcome.after", 1, &["succeeded"]),
    point(CLAIM, 1, &["succeeded"]),
    // Last: its successor takes over when the lease has run out, and must not be killed meanwhile.
    point("claim.after", 1, &["succeeded"]),
];

/// Passed whenever the store is asked for work, also when there is none: it is armed when something
/// waits to be claimed.
const CLAIM: &str = "claim.before";

const SERVER: &[Point] = &[
    point("proposal.before", 1, &["succeeded"]),
    point("proposal.after", 1, &["succeeded"]),
    point("decision.before", 1, &["succeeded"]),
    point("decision.after", 1, &["succeeded"]),
    point("ticket.before", 1, &["succeeded"]),
    point("ticket.created", 1, &["succeeded"]),
];

const LIMIT: Duration = Duration::from_secs(180);

/// It died at the point, and of nothing else.
fn aborted(point: &Point, status: ExitStatus) {
    const SIGABRT: i32 = 6;
    assert_eq!(
        status.signal(),
        Some(SIGABRT),
        "{}: ended with {status}",
        point.name
    );
}

async fn kill_at_every_point(engine: Engine) {
    let options = Options {
        engine,
        cluster: ClusterKind::ControlPlane,
        ..Options::default()
    };
    let mut stack = Stack::start(options).await.unwrap();
    let mut actions = Vec::new();
    for point in EXECUTOR {
        let app = format!("x-{}", point.name.replace('.', "-"));
        let pod = stack
            .cluster
            .deploy("shop", &app, 2, 1, "ready")
            .await
            .unwrap();
        let crash = [("COUNTERSIGN_CRASH_AT", point.name)];
        let at_start: &[_] = if point.name == CLAIM { &[] } else { &crash };
        stack.restart_executor(at_start).await.unwrap();
        let ai = stack.ai().await.unwrap();
        let arguments = json!({"namespace": "shop", "pod": pod.name, "reason": "crash test"});
        let answer = ai.call("restart_pod", arguments).await.unwrap();
        assert!(!answer.is_error, "{}", answer.text);
        let id = answer.str("action_id").to_owned();
        if !point.name.starts_with("admission") {
            ai.until_state(&id, "pending", LIMIT).await.unwrap();
            if point.name == CLAIM {
                stack.executor.take().unwrap().kill().await.unwrap();
            }
            stack.li().await.unwrap().approve(&id, "go").await.unwrap();
            if point.name == CLAIM {
                stack.start_executor_with(&crash).unwrap();
            }
        }
        let ended = stack.executor.as_mut().unwrap().ended(LIMIT).await;
        aborted(point, ended.unwrap());
        stack.restart_executor(&[]).await.unwrap();
        if point.name.starts_with("admission") {
            ai.until_state(&id, "pending", LIMIT).await.unwrap();
            stack.li().await.unwrap().approve(&id, "go").await.unwrap();
        }
        if point.name.starts_with("admission") || point.name == CLAIM {
            // The next point kills the executor again: not while it works on this one.
            ai.until_state(&id, "succeeded", LIMIT).await.unwrap();
        }
        actions.push((point, id, pod));
    }
    for point in SERVER {
        let app = format!("s-{}", point.name.replace('.', "-"));
        let pod = stack
            .cluster
            .deploy("shop", &app, 2, 1, "ready")
            .await
            .unwrap();
        stack
            .restart_server(&[("COUNTERSIGN_CRASH_AT", point.name)])
            .await
            .unwrap();
        let arguments = json!({
            "namespace": "shop", "pod": pod.name, "reason": "crash test", "idempotency_key": app,
        });
        let ai = stack.ai().await.unwrap();
        let first = ai.call("restart_pod", arguments.clone()).await;
        if point.name.starts_with("decision") {
            let id = first.unwrap().str("action_id").to_owned();
            ai.until_state(&id, "pending", LIMIT).await.unwrap();
            let answer = stack.li().await.unwrap().decide(&id, "approve", "go").await;
            assert!(answer.is_err(), "{}: the decision was answered", point.name);
        } else if point.name.starts_with("proposal") {
            assert!(first.is_err(), "{}: the proposal was answered", point.name);
        }
        let ended = stack.server.as_mut().unwrap().ended(LIMIT).await;
        aborted(point, ended.unwrap());
        drop(ai);
        stack.restart_server(&[]).await.unwrap();
        // The client does what clients do: it asks again, and gets the same action if there is one.
        // By then the executor may have evicted the pod.
        let ai = stack.ai().await.unwrap();
        let again = ai.call("restart_pod", arguments).await.unwrap();
        assert!(!again.is_error, "{}: {}", point.name, again.text);
        let id = again.str("action_id").to_owned();
        let state = ai
            .until(&id, LIMIT, |state| state != "checking")
            .await
            .unwrap();
        if point.name == "decision.after" {
            assert_ne!(state.str("state"), "pending", "the decision was lost");
        } else {
            stack.li().await.unwrap().approve(&id, "go").await.unwrap();
        }
        actions.push((point, id, pod));
    }

    let ai = stack.ai().await.unwrap();
    for (point, id, pod) in &actions {
        let answer = ai
            .until(id, LIMIT, |state| point.ends.contains(&state))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", point.name, stack.logs()));
        let evictions = stack.cluster.evictions(&pod.name).await.unwrap();
        assert_eq!(
            evictions, point.evictions,
            "{}: {}",
            point.name, answer.text
        );
        let label = format!("countersign-{id}");
        let start = Instant::now();
        loop {
            let tickets = stack.jira.by_label(&label).await.unwrap();
            assert!(tickets.len() < 2, "{}: two tickets", point.name);
            if tickets.len() == 1 {
                break;
            }
            assert!(start.elapsed() < LIMIT, "{}: no ticket", point.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!(
            "  {}: {} with {evictions} eviction(s)",
            point.name,
            answer.str("state")
        );
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    kill_at_every_point(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    kill_at_every_point(Engine::Postgres).await;
}
