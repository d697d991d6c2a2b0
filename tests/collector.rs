//! Old records of the register are collected by the account that deploy/kustomize/collector makes,
//! on a real API server; young ones never, and by nobody else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use countersign_control_plane::{Api, ControlPlane};
use countersign_tests::stack::ClusterKind;
use countersign_tests::stack::cluster::{Cluster, manifests};
use countersign_tests::stack::process::binary;
use serde_json::{Value, json};
use tokio::process::Command;

const NAMESPACE: &str = "countersign-executor";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";
const OLD_ACTION: &str = "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10";
const OLD_REPLACEMENT: &str = "replacement-8eb04a14-5d98-4ed9-99ad-1a30188c3026";
const YOUNG_ACTION: &str = "01a204db-03c0-735b-a122-7cecc9fc51e3";
const YOUNG_REPLACEMENT: &str = "replacement-27b0187c-af3f-43e0-9445-fd475e1232d8";
/// It carries the register's label, and a name that the register gives to nothing.
const STRANGER: &str = "leader";

fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "countersign-executor"},
        },
        "spec": {"holderIdentity": "test"},
    })
}

/// Written into etcd as if that had been months ago: through the API every object is of now.
async fn plant_old(plane: &ControlPlane, name: &str, uid: &str) {
    let mut lease = lease(name);
    lease["metadata"]["uid"] = json!(uid);
    lease["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let put = json!({
        "key": base64(format!("/registry/leases/{NAMESPACE}/{name}").as_bytes()),
        "value": base64(lease.to_string().as_bytes()),
    });
    let client = reqwest::Client::builder().build().unwrap();
    let address = format!("{}/v3/kv/put", plane.etcd_url());
    let answer = client.post(address).json(&put).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Exit code, and what it said.
async fn collect(kubeconfig: &Path, more: &[&str]) -> (Option<i32>, String) {
    let run = Command::new(binary("countersign-executor").unwrap())
        .args(["register", "collect", "--kubeconfig"])
        .arg(kubeconfig)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = [run.stdout, run.stderr].concat();
    (run.status.code(), String::from_utf8(said).unwrap())
}

async fn names(admin: &Api) -> Vec<String> {
    let list = admin.get(LEASES).await.unwrap().success().unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_are_collected_and_young_ones_stay() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(ClusterKind::ControlPlane, folder.path())
        .await
        .unwrap();
    let (plane, admin) = (cluster.plane().unwrap(), cluster.admin());
    let manifest = manifests::read("../collector/collector.yaml").unwrap();
    let applied = plane.apply_yaml(&manifest).await.unwrap();
    let account = "countersign-register-collector";
    let collector = plane
        .kubeconfig_for_service_account(NAMESPACE, account)
        .await
        .unwrap();

    let executor = Api::from_kubeconfig(&cluster.executor_kubeconfig)
        .await
        .unwrap();
    for young in [YOUNG_ACTION, YOUNG_REPLACEMENT] {
        assert_eq!(
            executor.post(LEASES, &lease(young)).await.unwrap().status,
            201
        );
    }
    for (name, uid) in [(OLD_ACTION, "a"), (OLD_REPLACEMENT, "b"), (STRANGER, "c")] {
        plant_old(
            plane,
            name,
            &format!("00000000-0000-4000-8000-00000000000{uid}"),
        )
        .await;
    }
    assert_eq!(names(admin).await.len(), 5);

    // Neither the running executor's account nor the server's can do it.
    for account in [&cluster.executor_kubeconfig, &cluster.server_kubeconfig] {
        let (code, said) = collect(account, &[]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("the register cannot be") && said.contains("(403)"),
            "{said}"
        );
    }
    let (code, said) = collect(&collector, &["--keep-days", "2"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("records younger than 3 days are kept"),
        "{said}"
    );
    let (code, said) = collect(&collector, &["--dry-run"]).await;
    assert_eq!(
        (code, said.as_str()),
        (
            Some(0),
            "5 records, 2 of them older than 30 days; nothing deleted\n"
        )
    );
    assert_eq!(names(admin).await.len(), 5);

    let (code, said) = collect(&collector, &[]).await;
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "5 records, 2 older than 30 days deleted\n")
    );
    let mut left = names(admin).await;
    left.sort_unstable();
    assert_eq!(left, [YOUNG_ACTION, STRANGER, YOUNG_REPLACEMENT]);
    let (_, said) = collect(&collector, &["--keep-days", "3"]).await;
    assert_eq!(said, "3 records, 0 older than 3 days deleted\n");

    let account = Api::from_kubeconfig(&collector).await.unwrap();
    let young = format!("{LEASES}/{YOUNG_ACTION}");
    for (what, reply) in [
        ("create a record", account.post(LEASES, &lease("x")).await),
        (
            "change a record",
            account.put(&young, &lease(YOUNG_ACTION)).await,
        ),
        (
            "see pods",
            account.get("/api/v1/namespaces/shop/pods").await,
        ),
        (
            "read secrets",
            account
                .get("/api/v1/namespaces/countersign-executor/secrets")
                .await,
        ),
        (
            "delete elsewhere",
            account
                .delete(
                    "/apis/coordination.k8s.io/v1/namespaces/shop/leases/x",
                    &json!({}),
                )
                .await,
        ),
    ] {
        assert_eq!(
            reply.unwrap().status,
            403,
            "the collector's account may {what}"
        );
    }
    // The namespace admits the pods that the CronJob makes.
    let job = applied
        .iter()
        .find(|object| object["kind"] == "CronJob")
        .unwrap();
    let mut pod = job["spec"]["jobTemplate"]["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("collector-now");
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let made = admin.post(&pods, &pod).await.unwrap();
    assert_eq!(made.status, 201, "{made}");
}
