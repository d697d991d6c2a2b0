//! What the server may do with the store. One file for each subject; all of them are one port.

mod actions;
mod audit;
mod filter;
mod outbox;
mod reading;
mod sessions;

use jiff::Timestamp;
use tokio::sync::watch;

use countersign_domain::{Action, ActionId};

use crate::rows::ActionRow;
use crate::{Database, StoreError, Transition};

pub(crate) use actions::{BEGUN, TELL};
pub(crate) use outbox::no_event;

/// The server's port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerStore {
    pub(crate) db: Database,
}

impl ServerStore {
    /// Nothing is written any more, by this process: it was closed, or a defect took its writers.
    pub fn is_closed(&self) -> bool {
        self.db.is_closed()
    }

    /// Grows whenever something was committed, here or in another process, and now and then
    /// without a cause: look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.db.changes()
    }
}

/// Those whose plans are tested.
#[cfg(test)]
pub(crate) use {
    actions::{COUNTS, DUE},
    audit::{search, story},
    outbox::{OPEN_TICKETS, PICK as OUTBOX_PICK},
    reading::{GAUGES, OUTBOX_GAUGES, list},
};
#[cfg(test)]
pub(crate) const VERBS: &[&std::sync::LazyLock<crate::sql::Write>] = &[
    &actions::PROPOSE,
    &audit::AUDIT_ROW,
    &actions::DECIDE,
    &actions::CANCEL,
    &actions::EXPIRE,
    &outbox::CLAIM,
    &outbox::DONE,
    &outbox::RETRY,
    &outbox::ADD,
    &outbox::TICKET_RECORD,
];

/// One action, or none.
pub(crate) async fn get(db: &Database, id: ActionId) -> Result<Option<Action>, StoreError> {
    let text = format!("SELECT {} FROM actions WHERE id = $1", crate::rows::ACTION);
    let mut rows: Vec<ActionRow> = db.read(text, crate::sql::args![id]).await?;
    rows.pop().map(ActionRow::action).transpose()
}

/// The one row that changed, or how things stand instead.
pub(crate) async fn transition(
    db: &Database,
    id: ActionId,
    mut changed: Vec<ActionRow>,
) -> Result<Transition, StoreError> {
    match changed.pop() {
        Some(row) => Ok(Transition::Done(row.action()?)),
        None => Ok(Transition::Conflict(get(db, id).await?)),
    }
}

/// An instant `seconds` before `now`.
fn before(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MIN)
}
