//! Webhook deliveries: signed, identified, retried as Jira Cloud does, and on request doubled,
//! delayed or lost.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::people::Who;
use super::state::{Jira, Shared};
use crate::{clock, random};

/// Pauses before the second, third, ... attempt. Jira's own are minutes.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// `X-Hub-Signature` over the raw body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

pub fn issue_created(shared: &Arc<Shared>, jira: &mut Jira, at: usize, who: Who) {
    let event =
        json!({"webhookEvent": "jira:issue_created", "issue_event_type_name": "issue_created"});
    send(shared, jira, at, who, event);
}

/// Carries the newest changelog entry.
pub fn issue_updated(shared: &Arc<Shared>, jira: &mut Jira, at: usize, who: Who, kind: &str) {
    let mut event = json!({"webhookEvent": "jira:issue_updated", "issue_event_type_name": kind});
    if let Some(entry) = jira.issues[at].history.last() {
        event["changelog"] = json!({"id": entry.id.to_string(), "items": entry.items});
    }
    send(shared, jira, at, who, event);
}

pub fn comment_created(
    shared: &Arc<Shared>,
    jira: &mut Jira,
    at: usize,
    who: Who,
    comment: &Value,
) {
    send(
        shared,
        jira,
        at,
        who,
        json!({"webhookEvent": "comment_created", "comment": comment}),
    );
}

fn send(shared: &Arc<Shared>, jira: &mut Jira, at: usize, who: Who, event: Value) {
    let Some(url) = jira.webhook.url.clone() else {
        return;
    };
    let issue = &jira.issues[at];
    let mut body = json!({"timestamp": clock::now().as_millisecond()});
    if let (Some(body), Value::Object(event)) = (body.as_object_mut(), event) {
        body.extend(event);
    }
    // A comment event names its author inside the comment and has no user of its own.
    if body.get("comment").is_none() {
        body["user"] = shared.user(who);
    }
    body["issue"] = json!({
        "id": issue.id.to_string(), "self": shared.self_link(issue), "key": issue.key(),
        "fields": shared.fields(issue),
    });
    let number = jira.deliveries.len();
    let identifier = random::uuid();
    let mut delivery = json!({
        "identifier": identifier, "event": body["webhookEvent"], "issue": issue.key(),
        "attempts": 0, "last_status": null, "lost": false,
    });
    let lost = jira.webhook.lose_every > 0 && (number + 1).is_multiple_of(jira.webhook.lose_every);
    delivery["lost"] = lost.into();
    jira.deliveries.push(delivery);
    if lost {
        return;
    }
    let body = body.to_string();
    for copy in 0..jira.webhook.copies.max(1) {
        let delay = jitter(jira.webhook.jitter_ms, number, copy);
        let attempt = Attempt {
            shared: shared.clone(),
            url: url.clone(),
            identifier: identifier.clone(),
            body: body.clone(),
            number,
        };
        let stop = shared.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = attempt.deliver(delay) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// A delay below `most` milliseconds that shuffles neighbours, the same on every run.
fn jitter(most: u64, number: usize, copy: u32) -> Duration {
    if most == 0 {
        return Duration::ZERO;
    }
    let mixed = (number as u64 * 2_654_435_761) ^ (u64::from(copy) * 40_503);
    Duration::from_millis(mixed % most)
}

struct Attempt {
    shared: Arc<Shared>,
    url: url::Url,
    identifier: String,
    body: String,
    number: usize,
}

impl Attempt {
    async fn deliver(self, delay: Duration) {
        tokio::time::sleep(delay).await;
        let signature = signature(&self.shared.webhook_secret, self.body.as_bytes());
        for retry in 0..=PAUSES.len() {
            let mut request = self
                .shared
                .client
                .post(self.url.clone())
                .header("Content-Type", "application/json; charset=UTF-8")
                .header("User-Agent", "Atlassian Webhook HTTP Client (simulated)")
                .header("X-Atlassian-Webhook-Identifier", &self.identifier)
                .header("X-Hub-Signature", &signature)
                .body(self.body.clone());
            if retry > 0 {
                request = request.header("X-Atlassian-Webhook-Retry", retry.to_string());
            }
            let status = request
                .send()
                .await
                .ok()
                .map(|response| response.status().as_u16());
            if let Some(delivery) = self.shared.jira().deliveries.get_mut(self.number) {
                delivery["attempts"] =
                    (delivery["attempts"].as_u64().unwrap_or_default() + 1).into();
                delivery["last_status"] = status.into();
            }
            let again =
                status.is_none_or(|status| matches!(status, 408 | 409 | 425 | 429 | 500..=599));
            match PAUSES.get(retry) {
                Some(pause) if again => tokio::time::sleep(*pause).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn signs_as_the_published_test_vector_does() {
        assert_eq!(
            super::signature("It's a Secret to Everybody", b"Hello World!"),
            "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
        );
    }
}
