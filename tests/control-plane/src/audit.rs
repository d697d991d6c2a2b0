//! The API server's own record of who asked for what: the referee of tests that
//! claim "one effect" or "no effect".

use jiff::Timestamp;
use serde_json::Value;

/// One line of the audit log (audit.k8s.io/v1 Event) at stage `ResponseComplete`,
/// `ResponseStarted` (watches) or `Panic`.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub verb: String,
    /// `system:serviceaccount:<namespace>:<name>`, or a static account such as `admin`.
    pub user: String,
    /// Plural; empty for paths that are no resource.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// HTTP status; 0 when the log has none.
    pub code: u16,
    pub request_uri: String,
    /// By query parameter, or by `deleteOptions` in an eviction's body.
    pub dry_run: bool,
    pub audit_id: String,
    /// When the API server received the request.
    pub timestamp: Timestamp,
    pub stage: String,
    pub user_agent: String,
    /// The body, for evictions and leases only; null otherwise.
    pub request_object: Value,
    /// Authorisation decision, admission policies that audited, ...
    pub annotations: Value,
}

impl AuditEvent {
    /// A request that the API server carried out: a 2xx answer, and not a dry run.
    pub fn took_effect(&self) -> bool {
        (200..300).contains(&self.code) && !self.dry_run
    }

    pub fn is_eviction(&self) -> bool {
        self.verb == "create" && self.resource == "pods" && self.subresource == "eviction"
    }
}

/// Every complete line of the log. The last one may still be being written: a
/// line that is not JSON is left out.
pub(crate) fn parse(log: &str) -> Vec<AuditEvent> {
    log.lines()
        .filter_map(|line| event(&serde_json::from_str(line).ok()?))
        .collect()
}

fn event(line: &Value) -> Option<AuditEvent> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let request_uri = text(&line["requestURI"]);
    let in_body = &line["requestObject"]["deleteOptions"]["dryRun"];
    Some(AuditEvent {
        verb: text(&line["verb"]),
        user: text(&line["user"]["username"]),
        resource: text(&line["objectRef"]["resource"]),
        subresource: text(&line["objectRef"]["subresource"]),
        namespace: text(&line["objectRef"]["namespace"]),
        name: text(&line["objectRef"]["name"]),
        code: line["responseStatus"]["code"]
            .as_u64()
            .and_then(|c| c.try_into().ok())
            .unwrap_or(0),
        dry_run: request_uri.contains("dryRun=All")
            || in_body.as_array().is_some_and(|modes| !modes.is_empty()),
        request_uri,
        audit_id: text(&line["auditID"]),
        timestamp: line["requestReceivedTimestamp"].as_str()?.parse().ok()?,
        stage: text(&line["stage"]),
        user_agent: text(&line["userAgent"]),
        request_object: line["requestObject"].clone(),
        annotations: line["annotations"].clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"Event","stage":"ResponseComplete","auditID":"a1",
        "requestURI":"/api/v1/namespaces/shop/pods/p/eviction","verb":"create",
        "user":{"username":"u"},"objectRef":{"resource":"pods","subresource":"eviction",
        "namespace":"shop","name":"p"},"responseStatus":{"code":201},
        "requestObject":{"deleteOptions":{"dryRun":["All"]}},
        "requestReceivedTimestamp":"2026-01-02T03:04:05.678901Z"}"#;

    #[test]
    fn reads_a_line_and_ignores_a_partial_one() {
        let line = LINE.replace('\n', "");
        let events = parse(&format!("{line}\n{}", &line[..90]));
        assert_eq!(events.len(), 1);
        assert!(events[0].is_eviction() && events[0].dry_run && !events[0].took_effect());
        assert_eq!(
            events[0].timestamp.to_string(),
            "2026-01-02T03:04:05.678901Z"
        );
    }
}
