//! What the two ports take and give. Rows never leave the crate; these do.

use countersign_domain::{
    Action, ActionId, AuditEvent, Channel, ExecutionRecord, Held, Reason, Sealed, Signed,
    StateName, StoredDecision, Verb,
};
use jiff::Timestamp;

/// What became of a proposal.
#[derive(Debug, Clone)]
pub enum Proposed {
    /// A new action, state `checking`.
    Created(Action),
    /// The same caller already has this very proposal in a state that is not terminal, or used this
    /// idempotency key for it.
    Existing(Action),
    /// The idempotency key belongs to a proposal with other arguments.
    KeyReused(ActionId),
    /// A cap was reached; nothing was stored.
    OverCap { what: Cap, limit: u32 },
}

/// Which cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// Actions of this caller that wait for people.
    Pending,
    /// Proposals of this caller in the last hour.
    PerHour,
}

/// Caps that `propose` checks in its own transaction.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub pending: u32,
    pub per_hour: u32,
}

/// What a person answered, on its way into the store.
#[derive(Debug, Clone)]
pub struct NewDecision {
    pub action: ActionId,
    /// The version that the person's page showed. Another one means that it was stale.
    pub version: i64,
    pub person: String,
    pub verb: Verb,
    pub channel: Channel,
    /// The person's own words; stored beside the signed object, which holds their digest.
    pub reason: String,
    /// The attested decision. `None` for channel `jira`: there the row is a pointer, and the
    /// executor derives the decision from its own look.
    pub sealed: Option<Sealed>,
    /// What the server believes follows from it.
    pub next: Option<NextState>,
    pub at: Timestamp,
}

/// What a decision makes of an action.
#[derive(Debug, Clone)]
pub enum NextState {
    Approved,
    Rejected(Reason),
    /// A withdrawal took the quorum away.
    Reopened,
}

/// What became of a guarded transition.
#[derive(Debug, Clone)]
pub enum Transition {
    /// Exactly one row changed; this is the action as it is now.
    Done(Action),
    /// Somebody was faster, or the state does not allow it. Nothing was written.
    Conflict(Option<Action>),
}

/// A decision as readers see it.
#[derive(Debug, Clone)]
pub struct DecisionRow {
    pub person: String,
    pub verb: Verb,
    pub channel: Channel,
    pub reason: String,
    pub sealed: Option<Sealed>,
    pub decided_at: Timestamp,
}

/// Where the ticket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub issue_id: String,
    pub key: String,
    pub url: String,
}

/// An action with all that belongs to it: one page, one `get_action`.
#[derive(Debug, Clone)]
pub struct ActionDetail {
    pub action: Action,
    pub decisions: Vec<DecisionRow>,
    pub ticket: Option<Ticket>,
    /// Execution records in the order in which they were written.
    pub records: Vec<(ExecutionRecord, Sealed)>,
    /// Audit events about this action, oldest first: the newest 200, tool calls left out.
    pub timeline: Vec<AuditRow>,
}

/// An audit event with its place in the log.
#[derive(Debug, Clone)]
pub struct AuditRow {
    pub seq: i64,
    pub event: AuditEvent,
    /// Present on the executor's events.
    pub sealed: Option<Sealed>,
}

/// Filter for action lists. Newest first; `before` is the id after which the page goes on.
#[derive(Debug, Clone, Default)]
pub struct ActionFilter {
    /// Empty: every state.
    pub states: Vec<StateName>,
    pub agent: Option<String>,
    pub cluster: Option<String>,
    /// `None`: every namespace.
    pub namespaces: Option<Vec<String>>,
    pub before: Option<ActionId>,
    /// 1 to 200.
    pub limit: u32,
}

/// Filter for the audit list. Newest first; `before_seq` pages.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    /// An [`countersign_domain::EventName`] word, or a prefix that ends in `*` such as `action.*`.
    pub event: Option<String>,
    pub action: Option<ActionId>,
    pub outcome: Option<String>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub before_seq: Option<i64>,
    /// 1 to 500.
    pub limit: u32,
}

