//! What the two service accounts may and may not do, with the product's own manifests on a real
//! API server; and the contract that the playground is held to as the real thing is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use countersign_control_plane::Api;
use countersign_control_plane::contract::{self, ContractTarget, Prepare};
use countersign_tests::stack::ClusterKind;
use countersign_tests::stack::cluster::Cluster;
use serde_json::{Value, json};

fn eviction(namespace: &str, pod: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}})
}

fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "countersign-executor"},
        "spec": {"holderIdentity": "test"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_may_do_its_work_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(ClusterKind::ControlPlane, folder.path())
        .await
        .unwrap();
    let pod = cluster.deploy("shop", "till", 2, 1, "ready").await.unwrap();
    let evict = format!("/api/v1/namespaces/shop/pods/{}/eviction", pod.name);
    let this_pod = format!("/api/v1/namespaces/shop/pods/{}", pod.name);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";

    let server = Api::from_kubeconfig(&cluster.server_kubeconfig)
        .await
        .unwrap();
    assert_eq!(server.get(&this_pod).await.unwrap().status, 200);
    for (what, reply) in [
        ("evict", server.post(&evict, &eviction("shop", &pod.name)).await),
        ("delete a pod", server.delete(&this_pod, &json!({})).await),
        ("read secrets", server.get("/api/v1/namespaces/shop/secrets").await),
        ("create a spent record", server.post(leases, &lease("by-server")).await),
        ("see the register", server.get(leases).await),
        ("exec", server.get(&format!("{this_pod}/exec?command=id&stdout=true")).await),
        ("make a token", server.post(
            "/api/v1/namespaces/countersign-executor/serviceaccounts/countersign-executor/token",
            &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
        ).await),
    ] {
        assert_eq!(reply.unwrap().status, 403, "the server's account may {what}");
    }

    let executor = Api::from_kubeconfig(&cluster.executor_kubeconfig)
        .await
        .unwrap();
    assert_eq!(executor.get(&this_pod).await.unwrap().status, 200);
    assert_eq!(
        executor.post(leases, &lease("one")).await.unwrap().status,
        201
    );
    assert_eq!(
        executor.post(leases, &lease("one")).await.unwrap().status,
        409
    );
    let one = format!("{leases}/one");
    assert_eq!(executor.get(&one).await.unwrap().status, 200);
    for (what, reply) in [
        ("delete a pod", executor.delete(&this_pod, &json!({})).await),
        ("read secrets", executor.get("/api/v1/namespaces/shop/secrets").await),
        ("read its own namespace's secrets", executor.get("/api/v1/namespaces/countersign-executor/secrets").await),
        ("delete a spent record", executor.delete(&one, &json!({})).await),
        ("change a spent record", executor.put(&one, &lease("one")).await),
        ("evict elsewhere", executor.post("/api/v1/namespaces/countersign/pods/x/eviction", &eviction("countersign", "x")).await),
        ("see pods elsewhere", executor.get("/api/v1/namespaces/countersign/pods").await),
        ("exec", executor.get(&format!("{this_pod}/exec?command=id&stdout=true")).await),
        ("bind roles", executor.post("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings", &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "x", "namespace": "shop"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [],
        })).await),
        ("change admission policies", executor.get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies").await),
    ] {
        assert_eq!(reply.unwrap().status, 403, "the executor's account may {what}");
    }
    assert_eq!(
        executor
            .post(&evict, &eviction("shop", &pod.name))
            .await
            .unwrap()
            .status,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_playground_keeps_the_same_contract_as_the_control_plane() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(ClusterKind::Playground, folder.path())
        .await
        .unwrap();
    let target = ContractTarget {
        admin_kubeconfig: folder.path().join("admin.kubeconfig"),
        server_kubeconfig: cluster.server_kubeconfig.clone(),
        executor_kubeconfig: cluster.executor_kubeconfig.clone(),
        namespace: "shop".to_owned(),
        other_namespace: "kube-system".to_owned(),
        register_namespace: "countersign-executor".to_owned(),
        prepare: Prepare::Post("/playground/apply".to_owned()),
    };
    let report = contract::run(&target).await.unwrap();
    assert!(report.passed(), "\n{report}");
}
