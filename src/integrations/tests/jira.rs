//! Reader and writer over real HTTP, against a small Jira that keeps state and can fail in the
//! ways that matter: before the work, after it, and without an answer.

#![expect(clippy::unwrap_used, reason = "a failure here is the test failing")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use countersign_integrations::jira::adf::{self, Document, text_node};
use countersign_integrations::jira::{
    CommentOutcome, IssueType, JiraError, JiraReader, JiraWriter, NewIssue, RemoteLink,
    TransitionOutcome, latest_status_move,
};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

#[derive(Default)]
struct Site {
    issues: Vec<Value>,
    comments: Vec<Value>,
    links: Vec<Value>,
    changes: Vec<Value>,
    /// What happens to the next request instead of, or after, its work.
    fault: Option<Fault>,
    seen: Vec<String>,
}

#[derive(Clone)]
enum Fault {
    /// Answers at once, doing nothing.
    Refuse(u16, Value, Option<&'static str>),
    /// Does the work of the next POST, then answers 502.
    LoseAnswer,
}

type Shared = Arc<Mutex<Site>>;

async fn start() -> (Shared, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let site = Shared::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(serve).with_state(site.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (site, url)
}

async fn writer() -> (Shared, JiraWriter) {
    let (site, url) = start().await;
    (
        site,
        JiraWriter::new(&url, "bot@example.org", SecretString::from("planted")).unwrap(),
    )
}

async fn serve(State(site): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut site = site.lock().unwrap();
    site.seen.push(format!("{} {}", head.method, head.uri));
    // bot@example.org:planted
    if head.headers.get("authorization").unwrap() != "Basic Ym90QGV4YW1wbGUub3JnOnBsYW50ZWQ=" {
        return (StatusCode::UNAUTHORIZED, "").into_response();
    }
    let waits = matches!(site.fault, Some(Fault::LoseAnswer)) && head.method == Method::GET;
    let fault = if waits { None } else { site.fault.take() };
    if let Some(Fault::Refuse(status, body, retry_after)) = &fault {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", seconds.parse().unwrap());
        }
        return (
            StatusCode::from_u16(*status).unwrap(),
            headers,
            body.to_string(),
        )
            .into_response();
    }
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes())
            .into_owned()
            .collect();
    let (status, answer) = work(&mut site, &head.method, head.uri.path(), &query, &body);
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    (StatusCode::from_u16(status).unwrap(), answer.to_string()).into_response()
}

