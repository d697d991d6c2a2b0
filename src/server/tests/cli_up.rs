//! `countersign up` with the real server, a simulated cluster, and a stand-in for the executor that
//! only stays: what is supervised, printed, kept private and ended.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign_domain::{Clock as _, OsEntropy, Signer, SystemClock};
use countersign_playground::cluster;
use countersign_store::{Database, OpenOptions, Session};
use jiff::SignedDuration;
use serde_json::{Value, json};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulated cluster, and our binary beside a stand-in executor, as an installation would have them.
struct Stage {
    folder: PathBuf,
    kubeconfig: PathBuf,
    simulated: cluster::Started,
    _place: tempfile::TempDir,
}

impl Stage {
    /// The stand-in executor does this until its standard input ends.
    async fn new(executor: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().canonicalize().unwrap();
        let options = cluster::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: folder.join("playground"),
            seed: true,
        };
        let simulated = cluster::start(options).await.unwrap();
        let bin = folder.join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_countersign"), bin.join("countersign")).unwrap();
        let program = bin.join("countersign-executor");
        std::fs::write(&program, format!("#!/bin/sh\n{executor}\n")).unwrap();
        private(&program);
        // The executor would write its public key.
        std::fs::create_dir_all(folder.join("data/public")).unwrap();
        private(&folder.join("data"));
        let key = Signer::generate(&OsEntropy).public_text();
        std::fs::write(folder.join("data/public/executor.pub"), key).unwrap();
        Self {
            kubeconfig: simulated.admin_kubeconfig.canonicalize().unwrap(),
            folder,
            simulated,
            _place: place,
        }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join("bin/countersign"));
        command
            .args(arguments)
            .args(["--data-dir", self.data("").to_str().unwrap()])
            .current_dir(self.folder.join("bin"))
            .env("USER", "li o'neil");
        command.env("COUNTERSIGN__HTTP__LISTEN", "0.0.0.0:1");
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn up(&self) -> Command {
        let mut command = self.command(&["up", "--port", "0", "--simulated"]);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.stdin(Stdio::null());
        command
    }

    /// What `up.json` says, once it is there.
    fn running(&self) -> Value {
        until("up.json", || {
            serde_json::from_str(&std::fs::read_to_string(self.data("up.json")).ok()?).ok()
        })
    }

    /// One call through the bridge.
    fn ask(&self, tool: &str, arguments: &Value) -> Value {
        let bridge = self
            .command(&["stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut bridge = Running(bridge.unwrap());
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments,
        }});
        writeln!(bridge.0.stdin.take().unwrap(), "{call}").unwrap();
        let mut line = String::new();
        BufReader::new(bridge.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The bridge finds nobody to forward a proposal to, and says so itself.
    fn nobody_is_asked(&self) {
        let proposal = json!({"namespace": "shop", "pod": "web-1", "reason": "loops"});
        let answer = self.ask("restart_pod", &proposal);
        let told = answer["result"]["content"][0]["text"].to_string();
        assert!(told.contains("ask your user to run"), "{answer}");
    }
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn interrupt(child: &Running) {
    let told = Command::new("kill")
        .args(["-INT", &child.0.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
}

/// The host and port of an address.
fn port_of(running: &Value) -> String {
    let url = running["url"].as_str().unwrap();
    url.trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned()
}

/// Another user of this machine, who took a port. Sends everybody away who comes.
struct Somebody {
    address: String,
    visits: Arc<AtomicUsize>,
}

/// Kills the server that this `up` runs.
fn kill_server(up: u32) {
    // Each thread has children of its own.
    let threads = std::fs::read_dir(format!("/proc/{up}/task")).unwrap();
    let children: Vec<String> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .collect();
    let children = children.join(" ");
    let server = children.split_whitespace().find(|child| {
        std::fs::read_to_string(format!("/proc/{child}/cmdline"))
            .is_ok_and(|line| line.contains("--ready-json"))
    });
    let status = Command::new("kill")
        .args(["-KILL", server.unwrap()])
        .status();
    assert!(status.unwrap().success());
}

impl Somebody {
    fn at(address: &str) -> Self {
        let listener = until("the port is free", || TcpListener::bind(address).ok());
        let address = listener.local_addr().unwrap().to_string();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        std::thread::spawn(move || {
            for visit in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                drop(visit);
            }
        });
        Self { address, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_supervises_tells_and_ends_both() {
    let stage = Stage::new("echo \"$@\" > ../executor-arguments\nexec cat").await;
    let child = stage.up().stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Running(child);
    let output = child.0.stdout.take().unwrap();
    let printed = std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n")
    });
    let running = stage.running();
    let url = running["url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && running["pid"] == child.0.id());

    // Folders are private, and neither configuration names the other's secrets.
    for name in ["client", "server", "executor", "database"] {
        let mode = std::fs::metadata(stage.data(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    let executor = std::fs::read_to_string(stage.data("executor/executor.toml")).unwrap();
    assert!(!executor.contains("sha256") && !executor.contains("server.key"));
    let arguments = until("the executor", || {
        std::fs::read_to_string(stage.folder.join("executor-arguments"))
            .ok()
            .filter(|t| !t.is_empty())
    });
    assert!(arguments.contains("run --config") && arguments.contains("--exit-with-parent"));

    // A second one says where the first one is.
    let second = stage.up().output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains(url), "{told}");

    // The bridge finds it.
    let answer = stage.ask("list_failing_pods", &json!({}));
    assert_eq!(
        answer["result"]["structuredContent"]["simulated"], true,
        "{answer}"
    );

    interrupt(&child);
    let status = until("the end", || child.0.try_wait().unwrap());
    assert!(status.success());
    assert!(!stage.data("up.json").exists());
    let printed = printed.join().unwrap();
    for want in [
        "Log-in     li-o-neil",
        "Password",
        "claude mcp add",
        "mcpServers",
        "(simulated)",
    ] {
        assert!(printed.contains(want), "{want}: {printed}");
    }
    let key = std::fs::read_to_string(stage.data("client/api-key")).unwrap();
    assert!(
        !printed.contains(key.trim()),
        "the key is named by its file"
    );
    // The server went too: nobody listens there any more.
    assert!(std::net::TcpStream::connect(port_of(&running)).is_err());
    stage.simulated.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_the_bridge_reads_the_cluster_of_the_kubeconfig() {
    let stage = Stage::new("exec cat").await;
    let answer = stage.ask("list_failing_pods", &json!({}));
    let body = &answer["result"]["structuredContent"];
    assert_eq!(body["source"], "live", "{answer}");
    assert!(
        body["pods_failing"].as_u64().is_some_and(|count| count > 0),
        "{answer}"
    );
    assert!(body["groups"][0]["names"][0].is_string(), "{answer}");
    // Nothing was started or kept for it.
    assert!(!stage.data("database").exists());
    stage.simulated.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_port_while_up_starts_is_not_sent_the_key() {
    let mut stage = Stage::new("exec cat").await;
    let somebody = Somebody::at("127.0.0.1:0");
    std::fs::create_dir(stage.data("client")).unwrap();
    std::fs::write(stage.data("client/api-key"), "cs_secret").unwrap();
    let key_file = stage.data("client/api-key");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("http://{}/", somebody.address);
    let stale = json!({
        "version": 1, "pid": 1, "url": url, "mcp_url": format!("{url}mcp"),
        "key_file": key_file, "context": "c",
    });
    std::fs::write(stage.data("up.json"), stale.to_string()).unwrap();
    // An API server that takes connections and answers none.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
        slow.local_addr().unwrap()
    );
    stage.kubeconfig = stage.folder.join("slow.kubeconfig");
    std::fs::write(&stage.kubeconfig, config).unwrap();

    let mut child = Running(stage.up().spawn().unwrap());
    let waiting = slow.accept().unwrap();
    stage.nobody_is_asked();
    assert!(
        !stage.data("up.json").exists(),
        "it says nothing of this one"
    );
    assert!(
        child.0.try_wait().unwrap().is_none(),
        "it should still wait"
    );
    drop(waiting);
    assert_eq!(somebody.visits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_port_of_a_server_that_ended_is_not_sent_the_key() {
    // It ends when the test says so: `up` waits for it long after the server is gone.
    let executor = "cat\nwhile [ -e countersign -a ! -e ../may-end ]; do sleep 0.1; done";
    let stage = Stage::new(executor).await;
    let mut child = Running(stage.up().stdout(Stdio::null()).spawn().unwrap());
    let running = stage.running();
    let database = format!(
        "sqlite://{}",
        stage.data("database/countersign.db").display()
    );
    let database = Database::open(&database, OpenOptions::default())
        .await
        .unwrap();
    let now = SystemClock.now();
    let session = Session {
        token_hash: "a".into(),
        person: "li-o-neil".into(),
        csrf: "c".into(),
        created_at: now,
        expires_at: now + SignedDuration::from_hours(12),
    };
    database.server().session_create(&session).await.unwrap();

    // The server is killed. It comes again, on another port, and no old cookie opens it.
    kill_server(child.0.id());
    let first = Somebody::at(&port_of(&running));
    stage.nobody_is_asked();
    let again = until("a new server", || {
        let again = stage.running();
        (again["url"] != running["url"]).then_some(again)
    });
    let answer = stage.ask("list_failing_pods", &json!({}));
    assert_eq!(
        answer["result"]["structuredContent"]["simulated"], true,
        "{answer}"
    );
    let left = database.server().session_get("a", now).await.unwrap();
    assert!(left.is_none(), "{left:?}");

    // `up` is told to stop: its server is gone first.
    interrupt(&child);
    let second = Somebody::at(&port_of(&again));
    stage.nobody_is_asked();
    assert!(!stage.data("up.json").exists());
    assert!(
        child.0.try_wait().unwrap().is_none(),
        "the executor has not ended"
    );
    std::fs::write(stage.folder.join("may-end"), "").unwrap();
    assert!(until("the end", || child.0.try_wait().unwrap()).success());
    assert_eq!((first.visits(), second.visits()), (0, 0));
    stage.simulated.server.stop().await;
}
