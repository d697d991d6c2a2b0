//! Who may decide what, how often, until when, and what everybody else is told.

use std::time::Duration;

use countersign_domain::{
    Action, AuditEvent, Author, Channel, Code, EventName, OsEntropy, Risk, StateName, Verb,
};
use countersign_store::{NewDecision, NextState, Transition};
use jiff::SignedDuration;
use reqwest::StatusCode;

use crate::browser::{Browser, events, state};
use crate::stage::{Ask, Stage, now};

#[tokio::test]
async fn one_decision_at_most_and_the_loser_is_told() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let path = format!("/actions/{id}");
    let (li, omar) = (
        Browser::logged_in(&stage, "li").await,
        Browser::logged_in(&stage, "omar").await,
    );
    let (page_li, page_omar) = (li.get(&path).await, omar.get(&path).await);

    // A digest that is not the stored one, whatever else fits.
    let digest = "0".repeat(64);
    let fields = [
        ("csrf", page_li.field("csrf")),
        ("digest", digest),
        ("version", page_li.field("version")),
        ("verb", "approve".to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let stale = li.post(&format!("{path}/decision"), &fields).await;
    assert_eq!(stale.status, StatusCode::CONFLICT);
    assert!(stale.has("This page was stale"));
    assert_eq!(
        events(&stage, &action, EventName::DecisionRefused)
            .await
            .len(),
        1
    );

    let (first, second) = tokio::join!(
        li.answer(&id, &page_li, "approve", ""),
        omar.answer(&id, &page_omar, "reject", "Wrong target"),
    );
    let (won, lost) = if first.status == StatusCode::SEE_OTHER {
        (StateName::Approved, &second)
    } else {
        (StateName::Rejected, &first)
    };
    assert_eq!(lost.status, StatusCode::CONFLICT, "{}", lost.body);
    let (name, verb) = if won == StateName::Approved {
        ("Li Wei", "approved")
    } else {
        ("Omar", "rejected")
    };
    assert!(lost.has("Already decided") && lost.has(name) && lost.has(verb) && lost.has(" UTC "));
    assert_eq!(state(&stage, &action).await, won);
    let detail = stage.store.detail(action.id).await.unwrap().unwrap();
    assert_eq!(detail.decisions.len(), 1);
}

#[tokio::test]
async fn a_double_click_is_one_answer() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    let (first, second) = tokio::join!(
        li.answer(&id, &page, "approve", ""),
        li.answer(&id, &page, "approve", "")
    );
    assert_eq!(
        (first.status, second.status),
        (StatusCode::SEE_OTHER, StatusCode::SEE_OTHER)
    );
    let third = li.answer(&id, &page, "approve", "").await;
    assert_eq!(third.status, StatusCode::SEE_OTHER);
    let detail = stage.store.detail(action.id).await.unwrap().unwrap();
    assert_eq!(detail.decisions.len(), 1);
    assert_eq!(events(&stage, &action, EventName::Approved).await.len(), 1);
}

#[tokio::test]
async fn those_who_may_not_approve_get_no_button_and_no_effect() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    for (person, why) in [
        ("maria", "can speak through the agent"),
        ("sam", "fills none of these seats"),
    ] {
        let browser = Browser::logged_in(&stage, person).await;
        let page = browser.get(&format!("/actions/{id}")).await;
        assert!(
            !page.has("value=\"approve\"") && !page.has("/approve\""),
            "{person}"
        );
        assert!(
            page.has("You cannot approve this") && page.has(why),
            "{person}"
        );
        let confirm = browser.get(&format!("/actions/{id}/approve")).await;
        assert_eq!(confirm.status, StatusCode::FORBIDDEN, "{person}");
        let forced = browser.answer(&id, &page, "approve", "").await;
        assert_eq!(forced.status, StatusCode::FORBIDDEN, "{person}");
    }
    assert_eq!(state(&stage, &action).await, StateName::Pending);
    let refused = events(&stage, &action, EventName::DecisionRefused).await;
    assert_eq!(refused.len(), 2);

    // Where the rule lets the asker's own human approve, the page says so and offers it.
    let own = stage
        .ask(&Ask {
            self_approval: true,
            pod: "own-1".into(),
            ..Ask::default()
        })
        .await;
    let maria = Browser::logged_in(&stage, "maria").await;
    let page = maria.get(&format!("/actions/{}", own.id)).await;
    assert!(page.has("no second pair of eyes"));
    let answered = maria
        .answer(&own.id.to_string(), &page, "approve", "")
        .await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_rejection_needs_a_reason_and_carries_it_on() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let sam = Browser::logged_in(&stage, "sam").await;
    let page = sam.get(&format!("/actions/{id}")).await;
    let silent = sam.answer(&id, &page, "reject", "  ").await;
    assert_eq!(silent.status, StatusCode::BAD_REQUEST);
    assert!(silent.has("Say why"));
    let long = sam.answer(&id, &page, "reject", &"y".repeat(501)).await;
    assert_eq!(long.status, StatusCode::BAD_REQUEST);
    // Anyone in the registry may say no.
    let done = sam
        .answer(&id, &page, "reject", "Not now, <b>wait</b>")
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let stored = stage.store.get(action.id).await.unwrap().unwrap();
    assert!(
        stored
            .state
            .end()
            .unwrap()
            .reason
            .message
            .contains("Sam (support) rejected it: Not now")
    );
    let page = sam.get(&format!("/actions/{id}")).await;
    assert!(page.has("Rejected by Sam (support)") && !page.has("<b>wait</b>"));
}

