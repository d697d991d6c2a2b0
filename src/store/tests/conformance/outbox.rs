//! The outbox: written with the transition, sent in order, under leases; and the tickets.

use countersign_domain::*;
use countersign_store::*;
use futures::future::join_all;

use crate::on_both_engines;
use crate::world::*;

/// Tickets and one of the two receivers.
const SOME: [Topic; 3] = [Topic::TicketOpen, Topic::TicketUpdate, Topic::NotifyWebhook];

async fn claim(world: &World, seconds: i64, token: &str) -> Vec<OutboxItem> {
    world
        .server
        .outbox_claim(&SOME, 10, LEASE, later(seconds), token)
        .await
        .unwrap()
}

fn words(items: &[OutboxItem]) -> Vec<(Topic, &str)> {
    items
        .iter()
        .map(|item| (item.topic, item.moment.as_str()))
        .collect()
}

on_both_engines! {
    async fn each_family_is_sent_in_order(world: World) {
        let action = world.approved("a").await;
        let first = claim(&world, 20, "t1").await;
        assert_eq!(words(&first), [(Topic::TicketOpen, "asked"), (Topic::NotifyWebhook, "asked")]);
        assert!(claim(&world, 21, "t2").await.is_empty(), "leased, and what follows must wait");
        assert!(first.iter().all(|item| item.action == action.id && item.attempts == 1));
        let event = server_event(EventName::Notified, later(22)).about(action.id);
        assert!(world.server.outbox_done(&first[1], later(22), Some(event.clone())).await.unwrap());
        assert!(!world.server.outbox_done(&first[1], later(22), Some(event)).await.unwrap());
        // The notification goes on while the ticket is still being made.
        let second = claim(&world, 23, "t3").await;
        assert_eq!(words(&second), [(Topic::NotifyWebhook, "approved")]);
        // Jira is down: later, and nothing overtakes it.
        assert!(world.server.outbox_retry(&first[0], later(100), "connection refused").await.unwrap());
        assert!(claim(&world, 60, "t4").await.iter().all(|item| item.topic == Topic::NotifyWebhook));
        let retried = claim(&world, 100, "t5").await;
        let retried = retried.iter().find(|item| item.topic == Topic::TicketOpen).unwrap();
        assert_eq!(retried.attempts, 2);
        assert!(world.server.outbox_done(retried, later(101), None).await.unwrap());
        assert_eq!(words(&claim(&world, 102, "t6").await), [(Topic::TicketUpdate, "approved")]);
        let story = world.story(action.id).await;
        assert_eq!(story.iter().filter(|name| **name == "notification.sent").count(), 1);
    }

    async fn no_receiver_waits_for_another(world: World) {
        let action = world.approved("a").await;
        let claim = async |topic, seconds| {
            world.server.outbox_claim(&[topic], 10, LEASE, later(seconds), "t").await.unwrap()
        };
        let dead = claim(Topic::NotifyWebhook, 20).await;
        assert_eq!(words(&dead), [(Topic::NotifyWebhook, "asked")]);
        assert!(world.server.outbox_retry(&dead[0], later(9000), "it is gone").await.unwrap());
        for moment in ["asked", "approved"] {
            let items = claim(Topic::NotifySlack, 21).await;
            assert_eq!(words(&items), [(Topic::NotifySlack, moment)]);
            assert_eq!(items[0].action, action.id);
            assert!(claim(Topic::NotifySlack, 21).await.is_empty(), "its own order stays");
            assert!(world.server.outbox_done(&items[0], later(21), None).await.unwrap());
        }
        assert!(claim(Topic::NotifyWebhook, 22).await.is_empty());
    }

    async fn a_lease_that_ran_out_goes_to_another_and_the_first_is_told(world: World) {
        world.pending("a").await;
        let first = claim(&world, 0, "t1").await;
        let second = claim(&world, 31, "t2").await;
        assert_eq!(words(&first), words(&second));
        assert!(!world.server.outbox_done(&first[0], later(32), None).await.unwrap());
        assert!(!world.server.outbox_retry(&first[0], later(32), "x").await.unwrap());
        assert!(world.server.outbox_done(&second[0], later(32), None).await.unwrap());
    }

    async fn topics_and_limits_are_honoured(world: World) {
        for pod in ["a", "b", "c"] {
            world.pending(pod).await;
        }
        let notify = world.server.outbox_claim(&[Topic::NotifyWebhook], 2, LEASE, now(), "t").await.unwrap();
        assert_eq!(words(&notify), [(Topic::NotifyWebhook, "asked"); 2]);
        let none = world.server.outbox_claim(&[], 2, LEASE, now(), "t").await.unwrap();
        assert!(none.is_empty());
        let gauges = world.server.gauges().await.unwrap();
        assert_eq!((gauges.pending, gauges.oldest_pending), (3, Some(now())));
        let waiting = |family| OutboxGauge { family, open: 3, oldest: Some(now()) };
        assert_eq!(gauges.outbox, ["ticket", "notify_webhook", "notify_slack"].map(waiting));
        for item in notify {
            assert!(world.server.outbox_done(&item, now(), None).await.unwrap());
        }
        let last = world.server.outbox_claim(&[Topic::NotifyWebhook], 2, LEASE, now(), "t").await.unwrap();
        assert!(world.server.outbox_done(&last[0], now(), None).await.unwrap());
        let gauges = world.server.gauges().await.unwrap();
        assert_eq!(gauges.outbox[1], OutboxGauge { family: "notify_webhook", open: 0, oldest: None });
    }

    async fn claims_at_once_never_share_a_row(world: World) {
        for n in 0..10 {
            world.pending(&format!("web-{n}")).await;
        }
        let claims = join_all((0..8).map(|n| {
            let server = world.server.clone();
            async move {
                server.outbox_claim(&SOME, 4, LEASE, now(), &format!("t{n}")).await.unwrap()
            }
        }))
        .await;
        let mut ids: Vec<_> = claims.into_iter().flatten().map(|item| item.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    async fn a_reminder_is_added_once(world: World) {
        let action = world.pending("a").await;
        let add = async || {
            world.server.outbox_add(action.id, Topic::NotifyWebhook, "reminder", later(60)).await.unwrap()
        };
        assert!(add().await);
        assert!(!add().await);
        assert!(!world.server.outbox_add(id_at(now()), Topic::NotifyWebhook, "reminder", now()).await.unwrap());
    }

    async fn a_ticket_is_recorded_once(world: World) {
        let (a, b) = (world.pending("a").await, world.pending("b").await);
        // Ids of one and the same millisecond have no order of their own.
        let (a, b) = if a.id < b.id { (a, b) } else { (b, a) };
        let record = async |action: ActionId, issue: &str| {
            let ticket = Ticket { issue_id: issue.into(), key: format!("OPS-{issue}"), url: "u".into() };
            let event = server_event(EventName::TicketOpened, later(1)).about(action);
            world.server.ticket_record(action, &ticket, event).await
        };
        assert_eq!(world.server.ticket_get(a.id).await.unwrap(), None);
        record(a.id, "1").await.unwrap();
        record(a.id, "1").await.unwrap();
        let other = record(a.id, "2").await.unwrap_err();
        assert!(matches!(&other, StoreError::OtherTicket { key, .. } if key == "OPS-1"), "{other}");
        assert!(matches!(record(b.id, "1").await.unwrap_err(), StoreError::BadInput { .. }));
        assert!(matches!(record(id_at(now()), "9").await.unwrap_err(), StoreError::NoSuchAction { .. }));
        assert_eq!(world.story(a.id).await.len(), 3, "one event for one ticket");
        record(b.id, "3").await.unwrap();
        let open = world.server.open_tickets(10, None).await.unwrap();
        assert_eq!(open.iter().map(|row| (row.0, row.2)).collect::<Vec<_>>(),
            [(a.id, StateName::Pending), (b.id, StateName::Pending)]);
        let rest = world.server.open_tickets(10, Some(a.id)).await.unwrap();
        assert_eq!(rest.len(), 1);
        assert_eq!(world.server.open_tickets(1, None).await.unwrap().len(), 1);
        let reason = Reason::new(Code::ByProposer, "x");
        let event = server_event(EventName::Cancelled, later(2)).about(a.id);
        done(world.server.cancel(a.id, "claude", reason, later(2), event).await.unwrap());
        assert_eq!(world.server.open_tickets(10, None).await.unwrap().len(), 1);
    }

    async fn every_end_is_told_after_an_admission_and_none_before(world: World) {
        world.propose(&proposal("early")).await;
        world.server.expire_due(later(200)).await.unwrap();
        let (executing, lease) = world.executing("a").await;
        let step = world.step(&executing, RecordKind::Outcome, "indeterminate", later(30));
        done(world.executor.finish(&executing, &lease, &step).await.unwrap());
        let orphan = world.executor.next_orphan("prod", "e", LEASE, later(31)).await.unwrap().unwrap();
        let step = world.step(&executing, RecordKind::Outcome, "succeeded", later(32));
        done(world.executor.finish(&orphan.action, &orphan.lease, &step).await.unwrap());
        world.pending("b").await;
        world.server.expire_due(later(700)).await.unwrap();
        let mut told = Vec::new();
        loop {
            let items = claim(&world, 800, "t").await;
            if items.is_empty() {
                break;
            }
            for item in items {
                told.push((item.topic, item.moment.clone()));
                assert!(world.server.outbox_done(&item, later(800), None).await.unwrap());
            }
        }
        let of = |topic| {
            let mut moments: Vec<_> =
                told.iter().filter(|it| it.0 == topic).map(|it| it.1.as_str()).collect();
            moments.sort_unstable();
            moments
        };
        assert_eq!(of(Topic::TicketOpen), ["asked", "asked"]);
        assert_eq!(of(Topic::TicketUpdate), ["approved", "expired", "indeterminate", "succeeded"]);
        assert_eq!(of(Topic::NotifyWebhook), ["approved", "asked", "asked", "expired", "indeterminate", "succeeded"]);
    }
}
