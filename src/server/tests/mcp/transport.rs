use std::time::Duration;

use countersign_store::testing::Tamper;
use serde_json::{Value, json};

use crate::world::{EXPIRED_KEY, KEY, OTHER_KEY, World, bad, call, good};

fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

fn post(world: &World, body: &Value) -> reqwest::RequestBuilder {
    http()
        .post(world.mcp())
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(body.to_string())
}

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

#[tokio::test]
async fn without_a_valid_key_nothing_answers_but_how_to_authenticate() {
    let world = World::start().await;
    for (header, value, error) in [
        ("x-nothing", "", "missing_key"),
        ("authorization", "Basic dXNlcjpwdw==", "missing_key"),
        ("authorization", "Bearer wrong", "unknown_key"),
        ("x-api-key", "wrong", "unknown_key"),
        ("x-api-key", EXPIRED_KEY, "expired_key"),
    ] {
        let answer = post(&world, &list())
            .header(header, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401, "{header}: {value}");
        assert!(
            answer.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"], error);
        assert!(
            body["message"]
                .as_str()
                .unwrap()
                .contains("Authorization: Bearer")
        );
        assert!(!body.to_string().contains("wrong") || error != "unknown_key");
    }
    for (header, value) in [
        ("x-api-key", KEY.to_owned()),
        ("authorization", format!("Bearer {KEY}")),
    ] {
        let answer = post(&world, &list())
            .header(header, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/json");
    }
}

#[tokio::test]
async fn foreign_hosts_origins_methods_and_sizes_are_refused() {
    let world = World::start().await;
    let good = |request: reqwest::RequestBuilder| request.header("x-api-key", KEY);
    let evil = good(post(&world, &list()))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(evil.status(), 403);
    let evil = good(post(&world, &list())).header("origin", "https://evil.example");
    assert_eq!(evil.send().await.unwrap().status(), 403);
    let own = good(post(&world, &list())).header("origin", &world.url);
    assert_eq!(own.send().await.unwrap().status(), 200);
    let get = good(http().get(world.mcp())).header("accept", "text/event-stream");
    assert_eq!(get.send().await.unwrap().status(), 405);
    let large =
        json!({"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": "x".repeat(300_000)}});
    assert_eq!(
        good(post(&world, &large)).send().await.unwrap().status(),
        413
    );
    let garbage = good(http().post(world.mcp()))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body("{nonsense");
    assert!(garbage.send().await.unwrap().status().is_client_error());
}

#[tokio::test]
async fn old_and_new_revisions_are_answered_without_a_session() {
    let world = World::start().await;
    let old = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
    }});
    let answer = post(&world, &old)
        .header("x-api-key", KEY)
        .send()
        .await
        .unwrap();
    assert!(answer.headers().get("mcp-session-id").is_none());
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(body["result"]["serverInfo"]["name"], "countersign");
    assert!(
        body["result"]["instructions"]
            .as_str()
            .unwrap()
            .contains("PROPOSE")
    );

    let new = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "list_failing_pods", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let answer = post(&world, &new)
        .header("x-api-key", KEY)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "list_failing_pods")
        .send()
        .await
        .unwrap();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body["result"]["structuredContent"]["pods_failing"], 3,
        "{body}"
    );
}

