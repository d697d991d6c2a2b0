//! Promises about the processes themselves: separate secrets, a clean end, nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_store::testing::{Role, Tamper};
use countersign_tests::stack::{Options, Stack};

fn read_all(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&read_all(&path));
        } else if path.file_name().is_some_and(|name| name != "log") {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
    text
}

fn environment_of(process: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{process}/environ")).unwrap();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_process_is_given_the_others_secrets() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let server_files = read_all(&stack.path("server"));
    let executor_files = read_all(&stack.path("executor"));
    let executor_key = std::fs::read_to_string(stack.path("executor/executor.key")).unwrap();
    let server_key = std::fs::read_to_string(stack.path("server/server.key")).unwrap();
    let jira = &stack.jira;
    let executor_kubeconfig = stack.cluster.executor_kubeconfig.display().to_string();
    let server_kubeconfig = stack.cluster.server_kubeconfig.display().to_string();

    let of_the_executor = [
        executor_key.trim(),
        &jira.executor.token,
        &executor_kubeconfig,
    ];
    let of_the_server = [
        server_key.trim(),
        &jira.bot.token,
        &jira.webhook_secret,
        &server_kubeconfig,
        &stack.secrets.webhook_secret,
    ];
    let server_env = environment_of(stack.server.as_ref().unwrap().id().unwrap());
    let executor_env = environment_of(stack.executor.as_ref().unwrap().id().unwrap());
    for secret in of_the_executor {
        assert!(
            !secret.is_empty() && executor_files.contains(secret),
            "the check itself is blind"
        );
        assert!(!server_files.contains(secret) && !server_env.contains(secret));
    }
    for secret in of_the_server {
        assert!(
            !secret.is_empty() && server_files.contains(secret),
            "the check itself is blind"
        );
        assert!(!executor_files.contains(secret) && !executor_env.contains(secret));
    }
    // And neither says its own aloud.
    for log in ["server/log", "executor/log"] {
        let text = std::fs::read_to_string(stack.path(log)).unwrap();
        for secret in of_the_executor.iter().chain(&of_the_server) {
            assert!(
                secret.starts_with('/') || !text.contains(secret),
                "{log} holds a secret"
            );
        }
    }
    stack.stop().await.unwrap();
}

fn children_of(parent: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.insert(id);
            found.extend(children_of(id));
        }
    }
    found
}

fn alive(process: u32) -> bool {
    // A zombie that nobody has waited for yet is not alive.
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// Starts the demo, ends it with the signal, and sees that nothing of it stays.
fn demo_leaves_nothing(signal: &str) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        printed.push_str(&line);
        printed.push('\n');
        if line.contains("Ctrl-C ends everything") {
            break;
        }
    }
    for must in [
        "SIMULATED",
        "claude mcp add",
        "Cursor",
        "VS Code",
        "curl",
        "li ",
        "maria ",
    ] {
        assert!(
            printed.contains(must),
            "the demo does not print {must}:\n{printed}"
        );
    }
    let children = children_of(demo.id());
    assert!(
        children.len() >= 4,
        "four processes are expected: {children:?}"
    );
    Command::new("kill")
        .args([signal, &demo.id().to_string()])
        .status()
        .unwrap();
    let start = Instant::now();
    while demo.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the demo does not end"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let start = Instant::now();
    while let Some(left) = children.iter().find(|child| alive(**child)) {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "process {left} is left behind"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_no_process() {
    demo_leaves_nothing("-INT");
}

#[test]
fn killing_the_demo_leaves_no_process_either() {
    demo_leaves_nothing("-KILL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_cuts_no_answer_and_leaves_no_claim() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let pod = stack
        .cluster
        .deploy("shop", "busy", 3, 1, "slow-ready=3000")
        .await
        .unwrap();
    let ai = stack.ai().await.unwrap();
    let id = ai
        .restart("shop", &pod.name, "busy")
        .await
        .unwrap()
        .str("action_id")
        .to_owned();
    stack.li().await.unwrap().approve(&id, "go").await.unwrap();

    // Callers keep asking while the server stops. A connection that nobody took is not an answer
    // that was cut: the audit log says which calls were served.
    let url = format!("{}/mcp", stack.url);
    let key = stack.secrets.api_key.clone();
    let callers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(keep_asking(url.clone(), key.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    stack.stop().await.unwrap();
    let mut whole = 0;
    for caller in callers {
        whole += caller
            .await
            .unwrap()
            .expect("an answer broke off in the middle");
    }
    let tamper = Tamper::open(&stack.database_url(Role::Admin))
        .await
        .unwrap();
    let served = tamper.count_calls("list_actions").await.unwrap();
    assert!(whole > 0, "nobody was answered at all");
    assert_eq!(
        served, whole,
        "calls served, and answers that arrived whole"
    );
    assert_eq!(tamper.leased().await.unwrap(), 0, "a claim is left leased");
}

/// Asks until nobody listens any more. Returns how many answers arrived whole; fails when one began
/// and broke off.
async fn keep_asking(url: String, key: String) -> Result<u64, reqwest::Error> {
    const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_actions","arguments":{}}}"#;
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(20))
        .build()?;
    let mut whole = 0;
    loop {
        let sent = client
            .post(&url)
            .bearer_auth(&key)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(BODY)
            .send()
            .await;
        let Ok(answer) = sent else { return Ok(whole) };
        if answer.text().await?.contains("jsonrpc") {
            whole += 1;
        }
    }
}