fn work(
    site: &mut Site,
    method: &Method,
    path: &str,
    query: &[(String, String)],
    body: &Value,
) -> (u16, Value) {
    let get = *method == Method::GET;
    let argument = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.as_str())
    };
    let start: usize = argument("startAt")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let size: usize = argument("maxResults")
        .and_then(|text| text.parse().ok())
        .unwrap_or(50);
    let parts: Vec<&str> = path.trim_start_matches("/rest/api/3/").split('/').collect();
    match parts.as_slice() {
        ["myself"] => (200, json!({ "accountId": "bot", "displayName": "Bot" })),
        ["issue"] => {
            let id = (10_001 + site.issues.len()).to_string();
            let key = format!("OPS-{}", site.issues.len() + 1);
            let mut fields = body["fields"].clone();
            fields["status"] = json!({ "id": "1", "name": "To do" });
            fields["project"] = json!({ "id": "77", "key": "OPS" });
            fields["creator"] = json!({ "accountId": "bot" });
            fields["created"] = json!("2026-11-22T02:00:00.000+0000");
            let properties = body["properties"].clone();
            let issue = json!({ "id": id, "key": key, "fields": fields, "properties": properties });
            site.issues.push(issue);
            (201, json!({ "id": id, "key": key, "self": "x" }))
        }
        ["search", "jql"] => {
            let jql = argument("jql").unwrap();
            let found: Vec<&Value> = site
                .issues
                .iter()
                .filter(|issue| {
                    let labels = issue["fields"]["labels"].as_array().unwrap();
                    labels
                        .iter()
                        .any(|label| jql.contains(&format!("labels = {label}")))
                })
                .collect();
            (200, json!({ "issues": found, "isLast": true }))
        }
        ["issue", id, rest @ ..] => {
            let Some(at) = site
                .issues
                .iter()
                .position(|i| i["id"] == *id || i["key"] == *id)
            else {
                return (404, json!({ "errorMessages": ["Issue does not exist"] }));
            };
            match rest {
                [] => (200, site.issues[at].clone()),
                ["changelog"] => {
                    let page: Vec<&Value> = site
                        .changes
                        .iter()
                        .skip(start)
                        .take(size.min(100))
                        .collect();
                    let total = site.changes.len();
                    (
                        200,
                        json!({ "startAt": start, "total": total, "values": page }),
                    )
                }
                ["comment"] if get => {
                    let mut all: Vec<&Value> = site.comments.iter().collect();
                    if argument("orderBy") == Some("-created") {
                        all.reverse();
                    }
                    // Pages may be smaller than what was asked for.
                    let page: Vec<&Value> = all.into_iter().skip(start).take(size.min(2)).collect();
                    (
                        200,
                        json!({ "total": site.comments.len(), "comments": page }),
                    )
                }
                ["comment"] => {
                    let id = site.comments.len().to_string();
                    let comment =
                        json!({ "id": id, "author": { "accountId": "bot" }, "body": body["body"] });
                    site.comments.push(comment.clone());
                    (201, comment)
                }
                ["transitions"] if get => {
                    let offered = json!([
                        { "id": "31", "name": "Approved", "to": { "id": "9", "name": "Other" } },
                        { "id": "41", "name": "Go", "to": { "id": "5", "name": "Approved" } },
                    ]);
                    (200, json!({ "transitions": offered }))
                }
                ["transitions"] => {
                    assert_eq!(body["transition"]["id"], "41");
                    site.issues[at]["fields"]["status"] = json!({ "id": "5", "name": "Approved" });
                    (204, Value::Null)
                }
                ["remotelink"] => {
                    site.links
                        .retain(|link| link["globalId"] != body["globalId"]);
                    site.links.push(body.clone());
                    (201, json!({ "id": 1 }))
                }
                _ => (404, Value::Null),
            }
        }
        _ => (404, Value::Null),
    }
}

fn ticket(label: &str) -> NewIssue {
    NewIssue {
        project: "OPS".into(),
        issue_type: IssueType::Id("3".into()),
        summary: "Restart pod shop/web-1".into(),
        description: Document::new().paragraph([text_node("EVICT")]).into_value(),
        labels: vec![label.into()],
        properties: vec![("countersign".into(), json!({ "action": "a1" }))],
        extra_fields: Map::from_iter([
            ("customfield_1".into(), json!("x")),
            ("summary".into(), json!("not this")),
        ]),
    }
}

