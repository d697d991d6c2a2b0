//! An action's life in sentences: the headline, the five steps, the timeline, and who decided.

use countersign_domain::{
    ActionId, AuditEvent, Author, Channel, Code, EventName, KeyRing, Registry, State, StateName,
    Verb, one_line, visible,
};
use countersign_store::{ActionDetail, AuditRow, DecisionRow};
use jiff::{SignedDuration, Timestamp};

use super::present::{Left, Moment, and_list, name_of, words};
use super::statement::Shown;
use crate::evidence::{self, Standing, Voucher};
use crate::workers::verdict;

/// Longest sentence that is repeated from elsewhere.
const CAP: usize = 600;

/// The first thing that is read.
pub(super) struct Headline {
    /// `wait`, `run`, `good`, `bad` or `odd`.
    pub class: &'static str,
    pub title: String,
    pub sentence: String,
    /// Why it is on hold or ended otherwise than wanted, in the word that all readers get.
    pub code: Option<String>,
    /// Since when it is on hold; the sentence says why.
    pub held: Option<Moment>,
    /// A deadline, and what ends then.
    pub left: Option<(Left, &'static str)>,
}

/// What the executor did is told from its signed record; what the row says of it is not repeated.
pub(super) fn headline(
    detail: &ActionDetail,
    shown: &Shown,
    standing_of_state: &Standing,
    registry: &Registry,
    now: Timestamp,
) -> Headline {
    let action = &detail.action;
    let statement = shown.verified().map(|signed| signed.body());
    let signed = standing_of_state.signed();
    let message = match (signed, action.state.end()) {
        (Some(record), _) => visible(&record.message, CAP),
        (None, Some(end)) => visible(&end.reason.message, CAP),
        (None, None) => String::new(),
    };
    let held = |otherwise: &str| match action.state.held() {
        Some(held) => visible(&held.reason.message, CAP),
        None => otherwise.to_owned(),
    };
    let since = action.state.held().map(|held| Moment {
        at: held.since,
        now,
    });
    let code = match &action.state {
        _ if standing_of_state.is_unsigned() => None,
        State::Failed { .. } | State::Indeterminate { .. } | State::Refused { .. } => {
            signed.map(|record| one_line(&record.code, 40))
        }
        State::Denied { end } | State::Expired { end, .. } => Some(end.reason.code.to_string()),
        state => state.held().map(|held| held.reason.code.to_string()),
    };
    let line = |class, title: &str, sentence: String| Headline {
        class,
        title: title.to_owned(),
        sentence,
        code: code.clone(),
        held: since,
        left: None,
    };
    if standing_of_state.is_unsigned() {
        let sentence = evidence::unsigned_sentence(action.state.name());
        return line("bad", "Not signed by the executor", sentence);
    }
    match &action.state {
        State::Checking { .. } => line(
            "wait",
            "The executor is checking",
            held(
                "It looks at the target itself before anyone is asked. This takes about a second.",
            ),
        ),
        State::Pending { .. } => Headline {
            left: statement.map(|statement| {
                (
                    Left {
                        until: statement.decide_by,
                        now,
                    },
                    "left to decide",
                )
            }),
            ..line(
                "wait",
                "Waiting for a decision",
                held("Nothing happens until a person approves."),
            )
        },
        State::Approved { .. } => {
            let by = and_list(&names(&verdict::standing(&detail.decisions), registry));
            let title = if by.is_empty() {
                "Approved".into()
            } else {
                format!("Approved by {by}")
            };
            Headline {
                class: if action.state.held().is_some() {
                    "odd"
                } else {
                    "run"
                },
                title,
                sentence: held("The executor checks everything once more, then acts."),
                code,
                held: since,
                left: statement.map(|statement| {
                    (
                        Left {
                            until: statement.execute_by,
                            now,
                        },
                        "left to begin",
                    )
                }),
            }
        }
        State::Executing { started_at, .. } => {
            let within = statement.map(|statement| statement.success_deadline());
            Headline {
                left: within.map(|within| {
                    (
                        Left {
                            until: *started_at + within,
                            now,
                        },
                        "left to be verified",
                    )
                }),
                ..line(
                    "run",
                    "Executing",
                    "The pod is being evicted; then the replacement is watched.".to_owned(),
                )
            }
        }
        State::Succeeded {
            started_at, end, ..
        } => {
            let until = signed.map_or(end.at, |record| record.at);
            // To the nearest second, as people round: 1.8 s are 2.
            let half = SignedDuration::from_millis(500);
            let took = words(until.duration_since(*started_at).max(SignedDuration::ZERO) + half);
            line("good", &format!("Verified after {took}"), message)
        }
        State::Failed { .. } => line("bad", "Failed", message),
        State::Indeterminate { .. } => line("odd", "The outcome is not known", message),
        State::Refused { .. } => {
            let title = refused(signed.map_or("", |record| &record.code));
            line("bad", title, message)
        }
        State::Rejected { .. } => match last(&detail.decisions, Verb::Reject) {
            Some(row) => line(
                "bad",
                &format!("Rejected by {}", name_of(registry, &row.person)),
                visible(&row.reason, CAP),
            ),
            None => line("bad", "Rejected", message),
        },
        State::Denied { end } if end.reason.code == Code::AlreadySpent => {
            line("bad", "Denied: it had its one chance before", message)
        }
        State::Denied { .. } => line("bad", "Denied: nobody was asked", message),
        State::Cancelled { .. } => line("odd", "Taken back by the proposer", message),
        State::Expired { end, .. } => {
            let title = match end.reason.code {
                Code::NotExecuted => "Approved, but it could not begin in time",
                Code::NotAdmitted => "The executor did not check it in time",
                _ => "Nobody decided in time",
            };
            line("odd", title, message)
        }
    }
}

/// What a refusal lets us say. That nothing was done is known only where the executor found the
/// one chance of the action unused.
fn refused(code: &str) -> &'static str {
    match code.parse() {
        Ok(Code::AlreadySpent) => "Refused: it had its one chance before",
        Ok(Code::StatementForged) | Err(_) => "Refused by the executor",
        Ok(_) => "Refused by the executor: nothing was done",
    }
}

