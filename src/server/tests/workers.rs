//! The workers over real HTTP: tickets that are never doubled and always told the whole story,
//! answers given by moving a ticket, webhooks, crashes.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail, and uses its part"
)]

#[path = "workers/harness.rs"]
mod harness;
#[path = "workers/jira.rs"]
mod jira;
#[path = "workers/meddling.rs"]
mod meddling;
#[path = "workers/webhooks.rs"]
mod webhooks;

use countersign_domain::{ActionId, EventName, OsEntropy, Signer, Verb};
use countersign_server::workers::webhook_router;
use countersign_store::AuditFilter;
use harness::{World, app, open, serve, until};
use jiff::SignedDuration;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_ticket_is_opened_once_although_the_answer_was_lost() {
    let world = World::new().await;
    let lost = json!({"mode": "lose-answer", "count": 1, "method": "POST", "path": "/issue"});
    world.jira.fail(lost).await;
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    assert_eq!(world.jira.issues().await.len(), 1);
    let issue = &world.jira.issues().await[0];
    assert_eq!(issue["labels"], json!([format!("countersign-{id}")]));
    let opening = &world.jira.comments(&key).await[0];
    let detail = world.detail(id).await;
    let digest = detail
        .action
        .state
        .statement()
        .unwrap()
        .digest::<countersign_domain::Statement>();
    for part in [
        format!("https://countersign.example/actions/{id}"),
        digest.to_string(),
        "claude".into(),
        "1 of sre (web or jira)".into(),
        "Decide by".into(),
        "Memory 97% <!channel> @here".into(),
    ] {
        assert!(opening.contains(&part), "{part} in {opening}");
    }
    let path = format!("/rest/api/3/issue/{key}/remotelink");
    let links = world.jira.ask("admin", "GET", &path, None).await;
    assert_eq!(links.as_array().unwrap().len(), 1);
    workers.stop().await;
}

#[tokio::test]
async fn every_other_lost_answer_is_repaired_without_a_second_comment() {
    let world = World::new().await;
    let lost =
        |path: &str| json!({"mode": "lose-answer", "count": 1, "method": "POST", "path": path});
    world.jira.fail(lost("/comment")).await;
    world.jira.fail(lost("/remotelink")).await;
    world
        .jira
        .fail(json!({"mode": "429", "count": 1, "path": "/myself"}))
        .await;
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    // The row of the ticket is done when the next one is told.
    world.approve_on_page(id).await;
    until(20, "the approval's comment", async || {
        (world.jira.comments(&key).await.len() >= 2).then_some(())
    })
    .await;
    let comments = world.jira.comments(&key).await;
    assert_eq!(comments.len(), 2, "{comments:#?}");
    assert_eq!(world.jira.issues().await.len(), 1);
    workers.stop().await;
}

#[tokio::test]
async fn a_jira_that_is_down_across_a_restart_learns_the_whole_story_in_order() {
    let world = World::new().await;
    let config = world.config(1, "");
    world
        .jira
        .fail(json!({"mode": "down", "how": "close"}))
        .await;
    let workers = world.work(&config);
    let id = world.ask("checkout-1").await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(world.state(id).await, "pending", "the proposal stands");
    workers.stop().await;
    let workers = world.work(&config);
    world.approve_on_page(id).await;
    world.execute(id).await;
    world.jira.fail(json!({"mode": "none"})).await;
    let key = world.ticket(id).await;
    until(30, "the end of the story", async || {
        (world.jira.issues().await[0]["status"] == "Done").then_some(())
    })
    .await;
    let comments = world.jira.comments(&key).await;
    let order: Vec<bool> = [
        "Asked by",
        "Approved by Maria Keller (web",
        "Done and verified",
    ]
    .iter()
    .zip(&comments)
    .map(|(words, comment)| comment.contains(words))
    .collect();
    assert_eq!((order, comments.len()), (vec![true; 3], 3), "{comments:#?}");
    assert!(comments[1].contains("looks right"), "{comments:#?}");
    assert_eq!(world.jira.issues().await.len(), 1);
    workers.stop().await;
}

#[tokio::test]
async fn moving_the_ticket_approves_and_the_sweep_finds_it() {
    let world = World::new().await;
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    world.jira.move_to("maria", &key, "in_progress").await;
    world.jira.move_to("maria", &key, "approved").await;
    world.reaches(id, "approved").await;
    let detail = world.detail(id).await;
    let row = &detail.decisions[0];
    assert_eq!((row.person.as_str(), row.verb), ("maria", Verb::Approve));
    assert_eq!(row.channel.as_str(), "jira");
    assert!(
        row.sealed.is_none(),
        "only the executor can say what it saw"
    );
    let events: Vec<EventName> = detail.timeline.iter().map(|row| row.event.event).collect();
    assert!(events.contains(&EventName::Approved), "{events:?}");
    until(15, "the comment", async || {
        world
            .jira
            .comments(&key)
            .await
            .iter()
            .any(|c| c.contains("Approved by Maria Keller (jira"))
            .then_some(())
    })
    .await;
    workers.stop().await;
}