#[tokio::test]
async fn a_ticket_is_made_and_found_again() {
    let (site, jira) = writer().await;
    let made = jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    assert_eq!((made.id.as_str(), made.key.as_str()), ("10001", "OPS-1"));
    let stored = site.lock().unwrap().issues[0].clone();
    assert_eq!(stored["fields"]["customfield_1"], "x");
    assert_eq!(
        stored["fields"]["summary"], "Restart pod shop/web-1",
        "ours wins"
    );
    assert_eq!(stored["properties"][0]["key"], "countersign");

    let issue = jira.reader().issue(&made.key).await.unwrap();
    assert_eq!(issue.creator_account_id.as_deref(), Some("bot"));
    assert_eq!(
        (issue.status_id.as_str(), issue.issue_type_id.as_str()),
        ("1", "3")
    );
    assert_eq!(
        adf::canonical(&issue.description),
        adf::canonical(&ticket("x").description)
    );
    let found = jira
        .reader()
        .search_by_label("countersign-a1")
        .await
        .unwrap();
    assert_eq!(found, [issue]);
    assert!(
        jira.reader()
            .search_by_label("countersign-a2")
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(jira.reader().myself().await.unwrap().account_id, "bot");
    assert!(!format!("{jira:?}").contains("planted"));
}

#[tokio::test]
async fn a_lost_answer_is_ambiguous_and_the_label_tells() {
    let (site, jira) = writer().await;
    site.lock().unwrap().fault = Some(Fault::LoseAnswer);
    let error = jira
        .create_issue(&ticket("countersign-a1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, JiraError::Ambiguous { .. }) && !error.is_transient(),
        "{error}"
    );
    assert_eq!(
        jira.reader()
            .search_by_label("countersign-a1")
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn refusals_say_what_to_change() {
    let (site, jira) = writer().await;
    let create = async |status: u16, body: Value, retry_after: Option<&'static str>| {
        site.lock().unwrap().fault = Some(Fault::Refuse(status, body, retry_after));
        jira.create_issue(&ticket("countersign-a1"))
            .await
            .unwrap_err()
    };
    let body = json!({ "errorMessages": [], "errors": { "customfield_9": "Team is required." } });
    let error = create(400, body, None).await;
    assert_eq!(
        error.to_string(),
        "Jira refuses this: customfield_9: Team is required."
    );
    let limited = |seconds| JiraError::RateLimited {
        retry_after: Duration::from_secs(seconds),
    };
    assert_eq!(create(429, Value::Null, Some("7")).await, limited(7));
    assert_eq!(create(429, Value::Null, None).await, limited(30));
    assert_eq!(
        create(401, Value::Null, None).await,
        JiraError::Unauthorized
    );
    assert_eq!(create(403, Value::Null, None).await.code(), "forbidden");
    assert_eq!(create(409, Value::Null, None).await, JiraError::Conflict);
    assert_eq!(create(503, Value::Null, None).await.code(), "ambiguous");
    assert_eq!(create(302, Value::Null, None).await.code(), "unexpected");
    assert!(site.lock().unwrap().issues.is_empty());

    site.lock().unwrap().fault = Some(Fault::Refuse(503, Value::Null, None));
    assert_eq!(
        jira.reader().issue("OPS-1").await.unwrap_err().code(),
        "unavailable"
    );
    assert_eq!(
        jira.reader().issue("OPS-1").await.unwrap_err().code(),
        "not_found"
    );

    let before = site.lock().unwrap().seen.len();
    let mut long = ticket("countersign-a1");
    long.summary = "x".repeat(256);
    assert_eq!(
        jira.create_issue(&long).await.unwrap_err().code(),
        "invalid"
    );
    assert_eq!(
        jira.create_issue(&ticket("a b")).await.unwrap_err().code(),
        "invalid"
    );
    assert_eq!(
        jira.reader().issue("../myself").await.unwrap_err().code(),
        "invalid"
    );
    assert_eq!(
        site.lock().unwrap().seen.len(),
        before,
        "none of these was sent"
    );
}

#[tokio::test]
async fn nothing_was_done_where_there_is_no_connection() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let token = SecretString::from("planted");
    let jira = JiraWriter::new(&format!("http://{free}"), "bot@example.org", token).unwrap();
    let error = jira
        .create_issue(&ticket("countersign-a1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, JiraError::Unavailable { .. }) && error.is_transient(),
        "{error}"
    );
}

#[tokio::test]
async fn huge_answers_are_not_read_to_the_end() {
    let (site, jira) = writer().await;
    let huge = json!({ "accountId": "x".repeat(2 << 20) });
    site.lock().unwrap().fault = Some(Fault::Refuse(200, huge, None));
    let error = jira.reader().myself().await.unwrap_err();
    assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    assert!(!error.is_transient(), "it stays as large as it is");
    let long = json!({ "errorMessages": ["x".repeat(2 << 20)] });
    site.lock().unwrap().fault = Some(Fault::Refuse(503, long, None));
    let error = jira.reader().myself().await.unwrap_err();
    assert_eq!(error.code(), "unavailable", "its status says more");
}

#[tokio::test]
async fn a_history_of_long_texts_is_read_in_smaller_pages() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let edit = |n: usize, length: usize| {
        json!({
            "id": n.to_string(), "author": { "accountId": "eve" },
            "created": format!("2026-11-22T02:00:{n:02}.000+0000"),
            "items": [{ "field": "description", "fieldId": "description",
                "fromString": "x".repeat(length), "toString": "y".repeat(length) }],
        })
    };
    site.lock().unwrap().changes = (0..30).map(|n| edit(n, 32_000)).collect();
    let log = jira.reader().changelog("OPS-1").await.unwrap();
    assert_eq!(log.len(), 30);
    let kept = log[0].items[0].to_string.as_ref().unwrap();
    assert!(kept.len() <= 255, "{}", kept.len());
    let pages = |seen: &[String]| seen.iter().filter(|r| r.contains("changelog")).count();
    assert_eq!(
        pages(&site.lock().unwrap().seen),
        4,
        "one refused, then three"
    );

    site.lock().unwrap().changes[7] = edit(7, 600_000);
    let error = jira.reader().changelog("OPS-1").await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("unexpected", false));
}

/// Anybody who may edit a ticket can give it a history: of a long one little is read.
#[tokio::test]
async fn a_history_longer_than_any_of_ours_is_not_read() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let edit = |n: usize, length: usize| {
        json!({
            "id": n.to_string(), "author": { "accountId": "eve" },
            "created": "2026-11-22T02:00:00.000+0000",
            "items": [{ "field": "description", "fieldId": "description",
                "fromString": "x".repeat(length), "toString": "y".repeat(length) }],
        })
    };
    let look = async |changes: Vec<Value>| {
        site.lock().unwrap().changes = changes;
        site.lock().unwrap().seen.clear();
        let looked = jira.reader().look("OPS-1").await;
        let looked = looked.map(|(_, history)| history.len());
        let seen = site.lock().unwrap().seen.clone();
        (
            looked,
            seen.iter().filter(|r| r.contains("changelog")).count(),
        )
    };
    let (looked, _) = look((0..500).map(|n| edit(n, 9)).collect()).await;
    assert_eq!(looked.unwrap(), 500);

    for (count, length, pages, why) in [
        (501, 9, 1, "longer than any history of ours"),
        (900, 32_000, 2, "longer than any history of ours"),
        // The first page is too large at once; then ten entries at a time.
        (400, 32_000, 6, "larger than 4 MiB"),
    ] {
        let (looked, asked) = look((0..count).map(|n| edit(n, length)).collect()).await;
        let error = looked.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_transient(), "it stays as long as it is");
        assert_eq!(asked, pages, "{count} of {length}");
    }
}

