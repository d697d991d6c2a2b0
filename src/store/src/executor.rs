//! What the executor may do with the store. Narrow on purpose: an executor in another cluster could
//! one day do the same over HTTPS instead of holding database credentials.

use std::sync::LazyLock;

use countersign_domain::{
    Action, ActionId, AuditEvent, Channel, Code, Decision, OsEntropy, Reason, RecordKind, Sealed,
    Signed, StateName, Statement, StoredDecision, random_token,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::rows::{
    ACTION, ActionRow, DECISION, DecisionRecord, SealedRow, TICKET, TicketRow, event_args, parse,
};
use crate::server::{BEGUN, TELL, no_event, transition};
use crate::sql::{Args, Follow, Write, args};
use crate::{
    Claimed, Database, Heartbeat, Hold, Lease, Orphan, SignedStep, StoreError, Ticket, ToAdmit,
    Topic, Transition,
};

/// The executor's port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecutorStore {
    pub(crate) db: Database,
}

const FREE: &str = "cluster = $1 AND (lease_until IS NULL OR lease_until <= $2)";

/// $1 cluster, $2 now, $3 token, $4 holder, $5 until. Who has been due for longest comes first: a row
/// that is held again and again goes behind those that came meanwhile.
fn pick_due(condition: &str) -> String {
    format!(
        "SELECT id FROM actions WHERE {condition} AND {FREE} \
         AND (retry_at IS NULL OR retry_at <= $2) \
         ORDER BY COALESCE(retry_at, created_at), id LIMIT 1"
    )
}

/// What was begun and has no end. A row that is `pending` or `approved` again although its intent is
/// stored was changed by hand, and is still one of them; nor can a time to retry hide one. Who was
/// looked at least often comes first.
fn pick_begun() -> String {
    format!(
        "SELECT id FROM actions WHERE state IN ('executing', 'indeterminate', 'pending', 'approved') \
         AND (state IN ('executing', 'indeterminate') OR {BEGUN}) AND {FREE} ORDER BY fence, id LIMIT 1"
    )
}

/// One kind of work: what is picked, and how it is leased.
struct Work {
    pick: String,
    claim: Write,
}

impl Work {
    fn new(pick: String) -> Self {
        let set = "lease_token = $3, lease_holder = $4, lease_until = $5, fence = fence + 1";
        let claim = Write::claim("actions", &pick, set, ACTION);
        Self { pick, claim }
    }
}

static TO_ADMIT: LazyLock<Work> = LazyLock::new(|| Work::new(pick_due("state = 'checking'")));
static APPROVED: LazyLock<Work> =
    LazyLock::new(|| Work::new(pick_due(&format!("state = 'approved' AND NOT {BEGUN}"))));
static ORPHANS: LazyLock<Work> = LazyLock::new(|| Work::new(pick_begun()));

const MOVED: &str = "version = version + 1, held_code = NULL, held_message = NULL, \
     held_since = NULL, retry_at = NULL";
const UNLEASED: &str = "lease_token = NULL, lease_holder = NULL, lease_until = NULL";

/// $1-$10 event; $11 id, $12 version, $13 token, $14 now: every transition here begins with these.
const GUARD: &str = "id = $11 AND version = $12 AND lease_token = $13";

/// $15 digest, $16 json, $17 kid, $18 signature, $19 admitted_at, $20 decide_by, $21 execute_by,
/// $22 new version.
static ADMIT: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'pending', updated_at = $14, decide_by = $20, \
             execute_by = $21, {MOVED}, {UNLEASED} WHERE {GUARD} AND state = 'checking'"
        ),
        ACTION,
        &[
            Follow::audit(1),
            Follow::values(
                "admissions (action_id, digest, json, kid, signature, admitted_at)",
                "$11, $15, $16, $17, $18, $19",
            ),
            Follow::outbox(
                &[Topic::TicketOpen, Topic::NotifyWebhook, Topic::NotifySlack],
                "'asked'",
                "$11",
                "$22",
                "$14",
            ),
        ],
    )
});

