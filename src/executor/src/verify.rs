//! Verification of an approved action: fresh facts, the ticket, `authorize`, a dry run. Changes
//! nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use countersign_domain::{
    Authorized, Channel, Code, Evidence, LiveFacts, Reason, Sealed, Signed, Statement, Verdict,
    authorize,
};
use countersign_integrations::kubernetes::{KubeError, PodRecord};
use countersign_store::Claimed;
use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Preview, Record};
use crate::executor::Executor;
use crate::facts;
use crate::ticket_look::Answer;
use crate::timing;

/// Asked again soon: what is missing may be on its way.
const SOON: SignedDuration = SignedDuration::from_secs(1);
/// A budget's room comes and goes with pods.
const BUDGET: SignedDuration = SignedDuration::from_secs(2);
/// What only an operator can change.
const SLOW: SignedDuration = SignedDuration::from_secs(5);

/// What verification came to.
pub enum Verified {
    /// All is there: may be carried out now.
    Go(Box<Go>),
    Hold {
        reason: Reason,
        retry_in: SignedDuration,
    },
    Refuse(Reason),
}

/// Permission, and what the cluster looked like when it was given.
pub struct Go {
    pub authorized: Authorized,
    /// A moment before it was given.
    pub since: Instant,
    /// UIDs of the controller's pods before the write.
    pub before: BTreeSet<String>,
}

fn hold(code: Code, message: impl Into<String>, retry_in: SignedDuration) -> Verified {
    Verified::Hold {
        reason: Reason::new(code, message),
        retry_in,
    }
}

fn unreachable(what: &str) -> Verified {
    hold(
        Code::SourceUnreachable,
        format!("cannot be checked now: {what}"),
        BUDGET,
    )
}

/// Verifies. Every time anew: nothing from an earlier look counts.
pub async fn verify(executor: &Executor, claimed: &Claimed) -> Verified {
    // Also checked by `authorize`; here because the statement says where to look.
    let signed = match open(executor, &claimed.statement) {
        Ok(signed) => signed,
        Err(reason) => return Verified::Refuse(reason),
    };
    // What is wrong with them could be a revocation.
    if let Some(reason) = executor.watched.unusable() {
        return Verified::Hold {
            reason,
            retry_in: BUDGET,
        };
    }
    let statement = signed.body();
    // First: it may take long, and what the cluster says must be fresh.
    let ticket = look_at_ticket(executor, claimed, &signed).await;
    let register = &executor.capabilities.register;
    let (pod, kube_system_uid, time, spent) = tokio::join!(
        executor
            .reader
            .get_pod(&statement.namespace, &statement.name),
        executor.reader.kube_system_uid(),
        executor.api_time(),
        register.look(claimed.action.id),
    );
    let pod: Option<PodRecord> = match pod {
        Ok(pod) => Some(pod),
        Err(KubeError::NotFound { .. }) => None,
        Err(error) => return unreachable(&error.to_string()),
    };
    let (kube_system_uid, time) = match (kube_system_uid, time) {
        (Ok(uid), Ok(time)) => (uid, time),
        (Err(error), _) | (_, Err(error)) => return unreachable(&error.to_string()),
    };
    match spent {
        Ok(None) => {}
        Ok(Some(record)) => {
            return spent_before(&record, pod.as_ref(), &statement.uid, time.server);
        }
        Err(error) => return unreachable(&error.to_string()),
    }
    let ticket = match ticket {
        Ok(answer) => answer,
        Err(reason) => {
            return Verified::Hold {
                reason,
                retry_in: BUDGET,
            };
        }
    };
    let mut cluster = executor.cluster.clone();
    cluster.kube_system_uid = kube_system_uid;
    let live = LiveFacts {
        cluster,
        pod: pod.as_ref().map(facts::live_pod),
        server_date: time.server,
        date_read_at: time.read_at,
    };
    let rules = executor.watched.rules();
    let since = Instant::now();
    let verdict = authorize(Evidence {
        action_id: claimed.action.id,
        cluster: &executor.cluster,
        statement: &claimed.statement,
        executor_keys: &executor.own_keys,
        decisions: &claimed.decisions,
        attestation_keys: &executor.watched.attestation_keys(),
        jira: ticket.said(&rules.registry),
        live: &live,
        policy: &rules.policy,
        registry: &rules.registry,
        now: executor.clock.now(),
    });
    match verdict {
        Ok(authorized) => last_look(executor, authorized, since).await,
        Err(Verdict::Refuse(reason)) => Verified::Refuse(reason),
        Err(Verdict::Hold(mut reason)) => {
            if let Some(note) = ticket.note {
                reason.message = format!("{}; {note}", reason.message);
            }
            let retry_in = match reason.code {
                Code::MissingEvidence => SOON,
                // By the API server's clock: an executor whose clock is right must not have to wait
                // for ours.
                Code::ClockSkew => SLOW - time.ahead(),
                _ => SLOW,
            };
            Verified::Hold { reason, retry_in }
        }
    }
}

