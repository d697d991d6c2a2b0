//! Refusals as the API server words them: a `Status` body with reason, code, message, details.
//! Wording and codes follow k8s.io/apimachinery `api/errors` and the handlers that call it.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::kinds::{Kind, qualified};
use super::request::Attributes;

/// A refused request.
#[derive(Debug)]
pub struct Refusal {
    http: StatusCode,
    body: Value,
}

fn refusal(code: StatusCode, reason: &str, message: &str, details: Value) -> Refusal {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message,
    });
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    if !details.is_null() {
        body["details"] = details;
    }
    body["code"] = code.as_u16().into();
    Refusal { http: code, body }
}

/// `details` without the empty fields, which Go leaves out.
fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = json!({});
    for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details[field] = value.into();
        }
    }
    details
}

impl Refusal {
    pub fn unauthorized() -> Self {
        refusal(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "Unauthorized",
            Value::Null,
        )
    }

    pub fn forbidden(user: &str, request: &Attributes) -> Self {
        let Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            path,
        } = request;
        if resource.is_empty() {
            let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
            return refusal(StatusCode::FORBIDDEN, "Forbidden", &message, json!({}));
        }
        let full = if subresource.is_empty() {
            resource.clone()
        } else {
            format!("{resource}/{subresource}")
        };
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let qualified = qualified(group, resource);
        let what = if name.is_empty() {
            qualified
        } else {
            format!("{qualified} {name:?}")
        };
        let message = format!(
            "{what} is forbidden: User {user:?} cannot {verb} resource {full:?} in API group \
             {group:?} {place}"
        );
        refusal(
            StatusCode::FORBIDDEN,
            "Forbidden",
            &message,
            details(name, group, resource),
        )
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        let details = details(name, kind.group, kind.plural);
        refusal(StatusCode::NOT_FOUND, "NotFound", &message, details)
    }

    /// No such path, group, version or resource.
    pub fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        refusal(StatusCode::NOT_FOUND, "NotFound", message, json!({}))
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        let details = details(name, kind.group, kind.plural);
        refusal(StatusCode::CONFLICT, "AlreadyExists", &message, details)
    }

    /// A precondition on `kind` (its kind, not its plural: so does the API server on deletes).
    fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let subject = qualified(kind.group, kind.kind);
        let message = format!("Operation cannot be fulfilled on {subject} {name:?}: {why}");
        let details = details(name, kind.group, kind.kind);
        refusal(StatusCode::CONFLICT, "Conflict", &message, details)
    }

    pub fn uid_differs(kind: &Kind, name: &str, asked: &str, found: &str) -> Self {
        let why = format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({found}). \
             The object might have been deleted and then recreated"
        );
        Self::conflict(kind, name, &why)
    }

    pub fn version_differs(kind: &Kind, name: &str, asked: &str, found: &str) -> Self {
        let why = format!(
            "the ResourceVersion in the precondition ({asked}) does not match the \
             ResourceVersion in record ({found}). The object might have been modified"
        );
        Self::conflict(kind, name, &why)
    }

    /// An update or patch that named an older resource version.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified()
        );
        let details = details(name, kind.group, kind.plural);
        refusal(StatusCode::CONFLICT, "Conflict", &message, details)
    }

    pub fn bad_request(message: &str) -> Self {
        refusal(StatusCode::BAD_REQUEST, "BadRequest", message, Value::Null)
    }

    pub fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Self {
        let subject = qualified(kind.group, kind.kind);
        let message = format!("{subject} {name:?} is invalid: {field}: {why}");
        let mut details = details(name, kind.group, kind.kind);
        let cause = if why.starts_with("Required") {
            "FieldValueRequired"
        } else {
            "FieldValueInvalid"
        };
        details["causes"] = json!([{"reason": cause, "message": why, "field": field}]);
        refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            &message,
            details,
        )
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            message,
            json!({}),
        )
    }

    pub fn unsupported_media_type(found: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json (the playground reads no {found:?})"
        );
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        refusal(code, "UnsupportedMediaType", &message, json!({}))
    }

    pub fn too_large() -> Self {
        let code = StatusCode::PAYLOAD_TOO_LARGE;
        refusal(code, "RequestEntityTooLarge", "limit is 3145728", json!({}))
    }

    /// 410: a continue token or a resource version from before the log begins.
    pub fn expired(message: &str) -> Self {
        refusal(StatusCode::GONE, "Expired", message, Value::Null)
    }

    /// 504: a list at a version that the server has not reached.
    pub fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let details = json!({"causes": [cause], "retryAfterSeconds": 1});
        refusal(StatusCode::GATEWAY_TIMEOUT, "Timeout", &message, details)
    }

    pub fn internal(why: &str) -> Self {
        let message = format!("Internal error occurred: {why}");
        let details = json!({"causes": [{"message": why}]});
        refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            &message,
            details,
        )
    }

    pub fn unavailable() -> Self {
        let message = "the server is currently unable to handle the request";
        refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
            Value::Null,
        )
    }

    /// A disruption budget without room. `why` stands in a cause, the message is always the same,
    /// and there is no Retry-After unless the budget is still being processed.
    pub fn over_budget(why: &str) -> Self {
        let cause = json!({"reason": "DisruptionBudget", "message": why});
        refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
            json!({"causes": [cause]}),
        )
    }

    /// Two budgets select the pod: HTTP 500 with no reason (seen on a real API server 1.36.3).
    pub fn several_budgets() -> Self {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction \
                       subresource does not support.";
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "", message, Value::Null)
    }

    pub fn body(&self) -> &Value {
        &self.body
    }

    pub fn into_response(self) -> Response<Body> {
        answer(self.http, &self.body)
    }
}

pub fn answer(code: StatusCode, body: &Value) -> Response<Body> {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// `Status: Success`, the answer to an eviction (201).
pub fn success(code: StatusCode) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "code": code.as_u16(),
    })
}
