//! The target as it is now, the time, freezes and lists.

use super::*;

#[test]
fn a_replaced_gone_or_terminating_pod_is_refused() {
    let mut world = World::new();
    world.pod().uid = "pod-2".into();
    world.refuses(Code::TargetReplaced);
    let mut world = World::new();
    world.live.pod = None;
    world.refuses(Code::TargetReplaced);
    let mut world = World::new();
    world.pod().terminating = true;
    world.refuses(Code::Terminating);
}

#[test]
fn another_owner_or_none_is_refused() {
    let mut world = World::new();
    world.pod().owner = None;
    world.refuses(Code::OwnerChanged);
    let mut world = World::new();
    world.pod().owner.as_mut().unwrap().uid = "rs-2".into();
    world.refuses(Code::OwnerChanged);
}

#[test]
fn a_recovered_pod_is_refused_but_a_short_ready_moment_is_not_recovery() {
    let mut world = World::new();
    world.pod().ready = true;
    world.refuses(Code::Recovered);
    world.pod().last_failure_at = Some(at("2026-11-22T01:55:00Z"));
    assert!(world.run().is_ok());
    world.pod().last_failure_at = Some(at("2026-11-22T01:51:59Z"));
    world.refuses(Code::Recovered);
}

#[test]
fn too_late_is_refused_at_the_very_instant() {
    let mut world = World::new();
    world.now = world.statement.execute_by;
    world.look_again();
    world.refuses(Code::TooLate);
}

#[test]
fn clocks_that_differ_hold() {
    let mut world = World::new();
    world.live.server_date = at("2026-11-22T02:02:06Z");
    world.holds(Code::ClockSkew);
    world.live.server_date = at("2026-11-22T02:01:54Z");
    world.holds(Code::ClockSkew);
    world.live.server_date = at("2026-11-22T02:02:05Z");
    assert!(world.run().is_ok());
}

#[test]
fn a_slow_look_is_not_taken_for_a_clock_that_differs() {
    let mut world = World::new();
    world.now = at("2026-11-22T02:02:09Z");
    assert!(world.run().is_ok());
    world.now = at("2026-11-22T02:02:11Z");
    world.holds(Code::SourceUnreachable);
    world.live.server_date = at("2026-11-22T02:02:11Z");
    world.holds(Code::ClockSkew);
}

#[test]
fn a_freeze_holds_and_a_deny_list_refuses() {
    let mut world = World::new();
    world
        .policy
        .push_str("\n[freeze]\nreason = \"incident 7\"\n");
    world.holds(Code::Frozen);
    for entry in [
        world.id.to_string(),
        world.sealed().digest::<Statement>().to_string(),
    ] {
        let mut world_denied = World::new();
        world_denied.id = world.id;
        world_denied.statement = world.statement.clone();
        world_denied.sealed = Some(world.sealed());
        world_denied.executor = Signer::from_text(&world.executor.to_secret_text()).unwrap();
        world_denied.registry = format!("deny = [\"{entry}\"]\n{}", world.registry);
        world_denied.refuses(Code::DenyListed);
    }
}

#[test]
fn an_agent_that_was_removed_holds() {
    let mut world = World::new();
    world.registry = world.registry.replace("id = \"claude\"", "id = \"other\"");
    // Unknown agents count everyone as behind them; the code names the real cause.
    world.holds(Code::UnknownAgent);
}

#[test]
fn times_at_the_end_of_the_calendar_do_not_panic() {
    let mut world = World::new();
    world.pod().ready = true;
    world.pod().last_failure_at = Some(Timestamp::MAX);
    assert!(
        world.run().is_ok(),
        "a failure in the future is a recent failure"
    );
    let mut decision = world.decision("li", Verb::Approve);
    decision.decided_at = Timestamp::MAX;
    decision.valid_until = Timestamp::MAX;
    world.decisions = vec![world.store(decision, &world.server)];
    world.holds(Code::MissingEvidence);
    world.decisions.clear();
    world.jira = Some(JiraMove {
        verb: Verb::Approve,
        account: "li-account".into(),
        at: Timestamp::MAX,
    });
    world.holds(Code::MissingEvidence);
}
