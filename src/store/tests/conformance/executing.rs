//! The executor's verbs: leases with fences, admission, intent, outcome, orphans.

use countersign_domain::*;
use countersign_store::*;
use futures::future::join_all;

use crate::on_both_engines;
use crate::world::*;

on_both_engines! {
    async fn an_admission_stores_the_statement_exactly(world: World) {
        let proposed = world.propose(&proposal("a")).await;
        let work = world.claim_to_admit().await;
        assert_eq!(work.action, proposed);
        assert_eq!((work.lease.fence, work.lease.until), (1, later(30)));
        let statement = world.statement(&work.action, later(1));
        let event = world.signed_event(EventName::Admitted, work.action.id, later(1));
        let pending = done(world.executor.admit(&work, &statement, &event).await.unwrap());
        assert_eq!(pending.state.statement(), Some(statement.sealed()));
        assert_eq!(world.server.get(proposed.id).await.unwrap().unwrap(), pending);
        let opened = pending.state.statement().unwrap()
            .open::<Statement>(&world.signer.key_ring(), later(1)).unwrap();
        assert_eq!(opened.digest(), statement.digest());
        let detail = world.server.detail(proposed.id).await.unwrap().unwrap();
        let row = detail.timeline.last().unwrap();
        assert_eq!(row.sealed.as_ref(), Some(event.sealed()));
        row.sealed.as_ref().unwrap().open::<AuditEvent>(&world.signer.key_ring(), later(1)).unwrap();
        // Once.
        conflict(world.executor.admit(&work, &statement, &event).await.unwrap());
        // A statement about something else is a mistake of the caller.
        let other = world.propose(&proposal("b")).await;
        let work = world.claim_to_admit().await;
        assert_eq!(work.action.id, other.id);
        let error = world.executor.admit(&work, &statement, &event).await.unwrap_err();
        assert!(matches!(error, StoreError::BadInput { .. }), "{error}");
    }

    async fn a_denial_ends_it_without_bothering_anybody(world: World) {
        world.propose(&proposal("a")).await;
        let work = world.claim_to_admit().await;
        let event = world.signed_event(EventName::Denied, work.action.id, now());
        let reason = Reason::new(Code::NoRule, "No rule allows it.");
        let denied = done(world.executor.deny(&work, &reason, &event).await.unwrap());
        assert_eq!(denied.state, State::Denied { end: End { reason, at: now() } });
        for topic in Topic::ALL {
            let open = world.server.outbox_claim(&[topic], 10, LEASE, now(), "t").await.unwrap();
            assert!(open.is_empty());
        }
    }

    async fn work_is_offered_once_oldest_first_and_only_of_its_cluster(world: World) {
        let first = world.propose(&proposal("a")).await;
        world.propose_at(&proposal("b"), later(1)).await;
        let next = async |cluster| {
            world.executor.next_to_admit(cluster, "e1", LEASE, later(2)).await.unwrap()
        };
        assert!(next("other").await.is_none());
        assert_eq!(next("prod").await.unwrap().action.id, first.id);
        assert!(next("prod").await.is_some());
        assert!(next("prod").await.is_none());
        // A lease that ran out is offered again, with a higher fence.
        let again = world.executor.next_to_admit("prod", "e2", LEASE, later(40)).await.unwrap().unwrap();
        assert_eq!((again.action.id, again.lease.fence), (first.id, 2));
    }

    async fn of_claims_at_once_each_row_goes_to_exactly_one(world: World) {
        for n in 0..12 {
            world.propose_at(&proposal(&format!("web-{n}")), later(n)).await;
        }
        let second = world.server_db.clone();
        let claims = join_all((0..20).map(|n| {
            let store = match &world.by_hand {
                ByHand::Sqlite(_) if n % 2 == 1 => second.executor(),
                _ => world.executor.clone(),
            };
            async move { store.next_to_admit("prod", "e", LEASE, later(60)).await.unwrap() }
        }))
        .await;
        let mut ids: Vec<_> = claims.into_iter().flatten().map(|work| work.action.id).collect();
        // Whoever loses the race for a row may come back empty-handed; ask on until none is left.
        while let Some(work) = world.executor.next_to_admit("prod", "e", LEASE, later(60)).await.unwrap() {
            ids.push(work.action.id);
        }
        assert_eq!(ids.len(), 12);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 12, "none twice");
    }

    async fn a_stale_lease_can_do_nothing(world: World) {
        world.approved("a").await;
        let stale = world.claim_approved().await;
        let fresh = world.executor.next_approved("prod", "e2", LEASE, later(60)).await.unwrap().unwrap();
        assert_eq!(fresh.lease.fence, stale.lease.fence + 1);
        let (action, lease) = (&stale.action, &stale.lease);
        let at = later(61);
        let intent = world.step(action, RecordKind::Intent, "executing", at);
        conflict(world.executor.begin(action, lease, &intent).await.unwrap());
        let refusal = world.step(action, RecordKind::Refusal, "refused", at);
        conflict(world.executor.refuse(action, lease, &refusal).await.unwrap());
        assert_eq!(world.executor.renew(action.id, lease, later(99)).await.unwrap(), None);
        assert!(!world.executor.release(action.id, lease).await.unwrap());
        let held = Held { reason: Reason::new(Code::Frozen, "Frozen."), since: at };
        let hold = Hold { held, retry_at: at };
        assert!(!world.executor.hold(action.id, lease, hold, None).await.unwrap());
        done(world.executor.begin(&fresh.action, &fresh.lease, &intent).await.unwrap());
    }

    async fn a_lease_that_ran_out_begins_nothing_but_may_be_renewed(world: World) {
        world.approved("a").await;
        let claimed = world.claim_approved().await;
        let (action, lease) = (&claimed.action, &claimed.lease);
        let step = world.step(action, RecordKind::Intent, "executing", later(50));
        conflict(world.executor.begin(action, lease, &step).await.unwrap());
        let renewed = world.executor.renew(action.id, lease, later(80)).await.unwrap().unwrap();
        assert_eq!((renewed.until, &renewed.token), (later(80), &lease.token));
        done(world.executor.begin(action, &renewed, &step).await.unwrap());
    }

    async fn the_whole_way_to_a_verified_end(world: World) {
        let (executing, lease) = world.executing("a").await;
        let State::Executing { started_at, .. } = executing.state else { panic!() };
        assert_eq!(started_at, later(21));
        let step = world.step(&executing, RecordKind::Outcome, "succeeded", later(30));
        let ended = done(world.executor.finish(&executing, &lease, &step).await.unwrap());
        let State::Succeeded { end, started_at, .. } = &ended.state else { panic!() };
        assert_eq!((end.reason.code, end.at, *started_at), (Code::Verified, later(30), later(21)));
        conflict(world.executor.finish(&ended, &lease, &step).await.unwrap());
        let detail = world.server.detail(ended.id).await.unwrap().unwrap();
        let kinds: Vec<_> = detail.records.iter().map(|(record, _)| record.record).collect();
        assert_eq!(kinds, [RecordKind::Intent, RecordKind::Outcome]);
        for (_, sealed) in &detail.records {
            sealed.open::<ExecutionRecord>(&world.signer.key_ring(), later(30)).unwrap();
        }
        assert_eq!(
            world.story(ended.id).await,
            ["action.proposed", "action.admitted", "action.decided", "action.executing", "action.succeeded"]
        );
        assert_eq!(world.server.gauges().await.unwrap().leased, 0);
    }

    async fn a_refusal_carries_the_record_s_reason(world: World) {
        world.approved("a").await;
        let claimed = world.claim_approved().await;
        let step = world.step(&claimed.action, RecordKind::Refusal, "refused", later(21));
        let wrong = world.step(&claimed.action, RecordKind::Intent, "executing", later(21));
        assert!(world.executor.refuse(&claimed.action, &claimed.lease, &wrong).await.is_err());
        let refused = done(world.executor.refuse(&claimed.action, &claimed.lease, &step).await.unwrap());
        let State::Refused { end, .. } = &refused.state else { panic!() };
        assert_eq!((end.reason.code, end.reason.message.as_str()), (Code::TargetReplaced, "it refused"));
    }

    async fn holding_shows_why_keeps_since_and_waits(world: World) {
        world.approved("a").await;
        let hold = async |code, since: i64, event: bool| {
            let claimed = world.executor
                .next_approved("prod", "e1", LEASE, later(since)).await.unwrap().unwrap();
            let held = Held { reason: Reason::new(code, "wait"), since: later(since) };
            let hold = Hold { held, retry_at: later(since + 5) };
            let signed = world.signed_event(EventName::Held, claimed.action.id, later(since));
            let event = event.then_some(&signed);
            assert!(world.executor.hold(claimed.action.id, &claimed.lease, hold, event).await.unwrap());
            world.server.get(claimed.action.id).await.unwrap().unwrap()
        };
        let first = hold(Code::Frozen, 20, true).await;
        assert!(world.executor.next_approved("prod", "e1", LEASE, later(24)).await.unwrap().is_none());
        let second = hold(Code::Frozen, 25, false).await;
        assert_eq!(second.state.held().unwrap().since, later(20));
        let third = hold(Code::BudgetExhausted, 30, true).await;
        assert_eq!(third.state.held().unwrap().since, later(30));
        assert_eq!(third.version, first.version, "holding is no transition");
        let story = world.story(third.id).await;
        assert_eq!(story.iter().filter(|name| **name == "action.held").count(), 2);
        // A decision lets the executor look at once.
        done(world.decide(world.decision(&third, "kim", Verb::Approve, None)).await);
        assert!(world.executor.next_approved("prod", "e1", LEASE, later(31)).await.unwrap().is_some());
    }

    async fn an_orphan_is_found_and_resolved_by_looking(world: World) {
        let (executing, lease) = world.executing("a").await;
        assert!(world.executor.next_orphan("prod", "e2", LEASE, later(40)).await.unwrap().is_none());
        let orphan = world.executor.next_orphan("prod", "e2", LEASE, later(60)).await.unwrap().unwrap();
        assert_eq!(orphan.action, executing);
        assert!(orphan.intent.is_some());
        assert_eq!(orphan.lease.fence, lease.fence + 1);
        // The one who went away comes back too late.
        let late = world.step(&executing, RecordKind::Outcome, "succeeded", later(61));
        conflict(world.executor.finish(&executing, &lease, &late).await.unwrap());
        let unsure = world.step(&executing, RecordKind::Outcome, "indeterminate", later(62));
        let unsure = done(world.executor.finish(&orphan.action, &orphan.lease, &unsure).await.unwrap());
        assert_eq!(unsure.state.name(), StateName::Indeterminate);
        let again = world.executor.next_orphan("prod", "e2", LEASE, later(63)).await.unwrap().unwrap();
        let still = world.step(&executing, RecordKind::Outcome, "indeterminate", later(63));
        conflict(world.executor.finish(&again.action, &again.lease, &still).await.unwrap());
        let seen = world.step(&executing, RecordKind::Outcome, "failed", later(64));
        let ended = done(world.executor.finish(&again.action, &again.lease, &seen).await.unwrap());
        assert_eq!(ended.state.name(), StateName::Failed);
        assert!(world.executor.next_orphan("prod", "e2", LEASE, later(999)).await.unwrap().is_none());
    }

    async fn what_was_begun_ends_as_begun_whatever_the_row_says(world: World) {
        for (pod, state) in [("a", "approved"), ("b", "pending")] {
            let (begun, _) = world.executing(pod).await;
            // Its time is over, and it is not offered again for years.
            world.by_hand.execute(&format!(
                "UPDATE actions SET state = '{state}', version = version + 1, lease_token = NULL, \
                 lease_holder = NULL, lease_until = NULL, decide_by = 1, execute_by = 1, \
                 retry_at = 9000000000000000, started_at = NULL WHERE id = '{}'", begun.id
            )).await.unwrap();
            // Nobody but the executor can end it, and it does not begin again.
            assert!(world.server.expire_due(later(9000)).await.unwrap().is_empty());
            let event = server_event(EventName::Cancelled, later(30)).about(begun.id);
            let reason = Reason::new(Code::ByProposer, "x");
            conflict(world.server.cancel(begun.id, "claude", reason, later(30), event).await.unwrap());
            let row = world.server.get(begun.id).await.unwrap().unwrap();
            let reject = NextState::Rejected(Reason::new(Code::ByApprover, "x"));
            conflict(world.decide(world.decision(&row, "kim", Verb::Reject, Some(reject))).await);
            assert!(world.executor.next_approved("prod", "e1", LEASE, later(30)).await.unwrap().is_none());
            let orphan = world.executor.next_orphan("prod", "e1", LEASE, later(30)).await.unwrap().unwrap();
            assert_eq!((orphan.action.id, orphan.action.state.name().as_str()), (begun.id, state));
            assert!(orphan.intent.is_some());
            let (row, lease) = (&orphan.action, &orphan.lease);
            let refusal = world.step(row, RecordKind::Refusal, "refused", later(31));
            conflict(world.executor.refuse(row, lease, &refusal).await.unwrap());
            let intent = world.step(row, RecordKind::Intent, "executing", later(31));
            conflict(world.executor.begin(row, lease, &intent).await.unwrap());
            let unsure = world.step(row, RecordKind::Outcome, "indeterminate", later(32));
            done(world.executor.finish(row, lease, &unsure).await.unwrap());
            let again = world.executor.next_orphan("prod", "e1", LEASE, later(33)).await.unwrap().unwrap();
            let seen = world.step(row, RecordKind::Outcome, "succeeded", later(34));
            let ended = done(world.executor.finish(&again.action, &again.lease, &seen).await.unwrap());
            assert_eq!(ended.state.name(), StateName::Succeeded);
        }
    }

    async fn what_somebody_put_into_the_outbox_holds_no_transition_up(world: World) {
        let forge = async |id: ActionId, topic: &str, family: &str, moment: &str, version: i64| {
            let text = format!(
                "INSERT INTO outbox (action_id, topic, family, moment, version, created_at, not_before) \
                 VALUES ('{id}', '{topic}', '{family}', '{moment}', {version}, 0, 0)"
            );
            world.by_hand.execute(&text).await.unwrap();
        };
        let proposed = world.propose(&proposal("a")).await;
        forge(proposed.id, "ticket_open", "ticket", "asked", proposed.version + 1).await;
        let work = world.claim_to_admit().await;
        let statement = world.statement(&work.action, now());
        let event = world.signed_event(EventName::Admitted, work.action.id, now());
        let admitted = done(world.executor.admit(&work, &statement, &event).await.unwrap());
        assert_eq!(admitted.state.name(), StateName::Pending);

        let (begun, lease) = world.executing("b").await;
        forge(begun.id, "ticket_update", "ticket", "succeeded", begun.version + 1).await;
        let seen = world.step(&begun, RecordKind::Outcome, "succeeded", later(40));
        let ended = done(world.executor.finish(&begun, &lease, &seen).await.unwrap());
        assert_eq!(ended.state.name(), StateName::Succeeded);
    }

    async fn what_a_run_saw_is_kept_beside_an_end_that_is_not_its_own(world: World) {
        let (begun, lease) = world.executing("a").await;
        world.by_hand.execute(&format!(
            "UPDATE actions SET state = 'refused', version = version + 1, lease_token = NULL, \
             lease_holder = NULL, lease_until = NULL, end_code = 'no_rule', end_message = 'x', \
             ended_at = 1 WHERE id = '{}'", begun.id
        )).await.unwrap();
        let seen = world.step(&begun, RecordKind::Outcome, "succeeded", later(40));
        let found = conflict(world.executor.finish(&begun, &lease, &seen).await.unwrap());
        assert!(world.executor.append_outcome(&found, &seen).await.unwrap());
        assert!(!world.executor.append_outcome(&found, &seen).await.unwrap(), "once");
        // The same end seen again is another record, and is told once.
        let again = world.step(&begun, RecordKind::Outcome, "succeeded", later(41));
        assert!(world.executor.append_outcome(&found, &again).await.unwrap());
        let detail = world.server.detail(begun.id).await.unwrap().unwrap();
        assert_eq!((detail.action.state.name(), detail.action.version), (StateName::Refused, found.version));
        let states: Vec<_> = detail.records.iter().map(|(record, _)| record.state.as_str()).collect();
        assert_eq!(states, ["executing", "succeeded", "succeeded"]);
        for sealed in world.executor.records(begun.id).await.unwrap() {
            sealed.open::<ExecutionRecord>(&world.signer.key_ring(), later(41)).unwrap();
        }
        let story = world.story(begun.id).await;
        assert_eq!(story.iter().filter(|name| **name == "action.succeeded").count(), 2);
        let mut told = 0;
        loop {
            let items = world.server
                .outbox_claim(&[Topic::TicketOpen, Topic::TicketUpdate], 10, LEASE, later(50), "t").await.unwrap();
            if items.is_empty() {
                break;
            }
            for item in items {
                told += usize::from(item.moment == "succeeded");
                assert!(world.server.outbox_done(&item, later(50), None).await.unwrap());
            }
        }
        assert_eq!(told, 1);
        let wrong = world.step(&begun, RecordKind::Intent, "executing", later(42));
        assert!(world.executor.append_outcome(&found, &wrong).await.is_err());
    }

    async fn of_what_waits_the_one_that_was_due_first_comes_first(world: World) {
        let held = world.propose(&proposal("a")).await;
        let hold = async |since: i64| {
            let work = world.executor.next_to_admit("prod", "e", LEASE, later(since)).await.unwrap().unwrap();
            let held = Held { reason: Reason::new(Code::SourceUnreachable, "x"), since: later(since) };
            let hold = Hold { held, retry_at: later(since + 1) };
            assert!(world.executor.hold(work.action.id, &work.lease, hold, None).await.unwrap());
            work.action.id
        };
        assert_eq!(hold(0).await, held.id);
        // Old and held for ever, it does not stand before a newer one that became due earlier.
        let (newer, newest) = (
            world.propose_at(&proposal("b"), now()).await,
            world.propose_at(&proposal("c"), later(3)).await,
        );
        assert_eq!(hold(5).await, newer.id);
        assert_eq!(hold(5).await, held.id);
        assert_eq!(hold(5).await, newest.id);
        // Nor does it starve behind those that come all the time.
        world.propose_at(&proposal("d"), later(7)).await;
        assert_eq!(hold(8).await, newer.id.min(held.id).min(newest.id));
    }

    async fn every_arrow_of_the_table_and_no_other(world: World) {
        // What each verb of the executor makes of each state, with a lease that fits.
        let _ = &world;
        for from in StateName::ALL {
            for (verb, to) in [("begin", "executing"), ("refuse", "refused"), ("succeeded", "succeeded"),
                ("failed", "failed"), ("indeterminate", "indeterminate")]
            {
                let to: StateName = to.parse().unwrap();
                let id = bring(&world, *from, verb).await;
                let action = world.server.get(id).await.unwrap().unwrap();
                let lease = Lease { token: "by-hand".into(), fence: 9, until: later(5000) };
                let at = later(500);
                let result = match verb {
                    "begin" => {
                        let step = world.step(&action, RecordKind::Intent, "executing", at);
                        world.executor.begin(&action, &lease, &step).await
                    }
                    "refuse" => {
                        let step = world.step(&action, RecordKind::Refusal, "refused", at);
                        world.executor.refuse(&action, &lease, &step).await
                    }
                    outcome => {
                        let step = world.step(&action, RecordKind::Outcome, outcome, at);
                        world.executor.finish(&action, &lease, &step).await
                    }
                };
                let moved = matches!(result.unwrap(), Transition::Done(_));
                assert_eq!(moved, from.may_become(to), "{verb} from {from}");
            }
        }
    }

    async fn heartbeats_show_the_latest_of_each_executor(world: World) {
        let beat = |executor: &str, at, status: &str| Heartbeat {
            cluster: "prod".into(), executor: executor.into(), at, status: status.into(),
            policy_hash: "p".into(), cluster_lock: "absent".into(),
        };
        world.executor.heartbeat(&beat("e1", now(), "ok")).await.unwrap();
        world.executor.heartbeat(&beat("e2", now(), "ok")).await.unwrap();
        world.executor.heartbeat(&beat("e1", later(5), "the API server does not answer")).await.unwrap();
        let beats = world.server.heartbeats().await.unwrap();
        assert_eq!(beats.len(), 2);
        assert_eq!((beats[0].at, beats[0].status.as_str()), (later(5), "the API server does not answer"));
    }

    async fn an_event_of_the_wrong_author_is_refused(world: World) {
        let event = AuditEvent::new(now(), &OsEntropy, Author::Executor, EventName::Succeeded, "server");
        let error = world.server.audit(event.clone()).await.unwrap_err();
        assert!(matches!(error, StoreError::BadInput { .. }), "{error}");
        assert!(world.server.audit_batch(&[event]).await.is_err());
    }
}

/// A pending action that is put into `state` by hand, with a lease.
async fn bring(world: &World, state: StateName, pod: &str) -> ActionId {
    let pod = format!("{state}-{pod}");
    let id = if matches!(state, StateName::Checking | StateName::Denied) {
        world.propose(&proposal(&pod)).await.id
    } else {
        // Nothing of the rounds before may be waiting to be admitted.
        world
            .by_hand
            .execute("UPDATE actions SET retry_at = 9000000000000000 WHERE state = 'checking'")
            .await
            .unwrap();
        world.pending(&pod).await.id
    };
    world
        .by_hand
        .execute(&format!(
            "UPDATE actions SET state = '{state}', lease_token = 'by-hand', fence = 9, \
             lease_until = 1900000000000, started_at = 1, end_code = 'verified', end_message = 'x', \
             ended_at = 1 WHERE id = '{id}'"
        ))
        .await
        .unwrap();
    id
}
