//! From a claim to the end: verify, commit the intent, spend, write once, watch.

use countersign_domain::{
    Channel, Code, EventName, Held, Reason, RecordKind, Sealed, StateName, Statement,
};
use countersign_integrations::kubernetes::PodRecord;
use countersign_store::{Claimed, Hold, SignedStep, StoreError, Transition};
use countersign_telemetry::metric;
use jiff::SignedDuration;
use metrics::{counter, histogram};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::cluster::{Nonce, NotSpent, RegisterError, Sent};
use crate::crash;
use crate::executor::{Executor, Failure};
use crate::lease::Claim;
use crate::record::Details;
use crate::replacement::{self, Look, Search, Stuck, Taken};
use crate::resolve::{self, Case};
use crate::timing::{Deadline, ROOM};
use crate::verify::{self, Go, Verified};

/// Details of an intent that a later look needs.
pub const PODS_BEFORE: &str = "pods_before";
pub const SEND_BEFORE: &str = "send_before";
pub const RESOURCE_VERSION: &str = "resource_version";

/// How long to leave a slow cluster alone.
const SLOW_CLUSTER: SignedDuration = SignedDuration::from_secs(2);

/// How an execution ended.
pub struct Outcome {
    pub state: StateName,
    pub reason: Reason,
    pub details: Details,
}

impl Outcome {
    pub fn new(state: StateName, code: Code, message: impl Into<String>) -> Self {
        Self {
            state,
            reason: Reason::new(code, message),
            details: Details::new(),
        }
    }

