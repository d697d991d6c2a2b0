//! Proposals: stored once, capped, never two for one change.

use countersign_domain::*;
use countersign_store::*;
use futures::future::join_all;

use crate::on_both_engines;
use crate::world::*;

async fn try_propose(world: &World, proposal: &Proposal, caps: Caps) -> Proposed {
    try_propose_with(&world.server, proposal, caps).await
}

async fn try_propose_with(store: &ServerStore, proposal: &Proposal, caps: Caps) -> Proposed {
    let id = id_at(now());
    let event = server_event(EventName::Proposed, now()).about(id);
    store
        .propose(proposal, id, caps, now(), event)
        .await
        .unwrap()
}

on_both_engines! {
    async fn an_idempotency_key_is_found_however_old_and_only_by_its_agent(world: World) {
        let mut old = proposal("old");
        old.idempotency_key = Some("deploy-17".into());
        let old = world.propose(&old).await;
        for pod in 0..20 {
            world.propose_at(&proposal(&format!("web-{pod}")), later(pod)).await;
        }
        let find = async |agent, key| world.server.by_idempotency_key(agent, key).await.unwrap();
        assert_eq!(find("claude", "deploy-17").await.unwrap().id, old.id);
        assert!(find("cursor", "deploy-17").await.is_none());
        assert!(find("claude", "deploy-18").await.is_none());
    }

    async fn a_proposal_comes_back_as_it_was_stored(world: World) {
        let wanted = Proposal { idempotency_key: Some("k1".into()), ..proposal("web-1") };
        let created = world.propose(&wanted).await;
        assert_eq!(created.proposal, wanted);
        assert_eq!(created.version, 1);
        assert_eq!(created.created_at, now());
        assert_eq!(created.state, State::Checking { held: None });
        // The other process sees the same.
        let seen = world.executor_db.server().get(created.id).await.unwrap();
        assert_eq!(seen.as_ref(), Some(&created));
        assert_eq!(world.story(created.id).await, ["action.proposed"]);
        assert_eq!(world.server.get(id_at(now())).await.unwrap(), None);
    }

    async fn an_equal_proposal_is_the_existing_one_until_it_ends(world: World) {
        let first = world.propose(&proposal("web-1")).await;
        let again = try_propose(&world, &proposal("web-1"), CAPS).await;
        assert!(matches!(again, Proposed::Existing(found) if found.id == first.id));
        assert_eq!(world.audit_count().await, 1, "an existing one writes no event");

        let other_caller = Proposal { agent: "cursor".into(), ..proposal("web-1") };
        assert!(matches!(try_propose(&world, &other_caller, CAPS).await, Proposed::Created(_)));
        let mut other_params = proposal("web-1");
        other_params.params.insert("grace".into(), "5".into());
        assert!(matches!(try_propose(&world, &other_params, CAPS).await, Proposed::Created(_)));

        let reason = Reason::new(Code::ByProposer, "not needed");
        let event = server_event(EventName::Cancelled, now()).about(first.id);
        done(world.server.cancel(first.id, "claude", reason, now(), event).await.unwrap());
        assert!(matches!(try_propose(&world, &proposal("web-1"), CAPS).await, Proposed::Created(_)));
    }

    async fn what_an_action_holds_of_its_caller_follows_its_state_whoever_writes_it(world: World) {
        let first = world.propose(&proposal("web-1")).await;
        let set = async |id: ActionId, state: &str| {
            let text = format!("UPDATE actions SET state = '{state}' WHERE id = '{id}'");
            world.by_hand.execute(&text).await
        };
        set(first.id, "failed").await.unwrap();
        let Proposed::Created(second) = try_propose(&world, &proposal("web-1"), CAPS).await else {
            panic!()
        };
        // Open again there would be two.
        let error = set(first.id, "approved").await.unwrap_err();
        assert!(error.to_lowercase().contains("unique"), "{error}");
        set(second.id, "expired").await.unwrap();
        set(first.id, "indeterminate").await.unwrap();
        let error = set(second.id, "checking").await.unwrap_err();
        assert!(error.to_lowercase().contains("unique"), "{error}");
    }

    async fn an_idempotency_key_stands_for_one_proposal_for_ever(world: World) {
        let keyed = Proposal { idempotency_key: Some("k1".into()), ..proposal("web-1") };
        let first = world.propose(&keyed).await;
        assert!(matches!(try_propose(&world, &keyed, CAPS).await,
            Proposed::Existing(found) if found.id == first.id));
        let other = Proposal { idempotency_key: Some("k1".into()), ..proposal("web-2") };
        assert!(matches!(try_propose(&world, &other, CAPS).await,
            Proposed::KeyReused(id) if id == first.id));
        let reason = Reason::new(Code::ByProposer, "not needed");
        let event = server_event(EventName::Cancelled, now()).about(first.id);
        done(world.server.cancel(first.id, "claude", reason, now(), event).await.unwrap());
        assert!(matches!(try_propose(&world, &keyed, CAPS).await,
            Proposed::Existing(found) if found.state.name() == StateName::Cancelled));
        let other_agent = Proposal { agent: "cursor".into(), ..keyed };
        assert!(matches!(try_propose(&world, &other_agent, CAPS).await, Proposed::Created(_)));
    }

    async fn many_at_once_are_each_answered_for_themselves(world: World) {
        // Every third repeats the one before it; one cannot be stored at all.
        let pod = |n: usize| format!("web-{}", if n % 3 == 1 { n - 1 } else { n });
        let (world, wanted) = (&world, 40);
        let results = join_all((0..wanted).map(|n| async move {
            let id = id_at(now());
            let mut event = server_event(EventName::Proposed, now()).about(id);
            if n == 11 {
                // Only signed events are the executor's: the schema refuses it.
                event.author = Author::Executor;
            }
            world.server.propose(&proposal(&pod(n)), id, CAPS, now(), event).await
        }))
        .await;
        let mut created = 0;
        let mut ids = Vec::new();
        for (n, result) in results.iter().enumerate() {
            ids.push(match result {
                Ok(Proposed::Created(action) | Proposed::Existing(action)) => {
                    assert_eq!(action.proposal.target.name, pod(n));
                    created += usize::from(matches!(result, Ok(Proposed::Created(_))));
                    action.id
                }
                Err(_) if n == 11 => continue,
                other => panic!("{n}: {other:?}"),
            });
        }
        assert_eq!(ids.len(), wanted - 1, "what cannot be stored harms no other");
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), world.audit_count().await), (created, created));
        assert_eq!(created, wanted - 1 - 13);
    }

    async fn caps_hold_and_name_themselves(world: World) {
        let caps = Caps { pending: 2, per_hour: 3 };
        let mut ids = Vec::new();
        for pod in ["a", "b"] {
            let Proposed::Created(action) = try_propose(&world, &proposal(pod), caps).await else { panic!() };
            ids.push(action.id);
        }
        assert!(matches!(try_propose(&world, &proposal("c"), caps).await,
            Proposed::OverCap { what: Cap::Pending, limit: 2 }));
        // An existing one is found all the same.
        assert!(matches!(try_propose(&world, &proposal("a"), caps).await, Proposed::Existing(_)));
        for id in ids {
            let reason = Reason::new(Code::ByProposer, "not needed");
            let event = server_event(EventName::Cancelled, now()).about(id);
            done(world.server.cancel(id, "claude", reason, now(), event).await.unwrap());
        }
        assert!(matches!(try_propose(&world, &proposal("c"), caps).await, Proposed::Created(_)));
        assert!(matches!(try_propose(&world, &proposal("d"), caps).await,
            Proposed::OverCap { what: Cap::PerHour, limit: 3 }));
        let other = Proposal { agent: "cursor".into(), ..proposal("d") };
        assert!(matches!(try_propose(&world, &other, caps).await, Proposed::Created(_)));
        // An hour later the hour is a new one.
        let at = later(3601);
        let id = id_at(at);
        let event = server_event(EventName::Proposed, at).about(id);
        let proposed = world.server.propose(&proposal("d"), id, caps, at, event).await.unwrap();
        assert!(matches!(proposed, Proposed::Created(_)));
    }

    async fn a_cap_counts_every_change_whatever_its_digest(world: World) {
        // Digests of these begin below every id of the year 2026 and after.
        let low = ["web-213", "web-401", "web-489", "web-867"];
        for (agent, caps) in [
            ("claude", Caps { pending: 2, per_hour: 1000 }),
            ("cursor", Caps { pending: 1000, per_hour: 2 }),
        ] {
            let mut created = 0;
            for pod in low {
                let wanted = Proposal { agent: agent.into(), ..proposal(pod) };
                match try_propose(&world, &wanted, caps).await {
                    Proposed::Created(_) => created += 1,
                    Proposed::OverCap { limit: 2, .. } => {}
                    other => panic!("{pod}: {other:?}"),
                }
            }
            assert_eq!(created, 2, "{agent}");
        }
    }

    async fn caps_hold_when_many_propose_at_once(world: World) {
        if let ByHand::Postgres(name) = &world.by_hand {
            // Whatever the database is set to: who waited for its turn sees what was stored meanwhile.
            let text = format!(
                "ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
            );
            world.by_hand.execute(&text).await.unwrap();
        }
        let mut handles = vec![world.another_server().await];
        for _ in 0..3 {
            handles.push(world.another_server().await);
        }
        let caps = Caps { pending: 7, per_hour: 1000 };
        for (agent, caps, what, limit) in [
            ("claude", caps, Cap::Pending, 7),
            ("cursor", Caps { pending: 1000, per_hour: 5 }, Cap::PerHour, 5),
            // A cap that is nearly reached.
            ("claude", Caps { pending: 9, per_hour: 1000 }, Cap::Pending, 2),
        ] {
            let results = join_all((0..60).map(|n| {
                let store = handles[n % handles.len()].server();
                let wanted = Proposal { agent: agent.into(), ..proposal(&format!("web-{limit}-{n}")) };
                async move { try_propose_with(&store, &wanted, caps).await }
            }))
            .await;
            let created = results.iter().filter(|it| matches!(it, Proposed::Created(_))).count();
            let over = results.iter()
                .filter(|it| matches!(it, Proposed::OverCap { what: named, .. } if *named == what))
                .count();
            assert_eq!((created, over), (limit, 60 - limit), "{agent}: {results:?}");
        }
        assert_eq!(world.audit_count().await, 7 + 5 + 2, "an event for each that was stored");
        for handle in handles.split_off(1) {
            handle.close().await;
        }
    }

    async fn a_caller_who_goes_away_neither_undoes_nor_harms(world: World) {
        let mut ids = Vec::new();
        for round in 0..3 {
            // The one who leaves is at work for the others: whoever comes first runs its own verb.
            let (leaves, stay) = (proposal(&format!("a-{round}")), proposal(&format!("b-{round}")));
            let caps = Caps { pending: 1000, per_hour: 1000 };
            let held = world.hold_proposals().await;
            let mut leaving = Box::pin(try_propose_with(&world.server, &leaves, caps));
            let mut staying = Box::pin(try_propose_with(&world.server, &stay, caps));
            assert!(futures::poll!(&mut leaving).is_pending());
            assert!(futures::poll!(&mut staying).is_pending());
            drop(leaving);
            held.let_go().await;
            let Proposed::Created(stayed) = staying.await else { panic!() };
            ids.push(stayed.id);
        }
        let expected = ids.len() * 2;
        // What was begun is finished all the same.
        for _ in 0..200 {
            if world.audit_count().await == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(world.audit_count().await, expected);
    }

    async fn of_equal_proposals_at_once_exactly_one_is_created(world: World) {
        for round in 0..10 {
            let wanted = proposal(&format!("web-{round}"));
            let other = world.executor_db.clone();
            let results = join_all((0..8).map(|n| {
                // On PostgreSQL the executor's role may not propose: both are the server there.
                let store = match &world.by_hand {
                    ByHand::Sqlite(_) if n % 2 == 1 => other.server(),
                    _ => world.server.clone(),
                };
                let wanted = &wanted;
                async move {
                    let id = id_at(now());
                    let event = server_event(EventName::Proposed, now()).about(id);
                    store.propose(wanted, id, CAPS, now(), event).await.unwrap()
                }
            }))
            .await;
            let created = results.iter().filter(|it| matches!(it, Proposed::Created(_))).count();
            let existing = results.iter().filter(|it| matches!(it, Proposed::Existing(_))).count();
            assert_eq!((created, existing), (1, 7), "{results:?}");
        }
        assert_eq!(world.audit_count().await, 10);
    }

    async fn hostile_text_comes_back_harmless_and_whole(world: World) {
        let reason = format!("a\0b\r\n\u{1b}[31m{}'\"\\", "x".repeat(5000));
        let wanted = Proposal { reason: reason.clone(), ..proposal("we\u{1f600}b'--") };
        let created = world.propose(&wanted).await;
        assert_eq!(created.proposal.reason, reason.replace('\0', "\u{fffd}"));
        let event = server_event(EventName::ToolCalled, now()).with("input", "a\0b").with("outcome", "a\0b");
        world.server.audit(event.clone()).await.unwrap();
        world.server.audit_batch(&[event.clone(), event]).await.unwrap();
        let rows = world.server.audit_list(&AuditFilter { limit: 3, ..Default::default() }).await.unwrap();
        for row in rows {
            assert_eq!(row.event.details["input"], "a\0b", "the event itself is exact");
        }
    }

    async fn cancelling_is_for_the_proposer_before_anybody_works_on_it(world: World) {
        let cancel = async |action: &Action, agent: &str| {
            let reason = Reason::new(Code::ByProposer, "not needed");
            let event = server_event(EventName::Cancelled, later(25)).about(action.id);
            world.server.cancel(action.id, agent, reason, later(25), event).await.unwrap()
        };
        let checking = world.propose(&proposal("a")).await;
        assert_eq!(conflict(cancel(&checking, "cursor").await).id, checking.id);
        let cancelled = done(cancel(&checking, "claude").await);
        assert_eq!(cancelled.version, 2);
        let State::Cancelled { statement: None, end } = cancelled.state else { panic!() };
        assert_eq!((end.reason.code, end.at), (Code::ByProposer, later(25)));
        conflict(cancel(&checking, "claude").await);

        let pending = world.pending("b").await;
        let cancelled = done(cancel(&pending, "claude").await);
        assert!(cancelled.state.statement().is_some());

        let approved = world.approved("c").await;
        let claimed = world.claim_approved().await;
        conflict(cancel(&approved, "claude").await);
        assert!(world.executor.release(approved.id, &claimed.lease).await.unwrap());
        done(cancel(&approved, "claude").await);

        let (executing, _) = world.executing("d").await;
        assert_eq!(conflict(cancel(&executing, "claude").await).state.name(), StateName::Executing);
        assert!(matches!(
            world.server.cancel(id_at(now()), "claude", Reason::new(Code::ByProposer, "x"), now(),
                server_event(EventName::Cancelled, now())).await.unwrap(),
            Transition::Conflict(None)
        ));
    }
}
