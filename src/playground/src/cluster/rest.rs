//! The API's front: authentication, authorization, faults, reads, and the audit log of writes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::access::Account;
use super::eviction::is_dry_run;
use super::faults::FaultKind;
use super::kinds::{Kind, discovery, find};
use super::object;
use super::request::Asked;
use super::selector::Filter;
use super::state::{Cluster, Shared};
use super::status::{Refusal, answer};
use super::{logs, watch, writes};
use crate::{clock, random, serve};

const BODY_LIMIT: usize = 3 * 1024 * 1024;
const AUDIT_ID: &str = "Audit-Id";

/// Every path that is not under `/playground`.
pub async fn api(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let asked = Asked::parse(&parts.method, parts.uri.path(), parts.uri.query());
    let audit_id = parts
        .headers
        .get(AUDIT_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= 64)
        .map_or_else(random::uuid, str::to_owned);
    let entry = Entry {
        audit_id: audit_id.clone(),
        uri: parts.uri.to_string(),
        user_agent: text_header(&parts.headers, header::USER_AGENT.as_str()),
        received: clock::kubernetes_micro(clock::now()),
    };
    let account = shared
        .tokens
        .account(parts.headers.get(header::AUTHORIZATION));
    let mut response = match axum::body::to_bytes(body, BODY_LIMIT).await {
        Ok(body) => converse(&shared, account, &asked, &parts.headers, &body, entry).await,
        Err(_) => Refusal::too_large().into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&audit_id) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    response
}

fn text_header(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// What the audit log knows before the request is answered.
struct Entry {
    audit_id: String,
    uri: String,
    user_agent: String,
    received: String,
}

async fn converse(
    shared: &Arc<Shared>,
    account: Option<Account>,
    asked: &Asked,
    headers: &HeaderMap,
    body: &Bytes,
    entry: Entry,
) -> Response<Body> {
    if let Some(public) = public(&asked.attributes.path) {
        return public;
    }
    let Some(account) = account else {
        let refusal = Refusal::unauthorized();
        entry.record(
            shared,
            "",
            asked,
            &Value::Null,
            &StatusCode::UNAUTHORIZED,
            refusal.body(),
        );
        return refusal.into_response();
    };
    let suffering = shared.read().faults.meet(account, &asked.attributes);
    match suffering.map(|suffering| suffering.kind) {
        Some(FaultKind::Timeout) => {
            if let Some(suffering) = suffering {
                tokio::time::sleep_until(suffering.until).await;
            }
            return serve::hang_up();
        }
        Some(FaultKind::Internal) => {
            return Refusal::internal("played by the playground").into_response();
        }
        Some(FaultKind::Unavailable) => return Refusal::unavailable().into_response(),
        Some(FaultKind::Slow) => {
            tokio::time::sleep(
                suffering
                    .map(|suffering| suffering.delay)
                    .unwrap_or_default(),
            )
            .await;
        }
        Some(FaultKind::LoseAnswer | FaultKind::None) | None => {}
    }
    if !account.may(&asked.attributes) {
        let refusal = Refusal::forbidden(account.user(), &asked.attributes);
        let code = StatusCode::FORBIDDEN;
        entry.record(
            shared,
            account.user(),
            asked,
            &Value::Null,
            &code,
            refusal.body(),
        );
        return refusal.into_response();
    }
    let response = if is_write(asked) {
        let read = writes::read_body(headers, body);
        let document = read.as_ref().cloned().unwrap_or_default();
        let outcome = read
            .and_then(|document| shared.write(|cluster| writes::perform(cluster, asked, document)));
        let (response, refusal) = match outcome {
            Ok((code, body)) => (answer(code, &body), Value::Null),
            Err(refusal) => {
                let body = refusal.body().clone();
                (refusal.into_response(), body)
            }
        };
        entry.record(
            shared,
            account.user(),
            asked,
            &document,
            &response.status(),
            &refusal,
        );
        response
    } else {
        read(shared, asked).unwrap_or_else(Refusal::into_response)
    };
    if suffering.is_some_and(|suffering| suffering.kind == FaultKind::LoseAnswer) {
        return serve::hang_up();
    }
    response
}

impl Entry {
    /// Appends an event in the manner of `audit.k8s.io/v1`, for writes only; `refusal` is the
    /// Status that was answered, or null.
    fn record(
        self,
        shared: &Shared,
        user: &str,
        asked: &Asked,
        document: &Value,
        code: &StatusCode,
        refusal: &Value,
    ) {
        if !is_write(asked) {
            return;
        }
        let attributes = &asked.attributes;
        let mut status = json!({"metadata": {}, "code": code.as_u16()});
        for field in ["status", "reason", "message"] {
            if let Some(text) = refusal.get(field) {
                status[field] = text.clone();
            }
        }
        if let Some(code) = refusal.get("code") {
            status["code"] = code.clone();
        }
        let name = match &*attributes.name {
            "" => object::name(document),
            name => name,
        };
        let event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request",
            "stage": "ResponseComplete", "auditID": self.audit_id, "requestURI": self.uri,
            "verb": attributes.verb, "user": {"username": user}, "userAgent": self.user_agent,
            "objectRef": {
                "apiGroup": attributes.group, "resource": attributes.resource,
                "subresource": attributes.subresource, "namespace": attributes.namespace,
                "name": name,
            },
            "requestObject": document, "responseStatus": status,
            "dryRun": is_dry_run(asked, document),
            "requestReceivedTimestamp": self.received,
            "stageTimestamp": clock::kubernetes_micro(clock::now()),
        });
        shared.read().audit.push(event);
    }
}

