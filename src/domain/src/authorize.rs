//! From evidence to permission. [`authorize`] is the only maker of [`Authorized`], and the cluster
//! writer takes an `Authorized` by move: a row that says "approved" is not enough.
//!
//! It answers with permission, with *hold* (something is missing and may still come) or with
//! *refuse* (a positive contradiction: nothing that comes later can make it right).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::action::ActionKind;
use crate::canonical::{Digest, digest_text};
use crate::decision::{Channel, Decision, Verb};
use crate::ids::ActionId;
use crate::policy::{Policy, Requirement, Subject, Tier};
use crate::quorum::{Seat, seats_missing};
use crate::reason::{Code, Reason};
use crate::registry::Registry;
use crate::signing::{KeyRing, Sealed, Signed};
use crate::statement::{ClusterRef, OwnerRef, Predicate, Statement};

/// Clocks that differ by more than this are not compared at all.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// By so much Jira's clock, which is compared with no other, may be behind for a "no" to count.
pub const SKEW_OF_A_NO: SignedDuration = SignedDuration::from_mins(5);
/// What was seen longer ago than this is looked at again.
const FRESH: SignedDuration = SignedDuration::from_secs(10);
/// Permission is short: the facts behind it grow old.
const AUTHORIZED_FOR: SignedDuration = SignedDuration::from_secs(15);

/// A decision as stored: the signed object, and the reason's text beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDecision {
    pub sealed: Sealed,
    pub reason: String,
}

/// The executor's own look at the ticket: the latest status change of all, when it led to an
/// approving or declining status and the ticket still says what the statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JiraMove {
    pub verb: Verb,
    /// Jira account id of the change's author.
    pub account: String,
    pub at: Timestamp,
}

/// What the executor itself sees right now.
#[derive(Debug, Clone)]
pub struct LiveFacts {
    pub cluster: ClusterRef,
    /// `None`: the API server says that no pod has this name.
    pub pod: Option<LivePod>,
    /// The API server's `Date` header, whole seconds.
    pub server_date: Timestamp,
    /// The executor's own clock when that header arrived: these two are compared. All the rest of
    /// what was seen is about as old.
    pub date_read_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct LivePod {
    pub uid: String,
    pub resource_version: String,
    pub owner: Option<OwnerRef>,
    pub labels: BTreeMap<String, String>,
    pub ready: bool,
    /// When a container of it last ended with an error, or since when one cannot start.
    pub last_failure_at: Option<Timestamp>,
    pub terminating: bool,
}

/// Everything that [`authorize`] weighs.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub action_id: ActionId,
    /// The executor's own pinned cluster.
    pub cluster: &'a ClusterRef,
    pub statement: &'a Sealed,
    /// The executor's own keys.
    pub executor_keys: &'a KeyRing,
    pub decisions: &'a [StoredDecision],
    /// Public keys of the servers whose attestations count.
    pub attestation_keys: &'a KeyRing,
    pub jira: Option<&'a JiraMove>,
    pub live: &'a LiveFacts,
    pub policy: &'a Policy,
    pub registry: &'a Registry,
    pub now: Timestamp,
}

/// Why there is no permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Something is missing; look again until `execute_by`.
    Hold(Reason),
    /// A positive contradiction; final.
    Refuse(Reason),
}

impl Verdict {
    pub const fn reason(&self) -> &Reason {
        match self {
            Self::Hold(reason) | Self::Refuse(reason) => reason,
        }
    }
}

fn hold<T>(code: Code, message: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Hold(Reason::new(code, message)))
}

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Refuse(Reason::new(code, message)))
}

/// Permission to make exactly one write, soon. It can be handed on; it cannot be copied, stored or made
/// by hand.
///
/// ```
/// # use countersign_domain::Authorized;
/// fn hand_on(permission: Authorized) -> Authorized {
///     permission
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use countersign_domain::Authorized;
/// fn copies<T: Clone>() {}
/// copies::<Authorized>();
/// ```
///
/// ```compile_fail,E0451
/// # use countersign_domain::Authorized;
/// fn make_by_hand(permission: Authorized) -> Authorized {
///     Authorized { ..permission }
/// }
/// ```
#[derive(Debug)]
pub struct Authorized {
    statement: Signed<Statement>,
    resource_version: String,
    approvals: Vec<Decision>,
    expires_at: Timestamp,
}

impl Authorized {
    pub fn statement(&self) -> &Statement {
        self.statement.body()
    }

    pub fn digest(&self) -> Digest {
        self.statement.digest()
    }

