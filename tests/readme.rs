//! The README's command blocks, run. A command that nothing here knows fails the test: what the
//! README says must have been seen working.
//!
//! Not run are `cargo demo` and `cargo xtask test`, which have tests of their own or are what runs this
//! one, and `cargo install`: the programs are those that were built for the tests, which saves
//! minutes. `kubectl create namespace`, `createdb` and `psql -f` do the same over the API or as SQL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use countersign_store::testing::Role;
use countersign_tests::stack::cluster::Cluster;
use countersign_tests::stack::person::Person;
use countersign_tests::stack::process::Process;
use countersign_tests::stack::{
    ClusterKind, Engine, Options, Stack, free_port, private_file, process,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Every command line of the `sh` blocks, in order.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    text.split("```sh\n")
        .skip(1)
        .flat_map(|rest| rest.split("```").next().unwrap().lines().map(str::to_owned))
        .collect()
}

struct Workstation {
    cluster: Cluster,
    home: tempfile::TempDir,
    /// Address, name and password as `up` prints them.
    printed: Option<(String, String, String)>,
    up: Option<Child>,
}

impl Workstation {
    fn command(&self, words: &[&str]) -> Command {
        assert_eq!(words[0], "countersign");
        let mut command = Command::new(process::binary("countersign").unwrap());
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("USER", "ann")
            .env("KUBECONFIG", self.cluster.admin_kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn up(&mut self, words: &[&str]) {
        let port = free_port().unwrap().to_string();
        let mut command = self.command(words);
        let mut child = command.args(["--port", &port]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = |label: &str, line: &str, into: &mut String| {
            if let Some(rest) = line.strip_prefix(label) {
                *into = rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let (mut url, mut person, mut password) = Default::default();
        let limit = Duration::from_secs(60);
        while let Some(line) = tokio::time::timeout(limit, lines.next_line())
            .await
            .unwrap()
            .unwrap()
        {
            found("Pages", &line, &mut url);
            found("Log-in", &line, &mut person);
            found("Password", &line, &mut password);
            if line.contains("Ctrl-C ends") {
                break;
            }
        }
        self.printed = Some((url, person, password));
        self.up = Some(child);
    }

    /// What the AI client would start: asks for a restart, and sees it through with the person.
    async fn mcp(&self, words: &[&str]) {
        let pod = self
            .cluster
            .deploy("shop", "till", 2, 1, "ready")
            .await
            .unwrap();
        let mut child = self.command(words).spawn().unwrap();
        let mut pipe = Pipe {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            id: 0,
        };
        let client = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "readme", "version": "1"},
        });
        pipe.call("initialize", client).await;
        pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        let arguments = json!({"namespace": "shop", "pod": pod.name, "reason": "from the README"});
        let asked = pipe
            .call(
                "tools/call",
                json!({"name": "restart_pod", "arguments": arguments}),
            )
            .await;
        let id = asked["structuredContent"]["action_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let state = pipe.until(&id, |state| state != "checking").await;
        assert_eq!(state, "pending", "{asked}");

        let (url, person, password) = self.printed.as_ref().unwrap();
        let ann = Person::log_in(url, person, password).await.unwrap();
        ann.approve(&id, "my own AI asked").await.unwrap();
        let end = pipe
            .until(&id, |state| {
                !["pending", "approved", "executing"].contains(&state)
            })
            .await;
        assert_eq!(end, "succeeded");
        let pods = self.cluster.pods("shop", "till").await.unwrap();
        assert!(
            pods.iter().all(|now| now.uid != pod.uid && now.ready),
            "{pods:?}"
        );
    }
}

/// The shared service: two programs and PostgreSQL.
struct Service {
    stack: Stack,
}

impl Service {
    /// What somebody who followed docs/operating.md has before the first command: configurations, each
    /// beside the addresses of its roles.
    async fn new() -> Self {
        let options = Options {
            engine: Engine::Postgres,
            ..Options::default()
        };
        let stack = Stack::prepare(options, |_| ()).await.unwrap();
        let roles = [
            ("server/migrator-url", Role::Migrator),
            ("server/server-url", Role::Server),
            ("executor/executor-url", Role::Executor),
        ];
        for (file, role) in roles {
            private_file(&stack.path(file), &stack.database_url(role)).unwrap();
        }
        for (from, to, role) in [
            (
                "server/countersign.toml",
                "server/server.toml",
                Role::Server,
            ),
            (
                "executor/executor.toml",
                "executor/executor.toml",
                Role::Executor,
            ),
        ] {
            let text = std::fs::read_to_string(stack.path(from)).unwrap();
            let inline = format!("url = \"{}\"", stack.database_url(role));
            assert!(text.contains(&inline));
            let part = to.split('/').next().unwrap();
            let text = text.replace(&inline, &format!("url_file = \"{part}-url\""));
            private_file(&stack.path(to), &text).unwrap();
        }
        Self { stack }
    }

    async fn sql(&self, database: &str, text: &str) {
        let postgres = self.stack.postgres.as_ref().unwrap();
        postgres.execute(database, text).await.unwrap();
    }

    /// Starts one of the programs with these words, in the folder of its configuration.
    fn start(&self, words: &[&str], env: Option<(&str, &str)>) -> Process {
        let part = if words[0] == "countersign" {
            "server"
        } else {
            "executor"
        };
        let folder = self.stack.path(part);
        let configure = |command: &mut Command| {
            command.args(&words[1..]).envs(env).current_dir(&folder);
        };
        Process::start(words[0], words[0], configure, &folder.join("log")).unwrap()
    }

    /// Both run: one restart, from the question to the end.
    async fn works(mut self) {
        let stack = &mut self.stack;
        assert!(
            stack.server.is_some() && stack.executor.is_some(),
            "the README does not say how to start the service"
        );
        stack.until_ready(Duration::from_secs(60)).await.unwrap();
        let pod = stack.cluster.deploy("shop", "desk", 2, 1, "ready");
        let pod = pod.await.unwrap();
        let ai = stack.ai().await.unwrap();
        let asked = ai.restart("shop", &pod.name, "from the README").await;
        let id = asked.unwrap().str("action_id").to_owned();
        stack.li().await.unwrap().approve(&id, "go").await.unwrap();
        let within = Duration::from_secs(60);
        ai.until_state(&id, "succeeded", within).await.unwrap();
        drop(ai);
        stack.stop().await.unwrap();
    }
}

struct Pipe {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    id: u64,
}

impl Pipe {
    async fn send(&mut self, message: &Value) {
        self.stdin
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        loop {
            let line = tokio::time::timeout(Duration::from_secs(60), self.lines.next_line());
            let line = line.await.unwrap().unwrap().expect("the bridge ended");
            let message: Value = serde_json::from_str(&line).expect("stdout carries only MCP");
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    async fn until(&mut self, action: &str, fits: impl Fn(&str) -> bool) -> String {
        for _ in 0..60 {
            let arguments = json!({"action_id": action, "timeout_seconds": 2});
            let call = json!({"name": "wait_for_action", "arguments": arguments});
            let answer = self.call("tools/call", call).await;
            let state = answer["structuredContent"]["state"]
                .as_str()
                .unwrap()
                .to_owned();
            if fits(&state) {
                return state;
            }
        }
        panic!("nothing happened to {action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut station = Workstation {
        cluster: Cluster::start(ClusterKind::ControlPlane, folder.path())
            .await
            .unwrap(),
        home: tempfile::tempdir().unwrap(),
        printed: None,
        up: None,
    };
    let mut service = Service::new().await;
    let context = station.cluster.admin_context();
    for line in commands() {
        let line = line.replace("my-context", &context);
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let env = words[0].split_once('=');
        if env.is_some() {
            words.remove(0);
        }
        match words.as_slice() {
            // The one is run by tests/processes.rs, the other runs this very test.
            ["cargo", alias @ ("demo" | "xtask"), ..] => {
                let config = std::fs::read_to_string(format!("{ROOT}/.cargo/config.toml")).unwrap();
                assert!(config.contains(&format!("{alias} = ")), "no alias {alias}");
            }
            ["cargo", "install", "--path", path] => {
                assert!(
                    Path::new(ROOT).join(path).join("src/main.rs").is_file(),
                    "{path}"
                );
            }
            ["kubectl", "create", "namespace", name] => {
                let namespace =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                // The base that the test cluster starts with has it already.
                let reply = station
                    .cluster
                    .admin()
                    .post("/api/v1/namespaces", &namespace)
                    .await
                    .unwrap();
                assert!([201, 409].contains(&reply.status), "{}", reply.body);
            }
            ["countersign", "up", ..] => station.up(&words).await,
            ["claude", "mcp", "add", _, "--", command @ ..] => station.mcp(command).await,
            ["createdb", name] => {
                // The stack's own stands there already, with roles and schema.
                let drop = format!("DROP DATABASE IF EXISTS {name}");
                service.sql("postgres", &drop).await;
                let create = format!("CREATE DATABASE {name}");
                service.sql("postgres", &create).await;
            }
            ["psql", "-d", database, "-f", file] => {
                let text = std::fs::read_to_string(format!("{ROOT}/{file}")).unwrap();
                service.sql(database, &text).await;
            }
            ["countersign", "migrate", ..] => {
                let mut migrate = service.start(&words, env);
                let status = migrate.ended(Duration::from_secs(60)).await.unwrap();
                assert!(status.success(), "{line}: {}", migrate.last_words());
            }
            ["countersign", "serve", ..] => {
                service.stack.server = Some(service.start(&words, env));
            }
            ["countersign-executor", "run", ..] => {
                service.stack.executor = Some(service.start(&words, env));
            }
            _ => panic!("README.md has a command that no test runs: {line}"),
        }
    }
    assert!(
        station.printed.is_some(),
        "the README does not say how to start on a workstation"
    );
    let mut up = station.up.take().unwrap();
    let id = up.id().unwrap().to_string();
    Command::new("kill")
        .args(["-INT", &id])
        .status()
        .await
        .unwrap();
    assert!(up.wait().await.unwrap().success());
    service.works().await;
}
