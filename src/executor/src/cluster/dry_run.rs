//! Asks the API server what it would say, without effect.

use countersign_domain::ActionId;
use http::StatusCode;

use super::connection::Connection;
use super::eviction::Target;

/// Can send evictions with `dryRun=All` only.
pub struct DryRun {
    connection: Connection,
}

/// What the API server would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    Accepted,
    /// A PodDisruptionBudget has no room now.
    OverBudget(String),
    /// The object changed since it was read (409), or is gone (404).
    Changed(String),
    /// Not allowed, not valid, or not supported: the sentence says what.
    Rejected(String),
    /// Nothing was learnt.
    Unreachable(String),
}

impl DryRun {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Evicts in thought. The names have the shape that the API server enforces: they come from
    /// an object that it returned.
    pub async fn evict(
        &self,
        action: ActionId,
        namespace: &str,
        name: &str,
        uid: &str,
        resource_version: &str,
    ) -> Preview {
        let target = Target {
            namespace,
            name,
            uid,
            resource_version,
        };
        let body = target.dry_run(action);
        let answer = self
            .connection
            .post(&target.path(), "dryRun=All", None, &body)
            .await;
        let (status, body) = match answer {
            Ok(answer) => answer.judged(),
            Err(lost) => return Preview::Unreachable(lost.0),
        };
        let sentence = body.sentence();
        match status {
            status if status.is_success() => Preview::Accepted,
            StatusCode::TOO_MANY_REQUESTS if body.names_budget() => Preview::OverBudget(sentence),
            StatusCode::TOO_MANY_REQUESTS => {
                Preview::Unreachable(format!("the API server is too busy (429): {sentence}"))
            }
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Preview::Changed(sentence),
            // Two budgets for one pod: the API server answers 500, and will again.
            StatusCode::INTERNAL_SERVER_ERROR if sentence.contains("PodDisruptionBudget") => {
                Preview::Rejected(sentence)
            }
            status if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
                Preview::Rejected(format!("{sentence} ({})", status.as_u16()))
            }
            status => Preview::Unreachable(format!("the API server answered {status}")),
        }
    }
}