#[tokio::test]
async fn a_ticket_that_is_moved_back_takes_its_approval_along() {
    let world = World::new().await;
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    world.jira.move_to("maria", &key, "approved").await;
    world.reaches(id, "approved").await;
    // Not only by herself: Jira's administrator is nobody here, and moves it all the same.
    world.jira.move_to("admin", &key, "to_do").await;
    world.reaches(id, "pending").await;
    let detail = world.detail(id).await;
    let last = detail.decisions.last().unwrap();
    assert_eq!(
        (last.person.as_str(), last.verb, last.channel.as_str()),
        ("maria", Verb::Withdraw, "jira")
    );
    let told = detail.timeline.iter().map(|row| row.event.event);
    assert!(told.clone().any(|event| event == EventName::Reopened));
    until(15, "the comment", async || {
        let comments = world.jira.comments(&key).await;
        let why = "The approval of Maria Keller in Jira does not stand any more";
        comments.iter().any(|c| c.contains(why)).then_some(())
    })
    .await;
    // It was not her last word.
    world.jira.move_to("maria", &key, "approved").await;
    world.reaches(id, "approved").await;
    let settled = world.detail(id).await;
    assert_eq!(settled.decisions.len(), 3);
    // An edit takes it back, too, and keeps it from coming again.
    let edit = json!({"fields": {"summary": "Approve something harmless?"}});
    let path = format!("/rest/api/3/issue/{key}");
    world.jira.ask("admin", "PUT", &path, Some(edit)).await;
    world.reaches(id, "pending").await;
    until(15, "why it does not count", async || {
        let comments = world.jira.comments(&key).await;
        comments
            .iter()
            .any(|c| c.contains("This move of the ticket decides nothing"))
            .then_some(())
    })
    .await;
    assert_eq!(world.state(id).await, "pending");
    assert_eq!(world.detail(id).await.decisions.len(), 4);
    workers.stop().await;
}

#[tokio::test]
async fn one_ticket_fills_one_seat_however_often_it_is_moved() {
    let mut world = World::new().await;
    world.seats = 2;
    world.more_people = format!(
        "[[person]]\nid = \"omar\"\nname = \"Omar Haddad\"\ngroups = [\"sre\"]\njira = [\"{}\"]\n",
        world.jira.account("admin")
    );
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    let stands = async |who: &str| {
        until(15, who, async || {
            let last = world.detail(id).await.decisions.pop()?;
            (last.person == who && last.verb == Verb::Approve).then_some(())
        })
        .await;
    };
    world.jira.move_to("maria", &key, "approved").await;
    stands("maria").await;
    world.jira.move_to("admin", &key, "to_do").await;
    world.jira.move_to("admin", &key, "approved").await;
    stands("omar").await;
    let detail = world.detail(id).await;
    assert_eq!(detail.action.state.name().as_str(), "pending");
    let rows: Vec<(&str, Verb)> = detail
        .decisions
        .iter()
        .map(|row| (row.person.as_str(), row.verb))
        .collect();
    assert_eq!(
        rows,
        [
            ("maria", Verb::Approve),
            ("maria", Verb::Withdraw),
            ("omar", Verb::Approve)
        ]
    );
    workers.stop().await;
}

#[tokio::test]
async fn a_no_counts_although_the_ticket_was_moved_on_before_anybody_looked() {
    let world = World::new().await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    workers.stop().await;
    // Whose no does not count does not stop anything either.
    world.jira.move_to("admin", &key, "declined").await;
    world.jira.move_to("maria", &key, "to_do").await;
    world.jira.move_to("li", &key, "declined").await;
    world.jira.move_to("maria", &key, "to_do").await;
    world.jira.move_to("maria", &key, "approved").await;
    let workers = world.work(&config);
    world.reaches(id, "rejected").await;
    let detail = world.detail(id).await;
    let said: Vec<(&str, Verb)> = detail
        .decisions
        .iter()
        .map(|row| (row.person.as_str(), row.verb))
        .collect();
    assert_eq!(said, [("li", Verb::Reject)]);
    let reason = &detail.action.state.end().unwrap().reason.message;
    assert_eq!(reason, "declined in Jira by Li Wei");
    workers.stop().await;
}

