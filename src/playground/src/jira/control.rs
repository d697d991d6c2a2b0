//! `/playground`: faults, the webhook's address, and looks behind the scenes. Admin only.
//! Also the gate that every API request passes: who it is, and which fault it meets.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::people::{Visitor, Who};
use super::state::{Refusal, Shared, answer};
use crate::serve;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Nothing is done; 503, or the connection closes.
    Down,
    /// A write is done, but its answer is lost: the connection closes, or 500.
    LoseAnswer,
    /// Nothing is done; 429 with Retry-After: 1.
    #[serde(rename = "429")]
    TooMany,
    /// Ends all faults.
    None,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum How {
    Close,
    Error,
}

/// The body of `POST /playground/fail`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    mode: Mode,
    /// How long it lasts; ten minutes when only `count` limits it.
    #[serde(default = "ten_minutes")]
    for_ms: u64,
    /// How many requests it meets.
    count: Option<u32>,
    /// `close` or `error`; down answers with an error, a lost answer closes.
    how: Option<How>,
    /// Only this method (`POST`).
    method: Option<String>,
    /// Only paths that contain this.
    path: Option<String>,
    #[serde(skip)]
    until: Option<Instant>,
}

fn ten_minutes() -> u64 {
    600_000
}

impl Fault {
    fn meets(&self, method: &Method, path: &str) -> bool {
        let is_search = path.contains("/search");
        let is_write = matches!(*method, Method::POST | Method::PUT | Method::DELETE) && !is_search;
        (is_write || self.mode != Mode::LoseAnswer)
            && self
                .method
                .as_deref()
                .is_none_or(|m| m.eq_ignore_ascii_case(method.as_str()))
            && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}

/// The body of `POST /playground/webhook`, and what is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    #[serde(deserialize_with = "address")]
    pub url: Option<url::Url>,
    /// How often each event is delivered (once when 0).
    #[serde(default)]
    pub copies: u32,
    /// Deliveries are delayed by up to this much, and so shuffled.
    #[serde(default)]
    pub jitter_ms: u64,
    /// Every n-th event is never delivered (none when 0).
    #[serde(default)]
    pub lose_every: usize,
}

fn address<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<url::Url>, D::Error> {
    Option::<String>::deserialize(input)?
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// Authentication and faults for everything under `/rest`.
pub async fn gate(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let met = {
        let mut jira = shared.jira();
        let now = Instant::now();
        jira.faults
            .retain(|fault| fault.until.is_some_and(|u| u > now) && fault.count != Some(0));
        jira.faults
            .iter_mut()
            .find(|fault| fault.meets(&method, &path))
            .map(|fault| {
                if let Some(count) = &mut fault.count {
                    *count -= 1;
                }
                (fault.mode, fault.how)
            })
    };
    match met {
        Some((Mode::Down, Some(How::Close))) => return serve::hang_up(),
        Some((Mode::Down, _)) => return Refusal::down().into_response(),
        Some((Mode::TooMany, _)) => return Refusal::too_many(1).into_response(),
        Some((Mode::LoseAnswer | Mode::None, _)) | None => {}
    }
    let presented = request.headers().get(header::AUTHORIZATION).cloned();
    let visitor = shared.people.visitor(presented.as_ref());
    request.extensions_mut().insert(visitor);
    let mut response = next.run(request).await;
    match met {
        Some((Mode::LoseAnswer, Some(How::Error))) => return Refusal::lost().into_response(),
        Some((Mode::LoseAnswer, _)) => return serve::hang_up(),
        _ => {}
    }
    if presented.is_some() && visitor == Visitor::Anonymous {
        // Wrong credentials do not fail: they are no credentials, and this header says so.
        let reason = HeaderValue::from_static("AUTHENTICATED_FAILED");
        response
            .headers_mut()
            .insert("x-seraph-loginreason", reason);
    }
    response
}

pub async fn control(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    match shared.people.visitor(headers.get(header::AUTHORIZATION)) {
        Visitor::Anonymous => return Refusal::unauthorized().into_response(),
        Visitor::Known(Who::Admin) => {}
        Visitor::Known(_) => {
            return Refusal::forbidden("The playground's controls are for its admin account.")
                .into_response();
        }
    }
    match perform(&shared, &method, uri.path(), &body) {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(refusal) => refusal.into_response(),
    }
}

/// Whether robots may move a ticket to a status that decides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workflow {
    robots_may_decide: bool,
}

fn perform(shared: &Shared, method: &Method, path: &str, body: &Bytes) -> Result<Value, Refusal> {
    let mut jira = shared.jira();
    match (method, path) {
        (&Method::POST, "/playground/fail") => {
            let mut fault: Fault = read(body)?;
            if fault.mode == Mode::None {
                jira.faults.clear();
            } else {
                fault.until = Some(Instant::now() + Duration::from_millis(fault.for_ms));
                jira.faults.push(fault);
            }
        }
        (&Method::POST, "/playground/webhook") => jira.webhook = read(body)?,
        (&Method::POST, "/playground/workflow") => {
            jira.robots_may_decide = read::<Workflow>(body)?.robots_may_decide;
        }
        (&Method::GET, "/playground/deliveries") => {
            return Ok(json!({"deliveries": jira.deliveries}));
        }
        (&Method::GET, "/playground/issues") => {
            let issues: Vec<Value> = jira
                .issues
                .iter()
                .map(|issue| {
                    json!({
                        "id": issue.id.to_string(), "key": issue.key(), "labels": issue.labels,
                        "status": issue.status.name(), "summary": issue.summary,
                        "comments": issue.comments.len(),
                    })
                })
                .collect();
            return Ok(json!({"issues": issues}));
        }
        _ => {
            return Err(Refusal::not_found(
                "The playground has POST fail, webhook, workflow and GET issues, deliveries.",
            ));
        }
    }
    Ok(json!({"done": true}))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    Json::from_bytes(body)
        .map(|Json(value)| value)
        .map_err(|error| {
            Refusal::bad(&format!(
                "This document does not fit: {}",
                error.body_text()
            ))
        })
}
