//! Decisions: guarded by version, state and time; one wins.

use countersign_domain::*;
use countersign_store::*;
use futures::future::join_all;
use jiff::SignedDuration;

use crate::on_both_engines;
use crate::world::*;

fn rejected() -> Option<NextState> {
    Some(NextState::Rejected(Reason::new(
        Code::ByApprover,
        "use the other one",
    )))
}

on_both_engines! {
    async fn an_approval_is_stored_with_its_event_and_tells_ticket_and_people(world: World) {
        let pending = world.pending("a").await;
        let decision = world.decision(&pending, "li", Verb::Approve, Some(NextState::Approved));
        let approved = done(world.decide(decision.clone()).await);
        assert_eq!(approved.state.name(), StateName::Approved);
        assert_eq!(approved.version, pending.version + 1);
        assert_eq!(approved.state.statement(), pending.state.statement());
        assert_eq!(approved.updated_at, later(10));
        let detail = world.server.detail(approved.id).await.unwrap().unwrap();
        assert_eq!(detail.action, approved);
        let [row] = &detail.decisions[..] else { panic!("{:?}", detail.decisions) };
        assert_eq!((row.person.as_str(), row.verb, row.channel), ("li", Verb::Approve, Channel::Web));
        assert_eq!(row.sealed, decision.sealed);
        assert_eq!(row.decided_at, later(10));
        assert_eq!(world.story(approved.id).await, ["action.proposed", "action.admitted", "action.decided"]);
    }

    async fn a_stale_page_a_wrong_state_and_a_late_answer_are_conflicts(world: World) {
        let pending = world.pending("a").await;
        let approve = world.decision(&pending, "li", Verb::Approve, Some(NextState::Approved));
        let stale = NewDecision { version: pending.version - 1, ..approve.clone() };
        assert_eq!(conflict(world.decide(stale).await).version, pending.version);
        let late = NewDecision { at: later(600), ..approve.clone() };
        conflict(world.decide(late).await);
        let wrong = NewDecision { next: Some(NextState::Reopened), ..approve.clone() };
        conflict(world.decide(wrong).await);
        let checking = world.propose(&proposal("b")).await;
        conflict(world.decide(world.decision(&checking, "li", Verb::Approve, None)).await);
        assert_eq!(world.audit_count().await, 3, "a conflict writes nothing");
        assert!(world.server.detail(pending.id).await.unwrap().unwrap().decisions.is_empty());
        assert!(matches!(
            world.decide(NewDecision { action: id_at(now()), ..approve }).await,
            Transition::Conflict(None)
        ));
    }

    async fn of_two_people_at_once_one_wins_and_the_other_sees_how_it_stands(world: World) {
        for round in 0..8 {
            let pending = world.pending(&format!("web-{round}")).await;
            let approve = world.decision(&pending, "li", Verb::Approve, Some(NextState::Approved));
            let reject = world.decision(&pending, "kim", Verb::Reject, rejected());
            let results = join_all([
                world.decide(approve.clone()),
                world.decide(reject.clone()),
                world.decide(approve),
                world.decide(reject),
            ])
            .await;
            let won: Vec<_> = results.iter().filter(|it| matches!(it, Transition::Done(_))).collect();
            assert_eq!(won.len(), 1, "{results:?}");
            let detail = world.server.detail(pending.id).await.unwrap().unwrap();
            assert_eq!(detail.decisions.len(), 1);
            assert_eq!(detail.timeline.len(), 3);
            for lost in results {
                if let Transition::Conflict(found) = lost {
                    assert_eq!(found.unwrap(), detail.action);
                }
            }
        }
    }

    async fn a_decision_without_a_consequence_still_moves_the_version(world: World) {
        let pending = world.pending("a").await;
        let one = done(world.decide(world.decision(&pending, "li", Verb::Approve, None)).await);
        assert_eq!((one.state.name(), one.version), (StateName::Pending, pending.version + 1));
        // The same person once more, though with the new version.
        conflict(world.decide(world.decision(&one, "li", Verb::Approve, None)).await);
        let two = world.decision(&one, "kim", Verb::Approve, Some(NextState::Approved));
        let approved = done(world.decide(two).await);
        assert_eq!(world.server.detail(approved.id).await.unwrap().unwrap().decisions.len(), 2);
    }

    async fn a_withdrawal_reopens_and_counts_until_it_would_run(world: World) {
        let approved = world.approved("a").await;
        let mut withdraw = world.decision(&approved, "li", Verb::Withdraw, Some(NextState::Reopened));
        withdraw.at = later(700);
        let reopened = done(world.decide(withdraw).await);
        assert_eq!(reopened.state.name(), StateName::Pending);
        let approved = world.approved("b").await;
        let mut reject = world.decision(&approved, "kim", Verb::Reject, rejected());
        reject.at = later(901);
        conflict(world.decide(reject.clone()).await);
        reject.at = later(700);
        let ended = done(world.decide(reject).await);
        assert_eq!(ended.state.end().unwrap().reason.message, "use the other one");
        // Reopened and approved once more: each time it is told.
        let again = world.approved("c").await;
        let withdraw = world.decision(&again, "li", Verb::Withdraw, Some(NextState::Reopened));
        let again = done(world.decide(withdraw).await);
        let approve = world.decision(&again, "kim", Verb::Approve, Some(NextState::Approved));
        done(world.decide(approve).await);
    }

    async fn a_withdrawal_under_a_claim_makes_the_claim_worthless(world: World) {
        let approved = world.approved("a").await;
        let claimed = world.claim_approved().await;
        // Not even a decision that changes no state goes by unseen.
        let more = done(world.decide(world.decision(&approved, "kim", Verb::Approve, None)).await);
        let step = world.step(&claimed.action, RecordKind::Intent, "executing", later(21));
        let begin = world.executor.begin(&claimed.action, &claimed.lease, &step).await.unwrap();
        assert_eq!(conflict(begin).version, more.version);
        let withdraw = world.decision(&more, "li", Verb::Withdraw, Some(NextState::Reopened));
        let reopened = done(world.decide(withdraw).await);
        let step = world.step(&reopened, RecordKind::Intent, "executing", later(21));
        conflict(world.executor.begin(&reopened, &claimed.lease, &step).await.unwrap());
        assert!(!world.executor.release(approved.id, &claimed.lease).await.unwrap());
    }

    async fn the_last_rejection_of_the_same_proposal_is_found(world: World) {
        let pending = world.pending("a").await;
        let target = &pending.proposal.target;
        let params = &pending.proposal.params;
        let find = async |agent: &str, since| {
            world.server.last_rejection(agent, target, params, since).await.unwrap()
        };
        assert_eq!(find("claude", now()).await, None);
        done(world.decide(world.decision(&pending, "li", Verb::Reject, rejected())).await);
        let (id, reason, at) = find("claude", now()).await.unwrap();
        assert_eq!((id, at), (pending.id, later(10)));
        assert_eq!(reason, Reason::new(Code::ByApprover, "use the other one"));
        assert_eq!(find("claude", later(10)).await, None);
        assert_eq!(find("cursor", now()).await, None);
    }

    async fn a_jira_pointer_and_the_derived_decision_are_one(world: World) {
        let pending = world.pending("a").await;
        let pointer = NewDecision {
            channel: Channel::Jira,
            sealed: None,
            ..world.decision(&pending, "li", Verb::Approve, Some(NextState::Approved))
        };
        done(world.decide(pointer).await);
        let ticket = Ticket { issue_id: "1".into(), key: "OPS-1".into(), url: "http://j/1".into() };
        let event = server_event(EventName::TicketOpened, later(11)).about(pending.id);
        world.server.ticket_record(pending.id, &ticket, event).await.unwrap();
        let claimed = world.claim_approved().await;
        assert!(claimed.jira_hint);
        assert!(claimed.decisions.is_empty(), "a pointer is no evidence");
        assert_eq!(claimed.ticket, Some(ticket));
        let body = world.decision_body("li", Verb::Approve, Channel::Jira);
        let signed = Signed::sign(body, &world.signer).unwrap();
        let keep = async |lease: &Lease| {
            world.executor
                .record_decision(pending.id, lease, "li", Channel::Jira, &signed, "moved the ticket")
                .await
                .unwrap()
        };
        assert!(!keep(&Lease { token: "other".into(), ..claimed.lease.clone() }).await);
        assert!(keep(&claimed.lease).await);
        assert!(!keep(&claimed.lease).await, "kept once");
        let detail = world.server.detail(pending.id).await.unwrap().unwrap();
        let [row] = &detail.decisions[..] else { panic!("{:?}", detail.decisions) };
        assert_eq!(row.sealed.as_ref(), Some(signed.sealed()));
        assert_eq!(row.reason, "moved the ticket");
    }

    async fn what_is_due_expires_with_its_reason_and_event(world: World) {
        let checking = world.propose(&proposal("a")).await;
        assert!(world.server.expire_due(later(119)).await.unwrap().is_empty());
        let before = world.audit_count().await;
        assert_eq!(world.server.expire_due(later(120)).await.unwrap(), [checking.id]);
        assert_eq!(world.audit_count().await, before + 1);
        assert!(world.server.expire_due(later(120)).await.unwrap().is_empty());
        let ended = world.server.get(checking.id).await.unwrap().unwrap();
        assert_eq!(ended.state.end().unwrap().reason.code, Code::NotAdmitted);

        let pending = world.pending("b").await;
        assert_eq!(world.server.expire_due(later(600)).await.unwrap(), [pending.id]);
        let ended = world.server.get(pending.id).await.unwrap().unwrap();
        assert_eq!(ended.state.end().unwrap().reason.code, Code::NobodyDecided);

        let approved = world.approved("c").await;
        let claimed = world.executor
            .next_approved("prod", "e1", SignedDuration::from_secs(60), later(880)).await.unwrap().unwrap();
        assert!(world.server.expire_due(later(910)).await.unwrap().is_empty(), "under a live lease");
        assert!(world.executor.release(approved.id, &claimed.lease).await.unwrap());
        assert_eq!(world.server.expire_due(later(910)).await.unwrap(), [approved.id]);
        let ended = world.server.get(approved.id).await.unwrap().unwrap();
        assert_eq!(ended.state.end().unwrap().reason.code, Code::NotExecuted);
        assert_eq!(world.story(approved.id).await.last(), Some(&"action.expired"));
    }
}
