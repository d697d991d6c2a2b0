//! Whether a move of the ticket is a person's answer, and which of the answers on record still
//! stand. Pure: it weighs what was seen, asks nobody.
//!
//! What it lets through is still only a pointer. The executor looks at the ticket itself, with its
//! own credentials and its own registry, before anything runs.

use countersign_domain::{
    Channel, Person, Registry, SKEW_OF_A_NO, Seat, StateName, Statement, Verb, eligible, one_line,
    seats_missing,
};
use countersign_store::DecisionRow;
use jiff::{SignedDuration, Timestamp};

/// Jira's clock and ours may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
const BEFORE: &str = "the ticket was moved before the question was asked";

/// A status change of a ticket that says yes or no, seen by looking.
#[derive(Debug, Clone)]
pub struct Move {
    /// Id of the changelog entry.
    pub entry: String,
    pub verb: Verb,
    /// Jira account id; absent for a deleted account and for some automation.
    pub account: Option<String>,
    pub at: Timestamp,
}

/// What else is known when the move is weighed.
pub struct Case<'a> {
    pub statement: &'a Statement,
    pub state: StateName,
    pub decisions: &'a [DecisionRow],
    pub registry: &'a Registry,
    /// Our own Jira account.
    pub own_account: &'a str,
    /// Why the ticket no longer asks what was asked.
    pub altered: Option<&'a str>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Known already, or too late to matter.
    Nothing,
    /// This person's answer.
    Counts { person: String },
    /// It does not count; people who look at the ticket should learn why.
    Void { because: String },
}

/// A yes on record that the ticket does not show any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub person: String,
    pub because: String,
    /// Whether the action, approved as it is, waits for people again.
    pub reopens: bool,
}

pub fn weigh(moved: &Move, case: &Case<'_>) -> Verdict {
    let open = match moved.verb {
        Verb::Approve => case.state == StateName::Pending,
        Verb::Reject => matches!(case.state, StateName::Pending | StateName::Approved),
        Verb::Withdraw => false,
    };
    if !open {
        return Verdict::Nothing;
    }
    let person = match mover(moved, case) {
        Ok(person) => person,
        Err(because) => return Verdict::Void { because },
    };
    if before_the_question(moved, case) {
        return Verdict::Void {
            because: BEFORE.to_owned(),
        };
    }
    // A no is taken from everybody whom the registry knows.
    if moved.verb == Verb::Approve {
        let known = |row: &&DecisionRow| row.person == person.id;
        if standing(case.decisions).iter().any(known) {
            return Verdict::Nothing;
        }
        if let Err(because) = approves(moved, person, case) {
            return Verdict::Void { because };
        }
    }
    Verdict::Counts {
        person: person.id.clone(),
    }
}

/// Finds a yes on record that no longer stands in Jira, where the ticket has one status and the
/// latest move into it counts: the ticket was moved out, moved in by somebody else, or edited.
/// `shown` is the move that says yes now.
pub fn gone(shown: Option<&Move>, case: &Case<'_>) -> Option<Gone> {
    let recorded = given_in_jira(case.decisions);
    let shown = shown.map(|moved| {
        let person = mover(moved, case)?;
        approves(moved, person, case).map(|()| person)
    });
    let keeps = match &shown {
        Some(Ok(person)) => Some(person.id.as_str()),
        _ => None,
    };
    let gone = recorded
        .iter()
        .find(|row| Some(row.person.as_str()) != keeps)?;
    let because = match &shown {
        None => "the ticket is not in an approving status any more".to_owned(),
        Some(Ok(person)) => format!(
            "{} moved the ticket after that, and the latest move counts",
            one_line(&person.name, 80)
        ),
        Some(Err(because)) => because.clone(),
    };
    let kept = recorded
        .iter()
        .filter(|row| Some(row.person.as_str()) == keeps);
    let left: Vec<&DecisionRow> = given_on_page(case.decisions)
        .into_iter()
        .chain(kept.copied())
        .collect();
    Some(Gone {
        person: gone.person.clone(),
        because,
        reopens: case.state == StateName::Approved && !enough(&left, None, case),
    })
}

/// Whether this approval, with those that stand already, fills every seat of the statement.
pub fn fills_the_seats(person: &str, case: &Case<'_>) -> bool {
    enough(&given_on_page(case.decisions), Some(person), case)
}

