//! What pages, tools and metrics read.

use countersign_domain::{Action, ActionId, AuditEvent, StateName};

use super::{ServerStore, get};
use crate::rows::{
    ACTION, AUDIT_COLUMNS, ActionRow, AuditRecord, DECISION, DecisionRecord, SealedRow, event_args,
    parse, record, time,
};
use crate::sql::{AUDIT, AUDIT_WIDTH, Args, Value, Write, args, numbered};
use crate::{
    ActionDetail, ActionFilter, AuditFilter, AuditRow, DecisionRow, Gauges, Heartbeat, OutboxGauge,
    StoreError, Topic,
};
use std::sync::LazyLock;

/// $1: a JSON array of objects whose members are the columns.
static AUDIT_BATCH: LazyLock<Write> = LazyLock::new(|| {
    let member = |engine: fn(&str) -> String| {
        let columns = [
            "id",
            "at",
            "author",
            "event",
            "actor",
            "action_id",
            "outcome",
            "json",
        ];
        columns.map(engine).join(", ")
    };
    let columns = "audit (id, at, author, event, actor, action_id, outcome, json)";
    Write::pair(
        &format!(
            "INSERT INTO {columns} SELECT {} FROM json_each($1) WHERE true ORDER BY key",
            member(|column| format!("json_extract(value, '$.{column}')"))
        ),
        format!(
            "INSERT INTO {columns} SELECT {} FROM json_array_elements($1::json) \
             WITH ORDINALITY AS e (value, n) ORDER BY n",
            member(|column| match column {
                "at" => "(value->>'at')::bigint".to_owned(),
                _ => format!("value->>'{column}'"),
            })
        ),
    )
    .quiet()
});

static AUDIT_ONE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(&format!(
        "INSERT INTO {AUDIT} VALUES ({})",
        numbered(1, AUDIT_WIDTH)
    ))
    .quiet()
});

impl ServerStore {
    /// An action with all that belongs to it.
    pub async fn detail(&self, id: ActionId) -> Result<Option<ActionDetail>, StoreError> {
        let Some(action) = get(&self.db, id).await? else {
            return Ok(None);
        };
        let records =
            "SELECT json, kid, signature FROM executions WHERE action_id = $1 ORDER BY id";
        let records: Vec<SealedRow> = self.db.read(records, args![id]).await?;
        let timeline = format!(
            "SELECT {AUDIT_COLUMNS} FROM audit WHERE action_id = $1 AND action_id <> '' \
             AND event <> 'tool.called' ORDER BY seq DESC LIMIT 200"
        );
        // The newest, and without tool calls: an AI that keeps asking must not push out what
        // people did. Told oldest first.
        let mut timeline: Vec<AuditRecord> = self.db.read(timeline, args![id]).await?;
        timeline.reverse();
        Ok(Some(ActionDetail {
            action,
            decisions: self.decisions(id).await?,
            ticket: self.ticket_get(id).await?,
            records: records.into_iter().map(record).collect::<Result<_, _>>()?,
            timeline: timeline
                .into_iter()
                .map(AuditRecord::row)
                .collect::<Result<_, _>>()?,
        }))
    }

    /// Decisions in the order in which they came. The pointer to a ticket's move and the decision
    /// that the executor derived from it are one.
    async fn decisions(&self, id: ActionId) -> Result<Vec<DecisionRow>, StoreError> {
        let select =
            |table| format!("SELECT {DECISION} FROM {table} WHERE action_id = $1 ORDER BY id");
        let told: Vec<DecisionRecord> = self.db.read(select("decisions"), args![id]).await?;
        let derived: Vec<DecisionRecord> =
            self.db.read(select("derived_decisions"), args![id]).await?;
        let mut rows = Vec::with_capacity(told.len());
        for row in told {
            rows.push(row.decision("decisions")?);
        }
        for row in derived {
            let row = row.decision("derived_decisions")?;
            let pointer = rows.iter_mut().find(|other: &&mut DecisionRow| {
                other.sealed.is_none()
                    && other.person == row.person
                    && other.verb == row.verb
                    && other.channel == row.channel
            });
            match pointer {
                Some(pointer) => *pointer = row,
                None => rows.push(row),
            }
        }
        rows.sort_by_key(|row| row.decided_at);
        Ok(rows)
    }

    /// Newest first.
    pub async fn list(&self, filter: &ActionFilter) -> Result<Vec<Action>, StoreError> {
        let mut query = Filtered::new(format!("SELECT {ACTION} FROM actions"));
        if !filter.states.is_empty() {
            let words: Vec<_> = filter
                .states
                .iter()
                .map(|state| format!("'{}'", state.as_str()))
                .collect();
            query.condition(&format!("state IN ({})", words.join(", ")));
        }
        query.equal("agent =", filter.agent.as_deref());
        query.equal("cluster =", filter.cluster.as_deref());
        query.equal("namespace =", filter.namespace.as_deref());
        query.equal("id <", filter.before);
        let (text, values) = query.newest_first("id", filter.limit.clamp(1, 200));
        let rows: Vec<ActionRow> = self.db.read(text, values).await?;
        rows.into_iter().map(ActionRow::action).collect()
    }

