//! The architecture as a test over `cargo metadata`: who may hold the dangerous capability, which
//! TLS stack there is, and that pure stays pure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
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
                .filter(|dependency| dependency["kind"].is_null())
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
fn nothing_in_the_product_depends_on_test_parts() {
    let direct = direct();
    for part in [
        "domain",
        "store",
        "integrations",
        "config",
        "telemetry",
        "listener",
        "server",
        "executor",
    ] {
        let dependencies = &direct[&format!("countersign-{part}")];
        for test_part in [
            "countersign-tests",
            "countersign-control-plane",
            "countersign-playground",
        ] {
            assert!(
                !dependencies.contains(test_part),
                "{part} depends on {test_part}"
            );
        }
    }
}

#[test]
fn there_is_one_tls_stack() {
    let metadata = metadata();
    let names: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["name"].as_str())
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
