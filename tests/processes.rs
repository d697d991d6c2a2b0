//! Promises about the processes themselves: separate secrets, a clean end, nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_store::testing::{Role, Tamper};
use countersign_tests::scenarios::SOON;
use countersign_tests::stack::process::{Process, binary};
use countersign_tests::stack::{Options, Stack};

/// All that one process can know: its own folder, what its configuration names, the database, its
/// command line and its environment.
fn known_to(stack: &Stack, part: &str, process: u32) -> String {
    let folder = stack.path(part);
    let mut text = read_all(&folder) + &read_all(&stack.path("data"));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "toml") {
            let config = std::fs::read_to_string(path).unwrap();
            let named = config.split('"').skip(1).step_by(2);
            let files = named.map(|name| folder.join(name));
            for file in files.filter(|file| file.is_file()) {
                text.push_str(&std::fs::read_to_string(file).unwrap());
            }
        }
    }
    for what in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{process}/{what}")).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes).replace('\0', "\n"));
    }
    text
}

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

/// The account's token in a kubeconfig.
fn token_in(kubeconfig: &Path) -> String {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut lines = text.lines().map(str::trim);
    let token = lines.find_map(|line| line.strip_prefix("token: "));
    token.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_process_is_given_the_others_secrets() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    // One whole story, so that what they store and log is there to be searched.
    let cluster = &stack.cluster;
    let pod = cluster.deploy("shop", "safe", 2, 1, "ready").await.unwrap();
    let ai = stack.ai().await.unwrap();
    let asked = ai.restart("shop", &pod.name, "it fails").await.unwrap();
    let id = asked.str("action_id");
    stack.li().await.unwrap().approve(id, "go").await.unwrap();
    ai.until_state(id, "succeeded", SOON).await.unwrap();
    drop(ai);

    let file = |path: &str| std::fs::read_to_string(stack.path(path)).unwrap();
    let (executor_key, server_key) = (file("executor/executor.key"), file("server/server.key"));
    let executor_token = token_in(&cluster.executor_kubeconfig);
    let server_token = token_in(&cluster.server_kubeconfig);
    let jira = &stack.jira;
    let of_the_executor = [executor_key.trim(), &jira.executor.token, &executor_token];
    let of_the_server = [
        server_key.trim(),
        &jira.bot.token,
        &jira.webhook_secret,
        &server_token,
        &stack.secrets.webhook_secret,
    ];
    let id_of = |process: &Option<Process>| process.as_ref().unwrap().id().unwrap();
    let server = known_to(&stack, "server", id_of(&stack.server));
    let executor = known_to(&stack, "executor", id_of(&stack.executor));
    for (mine, secrets, other) in [
        (&executor, &of_the_executor[..], &server),
        (&server, &of_the_server[..], &executor),
    ] {
        for secret in secrets {
            assert!(
                secret.len() >= 16 && mine.contains(secret),
                "the check itself is blind"
            );
            assert!(!other.contains(secret), "the other process can read it");
        }
    }
    // And neither says any of them aloud.
    for log in ["server/log", "executor/log"] {
        let text = file(log);
        for secret in of_the_executor.iter().chain(&of_the_server) {
            assert!(!text.contains(secret), "{log} holds a secret");
        }
    }
    // Nor may the arguments, which everybody on the host reads, hold one of their own.
    for process in [&stack.server, &stack.executor] {
        let line = std::fs::read(format!("/proc/{}/cmdline", id_of(process))).unwrap();
        let line = String::from_utf8_lossy(&line);
        for secret in of_the_executor.iter().chain(&of_the_server) {
            assert!(!line.contains(secret), "{line}");
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
fn demo_leaves_nothing(mut demo: Command, signal: &str) {
    let mut demo = demo
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
        "omar ",
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

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

#[test]
fn ctrl_c_ends_the_demo_and_leaves_no_process() {
    demo_leaves_nothing(Command::new(DEMO), "-INT");
}

#[test]
fn killing_the_demo_leaves_no_process_either() {
    demo_leaves_nothing(Command::new(DEMO), "-KILL");
}

/// `cargo demo` is `xtask demo`: whoever stops that process stops the demo, and waits for its end.
#[test]
fn stopping_what_cargo_demo_runs_leaves_no_process() {
    let mut xtask = Command::new(binary("xtask").unwrap());
    xtask.arg("demo");
    // Everything is built already: a cargo that does nothing, and the folder that holds it.
    xtask.env("CARGO", "true");
    let target = Path::new(DEMO).ancestors().nth(2).unwrap();
    xtask.env("CARGO_TARGET_DIR", target);
    demo_leaves_nothing(xtask, "-TERM");
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