#[tokio::test]
async fn the_latest_comments_come_first() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let comment = |n: usize, length: usize| {
        json!({ "id": n.to_string(), "author": { "accountId": "maria" },
            "body": Document::new().paragraph([text_node(&"x".repeat(length))]).into_value() })
    };
    site.lock().unwrap().comments = (0..3).map(|n| comment(n, 9)).collect();
    let latest = jira.reader().comments("OPS-1", 50).await.unwrap();
    let ids: Vec<&str> = latest.iter().map(|comment| comment.id.as_str()).collect();
    assert_eq!(ids, ["2", "1"]);
    assert_eq!(latest[0].author_account_id.as_deref(), Some("maria"));
    assert_eq!(adf::text(&latest[0].body), "x".repeat(9));

    site.lock().unwrap().comments[1] = comment(1, 2 << 20);
    let latest = jira.reader().comments("OPS-1", 50).await.unwrap();
    assert_eq!(
        latest.len(),
        1,
        "the long one and what is older is left out"
    );
}

#[tokio::test]
async fn the_history_is_read_to_its_end_and_put_in_order() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let change = |n: u32, to: &str, author: &str| {
        json!({
            "id": n.to_string(), "author": { "accountId": author },
            "created": format!("2026-11-22T02:{:02}:{:02}.000+0000", n / 60, n % 60),
            "items": [{ "field": "status", "fieldId": "status", "from": "1", "to": to }],
        })
    };
    let mut changes: Vec<Value> = (0..250).map(|n| change(n, "4", "li")).collect();
    changes.push(change(251, "1", "maria"));
    changes.reverse();
    site.lock().unwrap().changes = changes;
    let log = jira.reader().changelog("OPS-1").await.unwrap();
    assert_eq!(log.len(), 251);
    assert!(log.is_sorted_by_key(|entry| entry.created));
    let issue = jira.reader().issue("OPS-1").await.unwrap();
    let latest = latest_status_move(&issue, &log).unwrap();
    assert_eq!(latest.author_account_id.as_deref(), Some("maria"));

    let short = json!({ "total": 9, "values": [] });
    site.lock().unwrap().fault = Some(Fault::Refuse(200, short, None));
    let error = jira.reader().changelog("OPS-1").await.unwrap_err();
    assert!(
        error.to_string().contains("ends before its own total"),
        "{error}"
    );
}

