//! Starting, interrupting and ending a control plane; nothing may be left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign_control_plane::{ControlPlane, Options, eventually};

/// Set for the copy of this test binary that is to be killed.
const VICTIM: &str = "CONTROL_PLANE_TEST_VICTIM";

fn bare() -> Options {
    Options {
        controllers: false,
        ..Options::default()
    }
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

const NAMESPACE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n";
const CONFIG_MAP: &str = "/api/v1/namespaces/default/configmaps/kept";

#[tokio::test]
async fn stop_leaves_no_process_and_no_file() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let (folder, processes) = (plane.folder().to_owned(), plane.process_ids());
    assert_eq!(processes.len(), 4);
    assert!(processes.iter().all(|&process| is_running(process)));
    plane.stop();
    assert!(!processes.iter().any(|&process| is_running(process)));
    assert!(!folder.exists());
}

#[tokio::test]
async fn no_process_survives_a_killed_parent() {
    if std::env::var_os(VICTIM).is_some() {
        let plane = ControlPlane::start(bare()).await.unwrap();
        // Not through the test harness, which would keep it.
        let line = format!("{:?} {}\n", plane.process_ids(), plane.folder().display());
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        std::future::pending::<()>().await;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_process_survives_a_killed_parent"])
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with('['))
        .unwrap();
    let (processes, folder) = line[1..].split_once("] ").unwrap();
    let processes: Vec<u32> = processes
        .split(", ")
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(processes.len(), 2);
    assert!(processes.iter().all(|&process| is_running(process)));

    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually(
        Duration::from_secs(10),
        "the children died with it",
        async || Ok((!processes.iter().any(|&process| is_running(process))).then_some(())),
    )
    .await
    .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_restart_keeps_address_and_data() {
    let plane = ControlPlane::start(bare()).await.unwrap();
    plane.apply_yaml(NAMESPACE).await.unwrap();
    let api = plane.admin().await.unwrap();
    assert_eq!(api.get(CONFIG_MAP).await.unwrap().status, 200);

    plane.kill_api_server();
    assert!(
        api.get(CONFIG_MAP).await.is_err(),
        "a killed API server answered"
    );

    plane.restart_api_server().await.unwrap();
    let stored = api.get(CONFIG_MAP).await.unwrap().success().unwrap();
    assert_eq!(stored["data"]["a"], "b");
}

#[tokio::test]
async fn a_frozen_api_server_answers_after_the_thaw() {
    let plane = ControlPlane::start(bare()).await.unwrap();
    plane.apply_yaml(NAMESPACE).await.unwrap();
    let api = plane.admin().await.unwrap();
    plane.freeze_api_server().unwrap();
    let call = api.get(CONFIG_MAP);
    tokio::pin!(call);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut call).await;
    assert!(early.is_err(), "a frozen API server answered");
    plane.thaw_api_server().unwrap();
    assert_eq!(call.await.unwrap().status, 200);
}
