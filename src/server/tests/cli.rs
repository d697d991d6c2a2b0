//! The command line as a person meets it: the real binary, real exit codes, real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign_domain::{Code, OsEntropy, Signer, StateName};
use serde_json::{Value, json};

const POLICY: &str = r#"
[[rule]]
name = "shop"
actions = ["restart_pod"]
clusters = ["*"]
namespaces = ["shop"]
risk = "low"
require = [{ group = "sre", count = 1, tier = 1, channels = ["web"] }]
decide_within = "15m"
execute_within = "5m"
"#;

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with a configuration that can be used.
    fn new(more: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let database = format!("sqlite://{}", place.0.path().join("d.db").display());
        let text = format!(
            "policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{database}\"\n\
             [keys]\nfile = \"keys/server.key\"\npublic_file = \"public/server.pub\"\n\
             executor_public_key_file = \"executor.pub\"\n{more}\n"
        );
        place.write("server.toml", &text);
        place.write("policy.toml", POLICY);
        place.write(
            "registry.toml",
            "[[person]]\nid = \"li\"\ngroups = [\"sre\"]\n",
        );
        place.write("executor.pub", &Signer::generate(&OsEntropy).public_text());
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    /// The data folder of `up`, with the key of a client. Gives the key's file.
    fn data_folder(&self, key: &str) -> PathBuf {
        let data = self.0.path().join("data");
        std::fs::create_dir_all(data.join("client")).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        let key_file = data.join("client/api-key");
        std::fs::write(&key_file, key).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        key_file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).current_dir(self.0.path());
        command
            .env("HOME", self.0.path())
            .env_remove("KUBECONFIG")
            .env_remove("XDG_DATA_HOME");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must fail, and gives what it says.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("panicked"), "{told}");
        told
    }
}

/// Ends the process whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn ended(&mut self, within: Duration) -> std::process::ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unknown_words_get_the_nearest_real_one() {
    let place = Place::new("");
    assert!(place.refused(&["serv"]).contains("'serve'"));
    assert!(
        place
            .refused(&["serve", "--confg", "x"])
            .contains("--config")
    );
    place.write(
        "server.toml",
        &place
            .read("server.toml")
            .replace("registry_file", "registy_file"),
    );
    let told = place.refused(&["config", "check", "--config", "server.toml"]);
    assert!(told.contains("did you mean `registry_file`?"), "{told}");
}

