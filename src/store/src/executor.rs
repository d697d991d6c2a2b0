//! What the executor may do with the store. Narrow on purpose: an executor in another cluster could
//! one day do the same over HTTPS instead of holding database credentials.

mod verbs;

use countersign_domain::{
    Action, ActionId, AuditEvent, Channel, Code, Decision, OsEntropy, Reason, RecordKind, Sealed,
    Signed, StateName, Statement, StoredDecision, random_token,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::rows::{
    ActionRow, DECISION, DecisionRecord, SealedRow, TICKET, TicketRow, event_args, parse,
};
use crate::server::{no_event, transition};
use crate::sql::{Args, args};
use crate::{
    Claimed, Database, Heartbeat, Hold, Lease, Orphan, SignedStep, StoreError, Ticket, ToAdmit,
    Transition,
};

use verbs::{
    ADMIT, APPEND, APPROVED, BEGIN, DENY, DERIVED, END, HEARTBEAT, HOLD, ORPHANS, RELEASE, RENEW,
    TO_ADMIT, Work,
};
#[cfg(test)]
pub(crate) use verbs::{VERBS, picks};

/// The executor's port. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExecutorStore {
    pub(crate) db: Database,
}

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
        let (rows, ticket) = tokio::try_join!(
            self.db.read::<DecisionRecord>(text, args![action.id]),
            self.ticket(action.id)
        )?;
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
