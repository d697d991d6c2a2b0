//! Admission: the executor looks for itself and writes the question, or denies the proposal.
//!
//! Of the proposal only the place, the uid, the parameters and the agent are believed to be what
//! was asked for; everything that the statement asserts was read here.

use countersign_domain::{
    Action, ActionKind, Code, Count, EventName, Held, Inverse, Reason, RestartMode, Rule, Signed,
    Statement, Subject, Success,
};
use countersign_integrations::kubernetes::{KubeError, NotRestartable, restartable};
use countersign_store::{Hold, StoreError, ToAdmit, Transition};
use countersign_telemetry::metric;
use jiff::{SignedDuration, Timestamp};
use metrics::counter;

use crate::cluster::Preview;
use crate::executor::{Executor, Failure};
use crate::facts::{self, Seen};
use crate::health::ADMISSIONS_TOTAL;
use crate::lease::Claim;
use crate::record::Details;
use crate::{crash, rules::Rules};

/// How long to wait before an unreachable source is asked again, at first and at most: each time as
/// long as it has lasted already, so that what hangs comes behind what does not.
const RETRY: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_RETRY: SignedDuration = SignedDuration::from_secs(15);

/// Why there is no statement.
enum No {
    /// Final: the proposal ends.
    Denied(Reason),
    /// Nothing was learnt; asked again while the proposal lives.
    NotYet(Reason),
}

fn denied<T>(code: Code, message: impl Into<String>) -> Result<T, No> {
    Err(No::Denied(Reason::new(code, message)))
}

/// Admits or denies one proposal.
pub async fn admit(executor: &Executor, work: ToAdmit) -> Result<(), Failure> {
    let claim = Claim::keep(executor, work.action.id, work.lease.clone());
    let id = work.action.id;
    match judge(executor, &work.action).await {
        Ok(statement) => {
            let statement = Signed::sign(statement, &executor.signer)?;
            let rule = &statement.body().rule;
            let event = executor.admitted_event(id, &statement.digest(), rule)?;
            crash::point("admission.before");
            let done = match executor.store.admit(&work, &statement, &event).await {
                // A row that cannot be admitted, whatever was done to it: others come first.
                Err(error @ StoreError::Database { .. }) => {
                    return put_off(executor, &work, claim, unwritable(&error)).await;
                }
                done => done?,
            };
            crash::point("admission.after");
            claim.settled();
            if let Transition::Done(_) = done {
                counter!(ADMISSIONS_TOTAL).increment(1);
                tracing::info!(action = %id, rule, digest = %statement.digest(), "admitted");
            }
        }
        Err(No::Denied(reason)) => {
            let event = executor.event(EventName::Denied, id, &reason, &Details::new())?;
            let done = executor.store.deny(&work, &reason, &event).await?;
            claim.settled();
            if let Transition::Done(_) = done {
                counter!(metric::REFUSALS_TOTAL, "code" => reason.code.as_str()).increment(1);
                tracing::info!(action = %id, %reason, "denied");
            }
        }
        Err(No::NotYet(reason)) => return put_off(executor, &work, claim, reason).await,
    }
    Ok(())
}

async fn put_off(
    executor: &Executor,
    work: &ToAdmit,
    claim: Claim,
    reason: Reason,
) -> Result<(), Failure> {
    let (id, now) = (work.action.id, executor.clock.now());
    tracing::warn!(action = %id, %reason, "cannot be admitted yet");
    let hold = Hold {
        retry_at: now + retry_in(work.action.state.held(), &reason, now),
        held: Held { reason, since: now },
    };
    executor.store.hold(id, &claim.lease(), hold, None).await?;
    claim.settled();
    Ok(())
}

/// Gives back a claim whose agent has its share of admissions under way.
pub async fn park(
    executor: &Executor,
    work: &ToAdmit,
    retry_in: SignedDuration,
) -> Result<(), StoreError> {
    let reason = Reason::new(
        Code::RateLimited,
        "other proposals of this agent are being checked first",
    );
    let now = executor.clock.now();
    let hold = Hold {
        held: Held { reason, since: now },
        retry_at: now + retry_in,
    };
    executor
        .store
        .hold(work.action.id, &work.lease, hold, None)
        .await
        .map(drop)
}