/// One of the five steps.
pub(super) struct Step {
    pub label: &'static str,
    /// `done`, `now`, `bad`, `odd` or `todo`.
    pub class: &'static str,
}

/// `unsigned`: nothing signed vouches for the state, so nothing is said of what was executed.
pub(super) fn steps(state: &State, unsigned: bool) -> Vec<Step> {
    const LABELS: [&str; 5] = ["Asked", "Checked", "Approved", "Executed", "Verified"];
    let (reached, class, label) = match state {
        _ if unsigned => (3, "bad", "Unsigned"),
        State::Checking { .. } => (1, "now", "Checking"),
        State::Pending { .. } => (2, "now", "Waiting"),
        State::Approved { held: None, .. } => (3, "now", "Starting"),
        State::Approved { .. } => (3, "odd", "On hold"),
        State::Executing { .. } => (4, "now", "Verifying"),
        State::Succeeded { .. } => (4, "done", "Verified"),
        State::Failed { .. } => (4, "bad", "Failed"),
        State::Indeterminate { .. } => (4, "odd", "Not known"),
        State::Refused { .. } => (3, "bad", "Refused"),
        State::Rejected { .. } => (2, "bad", "Rejected"),
        State::Denied { .. } => (1, "bad", "Denied"),
        State::Cancelled { statement, .. } => {
            (if statement.is_some() { 2 } else { 1 }, "odd", "Taken back")
        }
        State::Expired { end, .. } => match end.reason.code {
            Code::NotExecuted => (3, "odd", "Expired"),
            Code::NotAdmitted => (1, "odd", "Expired"),
            _ => (2, "odd", "Expired"),
        },
    };
    LABELS
        .iter()
        .enumerate()
        .map(|(index, usual)| match index.cmp(&reached) {
            std::cmp::Ordering::Less => Step {
                label: usual,
                class: "done",
            },
            std::cmp::Ordering::Equal => Step { label, class },
            std::cmp::Ordering::Greater => Step {
                label: usual,
                class: "todo",
            },
        })
        .collect()
}

fn names(rows: &[&DecisionRow], registry: &Registry) -> Vec<String> {
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| name_of(registry, &row.person))
        .collect();
    names.dedup();
    names
}

fn last(decisions: &[DecisionRow], verb: Verb) -> Option<&DecisionRow> {
    decisions
        .iter()
        .filter(|row| row.verb == verb)
        .max_by_key(|row| row.decided_at)
}

