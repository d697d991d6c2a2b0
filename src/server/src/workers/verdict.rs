//! Whether a move of the ticket is a person's answer, and which of the answers on record still
//! stand. Pure: it weighs what was seen, asks nobody.
//!
//! What it lets through is still only a pointer. The executor looks at the ticket itself, with its
//! own credentials and its own registry, before anything runs.

use countersign_domain::{
    Channel, Person, Registry, Seat, StateName, Statement, Verb, eligible, one_line, seats_missing,
};
use countersign_store::DecisionRow;
use jiff::{SignedDuration, Timestamp};

/// Jira's clock and ours may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

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
    case.registry.by_jira_account(account).ok_or_else(|| {
        format!(
            "the Jira account {} belongs to nobody in the registry of approvers",
            one_line(account, 80)
        )
    })
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
    if case.statement.admitted_at.duration_since(moved.at) > SKEW {
        return Err("the ticket was moved before the question was asked".to_owned());
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
mod tests {
    use std::collections::BTreeMap;

    use countersign_domain::{
        ActionId, ActionKind, ClusterRef, Count, Inverse, OsEntropy, Requirement, Risk, Success,
        Tier, digest_text,
    };

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn registry() -> Registry {
        Registry::from_toml(
            r#"
            jira_bots = ["bot"]
            [[person]]
            id = "maria"
            groups = ["sre", "owners"]
            jira = ["M"]
            [[person]]
            id = "omar"
            groups = ["owners"]
            jira = ["O"]
            [[person]]
            id = "li"
            groups = ["sre"]
            jira = ["L"]
            [[agent]]
            id = "claude"
            people = ["li"]
            "#,
        )
        .unwrap()
    }

    fn seat(group: &str, channels: &[Channel]) -> Requirement {
        Requirement {
            group: group.into(),
            count: Count(1),
            tier: Tier::Attested,
            channels: channels.to_vec(),
        }
    }

    fn statement(require: Vec<Requirement>) -> Statement {
        Statement {
            v: "1".into(),
            kid: "k".into(),
            action_id: ActionId::new(at("02:00:00"), &OsEntropy),
            cluster: ClusterRef {
                id: "prod".into(),
                kube_system_uid: "u".into(),
            },
            kind: ActionKind::RestartPod,
            namespace: "shop".into(),
            name: "checkout-1".into(),
            uid: "uid-1".into(),
            params: BTreeMap::new(),
            facts: BTreeMap::new(),
            predicates: Vec::new(),
            success: Success::ReplacementReady {
                deadline_seconds: Count(60),
            },
            inverse: Inverse::None {
                because: "none".into(),
            },
            agent: "claude".into(),
            on_behalf_of: vec!["li".into()],
            rule: "shop".into(),
            risk: Risk::Low,
            require,
            self_approval: "forbidden".into(),
            policy_hash: digest_text("p"),
            admitted_at: at("02:00:00"),
            decide_by: at("02:15:00"),
            execute_by: at("02:20:00"),
        }
    }

    fn said(person: &str, verb: Verb, channel: Channel) -> DecisionRow {
        DecisionRow {
            person: person.into(),
            verb,
            channel,
            reason: String::new(),
            sealed: None,
            decided_at: at("02:01:00"),
        }
    }

    fn moved(account: Option<&str>, verb: Verb, when: &str) -> Move {
        Move {
            entry: "1".into(),
            verb,
            account: account.map(Into::into),
            at: at(when),
        }
    }

    fn verdict(
        moved: &Move,
        state: StateName,
        decisions: &[DecisionRow],
        text: Option<&str>,
    ) -> String {
        let statement = statement(vec![seat("sre", &[Channel::Jira])]);
        let registry = registry();
        let case = Case {
            statement: &statement,
            state,
            decisions,
            registry: &registry,
            own_account: "us",
            altered: text,
            now: at("02:05:00"),
        };
        match weigh(moved, &case) {
            Verdict::Nothing => "nothing".into(),
            Verdict::Counts { person } => format!("counts: {person}"),
            Verdict::Void { because } => because,
        }
    }

    #[test]
    fn each_guard_has_a_move_that_only_it_stops() {
        use StateName::{Approved, Pending};
        use Verb::{Approve, Reject, Withdraw};
        let yes = |account, when| moved(Some(account), Approve, when);
        let took_back = [
            said("maria", Approve, Channel::Web),
            said("maria", Withdraw, Channel::Web),
        ];
        let already = [said("maria", Approve, Channel::Jira)];
        for (moved, state, decisions, altered, want) in [
            (
                yes("M", "02:05:00"),
                Pending,
                &[][..],
                None,
                "counts: maria",
            ),
            (yes("M", "02:05:00"), Approved, &[], None, "nothing"),
            (
                moved(Some("M"), Reject, "02:05:00"),
                Approved,
                &[],
                None,
                "counts: maria",
            ),
            (
                moved(Some("L"), Reject, "02:05:00"),
                Pending,
                &[],
                Some("edited"),
                "counts: li",
            ),
            (
                moved(None, Approve, "02:05:00"),
                Pending,
                &[],
                None,
                "does not say who",
            ),
            (yes("us", "02:05:00"), Pending, &[], None, "own account"),
            (yes("bot", "02:05:00"), Pending, &[], None, "by a bot"),
            (
                yes("X", "02:05:00"),
                Pending,
                &[],
                None,
                "belongs to nobody",
            ),
            (
                moved(Some("X"), Reject, "02:05:00"),
                Pending,
                &[],
                None,
                "belongs to nobody",
            ),
            (
                yes("L", "02:05:00"),
                Pending,
                &[],
                None,
                "can speak through the agent",
            ),
            (
                yes("M", "02:15:01"),
                Pending,
                &[],
                None,
                "after the time to decide",
            ),
            (
                yes("M", "01:59:00"),
                Pending,
                &[],
                None,
                "before the question",
            ),
            (
                yes("M", "02:05:00"),
                Pending,
                &[],
                Some("edited"),
                "edited, so a move",
            ),
            (yes("M", "02:05:00"), Pending, &took_back, None, "is final"),
            (yes("M", "02:05:00"), Pending, &already, None, "nothing"),
        ] {
            let got = verdict(&moved, state, decisions, altered);
            assert!(got.contains(want), "{moved:?} {state}: {got}, not {want}");
        }
    }

    #[test]
    fn one_person_fills_one_seat_over_both_channels() {
        let both = [Channel::Web, Channel::Jira];
        let statement = statement(vec![seat("sre", &both), seat("owners", &both)]);
        let registry = registry();
        let case = |decisions| Case {
            statement: &statement,
            state: StateName::Pending,
            decisions,
            registry: &registry,
            own_account: "us",
            altered: None,
            now: at("02:05:00"),
        };
        let own = [said("maria", Verb::Approve, Channel::Web)];
        assert!(!fills_the_seats("maria", &case(&own)));
        let omar = [said("omar", Verb::Approve, Channel::Web)];
        assert!(fills_the_seats("maria", &case(&omar)));
        let gone = [omar[0].clone(), said("omar", Verb::Withdraw, Channel::Web)];
        assert!(!fills_the_seats("maria", &case(&gone)));
    }

    fn who(decisions: &[DecisionRow]) -> Vec<(&str, Channel)> {
        let rows = standing(decisions).into_iter();
        rows.map(|row| (row.person.as_str(), row.channel)).collect()
    }

    #[test]
    fn a_ticket_gives_one_approval_however_often_it_is_moved() {
        let both = [Channel::Web, Channel::Jira];
        let statement = statement(vec![Requirement {
            count: Count(2),
            ..seat("owners", &both)
        }]);
        let registry = registry();
        let case = |decisions, state| Case {
            statement: &statement,
            state,
            decisions,
            registry: &registry,
            own_account: "us",
            altered: None,
            now: at("02:05:00"),
        };
        let yes = |account| moved(Some(account), Verb::Approve, "02:03:00");
        let maria = said("maria", Verb::Approve, Channel::Jira);
        let omar = said("omar", Verb::Approve, Channel::Jira);
        let on_page = said("omar", Verb::Approve, Channel::Web);

        let one = [maria.clone()];
        assert!(!fills_the_seats("omar", &case(&one, StateName::Pending)));
        assert_eq!(gone(Some(&yes("M")), &case(&one, StateName::Pending)), None);
        // Omar moved it out and in again: his move counts, Maria's does not any more.
        let lost = gone(Some(&yes("O")), &case(&one, StateName::Pending)).unwrap();
        assert_eq!((lost.person.as_str(), lost.reopens), ("maria", false));
        assert!(lost.because.starts_with("omar moved"), "{}", lost.because);
        let two = [maria.clone(), omar.clone()];
        assert_eq!(who(&two), [("omar", Channel::Jira)]);

        // Moved back after it was approved by both: one seat is empty again.
        let full = [on_page.clone(), maria.clone()];
        assert!(fills_the_seats(
            "maria",
            &case(&full[..1], StateName::Pending)
        ));
        let lost = gone(None, &case(&full, StateName::Approved)).unwrap();
        assert_eq!((lost.person.as_str(), lost.reopens), ("maria", true));
        assert!(lost.because.contains("not in an approving status"));
        let edited = Case {
            altered: Some("edited"),
            ..case(&full, StateName::Approved)
        };
        assert!(gone(Some(&yes("M")), &edited).unwrap().reopens);
        assert_eq!(
            gone(Some(&yes("M")), &case(&full, StateName::Approved)),
            None
        );

        // Once recorded it is gone for good, until she moves the ticket in once more.
        let after = [
            full[0].clone(),
            maria.clone(),
            said("maria", Verb::Withdraw, Channel::Jira),
        ];
        assert_eq!(gone(None, &case(&after, StateName::Pending)), None);
        assert_eq!(who(&after), [("omar", Channel::Web)]);
        assert_eq!(
            weigh(&yes("M"), &case(&after, StateName::Pending)),
            Verdict::Counts {
                person: "maria".into()
            }
        );
        let again = [&after[..], &one[..]].concat();
        assert_eq!(
            who(&again),
            [("omar", Channel::Web), ("maria", Channel::Jira)]
        );
    }

    #[test]
    fn who_approved_in_both_places_is_missed_in_neither() {
        let both = [Channel::Web, Channel::Jira];
        let statement = statement(vec![seat("owners", &both)]);
        let registry = registry();
        let rows = [
            said("maria", Verb::Approve, Channel::Web),
            said("maria", Verb::Approve, Channel::Jira),
        ];
        let case = Case {
            statement: &statement,
            state: StateName::Approved,
            decisions: &rows,
            registry: &registry,
            own_account: "us",
            altered: None,
            now: at("02:05:00"),
        };
        assert!(
            !gone(None, &case).unwrap().reopens,
            "her word on the page stands"
        );
    }

    #[test]
    fn times_at_the_end_of_the_calendar_are_weighed() {
        let late = Move {
            at: Timestamp::MAX,
            ..moved(Some("M"), Verb::Approve, "02:05:00")
        };
        let early = Move {
            at: Timestamp::MIN,
            ..late.clone()
        };
        let statement = statement(vec![seat("sre", &[Channel::Jira])]);
        let registry = registry();
        let case = Case {
            statement: &statement,
            state: StateName::Pending,
            decisions: &[],
            registry: &registry,
            own_account: "us",
            altered: None,
            now: at("02:05:00"),
        };
        for moved in [late, early] {
            assert!(matches!(weigh(&moved, &case), Verdict::Void { .. }));
        }
    }
}