#[tokio::test]
async fn higher_risk_takes_a_second_step_and_high_risk_a_reason() {
    let stage = Stage::start().await;
    let action = stage
        .ask(&Ask {
            risk: Risk::High,
            ..Ask::default()
        })
        .await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has(&format!("/actions/{id}/approve")) && !page.has("value=\"approve\""));
    let step = li.get(&format!("/actions/{id}/approve")).await;
    assert!(step.has("Evict pod shop/checkout") && step.has("needed: the risk is high"));
    let silent = li.answer(&id, &step, "approve", "").await;
    assert_eq!(silent.status, StatusCode::BAD_REQUEST);
    let done = li.answer(&id, &step, "approve", "memory leak, known").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(state(&stage, &action).await, StateName::Approved);
}

#[tokio::test]
async fn two_seats_need_two_people_and_an_approval_can_be_withdrawn() {
    let stage = Stage::start().await;
    let action = stage
        .ask(&Ask {
            count: 2,
            ..Ask::default()
        })
        .await;
    let id = action.id.to_string();
    let path = format!("/actions/{id}");
    let (li, omar) = (
        Browser::logged_in(&stage, "li").await,
        Browser::logged_in(&stage, "omar").await,
    );
    let (page_li, page_omar) = (li.get(&path).await, omar.get(&path).await);
    assert_eq!(
        li.answer(&id, &page_li, "approve", "").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(state(&stage, &action).await, StateName::Pending);
    let list = li.get("/?tab=all").await;
    assert!(list.has("1 of 2"));

    // The other's page is older than the first approval: look again, then decide.
    let stale = omar.answer(&id, &page_omar, "approve", "").await;
    assert_eq!(stale.status, StatusCode::CONFLICT);
    assert!(stale.has("Li Wei approved it at"));
    let page_omar = omar.get(&path).await;
    assert_eq!(
        omar.answer(&id, &page_omar, "approve", "").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(state(&stage, &action).await, StateName::Approved);

    let page_li = li.get(&path).await;
    assert!(page_li.has("Withdraw approval"));
    assert_eq!(
        li.answer(&id, &page_li, "withdraw", "").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(state(&stage, &action).await, StateName::Pending);
    let page_li = li.get(&path).await;
    assert!(page_li.has("which is final") && !page_li.has("value=\"approve\""));
    // The version is the newest, and still: final is final.
    let again = li.answer(&id, &page_li, "approve", "").await;
    assert_eq!(
        state(&stage, &action).await,
        StateName::Pending,
        "{}",
        again.status
    );
}

#[tokio::test]
async fn a_statement_that_the_executor_did_not_sign_offers_nothing() {
    let mut stage = Stage::start().await;
    // A forger with database access signs with a key of their own.
    stage.signer = countersign_domain::Signer::generate(&countersign_domain::OsEntropy);
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.has("is not one that the executor signed") && !page.has("name=\"digest\""));
    let digest = action
        .state
        .statement()
        .unwrap()
        .digest::<countersign_domain::Statement>();
    let fields = [
        ("csrf", page.field("csrf")),
        ("digest", digest.to_string()),
        ("version", action.version.to_string()),
        ("verb", "approve".to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let forced = li.post(&format!("/actions/{id}/decision"), &fields).await;
    assert_eq!(forced.status, StatusCode::CONFLICT);
    assert_eq!(state(&stage, &action).await, StateName::Pending);
}

#[tokio::test]
async fn too_late_is_said_and_held_to() {
    let stage = Stage::start().await;
    let decide_in = SignedDuration::from_millis(1500);
    let action = stage
        .ask(&Ask {
            decide_in,
            ..Ask::default()
        })
        .await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    let page = li.get(&format!("/actions/{id}")).await;
    let begun = now();
    while now() < begun + decide_in {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let late = li.answer(&id, &page, "approve", "").await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.has("Too late"));
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("The time to decide is over") && !page.has("value=\"approve\""));
}

/// What the server's look at a moved ticket leaves: a pointer without a seal.
async fn moved_in_jira(stage: &Stage, action: &Action, person: &str, next: Option<NextState>) {
    let action = stage.store.get(action.id).await.unwrap().unwrap();
    let decision = NewDecision {
        action: action.id,
        version: action.version,
        person: person.into(),
        verb: Verb::Approve,
        channel: Channel::Jira,
        reason: String::new(),
        sealed: None,
        next,
        at: now(),
    };
    let (author, name) = (Author::Server, EventName::Decided);
    let event = AuditEvent::new(now(), &OsEntropy, author, name, person).about(action.id);
    let done = stage.store.decide(decision, event).await.unwrap();
    assert!(matches!(done, Transition::Done(_)));
}

#[tokio::test]
async fn of_the_moves_of_a_ticket_the_latest_alone_counts() {
    let stage = Stage::start().await;
    let action = stage
        .ask(&Ask {
            count: 2,
            ..Ask::default()
        })
        .await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    moved_in_jira(&stage, &action, "li", None).await;
    assert!(li.get("/?tab=all").await.has("1 of 2"));
    tokio::time::sleep(Duration::from_millis(5)).await;
    moved_in_jira(&stage, &action, "omar", None).await;
    assert!(li.get("/?tab=all").await.has("1 of 2"));

    // Li's move has left no trace, so that she is asked again, and is not told that it repeats.
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("does not count any more") && page.has("1 still missing"));
    assert!(li.get("/").await.has(&id));
    let answered = li.answer(&id, &page, "approve", "").await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
    assert_eq!(state(&stage, &action).await, StateName::Approved);
}

#[tokio::test]
async fn an_approval_on_the_page_helps_where_the_executor_misses_one() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let li = Browser::logged_in(&stage, "li").await;
    moved_in_jira(&stage, &action, "li", Some(NextState::Approved)).await;
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("Approved by Li Wei") && !page.has("value=\"approve\""));

    stage
        .hold(action.id, Code::MissingEvidence, "no approval is there")
        .await;
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(page.has("no approval is there") && page.has("value=\"approve\""));
    let answered = li.answer(&id, &page, "approve", "").await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
    assert_eq!(state(&stage, &action).await, StateName::Approved);
    let detail = stage.store.detail(action.id).await.unwrap().unwrap();
    let attested: Vec<_> = detail
        .decisions
        .iter()
        .filter(|row| row.sealed.is_some())
        .collect();
    assert_eq!((attested.len(), attested[0].channel), (1, Channel::Web));
    let page = li.get(&format!("/actions/{id}")).await;
    assert!(!page.has("value=\"approve\""), "once is enough");
}

