//! What `countersign` keeps in memory when nobody asks it anything.

use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_tests::stack::process::Process;
use countersign_tests::stack::{Options, Stack};
use serde_json::json;

use crate::calls::Caller;
use crate::report::{Line, Target};

const SETTLE: Duration = Duration::from_secs(5);
const CALLS: usize = 2_000;

pub async fn measure() -> Result<Vec<Line>> {
    let mut stack = Stack::start(Options::default()).await?;
    tokio::time::sleep(SETTLE).await;
    let server = resident(stack.server.as_ref())?;
    let executor = resident(stack.executor.as_ref())?;

    // Memory that a burst leaves behind.
    let caller = Caller::new(&stack)?;
    let call = Caller::tool("list_failing_pods", &json!({}));
    for _ in 0..CALLS / 16 {
        let burst = (0..16).map(|_| caller.ask(&call));
        for answered in futures_of(burst).await {
            answered?;
        }
    }
    tokio::time::sleep(SETTLE).await;
    let after = resident(stack.server.as_ref())?;
    stack.stop().await?;
    Ok(vec![
        Line::new("idle memory, countersign", "MB", server).wanted(Target::Median { at_most: 20.0 }),
        Line::new("idle memory, countersign, after 2,000 calls", "MB", after),
        Line::new("idle memory, countersign-executor", "MB", executor),
    ])
}

/// VmRSS in millions of bytes.
fn resident(process: Option<&Process>) -> Result<f64> {
    let id = process.and_then(Process::id).context("not running")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
