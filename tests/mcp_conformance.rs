//! The Model Context Protocol's own conformance suite, run against the server. Most of its
//! scenarios call tools, resources and prompts that a test server has to have; which of the others
//! apply to us, and why the rest does not, stands here as data.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, header};
use countersign_tests::stack::{Options, Stack};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/node");

/// Scenarios that apply, with the checks in them that cannot be made here.
const APPLY: &[(&str, &[&str])] = &[
    ("server-initialize", &[]),
    ("ping", &[]),
    ("tools-list", &[]),
    ("resources-list", &[]),
    ("prompts-list", &[]),
    ("dns-rebinding-protection", &[]),
    ("http-header-validation", &[]),
    ("input-required-result-unsupported-methods", &[]),
    ("sep-2164-resource-not-found", &[]),
    (
        "caching",
        // `resources/list` names templates only: which pods there are is a question for a tool.
        &["sep-2549-resources-read-caching-hints"],
    ),
    (
        "server-stateless",
        &[
            // They call tools of a test server.
            "sep-2575-server-rejects-undeclared-capability",
            "sep-2575-missing-capability-http-400",
            "sep-2575-http-server-no-independent-requests-on-stream",
            "sep-2575-server-no-log-without-loglevel",
            // Nothing to subscribe to: the lists never change.
            "sep-2575-server-sends-subscription-ack",
            "sep-2575-server-tags-subscription-id",
            "sep-2575-server-honors-notification-filter",
            "sep-2575-server-sends-prompts-list-changed-on-subscription",
            "sep-2575-server-sends-tools-list-changed-on-subscription",
        ],
    ),
];

const FIXTURE: &str = "calls tools, resources or prompts of a test server";
const ASKS: &str = "no tool asks the client for anything while it runs";
const SESSIONS: &str = "there are no sessions: each request stands for itself";
const NO_TASKS: &str = "the tasks extension is not offered: wait_for_action serves that need";

