//! Reads of the simulated cluster: accounts, lists, selectors, pages, watches, logs.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use serde_json::{Value, json};
use support::{TestCluster, condition, is_crash_looping, is_ready, text, until};

#[tokio::test]
async fn says_that_it_is_simulated_and_keeps_its_tokens_private() {
    let cluster = TestCluster::start().await;
    let response = cluster
        .client
        .get(cluster.url("/version"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["server"],
        "countersign-playground (simulated)"
    );
    assert!(response.headers().contains_key("date"));
    let version: Value = response.json().await.unwrap();
    assert!(text(&version, "/gitVersion").ends_with("+countersign-playground"));
    for path in [
        &cluster.started.server_kubeconfig,
        &cluster.started.executor_kubeconfig,
        &cluster.started.admin_kubeconfig,
    ] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_ne!(cluster.server, cluster.executor);
    let ready = cluster.started.ready().to_string();
    for token in [&cluster.server, &cluster.executor, &cluster.admin] {
        assert!(!ready.contains(token.as_str()));
    }
}

#[tokio::test]
async fn accounts_may_do_what_the_table_says() {
    let cluster = TestCluster::start().await;
    let (server, executor) = (&cluster.server, &cluster.executor);
    let pod = text(&cluster.pods("shop", "cart").await[0], "/metadata/name").to_owned();
    let pod = format!("/api/v1/namespaces/shop/pods/{pod}");
    let eviction = format!("{pod}/eviction");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";
    let (get, post) = (Method::GET, Method::POST);
    let cases = [
        (server, &get, "/api/v1/pods", 200),
        (server, &get, "/api/v1/nodes", 200),
        (server, &get, "/apis/batch/v1/jobs", 200),
        (server, &get, "/apis/policy/v1/poddisruptionbudgets", 200),
        (
            server,
            &get,
            "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers",
            200,
        ),
        (server, &get, "/api/v1/namespaces/shop/secrets", 403),
        (server, &get, leases, 403),
        (server, &post, &*eviction, 403),
        (server, &Method::DELETE, &*pod, 403),
        (executor, &get, "/api/v1/namespaces/shop/pods", 200),
        (executor, &get, "/api/v1/namespaces/payments/pods", 200),
        (executor, &get, "/api/v1/namespaces/default/pods", 403),
        (executor, &get, "/api/v1/pods", 403),
        (executor, &get, "/api/v1/namespaces/kube-system", 200),
        (executor, &get, "/api/v1/namespaces/shop", 403),
        (
            executor,
            &get,
            "/apis/policy/v1/namespaces/shop/poddisruptionbudgets",
            200,
        ),
        (
            executor,
            &get,
            "/apis/apps/v1/namespaces/shop/deployments/cart",
            200,
        ),
        (
            executor,
            &get,
            "/apis/apps/v1/namespaces/shop/deployments",
            200,
        ),
        (executor, &get, leases, 200),
        (
            executor,
            &get,
            "/apis/coordination.k8s.io/v1/namespaces/shop/leases",
            403,
        ),
        (executor, &get, "/api/v1/namespaces/shop/secrets", 403),
        (executor, &Method::DELETE, &*pod, 403),
        (executor, &Method::PATCH, &*pod, 403),
        (
            executor,
            &post,
            "/api/v1/namespaces/default/pods/x/eviction",
            403,
        ),
        (executor, &get, "/playground/audit", 403),
    ];
    for (token, method, path, code) in cases {
        let response = cluster.send(token, method.clone(), path, None).await;
        assert_eq!(response.status(), code, "{method} {path}");
    }
    let (code, refused) = cluster.ask(server, post, &eviction, Some(json!({}))).await;
    let name = pod.rsplit('/').next().unwrap();
    assert_eq!(code, 403);
    assert_eq!(
        refused,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!(
                "pods \"{name}\" is forbidden: User \"system:serviceaccount:countersign:countersign-server\" \
                 cannot create resource \"pods/eviction\" in API group \"\" in the namespace \"shop\""
            ),
            "reason": "Forbidden", "details": {"name": name, "kind": "pods"}, "code": 403,
        })
    );
    let (code, refused) = cluster.ask("wrong", get, "/api/v1/pods", None).await;
    assert_eq!((code, text(&refused, "/reason")), (401, "Unauthorized"));
    let bare = cluster
        .client
        .get(cluster.url("/api/v1/pods"))
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status(), 401);
}

