//! What is shown of an outcome when somebody wrote to the database: only the executor's signature
//! makes a success.

use countersign_domain::{Code, StateName};
use countersign_store::testing::Tamper;

use crate::browser::{Browser, state};
use crate::forger::{LIE, forge_success};
use crate::stage::{Ask, Stage};

#[tokio::test]
async fn a_success_that_the_executor_did_not_sign_is_none() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let li = Browser::logged_in(&stage, "li").await;
    forge_success(&stage.database, action.id, stage.signer.kid()).await;
    assert_eq!(state(&stage, &action).await, StateName::Succeeded);

    let page = li.get(&format!("/actions/{}", action.id)).await;
    assert!(page.has("<h2>Not signed by the executor</h2>"));
    assert!(page.has("holds no record of that signed by the executor"));
    assert!(page.has(">not signed by the executor<"));
    for claimed in ["Verified after", "What the executor saw", "· succeeded<"] {
        assert!(!page.has(claimed), "{claimed}");
    }
    assert!(!page.has(LIE));

    let list = li.get("/?tab=all").await;
    assert!(list.has("Unsigned") && list.has("The executor has not signed this outcome."));
    assert!(!list.has(LIE) && !list.has("Verified"));

    let log = li.get("/audit?event=action.succeeded").await;
    assert!(log.has(">not signed by the executor<") && !log.has(">signed<"));
    let log = li.get("/audit?event=action.admitted").await;
    assert!(log.has(">signed<") && !log.has(">not signed by the executor<"));
}

#[tokio::test]
async fn a_signed_end_stays_visible_when_the_row_is_set_back() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    li.answer(&id, &page, "approve", "").await;
    let work = stage.begin(action.id).await;
    stage
        .finish(&work, "succeeded", Code::Verified, "Ready after 41 s.")
        .await;
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("Verified after") && !page.has("signed another end"));

    let tamper = Tamper::open(&stage.database).await.unwrap();
    tamper.set_state(&id, "approved").await.unwrap();
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("The executor signed another end at") && page.has("Ready after 41 s"));
    // Another state of the executor's own is not believed either.
    tamper.set_state(&id, "failed").await.unwrap();
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("<h2>Not signed by the executor</h2>"));
    assert!(page.has("The executor signed another end at"));
}

#[tokio::test]
async fn a_row_that_was_ended_by_hand_does_not_hide_that_it_had_begun() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    li.answer(&id, &page, "approve", "").await;
    // The executor dies here, before it can sign what came of it.
    let _work = stage.begin(action.id).await;
    let began = "that it began to carry this out, and signed no end";
    let (address, log) = (format!("/actions/{id}"), format!("/audit?action={id}"));
    for (path, page) in [
        (&address, li.get(&address).await),
        (&log, li.get(&log).await),
    ] {
        assert!(!page.has(began), "{path}: it runs, and nobody denies it");
    }
    let tamper = Tamper::open(&stage.database).await.unwrap();
    for state in [
        "cancelled",
        "expired",
        "rejected",
        "denied",
        "succeeded",
        "failed",
    ] {
        let end = format!(
            "UPDATE actions SET state = '{state}', end_code = 'by_proposer', end_message = 'x', \
             ended_at = 1, lease_token = NULL, lease_holder = NULL, lease_until = NULL \
             WHERE id = '{id}'"
        );
        assert_eq!(tamper.execute(&end).await.unwrap(), 1);
        for path in [&address, &log] {
            assert!(li.get(path).await.has(began), "{state}: {path}");
        }
        let signed = li.get("/audit?event=action.executing").await;
        assert!(signed.has(">signed<"));
    }
    // Not even when the row can be read no more.
    let broken = format!("UPDATE actions SET ended_at = NULL WHERE id = '{id}'");
    assert_eq!(tamper.execute(&broken).await.unwrap(), 1);
    let page = li.get(&log).await;
    assert!(page.has("The stored action itself cannot be read") && page.has(">signed<"));
}

#[tokio::test]
async fn a_refusal_says_that_nothing_was_done_only_where_that_is_known() {
    let stage = Stage::start().await;
    let li = Browser::logged_in(&stage, "li").await;
    for (pod, code, title) in [
        (
            "a-1",
            Code::TargetReplaced,
            "Refused by the executor: nothing was done",
        ),
        (
            "b-1",
            Code::AlreadySpent,
            "Refused: it had its one chance before",
        ),
        ("c-1", Code::StatementForged, "Refused by the executor"),
    ] {
        let action = stage
            .ask(&Ask {
                pod: pod.into(),
                ..Ask::default()
            })
            .await;
        let id = action.id.to_string();
        let page = li.get(&format!("/actions/{id}")).await;
        li.answer(&id, &page, "approve", "").await;
        stage.refuse(action.id, code, "That is how it is.").await;
        let page = li.get(&format!("/actions/{id}")).await;
        assert!(page.has(&format!("<h2>{title}</h2>")), "{code}");
        assert!(page.has("That is how it is."));
    }
}
