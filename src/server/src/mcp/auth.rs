//! Who calls. Keys are compared by hash in constant time; a call without a valid one ends here.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use constant_time_eq::constant_time_eq_n;
use countersign_domain::Clock;
use countersign_listener::Incomplete;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ApiKey, Limits};

/// Sent by `countersign stdio`: one random word a client process, so that two assistants on one
/// machine are two sessions.
pub const CLIENT_HEADER: &str = "x-countersign-client";

/// The authenticated caller of a request. Nothing a client says about itself is in here.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The agent in the registry that the key speaks for.
    pub agent: String,
    pub key_name: String,
    /// Namespaces that exist for this caller; `None` means all.
    pub namespaces: Option<Vec<String>>,
    /// See [`session`]; for audit and limits, never the base of a right.
    pub session: String,
}

impl Caller {
    /// Whether a namespace exists, as far as this caller is told.
    #[must_use]
    pub fn sees(&self, namespace: &str) -> bool {
        self.namespaces
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == namespace))
    }
}

struct Key {
    hash: [u8; 32],
    config: ApiKey,
    places: Arc<Semaphore>,
}

/// Requests of one key that are being answered. Each holds a connection, for as long as it waits for
/// a person.
const AT_ONCE: usize = 128;
/// A sender that drips a request is let go.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Largest request, in bytes. The longest argument has 2,000 characters.
pub const LARGEST_BODY: usize = 256 << 10;

/// The keys and the limits of one server.
pub struct Gate {
    keys: Vec<Key>,
    clock: Arc<dyn Clock>,
    calls: DefaultKeyedRateLimiter<String>,
    requests: DefaultKeyedRateLimiter<String>,
}

/// Why a request has no caller.
#[derive(Debug, PartialEq, Eq)]
enum NoCaller {
    NoKey,
    UnknownKey,
    Expired { name: String },
}

impl Gate {
    /// Keys whose configured hash is not 64 hex digits are refused by `config check` and at start.
    #[must_use]
    pub fn new(keys: &[ApiKey], limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let keys = keys.iter().filter_map(|config| {
            let hash = hash_from_hex(&config.sha256)?;
            Some(Key {
                hash,
                config: config.clone(),
                places: Arc::new(Semaphore::new(AT_ONCE)),
            })
        });
        let a_minute = |count: u32| {
            RateLimiter::keyed(Quota::per_minute(
                NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN),
            ))
        };
        Self {
            keys: keys.collect(),
            clock,
            calls: a_minute(limits.calls_per_minute),
            // Listing tools, discovery and refused calls also cost something.
            requests: a_minute(limits.calls_per_minute.saturating_mul(3)),
        }
    }

    /// Counts one tool call. `Err` holds the time after which there is room again.
    pub fn count_call(&self, key_name: &str) -> Result<(), Duration> {
        count(&self.calls, key_name)
    }

    /// A place among the requests of a key that are being answered, given back when it is dropped.
    fn place(&self, key_name: &str) -> Option<OwnedSemaphorePermit> {
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.config.name == key_name)?;
        Arc::clone(&key.places).try_acquire_owned().ok()
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, NoCaller> {
        let secret = secret(headers).ok_or(NoCaller::NoKey)?;
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        // Every key is compared, so that the time taken tells nothing.
        let mut found: Option<&ApiKey> = None;
        for key in &self.keys {
            if constant_time_eq_n(&key.hash, &hash) {
                found = Some(&key.config);
            }
        }
        let key = found.ok_or(NoCaller::UnknownKey)?;
        if key.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return Err(NoCaller::Expired {
                name: key.name.clone(),
            });
        }
        Ok(Caller {
            agent: key.agent.clone(),
            key_name: key.name.clone(),
            namespaces: key.namespaces.clone(),
            session: session(&key.name, headers),
        })
    }
}

fn count(limiter: &DefaultKeyedRateLimiter<String>, key_name: &str) -> Result<(), Duration> {
    limiter
        .check_key(&key_name.to_owned())
        .map_err(|full| full.wait_time_from(DefaultClock::default().now()))
}

/// 64 hex digits as bytes.
#[must_use]
pub fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0u8; 32];
    hex::decode_to_slice(text.trim(), &mut hash).ok()?;
    Some(hash)
}

/// The SHA-256 of a key, as the configuration holds it.
#[must_use]
pub fn hash_of(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// When a key of the configuration is no longer good; `None` when it has no end.
#[must_use]
pub fn expired(key: &ApiKey, now: Timestamp) -> bool {
    key.expires_at.is_some_and(|at| at <= now)
}

fn secret(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = text("x-api-key") {
        return Some(key.trim());
    }
    let (scheme, key) = text("authorization")?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| key.trim())
        .filter(|key| !key.is_empty())
}

/// The protocol has no session since its revision of 2026-07-28. Where a client sends one, it is
/// that one (hashed: older clients treat it as a secret); else the key together with what a client
/// process sends unchanged on every request.
fn session(key_name: &str, headers: &HeaderMap) -> String {
    let mut hash = Sha256::new();
    hash.update(key_name.as_bytes());
    let own = headers.get("mcp-session-id");
    let stable = [header::USER_AGENT.as_str(), CLIENT_HEADER];
    let values: Vec<Option<&HeaderValue>> = match own {
        Some(_) => vec![own],
        None => stable.iter().map(|name| headers.get(*name)).collect(),
    };
    for value in values {
        hash.update([0]);
        hash.update(value.map_or(&b""[..], HeaderValue::as_bytes));
    }
    let kind = if own.is_some() { "mcp" } else { "client" };
    format!("{kind}-{}", &hex::encode(hash.finalize())[..16])
}

