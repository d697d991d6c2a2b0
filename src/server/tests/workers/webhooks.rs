//! Who may post to the webhook, and how much of it is read and kept.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::client;
use super::*;

#[tokio::test]
async fn only_signed_webhooks_are_stored_and_before_they_are_answered() {
    let world = World::new().await;
    let secret = world.jira.accounts["webhook_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let with = serve(webhook_router(
        world.app(&world.config(3600, ""), SignedDuration::ZERO),
    ))
    .await;
    let config = world
        .config(3600, "")
        .replace("webhook_secret", "#webhook_secret");
    let without = serve(webhook_router(world.app(&config, SignedDuration::ZERO))).await;
    let sign = |body: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body);
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    };
    let client = client();
    let send = async |url: &str, signature: Option<String>, id: Option<&str>, body: &[u8]| {
        let mut request = client
            .post(format!("{url}/webhooks/jira"))
            .body(body.to_vec());
        if let Some(signature) = signature {
            request = request.header("X-Hub-Signature", signature);
        }
        if let Some(id) = id {
            request = request.header("X-Atlassian-Webhook-Identifier", id);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let body = br#"{"issue":{"id":"10042"}}"#;
    assert_eq!(send(&without, Some(sign(body)), None, body).await, 404);
    assert_eq!(send(&with, None, None, body).await, 401);
    assert_eq!(send(&with, Some(sign(b"another")), None, body).await, 401);
    let large = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(send(&with, Some(sign(&large)), None, &large).await, 413);
    assert!(world.store.webhook_take(10).await.unwrap().is_empty());

    for _ in 0..3 {
        assert_eq!(send(&with, Some(sign(body)), Some("abc"), body).await, 200);
        assert_eq!(send(&with, Some(sign(body)), None, body).await, 200);
    }
    assert_eq!(
        send(
            &with,
            Some(sign(b"not json")),
            Some(&"x".repeat(9000)),
            b"not json"
        )
        .await,
        200
    );
    // What nobody signed cannot make one body into two.
    assert_eq!(world.store.webhook_take(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn bodies_are_read_with_a_signature_only_and_a_few_at_once() {
    let world = World::new().await;
    let secret = world.jira.accounts["webhook_secret"].as_str().unwrap();
    let app = world.app(&world.config(3600, ""), SignedDuration::ZERO);
    let url = serve(webhook_router(app)).await;
    let address = url.strip_prefix("http://").unwrap();
    // A request whose body never comes to its end.
    let begin = async |signature: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /webhooks/jira HTTP/1.1\r\nHost: {address}\r\n{signature}Content-Length: 900000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    for bad in ["", "X-Hub-Signature: sha256=ab\r\n"] {
        let mut stream = begin(bad).await;
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer);
        tokio::time::timeout(Duration::from_secs(2), read)
            .await
            .expect("answered before the body")
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
    let mut held = Vec::new();
    for _ in 0..8 {
        let looks_right = format!("X-Hub-Signature: sha256={}\r\n", "0".repeat(64));
        held.push(begin(&looks_right).await);
    }
    let body = br#"{"issue":{"id":"10042"}}"#;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let client = client();
    let send = async || {
        let request = client
            .post(format!("{url}/webhooks/jira"))
            .header("X-Hub-Signature", &signature)
            .body(body.to_vec());
        request.send().await.unwrap().status().as_u16()
    };
    // Jira sends it again after this answer.
    until(3, "no room", async || (send().await == 503).then_some(())).await;
    drop(held);
    until(10, "room again", async || {
        (send().await == 200).then_some(())
    })
    .await;
    assert_eq!(world.store.webhook_take(10).await.unwrap().len(), 1);
}
