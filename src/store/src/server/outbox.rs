//! The outbox and the tickets that come of it.

use std::sync::LazyLock;

use countersign_domain::{ActionId, AuditEvent, StateName};
use jiff::{SignedDuration, Timestamp};

use super::ServerStore;
use crate::rows::{OPEN, OUTBOX, OutboxRow, TICKET, TicketRow, event_args, parse};
use crate::sql::{Follow, Write, args};
use crate::{OutboxItem, StoreError, Ticket, Topic};

/// $1-$3 topics, $4 now, $5 limit, $6 token, $7 lease until. PostgreSQL finds no row that somebody
/// else is taking (the sum keeps SQLite from planning anew each time); an earlier one that is not done, leased or not, always stands in the way.
pub(crate) const PICK: &str = "SELECT id FROM outbox WHERE done_at IS NULL \
     AND topic IN ($1, $2, $3) AND not_before <= $4 \
     AND (lease_until IS NULL OR lease_until <= $4) \
     AND NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.action_id = outbox.action_id \
         AND earlier.family = outbox.family AND earlier.done_at IS NULL AND earlier.id < outbox.id) \
     ORDER BY id LIMIT ($5 + 0)";

pub(super) static CLAIM: LazyLock<Write> = LazyLock::new(|| {
    let set = "lease_token = $6, lease_until = $7, attempts = attempts + 1";
    Write::claim("outbox", PICK, set, OUTBOX)
});

/// $1-$10 event or nulls; $11 id, $12 token, $13 now.
pub(super) static DONE: LazyLock<Write> = LazyLock::new(|| {
    let change = "UPDATE outbox SET done_at = $13, lease_token = NULL, lease_until = NULL \
         WHERE id = $11 AND lease_token = $12 AND done_at IS NULL";
    Write::guarded(change, "id", &[Follow::audit(1).only_if("$1 IS NOT NULL")])
});

/// $1 id, $2 token, $3 not before, $4 error.
pub(super) static RETRY: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "UPDATE outbox SET not_before = $3, last_error = $4, lease_token = NULL, lease_until = NULL \
         WHERE id = $1 AND lease_token = $2 AND done_at IS NULL RETURNING id",
    )
    .quiet()
});

/// $1 action, $2 topic, $3 family, $4 moment, $5 now.
pub(super) static ADD: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO outbox (action_id, topic, family, moment, version, created_at, not_before) \
         SELECT id, $2, $3, $4, 0, $5, $5 FROM actions WHERE id = $1 \
         ON CONFLICT DO NOTHING RETURNING id",
    )
});

/// $1-$10 event; $11 action, $12 issue id, $13 key, $14 url, $15 at.
pub(super) static TICKET_RECORD: LazyLock<Write> = LazyLock::new(|| {
    let change = "INSERT INTO tickets (action_id, issue_id, issue_key, url, created_at) \
         SELECT id, $12, $13, $14, $15 FROM actions WHERE id = $11 ON CONFLICT DO NOTHING";
    Write::guarded(change, "action_id", &[Follow::audit(1)])
});

/// $1 the id after which it goes on, $2 limit. From the few open actions to their tickets, not from
/// all tickets.
pub(crate) static OPEN_TICKETS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {TICKET}, state FROM actions JOIN tickets ON tickets.action_id = actions.id \
         WHERE {OPEN} AND state IN ('pending', 'approved') AND actions.id > $1 ORDER BY actions.id LIMIT $2"
    )
});

impl ServerStore {
    /// Leases outbox rows of up to three topics, oldest first. A row is offered only when no earlier one of the same
    /// action and family (the ticket, each receiver of notifications) is open.
    pub async fn outbox_claim(
        &self,
        topics: &[Topic],
        limit: u32,
        lease_for: SignedDuration,
        now: Timestamp,
        token: &str,
    ) -> Result<Vec<OutboxItem>, StoreError> {
        let Some(first) = topics.first() else {
            return Ok(Vec::new());
        };
        let topic = |index: usize| topics.get(index).unwrap_or(first).as_str();
        let mut values = args![topic(0), topic(1), topic(2), now, limit];
        if !self.db.anything(PICK, values.clone()).await? {
            return Ok(Vec::new());
        }
        values.extend(args![
            token,
            now.saturating_add(lease_for).unwrap_or(Timestamp::MAX)
        ]);
        let rows: Vec<OutboxRow> = self.db.write(&CLAIM, values).await?;
        let mut items: Vec<_> = rows
            .into_iter()
            .map(OutboxRow::item)
            .collect::<Result<_, StoreError>>()?;
        items.sort_by_key(|item| item.id);
        Ok(items)
    }

