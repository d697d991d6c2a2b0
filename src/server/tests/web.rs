//! The pages over HTTP, as a browser and as an attacker meet them.

#![allow(
    clippy::unwrap_used,
    reason = "test code, also outside of the test functions"
)]

#[path = "web/browser.rs"]
mod browser;
#[path = "web/decisions.rs"]
mod decisions;
#[path = "web/forged.rs"]
mod forged;
#[path = "web/forger.rs"]
mod forger;
#[path = "web/log_in.rs"]
mod log_in;
#[path = "web/stage.rs"]
mod stage;

use std::time::Duration;

use browser::{Browser, events, state};
use countersign_domain::{EventName, StateName, Verb};
use jiff::SignedDuration;
use log_in::elsewhere;
use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};
use stage::{Ask, PASSWORD, Stage, now};

#[tokio::test]
async fn a_link_lands_on_the_decision_after_the_log_in_and_approving_works() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let path = format!("/actions/{}", action.id);
    let mut browser = Browser::new(&stage);

    let away = browser.get(&path).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    let login = browser.get(away.location()).await;
    assert_eq!(login.field("next"), path);

    let wrong = browser.log_in("li", "not the password", &path).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.has("do not go together") && browser.cookie.is_none());
    assert_eq!(wrong.field("next"), path);

    let right = browser.log_in("li", PASSWORD, &path).await;
    assert_eq!(
        (right.status, right.location()),
        (StatusCode::SEE_OTHER, path.as_str())
    );
    let cookie = right.headers[SET_COOKIE].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }

    let page = browser.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    for text in [
        "Maria K.",
        "claude-ops",
        "Claimed by the AI",
        "2 of 3 ready, this pod included",
        "Approve restart",
        "live",
    ] {
        assert!(page.has(text), "{text} is missing");
    }
    let answered = browser
        .answer(&action.id.to_string(), &page, "approve", "")
        .await;
    assert_eq!(
        (answered.status, answered.location()),
        (StatusCode::SEE_OTHER, path.as_str())
    );
    assert_eq!(state(&stage, &action).await, StateName::Approved);
    let after = browser.get(&path).await;
    assert!(after.has("Approved by Li Wei"));

    // What was stored is what the executor will believe.
    let detail = stage.store.detail(action.id).await.unwrap().unwrap();
    let sealed = detail.decisions[0].sealed.clone().unwrap();
    let keys = stage.app.attestor.key_ring();
    let decision = sealed
        .open::<countersign_domain::Decision>(&keys, now())
        .unwrap();
    assert_eq!(
        (decision.body().person.as_str(), decision.body().verb),
        ("li", Verb::Approve)
    );

    // Both tries to log in are on record, and the look is, once.
    browser.get(&path).await;
    assert_eq!(events(&stage, &action, EventName::Viewed).await.len(), 1);
    let log = browser.get("/audit").await;
    for text in [
        "person.logged_in",
        "person.log_in_failed",
        "action.viewed",
        "action.approved",
    ] {
        assert!(log.has(text), "{text}");
    }
}