/// $15 code, $16 message.
static DENY: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'denied', updated_at = $14, ended_at = $14, \
             end_code = $15, end_message = $16, {MOVED}, {UNLEASED} \
             WHERE {GUARD} AND state = 'checking'"
        ),
        ACTION,
        &[Follow::audit(1)],
    )
});

/// $15 record kind, $16 json, $17 kid, $18 signature.
fn execution() -> Follow {
    Follow::values(
        "executions (action_id, recorded_at, record, json, kid, signature)",
        "$11, $14, $15, $16, $17, $18",
    )
}

/// The lease must be alive: otherwise the row would be an orphan in the moment in which it begins.
static BEGIN: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'executing', updated_at = $14, started_at = $14, {MOVED} \
             WHERE {GUARD} AND state = 'approved' AND lease_until > $14 AND NOT {BEGUN}"
        ),
        ACTION,
        &[Follow::audit(1), execution()],
    )
});

/// $19 next state, $20 code, $21 message, $22 new version. What was begun can end only as begun,
/// also where somebody set the row back.
static END: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = $19, updated_at = $14, ended_at = $14, end_code = $20, \
             end_message = $21, started_at = CASE WHEN $19 = 'refused' THEN started_at \
                 ELSE COALESCE(started_at, $14) END, {MOVED}, {UNLEASED} WHERE {GUARD} \
             AND ((state = 'approved' AND $19 = 'refused' AND NOT {BEGUN}) \
               OR (state IN ('pending', 'approved') AND {BEGUN} \
                   AND $19 IN ('succeeded', 'failed', 'indeterminate')) \
               OR (state = 'executing' AND $19 IN ('succeeded', 'failed', 'indeterminate')) \
               OR (state = 'indeterminate' AND $19 IN ('succeeded', 'failed')))"
        ),
        ACTION,
        &[
            Follow::audit(1),
            execution(),
            Follow::outbox(&TELL, "$19", "$11", "$22", "$14"),
        ],
    )
});

/// $1-$10 event; $11 id, $12 record kind, $13 json, $14 kid, $15 signature, $16 at, $17 state. Once
/// for one record, and the telling once for one state.
static APPEND: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        "INSERT INTO executions (action_id, recorded_at, record, json, kid, signature) \
         SELECT id, $16, $12, $13, $14, $15 FROM actions WHERE id = $11 AND NOT EXISTS \
             (SELECT 1 FROM executions WHERE executions.action_id = $11 AND executions.json = $13)",
        "action_id",
        &[
            Follow::audit(1),
            Follow::outbox(&TELL, "$17", "$11", "0", "$16").once(),
        ],
    )
});

/// $1-$10 event or nulls; $11 id, $12 token, $13 code, $14 message, $15 since, $16 retry_at.
static HOLD: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET \
             held_since = CASE WHEN held_code = $13 THEN held_since ELSE $15 END, \
             held_code = $13, held_message = $14, retry_at = $16, {UNLEASED} \
             WHERE id = $11 AND lease_token = $12"
        ),
        "id",
        &[Follow::audit(1).only_if("$1 IS NOT NULL")],
    )
});

/// $1 id, $2 token, $3 fence, $4 until.
static RENEW: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "UPDATE actions SET lease_until = $4 WHERE id = $1 AND lease_token = $2 AND fence = $3 \
         RETURNING id",
    )
    .quiet()
});

static RELEASE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(&format!(
        "UPDATE actions SET {UNLEASED} WHERE id = $1 AND lease_token = $2 AND fence = $3 \
         RETURNING id"
    ))
});

/// $1 id, $2 token, $3 person, $4 verb, $5 channel, $6 reason, $7 json, $8 kid, $9 signature,
/// $10 decided_at.
static DERIVED: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO derived_decisions \
             (action_id, person, verb, channel, reason, json, kid, signature, decided_at) \
         SELECT id, $3, $4, $5, $6, $7, $8, $9, $10 FROM actions \
         WHERE id = $1 AND lease_token = $2 ON CONFLICT DO NOTHING RETURNING id",
    )
});

static HEARTBEAT: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO heartbeats (cluster, executor, at, status, policy_hash, cluster_lock) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cluster, executor) DO UPDATE SET \
         at = excluded.at, status = excluded.status, policy_hash = excluded.policy_hash, \
         cluster_lock = excluded.cluster_lock",
    )
    .quiet()
});

