//! Actions whose fate is not known: a predecessor crashed, or an answer got lost. Resolved by
//! looking, never by sending.
//!
//! First the door is shut: where the register has no record, one is created that only says "never".
//! Whoever still runs with an older claim can then not spend, so cannot send. Where a record was
//! spent, the cluster is looked at until the verdict is certain.

use std::collections::BTreeSet;

use countersign_domain::{Action, ActionId, Code, Digest, RecordKind, StateName, Statement};
use countersign_integrations::kubernetes::PodRecord;
use countersign_store::Orphan;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::cluster::{Burn, SHORTEST_KEPT};
use crate::execute::{self, Outcome, PODS_BEFORE, RESOURCE_VERSION, SEND_BEFORE};
use crate::executor::{Executor, Failure};
use crate::lease::Claim;
use crate::replacement::{self, Look, Old, Search, Taken};
use crate::{timing, verify};

const NOTHING_SENT: &str = " By the cluster's register nothing was sent, and nothing ever will be.";

/// An execution that began: what its signed intent says.
pub struct Case {
    pub action: Action,
    pub statement: Statement,
    pub digest: Digest,
    pub intent_at: Timestamp,
    /// Nothing was sent at or after it.
    pub send_before: Timestamp,
    /// The write's precondition: while the pod has another version, it cannot be carried out.
    pub resource_version: String,
    /// UIDs of the controller's pods before the write.
    pub before: BTreeSet<String>,
}

impl Case {
    /// By when a replacement must be Ready.
    fn deadline(&self) -> Timestamp {
        self.send_before + self.statement.success_deadline()
    }
}

/// Takes over what another executor began.
pub async fn adopt(executor: &Executor, orphan: Orphan) -> Result<(), Failure> {
    let (id, state) = (orphan.action.id, orphan.action.state.name());
    if matches!(state, StateName::Executing | StateName::Indeterminate) {
        tracing::warn!(action = %id, "an earlier execution ended without an outcome; looking");
    } else {
        tracing::error!(
            action = %id, %state,
            "this was begun, and its row was set back by somebody else; looking at what became of it"
        );
    }
    let claim = Claim::keep(executor, id, orphan.lease.clone());
    match case_of(executor, &orphan) {
        Ok(case) => resolve(executor, case, claim).await,
        Err(outcome) => close_unreadable(executor, orphan, claim, outcome).await,
    }
}

/// Ends an action of which nothing stored can be believed: by the cluster's register alone, and not
/// before nobody can be sending for it any more.
async fn close_unreadable(
    executor: &Executor,
    orphan: Orphan,
    claim: Claim,
    mut outcome: Outcome,
) -> Result<(), Failure> {
    let id = orphan.action.id;
    let digest = execute::digest_of(&orphan.statement);
    let since = Instant::now();
    let mut door = None;
    loop {
        match shut(executor, id, &digest, &mut door).await {
            Ok(Burn::Shut) => {
                if vouches(id.time(), executor.clock.now()) {
                    outcome.reason.message.push_str(NOTHING_SENT);
                }
                break;
            }
            Ok(Burn::SpentBefore(at))
                if executor.clock.now() >= timing::certain_after_spending(at) =>
            {
                let spent = format!(" By the cluster's register it had its one chance at {at}.");
                outcome.reason.message.push_str(&spent);
                break;
            }
            Ok(Burn::SpentBefore(_)) => {}
            Err(why) => tracing::warn!(action = %id, why, "cannot look now"),
        }
        tokio::select! {
            () = tokio::time::sleep(replacement::pause(since.into_std())) => {}
            () = executor.stop.cancelled() => return Ok(()),
        }
        if claim.lost() {
            return Ok(());
        }
    }
    let step = executor.step(
        id,
        digest,
        RecordKind::Outcome,
        outcome.state,
        &outcome.reason,
        outcome.details,
        executor.clock.now(),
    )?;
    executor
        .store
        .finish(&orphan.action, &claim.lease(), &step)
        .await?;
    claim.settled();
    Ok(())
}

