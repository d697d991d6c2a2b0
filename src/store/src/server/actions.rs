//! Verbs that make or move actions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use countersign_domain::{
    Action, ActionId, AuditEvent, Author, Channel, Code, EventName, OsEntropy, Proposal, Reason,
    State, StateName, Target, Verb, digest_text, to_millis,
};
use jiff::Timestamp;

use super::{ServerStore, before, get, transition};
use crate::rows::{ACTION, ActionRow, OPEN, event_args, parse, time, to_json};
use crate::sql::{AUDIT, AUDIT_WIDTH, Follow, Write, args, numbered, storable, unnested};
use crate::{Cap, Caps, NewDecision, NextState, Proposed, StoreError, Topic, Transition};

/// The executor committed its intent. A row that is `approved` all the same was changed by hand: only
/// the executor can tell its end.
pub(crate) const BEGUN: &str = "EXISTS (SELECT 1 FROM executions \
     WHERE executions.action_id = actions.id AND executions.record = 'intent')";

/// Whom a state that was reached is told to.
pub(crate) const TELL: [Topic; 3] = [
    Topic::TicketUpdate,
    Topic::NotifyWebhook,
    Topic::NotifySlack,
];

/// $1-$10 event; $11 id, $12 kind, $13 cluster, $14 namespace, $15 name, $16 uid, $17 params,
/// $18 change, $19 agent, $20 session, $21 reason, $22 idempotency_key, $23 now, $24 cap of waiting
/// ones, $25 cap of the last hour, $26 the lowest id of the last hour.
pub(super) static PROPOSE: LazyLock<Write> = LazyLock::new(|| {
    // SQLite has the same in the trigger `propose`. Only the id comes back: the rest is known here, and reading 26 columns costs more.
    let insert = |values: &str, from: &str, room: &str| {
        format!(
            "INSERT INTO actions (id, kind, cluster, namespace, name, uid, params, change, \
                 agent, session, reason, idempotency_key, created_at, updated_at, slot) \
             SELECT {values} FROM {from} WHERE {room} ON CONFLICT DO NOTHING RETURNING id"
        )
    };
    let row = |n: &dyn Fn(usize) -> String| {
        let these = |from, to| (from..=to).map(n).collect::<Vec<_>>().join(", ");
        let (first, rest, now, change) = (n(11), these(12, 22), n(23), n(18));
        format!("{first}, {rest}, {now}, {now}, {change}")
    };
    let alone = |n| format!("${n}");
    // One process after the other looks whether there is room: see the function.
    let postgres = format!(
        "WITH changed AS ({}), follow AS (INSERT INTO {AUDIT} SELECT {} FROM changed) \
         SELECT id FROM changed",
        insert(
            &row(&alone),
            "(VALUES (1)) AS one",
            "may_propose($19, $24, $25, $26)"
        ),
        numbered(1, AUDIT_WIDTH),
    );
    let column = |n| format!("a{n}");
    let columns: Vec<String> = (1..=26).map(column).collect();
    let types = columns
        .iter()
        .enumerate()
        .map(|(index, _)| match index + 1 {
            2 | 23 | 24 | 25 => "bigint",
            _ => "text",
        });
    let arrays = format!(
        "WITH asked AS (SELECT * FROM {} WITH ORDINALITY AS asked ({}, n)), \
         changed AS ({}), \
         follow AS (INSERT INTO {AUDIT} SELECT {} FROM asked JOIN changed ON id = a11 ORDER BY n) \
         SELECT id, n FROM asked JOIN changed ON id = a11",
        unnested(&types.collect::<Vec<_>>()),
        columns.join(", "),
        insert(&row(&column), "asked", "may_propose(a19, a24, a25, a26)"),
        columns[..AUDIT_WIDTH].join(", "),
    );
    Write::through("proposals", columns.len(), "id", postgres).in_arrays(arrays, true)
});

/// $1-$10 event; $11 id, $12 version, $13 next state or null, $14 end code, $15 end message, $16 at,
/// $17 new version, $18 person, $19 verb, $20 channel, $21 reason, $22-$24 the sealed decision.
///
/// A withdrawal or rejection of something approved is good until it would run; an approval only
/// while people may decide. Each decision lets the executor look at once.
pub(super) static DECIDE: LazyLock<Write> = LazyLock::new(|| {
    let decision = Follow::values(
        "decisions (action_id, decided_at, person, verb, channel, reason, json, kid, signature)",
        "$11, $16, $18, $19, $20, $21, $22, $23, $24",
    );
    Write::guarded(
        &format!("UPDATE actions SET {DECIDED} WHERE {MAY_DECIDE} AND NOT {BEGUN}"),
        ACTION,
        &[
            Follow::audit(1),
            decision,
            Follow::outbox(&TELL, "$13", "$11", "$17", "$16").only_if("$13 IS NOT NULL"),
        ],
    )
});

