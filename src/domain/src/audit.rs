//! Audit events: what every state change writes in its own transaction, and every tool call leaves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::word_enum;
use crate::ids::ActionId;
use crate::signing::SignedObject;

word_enum! {
    /// Which process wrote the event. The executor's events carry its signature.
    Author, "author" {
        Server => "server",
        Executor => "executor",
    }
}

word_enum! {
    /// What happened.
    EventName, "event" {
        ToolCalled => "tool.called",
        Proposed => "action.proposed",
        Admitted => "action.admitted",
        Denied => "action.denied",
        Viewed => "action.viewed",
        Decided => "action.decided",
        DecisionRefused => "decision.refused",
        Approved => "action.approved",
        Reopened => "action.reopened",
        Rejected => "action.rejected",
        Cancelled => "action.cancelled",
        Expired => "action.expired",
        Held => "action.held",
        Refused => "action.refused",
        Executing => "action.executing",
        Succeeded => "action.succeeded",
        Failed => "action.failed",
        Indeterminate => "action.indeterminate",
        TicketOpened => "ticket.opened",
        TicketUpdated => "ticket.updated",
        Notified => "notification.sent",
        LoggedIn => "person.logged_in",
        LogInFailed => "person.log_in_failed",
        LoggedOut => "person.logged_out",
    }
}

/// One line of the audit log. Strings only, so that the executor can sign it as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEvent {
    /// UUIDv7.
    pub id: String,
    pub at: Timestamp,
    pub author: Author,
    pub event: EventName,
    /// Who: an agent, a person, or the process itself.
    pub actor: String,
    /// The action's id, or empty.
    pub action_id: String,
    /// More, by key: tool, inputs, session, outcome, duration_us, code, message, channel...
    pub details: BTreeMap<String, String>,
}

impl SignedObject for AuditEvent {
    const PREFIX: &'static str = "countersign-audit/v1";
}

impl AuditEvent {
    pub fn new(
        at: Timestamp,
        entropy: &dyn crate::Entropy,
        author: Author,
        event: EventName,
        actor: impl Into<String>,
    ) -> Self {
        Self {
            id: ActionId::new(at, entropy).to_string(),
            at,
            author,
            event,
            actor: actor.into(),
            action_id: String::new(),
            details: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn about(mut self, action: ActionId) -> Self {
        self.action_id = action.to_string();
        self
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}
