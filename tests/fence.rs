//! The architecture as a test over `cargo metadata`: who may hold the dangerous capability, which
//! TLS stack there is, and that pure stays pure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Of this platform only: crates for others are not downloaded where nothing was built for them.
fn metadata() -> Value {
    let told = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", host.unwrap()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Direct dependencies of each workspace member, development ones left out.
fn direct() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), dependencies)
        })
        .collect()
}

fn users_of(name: &str) -> Vec<String> {
    direct()
        .into_iter()
        .filter(|(_, dependencies)| dependencies.contains(name))
        .map(|(package, _)| package)
        .collect()
}

/// Each crate of the workspace, and those of it that it may use outside its own tests.
const EDGES: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("control-plane", &[]),
    ("domain", &[]),
    ("executor", SHARED),
    ("integrations", &["domain"]),
    ("listener", &[]),
    ("playground", &[]),
    ("server", SHARED),
    ("store", &["domain"]),
    ("telemetry", &[]),
    (
        "tests",
        &["control-plane", "domain", "integrations", "store"],
    ),
    ("xtask", &[]),
];

/// What the two programs share.
const SHARED: &[&str] = &[
    "config",
    "domain",
    "integrations",
    "listener",
    "store",
    "telemetry",
];

#[test]
fn dependencies_between_our_crates_go_one_way() {
    let direct = direct();
    let short = |name: &String| name.trim_start_matches("countersign-").to_owned();
    let found: BTreeMap<String, Vec<String>> = direct
        .iter()
        .map(|(package, dependencies)| {
            let ours = dependencies
                .iter()
                .filter(|name| direct.contains_key(*name));
            (short(package), ours.map(short).collect())
        })
        .collect();
    let allowed = EDGES.iter().map(|(package, dependencies)| {
        let dependencies = dependencies.iter().map(|name| (*name).to_owned());
        ((*package).to_owned(), dependencies.collect())
    });
    assert_eq!(found, allowed.collect::<BTreeMap<_, _>>());
}

#[test]
fn only_reader_and_executor_and_the_test_cluster_know_kubernetes() {
    assert_eq!(
        users_of("kube"),
        [
            "countersign-control-plane",
            "countersign-executor",
            "countersign-integrations"
        ]
    );
    let users = users_of("k8s-openapi");
    assert!(
        users.iter().all(|user| users_of("kube").contains(user)),
        "{users:?}"
    );
}

#[test]
fn only_the_store_speaks_sql() {
    assert_eq!(users_of("sqlx"), ["countersign-store"]);
}

#[test]
fn nothing_can_import_the_executor() {
    assert!(users_of("countersign-executor").is_empty());
    let metadata = metadata();
    let executor = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == "countersign-executor")
        .unwrap();
    for target in executor["targets"].as_array().unwrap() {
        let kinds = target["kind"].as_array().unwrap();
        assert!(
            kinds.iter().all(|kind| kind != "lib" && kind != "rlib"),
            "the executor must stay without a library target"
        );
    }
}

#[test]
fn the_domain_is_pure() {
    let dependencies = direct().remove("countersign-domain").unwrap();
    for impure in [
        "tokio", "sqlx", "axum", "kube", "reqwest", "tracing", "hyper", "futures",
    ] {
        assert!(!dependencies.contains(impure), "domain depends on {impure}");
    }
}

#[test]
fn there_is_one_tls_stack() {
    // The lock file itself: also what is for other platforms.
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let lock = lock.unwrap();
    let names: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \""))
        .map(|rest| rest.trim_end_matches('"'))
        .collect();
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!names.contains(other), "{other} is in the lock file");
    }
    assert!(names.contains("ring"));
}

#[test]
fn the_websocket_feature_of_kube_stays_off() {
    // exec and attach are GETs: a read-only client must not be able to upgrade a connection.
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let kube = nodes
        .iter()
        .find(|node| {
            node["id"]
                .as_str()
                .is_some_and(|id| id.contains("#kube-client@"))
        })
        .unwrap();
    let features = kube["features"].as_array().unwrap();
    assert!(
        features.iter().all(|feature| feature != "ws"),
        "{features:?}"
    );
}
