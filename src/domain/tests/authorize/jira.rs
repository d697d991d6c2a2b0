//! Answers given by moving the ticket.

use super::*;

fn moved(account: &str, verb: Verb) -> Option<JiraMove> {
    Some(JiraMove {
        verb,
        account: account.into(),
        at: at("2026-11-22T02:01:00Z"),
    })
}

#[test]
fn the_executors_own_look_counts_as_an_approval_of_that_person() {
    let mut world = World::new();
    world.decisions.clear();
    world.jira = moved("li-account", Verb::Approve);
    let authorized = world.run().unwrap();
    assert_eq!(authorized.approvals()[0].channel, Channel::Jira);
    assert_eq!(authorized.approvals()[0].person, "li");
}

#[test]
fn bots_strangers_self_and_late_moves_do_not_count() {
    for (account, code) in [
        ("bot-account", Code::MissingEvidence),
        ("unknown", Code::MissingEvidence),
        ("maria-account", Code::SelfApproval),
        ("guest-account", Code::NotEligible),
    ] {
        let mut world = World::new();
        world.decisions.clear();
        world.jira = moved(account, Verb::Approve);
        world.holds(code);
    }
    let mut world = World::new();
    world.decisions.clear();
    world.jira = moved("li-account", Verb::Approve);
    world.jira.as_mut().unwrap().at = at("2026-11-22T02:15:01Z");
    world.now = at("2026-11-22T02:16:00Z");
    world.look_again();
    world.holds(Code::MissingEvidence);
}

#[test]
fn a_decline_in_jira_refuses_although_the_page_approved() {
    let mut world = World::new();
    world.jira = moved("li-account", Verb::Reject);
    world.refuses(Code::WasRejected);
}

#[test]
fn a_decline_by_who_has_left_or_of_before_the_question_stops_nothing() {
    let left = |world: &mut World| {
        let until = "jira = [\"guest-account\"]\nvalid_until = \"2026-11-22T02:00:30Z\"";
        world.registry = REGISTRY.replace("jira = [\"guest-account\"]", until);
        world.jira = moved("guest-account", Verb::Reject);
    };
    let early = |world: &mut World| {
        world.jira = moved("li-account", Verb::Reject);
        world.jira.as_mut().unwrap().at = at("2026-11-22T01:54:59Z");
    };
    for change in [left as fn(&mut World), early] {
        let mut world = World::new();
        change(&mut world);
        assert_eq!(world.run().unwrap().approvals()[0].person, "li");
    }
    // However far Jira's clock is behind, and although the person has left since, it counts.
    let mut world = World::new();
    world.jira = moved("li-account", Verb::Reject);
    world.jira.as_mut().unwrap().at = at("2026-11-22T01:55:00Z");
    world.refuses(Code::WasRejected);
    let mut world = World::new();
    left(&mut world);
    world.jira.as_mut().unwrap().at = at("2026-11-22T02:00:29Z");
    world.refuses(Code::WasRejected);
}

#[test]
fn a_rule_for_jira_does_not_fall_to_a_stolen_server() {
    let mut world = World::new();
    world.statement.require[0].channels = vec![Channel::Jira];
    world.approve_again();
    world.holds(Code::NotEligible);
}

#[test]
fn one_person_through_two_channels_is_one_seat() {
    let mut world = World::new();
    world.statement.require[0].count = Count(2);
    world.approve_again();
    world.jira = moved("li-account", Verb::Approve);
    world.holds(Code::MissingEvidence);
}
