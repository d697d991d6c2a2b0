//! `countersign up` with the real server, a simulated cluster, and a stand-in for the executor that
//! only stays: what is supervised, printed, kept private and ended.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign_domain::{OsEntropy, Signer};
use countersign_playground::cluster;
use serde_json::{Value, json};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our binary beside a stand-in executor, as an installation would have them.
fn install(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let countersign = bin.join("countersign");
    std::fs::copy(env!("CARGO_BIN_EXE_countersign"), &countersign).unwrap();
    let executor = bin.join("countersign-executor");
    std::fs::write(
        &executor,
        "#!/bin/sh\necho \"$@\" > ../executor-arguments\nexec cat\n",
    )
    .unwrap();
    std::fs::set_permissions(&executor, std::fs::Permissions::from_mode(0o755)).unwrap();
    countersign
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
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().canonicalize().unwrap();
    let options = cluster::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        dir: folder.join("playground"),
        seed: true,
    };
    let simulated = cluster::start(options).await.unwrap();
    let countersign = install(&folder);
    // The executor would write it.
    std::fs::create_dir_all(folder.join("data/public")).unwrap();
    let key = Signer::generate(&OsEntropy).public_text();
    std::fs::write(folder.join("data/public/executor.pub"), key).unwrap();

    let kubeconfig = simulated.admin_kubeconfig.canonicalize().unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&countersign);
        command
            .args(arguments)
            .current_dir(folder.join("bin"))
            .env("USER", "li o'neil");
        command.env("COUNTERSIGN__HTTP__LISTEN", "0.0.0.0:1");
        command
    };
    let data = folder.join("data");
    let up: Vec<&str> = vec![
        "up",
        "--port",
        "0",
        "--simulated",
        "--data-dir",
        data.to_str().unwrap(),
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
    ];
    let child = command(&up)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let output = child.0.stdout.take().unwrap();
    let printed = std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n")
    });
    let running: Value = until("up.json", || {
        serde_json::from_str(&std::fs::read_to_string(data.join("up.json")).ok()?).ok()
    });
    let url = running["url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && running["pid"] == child.0.id());

    // Folders are private, and neither configuration names the other's secrets.
    for name in ["client", "server", "executor", "database"] {
        let mode = std::fs::metadata(data.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    let executor = std::fs::read_to_string(data.join("executor/executor.toml")).unwrap();
    assert!(!executor.contains("sha256") && !executor.contains("server.key"));
    let arguments = until("the executor", || {
        std::fs::read_to_string(folder.join("executor-arguments"))
            .ok()
            .filter(|t| !t.is_empty())
    });
    assert!(arguments.contains("run --config") && arguments.contains("--exit-with-parent"));

    // A second one says where the first one is.
    let second = command(&up).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains(url), "{told}");

    // The bridge finds it.
    let bridge = command(&["stdio", "--data-dir", data.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut bridge = Running(bridge.unwrap());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "list_failing_pods", "arguments": {},
    }});
    writeln!(bridge.0.stdin.take().unwrap(), "{call}").unwrap();
    let mut line = String::new();
    BufReader::new(bridge.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        answer["result"]["structuredContent"]["simulated"], true,
        "{line}"
    );

    let told = Command::new("kill")
        .args(["-INT", &child.0.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    let status = until("the end", || child.0.try_wait().unwrap());
    assert!(status.success());
    assert!(!data.join("up.json").exists());
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
    let key = std::fs::read_to_string(data.join("client/api-key")).unwrap();
    assert!(
        !printed.contains(key.trim()),
        "the key is named by its file"
    );
    // The server went too: nobody listens there any more.
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    assert!(std::net::TcpStream::connect(address).is_err());
    simulated.server.stop().await;
}
