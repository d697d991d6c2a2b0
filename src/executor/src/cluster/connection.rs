//! The one connection that may write. No retries: whether a write is sent again is decided where
//! its meaning is known. kube's own calls are not used: `Api::evict` loses the preconditions, and
//! an answer 201 may carry a failure in its body.

use std::time::Duration;

use anyhow::Context as _;
use countersign_domain::ActionId;
use countersign_integrations::untrusted;
use http::{Method, Request, StatusCode};
use kube::client::Body;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;

use super::Access;
use crate::timing::{API_TIMEOUT, CLIENT_TIMEOUT};

const CONNECT: Duration = Duration::from_secs(2);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
}

/// An answer of the API server: it is known what happened.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// As [`StatusBody`] when the body is a Status.
    pub body: Value,
}

/// No usable answer: it is not known whether the request was carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// The parts of a Kubernetes `Status` that are read here.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StatusBody {
    kind: String,
    status: String,
    pub code: u16,
    pub reason: String,
    pub message: String,
    details: Details,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

impl StatusBody {
    /// Whether a disruption budget is the cause. A 429 alone says no more than "not now".
    pub fn names_budget(&self) -> bool {
        let causes = &self.details.causes;
        causes
            .iter()
            .any(|cause| cause.reason == "DisruptionBudget")
    }

    /// The message with its causes, safe to show on one line.
    pub fn sentence(&self) -> String {
        let causes: Vec<&str> = self
            .details
            .causes
            .iter()
            .map(|cause| cause.message.as_str())
            .filter(|cause| !cause.is_empty() && !self.message.contains(cause))
            .collect();
        let text = match causes.is_empty() {
            true => self.message.clone(),
            false => format!("{} {}", self.message, causes.join("; ")),
        };
        untrusted::line(text.trim(), 400)
    }
}

impl Answer {
    /// The status that counts: a 201 with a Failure inside is that failure.
    pub fn judged(&self) -> (StatusCode, StatusBody) {
        let body: StatusBody = serde_json::from_value(self.body.clone()).unwrap_or_default();
        let failed_inside = body.kind == "Status" && body.status == "Failure";
        match StatusCode::from_u16(body.code) {
            Ok(inner) if failed_inside => (inner, body),
            _ if failed_inside => (StatusCode::INTERNAL_SERVER_ERROR, body),
            _ => (self.status, body),
        }
    }
}

impl Connection {
    pub async fn new(access: Access<'_>) -> anyhow::Result<Self> {
        let mut config = match access {
            Access::InCluster => {
                Config::incluster().context("no service account is mounted here")?
            }
            Access::Kubeconfig { path, context } => {
                // kube's own error quotes lines of the file, which may hold a token.
                let mut kubeconfig = Kubeconfig::read_from(path).map_err(|_| {
                    anyhow::anyhow!("the kubeconfig {} cannot be read", path.display())
                })?;
                for named in &mut kubeconfig.auth_infos {
                    if let Some(exec) = named.auth_info.as_mut().and_then(|info| info.exec.as_mut())
                    {
                        exec.interactive_mode = Some(ExecInteractiveMode::Never);
                    }
                }
                let options = KubeConfigOptions {
                    context: context.map(str::to_owned),
                    ..KubeConfigOptions::default()
                };
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|_| {
                        anyhow::anyhow!(
                            "the kubeconfig {} has no usable {}",
                            path.display(),
                            context.map_or("current context".to_owned(), |name| format!(
                                "context `{name}`"
                            ))
                        )
                    })?
            }
        };
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        // Building runs a credential plugin, if there is one, and waits for it.
        let client = tokio::task::spawn_blocking(move || Client::try_from(config))
            .await?
            .map_err(|_| anyhow::anyhow!("the client of the cluster cannot be set up"))?;
        Ok(Self { client })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, path, None, Body::empty()).await
    }

    /// `query` without the leading `?`; may be empty. `audit_id` is for the one request that
    /// changes a workload, so that the API server's audit log names the action there only.
    pub async fn post(
        &self,
        path: &str,
        query: &str,
        audit_id: Option<ActionId>,
        body: &Value,
    ) -> Result<Answer, NoAnswer> {
        let and = if query.is_empty() { "" } else { "&" };
        let seconds = API_TIMEOUT.as_secs();
        let uri = format!("{path}?timeout={seconds}s{and}{query}");
        let body = Body::from(body.to_string().into_bytes());
        self.send(Method::POST, &uri, audit_id, body).await
    }

    /// For the collector alone; `body` holds the preconditions.
    pub async fn delete(&self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        let body = Body::from(body.to_string().into_bytes());
        self.send(Method::DELETE, path, None, body).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        audit_id: Option<ActionId>,
        body: Body,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(id) = audit_id {
            // Correlation only: the client chooses it, so it proves nothing.
            request = request.header("Audit-ID", id.to_string());
        }
        let request = request
            .body(body)
            .map_err(|_| NoAnswer("the name does not fit in an address".to_owned()))?;
        let exchange = async {
            let response = self
                .client
                .send(request)
                .await
                .map_err(|error| lost(&error))?;
            let status = response.status();
            let bytes = response
                .into_body()
                .collect_bytes()
                .await
                .map_err(|error| lost(&error))?;
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Ok(Answer { status, body })
        };
        tokio::time::timeout(CLIENT_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(NoAnswer(format!(
                    "the API server did not answer within {} s",
                    CLIENT_TIMEOUT.as_secs()
                )))
            })
    }
}

/// The causes without the outermost layer, and nothing that could quote credentials.
fn lost(error: &kube::Error) -> NoAnswer {
    if matches!(error, kube::Error::Auth(_)) {
        return NoAnswer("the cluster's credentials cannot be used".to_owned());
    }
    let mut problem = "the API server cannot be reached".to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !problem.contains(&text) {
            problem = format!("{problem}: {text}");
        }
        cause = error.source();
    }
    NoAnswer(untrusted::line(&problem, 300))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_inside_a_201_is_a_failure() {
        let answer = Answer {
            status: StatusCode::CREATED,
            body: json!({"kind": "Status", "status": "Failure", "code": 500, "message": "two"}),
        };
        let (status, body) = answer.judged();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body.sentence(), "two");
        let lease = Answer {
            status: StatusCode::CREATED,
            body: json!({"kind": "Lease"}),
        };
        assert_eq!(lease.judged().0, StatusCode::CREATED);
    }

    #[test]
    fn causes_are_part_of_the_sentence() {
        let body: StatusBody = serde_json::from_value(json!({
            "message": "Cannot evict pod.",
            "details": {"causes": [{"message": "The disruption budget x needs 2"}]},
        }))
        .unwrap();
        assert_eq!(
            body.sentence(),
            "Cannot evict pod. The disruption budget x needs 2"
        );
    }

    #[test]
    fn only_a_cause_that_names_it_blames_the_budget() {
        let body = |causes: Value| -> StatusBody {
            let body = json!({"message": "not now", "details": {"causes": causes}});
            serde_json::from_value(body).unwrap()
        };
        assert!(body(json!([{"reason": "DisruptionBudget", "message": "x"}])).names_budget());
        assert!(!body(json!([])).names_budget());
        assert!(!StatusBody::default().names_budget());
    }
}
