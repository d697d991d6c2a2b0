//! The story driven by an MCP client that we did not write: Python's, in both of its modes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Stdio;
use std::time::Duration;

use countersign_tests::stack::{Options, Stack};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn python_proposes_and_waits_for_the_end() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    for mode in ["auto", "legacy"] {
        let app = format!("python-{mode}");
        let pod = stack
            .cluster
            .deploy("shop", &app, 2, 1, "ready")
            .await
            .unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut child = Command::new(format!("{root}/.cache/python/bin/python"))
            .arg(format!("{root}/tests/python/story.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the Python client is installed by `cargo xtask test`");
        let ask = serde_json::json!({
            "url": stack.url, "key": stack.secrets.api_key,
            "namespace": "shop", "pod": pod.name, "mode": mode,
        });
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(format!("{ask}\n").as_bytes())
            .await
            .unwrap();
        drop(stdin);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let limit = Duration::from_secs(40);
        let id = tokio::time::timeout(limit, lines.next_line())
            .await
            .unwrap()
            .unwrap();
        let id = id.expect("an action id");
        let ai = stack.ai().await.unwrap();
        ai.until_state(&id, "pending", limit).await.unwrap();
        stack
            .li()
            .await
            .unwrap()
            .approve(&id, "asked from Python")
            .await
            .unwrap();
        let state = tokio::time::timeout(limit, lines.next_line())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(state.as_deref(), Some("succeeded"), "mode {mode}");
        assert!(child.wait().await.unwrap().success());
        assert_eq!(stack.cluster.evictions(&pod.name).await.unwrap(), 1);
    }
    stack.stop().await.unwrap();
}
