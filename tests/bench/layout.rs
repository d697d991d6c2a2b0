//! What `cargo xtask layout` watches the server do. Nothing is measured here, and no list of benches
//! names these.

use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_control_plane::eventually;
use countersign_tests::stack::{Options, Stack};
use serde_json::json;

use crate::calls::{Call, Caller};

const NAMESPACE: &str = "shop";
/// Long enough for what runs every few seconds, also under valgrind.
const REST: Duration = Duration::from_secs(30);

/// Starts everything and rests.
pub async fn start() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    tokio::time::sleep(REST).await;
    stack.stop().await
}

/// Every read of a triage, a proposal, its approval on the page, the end.
pub async fn calls() -> Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let played = play(&stack).await.with_context(|| stack.logs());
    stack.stop().await?;
    played
}

async fn play(stack: &Stack) -> Result<()> {
    let cluster = &stack.cluster;
    let failing = cluster.deploy(NAMESPACE, "layout", 3, 1, "ready").await?;
    eventually(Duration::from_secs(60), "a failing pod", async || {
        let pods = cluster.pods(NAMESPACE, "layout").await?;
        Ok(pods.iter().any(|pod| pod.crashing).then_some(()))
    })
    .await?;
    let caller = Caller::new(stack)?;
    let pod = json!({"namespace": NAMESPACE, "pod": failing.name});
    let workload = json!({"namespace": NAMESPACE, "workload": "layout"});
    let reads = [
        ("list_failing_pods", json!({})),
        ("get_pod_status", pod.clone()),
        ("get_recent_events", json!({"namespace": NAMESPACE})),
        ("get_pod_logs", pod.clone()),
        ("list_workloads", json!({"namespace": NAMESPACE})),
        ("get_rollout_status", workload),
        ("list_nodes", json!({})),
        ("list_actions", json!({})),
    ];
    for _ in 0..10 {
        caller.ask(&Call::list()).await?;
        for (tool, arguments) in &reads {
            caller.ask(&Call::tool(tool, arguments)).await?;
        }
    }
    let proposal = json!({
        "namespace": NAMESPACE, "pod": failing.name, "reason": "crash loop since the deploy",
    });
    let answer = caller.answer(&Call::tool("restart_pod", &proposal)).await?;
    let action = answer["action_id"].as_str().context("no action id")?;
    caller.until(action, |state| state == "pending").await?;
    let li = stack.li().await?;
    li.approve(action, "seen the crash loop").await?;
    caller.until(action, |state| state == "succeeded").await?;
    tokio::time::sleep(REST).await;
    Ok(())
}
