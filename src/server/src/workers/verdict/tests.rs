use std::collections::BTreeMap;

use countersign_domain::{
    ActionId, ActionKind, ClusterRef, Count, Inverse, OsEntropy, Requirement, Risk, Success, Tier,
    digest_text,
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
        id = "gone"
        groups = ["sre"]
        jira = ["G"]
        valid_until = "2026-11-22T02:04:00Z"
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
            moved(Some("G"), Reject, "02:05:00"),
            Approved,
            &[],
            None,
            "belongs to nobody",
        ),
        (
            moved(Some("M"), Reject, "01:54:00"),
            Pending,
            &[],
            None,
            "before the question",
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