fn retry_in(before: Option<&Held>, reason: &Reason, now: Timestamp) -> SignedDuration {
    before
        .filter(|held| held.reason.code == reason.code)
        .map_or(RETRY, |held| now.duration_since(held.since))
        .clamp(RETRY, LONGEST_RETRY)
}

async fn judge(executor: &Executor, action: &Action) -> Result<Statement, No> {
    // What is wrong with them could be a revocation.
    if let Some(reason) = executor.watched.unusable() {
        return Err(No::NotYet(reason));
    }
    let rules = executor.watched.rules();
    let proposal = &action.proposal;
    let target = &proposal.target;
    let ActionKind::RestartPod = proposal.kind;
    check_words(executor, action, &rules)?;

    let register = &executor.capabilities.register;
    let (pod, uid, time, spent) = tokio::join!(
        executor.reader.get_pod(&target.namespace, &target.name),
        executor.reader.kube_system_uid(),
        executor.api_time(),
        register.look(action.id),
    );
    // All times of the statement are our clock's.
    if let Some(skew) = time.map_err(not_yet)?.skew() {
        return Err(No::NotYet(Reason::new(Code::ClockSkew, skew)));
    }
    if uid.map_err(not_yet)? != executor.cluster.kube_system_uid {
        return denied(
            Code::WrongCluster,
            "the cluster behind this executor is another one now",
        );
    }
    if spent
        .map_err(|error| unreachable(&error.to_string()))?
        .is_some()
    {
        return denied(
            Code::AlreadySpent,
            "the cluster's register says that this action has had its one chance already",
        );
    }
    let place = format!("{}/{}", target.namespace, target.name);
    let pod = match pod {
        Ok(pod) if pod.uid == target.uid => pod,
        Ok(pod) => {
            return denied(
                Code::TargetMissing,
                format!(
                    "asked for uid {}; pod {place} now has uid {}",
                    target.uid, pod.uid
                ),
            );
        }
        Err(KubeError::NotFound { .. }) => {
            return denied(Code::TargetMissing, format!("pod {place} does not exist"));
        }
        Err(KubeError::Invalid { problem }) => return denied(Code::TargetMissing, problem),
        Err(error) => return Err(not_yet(error)),
    };
    let subject = Subject {
        kind: proposal.kind,
        cluster: &executor.cluster.id,
        namespace: &pod.namespace,
        labels: &pod.labels,
    };
    let Some(rule) = rules.policy.rule_for(subject) else {
        return denied(
            Code::NoRule,
            format!(
                "no rule of the executor's policy allows {} of pod {place}",
                proposal.kind
            ),
        );
    };

    let owner_uid = pod.owner.as_ref().map_or("", |owner| owner.uid.as_str());
    let (owner, pdbs, family, dry_run) = tokio::join!(
        executor.reader.owner_of(&pod),
        executor.reader.list_pdbs(&pod.namespace),
        executor
            .reader
            .list_pods_of_controller(&pod.namespace, owner_uid),
        executor.capabilities.dry_run.evict(
            action.id,
            &pod.namespace,
            &pod.name,
            &pod.uid,
            &pod.resource_version,
        ),
    );
    let owner = owner.map_err(not_yet)?;
    restartable(&pod, &owner).map_err(|why| {
        let code = match why {
            NotRestartable::NoController => Code::NoController,
            NotRestartable::OwnerGone { .. } => Code::OwnerGone,
            NotRestartable::MirrorPod => Code::MirrorPod,
            NotRestartable::Terminating { .. } => Code::Terminating,
        };
        No::Denied(Reason::new(code, format!("pod {place}: {why}")))
    })?;
    let Some(controller) = &pod.owner else {
        return denied(Code::NoController, format!("pod {place} has no controller"));
    };
    match &dry_run {
        Preview::Accepted | Preview::OverBudget(_) => {}
        Preview::Rejected(why) => {
            return denied(
                Code::DryRunRejected,
                format!("the cluster would not evict pod {place}: {why}"),
            );
        }
        // Read again: it is alive and moving.
        Preview::Changed(why) | Preview::Unreachable(why) => return Err(unreachable(why)),
    }

    let now = executor.clock.now();
    let seen = Seen {
        pod: &pod,
        owner: &owner,
        family: &family.map_err(not_yet)?,
        pdbs: &pdbs.map_err(not_yet)?,
        dry_run: &dry_run,
        now,
    };
    Ok(Statement {
        v: "1".to_owned(),
        kid: executor.signer.kid().to_owned(),
        action_id: action.id,
        cluster: executor.cluster.clone(),
        kind: proposal.kind,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        params: [("mode".to_owned(), RestartMode::Evict.as_str().to_owned())].into(),
        facts: facts::facts(&seen),
        predicates: facts::predicates(&pod, &facts::owner_ref(controller), now),
        success: Success::ReplacementReady {
            deadline_seconds: seconds(rule),
        },
        inverse: Inverse::None {
            because: "an evicted pod does not come back; its controller makes a new one".to_owned(),
        },
        agent: proposal.agent.clone(),
        on_behalf_of: rules
            .registry
            .agent(&proposal.agent)
            .map(|agent| agent.people.clone())
            .unwrap_or_default(),
        rule: rule.name.clone(),
        risk: rule.risk,
        require: rule.require.clone(),
        self_approval: if rule.allow_requester {
            "allowed"
        } else {
            "forbidden"
        }
        .to_owned(),
        policy_hash: rules.policy.hash(),
        admitted_at: now,
        decide_by: now + rule.decide_within,
        execute_by: now + rule.decide_within + rule.execute_within,
    })
}

