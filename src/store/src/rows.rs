//! Rows to domain values. A row is hostile until it is read: what contradicts itself becomes a typed
//! error, never a panic and never a guess.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use countersign_domain::{
    Action, ActionId, AuditEvent, Author, Code, End, ExecutionRecord, Held, Parts, Proposal,
    Reason, Sealed, State, Target,
};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::sql::{Args, args};
use crate::{AuditRow, DecisionRow, Lease, OutboxItem, StoreError, Ticket, Topic};

/// A row type that both engines can fill.
pub(crate) trait Row:
    for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Row for T where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin
{
}

fn bad(table: &'static str, what: impl Display) -> StoreError {
    StoreError::BadRow {
        table,
        what: what.to_string(),
    }
}

pub(crate) fn parse<T>(table: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| bad(table, error))
}

pub(crate) fn time(table: &'static str, millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| bad(table, "a time is out of range"))
}

fn reason(table: &'static str, code: &str, message: Option<String>) -> Result<Reason, StoreError> {
    let message = message.ok_or_else(|| bad(table, "a reason has a code but no message"))?;
    Ok(Reason::new(parse::<Code>(table, code)?, message))
}

/// Actions that have not ended. Few: a caller's cap and their deadlines hold them few.
pub(crate) const OPEN: &str = "open = 1";
/// Actions that have, for who asks for a caller.
pub(crate) const ENDED: &str = "open = 0";
/// The same, for who asks by state: word for word what `actions_ended` has.
pub(crate) const TERMINAL: &str = "open < 1";

/// The columns of [`ActionRow`]. The statement comes along as one text, `kid signature json`: one
/// look into the other table instead of three. Neither of the first two can hold a space.
pub(crate) const ACTION: &str = "id, version, state, kind, cluster, namespace, name, uid, params, \
     agent, session, reason, idempotency_key, held_code, held_message, held_since, started_at, \
     end_code, end_message, ended_at, created_at, updated_at, lease_token, lease_until, fence, \
     (SELECT kid || ' ' || signature || ' ' || json FROM admissions \
      WHERE admissions.action_id = actions.id) AS statement";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ActionRow {
    id: String,
    version: i64,
    state: String,
    kind: String,
    cluster: String,
    namespace: String,
    name: String,
    uid: String,
    params: String,
    agent: String,
    session: String,
    reason: String,
    idempotency_key: Option<String>,
    held_code: Option<String>,
    held_message: Option<String>,
    held_since: Option<i64>,
    started_at: Option<i64>,
    end_code: Option<String>,
    end_message: Option<String>,
    ended_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
    lease_token: Option<String>,
    lease_until: Option<i64>,
    fence: i64,
    statement: Option<String>,
}

/// Table name for errors.
const ACTIONS: &str = "actions";

impl ActionRow {
    /// The statement that this very verb stored: the row was read before.
    pub(crate) fn with_statement(mut self, sealed: &Sealed) -> Self {
        self.statement = Some(format!(
            "{} {} {}",
            sealed.kid, sealed.signature, sealed.json
        ));
        self
    }

    pub(crate) fn lease(&self) -> Result<Lease, StoreError> {
        let (Some(token), Some(until)) = (&self.lease_token, self.lease_until) else {
            return Err(bad(ACTIONS, "a claimed row has no lease"));
        };
        Ok(Lease {
            token: token.clone(),
            fence: self.fence,
            until: time(ACTIONS, until)?,
        })
    }

    pub(crate) fn action(self) -> Result<Action, StoreError> {
        let id: ActionId = parse(ACTIONS, &self.id)?;
        let at = |millis| time(ACTIONS, millis);
        let held = match self.held_code {
            None => None,
            Some(code) => {
                let since = self
                    .held_since
                    .ok_or_else(|| bad(ACTIONS, "held, but not since when"))?;
                Some(Held {
                    reason: reason(ACTIONS, &code, self.held_message)?,
                    since: at(since)?,
                })
            }
        };
        let end = match self.end_code {
            None => None,
            Some(code) => {
                let ended = self
                    .ended_at
                    .ok_or_else(|| bad(ACTIONS, "ended, but not when"))?;
                Some(End {
                    reason: reason(ACTIONS, &code, self.end_message)?,
                    at: at(ended)?,
                })
            }
        };
        let parts = Parts {
            state: parse(ACTIONS, &self.state)?,
            statement: self.statement.as_deref().map(sealed_text).transpose()?,
            held,
            started_at: self.started_at.map(at).transpose()?,
            end,
        };
        let state = State::try_from(parts)
            .map_err(|source| StoreError::Inconsistent { action: id, source })?;
        let params: BTreeMap<String, String> = serde_json::from_str(&self.params)
            .map_err(|error| bad(ACTIONS, format_args!("params: {error}")))?;
        Ok(Action {
            id,
            version: self.version,
            proposal: Proposal {
                kind: parse(ACTIONS, &self.kind)?,
                target: Target {
                    cluster: self.cluster,
                    namespace: self.namespace,
                    name: self.name,
                    uid: self.uid,
                },
                params,
                agent: self.agent,
                session: self.session,
                reason: self.reason,
                idempotency_key: self.idempotency_key,
            },
            state,
            created_at: at(self.created_at)?,
            updated_at: at(self.updated_at)?,
        })
    }
}

