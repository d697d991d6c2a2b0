//! What the executor may do with the store.

use countersign_domain::{
    Action, ActionId, AuditEvent, Channel, Decision, Reason, Signed, Statement,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::{
    Claimed, Database, Heartbeat, Hold, Lease, Orphan, SignedStep, StoreError, ToAdmit, Transition,
};

/// The executor's port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecutorStore {
    pub(crate) db: Database,
}

#[allow(unused_variables)]
impl ExecutorStore {
    /// Grows whenever something was committed, here or in another process, and now and then
    /// without a cause: look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.db.changes()
    }

    /// Leases the oldest proposal of this cluster that waits to be admitted.
    pub async fn next_to_admit(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<ToAdmit>, StoreError> {
        Err(StoreError::NotYet("next_to_admit"))
    }

    /// `checking` -> `pending`, with the statement. Asks for the ticket and the notification.
    pub async fn admit(
        &self,
        work: &ToAdmit,
        statement: &Signed<Statement>,
        event: &Signed<AuditEvent>,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("admit"))
    }

    /// `checking` -> `denied`.
    pub async fn deny(
        &self,
        work: &ToAdmit,
        reason: &Reason,
        event: &Signed<AuditEvent>,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("deny"))
    }

    /// Leases the oldest approved action of this cluster whose time to retry has come.
    pub async fn next_approved(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        Err(StoreError::NotYet("next_approved"))
    }

    /// `None`: the lease was lost.
    pub async fn renew(
        &self,
        action: ActionId,
        lease: &Lease,
        until: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        Err(StoreError::NotYet("renew"))
    }

    /// Gives the row back at once. `false`: the lease was lost before.
    pub async fn release(&self, action: ActionId, lease: &Lease) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("release"))
    }

    /// Says why nothing moves and gives the row back until `hold.retry_at`. `since` of a hold with
    /// the same code stays. `event` is for a changed reason only. `false`: the lease was lost.
    pub async fn hold(
        &self,
        action: ActionId,
        lease: &Lease,
        hold: Hold,
        event: Option<&Signed<AuditEvent>>,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("hold"))
    }

    /// `approved` -> `refused`. The reason is the record's code and message.
    pub async fn refuse(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("refuse"))
    }

    /// Keeps a decision that the executor derived itself. `false`: the lease was lost, or it was
    /// kept before.
    pub async fn record_decision(
        &self,
        action: ActionId,
        lease: &Lease,
        person: &str,
        channel: Channel,
        decision: &Signed<Decision>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotYet("record_decision"))
    }

    /// `approved` -> `executing`: the intent is committed. `action` as it was claimed: a decision
    /// that came in between is a conflict. The lease stays.
    pub async fn begin(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("begin"))
    }

    /// `executing` or `indeterminate` -> what the record's `state` says: `succeeded`, `failed` or
    /// `indeterminate`. The lease ends.
    pub async fn finish(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        Err(StoreError::NotYet("finish"))
    }

    /// Leases an action whose executor went away after the intent, or that is `indeterminate`.
    pub async fn next_orphan(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<Orphan>, StoreError> {
        Err(StoreError::NotYet("next_orphan"))
    }

    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        Err(StoreError::NotYet("heartbeat"))
    }
}
