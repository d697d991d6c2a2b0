//! The only code in this workspace that changes a workload.

use countersign_domain::{ActionKind, Authorized, Clock};
use http::StatusCode;

use super::connection::Connection;
use super::eviction::Target;
use super::register::Spent;
use crate::crash;
use crate::timing::Deadline;

/// Can send one eviction for one permission.
pub struct Writer {
    connection: Connection,
}

/// What became of the write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The API server carried it out.
    Accepted,
    /// The API server did not carry it out: its status and its sentence.
    Rejected {
        status: u16,
        sentence: String,
        /// A disruption budget is the cause.
        over_budget: bool,
    },
    /// Nothing was sent: the permission had run out.
    TooLate,
    /// It is not known whether it was carried out.
    Unknown(String),
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Evicts. Takes both proofs by move, so neither can be used again. Never retries.
    pub async fn evict(
        &self,
        authorized: Authorized,
        spent: Spent,
        deadline: Deadline,
        clock: &dyn Clock,
    ) -> Sent {
        let statement = authorized.statement();
        let ActionKind::RestartPod = statement.kind;
        let target = Target {
            namespace: &statement.namespace,
            name: &statement.name,
            uid: &statement.uid,
            resource_version: authorized.resource_version(),
        };
        let mut body = target.dry_run(statement.action_id);
        if let Some(options) = body["deleteOptions"].as_object_mut() {
            options.shift_remove("dryRun");
        }
        crash::point("evict.before");
        if !spent.belongs_to(&authorized) || deadline.is_over(clock.now()) {
            return Sent::TooLate;
        }
        let answer = self
            .connection
            .post(&target.path(), "", Some(statement.action_id), &body)
            .await;
        crash::point("evict.after");
        let (status, said) = match answer {
            Ok(answer) => answer.judged(),
            Err(lost) => return Sent::Unknown(lost.0),
        };
        let definite = status.is_client_error()
            || (status == StatusCode::INTERNAL_SERVER_ERROR
                && said.message.contains("more than one PodDisruptionBudget"));
        match status {
            status if status.is_success() => Sent::Accepted,
            status if definite && status != StatusCode::REQUEST_TIMEOUT => Sent::Rejected {
                status: status.as_u16(),
                sentence: said.sentence(),
                over_budget: said.names_budget(),
            },
            status => Sent::Unknown(format!("the API server answered {status}")),
        }
    }
}
