//! What a scrape of the server says after a proposal, a decision and a call: each metric that
//! docs/operating.md promises of it, with its value. Alone in its process, whose metrics they are.

#![allow(
    clippy::unwrap_used,
    reason = "test code, also outside of the test functions"
)]

#[allow(dead_code, reason = "the tests of the pages use more of it")]
#[path = "web/browser.rs"]
mod browser;
#[path = "web/stage.rs"]
mod stage;

use browser::Browser;
use countersign_server::config::ApiKey;
use countersign_server::mcp::auth::hash_of;
use countersign_telemetry::Metrics;
use jiff::SignedDuration;
use reqwest::StatusCode;
use stage::{Ask, Stage, now};

const KEY: &str = "cs_test-key-of-claude";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_actions","arguments":{}}}"#;

/// The value of one line of a scrape, without any doubt about which.
fn value(scrape: &str, name: &str) -> f64 {
    let lines = scrape.lines().filter_map(|line| line.rsplit_once(' '));
    let values: Vec<&str> = lines
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .collect();
    match values.as_slice() {
        [value] => value.parse().unwrap(),
        other => panic!("{name} is there {} times in {scrape}", other.len()),
    }
}

#[tokio::test]
async fn a_scrape_tells_what_the_manual_promises() {
    let mut stage = Stage::start().await;
    stage
        .restart(|app| {
            app.metrics = Some(Metrics::install().unwrap());
            app.loaded.config.api_keys.push(ApiKey {
                name: "claude-laptop".into(),
                agent: "claude-ops".into(),
                sha256: hash_of(KEY),
                expires_at: None,
                namespaces: None,
            });
        })
        .await;
    let scraper = Browser::new(&stage);
    let scrape = async || {
        let page = scraper.get("/metrics").await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(
            page.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        page.body
    };
    let before = scrape().await;
    assert_eq!(value(&before, "countersign_actions_pending"), 0.0);
    let oldest = "countersign_action_oldest_pending_seconds";
    assert_eq!(value(&before, oldest), 0.0);

    let begun = std::time::Instant::now();
    let first = stage.ask(&Ask::default()).await;
    let other = Ask {
        pod: "other-1".into(),
        ..Ask::default()
    };
    stage.ask(&other).await;
    let beat = now() - SignedDuration::from_secs(100);
    stage.heartbeat(beat, "ok").await;
    let waiting = scrape().await;
    assert_eq!(value(&waiting, "countersign_actions_pending"), 2.0);
    let most = begun.elapsed().as_secs_f64() + 1.0;
    let age = value(&waiting, oldest);
    assert!(age > 0.0 && age <= most, "{age}");
    let silent = value(
        &waiting,
        "countersign_executor_heartbeat_age_seconds{cluster=\"prod-eu\",executor=\"executor-1\"}",
    );
    assert!((100.0..100.0 + most).contains(&silent), "{silent}");
    // Nobody delivers them here.
    for family in ["ticket", "notify_webhook", "notify_slack"] {
        let name = format!("countersign_outbox_oldest_seconds{{family=\"{family}\"}}");
        let age = value(&waiting, &name);
        assert!(age > 0.0 && age <= most, "{family}: {age}");
    }

    let li = Browser::logged_in(&stage, "li").await;
    let id = first.id.to_string();
    let page = li.get(&format!("/actions/{id}")).await;
    let answered = li.answer(&id, &page, "approve", "").await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER);
    let call = scraper
        .request(reqwest::Method::POST, "/mcp")
        .header("x-api-key", KEY)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(CALL);
    assert_eq!(Browser::send(call).await.status, StatusCode::OK);
    let after = scrape().await;
    assert_eq!(value(&after, "countersign_actions_pending"), 1.0);
    let waited = "countersign_decision_latency_seconds";
    assert_eq!(value(&after, &format!("{waited}_count")), 1.0);
    let sum = value(&after, &format!("{waited}_sum"));
    assert!(sum > 0.0 && sum <= begun.elapsed().as_secs_f64(), "{sum}");
    let calls = "countersign_tool_calls_total{tool=\"list_actions\",outcome=\"ok\"}";
    assert_eq!(value(&after, calls), 1.0);
    let took = "countersign_tool_call_seconds_count{tool=\"list_actions\"}";
    assert_eq!(value(&after, took), 1.0);
}
