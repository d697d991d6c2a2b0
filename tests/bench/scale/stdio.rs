//! `countersign stdio` from the start of the process to its first answer.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::cluster::BigCluster;
use crate::calls::milliseconds;
use crate::report::{Line, Samples, Target};

pub async fn measure(big: &BigCluster, folder: &Path) -> Result<Vec<Line>> {
    let (namespace, pod) = big.healthy_pod();
    let one = json!({"name": "get_pod_status", "arguments": {"namespace": namespace, "pod": pod}});
    let all = json!({"name": "list_failing_pods", "arguments": {}});
    let (mut first, mut list) = (Samples::default(), Samples::default());
    for _ in 0..20 {
        first.push(answered(big, folder, &one).await?);
    }
    for _ in 0..3 {
        list.push(answered(big, folder, &all).await?);
    }
    Ok(vec![
        Line::of(
            "stdio: start of the process to one pod's status",
            "ms",
            &first,
        )
        .wanted(Target::Median { at_most: 20.0 }),
        Line::of(
            "stdio: start to list_failing_pods of 20,000 pods, no cache",
            "ms",
            &list,
        ),
    ])
}

async fn answered(big: &BigCluster, folder: &Path, params: &Value) -> Result<f64> {
    let program = countersign_tests::stack::process::binary("countersign")?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["stdio", "--no-cache", "--data-dir"])
        .arg(folder.join("nobody-serves-here"))
        .arg("--kubeconfig")
        .arg(&big.kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    stdin
        .write_all(format!("{hello}\n{ready}\n{call}\n").as_bytes())
        .await?;
    let answer = loop {
        let line = lines
            .next_line()
            .await?
            .context("it ended without an answer")?;
        let line: Value = serde_json::from_str(&line)?;
        if line["id"] == 2 {
            break line;
        }
    };
    let time = milliseconds(started.elapsed());
    ensure!(answer["result"]["isError"] == false, "{answer}");
    drop(stdin);
    child.wait().await?;
    Ok(time)
}