    /// The target's resource version as just read: the write's precondition.
    pub fn resource_version(&self) -> &str {
        &self.resource_version
    }

    /// The approvals that fill the seats, for the record. Those of channel `jira` were derived here
    /// and are for the executor to sign.
    pub fn approvals(&self) -> &[Decision] {
        &self.approvals
    }

    /// Nothing may be sent at or after this instant.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// Weighs the evidence. Contradictions come before gaps, so that what is wrong is never hidden
/// behind what is merely missing.
pub fn authorize(evidence: Evidence<'_>) -> Result<Authorized, Verdict> {
    let now = evidence.now;
    let signed = open_statement(&evidence)?;
    let statement = signed.body();
    if evidence.registry.denies(&evidence.action_id.to_string())
        || evidence.registry.denies(&signed.digest().to_string())
    {
        return refuse(
            Code::DenyListed,
            "an administrator put this action on the deny list",
        );
    }
    if now >= statement.execute_by {
        return refuse(
            Code::TooLate,
            format!(
                "it was to begin before {}; it is {now}",
                statement.execute_by
            ),
        );
    }
    let approvals = weigh_decisions(&evidence, &signed)?;
    let pod = check_target(statement, evidence.live, now)?;

    // From here on: gaps. They may close until execute_by.
    let LiveFacts {
        server_date,
        date_read_at,
        ..
    } = evidence.live;
    let skew = date_read_at.duration_since(*server_date).abs();
    if skew > SKEW {
        return hold(
            Code::ClockSkew,
            format!(
                "the executor's clock and the API server's differ by {} s",
                skew.as_secs()
            ),
        );
    }
    if now.duration_since(*date_read_at).abs() > FRESH {
        return hold(
            Code::SourceUnreachable,
            "the cluster answered so slowly that what was seen is too old",
        );
    }
    if statement.admitted_at.duration_since(now) > SKEW {
        return hold(
            Code::ClockSkew,
            "the statement was admitted in this clock's future",
        );
    }
    if let Some(freeze) = &evidence.policy.freeze {
        return hold(
            Code::Frozen,
            format!("changes are frozen: {}", freeze.reason),
        );
    }
    if evidence.registry.agent(&statement.agent).is_none() {
        return hold(
            Code::UnknownAgent,
            format!(
                "agent `{}` is no longer in the executor's registry",
                statement.agent
            ),
        );
    }
    let subject = Subject {
        kind: statement.kind,
        cluster: &statement.cluster.id,
        namespace: &statement.namespace,
        labels: &pod.labels,
    };
    let Some(rule) = evidence.policy.rule_for(subject) else {
        return hold(
            Code::PolicyUnmet,
            "no rule of today's policy allows this action any more",
        );
    };
    let today = evidence.registry;
    let mut seats = Vec::new();
    let mut counted = Vec::new();
    let mut dropped: Option<Reason> = None;
    for decision in approvals {
        match eligible(statement, &decision.person, decision.channel, today, now) {
            // Today's rule may have taken back what the signed statement allowed.
            Ok(_) if !rule.allow_requester && behind(statement, &decision.person, today) => {
                dropped.get_or_insert_with(|| own_action(&decision.person));
            }
            Ok(seat) => {
                seats.push(seat);
                counted.push(decision);
            }
            Err(reason) => {
                dropped.get_or_insert(reason);
            }
        }
    }
    enough(&statement.require, &seats, dropped.as_ref(), "")?;
    enough(
        &rule.require,
        &seats,
        dropped.as_ref(),
        " under today's policy",
    )?;

    Ok(Authorized {
        resource_version: pod.resource_version.clone(),
        approvals: counted,
        expires_at: (now + AUTHORIZED_FOR).min(statement.execute_by),
        statement: signed,
    })
}

/// May this person fill a seat of this statement through this channel? The server asks before it
/// offers the form, the executor before it counts the answer.
pub fn eligible(
    statement: &Statement,
    person: &str,
    channel: Channel,
    registry: &Registry,
    at: Timestamp,
) -> Result<Seat, Reason> {
    let Some(known) = registry.valid_person(person, at) else {
        return Err(Reason::new(
            Code::NotEligible,
            format!("`{person}` is not (or not now) in the registry of approvers"),
        ));
    };
    if behind(statement, person, registry) && !statement.self_approval_allowed() {
        return Err(own_action(person));
    }
    let seat = Seat {
        person: known.id.clone(),
        groups: known.groups.clone(),
        tier: Tier::Attested,
        channel,
    };
    let fits = statement.require.iter().any(|entry| {
        seats_missing(
            &[Requirement {
                count: crate::Count(1),
                ..entry.clone()
            }],
            std::slice::from_ref(&seat),
        ) == 0
    });
    if fits {
        Ok(seat)
    } else {
        let wanted: Vec<String> = statement
            .require
            .iter()
            .map(|entry| {
                let channels: Vec<&str> = entry.channels.iter().map(|c| c.as_str()).collect();
                format!(
                    "{} of {} ({})",
                    entry.count,
                    entry.group,
                    channels.join(" or ")
                )
            })
            .collect();
        Err(Reason::new(
            Code::NotEligible,
            format!(
                "needed: {}; `{person}` fills none of these seats",
                wanted.join(", ")
            ),
        ))
    }
}

fn behind(statement: &Statement, person: &str, registry: &Registry) -> bool {
    person == statement.agent
        || statement.on_behalf_of.iter().any(|id| id == person)
        || registry.is_behind(person, &statement.agent)
}

fn own_action(person: &str) -> Reason {
    Reason::new(
        Code::SelfApproval,
        format!("`{person}` can speak through the agent that asked, and may not approve it"),
    )
}

fn open_statement(evidence: &Evidence<'_>) -> Result<Signed<Statement>, Verdict> {
    // The key that signed must have been valid when it signed; the body tells when that was, and
    // is only believed once the signature fits.
    let claimed: Option<Timestamp> = serde_json::from_str::<Statement>(&evidence.statement.json)
        .ok()
        .map(|statement| statement.admitted_at);
    let at = claimed.unwrap_or(evidence.now);
    let signed = match evidence
        .statement
        .open::<Statement>(evidence.executor_keys, at)
    {
        Ok(signed) => signed,
        Err(error) => {
            return refuse(
                Code::StatementForged,
                format!("the stored statement is not one that this executor signed: {error}"),
            );
        }
    };
    let statement = signed.body();
    if statement.v != "1" || statement.kid != evidence.statement.kid {
        return refuse(
            Code::StatementForged,
            "the statement's version or key id does not fit",
        );
    }
    if statement.action_id != evidence.action_id {
        return refuse(
            Code::StatementMismatch,
            format!(
                "the stored statement belongs to action {}",
                statement.action_id
            ),
        );
    }
    if &statement.cluster != evidence.cluster || statement.cluster != evidence.live.cluster {
        return refuse(
            Code::WrongCluster,
            format!(
                "the statement is for cluster {} ({}), this executor serves {} ({})",
                statement.cluster.id,
                statement.cluster.kube_system_uid,
                evidence.cluster.id,
                evidence.live.cluster.kube_system_uid,
            ),
        );
    }
    Ok(signed)
}

/// Verifies every stored decision and the ticket. Returns approvals that stand; refuses on the
/// first forged one and on any standing rejection.
fn weigh_decisions(
    evidence: &Evidence<'_>,
    signed: &Signed<Statement>,
) -> Result<Vec<Decision>, Verdict> {
    let statement = signed.body();
    let digest = signed.digest();
    let mut standing: Vec<Decision> = Vec::new();
    let mut withdrawn: Vec<String> = Vec::new();
    for stored in evidence.decisions {
        // The attestation key must be valid today: revoking it takes its approvals back.
        let decision = match stored
            .sealed
            .open::<Decision>(evidence.attestation_keys, evidence.now)
        {
            Ok(opened) => opened.body().clone(),
            Err(error) => {
                return refuse(
                    Code::DecisionForged,
                    format!("a stored decision was not attested by a known server: {error}"),
                );
            }
        };
        if decision.v != "1" || decision.statement != digest || decision.channel != Channel::Web {
            return refuse(
                Code::DecisionForged,
                "a stored decision was made for another statement or another channel",
            );
        }
        if decision.reason_digest != digest_text(&stored.reason) {
            return refuse(
                Code::DecisionForged,
                "the reason stored with a decision was altered",
            );
        }
        let in_time = decision.decided_at <= statement.decide_by
            // Differences, never sums: a time near the end of the calendar must not overflow.
            && statement.admitted_at.duration_since(decision.decided_at) <= SKEW
            && decision.decided_at.duration_since(evidence.now) <= SKEW
            && evidence.now < decision.valid_until.min(statement.execute_by);
        match decision.verb {
            Verb::Approve if in_time => standing.push(decision),
            Verb::Approve => {}
            Verb::Withdraw => withdrawn.push(decision.person),
            Verb::Reject => return rejected(statement, evidence, &decision.person),
        }
    }
    if let Some(moved) = evidence.jira {
        // What was said before is an answer to something else. A "no" counts when in doubt: however far
        // Jira's clock is behind, and from whoever could say it then.
        let (skew, valid_at) = match moved.verb {
            Verb::Reject => (SKEW_OF_A_NO, moved.at),
            _ => (SKEW, evidence.now),
        };
        let to_this = statement.admitted_at.duration_since(moved.at) <= skew;
        let registry = evidence.registry;
        let person = match registry.valid_jira_account(&moved.account, valid_at) {
            Some(person) if to_this && !registry.is_jira_bot(&moved.account) => Some(person),
            _ => None,
        };
        let in_time = moved.at <= statement.decide_by;
        match (person, moved.verb) {
            (Some(person), Verb::Reject) => return rejected(statement, evidence, &person.id),
            (Some(person), Verb::Approve) if in_time => standing.push(Decision {
                v: "1".to_owned(),
                statement: digest,
                verb: Verb::Approve,
                person: person.id.clone(),
                channel: Channel::Jira,
                reason_digest: digest_text(""),
                decided_at: moved.at,
                valid_until: statement.execute_by,
            }),
            _ => {}
        }
    }
    standing.retain(|decision| !withdrawn.contains(&decision.person));
    Ok(standing)
}

/// Anyone whom the registry knows may say no, also those who may not say yes.
fn rejected<T>(statement: &Statement, evidence: &Evidence<'_>, person: &str) -> Result<T, Verdict> {
    let name = evidence
        .registry
        .person(person)
        .map_or(person, |known| known.name.as_str());
    refuse(
        Code::WasRejected,
        format!("{name} rejected {}", statement.kind),
    )
}

fn check_target<'a>(
    statement: &Statement,
    live: &'a LiveFacts,
    now: Timestamp,
) -> Result<&'a LivePod, Verdict> {
    let ActionKind::RestartPod = statement.kind;
    let place = format!("{}/{}", statement.namespace, statement.name);
    let Some(pod) = &live.pod else {
        return refuse(
            Code::TargetReplaced,
            format!(
                "approved for uid {}; pod {place} no longer exists",
                statement.uid
            ),
        );
    };
    if pod.uid != statement.uid {
        return refuse(
            Code::TargetReplaced,
            format!(
                "approved for uid {}; pod {place} now has uid {}",
                statement.uid, pod.uid
            ),
        );
    }
    if pod.terminating {
        return refuse(
            Code::Terminating,
            format!("pod {place} is already being deleted"),
        );
    }
    for predicate in &statement.predicates {
        match predicate {
            Predicate::Uid { uid } if *uid != pod.uid => {
                return refuse(Code::TargetReplaced, format!("pod {place} has another uid"));
            }
            Predicate::Owner { owner } if pod.owner.as_ref() != Some(owner) => {
                let found = pod.owner.as_ref().map_or_else(
                    || "no controller".to_owned(),
                    |owner| format!("{} {} ({})", owner.kind, owner.name, owner.uid),
                );
                return refuse(
                    Code::OwnerChanged,
                    format!(
                        "approved under {} {} ({}); pod {place} now has {found}",
                        owner.kind, owner.name, owner.uid
                    ),
                );
            }
            Predicate::Unhealthy { window_seconds } => {
                let window = SignedDuration::from_secs(i64::from(window_seconds.0));
                let failed_recently = pod
                    .last_failure_at
                    .is_some_and(|at| now.duration_since(at) <= window);
                if pod.ready && !failed_recently {
                    return refuse(
                        Code::Recovered,
                        format!(
                            "approved because pod {place} was failing; it is Ready and has not \
                             failed in the last {} min",
                            window_seconds.0 / 60
                        ),
                    );
                }
            }
            Predicate::Uid { .. } | Predicate::Owner { .. } => {}
        }
    }
    // Without these two the statement would not say which object it means.
    if statement.owner().is_none() {
        return refuse(Code::StatementMismatch, "the statement names no controller");
    }
    Ok(pod)
}

fn enough(
    require: &[Requirement],
    seats: &[Seat],
    dropped: Option<&Reason>,
    which: &str,
) -> Result<(), Verdict> {
    let missing = if require.is_empty() {
        1
    } else {
        seats_missing(require, seats)
    };
    if missing == 0 {
        return Ok(());
    }
    match dropped {
        Some(reason) => Err(Verdict::Hold(reason.clone())),
        None => hold(
            Code::MissingEvidence,
            format!("{missing} approval(s) that the executor can verify are missing{which}"),
        ),
    }
}
