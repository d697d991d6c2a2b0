//! Reading a large cluster: 20,000 pods of 10 kB, of which 400 fail in every known way and 2,000
//! only look as if. Right answers first, then their time and memory.

mod alone;
mod cluster;
mod peer;
mod pods;
mod stdio;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use countersign_domain::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::calls::{CLIENTS, Call, Caller, per_second};
use crate::report::{Line, Samples, Target};
use alone::{Alone, until};
use cluster::{BigCluster, Shape, Truth};

const LARGE: Shape = Shape {
    pods: 20_000,
    failing: 400,
    alike: 2_000,
};
const HUGE: Shape = Shape {
    pods: 100_000,
    failing: 400,
    alike: 2_000,
};
const EMPTY: Shape = Shape {
    pods: 0,
    failing: 0,
    alike: 0,
};
const QUESTIONS: usize = 200;
const CHANGES: usize = 10_000;
/// Of the changed pods: what shows that the last change has arrived.
const CRASHED: usize = 5;
/// Calls of one client.
const EACH: usize = 500;
/// Rounds that count, after one to warm up.
const ROUNDS: usize = 3;
const SETTLE: Duration = Duration::from_secs(3);

/// Everything about 20,000 pods, and time and memory of 100,000.
pub async fn measure() -> Result<Vec<Line>> {
    let folder = tempfile::Builder::new().prefix("countersign-").tempdir()?;
    let idle = idle(&folder.path().join("idle")).await?;
    let mut lines = Vec::new();
    let big = BigCluster::start(LARGE, folder.path(), SystemClock.now()).await?;
    lines.extend(cached(&big, &folder.path().join("cached"), idle).await?);
    lines.extend(live(&big, &folder.path().join("live"), idle).await?);
    lines.extend(stdio::measure(&big, folder.path()).await?);
    drop(big);
    let huge = BigCluster::start(HUGE, folder.path(), SystemClock.now()).await?;
    let server = Alone::start(&folder.path().join("huge"), &huge.kubeconfig, true).await?;
    let filled = until_filled(&server.caller, HUGE.pods).await?;
    tokio::time::sleep(SETTLE).await;
    lines.push(Line::new(
        "100,000 pods: start to a whole cache",
        "ms",
        filled,
    ));
    lines.push(Line::new(
        "100,000 pods: memory over idle",
        "MB",
        server.memory()?.now - idle,
    ));
    lines.push(Line::of(
        "100,000 pods: list_failing_pods",
        "ms",
        &questions(&server.caller).await?,
    ));
    Ok(lines)
}

/// What the same server needs with an empty cluster.
async fn idle(folder: &Path) -> Result<f64> {
    alone::folder(folder)?;
    let empty = BigCluster::start(EMPTY, folder, SystemClock.now()).await?;
    let server = Alone::start(folder, &empty.kubeconfig, true).await?;
    server.caller.ask(&failing(None)).await?;
    tokio::time::sleep(SETTLE).await;
    Ok(server.memory()?.now)
}

async fn cached(big: &BigCluster, folder: &Path, idle: f64) -> Result<Vec<Line>> {
    let server = Alone::start(folder, &big.kubeconfig, true).await?;
    let caller = &server.caller;
    let filled = until_filled(caller, LARGE.pods).await?;
    judged_right(caller, big.truth()).await?;
    let first = caller.ask(&failing(None)).await?;
    tokio::time::sleep(SETTLE).await;
    let memory = server.memory()?;
    let mut lines = vec![
        Line::new("20,000 pods: start to a whole cache", "ms", filled),
        Line::of(
            "20,000 pods: list_failing_pods, warm",
            "ms",
            &questions(caller).await?,
        )
        .wanted(Target::Median { at_most: 10.0 }),
        Line::new(
            "20,000 pods: tokens of that answer's text",
            "o200k",
            tokens(&first, "text")?,
        )
        .wanted(Target::Median { at_most: 3_000.0 }),
        Line::new(
            "20,000 pods: tokens of its structured form",
            "o200k",
            tokens(&first, "structured")?,
        )
        .wanted(Target::Median { at_most: 3_000.0 }),
        Line::new(
            "20,000 pods: memory over idle, cached",
            "MB",
            memory.now - idle,
        )
        .wanted(Target::Median { at_most: 80.0 }),
        Line::new(
            "20,000 pods: peak over idle, while filling",
            "MB",
            memory.peak - idle,
        ),
    ];

    let (namespace, pod) = big.healthy_pod();
    let status = Call::tool(
        "get_pod_status",
        &json!({"namespace": namespace, "pod": pod}),
    );
    let began = server.cpu()?;
    let ours = rate(caller, &status, true).await?;
    let between = server.cpu()?;
    // Authentication, limits and audit like any call, and no work.
    let nothing = rate(caller, &Call::tool("does_nothing", &json!({})), false).await?;
    let ended = server.cpu()?;
    // Says on a busy machine, too, what a call costs.
    let calls = ((1 + ROUNDS) * EACH * CLIENTS) as f64;
    for (what, cpu) in [
        ("get_pod_status", between - began),
        ("a tool that does nothing", ended - between),
    ] {
        lines.push(Line::new(
            format!("{what}: CPU of the server a call"),
            "us",
            cpu * 1e6 / calls,
        ));
    }
    lines.push(
        Line::new(
            "get_pod_status, 16 clients, beside a tool that does nothing",
            "1/s",
            ours,
        )
        .beside(nothing)
        .wanted(Target::RatioFrom { at_least: 0.5 }),
    );
    let theirs = peer::pods_get(&big.kubeconfig, &namespace, &pod).await?;
    lines.push(
        Line::new(
            "get_pod_status, 16 clients, beside kubernetes-mcp-server 0.0.67",
            "1/s",
            ours,
        )
        .beside(theirs)
        .wanted(Target::RatioFrom { at_least: 20.0 }),
    );

    let wanted = LARGE.failing + CRASHED;
    let before = server.cpu()?;
    big.change(CHANGES, CRASHED, SystemClock.now());
    let caught_up = until(Duration::from_secs(60), || async {
        Ok(count(&caller.answer(&failing(None)).await?, "pods_failing") == wanted)
    })
    .await?;
    lines.push(
        Line::new(
            "10,000 changes: until the answer is right again",
            "ms",
            caught_up,
        )
        .wanted(Target::Median { at_most: 1_000.0 }),
    );
    tokio::time::sleep(SETTLE).await;
    lines.push(Line::new(
        "10,000 changes: CPU of the server",
        "ms",
        (server.cpu()? - before) * 1e3,
    ));
    Ok(lines)
}