const DECIDED: &str = "version = version + 1, updated_at = $16, state = COALESCE($13, state), \
     end_code = $14, end_message = $15, ended_at = CASE WHEN $14 IS NULL THEN NULL ELSE $16 END, \
     held_code = CASE WHEN $13 IS NULL THEN held_code END, \
     held_message = CASE WHEN $13 IS NULL THEN held_message END, \
     held_since = CASE WHEN $13 IS NULL THEN held_since END, retry_at = NULL, \
     lease_token = CASE WHEN $13 IS NULL THEN lease_token END, \
     lease_holder = CASE WHEN $13 IS NULL THEN lease_holder END, \
     lease_until = CASE WHEN $13 IS NULL THEN lease_until END";

const MAY_DECIDE: &str = "id = $11 AND version = $12 AND state IN ('pending', 'approved') \
     AND ($13 IS NULL OR (state = 'pending' AND $13 IN ('approved', 'rejected')) \
          OR (state = 'approved' AND $13 IN ('pending', 'rejected'))) \
     AND (decide_by > $16 OR (state = 'approved' AND $19 <> 'approve' AND execute_by > $16)) \
     AND NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.action_id = $11 \
          AND decisions.person = $18 AND decisions.verb = $19 AND decisions.channel = 'web' \
          AND $20 = 'web')";

/// Columns that belong to being alive, cleared at an end.
const ENDING: &str = "version = version + 1, updated_at = $14, ended_at = $14, end_code = $12, \
     end_message = $13, held_code = NULL, held_message = NULL, held_since = NULL, retry_at = NULL, \
     lease_token = NULL, lease_holder = NULL, lease_until = NULL";

/// $1-$10 event; $11 id, $12 end code, $13 end message, $14 now, $15 agent.
pub(super) static CANCEL: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'cancelled', {ENDING} WHERE id = $11 AND agent = $15 \
             AND (state IN ('checking', 'pending') OR (state = 'approved' \
                  AND (lease_token IS NULL OR lease_until <= $14))) AND NOT {BEGUN}"
        ),
        ACTION,
        &[Follow::audit(1), told_if_admitted("'cancelled'")],
    )
});

/// $1-$10 event; $11 id, $12 end code, $13 end message, $14 now, $15 version.
pub(super) static EXPIRE: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'expired', {ENDING} WHERE id = $11 AND version = $15 \
             AND (state IN ('checking', 'pending') OR (state = 'approved' \
                  AND (lease_token IS NULL OR lease_until <= $14))) AND NOT {BEGUN}"
        ),
        ACTION,
        &[Follow::audit(1), told_if_admitted("'expired'")],
    )
});

/// What nobody but the proposer ever heard of ends in silence. Such an end comes once, so that
/// version 0 will do; who cancels does not name a version.
fn told_if_admitted(moment: &str) -> Follow {
    Follow::outbox(&TELL, moment, "$11", "0", "$14")
        .only_if("EXISTS (SELECT 1 FROM admissions WHERE admissions.action_id = $11)")
}

#[derive(Debug, sqlx::FromRow)]
struct Due {
    id: String,
    state: String,
    version: i64,
}

/// What the caps count, as the trigger and the function that hold them do: a caller's open ones and its
/// ended ones of the last hour. What has ended has its id in its slot; what is open has a digest there,
/// whose `sha256:` is above every id. $1 agent, $2 the lowest id of the last hour.
pub(crate) const COUNTS: &str = "SELECT count(*) FILTER (WHERE state IN ('checking', 'pending')), \
     count(*) FILTER (WHERE id >= $2) \
     FROM actions WHERE open IN (0, 1) AND agent = $1 AND slot >= $2";

