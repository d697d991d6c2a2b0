//! The audit log: writing it, and finding rows in it.
//!
//! PostgreSQL has an index for each filter. On SQLite a page of an index that is written for one row
//! costs as much as the row, and every verb writes a row: there the index is filled for many rows at
//! once, by a trigger. A search is then two walks: of the index, and of the few rows after it.

use std::sync::LazyLock;

use countersign_domain::{ActionId, AuditEvent, EventName};

use super::ServerStore;
use super::filter::{Filter, merged};
use crate::rows::{AUDIT_COLUMNS, AuditRecord, event_args};
use crate::sql::{Write, args};
use crate::{AuditFilter, AuditRow, StoreError};

/// The server's own: not signed.
pub(super) static AUDIT_ROW: LazyLock<Write> = LazyLock::new(|| {
    Write::row(
        "audit (id, at, author, event, actor, action_id, outcome, json)",
        &[
            "text", "bigint", "text", "text", "text", "text", "text", "text",
        ],
    )
    .quiet()
});

/// SQLite: rows that the index does not cover yet.
const NOT_INDEXED: &str = "seq > (SELECT COALESCE(max(last), 0) FROM audit_blocks)";
/// SQLite: the others.
const INDEXED: &str = "seq <= (SELECT COALESCE(max(last), 0) FROM audit_blocks)";
/// SQLite: rows by the index. The order of the tables is meant.
const BY_INDEX: &str = "audit_index CROSS JOIN audit USING (seq)";

/// An AI that keeps asking must not push out what people did.
const STORY: &str = "event <> 'tool.called'";
const STORY_LENGTH: u32 = 200;

impl ServerStore {
    /// Writes one event, durable before the answer.
    pub async fn audit(&self, event: AuditEvent) -> Result<(), StoreError> {
        self.audit_batch(&[event]).await
    }

    /// All or none, in this order.
    pub async fn audit_batch(&self, events: &[AuditEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let width = AUDIT_ROW.width;
        let mut values = Vec::with_capacity(width * events.len());
        for event in events {
            values.extend(event_args(event, None)?.into_iter().take(width));
        }
        self.db.write::<()>(&AUDIT_ROW, values).await.map(drop)
    }

    /// Newest first.
    pub async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        let indexed = self.db.is_sqlite();
        let (text, values) = search(filter, indexed);
        let rows: Vec<AuditRecord> = self.db.read(text, values).await?;
        rows.into_iter().map(AuditRecord::row).collect()
    }

    /// The newest events about an action without tool calls, told oldest first.
    pub(super) async fn story(&self, id: ActionId) -> Result<Vec<AuditRow>, StoreError> {
        let mut rows: Vec<AuditRecord> =
            self.db.read(story(self.db.is_sqlite()), args![id]).await?;
        rows.reverse();
        rows.into_iter().map(AuditRecord::row).collect()
    }
}

/// $1 the action.
pub(crate) fn story(sqlite: bool) -> String {
    let select =
        |table, conditions: &[&str]| Filter::default().select(AUDIT_COLUMNS, table, conditions);
    let mut arms = Vec::new();
    if sqlite {
        let word = "word = 'action ' || $1";
        arms.push((
            select("audit", &[NOT_INDEXED, "action_id = $1", STORY]),
            "seq",
        ));
        arms.push((select(BY_INDEX, &[word, STORY]), "audit_index.seq"));
    } else {
        let action = "action_id = $1";
        arms.push((select("audit", &[action, STORY]), "seq"));
    }
    merged(&arms, "seq", STORY_LENGTH)
}

/// The text of a list, and its values.
pub(crate) fn search(asked: &AuditFilter, sqlite: bool) -> (String, crate::sql::Args) {
    let mut filter = Filter::default();
    let events = events(asked.event.as_deref());
    // Found by walking: nearly all rows are calls.
    let calls = events
        .iter()
        .flatten()
        .any(|event| event == EventName::ToolCalled.as_str());
    filter.compare("actor =", asked.actor.as_deref());
    if let Some(events) = &events {
        let places: Vec<String> = events.iter().map(|event| filter.bind(event)).collect();
        filter.condition(format!("event IN ({})", places.join(", ")));
        if !calls {
            filter.condition(STORY);
        }
    }
    filter.compare("action_id =", asked.action);
    filter.compare("outcome =", asked.outcome.as_deref());
    filter.compare("at >=", asked.from);
    filter.compare("at <", asked.until);
    filter.compare("seq <", asked.before_seq);
    let limit = asked.limit.clamp(1, 500);
    if !sqlite {
        let arm = (filter.select(AUDIT_COLUMNS, "audit", &[]), "seq");
        return (merged(&[arm], "seq", limit), filter.values());
    }
    let mut rest = filter.select(AUDIT_COLUMNS, "audit", &[NOT_INDEXED]);
    let mut covered = Vec::new();
    // Blocks that hold nothing of these times, at either end.
    if asked.from.is_some() {
        let from = filter.bind(asked.from);
        covered.push(format!(
            "seq > COALESCE((SELECT last FROM audit_blocks WHERE latest < {from} \
             ORDER BY last DESC LIMIT 1), 0)"
        ));
    }
    if asked.until.is_some() {
        let until = filter.bind(asked.until);
        covered.push(format!(
            "seq <= (SELECT last FROM audit_blocks WHERE earliest < {until} \
             ORDER BY last DESC LIMIT 1)"
        ));
    }
    let words: Vec<String> = match (asked.action, &asked.actor, events) {
        (Some(action), _, _) => vec![format!("action {action}")],
        (None, Some(actor), _) => vec![format!("actor {actor}")],
        (None, None, Some(events)) if !calls => events
            .iter()
            .map(|event| format!("event {event}"))
            .collect(),
        _ => Vec::new(),
    };
    let places: Vec<String> = words.iter().map(|word| filter.bind(word)).collect();
    let (table, key) = match words.is_empty() {
        true => ("audit", "seq"),
        false => (BY_INDEX, "audit_index.seq"),
    };
    if !words.is_empty() {
        covered.push(format!("word IN ({})", places.join(", ")));
    }
    if covered.is_empty() {
        rest = filter.select(AUDIT_COLUMNS, "audit", &[]);
        return (merged(&[(rest, "seq")], "seq", limit), filter.values());
    }
    if words.is_empty() {
        covered.push(INDEXED.to_owned());
    }
    let covered: Vec<&str> = covered.iter().map(String::as_str).collect();
    let covered = filter.select(AUDIT_COLUMNS, table, &covered);
    (
        merged(&[(rest, "seq"), (covered, key)], "seq", limit),
        filter.values(),
    )
}

/// What a word or `prefix*` stands for; `None`: everything. A word that is no event's finds nothing.
fn events(asked: Option<&str>) -> Option<Vec<String>> {
    let asked = asked?;
    let Some(prefix) = asked.strip_suffix('*') else {
        return Some(vec![asked.to_owned()]);
    };
    if prefix.is_empty() {
        return None;
    }
    let words = EventName::ALL.iter().map(|event| event.as_str());
    let found: Vec<String> = words
        .filter(|word| word.starts_with(prefix))
        .map(str::to_owned)
        .collect();
    Some(if found.is_empty() {
        vec![asked.to_owned()]
    } else {
        found
    })
}