#[tokio::test]
async fn tickets_that_cannot_be_read_hold_up_no_other() {
    let world = World::new().await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(world.ask(&format!("checkout-{number}")).await);
    }
    let mut keys = Vec::new();
    for id in &ids {
        keys.push(world.ticket(*id).await);
    }
    // More in a row than are needed to take Jira itself for the cause; the last one is well.
    for id in &ids[..6] {
        let issue = world.detail(*id).await.ticket.unwrap().issue_id;
        let down = json!({"mode": "down", "path": format!("/issue/{issue}")});
        world.jira.fail(down).await;
    }
    world.jira.move_to("maria", &keys[6], "approved").await;
    world.reaches(ids[6], "approved").await;
    assert_eq!(world.state(ids[0]).await, "pending");
    workers.stop().await;
}

#[tokio::test]
async fn a_webhook_makes_it_sooner_however_often_it_comes() {
    let world = World::new().await;
    // A sweep once an hour: what is found, a webhook led to.
    let workers = world.work(&world.config(3600, ""));
    let url = serve(webhook_router(workers.app.clone())).await;
    let hook = json!({"url": format!("{url}/webhooks/jira"), "copies": 3, "jitter_ms": 300});
    world
        .jira
        .ask("admin", "POST", "/playground/webhook", Some(hook))
        .await;
    let (one, two) = (world.ask("checkout-1").await, world.ask("checkout-2").await);
    let (key_one, key_two) = (world.ticket(one).await, world.ticket(two).await);
    world.jira.move_to("maria", &key_one, "approved").await;
    world
        .jira
        .say("maria", &key_two, "Not during the release")
        .await;
    world.jira.move_to("maria", &key_two, "declined").await;
    world.reaches(one, "approved").await;
    world.reaches(two, "rejected").await;
    let deliveries = until(15, "all deliveries", async || {
        let all = world
            .jira
            .ask("admin", "GET", "/playground/deliveries", None)
            .await;
        let all = all["deliveries"].as_array().unwrap().clone();
        all.iter().all(|one| one["attempts"] == 3).then_some(all)
    })
    .await;
    assert!(
        deliveries.iter().all(|one| one["last_status"] == 200),
        "{deliveries:#?}"
    );
    assert_eq!(world.detail(one).await.decisions.len(), 1);
    assert_eq!(world.detail(two).await.decisions.len(), 1);
    until(5, "every webhook is done", async || {
        world
            .store
            .webhook_take(10)
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    workers.stop().await;
}

#[tokio::test]
async fn a_decline_carries_the_persons_own_words() {
    let world = World::new().await;
    let workers = world.work(&world.config(1, ""));
    let (one, two) = (world.ask("checkout-1").await, world.ask("checkout-2").await);
    let (key_one, key_two) = (world.ticket(one).await, world.ticket(two).await);
    world
        .jira
        .say("li", &key_one, "Drain it first\u{202e}")
        .await;
    world
        .jira
        .say("maria", &key_one, "not what Maria declines for; Li is")
        .await;
    // Li may not approve what an AI asks in Li's name, and may always say no.
    world.jira.move_to("li", &key_one, "declined").await;
    world.jira.move_to("maria", &key_two, "declined").await;
    world.reaches(one, "rejected").await;
    world.reaches(two, "rejected").await;
    let reason = |detail: &countersign_store::ActionDetail| {
        detail.action.state.end().unwrap().reason.message.clone()
    };
    assert_eq!(reason(&world.detail(one).await), "Drain it first⟨U+202E⟩");
    assert_eq!(
        reason(&world.detail(two).await),
        "declined in Jira by Maria Keller"
    );
    until(20, "the final status", async || {
        world
            .jira
            .issues()
            .await
            .iter()
            .all(|issue| issue["status"] == "Done")
            .then_some(())
    })
    .await;
    workers.stop().await;
}

#[tokio::test]
async fn moves_of_strangers_bots_and_the_asker_do_not_count_and_are_told_once() {
    let world = World::new().await;
    let free = json!({"robots_may_decide": true});
    world
        .jira
        .ask("admin", "POST", "/playground/workflow", Some(free))
        .await;
    let workers = world.work(&world.config(1, ""));
    let mut cases = Vec::new();
    for (who, why) in [
        ("admin", "belongs to nobody in the registry"),
        ("bot", "Countersign's own account"),
        ("li", "can speak through the agent"),
    ] {
        let id = world.ask(&format!("pod-{who}")).await;
        let key = world.ticket(id).await;
        cases.push((who, why, id, key));
    }
    for (who, _, _, key) in &cases {
        world.jira.move_to(who, key, "approved").await;
    }
    for (_, why, _, key) in &cases {
        until(15, why, async || {
            world
                .jira
                .comments(key)
                .await
                .iter()
                .any(|c| c.contains(why))
                .then_some(())
        })
        .await;
    }
    // A new process does not know what was told; the ticket and the audit log do.
    workers.stop().await;
    let workers = world.work(&world.config(1, ""));
    let looked = world.ask("checkout-9").await;
    world.ticket(looked).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    for (who, why, id, key) in &cases {
        assert_eq!(world.state(*id).await, "pending", "{who}");
        assert!(world.detail(*id).await.decisions.is_empty(), "{who}");
        let comments = world.jira.comments(key).await;
        let told = comments.iter().filter(|c| c.contains(why)).count();
        assert_eq!((told, comments.len()), (1, 2), "{who}: {comments:#?}");
        let filter = AuditFilter {
            action: Some(*id),
            event: Some(EventName::DecisionRefused.as_str().into()),
            limit: 10,
            ..AuditFilter::default()
        };
        assert_eq!(
            world.store.audit_list(&filter).await.unwrap().len(),
            1,
            "{who}"
        );
    }
    workers.stop().await;
}

#[tokio::test]
async fn an_edited_ticket_approves_nothing() {
    let world = World::new().await;
    let workers = world.work(&world.config(1, ""));
    let id = world.ask("checkout-1").await;
    let key = world.ticket(id).await;
    let edit = json!({"fields": {"summary": "Approve something harmless?"}});
    world
        .jira
        .ask(
            "admin",
            "PUT",
            &format!("/rest/api/3/issue/{key}"),
            Some(edit),
        )
        .await;
    world.jira.move_to("maria", &key, "approved").await;
    until(15, "why it does not count", async || {
        world
            .jira
            .comments(&key)
            .await
            .iter()
            .any(|c| c.contains("was edited"))
            .then_some(())
    })
    .await;
    assert_eq!(world.state(id).await, "pending");
    workers.stop().await;
}

#[tokio::test]
async fn a_forged_statement_asks_nobody_and_holds_nobody_up() {
    let world = World::new().await;
    let workers = world.work(&world.config(1, ""));
    let stranger = Signer::generate(&OsEntropy);
    let minutes = SignedDuration::from_mins(15);
    let forged = world.ask_signed_by(&stranger, "forged-1", minutes).await;
    let good = world.ask("checkout-1").await;
    world.ticket(good).await;
    assert!(world.detail(forged).await.ticket.is_none());
    assert_eq!(world.jira.issues().await.len(), 1);
    workers.stop().await;
}

#[tokio::test]
async fn what_was_in_hand_is_given_back_at_once() {
    let world = World::new().await;
    // The search for a lost ticket takes seconds: that is when it stops.
    let lost = json!({"mode": "lose-answer", "count": 1, "method": "POST", "path": "/issue"});
    world.jira.fail(lost).await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let id = world.ask("checkout-1").await;
    until(15, "the create", async || {
        (world.jira.issues().await.len() == 1).then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    workers.stop().await;
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    let workers = world.work(&config);
    world.ticket(id).await;
    assert_eq!(world.jira.issues().await.len(), 1);
    workers.stop().await;
}

/// Runs in a process of its own, started by the test below; alone it does nothing.
#[tokio::test]
async fn crashes_between_create_and_record() {
    let Ok(config) = std::env::var("WORKERS_TEST_CONFIG") else {
        return;
    };
    let var = |name: &str| std::env::var(name).unwrap();
    let folder = std::path::PathBuf::from(var("WORKERS_TEST_FOLDER"));
    let store = open(&folder).await.server();
    let app = app(
        &config,
        &var("WORKERS_TEST_REGISTRY"),
        store,
        &var("WORKERS_TEST_EXECUTOR"),
        &var("WORKERS_TEST_ATTESTOR"),
        SignedDuration::ZERO,
        &folder,
    );
    countersign_server::workers::run(app).await;
}

#[tokio::test]
async fn a_crash_between_create_and_record_leaves_one_ticket() {
    let world = World::new().await;
    let config = world.config(1, "");
    let id: ActionId = world.ask("checkout-1").await;
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes_between_create_and_record"])
        .env("COUNTERSIGN_CRASH_AT", "ticket.created")
        .env("WORKERS_TEST_CONFIG", &config)
        .env("WORKERS_TEST_FOLDER", world.dir.path())
        .env("WORKERS_TEST_REGISTRY", world.registry())
        .env("WORKERS_TEST_EXECUTOR", world.executor_key.public_text())
        .env("WORKERS_TEST_ATTESTOR", &world.attestor_text)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(!status.success());
    assert_eq!(world.jira.issues().await.len(), 1, "it was created");
    assert!(world.detail(id).await.ticket.is_none(), "and not recorded");
    // The lease of the process that died runs out.
    let workers = world.work_late(&config, SignedDuration::from_secs(120));
    world.ticket(id).await;
    assert_eq!(world.jira.issues().await.len(), 1);
    workers.stop().await;
}