impl ServerStore {
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
        let params = to_json(&proposal.params)?;
        let change = change(proposal)?;
        let target = &proposal.target;
        let lowest = lowest_id(before(now, 3600));
        let mut values = event_args(&event, None)?;
        values.extend(args![
            id,
            proposal.kind.as_str(),
            &target.cluster,
            &target.namespace,
            &target.name,
            &target.uid,
            &params,
            &change,
            &proposal.agent,
            &proposal.session,
            &proposal.reason,
            proposal.idempotency_key.as_deref(),
            now,
            caps.pending,
            caps.per_hour,
            &lowest,
        ]);
        // What stood in the way may be gone before we look at it; then there is nothing in the way.
        for _ in 0..4 {
            if self.db.changes_by(&PROPOSE, values.clone()).await? {
                return Ok(Proposed::Created(created(proposal, id, now)));
            }
            if let Some(found) = self.in_the_way(proposal, &change, caps, &lowest).await? {
                return Ok(found);
            }
        }
        Err(StoreError::Locked)
    }

    async fn in_the_way(
        &self,
        proposal: &Proposal,
        change: &str,
        caps: Caps,
        lowest: &str,
    ) -> Result<Option<Proposed>, StoreError> {
        let agent = &proposal.agent;
        if let Some(key) = &proposal.idempotency_key
            && let Some(found) = self.by_idempotency_key(agent, key).await?
        {
            let same = found.proposal.kind == proposal.kind
                && found.proposal.target == proposal.target
                && found.proposal.params == proposal.params;
            return Ok(Some(match same {
                true => Proposed::Existing(found),
                false => Proposed::KeyReused(found.id),
            }));
        }
        let text =
            format!("SELECT {ACTION} FROM actions WHERE {OPEN} AND agent = $1 AND slot = $2");
        let mut rows: Vec<ActionRow> = self.db.read(text, args![agent, change]).await?;
        if let Some(row) = rows.pop() {
            return Ok(Some(Proposed::Existing(row.action()?)));
        }
        let counts: Vec<(i64, i64)> = self.db.read(COUNTS, args![agent, lowest]).await?;
        Ok(counts.first().and_then(|(waiting, hour)| {
            if *waiting >= i64::from(caps.pending) {
                Some(Proposed::OverCap {
                    what: Cap::Pending,
                    limit: caps.pending,
                })
            } else if *hour >= i64::from(caps.per_hour) {
                Some(Proposed::OverCap {
                    what: Cap::PerHour,
                    limit: caps.per_hour,
                })
            } else {
                None
            }
        }))
    }

    /// The agent's action with this idempotency key, however old it is.
    pub async fn by_idempotency_key(
        &self,
        agent: &str,
        key: &str,
    ) -> Result<Option<Action>, StoreError> {
        let text =
            format!("SELECT {ACTION} FROM actions WHERE agent = $1 AND idempotency_key = $2");
        let mut rows: Vec<ActionRow> = self.db.read(text, args![agent, key]).await?;
        rows.pop().map(ActionRow::action).transpose()
    }

    /// One action.
    pub async fn get(&self, id: ActionId) -> Result<Option<Action>, StoreError> {
        get(&self.db, id).await
    }

    /// The latest rejection of this very proposal since then: for the cool-down.
    pub async fn last_rejection(
        &self,
        agent: &str,
        target: &Target,
        params: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> Result<Option<(ActionId, Reason, Timestamp)>, StoreError> {
        let text = "SELECT id, end_code, end_message, ended_at FROM actions WHERE agent = $1 \
             AND uid = $2 AND ended_at > $3 AND state = 'rejected' AND cluster = $4 \
             AND params = $5 ORDER BY ended_at DESC LIMIT 1";
        // Sorted by name: equal parameters are equal texts.
        let params = to_json(params)?;
        let values = args![agent, &target.uid, since, &target.cluster, params];
        let rows: Vec<(String, String, String, i64)> = self.db.read(text, values).await?;
        let Some((id, code, message, at)) = rows.into_iter().next() else {
            return Ok(None);
        };
        let reason = Reason::new(parse::<Code>("actions", &code)?, message);
        Ok(Some((parse("actions", &id)?, reason, time("actions", at)?)))
    }

    /// Records a person's answer and what follows from it. A conflict when the version is stale,
    /// the state does not allow it, the time is over, or the same person already said this on the
    /// page. Every recorded decision moves the version, so that of two people deciding at once one
    /// is told to look again.
    pub async fn decide(
        &self,
        decision: NewDecision,
        event: AuditEvent,
    ) -> Result<Transition, StoreError> {
        if decision.channel == Channel::Web && decision.sealed.is_none() {
            return Err(StoreError::BadInput {
                why: "a decision on the page is attested".into(),
            });
        }
        let (next, end) = match &decision.next {
            None => (None, None),
            Some(NextState::Approved) => (Some(StateName::Approved), None),
            Some(NextState::Rejected(reason)) => (Some(StateName::Rejected), Some(reason)),
            Some(NextState::Reopened) => (Some(StateName::Pending), None),
        };
        if decision.verb == Verb::Approve && end.is_some() {
            return Err(StoreError::BadInput {
                why: "an approval cannot reject".into(),
            });
        }
        let sealed = decision.sealed.as_ref();
        let mut values = event_args(&event, None)?;
        values.extend(args![
            decision.action,
            decision.version,
            next.map(StateName::as_str),
            end.map(|reason| reason.code.as_str()),
            end.map(|reason| reason.message.as_str()),
            decision.at,
            decision.version + 1,
            &decision.person,
            decision.verb.as_str(),
            decision.channel.as_str(),
            &decision.reason,
            sealed.map(|sealed| sealed.json.as_str()),
            sealed.map(|sealed| sealed.kid.as_str()),
            sealed.map(|sealed| sealed.signature.as_str()),
        ]);
        let changed = self.db.write(&DECIDE, values).await?;
        transition(&self.db, decision.action, changed).await
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
        let mut values = event_args(&event, None)?;
        values.extend(args![id, reason.code.as_str(), &reason.message, now, agent]);
        let changed = self.db.write(&CANCEL, values).await?;
        transition(&self.db, id, changed).await
    }

    /// Ends what nobody admitted within two minutes, decided by its `decide_by` or executed by its
    /// `execute_by`, at most 100 at a time. One event for each.
    pub async fn expire_due(&self, now: Timestamp) -> Result<Vec<ActionId>, StoreError> {
        let due: Vec<Due> = self
            .db
            .read(DUE.as_str(), args![now, before(now, 120)])
            .await?;
        let mut expired = Vec::new();
        for Due { id, state, version } in due {
            let id: ActionId = parse("actions", &id)?;
            let reason = why_expired(parse("actions", &state)?);
            let event = AuditEvent::new(
                now,
                &OsEntropy,
                Author::Server,
                EventName::Expired,
                "countersign",
            )
            .about(id)
            .with("code", reason.code.as_str())
            .with("message", &reason.message);
            let mut values = event_args(&event, None)?;
            values.extend(args![
                id,
                reason.code.as_str(),
                &reason.message,
                now,
                version
            ]);
            let changed: Vec<ActionRow> = self.db.write(&EXPIRE, values).await?;
            if !changed.is_empty() {
                expired.push(id);
            }
        }
        Ok(expired)
    }
}

