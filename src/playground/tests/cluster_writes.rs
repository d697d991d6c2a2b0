//! Writes to the simulated cluster: eviction with its preconditions and budgets, leases, the
//! controls, faults and the audit log.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod support;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::{TestCluster, budget, deployment, is_crash_looping, is_ready, text, until};

fn preconditions(pod: &Value) -> Value {
    json!({"preconditions": {
        "uid": text(pod, "/metadata/uid"), "resourceVersion": text(pod, "/metadata/resourceVersion"),
    }})
}

#[tokio::test]
async fn an_evicted_pod_is_replaced_by_a_new_one_that_becomes_ready() {
    let cluster = TestCluster::start().await;
    let pods = cluster.pods("shop", "checkout").await;
    let failing = pods.iter().find(|pod| is_crash_looping(pod)).unwrap();
    let (code, body) = cluster.evict(failing, preconditions(failing), "").await;
    assert_eq!((code, text(&body, "/status")), (201, "Success"));
    assert_eq!(body["code"], 201);
    let owner = text(failing, "/metadata/ownerReferences/0/uid");
    let replacement = until("a new ready pod", async || {
        let now = cluster.pods("shop", "checkout").await;
        assert!(now.len() <= 4);
        let new = now.into_iter().find(|pod| {
            !pods
                .iter()
                .any(|old| old["metadata"]["uid"] == pod["metadata"]["uid"])
        })?;
        is_ready(&new).then_some(new)
    })
    .await;
    assert_eq!(text(&replacement, "/metadata/ownerReferences/0/uid"), owner);
    assert_ne!(replacement["metadata"]["name"], failing["metadata"]["name"]);
    let gone = format!(
        "/api/v1/namespaces/shop/pods/{}",
        text(failing, "/metadata/name")
    );
    assert_eq!(
        cluster
            .ask(&cluster.server, Method::GET, &gone, None)
            .await
            .0,
        404
    );
    let (code, body) = cluster.evict(failing, preconditions(failing), "").await;
    assert_eq!((code, text(&body, "/reason")), (404, "NotFound"));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = TestCluster::start().await;
    let pod = &cluster.pods("shop", "cart").await[0];
    for (options, query) in [(json!({"dryRun": ["All"]}), ""), (json!({}), "?dryRun=All")] {
        let (code, body) = cluster.evict(pod, options, query).await;
        assert_eq!((code, text(&body, "/status")), (201, "Success"));
    }
    assert_eq!(
        cluster.pods("shop", "cart").await[0]["metadata"],
        pod["metadata"]
    );
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/cart";
    assert_eq!(
        cluster.get(&cluster.server, budget).await["status"]["disruptionsAllowed"],
        1
    );
    let (code, _) = cluster.evict(pod, json!({"dryRun": ["Some"]}), "").await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_precondition_that_fails_says_which_and_has_spent_the_budget() {
    let cluster = TestCluster::start().await;
    let pod = &cluster.pods("shop", "cart").await[0];
    let (name, uid) = (text(pod, "/metadata/name"), text(pod, "/metadata/uid"));
    let version = text(pod, "/metadata/resourceVersion");
    let stale = json!({"preconditions": {"uid": "other"}, "dryRun": ["All"]});
    let (code, body) = cluster.evict(pod, stale, "").await;
    assert_eq!((code, text(&body, "/reason")), (409, "Conflict"));
    assert_eq!(
        text(&body, "/message"),
        format!(
            "Operation cannot be fulfilled on Pod \"{name}\": the UID in the precondition (other) does \
             not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let stale = json!({"preconditions": {"uid": uid, "resourceVersion": "7"}});
    let (code, body) = cluster.evict(pod, stale, "").await;
    assert_eq!((code, text(&body, "/reason")), (409, "Conflict"));
    assert_eq!(
        text(&body, "/message"),
        format!(
            "Operation cannot be fulfilled on Pod \"{name}\": the ResourceVersion in the precondition \
             (7) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )
    );
    assert_eq!(body["details"], json!({"name": name, "kind": "Pod"}));
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/cart";
    let budget = cluster.get(&cluster.server, budget).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(!text(&budget, &format!("/status/disruptedPods/{name}")).is_empty());
    let (code, _) = cluster.evict(pod, preconditions(pod), "").await;
    assert_eq!(code, 429);
}

#[tokio::test]
async fn a_budget_without_room_refuses() {
    let cluster = TestCluster::start().await;
    let pods = cluster.pods("payments", "ledger").await;
    for pod in &pods {
        let response = cluster
            .send(
                &cluster.executor,
                Method::POST,
                &format!(
                    "/api/v1/namespaces/payments/pods/{}/eviction",
                    text(pod, "/metadata/name")
                ),
                Some(json!({
                    "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": {"name": text(pod, "/metadata/name")},
                })),
            )
            .await;
        assert_eq!(response.status(), 429);
        assert!(!response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.unwrap();
        assert_eq!(text(&body, "/reason"), "TooManyRequests");
        assert_eq!(
            text(&body, "/message"),
            "Cannot evict pod as it would violate the pod's disruption budget."
        );
        assert_eq!(
            body["details"]["causes"],
            json!([{
                "reason": "DisruptionBudget",
                "message": "The disruption budget ledger needs 2 healthy pods and has 1 currently",
            }])
        );
    }
    assert_eq!(cluster.pods("payments", "ledger").await.len(), 2);
    let relaxed = json!({"namespace": "payments", "name": "ledger", "minAvailable": 1});
    let (code, _) = cluster
        .ask(
            &cluster.admin,
            Method::POST,
            "/playground/pdb",
            Some(relaxed),
        )
        .await;
    assert_eq!(code, 200);
    let failing = pods.iter().find(|pod| is_crash_looping(pod)).unwrap();
    assert_eq!(
        cluster.evict(failing, preconditions(failing), "").await.0,
        201
    );
}

#[tokio::test]
async fn the_policy_for_unready_pods_decides_when_all_crash() {
    let cluster = TestCluster::start().await;
    let pods = cluster
        .deploy("outage", 2, "crashloop", is_crash_looping)
        .await;
    let spec = json!({"minAvailable": 2});
    cluster.apply(budget("outage", "outage", spec)).await;
    assert_eq!(cluster.evict(&pods[0], json!({}), "").await.0, 429);
    let spec = json!({"minAvailable": 2, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    cluster.apply(budget("outage", "outage", spec)).await;
    let (code, _) = cluster
        .evict(&pods[0], json!({"dryRun": ["All"]}), "")
        .await;
    assert_eq!(code, 201);
    // Not ready, and nothing desired: IfHealthyBudget wants desiredHealthy above zero; the budget
    // then has to allow it.
    cluster
        .apply(budget(
            "outage",
            "outage",
            json!({"maxUnavailable": "100%"}),
        ))
        .await;
    assert_eq!(
        cluster
            .evict(&pods[0], json!({"dryRun": ["All"]}), "")
            .await
            .0,
        429
    );
}

#[tokio::test]
async fn pods_that_disrupt_nothing_pass_and_two_budgets_do_not() {
    let cluster = TestCluster::start().await;
    let pending = cluster
        .deploy("pending", 1, "imagepull", |pod| {
            pod["status"]["phase"] == "Pending"
        })
        .await;
    cluster
        .apply(budget("pending", "pending", json!({"minAvailable": 1})))
        .await;
    assert_eq!(cluster.evict(&pending[0], json!({}), "").await.0, 201);

    let pods = cluster.deploy("twice", 1, "ready", is_ready).await;
    cluster
        .apply(json!([
            budget("twice-a", "twice", json!({"minAvailable": 0})),
            budget("twice-b", "twice", json!({"minAvailable": 0})),
        ]))
        .await;
    // As seen on a real API server; the contract suite asks both.
    let (code, body) = cluster.evict(&pods[0], json!({}), "").await;
    assert_eq!((code, text(&body, "/status")), (500, "Failure"));
    assert_eq!(body["code"], 500);
    assert!(text(&body, "/message").contains("more than one PodDisruptionBudget"));
}

#[tokio::test]
async fn a_pod_with_a_finalizer_stays_terminating() {
    let cluster = TestCluster::start().await;
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "held", "namespace": "shop", "finalizers": ["example.com/hold"]},
            "spec": {"containers": [{"name": "app", "image": "registry.example/x:1"}]},
        }))
        .await;
    let path = "/api/v1/namespaces/shop/pods/held";
    until("readiness", async || {
        is_ready(&cluster.get(&cluster.server, path).await).then_some(())
    })
    .await;
    let pod = cluster.get(&cluster.server, path).await;
    assert_eq!(
        cluster
            .evict(&pod, json!({"gracePeriodSeconds": 1}), "")
            .await
            .0,
        201
    );
    let pod = cluster.get(&cluster.server, path).await;
    assert!(!text(&pod, "/metadata/deletionTimestamp").is_empty());
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 1);
    assert_eq!(support::condition(&pod, "DisruptionTarget"), "True");
    assert_eq!(cluster.evict(&pod, json!({}), "").await.0, 201);
    let patch = json!({"metadata": {"finalizers": null}});
    assert_eq!(
        cluster
            .ask(&cluster.admin, Method::PATCH, path, Some(patch))
            .await
            .0,
        200
    );
    until("the pod's end", async || {
        let (code, _) = cluster.ask(&cluster.server, Method::GET, path, None).await;
        (code == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lease_can_be_created_once() {
    let cluster = TestCluster::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "spent-1", "annotations": {"x": "y"}},
        "spec": {"holderIdentity": "executor"},
    });
    let executor = &cluster.executor;
    let (code, made) = cluster
        .ask(executor, Method::POST, leases, Some(lease.clone()))
        .await;
    assert_eq!(
        (code, text(&made, "/metadata/namespace")),
        (201, "countersign-executor")
    );
    assert!(!text(&made, "/metadata/uid").is_empty());
    let (code, body) = cluster
        .ask(executor, Method::POST, leases, Some(lease))
        .await;
    assert_eq!((code, text(&body, "/reason")), (409, "AlreadyExists"));
    assert_eq!(
        text(&body, "/message"),
        "leases.coordination.k8s.io \"spent-1\" already exists"
    );
    assert_eq!(
        body["details"],
        json!({"name": "spent-1", "group": "coordination.k8s.io", "kind": "leases"})
    );
    let one = format!("{leases}/spent-1");
    assert_eq!(cluster.ask(executor, Method::GET, &one, None).await.0, 200);
    assert_eq!(
        cluster
            .ask(executor, Method::GET, &format!("{leases}/none"), None)
            .await
            .0,
        404
    );
    assert_eq!(
        cluster.ask(executor, Method::DELETE, &one, None).await.0,
        403
    );
    assert_eq!(
        cluster.ask(executor, Method::PUT, &one, Some(made)).await.0,
        403
    );
    let list = cluster.get(executor, leases).await;
    assert_eq!(
        (
            text(&list, "/kind"),
            list["items"].as_array().unwrap().len()
        ),
        ("LeaseList", 1)
    );
    for (name, code) in [("Not_A_Name", 422), ("", 422)] {
        let wrong = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        });
        assert_eq!(
            cluster
                .ask(executor, Method::POST, leases, Some(wrong))
                .await
                .0,
            code,
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn a_pod_can_be_replaced_behind_everyones_back() {
    let cluster = TestCluster::start().await;
    let pods = cluster
        .deploy("moved", 2, "crashloop", is_crash_looping)
        .await;
    let name = text(&pods[0], "/metadata/name");
    let body = json!({"namespace": "shop", "name": name});
    let (code, done) = cluster
        .ask(
            &cluster.admin,
            Method::POST,
            "/playground/replace-pod",
            Some(body),
        )
        .await;
    assert_eq!(code, 200);
    assert_eq!(done["deleted"]["uid"], pods[0]["metadata"]["uid"]);
    assert_eq!(done["created"].as_array().unwrap().len(), 1);
    assert_ne!(text(&done, "/created/0/name"), name);

    let name = text(&pods[1], "/metadata/name");
    let body = json!({"namespace": "shop", "name": name, "same_name": true});
    let (code, done) = cluster
        .ask(
            &cluster.admin,
            Method::POST,
            "/playground/replace-pod",
            Some(body),
        )
        .await;
    assert_eq!((code, text(&done, "/created/0/name")), (200, name));
    let (code, body) = cluster.evict(&pods[1], preconditions(&pods[1]), "").await;
    assert_eq!(code, 409);
    assert!(text(&body, "/message").contains(text(&done, "/created/0/uid")));
}

#[tokio::test]
async fn a_patch_moves_the_resource_version_and_apply_starts_afresh() {
    let cluster = TestCluster::start().await;
    let pod = &cluster.pods("shop", "frontend").await[0];
    let path = format!(
        "/api/v1/namespaces/shop/pods/{}",
        text(pod, "/metadata/name")
    );
    let patch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    let (code, patched) = cluster
        .ask(&cluster.admin, Method::PATCH, &path, Some(patch))
        .await;
    assert_eq!(code, 200);
    assert_ne!(
        patched["metadata"]["resourceVersion"],
        pod["metadata"]["resourceVersion"]
    );
    assert_eq!(cluster.evict(pod, preconditions(pod), "").await.0, 409);

    let first = cluster
        .deploy("again", 2, "crashloop", is_crash_looping)
        .await;
    let applied = cluster.apply(deployment("again", 1, "ready")).await;
    assert_eq!(applied["applied"][0]["pods"].as_array().unwrap().len(), 1);
    let second = cluster.pods("shop", "again").await;
    assert_eq!(second.len(), 1);
    assert!(
        first
            .iter()
            .all(|pod| pod["metadata"]["uid"] != second[0]["metadata"]["uid"])
    );
}

#[tokio::test]
async fn the_audit_log_has_every_write_and_its_fate() {
    let cluster = TestCluster::start().await;
    let pod = &cluster.pods("shop", "frontend").await[0];
    let name = text(pod, "/metadata/name");
    let path = format!("/api/v1/namespaces/shop/pods/{name}/eviction");
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let response = cluster
        .client
        .post(cluster.url(&format!("{path}?dryRun=All")))
        .bearer_auth(&cluster.executor)
        .header("Audit-ID", "action-7")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["audit-id"], "action-7");
    cluster
        .send(&cluster.server, Method::POST, &path, Some(body))
        .await;
    let log = cluster.get(&cluster.admin, "/playground/audit").await;
    let items = log["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{log:#}");
    assert_eq!(text(&items[0], "/auditID"), "action-7");
    assert_eq!(items[0]["dryRun"], true);
    assert_eq!(items[0]["responseStatus"]["code"], 201);
    assert_eq!(
        text(&items[0], "/user/username"),
        "system:serviceaccount:countersign-executor:countersign-executor"
    );
    assert_eq!(items[0]["objectRef"]["subresource"], "eviction");
    assert_eq!(text(&items[0], "/requestURI"), format!("{path}?dryRun=All"));
    assert_eq!(
        (
            items[1]["dryRun"].clone(),
            text(&items[1], "/responseStatus/reason")
        ),
        (false.into(), "Forbidden")
    );
    assert_eq!(items[1]["responseStatus"]["code"], 403);
}

#[tokio::test]
async fn faults_are_played_once_and_a_lost_answer_had_its_effect() {
    let cluster = TestCluster::start().await;
    let fail = async |fault: Value| {
        let (code, body) = cluster
            .ask(
                &cluster.admin,
                Method::POST,
                "/playground/fail",
                Some(fault),
            )
            .await;
        assert_eq!(code, 200, "{body}");
    };
    fail(json!({"kind": "500", "count": 1, "account": "server"})).await;
    let (code, body) = cluster
        .ask(&cluster.server, Method::GET, "/api/v1/nodes", None)
        .await;
    assert_eq!((code, text(&body, "/reason")), (500, "InternalError"));
    cluster.get(&cluster.server, "/api/v1/nodes").await;

    fail(json!({"kind": "lose-answer", "count": 1, "verb": "create", "resource": "pods/eviction"}))
        .await;
    let pod = &cluster.pods("shop", "frontend").await[0];
    let name = text(pod, "/metadata/name");
    let lost = cluster
        .client
        .post(cluster.url(&format!("/api/v1/namespaces/shop/pods/{name}/eviction")))
        .bearer_auth(&cluster.executor)
        .json(&json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}))
        .send()
        .await;
    assert!(lost.is_err());
    until("the effect", async || {
        let path = format!("/api/v1/namespaces/shop/pods/{name}");
        (cluster
            .ask(&cluster.server, Method::GET, &path, None)
            .await
            .0
            == 404)
            .then_some(())
    })
    .await;

    fail(json!({"kind": "timeout", "for_ms": 300})).await;
    let waited = std::time::Instant::now();
    let hung = cluster
        .client
        .get(cluster.url("/api/v1/nodes"))
        .bearer_auth(&cluster.server)
        .send()
        .await;
    assert!(hung.is_err() && waited.elapsed() >= Duration::from_millis(200));
    let (code, body) = cluster
        .ask(
            &cluster.admin,
            Method::POST,
            "/playground/fail",
            Some(json!({"kind": "odd"})),
        )
        .await;
    assert_eq!(code, 400);
    assert!(text(&body, "/message").contains("odd"), "{body}");
}