/// Those whose plans are tested.
#[cfg(test)]
pub(crate) fn picks() -> [&'static str; 3] {
    [&TO_ADMIT.pick, &APPROVED.pick, &ORPHANS.pick]
}
#[cfg(test)]
pub(crate) const VERBS: &[&LazyLock<Write>] = &[
    &ADMIT, &DENY, &BEGIN, &END, &APPEND, &HOLD, &RENEW, &RELEASE, &DERIVED, &HEARTBEAT,
];

impl ExecutorStore {
    /// Grows whenever something was committed, here or in another process, and now and then
    /// without a cause: look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.db.changes()
    }

    /// Leases the proposal of this cluster that has waited for longest to be admitted.
    pub async fn next_to_admit(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<ToAdmit>, StoreError> {
        match self
            .claim(&TO_ADMIT, cluster, executor, lease_for, now)
            .await?
        {
            None => Ok(None),
            Some((action, lease)) => Ok(Some(ToAdmit { action, lease })),
        }
    }

    /// `checking` -> `pending`, with the statement. Asks for the ticket and the notification.
    pub async fn admit(
        &self,
        work: &ToAdmit,
        statement: &Signed<Statement>,
        event: &Signed<AuditEvent>,
    ) -> Result<Transition, StoreError> {
        let body = statement.body();
        if body.action_id != work.action.id {
            return Err(StoreError::BadInput {
                why: format!(
                    "the statement is about {}, not {}",
                    body.action_id, work.action.id
                ),
            });
        }
        let sealed = statement.sealed();
        let mut values = guard(&work.action, &work.lease, event)?;
        values.extend(args![
            statement.digest().to_string(),
            &sealed.json,
            &sealed.kid,
            &sealed.signature,
            body.admitted_at,
            body.decide_by,
            body.execute_by,
            work.action.version + 1,
        ]);
        let changed: Vec<ActionRow> = self.db.write(&ADMIT, values).await?;
        let changed = changed
            .into_iter()
            .map(|row| row.with_statement(sealed))
            .collect();
        transition(&self.db, work.action.id, changed).await
    }

    /// `checking` -> `denied`.
    pub async fn deny(
        &self,
        work: &ToAdmit,
        reason: &Reason,
        event: &Signed<AuditEvent>,
    ) -> Result<Transition, StoreError> {
        let mut values = guard(&work.action, &work.lease, event)?;
        values.extend(args![reason.code.as_str(), &reason.message]);
        let changed = self.db.write(&DENY, values).await?;
        transition(&self.db, work.action.id, changed).await
    }

    /// Leases the approved action of this cluster that has been due for longest.
    pub async fn next_approved(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        let claimed = self
            .claim(&APPROVED, cluster, executor, lease_for, now)
            .await?;
        let Some((action, lease)) = claimed else {
            return Ok(None);
        };
        let statement = statement(&action)?;
        // Read after the claim: what comes later still moves the version, and `begin` fails.
        let text = format!("SELECT {DECISION} FROM decisions WHERE action_id = $1 ORDER BY id");
        let rows: Vec<DecisionRecord> = self.db.read(text, args![action.id]).await?;
        let mut decisions = Vec::with_capacity(rows.len());
        let mut jira_hint = false;
        for row in rows {
            let row = row.decision("decisions")?;
            jira_hint |= row.channel == Channel::Jira;
            if let Some(sealed) = row.sealed {
                decisions.push(StoredDecision {
                    sealed,
                    reason: row.reason,
                });
            }
        }
        let ticket = self.ticket(action.id).await?;
        Ok(Some(Claimed {
            action,
            lease,
            statement,
            decisions,
            jira_hint,
            ticket,
        }))
    }

    /// `None`: the lease was lost.
    pub async fn renew(
        &self,
        action: ActionId,
        lease: &Lease,
        until: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let values = args![action, &lease.token, lease.fence, until];
        let rows: Vec<(String,)> = self.db.write(&RENEW, values).await?;
        Ok(rows.first().map(|_| Lease {
            until,
            ..lease.clone()
        }))
    }

    /// Gives the row back at once. `false`: the lease was lost before.
    pub async fn release(&self, action: ActionId, lease: &Lease) -> Result<bool, StoreError> {
        let values = args![action, &lease.token, lease.fence];
        let rows: Vec<(String,)> = self.db.write(&RELEASE, values).await?;
        Ok(!rows.is_empty())
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
        let mut values = match event {
            Some(event) => event_args(event.body(), Some(event.sealed()))?,
            None => no_event(),
        };
        let Hold { held, retry_at } = hold;
        values.extend(args![
            action,
            &lease.token,
            held.reason.code.as_str(),
            held.reason.message,
            held.since,
            retry_at,
        ]);
        let rows: Vec<(String,)> = self.db.write(&HOLD, values).await?;
        Ok(!rows.is_empty())
    }

    /// `approved` -> `refused`. The reason is the record's code and message.
    pub async fn refuse(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        expect(step, action, RecordKind::Refusal)?;
        self.end(action, lease, step, StateName::Refused).await
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
        let (body, sealed) = (decision.body(), decision.sealed());
        if body.person != person || body.channel != channel {
            return Err(StoreError::BadInput {
                why: "the signed decision names another person or channel".into(),
            });
        }
        let values = args![
            action,
            &lease.token,
            person,
            body.verb.as_str(),
            channel.as_str(),
            reason,
            &sealed.json,
            &sealed.kid,
            &sealed.signature,
            body.decided_at,
        ];
        let rows: Vec<(i64,)> = self.db.write(&DERIVED, values).await?;
        Ok(!rows.is_empty())
    }

    /// `approved` -> `executing`: the intent is committed. `action` as it was claimed: a decision
    /// that came in between is a conflict. The lease stays, and must not have run out.
    pub async fn begin(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        expect(step, action, RecordKind::Intent)?;
        let values = step_args(action, lease, step)?;
        let changed = self.db.write(&BEGIN, values).await?;
        transition(&self.db, action.id, changed).await
    }

    /// `executing` or `indeterminate` (or set back by hand after the intent) -> what the record's `state` says: `succeeded`, `failed` or
    /// `indeterminate`. The lease ends.
    pub async fn finish(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
    ) -> Result<Transition, StoreError> {
        expect(step, action, RecordKind::Outcome)?;
        let next = match step.record.body().state.parse() {
            Ok(next @ (StateName::Succeeded | StateName::Failed | StateName::Indeterminate)) => {
                next
            }
            _ => {
                return Err(StoreError::BadInput {
                    why: "an outcome is succeeded, failed or indeterminate".into(),
                });
            }
        };
        self.end(action, lease, step, next).await
    }

    /// Keeps an outcome for which [`Self::finish`] was a conflict: what a run saw is not lost because
    /// its row was taken away or ended by somebody else. Appends the record and its event and has it
    /// told; the state stays. `false`: this very record is there already, or there is no such action.
    pub async fn append_outcome(
        &self,
        action: &Action,
        step: &SignedStep,
    ) -> Result<bool, StoreError> {
        expect(step, action, RecordKind::Outcome)?;
        let (record, sealed) = (step.record.body(), step.record.sealed());
        let state: StateName = parse("executions", &record.state)?;
        let mut values = event_args(step.event.body(), Some(step.event.sealed()))?;
        values.extend(args![
            action.id,
            record.record.as_str(),
            &sealed.json,
            &sealed.kid,
            &sealed.signature,
            step.event.body().at,
            state.as_str(),
        ]);
        let rows: Vec<(String,)> = self.db.write(&APPEND, values).await?;
        Ok(!rows.is_empty())
    }

    /// The stored records of an action, in the order in which they were written. Rows, not evidence:
    /// whoever relies on one opens it.
    pub async fn records(&self, action: ActionId) -> Result<Vec<Sealed>, StoreError> {
        let text = "SELECT json, kid, signature FROM executions WHERE action_id = $1 ORDER BY id";
        let rows: Vec<SealedRow> = self.db.read(text, args![action]).await?;
        Ok(rows.into_iter().filter_map(SealedRow::sealed).collect())
    }

    /// Leases an action whose executor went away after the intent, or that is `indeterminate`, or
    /// that was set back by hand after its intent.
    pub async fn next_orphan(
        &self,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<Orphan>, StoreError> {
        let claimed = self
            .claim(&ORPHANS, cluster, executor, lease_for, now)
            .await?;
        let Some((action, lease)) = claimed else {
            return Ok(None);
        };
        let statement = statement(&action)?;
        let text = "SELECT json, kid, signature FROM executions \
             WHERE action_id = $1 AND record = 'intent'";
        let rows: Vec<SealedRow> = self.db.read(text, args![action.id]).await?;
        let intent = rows.into_iter().next().and_then(SealedRow::sealed);
        Ok(Some(Orphan {
            action,
            lease,
            statement,
            intent,
        }))
    }

    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        let Heartbeat {
            cluster,
            executor,
            at,
            status,
            policy_hash,
            cluster_lock,
        } = heartbeat;
        let values = args![cluster, executor, *at, status, policy_hash, cluster_lock];
        self.db.write::<()>(&HEARTBEAT, values).await.map(drop)
    }

    async fn claim(
        &self,
        work: &'static Work,
        cluster: &str,
        executor: &str,
        lease_for: SignedDuration,
        now: Timestamp,
    ) -> Result<Option<(Action, Lease)>, StoreError> {
        let mut values = args![cluster, now];
        if !self.db.anything(&work.pick, values.clone()).await? {
            return Ok(None);
        }
        let until = now.saturating_add(lease_for).unwrap_or(Timestamp::MAX);
        values.extend(args![random_token(&OsEntropy), executor, until]);
        let mut rows: Vec<ActionRow> = self.db.write(&work.claim, values).await?;
        let Some(row) = rows.pop() else {
            return Ok(None);
        };
        let lease = row.lease()?;
        Ok(Some((row.action()?, lease)))
    }

    async fn end(
        &self,
        action: &Action,
        lease: &Lease,
        step: &SignedStep,
        next: StateName,
    ) -> Result<Transition, StoreError> {
        let record = step.record.body();
        let code: Code = parse("executions", &record.code)?;
        let mut values = step_args(action, lease, step)?;
        values.extend(args![
            next.as_str(),
            code.as_str(),
            &record.message,
            action.version + 1
        ]);
        let changed = self.db.write(&END, values).await?;
        transition(&self.db, action.id, changed).await
    }

    async fn ticket(&self, action: ActionId) -> Result<Option<Ticket>, StoreError> {
        let text = format!("SELECT {TICKET} FROM tickets WHERE action_id = $1");
        let rows: Vec<TicketRow> = self.db.read(text, args![action]).await?;
        Ok(rows.into_iter().next().map(TicketRow::ticket))
    }
}

