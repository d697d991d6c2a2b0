//! What the server may do with the store.

use std::collections::BTreeMap;

use countersign_domain::{Action, ActionId, AuditEvent, Proposal, Reason, StateName, Target};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::{
    ActionDetail, ActionFilter, AuditFilter, AuditRow, Caps, Database, Gauges, Heartbeat,
    NewDecision, OutboxItem, Proposed, Session, StoreError, Ticket, Topic, Transition,
};

/// The server's port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerStore {
    pub(crate) db: Database,
}

#[allow(unused_variables)]
impl ServerStore {
    /// Grows whenever something was committed, here or in another process, and now and then
    /// without a cause: look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.db.changes()
    }

    /// Stores a proposal in state `checking`, unless it is there already or a cap forbids it.
    /// `event` is written only when it is stored.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        id: ActionId,
        caps: Caps,
        now: Timestamp,
        event: AuditEvent,
    ) -> Result<Proposed, StoreError> {
        Err(StoreError::NotYet("propose"))
    }

    pub async fn get(&self, id: ActionId) -> Result<Option<Action>, StoreError> {
        Err(StoreError::NotYet("get"))
    }

    pub async fn detail(&self, id: ActionId) -> Result<Option<ActionDetail>, StoreError> {
        Err(StoreError::NotYet("detail"))
    }

    pub async fn list(&self, filter: &ActionFilter) -> Result<Vec<Action>, StoreError> {
        Err(StoreError::NotYet("list"))
    }

    /// How many actions there are in each state; states without any are left out.
    pub async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        Err(StoreError::NotYet("count_by_state"))
    }

    /// The latest rejection of this very proposal since then: for the cool-down.
    pub async fn last_rejection(
        &self,
        agent: &str,
        target: &Target,
        params: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> Result<Option<(ActionId, Reason, Timestamp)>, StoreError> {
        Err(StoreError::NotYet("last_rejection"))
    }

    /// Records a person's answer and what follows from it. A conflict when the version is stale,
    /// the state does not allow it, the time is over, or the same person already said this.
    /// Every recorded decision moves the version, so that of two people deciding at once one is
    /// told to look again.
    pub async fn decide(
        &self,
        decision: NewDecision,
        event: AuditEvent,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("decide"))
    }

    /// The proposer takes it back: from `checking` or `pending`, or from `approved` while no
    /// executor works on it.
    pub async fn cancel(
        &self,
        id: ActionId,
        agent: &str,
        reason: Reason,
        now: Timestamp,
        event: AuditEvent,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("cancel"))
    }

    /// Ends what nobody admitted, decided or executed in time. Writes one event for each.
    pub async fn expire_due(&self, now: Timestamp) -> Result<Vec<ActionId>, StoreError> {
        Err(StoreError::NotYet("expire_due"))
    }

    pub async fn audit(&self, event: AuditEvent) -> Result<(), StoreError> {
        self.audit_batch(vec![event]).await
    }

    /// All or none, in this order.
    pub async fn audit_batch(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        Err(StoreError::NotYet("audit_batch"))
    }

    pub async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        Err(StoreError::NotYet("audit_list"))
    }

    /// Leases outbox rows, oldest first. A row is offered only when no earlier one of the same
    /// action and family (ticket, notification) is open.
    pub async fn outbox_claim(
        &self,
        topics: &[Topic],
        limit: u32,
        lease_for: SignedDuration,
        now: Timestamp,
        token: &str,
    ) -> Result<Vec<OutboxItem>, StoreError> {
        Err(StoreError::NotYet("outbox_claim"))
    }

    /// `false`: the lease was lost, somebody else has it now; nothing was written.
    pub async fn outbox_done(
        &self,
        item: &OutboxItem,
        now: Timestamp,
        event: Option<AuditEvent>,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("outbox_done"))
    }

    /// Gives the row back until `not_before`. `error` is for people, cut to 500 characters.
    /// `false`: the lease was lost.
    pub async fn outbox_retry(
        &self,
        item: &OutboxItem,
        not_before: Timestamp,
        error: &str,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("outbox_retry"))
    }

    /// Adds a row once for each (action, topic, moment). `true` when it is new.
    pub async fn outbox_add(
        &self,
        action: ActionId,
        topic: Topic,
        moment: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("outbox_add"))
    }

    pub async fn ticket_get(&self, action: ActionId) -> Result<Option<Ticket>, StoreError> {
        Err(StoreError::NotYet("ticket_get"))
    }

    /// Once: the same ticket again is fine (and writes no event), another one is
    /// [`StoreError::OtherTicket`].
    pub async fn ticket_record(
        &self,
        action: ActionId,
        ticket: &Ticket,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        Err(StoreError::NotYet("ticket_record"))
    }

    /// Tickets whose move would still matter (actions `pending` or `approved`), by id.
    pub async fn open_tickets(
        &self,
        limit: u32,
        after: Option<ActionId>,
    ) -> Result<Vec<(ActionId, Ticket, StateName)>, StoreError> {
        Err(StoreError::NotYet("open_tickets"))
    }

    pub async fn session_create(&self, session: &Session) -> Result<(), StoreError> {
        Err(StoreError::NotYet("session_create"))
    }

    /// A session that has not run out.
    pub async fn session_get(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        Err(StoreError::NotYet("session_get"))
    }

    pub async fn session_delete(&self, token_hash: &str) -> Result<(), StoreError> {
        Err(StoreError::NotYet("session_delete"))
    }

    /// Deletes sessions that ran out and webhooks that were done a week ago. Returns how many
    /// sessions went.
    pub async fn sessions_sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        Err(StoreError::NotYet("sessions_sweep"))
    }

    /// Stores a webhook before it is answered. `false`: this identifier came before.
    pub async fn webhook_store(
        &self,
        identifier: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("webhook_store"))
    }

    /// Webhooks not yet done, oldest first. Without a lease: they are hints, and doing one twice
    /// is harmless.
    pub async fn webhook_take(&self, limit: u32) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        Err(StoreError::NotYet("webhook_take"))
    }

    pub async fn webhook_done(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        Err(StoreError::NotYet("webhook_done"))
    }

    pub async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StoreError> {
        Err(StoreError::NotYet("heartbeats"))
    }

    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        Err(StoreError::NotYet("gauges"))
    }
}