#[tokio::test]
async fn every_answer_carries_its_headers_and_assets_may_be_kept() {
    let stage = Stage::start().await;
    let browser = Browser::logged_in(&stage, "li").await;
    for path in ["/", "/login", "/audit", "/actions/nothing", "/fragment"] {
        let page = browser.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "trusted-types",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(page.headers["referrer-policy"], "same-origin", "{path}");
        assert!(
            !page.has("style=\"") && !page.has("onclick"),
            "{path}: would be blocked"
        );
    }
    let page = browser.get("/").await;
    let at = page.body.find("/assets/style-").unwrap();
    let style = page.body[at..].split('"').next().unwrap();
    let style = browser.get(style).await;
    assert_eq!(style.status, StatusCode::OK);
    assert!(
        style.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(
        browser.get("/assets/style-000000000000.css").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn forms_that_are_not_ours_are_refused() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let browser = Browser::logged_in(&stage, "li").await;
    let id = action.id.to_string();
    let decision = format!("/actions/{id}/decision");
    let page = browser.get(&format!("/actions/{id}")).await;
    let (csrf, digest, version) = (
        page.field("csrf"),
        page.field("digest"),
        page.field("version"),
    );
    let with = |csrf: &str| {
        vec![
            ("csrf".to_owned(), csrf.to_owned()),
            ("digest".into(), digest.clone()),
            ("version".into(), version.clone()),
            ("verb".into(), "approve".into()),
        ]
    };
    let post = |fields: Vec<(String, String)>| {
        browser
            .request(Method::POST, &decision)
            .header(ORIGIN, &stage.url)
            .form(&fields)
    };

    let other = Browser::logged_in(&stage, "omar").await;
    let theirs = other.get("/").await.field("csrf");
    for (what, token) in [
        ("none", ""),
        ("wrong", "abc"),
        ("another session's", &theirs),
    ] {
        let refused = Browser::send(post(with(token))).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{what}");
    }
    let missing: Vec<_> = with(&csrf).split_off(1);
    assert_eq!(
        Browser::send(post(missing)).await.status,
        StatusCode::FORBIDDEN
    );

    for origin in [Some("https://evil.example"), Some("null"), None] {
        let mut request = browser.request(Method::POST, &decision).form(&with(&csrf));
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        assert_eq!(
            Browser::send(request).await.status,
            StatusCode::FORBIDDEN,
            "{origin:?}"
        );
    }
    let cross = post(with(&csrf)).header("sec-fetch-site", "cross-site");
    assert_eq!(Browser::send(cross).await.status, StatusCode::FORBIDDEN);

    // A name that was pointed at us by somebody else.
    for path in ["/", decision.as_str()] {
        let rebound = browser
            .request(Method::GET, path)
            .header(HOST, "evil.example");
        assert_eq!(
            Browser::send(rebound).await.status,
            StatusCode::MISDIRECTED_REQUEST
        );
    }
    // Following a link decides nothing.
    let link = browser
        .get(&format!(
            "{decision}?csrf={csrf}&digest={digest}&verb=approve"
        ))
        .await;
    assert_eq!(link.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(link.has("Opening this address does nothing"));
    // Nor does an unknown verb, a broken form, or a body beyond bounds.
    let mut odd = with(&csrf);
    odd[3].1 = "maybe".into();
    assert_eq!(
        Browser::send(post(odd)).await.status,
        StatusCode::BAD_REQUEST
    );
    let mut long = with(&csrf);
    long.push(("reason".into(), "x".repeat(20_000)));
    assert_eq!(
        Browser::send(post(long)).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let json = browser
        .request(Method::POST, &decision)
        .header(ORIGIN, &stage.url)
        .header(CONTENT_TYPE, "application/json")
        .body("{}");
    assert_eq!(Browser::send(json).await.status, StatusCode::FORBIDDEN);
    // And without a session one is sent to log in, and back to the page, not to the form.
    let stranger = Browser::new(&stage);
    let away = stranger.post(&decision, &[]).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    assert!(away.location().starts_with("/login?next=%2Factions%2F"));
    assert!(!away.location().contains("decision"));
    for live in [
        format!("/actions/{id}/fragment"),
        format!("/actions/{id}/events"),
    ] {
        assert_eq!(stranger.get(&live).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(state(&stage, &action).await, StateName::Pending);
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let stage = Stage::start().await;
    let evil =
        "</blockquote><script>alert(1)</script>\u{202e}\u{200b}{{7*7}} \"><img src=x onerror=x>";
    let action = stage
        .ask(&Ask {
            reason: evil.repeat(60),
            ..Ask::default()
        })
        .await;
    stage
        .ticket(action.id, "OPS-1", "javascript:alert(1)")
        .await;
    let li = Browser::logged_in(&stage, "li").await;
    for path in [
        format!("/actions/{}", action.id),
        "/?tab=all".into(),
        "/audit".into(),
    ] {
        let page = li.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            !page.has("<script>alert") && !page.has("<img src=x"),
            "{path}"
        );
        assert!(!page.has("\u{202e}") && !page.has("\u{200b}"), "{path}");
        assert!(!page.has("href=\"javascript:"), "{path}");
    }
    let page = li.get(&format!("/actions/{}", action.id)).await;
    assert!(page.has("⟨U+202E⟩") && page.has("more characters"));
    let hostile = li
        .get("/audit?actor=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        .await;
    assert!(hostile.status == StatusCode::OK && !hostile.has("<script>alert"));
}

#[tokio::test]
async fn the_page_says_whether_a_tap_can_take_effect() {
    let stage = Stage::start().await;
    let li = Browser::logged_in(&stage, "li").await;
    let same = stage
        .ask(&Ask {
            pod: "same-1".into(),
            ..Ask::default()
        })
        .await;
    let page = li.get(&format!("/actions/{}", same.id)).await;
    assert!(page.has("<span>live</span>") && !page.has("Changed since asked"));
    // Without a script nothing keeps an age true, and a reload would erase a reason.
    let still = page.body.split("<noscript>").nth(1).unwrap();
    let still = still.split("</noscript>").next().unwrap();
    assert!(still.contains("as of <time") && still.contains(" UTC</time>; reload to look again"));
    assert!(!page.has("http-equiv=\"refresh\""));
    li.answer(&same.id.to_string(), &page, "approve", "").await;
    let page = li.get(&format!("/actions/{}", same.id)).await;
    assert!(page.has("http-equiv=\"refresh\"") && page.has("as of <time"));
    assert!(!page.has("reload to look again"));
    let changed = stage
        .ask(&Ask {
            restarts: 1,
            ..Ask::default()
        })
        .await;
    let page = li.get(&format!("/actions/{}", changed.id)).await;
    assert!(page.has("Changed since asked: restarts 1 → 3"));
    assert!(page.has("Cluster lock: absent"));

    let gone = stage
        .ask(&Ask {
            pod: "gone-1".into(),
            ..Ask::default()
        })
        .await;
    let page = li.get(&format!("/actions/{}", gone.id)).await;
    assert!(page.has("Pod gone-1 is gone. The executor would refuse to act."));

    let slow = stage
        .ask(&Ask {
            pod: "slow-1".into(),
            ..Ask::default()
        })
        .await;
    let begun = std::time::Instant::now();
    let page = li.get(&format!("/actions/{}", slow.id)).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(page.has("now: unknown") && page.has("did not answer within 2 s"));

    stage
        .heartbeat(now() - SignedDuration::from_mins(3), "ok")
        .await;
    let page = li.get(&format!("/actions/{}", changed.id)).await;
    assert!(page.has("The executor was last heard of 3 min ago"));
    stage
        .heartbeat(now(), "the cluster cannot be reached")
        .await;
    let page = li.get(&format!("/actions/{}", changed.id)).await;
    assert!(page.has("The executor says: the cluster cannot be reached"));
}

#[tokio::test]
async fn the_page_follows_to_the_verified_end() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    let mut stream = li
        .request(Method::GET, &format!("/actions/{id}/events"))
        .send()
        .await
        .unwrap();
    assert_eq!(stream.headers()[CONTENT_TYPE], "text/event-stream");
    assert_eq!(stream.headers()["cache-control"], "no-cache");

    li.answer(&id, &page, "approve", "").await;
    wait_for(&mut stream, "changed").await;
    let work = stage.begin(action.id).await;
    wait_for(&mut stream, "changed").await;
    let fragment = li.get(&format!("/actions/{id}/fragment")).await;
    assert!(fragment.has("Executing") && !fragment.has("<html"));
    stage
        .finish(
            &work,
            "succeeded",
            countersign_domain::Code::Verified,
            "Ready after 41 s.",
        )
        .await;
    wait_for(&mut stream, "end").await;
    let rest = tokio::time::timeout(Duration::from_secs(5), stream.chunk())
        .await
        .unwrap();
    assert!(rest.unwrap().is_none(), "the stream ends");
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("Verified after") && page.has("Ready after 41 s.") && page.has("new uid"));
    assert!(!page.has("data-live") && !page.has("http-equiv=\"refresh\""));
}

async fn wait_for(stream: &mut reqwest::Response, event: &str) {
    let wait = async {
        while let Some(chunk) = stream.chunk().await.unwrap() {
            if String::from_utf8_lossy(&chunk).contains(&format!("event: {event}\ndata: {event}")) {
                return;
            }
        }
        panic!("the stream ended before `{event}`");
    };
    tokio::time::timeout(Duration::from_secs(5), wait)
        .await
        .expect(event);
}

#[tokio::test]
async fn streams_are_bounded_and_given_back() {
    let stage = Stage::start().await;
    let li = Browser::logged_in(&stage, "li").await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(li.request(Method::GET, "/events").send().await.unwrap());
    }
    assert_eq!(
        li.get("/events").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    drop(open);
    let mut status = StatusCode::TOO_MANY_REQUESTS;
    for _ in 0..100 {
        let answer = li.request(Method::GET, "/events").send().await.unwrap();
        status = answer.status();
        if status == StatusCode::OK {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn logging_out_ends_the_session_and_guessing_is_slowed() {
    let stage = Stage::start().await;
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get("/").await;
    assert!(page.has("Nothing waits for you"));
    let out = li.post("/logout", &[("csrf", &page.field("csrf"))]).await;
    assert_eq!(
        (out.status, out.location()),
        (StatusCode::SEE_OTHER, "/login")
    );
    assert!(
        out.headers[SET_COOKIE]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    // The cookie of before is worth nothing, wherever it was copied to.
    assert_eq!(li.get("/").await.status, StatusCode::SEE_OTHER);

    for name in ["omar", "nobody-of-this-name"] {
        let mut limited = 0;
        for _ in 0..12 {
            let page = Browser::new(&stage).log_in(name, "guess", "/").await;
            match page.status {
                StatusCode::UNAUTHORIZED => {}
                StatusCode::TOO_MANY_REQUESTS => {
                    assert!(page.headers.contains_key("retry-after"));
                    limited += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert!(limited >= 1, "{name}");
    }
    // Nobody elsewhere is locked out by that.
    let mut maria = elsewhere(&stage);
    let page = maria.log_in("maria", PASSWORD, "/").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let odd = maria.log_in("maria", PASSWORD, "//evil.example/").await;
    assert_eq!(odd.location(), "/");
}

#[tokio::test]
async fn only_failures_slow_down_and_only_where_they_come_from() {
    let stage = Stage::start().await;
    for _ in 0..15 {
        Browser::logged_in(&stage, "li").await;
    }
    let mut status = StatusCode::UNAUTHORIZED;
    for _ in 0..12 {
        status = Browser::new(&stage).log_in("li", "guess", "/").await.status;
    }
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let page = elsewhere(&stage).log_in("li", PASSWORD, "/").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_bound_to_the_host() {
    let stage = Stage::start_at("127.0.0.1:0", Some("https://sign.example.com/")).await;
    let browser = Browser::new(&stage);
    let fields = [("person", "li"), ("password", PASSWORD), ("next", "/audit")];
    let log_in = |host: &str, origin: &str| {
        let request = browser.request(Method::POST, "/login").form(&fields);
        Browser::send(request.header(HOST, host).header(ORIGIN, origin))
    };
    let page = log_in("sign.example.com", "https://sign.example.com").await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/audit")
    );
    let cookie = page.headers[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-countersign=") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    let foreign = log_in("sign.example.com", "https://example.com").await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let plain = log_in("sign.example.com", "http://sign.example.com").await;
    assert_eq!(
        plain.status,
        StatusCode::FORBIDDEN,
        "another scheme is another origin"
    );
}

#[tokio::test]
async fn lists_show_what_is_for_whom_and_the_log_filters_and_pages() {
    let stage = Stage::start().await;
    let first = stage
        .ask(&Ask {
            pod: "first-pod".into(),
            ..Ask::default()
        })
        .await;
    for index in 0..30 {
        stage
            .ask(&Ask {
                pod: format!("pod-{index}"),
                ..Ask::default()
            })
            .await;
    }
    let (li, maria) = (
        Browser::logged_in(&stage, "li").await,
        Browser::logged_in(&stage, "maria").await,
    );
    assert!(li.get("/").await.has("first-pod"));
    assert!(
        !maria.get("/").await.has("first-pod"),
        "she may not approve it"
    );
    assert!(maria.get("/?tab=mine").await.has("first-pod"));
    assert!(maria.get("/fragment?tab=all").await.has("first-pod"));

    let page = li.get("/audit?event=action.*").await;
    let at = page.body.find("before=").expect("an older page");
    let before: String = page.body[at + 7..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let older = li
        .get(&format!("/audit?event=action.*&before={before}"))
        .await;
    assert!(older.has("action.proposed") && !older.has("before="));
    let one = li.get(&format!("/audit?action={}", first.id)).await;
    assert!(one.has("action.admitted") && one.has("signed"));
    let none = li.get("/audit?actor=somebody-else").await;
    assert!(none.has("No entry fits"));
    assert_eq!(
        li.get("/audit?action=1").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        li.get("/audit?from=yesterday").await.status,
        StatusCode::BAD_REQUEST
    );
    let to_page = li.get(&format!("/audit/{}", first.id)).await;
    assert_eq!(
        to_page.location(),
        format!("/actions/{}#timeline", first.id)
    );
    for missing in [
        "/actions/1",
        "/actions/01a20000-0000-7000-8000-000000000000",
        "/nothing",
    ] {
        assert_eq!(
            li.get(missing).await.status,
            StatusCode::NOT_FOUND,
            "{missing}"
        );
    }
}