/// What can be denied before anything is read.
fn check_words(executor: &Executor, action: &Action, rules: &Rules) -> Result<(), No> {
    let proposal = &action.proposal;
    let target = &proposal.target;
    if target.cluster != executor.cluster.id {
        return denied(
            Code::WrongCluster,
            format!("this executor serves cluster {}", executor.cluster.id),
        );
    }
    for (key, value) in &proposal.params {
        if key != "mode" || value.parse::<RestartMode>().is_err() {
            return denied(
                Code::NotAdmitted,
                "a restart knows one parameter only: mode=evict",
            );
        }
    }
    if rules.registry.agent(&proposal.agent).is_none() {
        return denied(
            Code::UnknownAgent,
            "this agent is not in the executor's registry: add it with the people who can speak \
             through it",
        );
    }
    // With the labels that each rule wants: a rule that does not even match so can never match.
    let possible = rules.policy.rules.iter().any(|rule| {
        rule.matches(Subject {
            kind: proposal.kind,
            cluster: &target.cluster,
            namespace: &target.namespace,
            labels: &rule.labels,
        })
    });
    if !possible {
        return denied(
            Code::NoRule,
            format!(
                "no rule of the executor's policy allows {} in this namespace of cluster {}",
                proposal.kind, target.cluster
            ),
        );
    }
    Ok(())
}

fn seconds(rule: &Rule) -> Count {
    // A policy allows at most a day.
    Count(u32::try_from(rule.success_within.as_secs()).unwrap_or(u32::MAX))
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn not_yet(error: KubeError) -> No {
    unreachable(&error.to_string())
}

fn unwritable(error: &StoreError) -> Reason {
    let why = format!("the admission cannot be stored: {error}");
    Reason::new(Code::SourceUnreachable, why)
}

fn unreachable(why: &str) -> No {
    No::NotYet(Reason::new(
        Code::SourceUnreachable,
        format!("cannot be checked now: {why}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_pod::at;

    #[test]
    fn what_hangs_is_tried_ever_more_seldom() {
        let reason = |code| Reason::new(code, "slow");
        let held = Held {
            reason: reason(Code::SourceUnreachable),
            since: at("10:00"),
        };
        let again = |code, now| retry_in(Some(&held), &reason(code), at(now)).as_secs();
        assert_eq!(retry_in(None, &held.reason, at("10:00")), RETRY);
        assert_eq!(again(Code::SourceUnreachable, "10:00"), 1);
        assert_eq!(again(Code::SourceUnreachable, "10:04"), 4);
        assert_eq!(again(Code::SourceUnreachable, "11:00"), 15);
        assert_eq!(again(Code::SourceUnreachable, "09:00"), 1, "set back");
        assert_eq!(again(Code::ClockSkew, "10:04"), 1, "another reason");
    }
}
