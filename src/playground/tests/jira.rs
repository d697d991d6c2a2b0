//! The simulated Jira over HTTP: tickets, workflow, search lag, webhooks, faults, the page.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod support;

use std::sync::{Arc, Mutex};

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};
use support::{TestJira, document, issue, text, until};

#[tokio::test]
async fn knows_who_asks_and_shows_nothing_to_strangers() {
    let jira = TestJira::start(false).await;
    let me = jira.get("maria", "/rest/api/3/myself").await;
    assert_eq!(
        me["accountId"],
        jira.credentials["users"]["maria"]["account_id"]
    );
    let key = jira.create("a ticket", "countersign-1").await;
    let wrong = |path: &str| {
        jira.client
            .get(jira.url(path))
            .basic_auth("maria.keller@playground.example", Some("guess"))
    };
    let response = wrong("/rest/api/3/myself").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(
        response.headers()["x-seraph-loginreason"],
        "AUTHENTICATED_FAILED"
    );
    assert_eq!(
        response.headers()["server"],
        "countersign-playground (simulated)"
    );
    let response = wrong(&format!("/rest/api/3/issue/{key}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        body["errorMessages"][0],
        "Issue does not exist or you do not have permission to see it."
    );
    let response = wrong("/rest/api/3/search/jql?jql=project%3DOPS")
        .send()
        .await
        .unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["issues"], json!([]));
    let anonymous = jira
        .client
        .post(jira.url("/rest/api/3/issue"))
        .json(&issue("x", "y"))
        .send()
        .await;
    assert_eq!(anonymous.unwrap().status(), 401);
}

#[tokio::test]
async fn creates_what_is_right_and_names_what_is_wrong() {
    let jira = TestJira::start(false).await;
    let meta = jira
        .get("bot", "/rest/api/3/issue/createmeta/OPS/issuetypes/10200")
        .await;
    let required: Vec<&str> = meta["fields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field["required"] == true)
        .map(|field| text(field, "/fieldId"))
        .collect();
    assert_eq!(required, ["project", "issuetype", "summary"]);

    let wrong = json!({"fields": {
        "project": {"key": "NONE"}, "issuetype": {"id": "10200"}, "summary": "x".repeat(256),
        "description": "wiki text", "labels": ["two words"], "customfield_1": 1,
    }});
    let (code, body) = jira
        .ask("bot", Method::POST, "/rest/api/3/issue", Some(wrong))
        .await;
    assert_eq!(code, 400);
    let mut fields: Vec<&str> = body["errors"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "customfield_1",
            "description",
            "labels",
            "project",
            "summary"
        ]
    );
    let response = jira
        .request("bot", Method::POST, "/rest/api/3/issue")
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    let (code, _) = jira
        .ask(
            "executor_bot",
            Method::POST,
            "/rest/api/3/issue",
            Some(issue("x", "y")),
        )
        .await;
    assert_eq!(code, 400);

    let key = jira.create(&"x".repeat(255), "countersign-1").await;
    let shown = jira
        .get(
            "executor_bot",
            &format!("/rest/api/3/issue/{key}?fields=status,creator"),
        )
        .await;
    assert_eq!(shown["fields"]["status"]["id"], "10000");
    assert_eq!(
        shown["fields"]["creator"]["accountId"],
        jira.credentials["users"]["bot"]["account_id"]
    );
    assert!(shown["fields"]["summary"].is_null());
}

