//! The binary as the demo starts it: one line when ready, files of mode 0600, no process left.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

fn command(what: &str, dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign-playground"));
    command
        .args([what, "--exit-with-parent", "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn ready(child: &mut Child) -> Value {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
    let read = stdout.read_line(&mut line);
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap()
        .unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn says_ready_and_ends_with_its_parent() {
    for what in ["cluster", "jira"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = command(what, dir.path()).spawn().unwrap();
        let ready = ready(&mut child).await;
        assert_eq!(ready["ready"], true);
        assert!(
            ready["url"]
                .as_str()
                .unwrap()
                .starts_with("http://127.0.0.1:")
        );
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(child.stdin.take());
        let ended = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        assert!(
            ended
                .expect("it ends when its standard input closes")
                .unwrap()
                .success()
        );
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_public_address_are_refused_with_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (listen, why) in [
        (taken.local_addr().unwrap().to_string(), "cannot listen on"),
        ("0.0.0.0:0".to_owned(), "not a loopback address"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = command("jira", dir.path())
            .args(["--listen", &listen])
            .output()
            .await
            .unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(why));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