    fn not_applied(message: impl Into<String>) -> Self {
        Self::new(StateName::Failed, Code::NotApplied, message)
    }

    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

/// Works on one approved action. `slot` is given back as soon as only watching is left.
pub async fn execute(
    executor: &Executor,
    claimed: Claimed,
    slot: OwnedSemaphorePermit,
) -> Result<(), Failure> {
    crash::point("claim.after");
    let began = Instant::now();
    let claim = Claim::keep(executor, claimed.action.id, claimed.lease.clone());
    let go = match verify::verify(executor, &claimed).await {
        Verified::Go(go) => *go,
        Verified::Hold { reason, retry_in } => {
            return hold(executor, &claimed, claim, reason, retry_in).await;
        }
        Verified::Refuse(reason) => return refuse(executor, &claimed, claim, reason).await,
    };
    // Nothing has happened yet: somebody else may do it after the restart.
    if executor.stop.is_cancelled() || claim.lost() {
        return Ok(());
    }
    carry_out(executor, claimed, claim, go, slot, began).await
}

async fn carry_out(
    executor: &Executor,
    claimed: Claimed,
    claim: Claim,
    go: Go,
    slot: OwnedSemaphorePermit,
    began: Instant,
) -> Result<(), Failure> {
    let Go {
        authorized,
        since,
        before,
    } = go;
    let id = claimed.action.id;
    let digest = authorized.digest();
    let statement = authorized.statement().clone();
    for decision in authorized.approvals() {
        if decision.channel == Channel::Jira {
            let signed = executor.derived(decision)?;
            let lease = claim.lease();
            executor
                .store
                .record_decision(id, &lease, &decision.person, Channel::Jira, &signed, "")
                .await?;
        }
    }

    let nonce = Nonce::new(&*executor.entropy);
    let now = executor.clock.now();
    let deadline = Deadline::at(authorized.expires_at().min(claim.until()), now, since);
    if deadline.left(now) < ROOM {
        // The one chance is not for a permission that has nearly run out.
        let reason = Reason::new(
            Code::SourceUnreachable,
            "the cluster or the database answered so slowly that the permission nearly ran out; \
             all is verified again",
        );
        return hold(executor, &claimed, claim, reason, SLOW_CLUSTER).await;
    }
    let approvals: Vec<String> = authorized
        .approvals()
        .iter()
        .map(|by| format!("{} ({}, {})", by.person, by.channel, by.decided_at))
        .collect();
    let details: Details = [
        (
            PODS_BEFORE,
            before.iter().cloned().collect::<Vec<_>>().join(" "),
        ),
        (SEND_BEFORE, deadline.wall().to_string()),
        ("approvals", approvals.join(", ")),
        (RESOURCE_VERSION, authorized.resource_version().to_owned()),
        ("nonce", nonce.as_str().to_owned()),
        ("fence", claim.lease().fence.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    let intent = executor.step(
        id,
        digest,
        RecordKind::Intent,
        StateName::Executing,
        &Reason::new(
            Code::Verified,
            "All was verified; the eviction is about to be sent.",
        ),
        details,
        now,
    )?;
    let action = match executor
        .store
        .begin(&claimed.action, &claim.lease(), &intent)
        .await?
    {
        Transition::Done(action) => action,
        // A decision, a cancellation or the clock came in between. Nothing was sent.
        Transition::Conflict(_) => {
            tracing::info!(action = %id, "changed while it was verified; looked at again");
            return Ok(());
        }
    };
    crash::point("intent.after");
    tracing::info!(action = %id, approvals = approvals.join(", "), "executing");
    let case = Case {
        action,
        statement,
        digest,
        intent_at: now,
        send_before: deadline.wall(),
        resource_version: authorized.resource_version().to_owned(),
        before,
    };
    if deadline.is_over(executor.clock.now()) {
        let outcome = Outcome::not_applied(
            "Nothing was sent: the database took so long that the permission ran out.",
        );
        return finish(executor, &case, claim, outcome).await;
    }

    crash::point("spent.before");
    let spent = match executor
        .capabilities
        .register
        .spend(&authorized, nonce, deadline, &*executor.clock)
        .await
    {
        Ok(spent) => spent,
        Err(NotSpent::Register(RegisterError::Refused(why))) => {
            let outcome = Outcome::not_applied(format!(
                "Nothing was sent, because the spent record could not be created: {why}"
            ));
            return finish(executor, &case, claim, outcome).await;
        }
        // Somebody else had the chance, and may have used it; or the record may exist by now, under
        // our name, and nothing was sent under it.
        Err(NotSpent::Before | NotSpent::Register(RegisterError::Unreachable(_))) => {
            drop(slot);
            return resolve::resolve(executor, case, claim).await;
        }
    };
    crash::point("spent.after");

    let sent = executor
        .capabilities
        .writer
        .evict(authorized, spent, deadline, &*executor.clock)
        .await;
    drop(slot);
    let outcome = match sent {
        Sent::Accepted => {
            tracing::info!(action = %id, "eviction accepted");
            match watch(executor, &case).await {
                Some(outcome) => outcome,
                // Stopping, or a later claim looks instead.
                None => {
                    tracing::warn!(action = %id, "sent, and left to be looked at by whoever is next");
                    return Ok(());
                }
            }
        }
        Sent::TooLate => Outcome::not_applied(
            "Nothing was sent: the permission ran out before the eviction could be sent.",
        ),
        Sent::Rejected {
            status: 429,
            sentence,
            over_budget: true,
        } => Outcome::not_applied(format!(
            "Nothing was evicted: the disruption budget filled up between the check and the \
             write. {sentence}"
        ))
        .with("status", "429"),
        Sent::Rejected {
            status, sentence, ..
        } => Outcome::not_applied(rejected(executor, &case, status, &sentence).await)
            .with("status", status.to_string()),
        Sent::Unknown(why) => {
            tracing::warn!(action = %id, why, "the answer to the eviction is not known");
            return resolve::resolve(executor, case, claim).await;
        }
    };
    histogram!(metric::EXECUTION_LATENCY_SECONDS).record(began.elapsed().as_secs_f64());
    finish(executor, &case, claim, outcome).await
}

/// Why the API server did not evict, in a sentence. A 409 names no cause that can be trusted, so
/// the pod is read again.
async fn rejected(executor: &Executor, case: &Case, status: u16, sentence: &str) -> String {
    let Statement {
        namespace,
        name,
        uid,
        ..
    } = &case.statement;
    match status {
        404 => format!("Nothing was evicted: pod {namespace}/{name} was gone by then."),
        409 => match executor.reader.get_pod(namespace, name).await {
            Ok(pod) if pod.uid != *uid => format!(
                "Nothing was evicted: pod {namespace}/{name} was replaced in the last moment; it \
                 now has uid {}.",
                pod.uid
            ),
            Ok(pod) if pod.deletion_timestamp.is_some() => {
                "Nothing was evicted: the pod was already being deleted.".to_owned()
            }
            _ => {
                "Nothing was evicted: the pod changed in the last moment. Propose again.".to_owned()
            }
        },
        429 => format!("Nothing was evicted: the API server was too busy (429). {sentence}"),
        _ => format!("Nothing was evicted: the cluster refused it ({status}). {sentence}"),
    }
}

/// Watches until the criterion is met, cannot be met, or the time is over, also when the row was taken
/// away. `None`: given up without a verdict.
async fn watch(executor: &Executor, case: &Case) -> Option<Outcome> {
    let looking = executor.looks.begin(case.action.id);
    let sent = Instant::now();
    let allowed = case.statement.success_deadline();
    let search = Search {
        statement: &case.statement,
        before: &case.before,
        sightings: &executor.sightings,
    };
    let mut stuck = Stuck::default();
    let mut taken = Taken::new();
    let mut last = String::new();
    loop {
        let over = SignedDuration::try_from(sent.elapsed()).is_ok_and(|passed| passed >= allowed);
        let look = look(executor, case, &search, &mut taken, over).await;
        match look {
            Ok((_, Some(pod))) => {
                return Some(succeeded(&pod.name, &pod.uid, sent.elapsed().as_secs_f64()));
            }
            Ok((look, None)) => {
                if let Some(obstacle) = stuck.notice(&look, std::time::Instant::now()) {
                    return Some(not_ready(&obstacle));
                }
                last = look.obstacle();
            }
            Err(error) if over => {
                return Some(Outcome::new(
                    StateName::Indeterminate,
                    Code::Unobservable,
                    format!("The eviction was accepted; what came of it cannot be seen: {error}"),
                ));
            }
            Err(error) => tracing::warn!(action = %case.action.id, %error, "cannot look now"),
        }
        if over {
            return Some(not_ready(&format!("after {} s {last}", allowed.as_secs())));
        }
        tokio::select! {
            () = tokio::time::sleep(replacement::pause(sent.into_std())) => {}
            () = looking.replaced() => return None,
            () = executor.stop.cancelled() => return None,
        }
    }
}

/// One look, and the replacement that counts for this action from now on.
async fn look(
    executor: &Executor,
    case: &Case,
    search: &Search<'_>,
    taken: &mut Taken,
    over: bool,
) -> Result<(Look, Option<PodRecord>), String> {
    let mut look = search
        .look(&executor.reader, taken)
        .await
        .map_err(|error| error.to_string())?;
    let register = &executor.capabilities.register;
    let pod = look
        .claim(register, case.action.id, taken, over, &|_| true)
        .await
        .map_err(|error| error.to_string())?;
    Ok((look, pod))
}

pub fn succeeded(name: &str, uid: &str, seconds: f64) -> Outcome {
    Outcome::new(
        StateName::Succeeded,
        Code::Verified,
        format!("The old pod is gone and its replacement {name} is Ready after {seconds:.1} s."),
    )
    .with("replacement", name)
    .with("replacement_uid", uid)
    .with("seconds", format!("{seconds:.1}"))
}

pub fn not_ready(obstacle: &str) -> Outcome {
    Outcome::new(
        StateName::Failed,
        Code::ReplacementNotReady,
        format!("The pod was evicted, but no replacement of its own became Ready: {obstacle}."),
    )
}

/// How an outcome was written down.
enum Recorded {
    /// It is the action's state now.
    Ended,
    /// Beside a state that somebody else made.
    Appended,
    /// The same end, signed by this executor's key, is there already.
    Known,
}

/// Commits the outcome. Tried for a while: what happened in the cluster has happened. Where the row was
/// taken away or ended by somebody else, the outcome is kept beside whatever it says.
pub async fn finish(
    executor: &Executor,
    case: &Case,
    claim: Claim,
    outcome: Outcome,
) -> Result<(), Failure> {
    let id = case.action.id;
    let step = outcome_step(executor, case, outcome)?;
    let record = step.record.body();
    crash::point("outcome.before");
    let mut tries = 0;
    let recorded = loop {
        match commit(executor, case, &claim, &step).await {
            Ok(recorded) => break recorded,
            Err(error) if tries < 20 && !executor.stop.is_cancelled() => {
                tracing::warn!(action = %id, %error, "an outcome could not be written; again");
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            // A row that takes no end, whatever was done to it.
            Err(error @ StoreError::Database { .. }) if !executor.stop.is_cancelled() => {
                tracing::error!(
                    action = %id, %error, state = record.state, message = record.message,
                    "an outcome does not become the state"
                );
                break beside(executor, case, &step).await?;
            }
            Err(error) => {
                // By then it may be the only trace of what was seen here.
                tracing::error!(
                    action = %id, state = record.state, message = record.message,
                    "an outcome was not written"
                );
                return Err(error.into());
            }
        }
    };
    crash::point("outcome.after");
    claim.settled();
    let (state, message) = (&record.state, &record.message);
    match recorded {
        Recorded::Ended => tracing::info!(action = %id, state, message, "outcome recorded"),
        Recorded::Known => tracing::info!(action = %id, state, message, "somebody saw the same"),
        Recorded::Appended => tracing::error!(
            action = %id, state, message,
            "the row was taken away or ended by somebody else; the outcome is kept beside it"
        ),
    }
    Ok(())
}

/// Says that the outcome is not certain yet. `false`: the row is not ours any more, so nobody may be
/// left who looks on.
pub async fn unsure(
    executor: &Executor,
    case: &Case,
    claim: &Claim,
    outcome: Outcome,
) -> Result<bool, Failure> {
    let step = outcome_step(executor, case, outcome)?;
    let done = executor
        .store
        .finish(&case.action, &claim.lease(), &step)
        .await?;
    Ok(matches!(done, Transition::Done(_)))
}

fn outcome_step(executor: &Executor, case: &Case, outcome: Outcome) -> Result<SignedStep, Failure> {
    let Outcome {
        state,
        reason,
        details,
    } = outcome;
    executor.step(
        case.action.id,
        case.digest,
        RecordKind::Outcome,
        state,
        &reason,
        details,
        executor.clock.now(),
    )
}

async fn commit(
    executor: &Executor,
    case: &Case,
    claim: &Claim,
    step: &SignedStep,
) -> Result<Recorded, StoreError> {
    let lease = claim.lease();
    match executor.store.finish(&case.action, &lease, step).await? {
        Transition::Done(_) => Ok(Recorded::Ended),
        Transition::Conflict(_) => beside(executor, case, step).await,
    }
}

/// Keeps the outcome beside what the row says, once.
async fn beside(
    executor: &Executor,
    case: &Case,
    step: &SignedStep,
) -> Result<Recorded, StoreError> {
    let (store, action) = (&executor.store, &case.action);
    let ours = step.record.body();
    for sealed in store.records(action.id).await? {
        let known = executor.own_record(&sealed);
        if known.is_some_and(|known| known.state == ours.state && known.action_id == action.id) {
            return Ok(Recorded::Known);
        }
    }
    store.append_outcome(action, step).await?;
    Ok(Recorded::Appended)
}

async fn hold(
    executor: &Executor,
    claimed: &Claimed,
    claim: Claim,
    reason: Reason,
    retry_in: SignedDuration,
) -> Result<(), Failure> {
    let id = claimed.action.id;
    let before = claimed.action.state.held().map(|held| held.reason.code);
    let event = match before == Some(reason.code) {
        true => None,
        false => {
            tracing::info!(action = %id, %reason, "held");
            Some(executor.event(EventName::Held, id, &reason, &Details::new())?)
        }
    };
    let now = executor.clock.now();
    let hold = Hold {
        held: Held { reason, since: now },
        retry_at: now + retry_in,
    };
    executor
        .store
        .hold(id, &claim.lease(), hold, event.as_ref())
        .await?;
    claim.settled();
    Ok(())
}

async fn refuse(
    executor: &Executor,
    claimed: &Claimed,
    claim: Claim,
    reason: Reason,
) -> Result<(), Failure> {
    let id = claimed.action.id;
    let digest = digest_of(&claimed.statement);
    let step = executor.step(
        id,
        digest,
        RecordKind::Refusal,
        StateName::Refused,
        &reason,
        Details::new(),
        executor.clock.now(),
    )?;
    let done = executor
        .store
        .refuse(&claimed.action, &claim.lease(), &step)
        .await?;
    claim.settled();
    if let Transition::Done(_) = done {
        counter!(metric::REFUSALS_TOTAL, "code" => reason.code.as_str()).increment(1);
        tracing::warn!(action = %id, %reason, "refused");
    }
    Ok(())
}

/// Digest of what is stored, also when nobody vouches for it.
pub fn digest_of(statement: &Sealed) -> countersign_domain::Digest {
    statement.digest::<Statement>()
}
