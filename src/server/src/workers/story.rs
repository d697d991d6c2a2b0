//! What to tell at each moment of an action's life, in one sentence. Ticket and notifications say
//! the same. The sentence belongs to the moment, not to the action as it is now: after an
//! outage the whole story is told in its order.

use countersign_domain::{Channel, EventName, KeyRing, Registry, StateName, Verb, one_line};
use countersign_store::{ActionDetail, DecisionRow};

use super::{evidence, verdict};

/// Longest piece of foreign text in a sentence, in characters.
const CAP: usize = 500;

/// A moment as the outbox names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Admitted: people are asked.
    Asked,
    /// Time runs out.
    Reminder,
    /// Nothing moves just now.
    Held,
    State(StateName),
}

impl Moment {
    /// `None`: a word that this version does not know.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "asked" => Some(Self::Asked),
            "reminder" => Some(Self::Reminder),
            // `held`, or `held.` and the reason's code.
            held if held.split('.').next() == Some("held") => Some(Self::Held),
            state => state.parse().ok().map(Self::State),
        }
    }
}

/// The sentence of the moment. Plain text on one line, hidden characters shown, capped.
pub fn sentence(
    detail: &ActionDetail,
    moment: Moment,
    registry: &Registry,
    keys: &KeyRing,
) -> String {
    use StateName as S;
    let text = match moment {
        Moment::Asked => "A person has to decide.".to_owned(),
        Moment::Reminder => "Nobody has decided yet, and the time runs out.".to_owned(),
        Moment::Held => held(detail),
        Moment::State(S::Approved) => approved(detail, registry),
        Moment::State(S::Rejected) => rejected(detail, registry),
        Moment::State(S::Pending) => withdrawn(detail, registry),
        Moment::State(S::Executing) => began(detail, keys),
        Moment::State(state @ (S::Succeeded | S::Failed | S::Indeterminate | S::Refused)) => {
            outcome(detail, state, keys)
        }
        Moment::State(state) => ended(detail, state),
    };
    one_line(&text, 4 * CAP)
}

/// Why it ended so, for programs.
pub struct Why {
    pub code: Option<String>,
    pub message: String,
}

/// `None`: it has not ended, or this moment is not its end.
pub fn why(detail: &ActionDetail, moment: Moment, keys: &KeyRing) -> Option<Why> {
    let state = match moment {
        Moment::State(state) if state == detail.action.state.name() => state,
        _ => return None,
    };
    let (code, message) = match evidence::record(detail, state, keys) {
        Some(Ok(record)) => (Some(one_line(&record.code, 40)), record.message),
        Some(Err(_)) => (
            None,
            "the stored outcome was not signed by the executor".to_owned(),
        ),
        None => {
            let reason = &detail.action.state.end()?.reason;
            (Some(reason.code.to_string()), reason.message.clone())
        }
    };
    let message = one_line(&message, CAP);
    Some(Why { code, message })
}

fn approved(detail: &ActionDetail, registry: &Registry) -> String {
    let given: Vec<String> = verdict::standing(&detail.decisions)
        .into_iter()
        .map(|row| by(row, registry))
        .collect();
    if given.is_empty() {
        return "Approved. The executor verifies the approvals itself before it does anything."
            .to_owned();
    }
    format!(
        "Approved by {}. The executor verifies that itself before it does anything.",
        given.join("; ")
    )
}

fn rejected(detail: &ActionDetail, registry: &Registry) -> String {
    match detail
        .decisions
        .iter()
        .rev()
        .find(|row| row.verb == Verb::Reject)
    {
        Some(row) => format!("Rejected by {}. It will not run.", by(row, registry)),
        None => ended(detail, StateName::Rejected),
    }
}

fn withdrawn(detail: &ActionDetail, registry: &Registry) -> String {
    match detail
        .decisions
        .iter()
        .rev()
        .find(|row| row.verb == Verb::Withdraw)
    {
        // Not always by the person: somebody may have moved the ticket back, or edited it.
        Some(row) if row.channel == Channel::Jira => format!(
            "The approval of {} in Jira does not stand any more since {}: {}. It waits again.",
            name(row, registry),
            row.decided_at,
            one_line(row.reason.trim(), CAP)
        ),
        Some(row) => format!(
            "An approval was taken back by {}. It waits again.",
            by(row, registry)
        ),
        None => "It waits for people again.".to_owned(),
    }
}

/// `Li (jira, 2026-11-22T02:19:00Z): "reason"`.
fn by(row: &DecisionRow, registry: &Registry) -> String {
    let reason = match row.reason.trim() {
        "" => String::new(),
        reason => format!(": \u{201c}{}\u{201d}", one_line(reason, CAP)),
    };
    format!(
        "{} ({}, {}){reason}",
        name(row, registry),
        row.channel,
        row.decided_at
    )
}

fn name(row: &DecisionRow, registry: &Registry) -> String {
    let known = registry.person(&row.person);
    one_line(known.map_or(&row.person, |known| &known.name), 80)
}

fn began(detail: &ActionDetail, keys: &KeyRing) -> String {
    match evidence::record(detail, StateName::Executing, keys) {
        Some(Ok(record)) => format!("The executor began at {}.", record.at),
        Some(Err(_)) => forged(),
        None => "The executor has begun.".to_owned(),
    }
}

fn outcome(detail: &ActionDetail, state: StateName, keys: &KeyRing) -> String {
    let head = match state {
        StateName::Succeeded => "Done and verified",
        StateName::Failed => "It failed",
        StateName::Refused => "The executor refused to run it",
        _ => "The executor cannot tell what became of it and keeps looking; nothing is sent again",
    };
    match evidence::record(detail, state, keys) {
        Some(Ok(record)) => {
            let message = one_line(record.message.trim_end_matches('.'), CAP);
            let begun = match evidence::record(detail, StateName::Executing, keys) {
                Some(Ok(intent)) => format!(" (begun at {})", intent.at),
                _ => String::new(),
            };
            format!(
                "{head} at {}{begun}: {message} ({}).",
                record.at,
                one_line(&record.code, 40)
            )
        }
        Some(Err(_)) => forged(),
        None => ended(detail, state),
    }
}

fn forged() -> String {
    "The database holds a record of this that the executor did not sign; it is not shown. Tell \
     whoever runs Countersign."
        .to_owned()
}

fn ended(detail: &ActionDetail, state: StateName) -> String {
    match detail.action.state.end() {
        Some(end) if detail.action.state.name() == state => {
            let message = one_line(end.reason.message.trim_end_matches('.'), CAP);
            format!(
                "It is {state} since {}: {message} ({}).",
                end.at, end.reason.code
            )
        }
        _ => format!("It became {state}."),
    }
}

fn held(detail: &ActionDetail) -> String {
    if let Some(held) = detail.action.state.held() {
        let message = one_line(held.reason.message.trim_end_matches('.'), CAP);
        return format!(
            "Held since {}: {message} ({}).",
            held.since, held.reason.code
        );
    }
    let past = detail
        .timeline
        .iter()
        .rev()
        .find(|row| row.event.event == EventName::Held);
    match past.and_then(|row| Some((row, row.event.details.get("message")?))) {
        Some((row, message)) => {
            let message = one_line(message.trim_end_matches('.'), CAP);
            format!("Held from {}: {message}. It moved on since.", row.event.at)
        }
        None => "Held for a while.".to_owned(),
    }
}