#[tokio::test]
async fn a_new_ticket_is_found_by_label_only_after_a_while() {
    let jira = TestJira::start(false).await;
    let key = jira.create("first", "countersign-42").await;
    jira.create("second", "countersign-43").await;
    let path = "/rest/api/3/search/jql?fields=summary&jql=project%20%3D%20OPS%20AND%20labels%20%3D%20%22countersign-42%22";
    assert_eq!(jira.get("bot", path).await["issues"], json!([]));
    let found = until("the index", async || {
        let found = jira.get("bot", path).await;
        (!found["issues"].as_array().unwrap().is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found["issues"].as_array().unwrap().len(), 1);
    assert_eq!(text(&found, "/issues/0/key"), key);

    let search = json!({"jql": "project = OPS ORDER BY created DESC", "maxResults": 1, "fields": ["labels"]});
    let page = until("both", async || {
        let (code, page) = jira
            .ask(
                "bot",
                Method::POST,
                "/rest/api/3/search/jql",
                Some(search.clone()),
            )
            .await;
        assert_eq!(code, 200);
        (page["isLast"] == false).then_some(page)
    })
    .await;
    let mut next = search.clone();
    next["nextPageToken"] = page["nextPageToken"].clone();
    let (_, rest) = jira
        .ask("bot", Method::POST, "/rest/api/3/search/jql", Some(next))
        .await;
    assert_eq!(
        (rest["isLast"].clone(), text(&rest, "/issues/0/key")),
        (json!(true), &*key)
    );
    let (code, body) = jira
        .ask("bot", Method::GET, "/rest/api/3/search/jql", None)
        .await;
    assert_eq!(code, 400);
    assert!(text(&body, "/errorMessages/0").contains("Unbounded"));
}

#[tokio::test]
async fn the_workflow_bars_robots_from_deciding() {
    let jira = TestJira::start(false).await;
    let key = jira.create("a ticket", "countersign-1").await;
    let offered = async |user: &str| -> Vec<String> {
        let path = format!("/rest/api/3/issue/{key}/transitions");
        let transitions = jira.get(user, &path).await;
        let transitions = transitions["transitions"].as_array().unwrap().clone();
        transitions
            .iter()
            .map(|transition| text(transition, "/to/id").to_owned())
            .collect()
    };
    assert_eq!(offered("maria").await, ["10004", "10001", "10002", "10003"]);
    assert_eq!(offered("bot").await, ["10004", "10003"]);
    assert!(offered("executor_bot").await.is_empty());
    assert_eq!(jira.transition("bot", &key, "21").await, 400);
    assert_eq!(jira.transition("executor_bot", &key, "21").await, 400);
    assert_eq!(jira.transition("maria", &key, "21").await, 204);
    assert_eq!(jira.transition("li", &key, "31").await, 400);
    assert_eq!(jira.transition("bot", &key, "41").await, 204);
    assert!(offered("maria").await.is_empty());

    jira.control("workflow", json!({"robots_may_decide": true}))
        .await;
    let key = jira.create("another", "countersign-2").await;
    assert_eq!(jira.transition("bot", &key, "21").await, 204);
}

#[tokio::test]
async fn the_changelog_pages_oldest_first_and_its_expansion_is_newest_first() {
    let jira = TestJira::start(false).await;
    let key = jira.create("a ticket", "countersign-1").await;
    let edit = json!({"fields": {"description": document("something else")}});
    let path = format!("/rest/api/3/issue/{key}");
    assert_eq!(
        jira.ask("li", Method::PUT, &path, Some(edit.clone()))
            .await
            .0,
        204
    );
    assert_eq!(jira.ask("li", Method::PUT, &path, Some(edit)).await.0, 204);
    let labels = json!({"update": {"labels": [{"add": "seen"}]}});
    assert_eq!(
        jira.ask("li", Method::PUT, &path, Some(labels)).await.0,
        204
    );
    assert_eq!(jira.transition("maria", &key, "21").await, 204);

    let (mut start, mut entries) = (0, Vec::new());
    loop {
        let page = jira
            .get(
                "executor_bot",
                &format!("{path}/changelog?startAt={start}&maxResults=1"),
            )
            .await;
        assert_eq!(
            (page["total"].clone(), page["startAt"].clone()),
            (json!(3), json!(start))
        );
        entries.extend(page["values"].as_array().unwrap().clone());
        if page["isLast"] == true {
            break;
        }
        start += 1;
    }
    let fields: Vec<&str> = entries
        .iter()
        .map(|entry| text(entry, "/items/0/fieldId"))
        .collect();
    assert_eq!(fields, ["description", "labels", "status"]);
    assert_eq!(text(&entries[0], "/items/0/fromString"), "what will change");
    assert_eq!(entries[2]["items"][0]["from"], "10000");
    assert_eq!(entries[2]["items"][0]["to"], "10001");
    assert_eq!(
        entries[2]["author"]["accountId"],
        jira.credentials["users"]["maria"]["account_id"]
    );
    assert!(text(&entries[2], "/created").ends_with("+0000"));
    let expanded = jira
        .get("bot", &format!("{path}?fields=status&expand=changelog"))
        .await;
    assert_eq!(
        text(&expanded, "/changelog/histories/0/items/0/field"),
        "status"
    );
    assert_eq!(expanded["changelog"]["total"], 3);
}

#[tokio::test]
async fn comments_and_links() {
    let jira = TestJira::start(false).await;
    let key = jira.create("a ticket", "countersign-1").await;
    let comments = format!("/rest/api/3/issue/{key}/comment");
    let (code, made) = jira
        .ask(
            "bot",
            Method::POST,
            &comments,
            Some(json!({"body": document("one")})),
        )
        .await;
    assert_eq!(code, 201);
    let one = format!("{comments}/{}", text(&made, "/id"));
    let edit = json!({"body": document("two")});
    assert_eq!(
        jira.ask("bot", Method::PUT, &one, Some(edit.clone()))
            .await
            .0,
        200
    );
    assert_eq!(
        jira.ask("maria", Method::PUT, &one, Some(edit.clone()))
            .await
            .0,
        400
    );
    assert_eq!(
        jira.ask("executor_bot", Method::POST, &comments, Some(edit))
            .await
            .0,
        400
    );
    let (code, _) = jira
        .ask(
            "bot",
            Method::POST,
            &comments,
            Some(json!({"body": "text"})),
        )
        .await;
    assert_eq!(code, 400);
    let list = jira.get("maria", &comments).await;
    assert_eq!(
        (
            list["total"].clone(),
            text(&list, "/comments/0/body/content/0/content/0/text")
        ),
        (json!(1), "two")
    );

    let links = format!("/rest/api/3/issue/{key}/remotelink");
    let link = json!({"globalId": "action-1", "object": {"url": "http://localhost/a", "title": "Approve"}});
    let (code, first) = jira
        .ask("bot", Method::POST, &links, Some(link.clone()))
        .await;
    assert_eq!(code, 201);
    let (code, second) = jira.ask("bot", Method::POST, &links, Some(link)).await;
    assert_eq!((code, second["id"].clone()), (200, first["id"].clone()));
    assert_eq!(jira.get("bot", &links).await.as_array().unwrap().len(), 1);
    assert_eq!(
        jira.ask("bot", Method::POST, &links, Some(json!({})))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_lost_answer_has_made_the_ticket() {
    let jira = TestJira::start(false).await;
    for how in ["close", "error"] {
        jira.control(
            "fail",
            json!({"mode": "lose-answer", "count": 1, "how": how}),
        )
        .await;
        let sent = jira
            .request("bot", Method::POST, "/rest/api/3/issue")
            .json(&issue("lost", "countersign-9"))
            .send()
            .await;
        match how {
            "close" => assert!(sent.is_err()),
            _ => assert_eq!(sent.unwrap().status(), 500),
        }
    }
    let made = jira.get("admin", "/playground/issues").await;
    assert_eq!(made["issues"].as_array().unwrap().len(), 2);

    jira.control("fail", json!({"mode": "429", "count": 1}))
        .await;
    let response = jira
        .send("bot", Method::GET, "/rest/api/3/myself", None)
        .await;
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["retry-after"]
        ),
        (429, &"1".parse().unwrap())
    );
    jira.control("fail", json!({"mode": "down"})).await;
    assert_eq!(
        jira.send("bot", Method::GET, "/rest/api/3/myself", None)
            .await
            .status(),
        503
    );
    jira.control("fail", json!({"mode": "none"})).await;
    jira.get("bot", "/rest/api/3/myself").await;
    let (code, _) = jira
        .ask(
            "maria",
            Method::POST,
            "/playground/fail",
            Some(json!({"mode": "none"})),
        )
        .await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn the_limit_per_issue_is_in_force_when_asked_for() {
    let jira = TestJira::start(true).await;
    let key = jira.create("busy", "countersign-1").await;
    let comments = format!("/rest/api/3/issue/{key}/comment");
    let mut codes = Vec::new();
    for _ in 0..21 {
        let body = json!({"body": document("again")});
        codes.push(jira.ask("bot", Method::POST, &comments, Some(body)).await.0);
    }
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 20);
    assert_eq!(codes[20], 429);
}

type Received = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A receiver that answers 503 to the first delivery.
async fn receiver() -> (String, Received) {
    async fn take(
        State(seen): State<Received>,
        headers: HeaderMap,
        body: axum::body::Bytes,
    ) -> StatusCode {
        let mut seen = seen.lock().unwrap();
        seen.push((headers, body.to_vec()));
        if seen.len() == 1 {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    }
    let received = Received::default();
    let app = axum::Router::new()
        .fallback(take)
        .with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jira", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, received)
}

#[tokio::test]
async fn webhooks_are_signed_identified_and_retried() {
    use hmac::{KeyInit as _, Mac as _};

    let jira = TestJira::start(false).await;
    let key = jira.create("a ticket", "countersign-1").await;
    let (url, received) = receiver().await;
    jira.control("webhook", json!({"url": url})).await;
    assert_eq!(jira.transition("li", &key, "31").await, 204);
    until("the retry", async || {
        (received.lock().unwrap().len() == 2).then_some(())
    })
    .await;
    let seen = received.lock().unwrap().clone();
    let id = |at: usize| seen[at].0["x-atlassian-webhook-identifier"].clone();
    assert_eq!(id(0), id(1));
    assert_eq!(seen[1].0["x-atlassian-webhook-retry"], "1");
    for (headers, body) in &seen {
        let secret = text(&jira.credentials, "/webhook_secret");
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body);
        let expected = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        assert_eq!(headers["x-hub-signature"], expected);
    }
    let event: Value = serde_json::from_slice(&seen[0].1).unwrap();
    assert_eq!(text(&event, "/webhookEvent"), "jira:issue_updated");
    assert_eq!(
        event["user"]["accountId"],
        jira.credentials["users"]["li"]["account_id"]
    );
    assert!(event["user"]["emailAddress"].is_null());
    assert_eq!(event["changelog"]["items"][0]["toString"], "Declined");
    assert_eq!(text(&event, "/issue/key"), key);
}

#[tokio::test]
async fn webhooks_can_be_doubled_and_lost() {
    let jira = TestJira::start(false).await;
    let (url, received) = receiver().await;
    jira.control(
        "webhook",
        json!({"url": url, "copies": 3, "jitter_ms": 50, "lose_every": 2}),
    )
    .await;
    jira.create("delivered", "countersign-1").await;
    jira.create("lost", "countersign-2").await;
    until("three copies and one retry", async || {
        (received.lock().unwrap().len() == 4).then_some(())
    })
    .await;
    let deliveries = jira.get("admin", "/playground/deliveries").await;
    assert_eq!(deliveries["deliveries"][1]["lost"], true);
    assert_eq!(deliveries["deliveries"][1]["attempts"], 0);
}

#[tokio::test]
async fn a_person_moves_a_ticket_on_the_page() {
    let jira = TestJira::start(false).await;
    let key = jira
        .create("<script>alert(1)</script>", "countersign-1")
        .await;
    let page = jira.url(&format!("/browse/{key}"));
    let stranger = jira.client.get(&page).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(!stranger.text().await.unwrap().contains("alert(1)"));
    let token = text(&jira.credentials, "/users/maria/token");
    let entered = jira
        .client
        .get(format!("{page}?as={token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(entered.status(), 303);
    assert_eq!(entered.headers()["location"], format!("/browse/{key}"));
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && !cookie.contains(token));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let shown = jira
        .client
        .get(&page)
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert!(
        shown.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );
    let html = shown.text().await.unwrap();
    assert!(html.contains("Simulated Jira") && html.contains("Maria Keller"));
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));

    let send = async |origin: Option<&str>| {
        let mut request = jira
            .client
            .post(format!("{page}/move"))
            .header("cookie", &cookie)
            .form(&[("transition", "31"), ("comment", "not <now>")]);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(None).await, 403);
    assert_eq!(send(Some("http://evil.example")).await, 403);
    assert_eq!(
        jira.client
            .get(format!("{page}/move"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    let own = jira.started.server.url();
    assert_eq!(send(Some(&own)).await, 303);
    assert_eq!(send(Some(&own)).await, 409);
    let moved = jira.get("bot", &format!("/rest/api/3/issue/{key}")).await;
    assert_eq!(moved["fields"]["status"]["id"], "10002");
    let html = jira
        .client
        .get(&page)
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert!(html.text().await.unwrap().contains("not &lt;now&gt;"));
}
