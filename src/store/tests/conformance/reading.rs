//! Lists, filters, wake-ups, and rows that somebody changed by hand.

use std::time::Duration;

use countersign_domain::*;
use countersign_store::*;

use crate::on_both_engines;
use crate::world::*;

on_both_engines! {
    async fn lists_filter_and_page_newest_first(world: World) {
        let mut ids = Vec::new();
        for n in 0..5 {
            let mut wanted = proposal(&format!("web-{n}"));
            if n == 3 {
                wanted.target.namespace = "other".into();
                wanted.agent = "cursor".into();
            }
            ids.push(world.propose_at(&wanted, later(n)).await.id);
        }
        ids.reverse();
        let list = async |filter: ActionFilter| -> Vec<ActionId> {
            world.server.list(&filter).await.unwrap().iter().map(|action| action.id).collect()
        };
        let all = ActionFilter { limit: 50, ..Default::default() };
        assert_eq!(list(all.clone()).await, ids);
        let page = ActionFilter { limit: 2, before: Some(ids[1]), ..Default::default() };
        assert_eq!(list(page).await, ids[2..4]);
        assert_eq!(list(ActionFilter { agent: Some("cursor".into()), ..all.clone() }).await, [ids[1]]);
        let within = |namespaces: &[&str]| ActionFilter {
            namespaces: Some(namespaces.iter().map(|name| (*name).to_owned()).collect()), ..all.clone()
        };
        assert_eq!(list(within(&["other"])).await, [ids[1]]);
        assert_eq!(list(within(&["other", "nowhere", "shop"])).await.len(), ids.len());
        assert!(list(within(&[])).await.is_empty());
        assert!(list(ActionFilter { cluster: Some("dev".into()), ..all.clone() }).await.is_empty());
        let states = vec![StateName::Checking, StateName::Pending];
        assert_eq!(list(ActionFilter { states, agent: Some("claude".into()), ..all.clone() }).await.len(), 4);
        assert!(list(ActionFilter { states: vec![StateName::Failed], ..all }).await.is_empty());
        assert_eq!(list(ActionFilter::default()).await.len(), 1, "a limit of 0 is one");
        assert_eq!(world.server.count_by_state().await.unwrap(), [(StateName::Checking, 5)]);
    }

    async fn what_is_read_of_an_action_fits_together_while_it_ends(world: World) {
        for n in 0..20 {
            let (executing, lease) = world.executing(&format!("web-{n}")).await;
            let step = world.step(&executing, RecordKind::Outcome, "succeeded", later(30));
            let reader = world.server.clone();
            let reading = tokio::spawn(async move {
                loop {
                    let detail = reader.detail(executing.id).await.unwrap().unwrap();
                    let last = detail.records.last().unwrap().0.record;
                    let ended = detail.action.state.name() == StateName::Succeeded;
                    assert_eq!(ended, last == RecordKind::Outcome, "{:?}", detail.action.state);
                    if ended {
                        break;
                    }
                }
            });
            tokio::time::sleep(Duration::from_millis(n % 5)).await;
            done(world.executor.finish(&executing, &lease, &step).await.unwrap());
            reading.await.unwrap();
        }
    }

    async fn the_audit_log_filters_and_pages(world: World) {
        let id = id_at(now());
        let mut events = Vec::new();
        for n in 0..6 {
            let name = [EventName::ToolCalled, EventName::Viewed, EventName::LoggedIn][n % 3];
            let mut event = server_event(name, later(n as i64));
            event.actor = format!("p{}", n % 2);
            if n == 5 {
                event = event.about(id).with("outcome", "failed");
            }
            events.push(event);
        }
        world.server.audit_batch(&events).await.unwrap();
        world.server.audit_batch(&[]).await.unwrap();
        let list = async |filter: AuditFilter| {
            let filter = AuditFilter { limit: filter.limit.max(1), ..filter };
            world.server.audit_list(&filter).await.unwrap()
        };
        let all = AuditFilter { limit: 100, ..Default::default() };
        let rows = list(all.clone()).await;
        let newest_first: Vec<_> = events.iter().rev().cloned().collect();
        assert_eq!(rows.iter().map(|row| row.event.clone()).collect::<Vec<_>>(), newest_first);
        assert!(rows.windows(2).all(|pair| pair[0].seq > pair[1].seq));
        assert_eq!(list(AuditFilter { before_seq: Some(rows[3].seq), ..all.clone() }).await.len(), 2);
        assert_eq!(list(AuditFilter { actor: Some("p1".into()), ..all.clone() }).await.len(), 3);
        assert_eq!(list(AuditFilter { event: Some("tool.called".into()), ..all.clone() }).await.len(), 2);
        assert_eq!(list(AuditFilter { event: Some("person.*".into()), ..all.clone() }).await.len(), 2);
        assert_eq!(list(AuditFilter { event: Some("*".into()), ..all.clone() }).await.len(), 6);
        assert!(list(AuditFilter { event: Some("%".into()), ..all.clone() }).await.is_empty());
        assert_eq!(list(AuditFilter { action: Some(id), ..all.clone() }).await.len(), 1);
        assert_eq!(list(AuditFilter { outcome: Some("failed".into()), ..all.clone() }).await.len(), 1);
        let window = AuditFilter { from: Some(later(1)), until: Some(later(3)), ..all.clone() };
        assert_eq!(list(window).await.len(), 2);
        assert_eq!(list(AuditFilter { limit: 2, ..all }).await.len(), 2);
    }

    async fn a_search_finds_what_a_walk_of_the_whole_log_finds(world: World) {
        // More than two blocks of the log's index, the last one not full; a clock that is set back.
        let actions = [id_at(now()), id_at(now()), id_at(now())];
        let mut log = Vec::new();
        for n in 0..700_i64 {
            let name = [EventName::ToolCalled, EventName::Viewed, EventName::LoggedIn, EventName::ToolCalled]
                [n as usize % 4];
            let at = if (200..330).contains(&n) { later(n - 150) } else { later(n) };
            let mut event = server_event(name, at);
            event.actor = format!("p{}", n % 7);
            if n % 5 == 0 {
                event = event.about(actions[n as usize % 3]);
            }
            if n % 11 == 0 {
                event = event.with("outcome", "failed");
            }
            log.push(event);
        }
        for batch in log.chunks(93) {
            world.server.audit_batch(batch).await.unwrap();
        }
        let base = AuditFilter { limit: 200, ..Default::default() };
        let times = [(None, None), (Some(60), Some(180)), (Some(170), None), (None, Some(175)), (Some(550), Some(560)), (Some(690), Some(900))];
        let mut found = 0;
        for actor in [None, Some("p3")] {
            for event in [None, Some("tool.called"), Some("person.*"), Some("*")] {
                for action in [None, Some(actions[1])] {
                    for outcome in [None, Some("failed")] {
                        for (from, until) in times {
                            let filter = AuditFilter {
                                actor: actor.map(str::to_owned),
                                event: event.map(str::to_owned),
                                action,
                                outcome: outcome.map(str::to_owned),
                                from: from.map(later),
                                until: until.map(later),
                                ..base.clone()
                            };
                            let wanted = log.iter().rev().filter(|row| {
                                actor.is_none_or(|actor| row.actor == actor)
                                    && match event {
                                        Some("tool.called") => row.event == EventName::ToolCalled,
                                        Some("person.*") => row.event.as_str().starts_with("person."),
                                        _ => true,
                                    }
                                    && action.is_none_or(|id| row.action_id == id.to_string())
                                    && outcome.is_none_or(|word| row.details["outcome"] == word)
                                    && from.is_none_or(|from| row.at >= later(from))
                                    && until.is_none_or(|until| row.at < later(until))
                            });
                            let wanted: Vec<&str> = wanted.map(|row| row.id.as_str()).collect();
                            found += wanted.len();
                            let (mut got, mut before_seq) = (Vec::new(), None);
                            loop {
                                let page = AuditFilter { before_seq, ..filter.clone() };
                                let rows = world.server.audit_list(&page).await.unwrap();
                                let Some(last) = rows.last() else { break };
                                before_seq = Some(last.seq);
                                got.extend(rows.into_iter().map(|row| row.event.id));
                            }
                            assert_eq!(got, wanted, "{filter:?}");
                        }
                    }
                }
            }
        }
        assert!(found > 3_000, "the filters find something: {found}");
    }

    async fn what_was_said_stays_said(world: World) {
        let (executing, _) = world.executing("a").await;
        let body = world.decision_body("kim", Verb::Approve, Channel::Jira);
        let signed = Signed::sign(body, &world.signer).unwrap();
        world.by_hand.execute(&format!(
            "UPDATE actions SET lease_token = 't' WHERE id = '{}'", executing.id)).await.unwrap();
        let lease = Lease { token: "t".into(), fence: 1, until: later(1) };
        assert!(world.executor
            .record_decision(executing.id, &lease, "kim", Channel::Jira, &signed, "moved").await.unwrap());
        for table in ["audit", "decisions", "derived_decisions", "admissions", "executions"] {
            for text in [
                format!("UPDATE {table} SET signature = 'x', kid = 'y'"),
                format!("DELETE FROM {table}"),
            ] {
                let error = world.by_hand.execute(&text).await.unwrap_err();
                assert!(error.contains("append-only"), "{text}: {error}");
            }
        }
    }

    async fn a_row_changed_by_hand_is_a_typed_error_and_harms_no_other(world: World) {
        let good = world.pending("good").await;
        let bad = world.pending("bad").await.id;
        let other = world.propose(&proposal("other")).await.id;
        let set = async |id: ActionId, what: &str| {
            let text = format!("UPDATE actions SET {what} WHERE id = '{id}'");
            world.by_hand.execute(&text).await.unwrap();
            world.server.get(id).await
        };
        let error = set(bad, "state = 'succeeded'").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("action {bad}: the stored action contradicts itself: state `succeeded` with no start")
        );
        assert!(matches!(error, StoreError::Inconsistent { action, .. } if action == bad));
        assert!(matches!(set(bad, "state = 'checking'").await, Err(StoreError::Inconsistent { .. })));
        assert!(matches!(set(other, "state = 'approved'").await, Err(StoreError::Inconsistent { .. })));
        // Out of the way of the claims below.
        set(bad, "state = 'succeeded'").await.unwrap_err();
        for what in [
            "kind = 'rm -rf'", "params = '[1]'", "created_at = 9223372036854775807",
            "held_code = 'frozen'", "end_code = 'nonsense', end_message = ''",
        ] {
            let id = world.pending(&format!("{what:.6}")).await.id;
            let error = set(id, what).await.unwrap_err();
            assert!(matches!(error, StoreError::BadRow { table: "actions", .. }), "{what}: {error}");
        }
        assert_eq!(world.server.get(good.id).await.unwrap().unwrap(), good);
        let text = format!("UPDATE actions SET state = 'unknown' WHERE id = '{}'", good.id);
        let error = world.by_hand.execute(&text).await.unwrap_err();
        assert!(error.contains("CHECK constraint") || error.contains("no state \"unknown\""), "{error}");
    }

    async fn a_claim_that_meets_a_bad_row_goes_on_with_the_next(world: World) {
        let bad = world.propose(&proposal("bad")).await.id;
        let good = world.propose_at(&proposal("good"), later(1)).await.id;
        world.by_hand.execute(&format!("UPDATE actions SET params = '' WHERE id = '{bad}'")).await.unwrap();
        let next = async || world.executor.next_to_admit("prod", "e", LEASE, later(2)).await;
        assert!(matches!(next().await, Err(StoreError::BadRow { .. })));
        assert_eq!(next().await.unwrap().unwrap().action.id, good);
        assert!(next().await.unwrap().is_none());
    }

    async fn a_commit_of_the_other_process_wakes_at_once(world: World) {
        let mut here = world.server.changes();
        let mut there = world.executor.changes();
        // The watchers come up on their own time, and wake now and then without a cause.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut fastest = Duration::MAX;
        for n in 0..6 {
            here.mark_unchanged();
            there.mark_unchanged();
            let started = tokio::time::Instant::now();
            world.propose(&proposal(&format!("web-{n}"))).await;
            for side in [&mut here, &mut there] {
                tokio::time::timeout(Duration::from_secs(2), side.changed()).await.unwrap().unwrap();
            }
            fastest = fastest.min(started.elapsed());
            tokio::time::sleep(Duration::from_millis(37)).await;
        }
        // Well below the second in which it would be seen anyhow.
        assert!(fastest < Duration::from_millis(500), "{fastest:?}");
    }
}