fn statement(action: &Action) -> Result<Sealed, StoreError> {
    action.state.statement().cloned().ok_or(StoreError::BadRow {
        table: "admissions",
        what: format!("action {} has no statement", action.id),
    })
}

/// $1-$14 of every transition.
fn guard(action: &Action, lease: &Lease, event: &Signed<AuditEvent>) -> Result<Args, StoreError> {
    let mut values = event_args(event.body(), Some(event.sealed()))?;
    values.extend(args![
        action.id,
        action.version,
        &lease.token,
        event.body().at
    ]);
    Ok(values)
}

/// $1-$18 of those with a record.
fn step_args(action: &Action, lease: &Lease, step: &SignedStep) -> Result<Args, StoreError> {
    let sealed = step.record.sealed();
    let mut values = guard(action, lease, &step.event)?;
    let kind = step.record.body().record;
    values.extend(args![
        kind.as_str(),
        &sealed.json,
        &sealed.kid,
        &sealed.signature
    ]);
    Ok(values)
}

fn expect(step: &SignedStep, action: &Action, kind: RecordKind) -> Result<(), StoreError> {
    let record = step.record.body();
    if record.action_id == action.id && record.record == kind {
        return Ok(());
    }
    Err(StoreError::BadInput {
        why: format!(
            "expected a record of kind `{kind}` about {}, got `{}` about {}",
            action.id, record.record, record.action_id
        ),
    })
}
