//! Somebody who may edit tickets, and does.

use jiff::SignedDuration;
use serde_json::json;

use super::harness::{World, until};

/// Whoever may edit tickets can put the label of one action on the ticket of another.
#[tokio::test]
async fn a_ticket_of_ours_with_a_planted_label_is_not_taken_for_another_actions() {
    let world = World::new().await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let declined = world.ask("checkout-1").await;
    let old = world.ticket(declined).await;
    world.jira.move_to("maria", &old, "declined").await;
    world.reaches(declined, "rejected").await;
    workers.stop().await;

    let id = world.ask("checkout-1").await;
    let plant = json!({"update": {"labels": [{"add": format!("countersign-{id}")}]}});
    let path = format!("/rest/api/3/issue/{old}");
    world.jira.ask("admin", "PUT", &path, Some(plant)).await;
    let workers = world.work(&config);
    let key = world.ticket(id).await;
    assert_ne!(key, old);
    assert_eq!(world.jira.issues().await.len(), 2);
    // Its own ticket answers it; the other one never did.
    world.jira.move_to("maria", &key, "approved").await;
    world.reaches(id, "approved").await;
    workers.stop().await;
}

/// Somebody edits it before we could note that it is ours.
#[tokio::test]
async fn a_ticket_that_was_rewritten_while_its_answer_was_lost_gets_one_that_can_be_answered() {
    let world = World::new().await;
    let lost = json!({"mode": "lose-answer", "count": 1, "method": "POST", "path": "/issue"});
    world.jira.fail(lost).await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let id = world.ask("checkout-1").await;
    let lost = until(15, "the create", async || world.jira.issues().await.pop()).await;
    workers.stop().await;
    assert!(world.detail(id).await.ticket.is_none());
    let edit = json!({"fields": {"summary": "Approve something harmless?"}});
    let path = format!("/rest/api/3/issue/{}", lost["key"].as_str().unwrap());
    world.jira.ask("admin", "PUT", &path, Some(edit)).await;
    // Later than the wait before a second create.
    let workers = world.work_late(&config, SignedDuration::from_secs(60));
    let key = world.ticket(id).await;
    world.jira.move_to("maria", &key, "approved").await;
    world.reaches(id, "approved").await;
    assert_eq!(world.jira.issues().await.len(), 2);
    workers.stop().await;
}

#[tokio::test]
async fn a_ticket_with_an_endless_history_holds_up_no_other() {
    let world = World::new().await;
    let config = world.config(1, "");
    let workers = world.work(&config);
    let (long, short) = (world.ask("checkout-1").await, world.ask("checkout-2").await);
    let (key_long, key_short) = (world.ticket(long).await, world.ticket(short).await);
    workers.stop().await;
    let path = format!("/rest/api/3/issue/{key_long}");
    for _ in 0..251 {
        for verb in ["add", "remove"] {
            let edit = json!({"update": {"labels": [{verb: "noise"}]}});
            world.jira.ask("admin", "PUT", &path, Some(edit)).await;
        }
    }
    for key in [&key_long, &key_short] {
        world.jira.move_to("maria", key, "approved").await;
    }
    let workers = world.work(&config);
    world.reaches(short, "approved").await;
    // Rounds go on: one more ticket is answered, and the long one is left alone all the same.
    let third = world.ask("checkout-3").await;
    let key_third = world.ticket(third).await;
    world.jira.move_to("maria", &key_third, "approved").await;
    world.reaches(third, "approved").await;
    assert_eq!(world.state(long).await, "pending");
    workers.stop().await;
}