#[tokio::test]
async fn a_comment_is_added_once_even_if_its_answer_was_lost() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let body = Document::new()
        .paragraph([text_node("Executed.")])
        .into_value();
    // Somebody else's comment with our marker does not silence us.
    site.lock().unwrap().comments = (0..3)
        .map(|n| {
            json!({ "id": format!("eve{n}"), "author": { "accountId": "eve" },
                "body": Document::new().paragraph([text_node("[a1-executed]")]).into_value() })
        })
        .collect();
    site.lock().unwrap().fault = Some(Fault::LoseAnswer);
    let add = async || jira.add_comment("OPS-1", &body, "a1-executed").await;
    assert!(matches!(add().await, Err(JiraError::Ambiguous { .. })));
    assert!(matches!(
        add().await.unwrap(),
        CommentOutcome::AlreadyThere { .. }
    ));
    let stored = site.lock().unwrap().comments[3]["body"].clone();
    assert_eq!(adf::text(&stored), "Executed.\n[a1-executed]");
    let other = jira
        .add_comment("OPS-1", &body, "a1-verified")
        .await
        .unwrap();
    assert!(matches!(other, CommentOutcome::Added { .. }));
    assert_eq!(site.lock().unwrap().comments.len(), 5);
}

#[tokio::test]
async fn transitions_are_chosen_by_the_status_they_lead_to() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let to = async |status: &str| jira.transition_to_status("10001", status).await;
    assert_eq!(to("1").await.unwrap(), TransitionOutcome::AlreadyThere);
    let error = to("6").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("offered: Other (9), Approved (5)"),
        "{error}"
    );
    assert_eq!(to("5").await.unwrap(), TransitionOutcome::Moved);
    assert_eq!(to("5").await.unwrap(), TransitionOutcome::AlreadyThere);
    let posts = |seen: &[String]| {
        seen.iter()
            .filter(|r| r.starts_with("POST") && r.ends_with("transitions"))
            .count()
    };
    assert_eq!(posts(&site.lock().unwrap().seen), 1);
}

#[tokio::test]
async fn a_remote_link_is_updated_in_place() {
    let (site, jira) = writer().await;
    jira.create_issue(&ticket("countersign-a1")).await.unwrap();
    let mut link = RemoteLink {
        global_id: "countersign-a1".into(),
        url: "https://x/actions/a1".into(),
        title: "Decide here".into(),
        resolved: false,
    };
    jira.remote_link("OPS-1", &link).await.unwrap();
    link.resolved = true;
    jira.remote_link("OPS-1", &link).await.unwrap();
    let links = site.lock().unwrap().links.clone();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0]["object"]["status"]["resolved"], true);
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let (_site, url) = start().await;
    let reader = JiraReader::new(&url, "bot@example.org", SecretString::from("wrong")).unwrap();
    assert_eq!(reader.myself().await.unwrap_err(), JiraError::Unauthorized);
}