#[tokio::test]
async fn trying_on_and_on_does_not_wash_the_story_away() {
    let stage = Stage::start().await;
    let action = stage.ask(&Ask::default()).await;
    let id = action.id.to_string();
    let path = format!("/actions/{id}");
    let li = Browser::logged_in(&stage, "li").await;
    let sam = Browser::logged_in(&stage, "sam").await;
    let (page_li, page_sam) = (li.get(&path).await, sam.get(&path).await);
    let approved = li.answer(&id, &page_li, "approve", "").await;
    assert_eq!(approved.status, StatusCode::SEE_OTHER);
    for _ in 0..201 {
        let refused = sam.answer(&id, &page_sam, "approve", "").await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
    }
    let page = li.get(&path).await;
    let timeline = page.body.split("id=\"timeline\"").nth(1).unwrap();
    for told in [
        "asked for it",
        "approved it",
        "tried to decide and was refused",
    ] {
        assert!(timeline.contains(told), "{told}: {timeline}");
    }
    // An auditor sees how often, nearly.
    let refused = events(&stage, &action, EventName::DecisionRefused).await;
    let times: Vec<Option<&String>> = refused
        .iter()
        .map(|event| event.details.get("times"))
        .collect();
    assert_eq!(
        times,
        [Some(&"100".to_owned()), Some(&"10".to_owned()), None]
    );
}
