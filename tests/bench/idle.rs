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
    let server = memory(stack.server.as_ref(), RESIDENT)?;
    let private = memory(stack.server.as_ref(), PRIVATE)?;
    let executor = memory(stack.executor.as_ref(), RESIDENT)?;
    let executor_private = memory(stack.executor.as_ref(), PRIVATE)?;
    let used = used(stack.server.as_ref()).await?;

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
    let after = memory(stack.server.as_ref(), RESIDENT)?;
    stack.stop().await?;
    Ok(vec![
        Line::new("idle memory, countersign", "MB", server)
            .wanted(Target::Median { at_most: 20.0 }),
        Line::new("idle memory, countersign, of it private", "MB", private),
        Line::new("idle memory, countersign, used in five seconds", "MB", used),
        Line::new("idle memory, countersign, after 2,000 calls", "MB", after),
        Line::new("idle memory, countersign-executor", "MB", executor),
        Line::new(
            "idle memory, countersign-executor, of it private",
            "MB",
            executor_private,
        ),
    ])
}

const RESIDENT: &str = "VmRSS:";
/// What is no page of a file: nothing but swap could take it away.
const PRIVATE: &str = "RssAnon:";

fn memory(process: Option<&Process>, which: &str) -> Result<f64> {
    let id = id(process)?;
    megabytes(&format!("/proc/{id}/status"), which)
}

/// What is touched at all while nothing happens: the kernel forgets which pages were, and is asked
/// again. The rest stays mapped until somebody else needs the memory.
async fn used(process: Option<&Process>) -> Result<f64> {
    let id = id(process)?;
    std::fs::write(format!("/proc/{id}/clear_refs"), "1")?;
    tokio::time::sleep(SETTLE).await;
    megabytes(&format!("/proc/{id}/smaps_rollup"), "Referenced:")
}

fn id(process: Option<&Process>) -> Result<u32> {
    process.and_then(Process::id).context("not running")
}

/// In millions of bytes.
fn megabytes(file: &str, which: &str) -> Result<f64> {
    let text = std::fs::read_to_string(file)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(which))
        .with_context(|| format!("no {which} in {file}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