/// What the outbox carries. The payload is rendered when it is sent, from the action as it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Open the ticket.
    TicketOpen,
    /// Tell the ticket about a state: comment, and the final transition where there is one.
    TicketUpdate,
    /// Tell people through the signed webhook: asked, reminded, decided, outcome.
    NotifyWebhook,
    /// The same through the Slack-compatible one.
    NotifySlack,
}

impl Topic {
    pub const ALL: [Self; 4] = [
        Self::TicketOpen,
        Self::TicketUpdate,
        Self::NotifyWebhook,
        Self::NotifySlack,
    ];

    /// One for each receiver of notifications.
    pub const NOTIFY: [Self; 2] = [Self::NotifyWebhook, Self::NotifySlack];

    /// The stable word: a column value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TicketOpen => "ticket_open",
            Self::TicketUpdate => "ticket_update",
            Self::NotifyWebhook => "notify_webhook",
            Self::NotifySlack => "notify_slack",
        }
    }

    /// Rows of one action and family are sent one after the other.
    pub const fn family(self) -> &'static str {
        match self {
            Self::TicketOpen | Self::TicketUpdate => "ticket",
            Self::NotifyWebhook | Self::NotifySlack => self.as_str(),
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == word)
    }
}

/// One outbox row under lease.
#[derive(Debug, Clone)]
pub struct OutboxItem {
    pub id: i64,
    pub action: ActionId,
    pub topic: Topic,
    /// The moment: a state's word, or `reminder`.
    pub moment: String,
    pub attempts: u32,
    pub created_at: Timestamp,
    pub lease: String,
}

/// A web session.
#[derive(Debug, Clone)]
pub struct Session {
    /// SHA-256 of the cookie's secret, hex.
    pub token_hash: String,
    pub person: String,
    pub csrf: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// How an executor is doing.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub cluster: String,
    pub executor: String,
    pub at: Timestamp,
    /// `ok`, or a sentence that says why approved work cannot run now.
    pub status: String,
    /// Hash of the policy that it uses.
    pub policy_hash: String,
    /// `required` or `absent`.
    pub cluster_lock: String,
}

/// A row that an executor works on. Every later call names the lease; another holder's fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub token: String,
    /// Grows with each claim of the row.
    pub fence: i64,
    pub until: Timestamp,
}

/// A proposal to admit.
#[derive(Debug, Clone)]
pub struct ToAdmit {
    pub action: Action,
    pub lease: Lease,
}

/// Approved work, with everything that the executor verifies.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub action: Action,
    pub lease: Lease,
    pub statement: Sealed,
    /// Signed decisions (channel web).
    pub decisions: Vec<StoredDecision>,
    /// Somebody moved the ticket, says the server.
    pub jira_hint: bool,
    pub ticket: Option<Ticket>,
}

/// Work whose executor went away after the intent: to be resolved by looking, never by sending.
#[derive(Debug, Clone)]
pub struct Orphan {
    pub action: Action,
    pub lease: Lease,
    pub statement: Sealed,
    pub intent: Option<Sealed>,
}

/// A record and the audit event that tells of it, both signed by the executor.
#[derive(Debug, Clone)]
pub struct SignedStep {
    pub record: Signed<ExecutionRecord>,
    pub event: Signed<AuditEvent>,
}

/// Numbers for `/metrics` and the page's head.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    pub pending: u64,
    pub oldest_pending: Option<Timestamp>,
    pub leased: u64,
    /// What waits to be told, by family; all families, also those with nothing.
    pub outbox: Vec<OutboxGauge>,
}

/// What of one family waits to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxGauge {
    /// As [`Topic::family`].
    pub family: &'static str,
    pub open: u64,
    pub oldest: Option<Timestamp>,
}

/// Why nothing moves, for [`crate::ExecutorStore::hold`].
#[derive(Debug, Clone)]
pub struct Hold {
    pub held: Held,
    /// Not before this is the row offered again.
    pub retry_at: Timestamp,
}
