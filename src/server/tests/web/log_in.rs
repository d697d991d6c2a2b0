//! Who gets in, who is slowed down by whom, and when a session is over.

use std::net::IpAddr;
use std::time::Duration;

use countersign_domain::EventName;
use countersign_store::{AuditFilter, AuditRow};
use reqwest::header::{CONTENT_LENGTH, ORIGIN};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::browser::Browser;
use crate::stage::serving::hash_of;
use crate::stage::{PASSWORD, Stage};

/// A browser on another machine.
pub fn elsewhere(stage: &Stage) -> Browser {
    let mut browser = Browser::new(stage);
    browser.client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .local_address("127.0.0.2".parse::<IpAddr>().unwrap())
        .build()
        .unwrap();
    browser
}

async fn failures(stage: &Stage) -> Vec<AuditRow> {
    let filter = AuditFilter {
        event: Some(EventName::LogInFailed.as_str().into()),
        limit: 500,
        ..AuditFilter::default()
    };
    stage.store.audit_list(&filter).await.unwrap()
}

#[tokio::test]
async fn a_stranger_locks_nobody_out_and_does_not_fill_the_log() {
    let stage = Stage::start().await;
    let mut tried = 0;
    for number in 0..100 {
        let name = format!("somebody-{number}");
        let page = Browser::new(&stage).log_in(&name, "guess", "/").await;
        tried += usize::from(page.status == StatusCode::UNAUTHORIZED);
    }
    assert!(
        (20..100).contains(&tried),
        "{tried} of 100 were let through"
    );
    let page = elsewhere(&stage).log_in("li", PASSWORD, "/").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);

    let noted = failures(&stage).await;
    assert!((1..10).contains(&noted.len()), "{} rows", noted.len());
    let last = &noted[noted.len() - 1].event;
    assert_eq!(
        (last.actor.as_str(), last.details["tries"].as_str()),
        ("unknown", "1")
    );
    // A name that somebody has is noted each time.
    for _ in 0..3 {
        elsewhere(&stage).log_in("omar", "guess", "/").await;
    }
    let of_omar = failures(&stage).await;
    let of_omar = of_omar.iter().filter(|row| row.event.actor == "omar");
    assert_eq!(of_omar.count(), 3);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_address_has_tries_of_its_own() {
    let mut stage = Stage::start().await;
    let log_in = async |stage: &Stage, from: &str, name: &str, password: &str| {
        let fields = [("person", name), ("password", password)];
        let request = Browser::new(stage)
            .request(Method::POST, "/login")
            .header(ORIGIN, &stage.url)
            .header("x-forwarded-for", from);
        Browser::send(request.form(&fields)).await.status
    };
    // Nobody but a proxy of ours is believed.
    for number in 0..100 {
        let name = format!("somebody-{number}");
        log_in(&stage, &format!("198.51.100.{number}"), &name, "guess").await;
    }
    let status = log_in(&stage, "203.0.113.1", "li", PASSWORD).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);

    let proxy = "127.0.0.1".parse().unwrap();
    stage
        .restart(|app| app.loaded.config.http.trusted_proxies = vec![proxy])
        .await;
    for number in 0..100 {
        let name = format!("somebody-{number}");
        log_in(&stage, "198.51.100.7", &name, "guess").await;
    }
    let there = log_in(&stage, "198.51.100.7", "li", PASSWORD).await;
    assert_eq!(there, StatusCode::TOO_MANY_REQUESTS);
    let elsewhere = log_in(&stage, "203.0.113.1", "li", PASSWORD).await;
    assert_eq!(elsewhere, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_of_the_old_one() {
    let mut stage = Stage::start().await;
    let mut li = Browser::logged_in(&stage, "li").await;
    let mut omar = Browser::logged_in(&stage, "omar").await;
    stage
        .restart(|app| {
            let accounts = &mut app.loaded.config.accounts;
            let li = accounts.iter_mut().find(|account| account.person == "li");
            li.unwrap().password_hash = hash_of("another one").into();
        })
        .await;
    li.base = stage.url.clone();
    omar.base = stage.url.clone();
    let page = li.get("/").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    assert_eq!(page.location(), "/login?next=%2F");
    assert_eq!(li.get("/events").await.status, StatusCode::UNAUTHORIZED);
    // A restart alone logs nobody out.
    assert_eq!(omar.get("/").await.status, StatusCode::OK);
    let again = li.log_in("li", "another one", "/").await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    assert_eq!(li.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_form_that_does_not_arrive_is_not_waited_for() {
    let stage = Stage::start().await;
    let address = stage.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {address}\r\nOrigin: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n{CONTENT_LENGTH}: 100\r\n\r\nperson=li",
        stage.url
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(60), read).await;
    read.expect("the form is still waited for").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}
