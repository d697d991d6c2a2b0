//! What the two service accounts may and may not do, with the product's own manifests on a real
//! API server; and the contract that the playground is held to as the real thing is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use countersign_control_plane::contract::{self, ContractTarget, Prepare};
use countersign_control_plane::{Api, LOG_ANNOTATION, eventually};
use countersign_integrations::kubernetes::{KubeReader, LogPart};
use countersign_integrations::logs::Wanted;
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

/// Both through the server's account: the real API server with a kubelet's answers behind it, and
/// the playground.
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_asked_for_and_refused_alike_by_the_real_api_server_and_the_playground() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut answers = Vec::new();
    for kind in [ClusterKind::ControlPlane, ClusterKind::Playground] {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(kind, folder.path()).await.unwrap();
        let admin = match cluster.plane() {
            Some(plane) => plane.admin_kubeconfig(),
            None => folder.path().join("admin.kubeconfig"),
        };
        let admin = Api::from_kubeconfig(&admin).await.unwrap();
        let container = |name: &str| json!({"name": name, "image": "registry.invalid/app:1"});
        let written = "one\n\u{1b}[31mtwo\u{1b}[0m password=hunter2\nthree";
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "talker", "namespace": "shop", "annotations": {LOG_ANNOTATION: written}},
            "spec": {"containers": [container("app"), container("proxy")]},
        });
        let path = "/api/v1/namespaces/shop/pods";
        let created = if cluster.plane().is_some() {
            admin.post(path, &pod).await.unwrap()
        } else {
            admin.post("/playground/apply", &pod).await.unwrap()
        };
        assert!(created.status < 300, "{created}");
        let started = async || {
            let pod = admin.get(&format!("{path}/talker")).await?;
            let ready = &pod.body["status"]["containerStatuses"][1]["ready"];
            Ok((ready == true).then_some(()))
        };
        eventually(Duration::from_secs(30), "the pod is ready", started)
            .await
            .unwrap();
        if cluster.plane().is_none() {
            let body = json!({
                "namespace": "shop", "pod": "talker", "container": "app",
                "lines": written.lines().collect::<Vec<_>>(),
            });
            let planted = admin.post("/playground/log", &body).await.unwrap();
            assert_eq!(planted.status, 200, "{planted}");
        }

        let reader = KubeReader::from_kubeconfig(Some(&cluster.server_kubeconfig), None);
        let part = LogPart {
            container: "app".to_owned(),
            previous: false,
            since_seconds: Some(3600),
            tail_lines: 2,
        };
        let wanted = Wanted {
            grep: None,
            context: 0,
            before: None,
            most_bytes: 4096,
        };
        let look = reader
            .pod_log("shop", "talker", &part, &wanted)
            .await
            .unwrap();
        let shown = look
            .excerpt
            .text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1);
        let shown: Vec<&str> = shown.collect();
        assert_eq!(shown, ["two password=[redacted]", "three"], "{kind:?}");
        assert!(
            look.excerpt.oldest.is_some(),
            "lines carry the kubelet's time"
        );

        let server = Api::from_kubeconfig(&cluster.server_kubeconfig)
            .await
            .unwrap();
        let mut refusals = Vec::new();
        for query in [
            "",
            "container=nobody",
            "container=app&previous=true",
            "container=app&limitBytes=0",
            "container=app&sinceSeconds=0",
            "container=app&tailLines=-1",
        ] {
            let reply = server
                .get(&format!("{path}/talker/log?{query}"))
                .await
                .unwrap();
            let (reason, message) = (&reply.body["reason"], &reply.body["message"]);
            refusals.push(format!("{query}: {} {reason} {message}", reply.status));
        }
        let gone = server.get(&format!("{path}/nobody/log")).await.unwrap();
        refusals.push(format!("{} {}", gone.status, gone.body["message"]));
        answers.push(refusals);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(
        answers[0]
            .iter()
            .all(|answer| answer.contains(" 4") || answer.starts_with('4'))
    );
}