fn is_write(asked: &Asked) -> bool {
    !matches!(asked.attributes.verb, "get" | "list" | "watch")
}

/// What a real API server shows to anyone.
fn public(path: &str) -> Option<Response<Body>> {
    match path {
        "/healthz" | "/livez" | "/readyz" => Some(Response::new(Body::from("ok"))),
        "/version" => Some(answer(
            StatusCode::OK,
            &json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.3+countersign-playground",
                "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "", "compiler": "rustc", "platform": "simulated",
            }),
        )),
        _ => None,
    }
}

fn read(shared: &Arc<Shared>, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let attributes = &asked.attributes;
    if attributes.resource.is_empty() {
        let segments: Vec<&str> = attributes
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        return discovery(&segments)
            .map(|body| answer(StatusCode::OK, &body))
            .ok_or_else(Refusal::no_such_resource);
    }
    let kind = kind_of(asked)?;
    match (attributes.verb, &*attributes.subresource) {
        ("list", "") => {
            let list = list(&shared.read(), kind, asked)?;
            Ok(answer(StatusCode::OK, &list))
        }
        ("watch", "") => watch::watch(shared, kind, asked),
        ("get", "log") if kind.plural == "pods" => logs::log(&shared.read(), asked),
        ("get", "" | "status") => {
            let cluster = shared.read();
            let object = cluster
                .store
                .get(kind, namespace_of(kind, asked), &attributes.name)
                .ok_or_else(|| Refusal::not_found(kind, &attributes.name))?;
            Ok(answer(StatusCode::OK, &object))
        }
        ("get", "eviction") if kind.plural == "pods" => Err(Refusal::method_not_allowed()),
        _ => Err(Refusal::no_such_resource()),
    }
}

/// The kind that a path names.
pub fn kind_of(asked: &Asked) -> Result<&'static Kind, Refusal> {
    let attributes = &asked.attributes;
    find(&attributes.group, &asked.version, &attributes.resource)
        .filter(|kind| {
            kind.namespaced || kind.plural == "namespaces" || attributes.namespace.is_empty()
        })
        .ok_or_else(Refusal::no_such_resource)
}

/// The namespace under which an object is stored: none for cluster scope.
pub fn namespace_of<'a>(kind: &Kind, asked: &'a Asked) -> &'a str {
    if kind.namespaced {
        &asked.attributes.namespace
    } else {
        ""
    }
}

/// A list, paged by `limit` and `continue` as etcd's are.
fn list(cluster: &Cluster, kind: &'static Kind, asked: &Asked) -> Result<Value, Refusal> {
    let filter = Filter::parse(
        kind,
        asked.query("labelSelector"),
        asked.query("fieldSelector"),
    )?;
    let limit: usize = match asked.query("limit") {
        Some(text) => text.parse().map_err(|_| {
            Refusal::bad_request(&format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        })?,
        None => 0,
    };
    let mut version = cluster.store.version();
    let mut start = None;
    if let Some(token) = asked.query("continue") {
        let token = Continue::decode(token)?;
        if token.version < cluster.store.oldest_watchable() {
            return Err(Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            ));
        }
        version = token.version;
        start = Some((token.namespace, token.name));
    } else if let Some(text) = asked.query("resourceVersion") {
        let asked_for: u64 = text
            .parse()
            .map_err(|_| Refusal::bad_request(&format!("invalid resource version {text:?}")))?;
        if asked_for > version {
            return Err(Refusal::version_too_large(asked_for, version));
        }
    }
    let mut matching = cluster
        .store
        .list(kind, namespace_of(kind, asked))
        .filter(|object| {
            let key = (object::namespace(object), object::name(object));
            start
                .as_ref()
                .is_none_or(|(namespace, name)| key > (namespace.as_str(), name.as_str()))
                && filter.lets_through(object)
        });
    let page = if limit == 0 { usize::MAX } else { limit };
    let items: Vec<Value> = matching
        .by_ref()
        .take(page)
        .map(|object| untyped(object))
        .collect();
    let remaining = matching.count();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (1.., Some(last)) = (remaining, items.last()) {
        metadata["continue"] = Continue {
            version,
            namespace: object::namespace(last).to_owned(),
            name: object::name(last).to_owned(),
        }
        .encode()
        .into();
        // The API server cannot count what a selector would let through.
        if filter.is_empty() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    Ok(json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": metadata, "items": items,
    }))
}

/// Items of a list carry no `apiVersion` and `kind`.
fn untyped(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.shift_remove("apiVersion");
        fields.shift_remove("kind");
    }
    item
}

/// Where the next page starts: after this object, at the first page's version.
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!(
            "{}\n{}\n{}",
            self.version, self.namespace, self.name
        ))
    }

    fn decode(token: &str) -> Result<Self, Refusal> {
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let mut lines = text.split('\n').map(str::to_owned);
            let (version, namespace, name) = (lines.next()?, lines.next()?, lines.next()?);
            Some(Self {
                version: version.parse().ok()?,
                namespace,
                name,
            })
        };
        read().ok_or_else(|| Refusal::bad_request("continue key is not valid: illegal base64 data"))
    }
}
