//! `POST /webhooks/jira`: verifies who sent it, stores it, answers. Nothing in a body is believed;
//! it only makes the sweep look at that ticket sooner.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use countersign_integrations::jira::webhook::{SIGNATURE_HEADER, Signature, SignatureError};
use countersign_listener::Incomplete;
use http::{Request, StatusCode};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::settings;
use crate::app::SharedApp;

/// Jira's own bodies stay below this.
const BODY_CAP: usize = 1024 * 1024;
/// Jira waits five seconds for an answer.
const STORE_WITHIN: Duration = Duration::from_secs(4);
/// A sender that drips its body is let go.
const READ_WITHIN: Duration = Duration::from_secs(4);
/// Bodies in memory at once: until one is read, nobody knows whether its sender has the secret.
const BODIES: usize = 8;
/// How long one more waits for its turn.
const TURN_WITHIN: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct Receiver {
    app: SharedApp,
    secret: Arc<Result<Option<SecretString>, ()>>,
    bodies: Arc<Semaphore>,
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
            bodies: Arc::new(Semaphore::new(BODIES)),
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
    let header = head
        .headers
        .get(SIGNATURE_HEADER)
        .and_then(|value| value.to_str().ok());
    let signature = match Signature::parse(header) {
        Ok(signature) => signature,
        Err(error) => return turn_away(&error),
    };
    let turn = tokio::time::timeout(TURN_WITHIN, receiver.bodies.acquire());
    let Ok(Ok(_turn)) = turn.await else {
        return say(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many webhooks at once; send it again",
        );
    };
    let body = match countersign_listener::whole(body, BODY_CAP, READ_WITHIN).await {
        Ok(body) => body,
        Err(Incomplete::TooLarge) => {
            return say(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 1 MiB",
            );
        }
        Err(Incomplete::TooSlow) => {
            return say(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            );
        }
    };
    if let Err(error) = signature.verify(secret, &body) {
        return turn_away(&error);
    }
    // Jira's own identifier is not signed: by it one recorded delivery could be stored without end.
    // The body is the same when Jira sends it again.
    let identifier = format!("sha256:{}", hex::encode(Sha256::digest(&body)));
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

fn turn_away(error: &SignatureError) -> Response {
    tracing::warn!(%error, "a webhook was turned away");
    (StatusCode::UNAUTHORIZED, error.to_string()).into_response()
}

fn say(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}
