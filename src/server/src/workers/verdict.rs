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
}