/// Without a cache: pages that are read and forgotten.
async fn live(big: &BigCluster, folder: &Path, idle: f64) -> Result<Vec<Line>> {
    let server = Alone::start(folder, &big.kubeconfig, false).await?;
    let mut samples = Samples::default();
    for _ in 0..5 {
        let (_, time) = server.caller.timed(&failing(None)).await?;
        samples.push(time);
    }
    let memory = server.memory()?;
    Ok(vec![
        Line::of("20,000 pods: list_failing_pods, live", "ms", &samples),
        Line::new(
            "20,000 pods: peak over idle, live",
            "MB",
            memory.peak - idle,
        )
        .wanted(Target::Median { at_most: 60.0 }),
    ])
}

fn failing(cursor: Option<&str>) -> Call {
    match cursor {
        None => Call::tool("list_failing_pods", &json!({})),
        Some(cursor) => Call::tool("list_failing_pods", &json!({"cursor": cursor, "limit": 50})),
    }
}

fn count(answer: &Value, field: &str) -> usize {
    answer[field].as_u64().unwrap_or_default() as usize
}

/// Milliseconds from the call until all pods are known.
async fn until_filled(caller: &Caller, pods: usize) -> Result<f64> {
    until(Duration::from_secs(120), || async {
        // While the cache fills, answers are live or say that they are not there yet.
        let Ok(answer) = caller.answer(&failing(None)).await else {
            return Ok(false);
        };
        Ok(count(&answer, "pods_seen") == pods && answer["source"] == "cache")
    })
    .await
}

async fn questions(caller: &Caller) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..QUESTIONS {
        samples.push(caller.timed(&failing(None)).await?.1);
    }
    Ok(samples)
}

/// All pages together name exactly the workloads that fail, with all their pods.
async fn judged_right(caller: &Caller, truth: &Truth) -> Result<()> {
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    let started = Instant::now();
    loop {
        let answer = caller.answer(&failing(cursor.as_deref())).await?;
        for group in answer["groups"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let place = (text(&group["namespace"]), text(&group["workload"]["name"]));
            *found.entry(place).or_default() += count(group, "pods");
        }
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
        ensure!(
            started.elapsed() < Duration::from_secs(60),
            "the pages do not end"
        );
    }
    let wanted: BTreeMap<(String, String), usize> = truth
        .iter()
        .map(|(place, names)| (place.clone(), names.len()))
        .collect();
    let missed: Vec<_> = wanted
        .iter()
        .filter(|(place, pods)| found.get(*place) != Some(pods))
        .collect();
    let invented: Vec<_> = found
        .keys()
        .filter(|place| !wanted.contains_key(*place))
        .collect();
    if !missed.is_empty() || !invented.is_empty() {
        bail!("misjudged: missed {missed:?}, invented {invented:?}");
    }
    Ok(())
}

/// Calls a second of sixteen clients; the median of the rounds.
async fn rate(caller: &Caller, call: &Call, must_succeed: bool) -> Result<f64> {
    let mut samples = Samples::default();
    for round in 0..=ROUNDS {
        let rate = per_second(EACH, || {
            let (caller, call) = (caller.clone(), call.clone());
            Ok(async move {
                let mut wire = caller.wire().await?;
                for _ in 0..EACH {
                    let answer = wire.ask(call.body()).await?;
                    ensure!(
                        !must_succeed || succeeded(&answer),
                        "{}",
                        String::from_utf8_lossy(&answer)
                    );
                }
                Ok(())
            })
        })
        .await?;
        if round > 0 {
            samples.push(rate);
        }
    }
    Ok(samples.median())
}

/// The answer says so in front of its structured form, or behind it.
fn succeeded(answer: &[u8]) -> bool {
    const SAID: &[u8] = b"\"isError\":false";
    answer.windows(SAID.len()).rev().any(|part| part == SAID)
}

/// Tokens of an answer by the tokenizer `o200k_base`: what a client puts before a model is the text,
/// or the structured form.
fn tokens(answer: &str, form: &str) -> Result<f64> {
    let answer: Value = serde_json::from_str(answer)?;
    let result = &answer["result"];
    let text = match form {
        "structured" => result["structuredContent"].to_string(),
        _ => result["content"][0]["text"]
            .as_str()
            .context("no text")?
            .to_owned(),
    };
    let tokenizer = tiktoken_rs::o200k_base()?;
    Ok(tokenizer.encode_ordinary(&text).len() as f64)
}
