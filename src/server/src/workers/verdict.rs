//! Whether a move of the ticket is a person's answer. Pure: it weighs what was seen, asks nobody.
//!
//! What it lets through is still only a pointer. The executor looks at the ticket itself, with its
//! own credentials and its own registry, before anything runs.

use countersign_domain::{
    Channel, Registry, Seat, StateName, Statement, Verb, eligible, one_line, seats_missing,
};
use countersign_store::DecisionRow;
use jiff::{SignedDuration, Timestamp};

/// Jira's clock and ours may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The latest status change of a ticket, seen by looking.
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

pub fn weigh(moved: &Move, case: &Case<'_>) -> Verdict {
    let open = match moved.verb {
        Verb::Approve => case.state == StateName::Pending,
        Verb::Reject => matches!(case.state, StateName::Pending | StateName::Approved),
        Verb::Withdraw => false,
    };
    if !open {
        return Verdict::Nothing;
    }
    let void = |because: String| Verdict::Void { because };
    let Some(account) = moved.account.as_deref() else {
        return void("Jira does not say who moved the ticket".to_owned());
    };
    if account == case.own_account {
        return void("it was moved by Countersign's own account, which decides nothing".to_owned());
    }
    if case.registry.is_jira_bot(account) {
        return void("it was moved by a bot, and bots decide nothing".to_owned());
    }
    let Some(person) = case.registry.by_jira_account(account) else {
        return void(format!(
            "the Jira account {} belongs to nobody in the registry of approvers",
            one_line(account, 80)
        ));
    };
    let name = one_line(&person.name, 80);
    let person = person.id.clone();
    // A no is taken from everybody whom the registry knows.
    if moved.verb == Verb::Reject {
        return Verdict::Counts { person };
    }
    let said = |verb: Verb| {
        case.decisions
            .iter()
            .any(|row| row.person == person && row.verb == verb)
    };
    if said(Verb::Withdraw) {
        return void(format!(
            "{name} took an approval of this back, which is final"
        ));
    }
    if said(Verb::Approve) {
        return Verdict::Nothing;
    }
    if let Some(altered) = case.altered {
        return void(format!("{altered}, so a move of it approves nothing"));
    }
    if moved.at > case.statement.decide_by {
        return void(format!(
            "it came after the time to decide, {}",
            case.statement.decide_by
        ));
    }
    if moved.at + SKEW < case.statement.admitted_at {
        return void("the ticket was moved before the question was asked".to_owned());
    }
    match eligible(
        case.statement,
        &person,
        Channel::Jira,
        case.registry,
        case.now,
    ) {
        Ok(_) => Verdict::Counts { person },
        Err(reason) => void(reason.message),
    }
}

/// Whether this approval, with those that stand already, fills every seat of the statement.
pub fn fills_the_seats(person: &str, case: &Case<'_>) -> bool {
    let standing = case
        .decisions
        .iter()
        .filter(|row| row.verb == Verb::Approve)
        .filter(|row| {
            !case
                .decisions
                .iter()
                .any(|o| o.person == row.person && o.verb == Verb::Withdraw)
        })
        .map(|row| (row.person.as_str(), row.channel));
    let seats: Vec<Seat> = standing
        .chain([(person, Channel::Jira)])
        .filter_map(|(person, channel)| {
            eligible(case.statement, person, channel, case.registry, case.now).ok()
        })
        .collect();
    seats_missing(&case.statement.require, &seats) == 0
}