/// The approvals that count: those on the page that nobody took back there and, for a ticket has
/// one status, the latest in Jira only.
pub fn standing(decisions: &[DecisionRow]) -> Vec<&DecisionRow> {
    let mut standing = given_on_page(decisions);
    standing.extend(given_in_jira(decisions).pop());
    standing
}

fn given_on_page(decisions: &[DecisionRow]) -> Vec<&DecisionRow> {
    decisions
        .iter()
        .filter(|row| row.channel == Channel::Web && row.verb == Verb::Approve)
        .filter(|row| !took_back(decisions, &row.person))
        .collect()
}

/// Whose last word in Jira is a yes, as far as it was recorded; the latest comes last. There can be
/// several: a ticket that is moved out and in again between two looks leaves the first one behind.
fn given_in_jira(decisions: &[DecisionRow]) -> Vec<&DecisionRow> {
    let mut given: Vec<&DecisionRow> = Vec::new();
    for row in decisions.iter().filter(|row| row.channel == Channel::Jira) {
        given.retain(|earlier| earlier.person != row.person);
        if row.verb == Verb::Approve && !took_back(decisions, &row.person) {
            given.push(row);
        }
    }
    given
}

/// Taking back on the page is final and takes every approval of this person along. In Jira it
/// means only that the ticket was moved on: moving it in once more is a new answer.
pub fn took_back(decisions: &[DecisionRow], person: &str) -> bool {
    decisions.iter().any(|row| {
        row.person == person && row.verb == Verb::Withdraw && row.channel == Channel::Web
    })
}

/// Who in the registry moved it; why nobody did.
fn mover<'a>(moved: &Move, case: &Case<'a>) -> Result<&'a Person, String> {
    let Some(account) = moved.account.as_deref() else {
        return Err("Jira does not say who moved the ticket".to_owned());
    };
    if account == case.own_account {
        return Err("it was moved by Countersign's own account, which decides nothing".to_owned());
    }
    if case.registry.is_jira_bot(account) {
        return Err("it was moved by a bot, and bots decide nothing".to_owned());
    }
    // A "no" stands, whatever became of the person since.
    let at = match moved.verb {
        Verb::Reject => moved.at,
        _ => case.now,
    };
    let owner = case.registry.valid_jira_account(account, at);
    owner.ok_or_else(|| {
        format!(
            "the Jira account {} belongs to nobody in the registry of approvers",
            one_line(account, 80)
        )
    })
}

/// It answers something else, yes or no.
fn before_the_question(moved: &Move, case: &Case<'_>) -> bool {
    let skew = match moved.verb {
        Verb::Reject => SKEW_OF_A_NO,
        _ => SKEW,
    };
    case.statement.admitted_at.duration_since(moved.at) > skew
}

/// Whether this person's yes counts; why it does not.
fn approves(moved: &Move, person: &Person, case: &Case<'_>) -> Result<(), String> {
    if took_back(case.decisions, &person.id) {
        return Err(format!(
            "{} took an approval of this back, which is final",
            one_line(&person.name, 80)
        ));
    }
    if let Some(altered) = case.altered {
        return Err(format!("{altered}, so a move of it approves nothing"));
    }
    if moved.at > case.statement.decide_by {
        return Err(format!(
            "it came after the time to decide, {}",
            case.statement.decide_by
        ));
    }
    if before_the_question(moved, case) {
        return Err(BEFORE.to_owned());
    }
    eligible(
        case.statement,
        &person.id,
        Channel::Jira,
        case.registry,
        case.now,
    )
    .map(drop)
    .map_err(|reason| reason.message)
}

/// Whether these approvals, and one more in Jira, fill every seat of the statement.
fn enough(given: &[&DecisionRow], in_jira: Option<&str>, case: &Case<'_>) -> bool {
    let given = given.iter().map(|row| (row.person.as_str(), row.channel));
    let seats: Vec<Seat> = given
        .chain(in_jira.map(|person| (person, Channel::Jira)))
        .filter_map(|(person, channel)| {
            eligible(case.statement, person, channel, case.registry, case.now).ok()
        })
        .collect();
    seats_missing(&case.statement.require, &seats) == 0
}

#[cfg(test)]
mod tests;