#[tokio::test]
async fn the_seed_tells_of_a_bad_night() {
    let cluster = TestCluster::start().await;
    let checkout = cluster.pods("shop", "checkout").await;
    assert_eq!(checkout.len(), 3);
    let failing: Vec<_> = checkout.iter().filter(|pod| !is_ready(pod)).collect();
    assert_eq!(failing.len(), 1);
    let failing = failing[0];
    assert!(is_crash_looping(failing), "{failing:#}");
    assert_eq!(text(failing, "/status/phase"), "Running");
    let last = failing
        .pointer("/status/containerStatuses/0/lastState/terminated")
        .unwrap();
    assert_eq!(
        (text(last, "/reason"), &last["exitCode"]),
        ("OOMKilled", &json!(137))
    );
    assert_eq!(failing["status"]["containerStatuses"][0]["restartCount"], 7);
    assert_eq!(
        failing["metadata"]["ownerReferences"][0]["controller"],
        true
    );
    assert_eq!(
        failing["metadata"]["ownerReferences"][0]["kind"],
        "ReplicaSet"
    );

    let events = format!(
        "/api/v1/namespaces/shop/events?fieldSelector=involvedObject.uid%3D{}",
        text(failing, "/metadata/uid")
    );
    let events = cluster.get(&cluster.server, &events).await;
    let reasons: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| text(event, "/reason"))
        .collect();
    assert!(
        reasons.contains(&"BackOff") && reasons.contains(&"OOMKilling"),
        "{reasons:?}"
    );

    for app in ["inventory", "pricing", "catalog", "reviews", "search"] {
        let pods = cluster.pods("shop", app).await;
        assert_eq!(
            pods.iter().filter(|pod| is_crash_looping(pod)).count(),
            1,
            "{app}"
        );
        assert_eq!(pods.iter().filter(|pod| is_ready(pod)).count(), 1, "{app}");
    }
    for app in ["cart", "frontend"] {
        assert!(
            cluster.pods("shop", app).await.iter().all(is_ready),
            "{app}"
        );
    }
    let job = &cluster.pods("shop", "nightly-report").await[0];
    assert_eq!(text(job, "/status/phase"), "Succeeded");
    let shell = cluster
        .get(&cluster.server, "/api/v1/namespaces/shop/pods/debug-shell")
        .await;
    assert!(shell["metadata"]["ownerReferences"].is_null() && is_ready(&shell));
    let ledger = cluster
        .get(
            &cluster.server,
            "/apis/policy/v1/namespaces/payments/poddisruptionbudgets/ledger",
        )
        .await;
    assert_eq!(ledger["status"]["disruptionsAllowed"], 0);
    assert_eq!(ledger["status"]["currentHealthy"], 1);
    assert_eq!(ledger["status"]["desiredHealthy"], 2);
    assert_eq!(condition(&ledger, "DisruptionAllowed"), "False");
    let deployment = cluster
        .get(
            &cluster.server,
            "/apis/apps/v1/namespaces/shop/deployments/checkout",
        )
        .await;
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    assert_eq!(deployment["status"]["unavailableReplicas"], 1);
}

