//! What pages, tools and metrics read.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use countersign_domain::{Action, ActionId, StateName};

use super::filter::{Filter, merged};
use super::{ServerStore, get};
use crate::rows::{
    ACTION, ActionRow, DECISION, DecisionRecord, ENDED, OPEN, SealedRow, TERMINAL, parse, record,
    time,
};
use crate::sql::{Args, args};
use crate::{
    ActionDetail, ActionFilter, DecisionRow, Gauges, Heartbeat, OutboxGauge, StoreError, Topic,
};

impl ServerStore {
    /// An action with all that belongs to it.
    pub async fn detail(&self, id: ActionId) -> Result<Option<ActionDetail>, StoreError> {
        let mut detail = self.parts(id).await?;
        // They are read one after the other: a row that moved meanwhile would not fit its records.
        for _ in 0..3 {
            let read = detail.as_ref().map(|detail| detail.action.version);
            let version = "SELECT version FROM actions WHERE id = $1";
            let version: Vec<(i64,)> = self.db.read(version, args![id]).await?;
            if read == version.first().map(|(version,)| *version) {
                break;
            }
            detail = self.parts(id).await?;
        }
        Ok(detail)
    }

    async fn parts(&self, id: ActionId) -> Result<Option<ActionDetail>, StoreError> {
        let Some(action) = get(&self.db, id).await? else {
            return Ok(None);
        };
        let records =
            "SELECT json, kid, signature FROM executions WHERE action_id = $1 ORDER BY id";
        let records: Vec<SealedRow> = self.db.read(records, args![id]).await?;
        Ok(Some(ActionDetail {
            action,
            decisions: self.decisions(id).await?,
            ticket: self.ticket_get(id).await?,
            records: records.into_iter().map(record).collect::<Result<_, _>>()?,
            timeline: self.story(id).await?,
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
        let (text, values) = list(filter);
        let rows: Vec<ActionRow> = self.db.read(text, values).await?;
        rows.into_iter().map(ActionRow::action).collect()
    }

    /// How many actions there are in each state; states without any are left out.
    pub async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        let count =
            |which| format!("SELECT state, count(*) FROM actions WHERE {which} GROUP BY state");
        let text = format!(
            "{} UNION ALL {} ORDER BY state",
            count(OPEN),
            count(TERMINAL)
        );
        let rows: Vec<(String, i64)> = self.db.read(text, Vec::new()).await?;
        rows.into_iter()
            .map(|(state, count)| Ok((parse("actions", &state)?, natural(count))))
            .collect()
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
        let rows: Vec<Numbers> = self.db.read(GAUGES.as_str(), Vec::new()).await?;
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

pub(crate) static GAUGES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT (SELECT count(*) FROM actions WHERE {OPEN} AND state = 'pending'), \
         (SELECT min(created_at) FROM actions WHERE {OPEN} AND state = 'pending'), \
         (SELECT count(*) FROM actions WHERE lease_token IS NOT NULL)"
    )
});

/// The text of a list, and its values. Open actions are few; of ended ones no more are read than are
/// asked for.
pub(crate) fn list(asked: &ActionFilter) -> (String, Args) {
    let mut filter = Filter::default();
    filter.compare("agent =", asked.agent.as_deref());
    filter.compare("cluster =", asked.cluster.as_deref());
    if let Some(namespaces) = &asked.namespaces {
        let places: Vec<String> = namespaces.iter().map(|one| filter.bind(one)).collect();
        filter.condition(match places.is_empty() {
            true => "false".to_owned(),
            false => format!("namespace IN ({})", places.join(", ")),
        });
    }
    filter.compare("id <", asked.before);
    let among = |states: &[StateName]| {
        let words: Vec<_> = states
            .iter()
            .map(|state| format!("'{}'", state.as_str()))
            .collect();
        format!("state IN ({})", words.join(", "))
    };
    let once: BTreeSet<StateName> = asked.states.iter().copied().collect();
    let (ended, open): (Vec<StateName>, Vec<StateName>) =
        once.into_iter().partition(|state| state.is_terminal());
    let slot = match (&asked.agent, asked.before) {
        (Some(_), Some(before)) => format!("slot < {}", filter.bind(before)),
        _ => "true".to_owned(),
    };
    let all = asked.states.is_empty();
    let mut arms = Vec::new();
    let mut arm = |conditions: &[&str], order| {
        arms.push((filter.select(ACTION, "actions", conditions), order));
    };
    if all && asked.agent.is_none() {
        arm(&[], "id");
    } else if all {
        arm(&[OPEN], "id");
    } else if !open.is_empty() {
        arm(&[OPEN, &among(&open)], "id");
    }
    if asked.agent.is_some() {
        // There the slot is the id.
        if all {
            arm(&[ENDED, &slot], "slot");
        } else if !ended.is_empty() {
            arm(&[ENDED, &slot, &among(&ended)], "slot");
        }
    } else {
        for state in ended {
            arm(&[TERMINAL, &among(&[state])], "id");
        }
    }
    let limit = asked.limit.clamp(1, 200);
    (merged(&arms, "id", limit), filter.values())
}

pub(crate) const OUTBOX_GAUGES: &str = "SELECT family, count(*), min(created_at) FROM outbox \
     WHERE done_at IS NULL GROUP BY family";

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