#[tokio::test]
async fn too_many_calls_are_told_to_wait() {
    let world = World::start_with("calls_per_minute = 3").await;
    let client = world.client(KEY).await;
    for _ in 0..3 {
        good(&call(&client, "list_actions", json!({})).await);
    }
    let full = call(&client, "list_actions", json!({})).await;
    assert!(bad(&full).contains("wait"));
    let mut last = None;
    for _ in 0..10 {
        let answer = post(&world, &list())
            .header("x-api-key", KEY)
            .send()
            .await
            .unwrap();
        if answer.status() == 429 {
            last = Some(answer);
            break;
        }
    }
    let answer = last.expect("the limit of requests was never reached");
    assert!(
        answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    // Another caller has limits of their own.
    let answer = post(&world, &list())
        .header("x-api-key", OTHER_KEY)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn every_call_leaves_a_row_and_no_row_holds_a_secret() {
    let mut world = World::start().await;
    let client = world.client(KEY).await;
    let secrets = ["hunter2secret", "AKIAIOSFODNN7EXAMPLE", "s3cr3t-p4ss"];
    let reason = "login with password=hunter2secret and AKIAIOSFODNN7EXAMPLE failed, \
                  see postgres://app:s3cr3t-p4ss@db/app";
    good(
        &call(
            &client,
            "restart_pod",
            json!({"namespace": "shop", "pod": "web-1-aaaaa", "reason": reason}),
        )
        .await,
    );
    let odd = json!({"namespace": "shop", "pod": "x", "api_key": "hunter2secret", "note": reason});
    bad(&call(&client, "get_pod_status", odd).await);
    for _ in 0..5 {
        good(&call(&client, "list_failing_pods", json!({})).await);
    }
    let unknown = rmcp::model::CallToolRequestParams::new("delete_everything");
    assert!(client.call_tool(unknown).await.is_err());
    let rows = world.calls(8).await;
    assert_eq!(rows.len(), 8);
    let first = &rows
        .iter()
        .find(|row| row.event.details["tool"] == "restart_pod")
        .unwrap()
        .event;
    assert_eq!(first.actor, "claude");
    assert_eq!(first.details["key"], "claude-laptop");
    assert_eq!(first.details["outcome"], "ok");
    assert!(first.details["session"].starts_with("client-"));
    assert!(first.details["duration_us"].parse::<u64>().unwrap() > 0);
    assert!(first.details["inputs"].contains("[redacted]"));
    assert_eq!(first.action_id.len(), 36);
    let outcomes: Vec<&str> = rows
        .iter()
        .map(|row| row.event.details["outcome"].as_str())
        .collect();
    assert!(outcomes.contains(&"invalid_arguments") && outcomes.contains(&"unknown_tool"));

    drop(client);
    world.stop().await;
    world.database.close().await;
    let stored = world.everything_stored().await;
    assert!(stored.len() > 4096);
    for secret in secrets.iter().copied().chain([KEY]) {
        let found = stored
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "`{secret}` was stored");
    }
}

#[tokio::test]
async fn a_proposal_is_answered_when_its_row_is_durable_or_says_that_it_is_not() {
    let mut world = World::start().await;
    let client = world.client(KEY).await;
    let tamper = Tamper::open(&world.store()).await.unwrap();
    let refuse = "CREATE TRIGGER no_calls BEFORE INSERT ON audit WHEN NEW.event = 'tool.called' \
                  BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let restart = |pod: &str| json!({"namespace": "shop", "pod": pod, "reason": "loops"});
    let calls = async || {
        let rows = world.calls(0).await;
        let outcomes = rows.iter().map(|row| row.event.details["outcome"].clone());
        outcomes.collect::<Vec<String>>()
    };

    // For a moment only: the answer waits for it.
    tamper.execute(refuse).await.unwrap();
    let (told, _) = tokio::join!(
        call(&client, "restart_pod", restart("web-1-aaaaa")),
        async {
            let until = tokio::time::Instant::now() + Duration::from_secs(10);
            while world.app.store.count_by_state().await.unwrap().is_empty() {
                assert!(tokio::time::Instant::now() < until, "nothing was proposed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tamper.execute("DROP TRIGGER no_calls").await.unwrap()
        }
    );
    good(&told);
    assert_eq!(calls().await, ["ok"]);

    // For longer: nothing is said, and asking again finds what was done.
    tamper.execute(refuse).await.unwrap();
    let told = call(&client, "restart_pod", restart("web-1-bbbbb")).await;
    assert!(bad(&told).contains("could not write this call into its audit log"));
    assert!(bad(&told).contains("list_actions") && told.structured_content.is_none());
    assert_eq!(calls().await, ["ok"]);
    tamper.execute("DROP TRIGGER no_calls").await.unwrap();
    let again = call(&client, "restart_pod", restart("web-1-bbbbb")).await;
    assert_eq!(good(&again)["existing"], true);
    assert_eq!(calls().await, ["ok", "existing"]);
    world.stop().await;
}

#[tokio::test]
async fn an_orderly_end_finishes_answers_and_loses_no_row() {
    let mut world = World::start().await;
    let client = world.client(KEY).await;
    let arguments = json!({"namespace": "shop", "pod": "web-1-aaaaa", "reason": "loops"});
    let id = good(&call(&client, "restart_pod", arguments).await)["action_id"].clone();
    let mut calls = Vec::new();
    for _ in 0..20 {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "list_failing_pods", "arguments": {},
        }});
        calls.push(tokio::spawn(
            post(&world, &request).header("x-api-key", KEY).send(),
        ));
    }
    let waiting = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "wait_for_action", "arguments": {"action_id": id, "timeout_seconds": 45},
    }});
    let waiting = tokio::spawn(post(&world, &waiting).header("x-api-key", KEY).send());
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    let began = tokio::time::Instant::now();
    world.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // The long poll was answered, not cut.
    let answer: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(answer["result"]["structuredContent"]["state"], "checking");
    assert_eq!(world.calls(0).await.len(), 22);
}