fn sealed_text(text: &str) -> Result<Sealed, StoreError> {
    let mut parts = text.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kid), Some(signature), Some(json)) => Ok(Sealed {
            json: json.to_owned(),
            kid: kid.to_owned(),
            signature: signature.to_owned(),
        }),
        _ => Err(bad("admissions", "the statement is incomplete")),
    }
}

/// The three columns of a signed object; all or none.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct SealedRow {
    json: Option<String>,
    kid: Option<String>,
    signature: Option<String>,
}

impl SealedRow {
    pub(crate) fn sealed(self) -> Option<Sealed> {
        Some(Sealed {
            json: self.json?,
            kid: self.kid?,
            signature: self.signature?,
        })
    }
}

pub(crate) const DECISION: &str = "person, verb, channel, reason, decided_at, json, kid, signature";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DecisionRecord {
    person: String,
    verb: String,
    channel: String,
    reason: String,
    decided_at: i64,
    #[sqlx(flatten)]
    sealed: SealedRow,
}

impl DecisionRecord {
    pub(crate) fn decision(self, table: &'static str) -> Result<DecisionRow, StoreError> {
        Ok(DecisionRow {
            verb: parse(table, &self.verb)?,
            channel: parse(table, &self.channel)?,
            decided_at: time(table, self.decided_at)?,
            person: self.person,
            reason: self.reason,
            sealed: self.sealed.sealed(),
        })
    }
}

pub(crate) const AUDIT_COLUMNS: &str = "seq, id, author, event, json, kid, signature";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct AuditRecord {
    seq: i64,
    id: String,
    author: String,
    event: String,
    #[sqlx(flatten)]
    sealed: SealedRow,
}

impl AuditRecord {
    pub(crate) fn row(self) -> Result<AuditRow, StoreError> {
        let json = self.sealed.json.as_deref().unwrap_or_default();
        let event: AuditEvent = serde_json::from_str(json)
            .map_err(|error| bad("audit", format_args!("seq {}: {error}", self.seq)))?;
        // The columns are copies that filters trust.
        if event.id != self.id
            || event.author.as_str() != self.author
            || event.event.as_str() != self.event
        {
            return Err(bad(
                "audit",
                format_args!("seq {}: columns and event differ", self.seq),
            ));
        }
        Ok(AuditRow {
            seq: self.seq,
            event,
            sealed: self.sealed.sealed(),
        })
    }
}

/// What [`crate::sql::Follow::audit`] binds.
pub(crate) fn event_args(event: &AuditEvent, sealed: Option<&Sealed>) -> Result<Args, StoreError> {
    // The schema says the same; here it is a sentence.
    if (event.author == Author::Executor) != sealed.is_some() {
        return Err(StoreError::BadInput {
            why: "the executor signs its audit events and nobody else does".into(),
        });
    }
    let json = match sealed {
        Some(sealed) => sealed.json.clone(),
        None => to_json(event)?,
    };
    Ok(args![
        &event.id,
        event.at,
        event.author.as_str(),
        event.event.as_str(),
        &event.actor,
        Some(event.action_id.as_str()).filter(|id| !id.is_empty()),
        event.details.get("outcome").map_or("", String::as_str),
        json,
        sealed.map(|sealed| sealed.kid.as_str()),
        sealed.map(|sealed| sealed.signature.as_str()),
    ])
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::BadInput {
        why: format!("not representable as JSON: {error}"),
    })
}

pub(crate) fn record(sealed: SealedRow) -> Result<(ExecutionRecord, Sealed), StoreError> {
    let sealed = sealed
        .sealed()
        .ok_or_else(|| bad("executions", "a record is not signed"))?;
    // Read without its key: for people, and never as a base of a right.
    let body = serde_json::from_str(&sealed.json).map_err(|error| bad("executions", error))?;
    Ok((body, sealed))
}

pub(crate) const TICKET: &str = "action_id, issue_id, issue_key, url";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct TicketRow {
    pub(crate) action_id: String,
    issue_id: String,
    issue_key: String,
    url: String,
}

impl TicketRow {
    pub(crate) fn ticket(self) -> Ticket {
        Ticket {
            issue_id: self.issue_id,
            key: self.issue_key,
            url: self.url,
        }
    }
}

pub(crate) const OUTBOX: &str = "id, action_id, topic, moment, attempts, created_at, lease_token";

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OutboxRow {
    id: i64,
    action_id: String,
    topic: String,
    moment: String,
    attempts: i64,
    created_at: i64,
    lease_token: Option<String>,
}

impl OutboxRow {
    pub(crate) fn item(self) -> Result<OutboxItem, StoreError> {
        Ok(OutboxItem {
            id: self.id,
            action: parse("outbox", &self.action_id)?,
            topic: Topic::from_word(&self.topic).ok_or_else(|| bad("outbox", "unknown topic"))?,
            moment: self.moment,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            created_at: time("outbox", self.created_at)?,
            lease: self
                .lease_token
                .ok_or_else(|| bad("outbox", "a claimed row has no lease"))?,
        })
    }
}
