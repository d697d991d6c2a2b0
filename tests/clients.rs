//! Every read tool, a resource and a prompt, driven by MCP clients that we did not write: Python's
//! and TypeScript's, each in both of its modes, and the Inspector's command line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use countersign_tests::stack::{Options, Stack};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LIMIT: Duration = Duration::from_secs(90);

struct Scene {
    stack: Stack,
    pod: String,
    calls: Vec<(String, Value)>,
}

impl Scene {
    /// A failing pod, an open proposal, and one call for each read tool that the server lists.
    async fn new() -> Self {
        let stack = Stack::start(Options::default()).await.unwrap();
        let pod = stack.cluster.deploy("shop", "web", 2, 1, "ready");
        let pod = pod.await.unwrap().name;
        let ai = stack.ai().await.unwrap();
        let action = ai.restart("shop", &pod, "driven by clients").await.unwrap();
        let calls = ai
            .read_tools()
            .await
            .unwrap()
            .into_iter()
            .map(|tool| {
                let arguments = arguments(&tool, &pod, action.str("action_id"));
                (tool, arguments)
            })
            .collect();
        Self { stack, pod, calls }
    }

    fn ask(&self, mode: &str) -> Value {
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|(tool, arguments)| json!({"tool": tool, "arguments": arguments}))
            .collect();
        json!({
            "url": self.stack.url, "key": self.stack.secrets.api_key, "mode": mode, "calls": calls,
            "resource": format!("pod://{}/shop/{}", self.stack.cluster.id, self.pod),
            "prompt": {"name": "triage_pod", "arguments": {"namespace": "shop", "pod": self.pod}},
        })
    }

    fn check(&self, told: &Value) {
        for (tool, _) in &self.calls {
            self.check_answer(tool, &told["results"][tool]);
        }
        let listed: BTreeSet<&str> = strings(&told["tools"]).collect();
        assert!(listed.contains("restart_pod") && listed.len() > self.calls.len());
        let resource: Value = serde_json::from_str(told["resource"].as_str().unwrap()).unwrap();
        assert_eq!(resource["name"], self.pod.as_str());
        let prompts: Vec<&str> = strings(&told["prompts"]).collect();
        assert_eq!(prompts, ["triage_cluster", "triage_pod"]);
        assert!(told["prompt"].as_str().unwrap().contains(&self.pod));
    }

    /// `answer` is {is_error, structured, text}.
    fn check_answer(&self, tool: &str, answer: &Value) {
        assert_eq!(answer["is_error"], false, "{tool}: {answer}");
        assert!(answer["structured"].is_object(), "{tool}: {answer}");
        let text = answer["text"].as_str().unwrap();
        assert!(!text.is_empty());
        // Each answer is about this very cluster: it names the workload, its pod or a node.
        let known = ["web", "worker-1"];
        assert!(
            known.iter().any(|name| text.contains(name)),
            "{tool}: {text}"
        );
    }
}

/// How each read tool is called here. A tool that is new has to be added.
fn arguments(tool: &str, pod: &str, action: &str) -> Value {
    match tool {
        "list_failing_pods" | "list_workloads" | "get_recent_events" => {
            json!({"namespace": "shop"})
        }
        "get_pod_status" | "get_pod_logs" => json!({"namespace": "shop", "pod": pod}),
        "get_rollout_status" | "get_rollout_history" => json!({"namespace": "shop", "name": "web"}),
        "list_nodes" | "list_actions" => json!({}),
        "get_action" => json!({"action_id": action}),
        "wait_for_action" => json!({"action_id": action, "timeout_seconds": 1}),
        other => panic!("say how to call {other}"),
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().filter_map(Value::as_str)
}

/// Runs a client and returns its standard output.
async fn run(mut command: Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the clients are installed by `cargo xtask test`");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output());
    let output = output.await.expect("the client takes too long").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The Node of the clients, not the machine's.
fn node(script: &str) -> Command {
    let mut command = Command::new(format!("{ROOT}/.cache/node/node_modules/.bin/node"));
    command
        .arg(script)
        .current_dir(format!("{ROOT}/.cache/node"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_tool_answers_clients_that_we_did_not_write() {
    let mut scene = Scene::new().await;
    // Node looks for packages beside the script.
    let script = format!("{ROOT}/.cache/node/reads.mjs");
    std::fs::copy(format!("{ROOT}/tests/node/reads.mjs"), &script)
        .expect("the clients are installed by `cargo xtask test`");
    for mode in ["auto", "legacy"] {
        let ask = scene.ask(mode).to_string();
        let mut python = Command::new(format!("{ROOT}/.cache/python/bin/python"));
        python.arg(format!("{ROOT}/tests/python/reads.py"));
        let told = run(python, &ask).await;
        scene.check(&serde_json::from_str(&told).unwrap());
        eprintln!("Python, {mode}: every read tool");

        let told = run(node(&script), &ask).await;
        scene.check(&serde_json::from_str(&told).unwrap());
        eprintln!("TypeScript, {mode}: every read tool");
    }
    inspector(&scene).await;
    scene.stack.stop().await.unwrap();
}

async fn inspector(scene: &Scene) {
    let home = tempfile::tempdir().unwrap();
    let command = |arguments: &[String]| {
        let mut command =
            node("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
        command
            .env("HOME", home.path())
            .arg("--cli")
            .arg(format!("{}/mcp", scene.stack.url))
            .args(["--transport", "http", "--header"])
            .arg(format!(
                "Authorization: Bearer {}",
                scene.stack.secrets.api_key
            ))
            .args(arguments);
        command
    };
    let words = |all: &[&str]| -> Vec<String> { all.iter().map(|one| (*one).to_owned()).collect() };
    // Strict: an error in a schema ends it with a code of its own.
    let listed = run(command(&words(&["--method", "tools/list", "--strict"])), "").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["tools"].as_array().unwrap().len() > scene.calls.len());
    for (tool, arguments) in &scene.calls {
        let mut all = words(&["--method", "tools/call", "--tool-name", tool]);
        for (name, value) in arguments.as_object().unwrap() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            all.extend(["--tool-arg".to_owned(), format!("{name}={value}")]);
        }
        let told: Value = serde_json::from_str(&run(command(&all), "").await).unwrap();
        let answer = json!({
            "is_error": told["isError"] == true, "structured": told["structuredContent"],
            "text": told["content"][0]["text"],
        });
        scene.check_answer(tool, &answer);
    }
    let uri = format!("pod://{}/shop/{}", scene.stack.cluster.id, scene.pod);
    let read = run(
        command(&words(&["--method", "resources/read", "--uri", &uri])),
        "",
    )
    .await;
    assert!(read.contains(&scene.pod), "{read}");
    let prompts = run(command(&words(&["--method", "prompts/list"])), "").await;
    assert!(prompts.contains("triage_cluster"), "{prompts}");
}