#[tokio::test]
async fn health_and_readiness_say_what_they_know() {
    let world = World::start().await;
    let alive = http()
        .get(format!("{}/healthz", world.url))
        .send()
        .await
        .unwrap();
    assert_eq!(alive.status(), 200);
    let ready = http()
        .get(format!("{}/readyz", world.url))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    let body: Value = ready.json().await.unwrap();
    assert_eq!(body["clusters_without_executor"], json!(["prod"]));

    let beat = countersign_store::Heartbeat {
        cluster: "prod".into(),
        executor: "e1".into(),
        at: countersign_domain::Clock::now(&countersign_domain::SystemClock),
        status: "the namespace secret-project cannot be read".into(),
        policy_hash: String::new(),
        cluster_lock: "absent".into(),
    };
    world.database.executor().heartbeat(&beat).await.unwrap();
    let look = |path: &str, host: &str| {
        let request = http().get(format!("{}{path}", world.url));
        request.header("host", host).send()
    };
    let ready = look("/readyz", "10.1.2.3:8750").await.unwrap();
    assert_eq!(ready.status(), 200, "a probe names the pod's address");
    let body = ready.text().await.unwrap();
    assert!(body.contains(r#""status":"held""#) && !body.contains("secret-project"));
    for path in ["/readyz", "/metrics"] {
        let rebound = look(path, "evil.example").await.unwrap();
        assert_eq!(rebound.status(), 421, "{path}");
        let text = rebound.text().await.unwrap();
        assert!(!text.contains("prod") && text.contains("allowed_hosts"));
    }
    world.database.close().await;
    for path in ["readyz", "healthz"] {
        let asked = http().get(format!("{}/{path}", world.url)).send();
        assert_eq!(asked.await.unwrap().status(), 503, "{path}");
    }
}

#[tokio::test]
async fn one_peer_cannot_take_all_connections_and_none_is_kept_for_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::start_with("[http]\nconnections_per_peer = 8").await;
    let address = world.url.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for _ in 0..9 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.ok();
        held.push(stream);
    }
    let elsewhere = reqwest::Client::builder()
        .local_address("127.0.0.2".parse::<std::net::IpAddr>().unwrap())
        .build()
        .unwrap();
    let healthz = elsewhere.get(format!("{}/healthz", world.url)).send().await;
    assert_eq!(healthz.unwrap().status(), 200);
    for stream in &mut held {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest));
        closed
            .await
            .expect("half a request keeps a connection")
            .ok();
        assert!(rest.is_empty());
    }
}