/// The action that was just stored, as it would be read back.
fn created(proposal: &Proposal, id: ActionId, now: Timestamp) -> Action {
    let target = &proposal.target;
    let at = to_millis(now);
    Action {
        id,
        version: 1,
        proposal: Proposal {
            kind: proposal.kind,
            target: Target {
                cluster: storable(&target.cluster),
                namespace: storable(&target.namespace),
                name: storable(&target.name),
                uid: storable(&target.uid),
            },
            params: proposal.params.clone(),
            agent: storable(&proposal.agent),
            session: storable(&proposal.session),
            reason: storable(&proposal.reason),
            idempotency_key: proposal.idempotency_key.as_deref().map(storable),
        },
        state: State::Checking { held: None },
        created_at: at,
        updated_at: at,
    }
}

/// $1 now, $2 two minutes ago.
pub(crate) static DUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT id, state, version FROM actions \
         WHERE {OPEN} AND state IN ('checking', 'pending', 'approved') AND CASE state \
             WHEN 'checking' THEN created_at <= $2 \
             WHEN 'pending' THEN decide_by <= $1 \
             ELSE execute_by <= $1 AND (lease_token IS NULL OR lease_until <= $1) END \
         AND NOT {BEGUN} ORDER BY id LIMIT 100"
    )
});

fn why_expired(state: StateName) -> Reason {
    match state {
        StateName::Checking => Reason::new(
            Code::NotAdmitted,
            "No executor admitted it within two minutes; is one running for this cluster?",
        ),
        StateName::Pending => Reason::new(Code::NobodyDecided, "Nobody decided in time."),
        _ => Reason::new(
            Code::NotExecuted,
            "It was approved, but could not be executed in time.",
        ),
    }
}

/// What is asked for and of what, so that an equal proposal is known: the same text, and nothing else.
/// With a letter in front that no id begins with: see [`COUNTS`].
fn change(proposal: &Proposal) -> Result<String, StoreError> {
    let Target { cluster, uid, .. } = &proposal.target;
    let change = (proposal.kind.as_str(), cluster, uid, &proposal.params);
    Ok(format!("sha256:{}", digest_text(&to_json(&change)?)))
}

/// Ids are UUIDv7: they begin with their time, so that their order is that of creation and one index
/// serves both. This is below every id of that millisecond and later.
fn lowest_id(at: Timestamp) -> String {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    let hex = format!("{millis:012x}");
    format!("{}-{}", &hex[..8], &hex[8..12])
}
