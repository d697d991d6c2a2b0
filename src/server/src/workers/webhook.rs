//! `POST /webhooks/jira`: verifies who sent it, stores it, answers. Nothing in a body is believed;
//! it only makes the sweep look at that ticket sooner.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use countersign_integrations::jira::webhook::{
    IDENTIFIER_HEADER, SIGNATURE_HEADER, verify_signature,
};
use http::{HeaderMap, Request, StatusCode};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::settings;
use crate::app::SharedApp;

/// Jira's own bodies stay below this.
const BODY_CAP: usize = 1024 * 1024;
/// Jira waits five seconds for an answer.
const STORE_WITHIN: Duration = Duration::from_secs(4);
/// A sender that drips its body is let go.
const READ_WITHIN: Duration = Duration::from_secs(4);
const IDENTIFIER_CAP: usize = 200;

#[derive(Clone)]
struct Receiver {
    app: SharedApp,
    secret: Arc<Result<Option<SecretString>, ()>>,
}

/// The route for Jira's webhook. Without a secret in the configuration it answers 404: an address
/// that believes everybody would be worse than none.
pub fn router(app: SharedApp) -> Router {
    let secret = settings::webhook_secret(&app.loaded).map_err(|error| {
        tracing::error!(%error, "Jira's webhook cannot be verified; it is answered with 503");
    });
    Router::new()
        .route("/webhooks/jira", post(receive))
        .with_state(Receiver {
            app,
            secret: Arc::new(secret),
        })
}

async fn receive(State(receiver): State<Receiver>, request: Request<Body>) -> Response {
    let secret = match receiver.secret.as_ref() {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return say(
                StatusCode::NOT_FOUND,
                "no webhook is configured here: set `jira.webhook_secret_file`",
            );
        }
        Err(()) => {
            return say(
                StatusCode::SERVICE_UNAVAILABLE,
                "the webhook secret is unreadable",
            );
        }
    };
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(READ_WITHIN, to_bytes(body, BODY_CAP)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return say(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 1 MiB",
            );
        }
        Err(_) => {
            return say(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            );
        }
    };
    let signature = head
        .headers
        .get(SIGNATURE_HEADER)
        .and_then(|value| value.to_str().ok());
    if let Err(error) = verify_signature(secret, &body, signature) {
        tracing::warn!(%error, "a webhook was turned away");
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    let identifier = identifier(&head.headers, &body);
    let now = receiver.app.clock.now();
    let stored = receiver.app.store.webhook_store(&identifier, &body, now);
    match tokio::time::timeout(STORE_WITHIN, stored).await {
        Ok(Ok(true)) => say(StatusCode::OK, "stored"),
        Ok(Ok(false)) => say(StatusCode::OK, "known already"),
        // Jira sends it again on 5xx, and on no other answer that we could give.
        Ok(Err(error)) => {
            tracing::error!(%error, "a webhook could not be stored");
            say(StatusCode::SERVICE_UNAVAILABLE, "not stored; send it again")
        }
        Err(_) => {
            tracing::error!("a webhook could not be stored in time");
            say(
                StatusCode::SERVICE_UNAVAILABLE,
                "not stored in time; send it again",
            )
        }
    }
}

/// What stays the same when Jira sends a webhook again. The header is not signed, so it is bounded
/// here, and the body's hash is part of it: nobody can use up another message's identifier.
fn identifier(headers: &HeaderMap, body: &[u8]) -> String {
    let hash = hex::encode(Sha256::digest(body));
    match headers
        .get(IDENTIFIER_HEADER)
        .and_then(|value| value.to_str().ok())
    {
        Some(text) if !text.is_empty() && text.len() <= IDENTIFIER_CAP => {
            format!("{text}:{}", &hash[..16])
        }
        _ => format!("sha256:{hash}"),
    }
}

fn say(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}