#[tokio::test]
async fn lists_come_in_pages_and_by_selector() {
    let cluster = TestCluster::start().await;
    let all = cluster.get(&cluster.server, "/api/v1/pods").await;
    assert_eq!(
        (text(&all, "/kind"), text(&all, "/apiVersion")),
        ("PodList", "v1")
    );
    assert!(
        text(&all, "/metadata/resourceVersion")
            .parse::<u64>()
            .unwrap()
            > 1000
    );
    let total = all["items"].as_array().unwrap().len();
    assert!(all["items"][0]["kind"].is_null());

    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = cluster
            .get(
                &cluster.server,
                &format!("/api/v1/pods?limit=6&continue={token}"),
            )
            .await;
        let names = page["items"].as_array().unwrap().iter();
        seen.extend(names.map(|pod| text(pod, "/metadata/uid").to_owned()));
        token = text(&page, "/metadata/continue").to_owned();
        if token.is_empty() {
            break;
        }
        assert_eq!(page["metadata"]["remainingItemCount"], total - seen.len());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), total);

    let running = cluster
        .get(
            &cluster.server,
            "/api/v1/pods?fieldSelector=status.phase%3DSucceeded,metadata.namespace%3Dshop",
        )
        .await;
    assert_eq!(running["items"].as_array().unwrap().len(), 1);
    for (path, code, reason) in [
        (
            "/api/v1/pods?fieldSelector=spec.color%3Dred",
            400,
            "BadRequest",
        ),
        ("/api/v1/pods?labelSelector=a%20b%20c", 400, "BadRequest"),
        ("/api/v1/pods?continue=what", 400, "BadRequest"),
        ("/api/v1/pods?resourceVersion=99999999", 504, "Timeout"),
        ("/api/v1/namespaces/shop/pods/none", 404, "NotFound"),
    ] {
        let (found, body) = cluster.ask(&cluster.server, Method::GET, path, None).await;
        assert_eq!((found, text(&body, "/reason")), (code, reason), "{path}");
    }
    let (code, body) = cluster
        .ask(&cluster.admin, Method::GET, "/apis/none.io/v1/things", None)
        .await;
    assert_eq!((code, text(&body, "/reason")), (404, "NotFound"));
    let (_, body) = cluster
        .ask(
            &cluster.server,
            Method::GET,
            "/api/v1/namespaces/shop/pods/none",
            None,
        )
        .await;
    assert_eq!(text(&body, "/message"), "pods \"none\" not found");
    assert_eq!(body["details"], json!({"name": "none", "kind": "pods"}));
    let discovery = cluster.get(&cluster.executor, "/apis/policy/v1").await;
    assert_eq!(text(&discovery, "/resources/0/kind"), "PodDisruptionBudget");
}

/// The events of a watch until one satisfies `last`.
async fn watch(cluster: &TestCluster, path: &str, last: fn(&Value) -> bool) -> Vec<Value> {
    let mut response = cluster.send(&cluster.server, Method::GET, path, None).await;
    assert_eq!(response.status(), 200);
    let (mut buffer, mut events) = (String::new(), Vec::new());
    while let Some(chunk) = response.chunk().await.unwrap() {
        buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((line, rest)) = buffer.split_once('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            buffer = rest.to_owned();
            events.push(event);
            if last(&events[events.len() - 1]) {
                return events;
            }
        }
    }
    events
}

