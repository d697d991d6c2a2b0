//! What `countersign` keeps in memory when nobody asks it anything.

use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_tests::stack::process::Process;
use countersign_tests::stack::{Options, Stack};
use serde_json::json;

use crate::calls::{Call, Caller, per_second};
use crate::report::{Line, Target};

const SETTLE: Duration = Duration::from_secs(5);
/// Calls of one client.
const EACH: usize = 125;

pub async fn measure() -> Result<Vec<Line>> {
    let mut stack = Stack::start(Options::default()).await?;
    tokio::time::sleep(SETTLE).await;
    let server = resident(stack.server.as_ref())?;
    let executor = resident(stack.executor.as_ref())?;

    // Memory that a burst leaves behind.
    let caller = Caller::new(&stack)?;
    let call = Call::tool("list_failing_pods", &json!({}));
    per_second(EACH, || {
        let (caller, call) = (caller.clone(), call.clone());
        Ok(async move {
            for _ in 0..EACH {
                caller.ask(&call).await?;
            }
            Ok(())
        })
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let after = resident(stack.server.as_ref())?;
    stack.stop().await?;
    Ok(vec![
        Line::new("idle memory, countersign", "MB", server)
            .wanted(Target::Median { at_most: 20.0 }),
        Line::new("idle memory, countersign, after 2,000 calls", "MB", after),
        Line::new("idle memory, countersign-executor", "MB", executor),
    ])
}

/// VmRSS in millions of bytes.
fn resident(process: Option<&Process>) -> Result<f64> {
    let id = process.and_then(Process::id).context("not running")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