/// Reads the signed statement and intent. Without them nothing can be judged.
fn case_of(executor: &Executor, orphan: &Orphan) -> Result<Case, Outcome> {
    let altered = |what: &str| {
        Outcome::new(
            StateName::Failed,
            Code::StatementForged,
            format!(
                "The stored {what} is not one that this executor signed, so what was done cannot \
                 be judged from it. Look at the cluster."
            ),
        )
    };
    let signed = verify::open(executor, &orphan.statement).map_err(|_| altered("statement"))?;
    let intent = orphan.intent.as_ref();
    let intent = intent
        .and_then(|intent| executor.own_record(intent))
        .ok_or_else(|| altered("intent"))?;
    let send_before = intent
        .details
        .get(SEND_BEFORE)
        .and_then(|at| at.parse().ok());
    let fits = intent.record == RecordKind::Intent
        && intent.action_id == orphan.action.id
        && signed.body().action_id == orphan.action.id
        && intent.statement == signed.digest()
        && signed.body().cluster == executor.cluster;
    let (true, Some(send_before)) = (fits, send_before) else {
        return Err(altered("intent"));
    };
    let detail = |key: &str| intent.details.get(key).map_or("", String::as_str);
    Ok(Case {
        action: orphan.action.clone(),
        statement: signed.body().clone(),
        digest: signed.digest(),
        intent_at: intent.at,
        send_before,
        resource_version: detail(RESOURCE_VERSION).to_owned(),
        before: detail(PODS_BEFORE)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}

/// Looks until the verdict is certain, a later claim looks instead, or the executor stops.
pub async fn resolve(executor: &Executor, case: Case, claim: Claim) -> Result<(), Failure> {
    let looking = executor.looks.begin(case.action.id);
    let mut told = case.action.state.name() == StateName::Indeterminate;
    let since = Instant::now();
    let search = Search {
        statement: &case.statement,
        before: &case.before,
        sightings: &executor.sightings,
    };
    let mut door = None;
    let mut taken = Taken::new();
    loop {
        match look(executor, &case, &search, &mut door, &mut taken).await {
            Ok(Some(outcome)) => return execute::finish(executor, &case, claim, outcome).await,
            Ok(None) if !told => {
                // Said openly, and looked at further: the row is offered again at once.
                match execute::unsure(executor, &case, &claim, unsure(&case)).await {
                    Ok(true) => {
                        claim.settled();
                        return Ok(());
                    }
                    // Taken away: nobody may be left who would look.
                    Ok(false) => told = true,
                    Err(error) => tracing::warn!(action = %case.action.id, %error, "not told yet"),
                }
            }
            Ok(None) => {}
            Err(why) => tracing::warn!(action = %case.action.id, why, "cannot look now"),
        }
        tokio::select! {
            () = tokio::time::sleep(replacement::pause(since.into_std())) => {}
            () = looking.replaced() => return Ok(()),
            () = executor.stop.cancelled() => return Ok(()),
        }
    }
}

fn unsure(case: &Case) -> Outcome {
    let happened = match case.action.state.name() {
        StateName::Pending | StateName::Approved => {
            "Somebody set the stored action back after the executor had begun it."
        }
        _ => "The executor was interrupted after the point of no return.",
    };
    Outcome::new(
        StateName::Indeterminate,
        Code::Interrupted,
        format!(
            "{happened} Whether the eviction was carried out is being found out by looking; it is \
             not sent again."
        ),
    )
}

/// One look. `Ok(None)`: not certain yet.
async fn look(
    executor: &Executor,
    case: &Case,
    search: &Search<'_>,
    door: &mut Option<Burn>,
    taken: &mut Taken,
) -> Result<Option<Outcome>, String> {
    let burn = shut(executor, case.action.id, &case.digest, door).await?;
    if burn == Burn::Shut && vouches(case.intent_at, executor.clock.now()) {
        return Ok(Some(Outcome::new(
            StateName::Failed,
            Code::Interrupted,
            "The executor was interrupted before anything was sent. This action will not run any \
             more; propose it again.",
        )));
    }
    let mut seen = search
        .look(&executor.reader, taken)
        .await
        .map_err(|error| error.to_string())?;
    let (deadline, now) = (case.deadline(), executor.clock.now());
    let register = &executor.capabilities.register;
    let in_time = |pod: &PodRecord| replacement::in_time(pod, deadline, now);
    let pod = seen
        .claim(register, case.action.id, taken, now > deadline, &in_time)
        .await
        .map_err(|error| error.to_string())?;
    Ok(match pod {
        Some(pod) => {
            let at = pod.ready_changed_at().unwrap_or(now);
            let seconds = at.duration_since(case.intent_at).as_secs_f64().max(0.0);
            Some(
                execute::succeeded(&pod.name, &pod.uid, seconds)
                    .with("seen", "after an interruption, by looking"),
            )
        }
        None => judge(case, &seen, now),
    })
}

/// Whether a record that is not there was never there: an old one may have been collected.
fn vouches(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) < SHORTEST_KEPT - SignedDuration::from_hours(1)
}

/// Shuts the door, once. By a clock that differs from the API server's, and by another cluster's
/// register and pods, nothing can be said about the action.
async fn shut(
    executor: &Executor,
    action: ActionId,
    statement: &Digest,
    door: &mut Option<Burn>,
) -> Result<Burn, String> {
    let (uid, time) = tokio::join!(executor.reader.kube_system_uid(), executor.api_time());
    if uid.map_err(|error| error.to_string())? != executor.cluster.kube_system_uid {
        return Err("the cluster behind this executor is another one now".to_owned());
    }
    if let Some(skew) = time.map_err(|error| error.to_string())?.skew() {
        return Err(skew);
    }
    if let Some(found) = door {
        return Ok(found.clone());
    }
    let register = &executor.capabilities.register;
    let found = register
        .burn(action, statement, &*executor.entropy)
        .await
        .map_err(|error| error.to_string())?;
    Ok(door.insert(found).clone())
}

/// What a look means for an action whose one chance was spent, and which has no replacement yet.
fn judge(case: &Case, look: &Look, now: Timestamp) -> Option<Outcome> {
    let deadline = case.deadline();
    // With another version the precondition of the write cannot hold again: whatever is still on
    // its way will be refused.
    let shut_out = look.version.as_deref() != Some(&case.resource_version);
    let settled = now >= timing::settled_at(case.send_before)
        && (shut_out || now >= timing::certain_at(case.send_before));
    match look.old {
        // Nobody can still be sending, and nothing has happened.
        Old::Untouched if settled => Some(Outcome::new(
            StateName::Failed,
            Code::NotApplied,
            "The executor was interrupted between the spent record and the eviction; the pod is \
             still there, untouched. This action will not run any more; propose it again.",
        )),
        Old::Untouched => None,
        Old::Gone | Old::Terminating if now > deadline => Some(execute::not_ready(&format!(
            "by the deadline {deadline}; now {}",
            look.obstacle()
        ))),
        Old::Gone | Old::Terminating => None,
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::{Proposal, Sealed, State, Target, digest_text};

    use super::*;
    use crate::sample_pod::{at, pod, statement, waiting};

    fn case() -> Case {
        let statement = statement();
        let sealed = Sealed {
            json: String::new(),
            kid: String::new(),
            signature: String::new(),
        };
        let target = Target {
            cluster: "try".into(),
            namespace: "shop".into(),
            name: statement.name.clone(),
            uid: "old".into(),
        };
        let proposal = Proposal {
            kind: statement.kind,
            target,
            params: [].into(),
            agent: "claude".into(),
            session: String::new(),
            reason: String::new(),
            idempotency_key: None,
        };
        let action = Action {
            id: statement.action_id,
            version: 1,
            proposal,
            state: State::Executing {
                statement: sealed,
                started_at: at("00:30"),
            },
            created_at: at("00:00"),
            updated_at: at("00:30"),
        };
        Case {
            action,
            statement,
            digest: digest_text("d"),
            intent_at: at("00:30"),
            send_before: at("00:45"),
            resource_version: "7".into(),
            before: BTreeSet::new(),
        }
    }

    #[test]
    fn a_missing_record_proves_nothing_once_it_could_have_been_collected() {
        let began = at("00:30");
        assert!(vouches(began, began + SignedDuration::from_hours(70)));
        assert!(!vouches(began, began + SHORTEST_KEPT));
    }

    fn verdict(
        old: Old,
        new: &[countersign_integrations::kubernetes::PodRecord],
        now: &str,
    ) -> Option<Code> {
        verdict_of_version("8", old, new, now)
    }

    fn verdict_of_version(
        version: &str,
        old: Old,
        new: &[countersign_integrations::kubernetes::PodRecord],
        now: &str,
    ) -> Option<Code> {
        let look = Look {
            old,
            version: (old != Old::Gone).then(|| version.to_owned()),
            new: new.to_vec(),
            others: Vec::new(),
        };
        judge(&case(), &look, at(now)).map(|outcome| outcome.reason.code)
    }

    #[test]
    fn an_untouched_pod_says_nothing_until_nobody_can_still_be_sending() {
        // Sent until 00:45, then both timeouts and the skew of two clocks: 30 s.
        assert_eq!(verdict(Old::Untouched, &[], "01:14"), None);
        assert_eq!(
            verdict(Old::Untouched, &[], "01:15"),
            Some(Code::NotApplied)
        );
    }

    #[test]
    fn a_pod_of_the_very_version_that_was_to_be_evicted_is_waited_for_longer() {
        let unchanged = |now| verdict_of_version("7", Old::Untouched, &[], now);
        assert_eq!(unchanged("01:15"), None);
        assert_eq!(unchanged("02:14"), None);
        assert_eq!(unchanged("02:15"), Some(Code::NotApplied));
    }

    #[test]
    fn a_pod_that_is_gone_waits_for_its_replacement_until_the_deadline() {
        // The deadline is 01:45; the sample pod is Ready since 01:00.
        let starting = waiting("new", "ContainerCreating");
        assert_eq!(verdict(Old::Gone, &[], "01:45"), None);
        assert_eq!(
            verdict(Old::Gone, &[starting], "01:46"),
            Some(Code::ReplacementNotReady)
        );
        assert_eq!(
            verdict(Old::Terminating, &[pod("new")], "01:46"),
            Some(Code::ReplacementNotReady)
        );
        let mut late = pod("new");
        late.conditions[0].last_transition_at = Some(at("02:00"));
        assert_eq!(
            verdict(Old::Gone, &[late], "30:00"),
            Some(Code::ReplacementNotReady)
        );
    }
}