#[tokio::test]
async fn a_watch_shows_a_pod_come_up_and_go() {
    let cluster = TestCluster::start().await;
    let list = cluster
        .get(&cluster.server, "/api/v1/namespaces/shop/pods")
        .await;
    let from = text(&list, "/metadata/resourceVersion");
    let path = format!(
        "/api/v1/namespaces/shop/pods?watch=true&resourceVersion={from}&labelSelector=app%3Dnew"
    );
    let story = async {
        let pods = cluster.deploy("new", 1, "ready", is_ready).await;
        let name = text(&pods[0], "/metadata/name");
        let path = format!("/api/v1/namespaces/shop/pods/{name}");
        assert_eq!(
            cluster
                .ask(&cluster.admin, Method::DELETE, &path, None)
                .await
                .0,
            200
        );
    };
    let (events, ()) = tokio::join!(
        watch(&cluster, &path, |event| event["type"] == "DELETED"),
        story
    );
    let kinds: Vec<&str> = events.iter().map(|event| text(event, "/type")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("ADDED", "DELETED"));
    assert!(events.iter().any(|event| is_ready(&event["object"])));
    let versions: Vec<u64> = events
        .iter()
        .map(|event| {
            text(event, "/object/metadata/resourceVersion")
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted());
}

#[tokio::test]
async fn a_watch_from_the_past_is_gone_and_one_with_a_limit_ends() {
    let cluster = TestCluster::start().await;
    let old = watch(&cluster, "/api/v1/pods?watch=1&resourceVersion=1", |_| {
        false
    })
    .await;
    assert_eq!(old.len(), 1);
    assert_eq!(
        (text(&old[0], "/type"), text(&old[0], "/object/reason")),
        ("ERROR", "Expired")
    );
    assert_eq!(old[0]["object"]["code"], 410);
    let short = "/api/v1/namespaces?watch=1&timeoutSeconds=1&resourceVersion=0";
    let namespaces = watch(&cluster, short, |_| false).await;
    assert_eq!(namespaces.len(), 6);
    let streamed = "/api/v1/nodes?watch=1&sendInitialEvents=true&allowWatchBookmarks=true\
                    &resourceVersionMatch=NotOlderThan";
    let nodes = watch(&cluster, streamed, |event| event["type"] == "BOOKMARK").await;
    assert_eq!(nodes.len(), 3);
    assert_eq!(
        nodes[2]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn logs_tell_why_it_crashed() {
    let cluster = TestCluster::start().await;
    let pods = cluster.pods("shop", "inventory").await;
    let failing = pods.iter().find(|pod| is_crash_looping(pod)).unwrap();
    let healthy = pods.iter().find(|pod| is_ready(pod)).unwrap();
    let log = |pod: &Value, query: &str| {
        format!(
            "/api/v1/namespaces/shop/pods/{}/log{query}",
            text(pod, "/metadata/name")
        )
    };
    let response = cluster
        .send(
            &cluster.server,
            Method::GET,
            &log(failing, "?previous=true&tailLines=2"),
            None,
        )
        .await;
    assert_eq!(response.headers()["content-type"], "text/plain");
    let lines = response.text().await.unwrap();
    assert_eq!(lines.lines().count(), 2);
    assert!(lines.contains("no database, giving up"));
    for (path, why) in [
        (
            log(healthy, "?previous=true"),
            "previous terminated container \"app\"",
        ),
        (
            log(healthy, "?container=none"),
            "container none is not valid for pod",
        ),
    ] {
        let (code, body) = cluster.ask(&cluster.server, Method::GET, &path, None).await;
        assert_eq!(code, 400);
        assert!(text(&body, "/message").contains(why), "{body}");
    }
    let starting = cluster.deploy("absent", 1, "imagepull", |pod| {
        !text(pod, "/status/containerStatuses/0/state/waiting/message").is_empty()
    });
    let absent = starting.await.remove(0);
    assert_eq!(text(&absent, "/status/phase"), "Pending");
    let (code, body) = cluster
        .ask(&cluster.server, Method::GET, &log(&absent, ""), None)
        .await;
    assert_eq!(code, 400);
    assert!(
        text(&body, "/message").contains("is waiting to start"),
        "{body}"
    );
}

#[tokio::test]
async fn behaviors_do_what_they_are_called() {
    let cluster = TestCluster::start().await;
    cluster
        .deploy("loops", 1, "crashloop", is_crash_looping)
        .await;
    cluster
        .deploy("dies", 1, "oomkilled", is_crash_looping)
        .await;
    cluster.deploy("slow", 1, "slow-ready=400", is_ready).await;
    let never = cluster
        .deploy("never", 1, "never-ready", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    let events = format!(
        "/api/v1/namespaces/shop/events?fieldSelector=involvedObject.name%3D{},reason%3DUnhealthy",
        text(&never[0], "/metadata/name")
    );
    until("the probe's event", async || {
        let events = cluster.get(&cluster.server, &events).await;
        (events["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let (code, body) = cluster
        .ask(
            &cluster.admin,
            Method::POST,
            "/playground/apply",
            Some(support::deployment("typo", 1, "sometimes")),
        )
        .await;
    assert_eq!((code, text(&body, "/reason")), (422, "Invalid"));
    assert!(
        text(&body, "/message").contains("unknown behavior"),
        "{body}"
    );
}
