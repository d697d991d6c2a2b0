//! Verification of an approved action: fresh facts, the ticket, `authorize`, a dry run. Changes
//! nothing.

use std::collections::BTreeSet;

use countersign_domain::{
    Authorized, Channel, Code, Evidence, LiveFacts, Reason, Sealed, Signed, Statement, Verdict,
    authorize,
};
use countersign_integrations::kubernetes::{KubeError, PodRecord};
use countersign_store::Claimed;
use jiff::SignedDuration;

use crate::cluster::Preview;
use crate::executor::Executor;
use crate::facts;
use crate::ticket_look::Answer;

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
    let statement = signed.body();
    let register = &executor.capabilities.register;
    let (pod, kube_system_uid, server_date, spent, ticket) = tokio::join!(
        executor
            .reader
            .get_pod(&statement.namespace, &statement.name),
        executor.reader.kube_system_uid(),
        executor.reader.server_date(),
        register.look(claimed.action.id),
        look_at_ticket(executor, claimed, &signed),
    );
    match spent {
        Ok(None) => {}
        Ok(Some(_)) => {
            return Verified::Refuse(Reason::new(
                Code::AlreadySpent,
                "the cluster's register says that this action has had its one chance already",
            ));
        }
        Err(error) => return unreachable(&error.to_string()),
    }
    let pod: Option<PodRecord> = match pod {
        Ok(pod) => Some(pod),
        Err(KubeError::NotFound { .. }) => None,
        Err(error) => return unreachable(&error.to_string()),
    };
    let (kube_system_uid, server_date) = match (kube_system_uid, server_date) {
        (Ok(uid), Ok(date)) => (uid, date),
        (Err(error), _) | (_, Err(error)) => return unreachable(&error.to_string()),
    };
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
        server_date,
    };
    let rules = executor.watched.rules();
    let verdict = authorize(Evidence {
        action_id: claimed.action.id,
        cluster: &executor.cluster,
        statement: &claimed.statement,
        executor_keys: &executor.own_keys,
        decisions: &claimed.decisions,
        attestation_keys: &executor.watched.attestation_keys(),
        jira: ticket.moved.as_ref(),
        live: &live,
        policy: &rules.policy,
        registry: &rules.registry,
        now: executor.clock.now(),
    });
    match verdict {
        Ok(authorized) => last_look(executor, authorized).await,
        Err(Verdict::Refuse(reason)) => Verified::Refuse(reason),
        Err(Verdict::Hold(mut reason)) => {
            if let Some(note) = ticket.note {
                reason.message = format!("{}; {note}", reason.message);
            }
            let retry_in = match reason.code {
                Code::MissingEvidence => SOON,
                _ => SLOW,
            };
            Verified::Hold { reason, retry_in }
        }
    }
}

/// The dry run and the list of pods: what must be as fresh as can be.
async fn last_look(executor: &Executor, authorized: Authorized) -> Verified {
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
            let before = family.into_iter().map(|pod| pod.uid).collect();
            Verified::Go(Box::new(Go { authorized, before }))
        }
        Err(error) => unreachable(&error.to_string()),
    }
}

/// Opens a statement that this executor signed.
pub fn open(executor: &Executor, sealed: &Sealed) -> Result<Signed<Statement>, Reason> {
    sealed
        .open::<Statement>(&executor.own_keys, executor.clock.now())
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
