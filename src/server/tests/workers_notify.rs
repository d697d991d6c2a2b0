//! People are told over real HTTP: signatures, hostile text, repeats, reminders, deadlines.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail, and uses its part"
)]

#[path = "workers/harness.rs"]
mod harness;
#[path = "workers/jira.rs"]
mod jira;
#[path = "workers/receiver.rs"]
mod receiver;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_domain::{Clock as _, SystemClock};
use harness::{World, until};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use jiff::SignedDuration;
use receiver::Receiver;
use serde_json::json;
use sha2::Sha256;

const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

fn notify(webhook: &str, slack: &str) -> String {
    format!(
        "[notify.webhook]\nurl = \"{webhook}\"\nsecret = \"whsec_{}\"\n[notify.slack]\nurl = \"{slack}\"\n",
        STANDARD.encode(KEY)
    )
}

/// What a receiver with the secret checks.
fn verify(got: &receiver::Got) {
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(&got.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    let sent: i64 = header("webhook-timestamp").parse().unwrap();
    assert!((SystemClock.now().as_second() - sent).abs() < 60);
}

#[tokio::test]
async fn people_are_told_by_both_receivers_and_a_failing_one_repeats_alone() {
    let world = World::new().await;
    let (webhook, webhook_url) = Receiver::start(&[]).await;
    let (slack, slack_url) = Receiver::start(&[
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::TOO_MANY_REQUESTS,
    ])
    .await;
    let workers = world.work(&world.config(1, &notify(&webhook_url, &slack_url)));
    let id = world.ask("<!channel>").await;
    until(15, "the question in both", async || {
        (slack.got().len() == 3 && webhook.got().len() == 1).then_some(())
    })
    .await;
    let asked = &webhook.got()[0];
    verify(asked);
    let body = asked.json();
    assert_eq!(body["type"], "action.asked");
    let data = &body["data"];
    assert_eq!(data["action_id"], id.to_string());
    assert_eq!(data["state"], "pending");
    assert_eq!(
        (&data["cluster"], &data["namespace"]),
        (&json!("prod"), &json!("shop"))
    );
    assert_eq!(data["agent"], "claude");
    assert_eq!(
        data["url"],
        format!("https://countersign.example/actions/{id}")
    );
    assert!(
        data["decide_by"].is_string() && data["reason"].is_null(),
        "{data}"
    );
    let text = slack.got()[2].json()["text"].as_str().unwrap().to_owned();
    assert!(!text.contains('<') && !text.contains("@here"), "{text}");
    assert!(
        text.ends_with(&format!("https://countersign.example/actions/{id}")),
        "{text}"
    );

    world.approve_on_page(id).await;
    world.execute(id).await;
    until(15, "decision and outcome", async || {
        (webhook.got().len() == 3).then_some(())
    })
    .await;
    let kinds: Vec<String> = webhook
        .got()
        .iter()
        .map(|got| {
            verify(got);
            got.json()["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["action.asked", "action.decided", "action.outcome"]);
    let outcome = webhook.got()[2].json();
    assert_eq!(outcome["data"]["state"], "succeeded");
    assert_eq!(outcome["data"]["reason"], "a replacement is Ready");
    assert!(outcome["data"]["code"].is_string(), "{outcome}");
    let ids: std::collections::BTreeSet<String> = webhook
        .got()
        .iter()
        .map(|got| got.headers["webhook-id"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3, "one id for each moment");
    workers.stop().await;
}

#[tokio::test]
async fn a_dead_receiver_delays_no_other() {
    let world = World::new().await;
    let (webhook, webhook_url) = Receiver::start(&[StatusCode::BAD_GATEWAY; 200]).await;
    let (slack, slack_url) = Receiver::start(&[]).await;
    let workers = world.work(&world.config(1, &notify(&webhook_url, &slack_url)));
    // More actions than are in hand at once for one receiver.
    let mut ids = Vec::new();
    for pod in 0..6 {
        ids.push(world.ask(&format!("checkout-{pod}")).await);
    }
    for id in &ids {
        world.approve_on_page(*id).await;
        world.execute(*id).await;
    }
    until(30, "the whole story of each in Slack", async || {
        (slack.got().len() == 3 * ids.len()).then_some(())
    })
    .await;
    for id in &ids {
        let texts: Vec<String> = slack
            .got()
            .iter()
            .map(|got| got.json()["text"].as_str().unwrap().to_owned())
            .filter(|text| text.contains(&id.to_string()))
            .collect();
        assert!(texts[0].contains("Approval needed") || texts[0].contains("Told late"));
        assert!(
            texts[1].contains("Approved") && texts[2].contains("Done and verified"),
            "{texts:?}"
        );
    }
    let first = webhook
        .got()
        .iter()
        .all(|got| got.json()["type"] == "action.asked");
    assert!(
        first,
        "its own order stays: nothing overtakes what it has not taken"
    );
    workers.stop().await;
}

#[tokio::test]
async fn a_repeated_message_keeps_its_id() {
    let world = World::new().await;
    let (webhook, webhook_url) = Receiver::start(&[StatusCode::BAD_GATEWAY]).await;
    let (slack, slack_url) = Receiver::start(&[]).await;
    let workers = world.work(&world.config(1, &notify(&webhook_url, &slack_url)));
    world.ask("checkout-1").await;
    until(15, "the repeat", async || {
        (webhook.got().len() == 2).then_some(())
    })
    .await;
    let got = webhook.got();
    assert_eq!(got[0].headers["webhook-id"], got[1].headers["webhook-id"]);
    assert_eq!(slack.got().len(), 1);
    workers.stop().await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_of_years_gets_an_hour() {
    let world = World::new().await;
    // The largest number of seconds that a header can ask for.
    let (webhook, webhook_url) =
        Receiver::start_slow(&[StatusCode::TOO_MANY_REQUESTS], "18446744073709551615").await;
    let (_, slack_url) = Receiver::start(&[]).await;
    let config = world.config(1, &notify(&webhook_url, &slack_url));
    let workers = world.work(&config);
    let id = world.ask("checkout-1").await;
    until(15, "the refusal", async || {
        (webhook.got().len() == 1).then_some(())
    })
    .await;
    // It did not take the worker down: another action's message goes out.
    world.ask("checkout-2").await;
    until(15, "the other action", async || {
        (webhook.got().len() == 2).then_some(())
    })
    .await;
    workers.stop().await;
    let workers = world.work_late(&config, SignedDuration::from_mins(62));
    until(15, "the repeat", async || {
        let got = webhook.got();
        let id = |one: &receiver::Got| one.headers["webhook-id"].clone();
        let repeated = got[1..].iter().any(|one| id(one) == id(&got[0]));
        repeated.then_some(())
    })
    .await;
    world.reaches(id, "expired").await;
    workers.stop().await;
}

#[tokio::test]
async fn time_that_runs_out_is_reminded_of_and_ends_the_action() {
    let world = World::new().await;
    let (webhook, webhook_url) = Receiver::start(&[]).await;
    let (_, slack_url) = Receiver::start(&[]).await;
    let workers = world.work(&world.config(1, &notify(&webhook_url, &slack_url)));
    let soon = SignedDuration::from_secs(6);
    let id = world
        .ask_signed_by(&world.executor_key, "checkout-1", soon)
        .await;
    world.reaches(id, "expired").await;
    until(15, "the outcome", async || {
        (webhook.got().len() == 3).then_some(())
    })
    .await;
    let kinds: Vec<String> = webhook
        .got()
        .iter()
        .map(|got| got.json()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["action.asked", "action.reminded", "action.outcome"]);
    let key = world.ticket(id).await;
    until(15, "the ticket knows", async || {
        world
            .jira
            .comments(&key)
            .await
            .iter()
            .any(|c| c.contains("It is expired"))
            .then_some(())
    })
    .await;
    workers.stop().await;
}
