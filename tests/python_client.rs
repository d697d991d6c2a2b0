//! The story driven by an MCP client that we did not write: Python's, in both of its modes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Stdio;
use std::time::Duration;

use countersign_tests::stack::cluster::Pod;
use countersign_tests::stack::{Options, Stack};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const LIMIT: Duration = Duration::from_secs(40);

/// A Python program that has proposed a restart and waits for its end.
struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    action: String,
}

impl Python {
    /// Returns when people are asked.
    async fn proposes(stack: &Stack, mode: &str, pod: &Pod) -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut child = Command::new(format!("{root}/.cache/python/bin/python"))
            .arg(format!("{root}/tests/python/story.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the Python client is installed by `cargo xtask test`");
        let ask = json!({
            "url": stack.url, "key": stack.secrets.api_key,
            "namespace": "shop", "pod": pod.name, "mode": mode,
        });
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(format!("{ask}\n").as_bytes())
            .await
            .unwrap();
        drop(stdin);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut python = Self {
            child,
            lines,
            action: String::new(),
        };
        python.action = python.line().await;
        let ai = stack.ai().await.unwrap();
        let pending = ai.until_state(&python.action, "pending", LIMIT).await;
        pending.unwrap();
        python
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
        line.unwrap().unwrap().expect("the program ended")
    }

    /// The last answer that it got.
    async fn reads(mut self) -> Value {
        let answer = self.line().await;
        assert!(self.child.wait().await.unwrap().success());
        serde_json::from_str(&answer).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_proposes_and_waits_for_the_end() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let li = stack.li().await.unwrap();
    for mode in ["auto", "legacy"] {
        let cluster = &stack.cluster;
        let deployed = async |what: &str| {
            let app = format!("python-{mode}-{what}");
            cluster.deploy("shop", &app, 2, 1, "ready").await.unwrap()
        };

        let pod = deployed("yes").await;
        let python = Python::proposes(&stack, mode, &pod).await;
        li.approve(&python.action, "asked from Python")
            .await
            .unwrap();
        assert_eq!(python.reads().await["state"], "succeeded", "mode {mode}");
        assert_eq!(cluster.evictions(&pod.name).await.unwrap(), 1);

        let pod = deployed("no").await;
        let python = Python::proposes(&stack, mode, &pod).await;
        let reason = "wait for the database to come back";
        li.reject(&python.action, reason).await.unwrap();
        let end = python.reads().await;
        assert_eq!(end["state"], "rejected", "mode {mode}");
        for told in [&end["text"], &end["outcome"]["message"]] {
            assert!(told.as_str().unwrap().contains(reason), "{mode}: {end}");
        }
        assert_eq!(cluster.evictions_sent(&pod.name).await.unwrap(), 0);

        let pod = deployed("gone").await;
        let python = Python::proposes(&stack, mode, &pod).await;
        let path = format!("/api/v1/namespaces/shop/pods/{}", pod.name);
        let at_once = json!({"gracePeriodSeconds": 0});
        let deleted = cluster.admin().delete(&path, &at_once).await.unwrap();
        deleted.success().unwrap();
        li.approve(&python.action, "go").await.unwrap();
        let end = python.reads().await;
        assert_eq!(end["state"], "refused", "mode {mode}");
        assert_eq!(end["outcome"]["code"], "target_replaced", "{mode}: {end}");
        assert!(
            end["text"].as_str().unwrap().contains(&pod.uid),
            "{mode}: {end}"
        );
        assert_eq!(cluster.evictions_sent(&pod.name).await.unwrap(), 0);
    }
    stack.stop().await.unwrap();
}