/// Middleware: puts the [`Caller`] into the request, or answers 401 or 429.
pub async fn authenticate(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let caller = match gate.caller(request.headers()) {
        Ok(caller) => caller,
        Err(reason) => return unauthorized(&reason),
    };
    if let Err(wait) = count(&gate.requests, &caller.key_name) {
        return too_many(&caller.key_name, wait);
    }
    let Some(_place) = gate.place(&caller.key_name) else {
        let sentence =
            "so many requests with this key are being answered already: wait for one of them";
        return refused(StatusCode::TOO_MANY_REQUESTS, "too_many_at_once", sentence);
    };
    let (mut head, body) = request.into_parts();
    let body = match countersign_listener::whole(body, LARGEST_BODY, BODY_WITHIN).await {
        Ok(body) => body,
        Err(Incomplete::TooLarge) => {
            let sentence = "a request may have 256 KiB, and has to arrive whole";
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "body", sentence);
        }
        Err(Incomplete::TooSlow) => {
            let sentence = "the request did not arrive within 10 s";
            return refused(StatusCode::REQUEST_TIMEOUT, "slow", sentence);
        }
    };
    head.extensions.insert(caller);
    next.run(Request::from_parts(head, body.into())).await
}

fn refused(status: StatusCode, error: &str, sentence: &str) -> Response {
    let body = serde_json::json!({ "error": error, "message": sentence });
    (status, axum::Json(body)).into_response()
}

fn unauthorized(reason: &NoCaller) -> Response {
    let (error, problem) = match reason {
        NoCaller::NoKey => ("missing_key", "this address needs an API key".to_owned()),
        NoCaller::UnknownKey => ("unknown_key", "this API key is not known here".to_owned()),
        NoCaller::Expired { name } => ("expired_key", format!("the API key `{name}` has expired")),
    };
    tracing::info!(error, "MCP request without a valid key");
    metrics::counter!("countersign_unauthorized_total", "reason" => error).increment(1);
    let body = serde_json::json!({
        "error": error,
        "message": format!(
            "{problem}: send `Authorization: Bearer <key>` or `X-API-Key: <key>`. An operator \
             makes a key with `countersign api-key new --name NAME --agent AGENT`."
        ),
    });
    let challenge = match reason {
        NoCaller::NoKey => r#"Bearer realm="countersign""#,
        _ => r#"Bearer realm="countersign", error="invalid_token""#,
    };
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, challenge)],
        axum::Json(body),
    )
        .into_response()
}

fn too_many(key_name: &str, wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    tracing::warn!(key = key_name, "too many requests");
    let body = serde_json::json!({
        "error": "too_many_requests",
        "message": format!("too many requests with this key: wait {seconds} s"),
    });
    let retry = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, retry, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_domain::ManualClock;

    fn gate() -> (Gate, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at("2026-11-22T02:00:00Z".parse().unwrap()));
        let key = |name: &str, secret: &str, expires_at: Option<&str>| ApiKey {
            name: name.into(),
            agent: "claude".into(),
            sha256: hash_of(secret),
            expires_at: expires_at.map(|at| at.parse().unwrap()),
            namespaces: Some(vec!["shop".into()]),
        };
        let keys = [
            key("a", "one", None),
            key("b", "two", Some("2026-11-22T03:00:00Z")),
        ];
        (
            Gate::new(
                &keys,
                &Limits {
                    calls_per_minute: 2,
                    ..Limits::default()
                },
                clock.clone(),
            ),
            clock,
        )
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn one_key_cannot_wait_in_every_connection() {
        let (gate, _) = gate();
        let places: Vec<_> = std::iter::from_fn(|| gate.place("a")).take(1000).collect();
        assert_eq!(places.len(), AT_ONCE);
        assert!(gate.place("b").is_some(), "another key has its own");
        drop(places);
        assert!(gate.place("a").is_some());
    }

    #[test]
    fn both_headers_count_and_expiry_is_kept() {
        let (gate, clock) = gate();
        assert_eq!(
            gate.caller(&headers(&[("authorization", "bearer one")]))
                .unwrap()
                .key_name,
            "a"
        );
        assert_eq!(
            gate.caller(&headers(&[("x-api-key", "two")]))
                .unwrap()
                .key_name,
            "b"
        );
        clock.advance(jiff::SignedDuration::from_hours(1));
        let late = gate.caller(&headers(&[("x-api-key", "two")])).unwrap_err();
        assert_eq!(late, NoCaller::Expired { name: "b".into() });
        for (sent, want) in [
            (headers(&[]), NoCaller::NoKey),
            (headers(&[("authorization", "Basic one")]), NoCaller::NoKey),
            (headers(&[("authorization", "Bearer ")]), NoCaller::NoKey),
            (headers(&[("x-api-key", "three")]), NoCaller::UnknownKey),
        ] {
            assert_eq!(gate.caller(&sent).unwrap_err(), want);
        }
    }

    #[test]
    fn a_session_follows_the_client_process_and_never_the_secret() {
        let one = session("a", &headers(&[("user-agent", "x/1")]));
        assert_eq!(
            one,
            session("a", &headers(&[("user-agent", "x/1"), ("accept", "y")]))
        );
        assert_ne!(one, session("b", &headers(&[("user-agent", "x/1")])));
        assert_ne!(
            one,
            session(
                "a",
                &headers(&[("user-agent", "x/1"), (CLIENT_HEADER, "p")])
            )
        );
        assert!(session("a", &headers(&[("mcp-session-id", "s")])).starts_with("mcp-"));
    }

    #[test]
    fn calls_are_counted_by_key() {
        let (gate, _) = gate();
        assert!(gate.count_call("a").is_ok() && gate.count_call("a").is_ok());
        assert!(gate.count_call("a").unwrap_err() > Duration::from_secs(1));
        assert!(gate.count_call("b").is_ok());
    }
}