/// The dry run and the list of pods: what must be as fresh as can be.
async fn last_look(executor: &Executor, authorized: Authorized, since: Instant) -> Verified {
    let statement = authorized.statement();
    let owner = statement.owner().map_or("", |owner| owner.uid.as_str());
    let (family, preview) = tokio::join!(
        executor
            .reader
            .list_pods_of_controller(&statement.namespace, owner),
        executor.capabilities.dry_run.evict(
            statement.action_id,
            &statement.namespace,
            &statement.name,
            &statement.uid,
            authorized.resource_version(),
        ),
    );
    match preview {
        Preview::Accepted => {}
        Preview::OverBudget(why) => {
            return hold(
                Code::BudgetExhausted,
                format!("{why} Tried again until {}.", statement.execute_by),
                BUDGET,
            );
        }
        Preview::Changed(_) => {
            return hold(
                Code::SourceUnreachable,
                "the pod is changing just now",
                SOON,
            );
        }
        // Rights and admission policies may be mended before the time is over; nothing is spent.
        Preview::Rejected(why) => {
            return hold(
                Code::DryRunRejected,
                format!("the cluster would refuse the eviction: {why}"),
                SLOW,
            );
        }
        Preview::Unreachable(why) => return unreachable(&why),
    }
    match family {
        Ok(family) => {
            let seen = executor.sightings.saw(family);
            let before = seen.into_iter().map(|(_, pod)| pod.uid).collect();
            Verified::Go(Box::new(Go {
                authorized,
                since,
                before,
            }))
        }
        Err(error) => unreachable(&error.to_string()),
    }
}

/// The store says that the action waits, the register that it had its one chance: an old copy of the
/// database, or somebody who wrote into it. Nothing is sent; what is said must be true all the same.
fn spent_before(record: &Record, pod: Option<&PodRecord>, uid: &str, now: Timestamp) -> Verified {
    let at = record.created_at;
    let refuse = |message: String| Verified::Refuse(Reason::new(Code::AlreadySpent, message));
    if record.is_burnt() {
        return refuse(format!(
            "the cluster's register says that this action was given up at {at}, before anything \
             was sent"
        ));
    }
    let had = format!("the cluster's register says that this action had its one chance at {at}");
    match pod {
        Some(pod) if pod.uid == uid && pod.deletion_timestamp.is_none() => {
            if now < timing::certain_after_spending(at) {
                let message =
                    format!("{had}; an eviction may still be on its way, nothing is sent");
                return hold(Code::AlreadySpent, message, SLOW);
            }
            refuse(format!(
                "{had}; the pod is still there, so it was not used, and will not be any more"
            ))
        }
        _ => refuse(format!(
            "{had}, and the pod is gone or going: it was probably evicted then. Nothing was sent \
             now; look at the cluster"
        )),
    }
}

/// Opens a statement that this executor signed.
pub fn open(executor: &Executor, sealed: &Sealed) -> Result<Signed<Statement>, Reason> {
    // The key must have been valid when it signed; the body tells when, and is only believed once
    // the signature fits.
    let at = serde_json::from_str::<Statement>(&sealed.json)
        .map_or(executor.clock.now(), |statement| statement.admitted_at);
    sealed
        .open::<Statement>(&executor.own_keys, at)
        .map_err(|error| {
            Reason::new(
                Code::StatementForged,
                format!("the stored statement is not one that this executor signed: {error}"),
            )
        })
}

/// The executor's own look at the ticket, where the statement lets a ticket answer.
async fn look_at_ticket(
    executor: &Executor,
    claimed: &Claimed,
    statement: &Signed<Statement>,
) -> Result<Answer, Reason> {
    let may_answer = statement
        .body()
        .require
        .iter()
        .any(|entry| entry.channels.contains(&Channel::Jira));
    match (&executor.tickets, &claimed.ticket) {
        (Some(tickets), Some(ticket)) if may_answer => tickets.look(ticket, statement).await,
        _ => Ok(Answer::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_pod::{at, pod};

    fn said(holder: &str, pod: Option<&PodRecord>, now: &str) -> (Code, String) {
        let record = Record {
            holder: holder.to_owned(),
            created_at: at("00:00"),
        };
        match spent_before(&record, pod, "old", at(now)) {
            Verified::Hold { reason, .. } => (reason.code, format!("held: {}", reason.message)),
            Verified::Refuse(reason) => (reason.code, reason.message),
            Verified::Go(_) => panic!("it was spent"),
        }
    }

    #[test]
    fn a_chance_that_was_used_is_not_said_to_have_done_nothing() {
        let old = pod("old");
        let mut going = pod("old");
        going.deletion_timestamp = Some(at("00:10"));
        let other = pod("new");
        for (holder, pod, now, want) in [
            (
                "burnt-by-x",
                Some(&old),
                "00:01",
                "before anything was sent",
            ),
            ("nonce", None, "00:01", "probably evicted"),
            ("nonce", Some(&going), "00:01", "probably evicted"),
            ("nonce", Some(&other), "00:01", "probably evicted"),
            ("nonce", Some(&old), "01:44", "held: "),
            ("nonce", Some(&old), "01:45", "it was not used"),
        ] {
            let (code, message) = said(holder, pod, now);
            assert_eq!(code, Code::AlreadySpent);
            assert!(message.contains(want), "{now}: {message}");
        }
    }
}