    /// `false`: the lease was lost, somebody else has it now; nothing was written.
    pub async fn outbox_done(
        &self,
        item: &OutboxItem,
        now: Timestamp,
        event: Option<AuditEvent>,
    ) -> Result<bool, StoreError> {
        let mut values = match &event {
            Some(event) => event_args(event, None)?,
            None => no_event(),
        };
        values.extend(args![item.id, &item.lease, now]);
        let rows: Vec<(i64,)> = self.db.write(&DONE, values).await?;
        Ok(!rows.is_empty())
    }

    /// Gives the row back until `not_before`. `error` is for people, cut to 500 characters.
    /// `false`: the lease was lost.
    pub async fn outbox_retry(
        &self,
        item: &OutboxItem,
        not_before: Timestamp,
        error: &str,
    ) -> Result<bool, StoreError> {
        let error: String = error.chars().take(500).collect();
        let values = args![item.id, &item.lease, not_before, error];
        let rows: Vec<(i64,)> = self.db.write(&RETRY, values).await?;
        Ok(!rows.is_empty())
    }

    /// Adds a row once for each (action, topic, moment). `true` when it is new.
    pub async fn outbox_add(
        &self,
        action: ActionId,
        topic: Topic,
        moment: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let values = args![action, topic.as_str(), topic.family(), moment, now];
        let rows: Vec<(i64,)> = self.db.write(&ADD, values).await?;
        Ok(!rows.is_empty())
    }

    pub async fn ticket_get(&self, action: ActionId) -> Result<Option<Ticket>, StoreError> {
        let text = format!("SELECT {TICKET} FROM tickets WHERE action_id = $1");
        let rows: Vec<TicketRow> = self.db.read(text, args![action]).await?;
        Ok(rows.into_iter().next().map(TicketRow::ticket))
    }

    /// Once: the same ticket again is fine (and writes no event), another one is
    /// [`StoreError::OtherTicket`]; one issue cannot belong to two actions.
    pub async fn ticket_record(
        &self,
        action: ActionId,
        ticket: &Ticket,
        event: AuditEvent,
    ) -> Result<(), StoreError> {
        let mut values = event_args(&event, None)?;
        values.extend(args![
            action,
            &ticket.issue_id,
            &ticket.key,
            &ticket.url,
            event.at
        ]);
        let rows: Vec<(String,)> = self.db.write(&TICKET_RECORD, values).await?;
        if !rows.is_empty() {
            return Ok(());
        }
        match self.ticket_get(action).await? {
            Some(found) if found.issue_id == ticket.issue_id => Ok(()),
            Some(found) => Err(StoreError::OtherTicket {
                action,
                key: found.key,
            }),
            None if self.get(action).await?.is_none() => Err(StoreError::NoSuchAction { action }),
            None => Err(StoreError::BadInput {
                why: format!("ticket {} belongs to another action", ticket.key),
            }),
        }
    }

    /// Tickets whose move would still matter (actions `pending` or `approved`), by id.
    pub async fn open_tickets(
        &self,
        limit: u32,
        after: Option<ActionId>,
    ) -> Result<Vec<(ActionId, Ticket, StateName)>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let rows: Vec<OpenTicket> = self
            .db
            .read(OPEN_TICKETS.as_str(), args![after, limit])
            .await?;
        rows.into_iter()
            .map(|row| {
                let id = parse("tickets", &row.ticket.action_id)?;
                Ok((id, row.ticket.ticket(), parse("actions", &row.state)?))
            })
            .collect()
    }
}

#[derive(Debug, sqlx::FromRow)]
struct OpenTicket {
    #[sqlx(flatten)]
    ticket: TicketRow,
    state: String,
}

/// Nulls of the right types in the place of an event.
pub(crate) fn no_event() -> crate::sql::Args {
    use crate::sql::Value::{Int, Text};
    let text = || Text(None);
    vec![
        text(),
        Int(None),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
        text(),
    ]
}