#[test]
fn the_sample_can_be_used() {
    let place = Place::new("");
    place.write("server.toml", include_str!("../sample.toml"));
    let output = place.run(&["config", "check", "--config", "server.toml"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said(&output).contains("the agent `claude`, which is not in the registry"));
}

#[test]
fn a_usable_configuration_is_called_so_and_mistakes_are_one_sentence() {
    let place = Place::new("");
    let output = place.run(&["config", "check", "--config", "server.toml"]);
    assert!(output.status.success() && said(&output).contains("can be used"));
    assert!(said(&output).contains("no `[[cluster]]` is configured"));
    let good = place.read("server.toml");
    let check = ["config", "check", "--config", "server.toml"];
    for (from, to, want) in [
        ("127.0.0.1:0", "0.0.0.0:0", "`external_url` is missing"),
        ("policy.toml", "nowhere.toml", "cannot read the policy file"),
        (
            "[keys]",
            "[[api_key]]\nname = \"a\"\nagent = \"b\"\nsha256 = \"x\"\n[keys]",
            "64 hex",
        ),
        (
            "[keys]",
            "[[account]]\nperson = \"li\"\npassword_hash = \"plain\"\n[keys]",
            "Argon2",
        ),
        (
            "policy_file",
            "external_url = \"https://x.example/sub\"\npolicy_file",
            "has a path",
        ),
        (
            "[keys]",
            "[[cluster]]\nid = \"a\"\n[[cluster]]\nid = \"a\"\n[keys]",
            "stands twice",
        ),
        (
            "127.0.0.1:0",
            "127.0.0.1:0\"\ntrusted_proxies = [\"10.0.0.0/33\"] # ",
            "no network: use one such as",
        ),
        (
            "127.0.0.1:0",
            "127.0.0.1:0\"\nconnections = 1 # ",
            "from 16 to 100000",
        ),
    ] {
        assert!(good.contains(from));
        place.write("server.toml", &good.replacen(from, to, 1));
        let told = place.refused(&check);
        assert!(told.contains(want), "{to}: {told}");
    }
    // Behind a proxy that nobody named, all log-ins come from one address.
    let tls = "external_url = \"https://x.example\"\npolicy_file";
    let tls = good.replacen("policy_file", tls, 1);
    let named = "127.0.0.1:0\"\ntrusted_proxies = [\"10.0.0.7\"] # ";
    for (text, warned) in [
        (&tls, true),
        (&tls.replacen("127.0.0.1:0", named, 1), false),
    ] {
        place.write("server.toml", text);
        let told = said(&place.run(&check));
        assert!(told.contains("can be used"), "{told}");
        assert_eq!(told.contains("`http.trusted_proxies` is empty"), warned);
    }
}

#[test]
fn the_policy_is_checked_against_the_registry() {
    let place = Place::new("");
    let output = place.run(&[
        "policy",
        "check",
        "policy.toml",
        "--registry",
        "registry.toml",
    ]);
    assert!(output.status.success());
    assert!(said(&output).contains("whoever steals the server"));
    place.write("policy.toml", &POLICY.replace("count = 1", "count = 2"));
    let told = place.refused(&[
        "policy",
        "check",
        "policy.toml",
        "--registry",
        "registry.toml",
    ]);
    assert!(
        told.contains("needs 2 of group `sre`, which has 1"),
        "{told}"
    );
}

#[test]
fn keys_and_passwords_are_made_to_be_pasted() {
    let place = Place::new("");
    let output = place.run(&["api-key", "new", "--name", "laptop", "--agent", "claude"]);
    let said = said(&output);
    let (key, toml) = said.split_once('\n').unwrap();
    assert!(key.starts_with("cs_") && key.len() == 46);
    let hash = countersign_server::mcp::auth::hash_of(key);
    assert!(toml.contains(&format!("sha256 = \"{hash}\"")));
    assert!(!toml.contains(key));
    place.write("server.toml", &(place.read("server.toml") + toml));
    assert!(
        place
            .run(&["config", "check", "--config", "server.toml"])
            .status
            .success()
    );

    let mut child = place
        .command(&["approvers", "hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("$argon2id$"));
    assert!(
        place
            .refused(&["approvers", "hash-password"])
            .contains("8 characters")
    );
}

#[test]
fn a_port_in_use_is_said_and_nothing_is_half_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new("");
    place.write(
        "server.toml",
        &place.read("server.toml").replace("127.0.0.1:0", &address),
    );
    let told = place.refused(&["serve", "--config", "server.toml"]);
    assert!(told.contains(&format!("{address} is in use")), "{told}");
    for made in ["d.db", "keys", "public"] {
        assert!(!place.has(made), "{made}");
    }
}

#[test]
fn a_database_that_cannot_be_used_is_said() {
    let place = Place::new("");
    place.write(
        "d.db",
        "this is not a database, it is a text of some length",
    );
    let told = place.refused(&["serve", "--config", "server.toml"]);
    assert!(told.contains("database"), "{told}");
    assert!(!place.has("keys"));
    let place = Place::new("[limits]\n");
    let text = place.read("server.toml");
    place.write("server.toml", &text.replace("sqlite://", "mysql://"));
    let told = place.refused(&["migrate", "--config", "server.toml"]);
    assert!(told.contains("sqlite:///path/to/file.db"), "{told}");
}

fn serve(place: &Place) -> (Running, String) {
    let mut child = place
        .command(&[
            "serve",
            "--config",
            "server.toml",
            "--exit-with-parent",
            "--ready-json",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["ready"], true);
    (Running(child), ready["url"].as_str().unwrap().to_owned())
}

#[test]
fn a_server_says_when_it_is_ready_and_ends_with_its_parent() {
    let place = Place::new("");
    let (mut server, url) = serve(&place);
    let key = std::fs::metadata(place.0.path().join("keys/server.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert!(
        place
            .read("public/server.pub")
            .starts_with("countersign-public-key-v1 ")
    );
    assert!(place.run(&["healthcheck", "--url", &url]).status.success());
    drop(server.0.stdin.take());
    assert!(server.ended(Duration::from_secs(15)).success());
    assert!(
        place
            .refused(&["healthcheck", "--url", &url])
            .contains("does not answer")
    );
}

/// Writes lines to `countersign stdio` and gives the answers by id.
fn talk(place: &Place, lines: &[Value]) -> Vec<Value> {
    let mut child = place
        .command(&["stdio", "--data-dir", "data"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let _child = Running(child);
    let mut answers = Vec::new();
    for line in lines {
        writeln!(input, "{line}").unwrap();
        if line.get("id").is_some() {
            let answer = output.next().unwrap().unwrap();
            answers.push(serde_json::from_str(&answer).unwrap());
        }
    }
    drop(input);
    assert!(output.next().is_none(), "STDOUT carries MCP only");
    answers
}

fn conversation(pod: &str) -> Vec<Value> {
    vec![
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
        json!({"jsonrpc": "2.0", "id": "three", "method": "tools/call", "params": {
            "name": "restart_pod",
            "arguments": {"namespace": "shop", "pod": pod, "reason": "loops"},
        }}),
    ]
}

#[test]
fn the_bridge_alone_lists_tools_and_says_what_proposals_need() {
    let place = Place::new("");
    let answers = talk(&place, &conversation("web-1"));
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "countersign");
    assert_eq!(
        answers[1]["result"]["tools"].as_array().unwrap().len(),
        countersign_server::mcp::tools::ToolName::ALL.len()
    );
    assert_eq!(answers[2]["id"], "three");
    assert_eq!(answers[2]["result"]["isError"], true);
    assert!(
        answers[2]["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("countersign up")
    );
}

#[test]
fn the_bridge_forwards_to_a_running_server_and_two_of_them_are_fine() {
    let key = "cs_bridge-test-key";
    let hash = countersign_server::mcp::auth::hash_of(key);
    let place = Place::new(&format!(
        "[[api_key]]\nname = \"w\"\nagent = \"assistant\"\nsha256 = \"{hash}\"\n\
         [[cluster]]\nid = \"c\"\nkubeconfig = \"none\"\n"
    ));
    place.data_folder(key);
    let config = place.read("server.toml");
    let socket = "[http]\nsocket = \"data/mcp.sock\"\n";
    place.write("server.toml", &config.replace("[http]\n", socket));
    // One that was killed leaves its socket; the next one takes its place.
    let (mut killed, _) = serve(&place);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    let (_server, url) = serve(&place);
    let socket = place.0.path().join("data/mcp.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = place.refused(&["serve", "--config", "server.toml"]);
    assert!(second.contains("mcp.sock is in use"), "{second}");
    assert!(place.run(&["healthcheck", "--url", &url]).status.success());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let answers = talk(&place, &conversation("web-1"));
                let told = answers[2]["result"]["content"][0]["text"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                assert!(
                    told.contains("`assistant` of this key is not in the registry"),
                    "{told}"
                );
            });
        }
    });
}

#[test]
fn the_bridge_sends_its_key_nowhere_once_up_is_gone() {
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    somebody.set_nonblocking(true).unwrap();
    let url = format!("http://{}", somebody.local_addr().unwrap());
    let place = Place::new("");
    let key_file = place.data_folder("cs_secret");
    // Left behind by an end that nobody could clean up after.
    let running = json!({
        "version": 1, "pid": 1, "url": format!("{url}/"), "mcp_url": format!("{url}/mcp"),
        "key_file": key_file, "context": "c",
    });
    place.write("data/up.json", &running.to_string());
    place.write("data/up.lock", "");
    let socket = place.0.path().join("data/mcp.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let answers = talk(&place, &conversation("web-1"));
    let told = answers[2]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("countersign up"), "{told}");
    let visit = somebody.accept().map(drop).unwrap_err();
    assert_eq!(visit.kind(), std::io::ErrorKind::WouldBlock);
}

/// Whoever can put a socket into the folder could answer there.
#[test]
fn a_data_folder_into_which_others_can_write_is_not_used() {
    let place = Place::new("");
    place.data_folder("cs_secret");
    let data = place.0.path().join("data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o770)).unwrap();
    place.write("kc", "current-context: a\ncontexts: [{name: a}]\n");
    for arguments in [
        &["up", "--data-dir", "data", "--kubeconfig", "kc"][..],
        &["stdio", "--data-dir", "data"],
    ] {
        let told = place.refused(arguments);
        assert!(told.contains("mode 770): chmod 700 it"), "{told}");
    }
}

#[test]
fn up_says_what_is_missing() {
    let place = Place::new("");
    let told = place.refused(&["up", "--data-dir", "data"]);
    assert!(told.contains("no kubeconfig was found"), "{told}");
    assert!(!place.has("data"));
    place.write(
        "kc",
        "current-context: a\ncontexts: [{name: a}, {name: b}]\n",
    );
    let told = place.refused(&[
        "up",
        "--data-dir",
        "data",
        "--kubeconfig",
        "kc",
        "--context",
        "c",
    ]);
    assert!(told.contains("no context `c`"), "{told}");
    assert!(Path::new(env!("CARGO_BIN_EXE_countersign")).is_file());
}

/// Operators look words up: what a program can say or read must stand in the manual.
#[test]
fn the_manual_names_every_state_code_metric_and_key() {
    let manual = include_str!("../../../docs/operating.md");
    let mut words: Vec<String> = Vec::new();
    words.extend(StateName::ALL.iter().map(|state| state.to_string()));
    words.extend(Code::ALL.iter().map(|code| code.to_string()));
    words.push(countersign_server::evidence::UNSIGNED.to_owned());
    let metrics = include_str!("../../telemetry/src/metric.rs").split('"');
    words.extend(
        metrics
            .filter(|text| text.starts_with("countersign_"))
            .map(str::to_owned),
    );
    for word in words {
        assert!(manual.contains(&format!("`{word}`")), "{word} is missing");
    }
    for sample in [
        include_str!("../sample.toml"),
        include_str!("../../executor/sample.toml"),
    ] {
        for line in sample.lines() {
            let line = line.trim_start_matches("# ");
            let Some((key, _)) = line.split_once(" = ") else {
                continue;
            };
            if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                let known = [format!("`{key}`"), format!(".{key}`")];
                let known = known.iter().any(|word| manual.contains(word));
                assert!(known, "the key {key} is missing");
            }
        }
    }
}