/// Scenarios that do not apply, and why.
const DO_NOT_APPLY: &[(&str, &str)] = &[
    ("completion-complete", "completions are not offered"),
    ("elicitation-sep1034-defaults", ASKS),
    ("elicitation-sep1330-enums", ASKS),
    (
        "http-custom-header-server-validation",
        "no tool has an argument that is repeated in a header",
    ),
    ("input-required-result-basic-elicitation", ASKS),
    ("input-required-result-basic-list-roots", ASKS),
    ("input-required-result-basic-sampling", ASKS),
    ("input-required-result-capability-check", ASKS),
    ("input-required-result-ignore-extra-params", ASKS),
    ("input-required-result-missing-input-response", ASKS),
    ("input-required-result-multi-round", ASKS),
    ("input-required-result-multiple-input-requests", ASKS),
    ("input-required-result-non-tool-request", ASKS),
    ("input-required-result-request-state", ASKS),
    ("input-required-result-result-type", ASKS),
    ("input-required-result-tampered-state", ASKS),
    ("input-required-result-validate-input", ASKS),
    ("json-schema-2020-12", FIXTURE),
    ("logging-set-level", "log messages are not sent to clients"),
    ("prompts-get-embedded-resource", FIXTURE),
    ("prompts-get-simple", FIXTURE),
    ("prompts-get-with-args", FIXTURE),
    ("prompts-get-with-image", FIXTURE),
    ("resources-read-binary", FIXTURE),
    ("resources-read-text", FIXTURE),
    ("resources-subscribe", "subscriptions are not offered"),
    ("resources-templates-read", FIXTURE),
    ("resources-unsubscribe", "subscriptions are not offered"),
    ("sep-2640-skills-directory", "skills are not offered"),
    ("sep-2640-skills-enumeration", "skills are not offered"),
    ("sep-2640-skills-manifest", "skills are not offered"),
    ("server-session-lifecycle", SESSIONS),
    ("server-sse-multiple-streams", SESSIONS),
    ("server-sse-polling", SESSIONS),
    ("tasks-capability-negotiation", NO_TASKS),
    ("tasks-dispatch-and-envelope", NO_TASKS),
    ("tasks-lifecycle", NO_TASKS),
    ("tasks-mrtr-composition", NO_TASKS),
    ("tasks-mrtr-input", NO_TASKS),
    ("tasks-request-headers", NO_TASKS),
    ("tasks-request-state-removal", NO_TASKS),
    ("tasks-required-task-error", NO_TASKS),
    ("tasks-status-notifications", NO_TASKS),
    ("tasks-wire-fields", NO_TASKS),
    ("tools-call-audio", FIXTURE),
    ("tools-call-elicitation", ASKS),
    ("tools-call-embedded-resource", FIXTURE),
    ("tools-call-error", FIXTURE),
    ("tools-call-image", FIXTURE),
    ("tools-call-mixed-content", FIXTURE),
    ("tools-call-sampling", ASKS),
    ("tools-call-simple-text", FIXTURE),
    ("tools-call-with-logging", FIXTURE),
    ("tools-call-with-progress", FIXTURE),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_server_passes_every_scenario_that_applies_to_it() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let proxy = proxy(&stack.url, &stack.secrets.api_key).await;
    let folder = tempfile::tempdir().unwrap();
    // It ends with a failure because of what does not apply; what counts are the results.
    let run = Command::new(format!("{NODE}/node_modules/.bin/node"))
        .arg("node_modules/@modelcontextprotocol/conformance/dist/index.js")
        .args(["server", "--suite", "all", "--url"])
        .arg(format!("http://{proxy}/mcp"))
        .arg("--output-dir")
        .arg(folder.path())
        .current_dir(NODE)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(Duration::from_secs(120), run).await;
    let run = run.expect("the suite takes too long");
    let run = run.expect("the suite is installed by `cargo xtask test`");
    let results = results(folder.path());
    let text = String::from_utf8_lossy(&run.stdout);
    let last = &text[text.len().saturating_sub(2000)..];
    assert!(!results.is_empty(), "no results: {last}");

    let apply: BTreeSet<&str> = APPLY.iter().map(|(name, _)| *name).collect();
    let others: BTreeSet<&str> = DO_NOT_APPLY.iter().map(|(name, _)| *name).collect();
    assert!(apply.is_disjoint(&others));
    let known: BTreeSet<&str> = apply.union(&others).copied().collect();
    let ran: BTreeSet<&str> = results.keys().map(String::as_str).collect();
    assert_eq!(ran, known, "say of each scenario whether it applies");

    let mut failed = Vec::new();
    for (scenario, excused) in APPLY {
        let mut passed = 0;
        for check in results[*scenario].as_array().unwrap() {
            let id = check["id"].as_str().unwrap();
            match check["status"].as_str().unwrap() {
                "SUCCESS" => passed += 1,
                "INFO" => {}
                _ if excused.contains(&id) => {}
                status => failed.push(format!("{scenario}: {id}: {status}: {check}")),
            }
        }
        eprintln!("{scenario}: {passed} checks passed");
        assert!(passed > 0, "{scenario} checked nothing");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    stack.stop().await.unwrap();
}

/// Checks by scenario. The suite makes a folder `server-NAME-TIME` for each.
fn results(folder: &Path) -> BTreeMap<String, Value> {
    const TIME: usize = "-2026-01-01T00-00-00-000Z".len();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let name = name.strip_prefix("server-").unwrap();
        let name = name[..name.len() - TIME].to_owned();
        let checks = std::fs::read_to_string(entry.path().join("checks.json")).unwrap();
        found.insert(name, serde_json::from_str(&checks).unwrap());
    }
    found
}

struct Proxy {
    /// `host:port` of the server, and of this.
    server: String,
    own: String,
    api_key: String,
    client: reqwest::Client,
}

/// The suite cannot log in: this adds the key to each request. It stands at an address of its own,
/// so it puts the server's in its place; every other name goes through as it came.
async fn proxy(server: &str, api_key: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let proxy = Arc::new(Proxy {
        server: server.strip_prefix("http://").unwrap().to_owned(),
        own: own.clone(),
        api_key: api_key.to_owned(),
        client: reqwest::Client::builder().build().unwrap(),
    });
    let app = axum::Router::new().fallback(forward).with_state(proxy);
    tokio::spawn(async move { axum::serve(listener, app).await });
    own
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let mut headers = head.headers;
    for name in [header::HOST, header::ORIGIN] {
        if let Some(value) = headers.get(&name) {
            let value = value.to_str().unwrap().replace(&proxy.own, &proxy.server);
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
    }
    headers.insert(
        HeaderName::from_static("x-api-key"),
        HeaderValue::from_str(&proxy.api_key).unwrap(),
    );
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = proxy
        .client
        .request(head.method, format!("http://{}{path}", proxy.server))
        .headers(headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != header::TRANSFER_ENCODING && name != header::CONTENT_LENGTH {
            response = response.header(name, value);
        }
    }
    // Whole: the server answers in JSON, without streams.
    response
        .body(Body::from(answer.bytes().await.unwrap()))
        .unwrap()
}