/// What the loser of a race is told: who decided, how and when.
pub(super) fn already(detail: &ActionDetail, registry: &Registry) -> String {
    let row = match detail.action.state.name() {
        StateName::Rejected => last(&detail.decisions, Verb::Reject),
        StateName::Approved
        | StateName::Executing
        | StateName::Indeterminate
        | StateName::Succeeded
        | StateName::Failed
        | StateName::Refused => verdict::standing(&detail.decisions)
            .into_iter()
            .max_by_key(|row| row.decided_at),
        _ => detail.decisions.iter().max_by_key(|row| row.decided_at),
    };
    let state = detail.action.state.name();
    match (row, state) {
        (_, StateName::Cancelled) => "The proposer has taken it back.".to_owned(),
        (_, StateName::Expired) => "Its time is over.".to_owned(),
        (Some(row), _) => format!(
            "{} {} it at {} UTC {}. Its state is now: {state}.",
            name_of(registry, &row.person),
            past(row.verb),
            row.decided_at.strftime("%H:%M:%S"),
            place(row.channel),
        ),
        (None, _) => format!("Its state is now: {state}."),
    }
}

pub(super) const fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Approve => "approved",
        Verb::Reject => "rejected",
        Verb::Withdraw => "withdrew the approval of",
    }
}

pub(super) const fn place(channel: Channel) -> &'static str {
    match channel {
        Channel::Web => "on this page",
        Channel::Jira => "in Jira",
    }
}

/// One line of the timeline.
pub(super) struct Line {
    pub at: Moment,
    pub who: String,
    pub what: &'static str,
    pub note: String,
    pub voucher: Voucher,
}

pub(super) fn timeline(
    id: ActionId,
    rows: &[AuditRow],
    keys: &KeyRing,
    registry: &Registry,
    now: Timestamp,
) -> Vec<Line> {
    let id = id.to_string();
    rows.iter()
        // Every poll of the AI is a tool call: they stand in the audit log.
        .filter(|row| row.event.event != EventName::ToolCalled)
        .map(|row| {
            let voucher = match evidence::voucher(row, keys) {
                // Genuine, about another action, and put here.
                Voucher::Executor if row.event.action_id != id => Voucher::Nobody,
                voucher => voucher,
            };
            Line {
                at: Moment {
                    at: row.event.at,
                    now,
                },
                who: actor(&row.event, registry),
                what: what(row.event.event),
                note: match voucher {
                    Voucher::Nobody => String::new(),
                    Voucher::Server | Voucher::Executor => note(&row.event),
                },
                voucher,
            }
        })
        .collect()
}

pub(super) fn actor(event: &AuditEvent, registry: &Registry) -> String {
    match event.author {
        Author::Executor => "executor".to_owned(),
        Author::Server => name_of(registry, &event.actor),
    }
}

/// What happened, as a predicate of the actor.
pub(super) const fn what(event: EventName) -> &'static str {
    match event {
        EventName::ToolCalled => "called a tool",
        EventName::Proposed => "asked for it",
        EventName::Admitted => "checked the target and wrote the statement",
        EventName::Denied => "denied it",
        EventName::Viewed => "looked at it",
        EventName::Decided => "answered",
        EventName::DecisionRefused => "tried to decide and was refused",
        EventName::Approved => "approved it",
        EventName::Reopened => "withdrew an approval; it waits again",
        EventName::Rejected => "rejected it",
        EventName::Cancelled => "took it back",
        EventName::Expired => "let it expire",
        EventName::Held => "put it on hold",
        EventName::Refused => "refused to run it",
        EventName::Executing => "began to execute",
        EventName::Succeeded => "verified the outcome",
        EventName::Failed => "reported a failure",
        EventName::Indeterminate => "could not tell the outcome",
        EventName::TicketOpened => "opened the ticket",
        EventName::TicketUpdated => "updated the ticket",
        EventName::Notified => "notified people",
        EventName::LoggedIn => "logged in",
        EventName::LogInFailed => "failed to log in",
        EventName::LoggedOut => "logged out",
    }
}

fn note(event: &AuditEvent) -> String {
    let verb = event
        .details
        .get("verb")
        .filter(|_| event.event == EventName::Decided);
    let text = ["message", "reason", "ticket"]
        .into_iter()
        .find_map(|key| event.details.get(key).filter(|value| !value.is_empty()));
    if let (EventName::Notified, Some(moment)) = (event.event, event.details.get("moment")) {
        let receiver = event.details.get("receiver").map_or("", String::as_str);
        return one_line(&format!("{moment} ({receiver})"), CAP);
    }
    match (verb, text) {
        (Some(verb), Some(text)) => one_line(&format!("{verb}: {text}"), CAP),
        (Some(verb), None) => one_line(verb, CAP),
        (None, Some(text)) => one_line(text, CAP),
        (None, None) => String::new(),
    }
}