    /// How many actions there are in each state; states without any are left out.
    pub async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        let text = "SELECT state, count(*) FROM actions GROUP BY state ORDER BY state";
        let rows: Vec<(String, i64)> = self.db.read(text, Vec::new()).await?;
        rows.into_iter()
            .map(|(state, count)| Ok((parse("actions", &state)?, natural(count))))
            .collect()
    }

    /// Writes one event, durable before the answer.
    pub async fn audit(&self, event: AuditEvent) -> Result<(), StoreError> {
        let values = event_args(&event, None)?;
        self.db.write::<()>(&AUDIT_ONE, values).await.map(drop)
    }

    /// All or none, in this order.
    pub async fn audit_batch(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(events.len());
        for event in &events {
            let names = [
                "id",
                "at",
                "author",
                "event",
                "actor",
                "action_id",
                "outcome",
                "json",
            ];
            let values = event_args(event, None)?;
            let members = names.iter().zip(values).map(|(name, value)| {
                let value = match value {
                    Value::Text(text) => text.into(),
                    Value::Int(number) => number.into(),
                    Value::Bytes(_) => serde_json::Value::Null,
                };
                ((*name).to_owned(), value)
            });
            rows.push(serde_json::Value::Object(members.collect()));
        }
        let json = serde_json::Value::Array(rows).to_string();
        self.db
            .write::<()>(&AUDIT_BATCH, args![json])
            .await
            .map(drop)
    }

    /// Newest first.
    pub async fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = Filtered::new(format!("SELECT {AUDIT_COLUMNS} FROM audit"));
        query.equal("actor =", filter.actor.as_deref());
        match filter
            .event
            .as_deref()
            .map(|event| (event, event.strip_suffix('*')))
        {
            None | Some((_, Some(""))) => {}
            Some((_, Some(prefix))) => {
                // Not LIKE: a prefix is compared as it is, `%` and `_` included.
                query.equal("event >=", Some(prefix));
                query.equal("event <", Some(format!("{prefix}\u{7f}")));
            }
            Some((word, None)) => query.equal("event =", Some(word)),
        }
        if filter.action.is_some() {
            query.condition("action_id <> ''");
        }
        query.equal("action_id =", filter.action);
        query.equal("outcome =", filter.outcome.as_deref());
        if filter.from.is_some() {
            query.equal("at >=", filter.from);
        }
        if filter.until.is_some() {
            query.equal("at <", filter.until);
        }
        query.equal("seq <", filter.before_seq);
        let (text, values) = query.newest_first("seq", filter.limit.clamp(1, 500));
        let rows: Vec<AuditRecord> = self.db.read(text, values).await?;
        rows.into_iter().map(AuditRecord::row).collect()
    }

    pub async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StoreError> {
        type Beat = (String, String, i64, String, String, String);
        let text = "SELECT cluster, executor, at, status, policy_hash, cluster_lock \
             FROM heartbeats ORDER BY cluster, executor";
        let rows: Vec<Beat> = self.db.read(text, Vec::new()).await?;
        rows.into_iter()
            .map(
                |(cluster, executor, at, status, policy_hash, cluster_lock)| {
                    let at = time("heartbeats", at)?;
                    Ok(Heartbeat {
                        cluster,
                        executor,
                        at,
                        status,
                        policy_hash,
                        cluster_lock,
                    })
                },
            )
            .collect()
    }

    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        type Numbers = (i64, Option<i64>, i64);
        let rows: Vec<Numbers> = self.db.read(GAUGES, Vec::new()).await?;
        let Some((pending, oldest_pending, leased)) = rows.into_iter().next() else {
            return Ok(Gauges::default());
        };
        let families: Vec<(String, i64, i64)> = self.db.read(OUTBOX_GAUGES, Vec::new()).await?;
        let mut outbox: Vec<OutboxGauge> = Vec::new();
        for topic in Topic::ALL {
            let family = topic.family();
            if outbox.iter().any(|gauge| gauge.family == family) {
                continue;
            }
            let found = families.iter().find(|(word, _, _)| word == family);
            outbox.push(OutboxGauge {
                family,
                open: found.map_or(0, |(_, open, _)| natural(*open)),
                oldest: found.map(|(_, _, at)| time("outbox", *at)).transpose()?,
            });
        }
        Ok(Gauges {
            pending: natural(pending),
            oldest_pending: oldest_pending.map(|at| time("actions", at)).transpose()?,
            leased: natural(leased),
            outbox,
        })
    }
}

pub(crate) const GAUGES: &str = "SELECT \
     (SELECT count(*) FROM actions WHERE state = 'pending'), \
     (SELECT min(created_at) FROM actions WHERE state = 'pending'), \
     (SELECT count(*) FROM actions WHERE lease_token IS NOT NULL)";

pub(crate) const OUTBOX_GAUGES: &str = "SELECT family, count(*), min(created_at) FROM outbox \
     WHERE done_at IS NULL GROUP BY family";

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// A query whose conditions depend on what was asked. Text comes from here, values are bound.
struct Filtered {
    text: String,
    values: Args,
}

impl Filtered {
    fn new(text: String) -> Self {
        Self {
            text,
            values: Args::new(),
        }
    }

    fn condition(&mut self, condition: &str) {
        let word = if self.text.contains(" WHERE true") {
            "AND"
        } else {
            "WHERE true AND"
        };
        self.text.push_str(&format!(" {word} {condition}"));
    }

    /// `column_and_operator` and the value, when there is one.
    fn equal<T>(&mut self, column_and_operator: &str, value: Option<T>)
    where
        Value: From<T>,
    {
        if let Some(value) = value {
            self.values.push(value.into());
            self.condition(&format!("{column_and_operator} ${}", self.values.len()));
        }
    }

    fn newest_first(self, key: &str, limit: u32) -> (String, Args) {
        (
            format!("{} ORDER BY {key} DESC LIMIT {limit}", self.text),
            self.values,
        )
    }
}
