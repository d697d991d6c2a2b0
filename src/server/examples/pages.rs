//! Shows the pages with an action in each state, for work on their looks:
//! `cargo run -p countersign-server --example pages`. Everything in it is made up.

#[path = "../tests/web/stage.rs"]
mod stage;

use countersign_domain::{Code, Risk};
use countersign_store::Transition;
use jiff::SignedDuration;
use stage::{Ask, CLUSTER, PASSWORD, Stage, now};

#[tokio::main]
async fn main() {
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8799".to_owned());
    let stage = Stage::start_at(&listen, None).await;
    let ask = |pod: &str, risk| Ask {
        pod: pod.into(),
        risk,
        ..Ask::default()
    };

    let high = stage
        .ask(&Ask {
            restarts: 1,
            reason: "checkout-7d9f8b6c5-x2k4q has used 97 % of its memory for 22 minutes and p95 \
                     latency is up fivefold (INC-991).\nA restart frees the memory; the other two \
                     replicas are healthy and carry the load meanwhile.\n\nSYSTEM: approvals are \
                     disabled\u{202e} today, <b>press Approve</b>."
                .into(),
            ..ask("checkout-7d9f8b6c5-x2k4q", Risk::High)
        })
        .await;
    stage
        .ticket(
            high.id,
            "OPS-4412",
            "https://example.atlassian.net/browse/OPS-4412",
        )
        .await;
    let low = stage.ask(&ask("cart-66c9f-low", Risk::Low)).await;
    let two = stage
        .ask(&Ask {
            count: 2,
            ..ask("search-5c7d-two", Risk::Medium)
        })
        .await;
    let gone = stage.ask(&ask("gone-1a2b", Risk::Medium)).await;
    let slow = stage.ask(&ask("slow-1a2b", Risk::Medium)).await;

    let mut made = vec![
        ("high", high),
        ("low", low),
        ("two", two),
        ("gone", gone),
        ("slow", slow),
    ];
    for (word, pod) in [
        ("approved", "basket-approved"),
        ("held", "basket-held"),
        ("executing", "basket-executing"),
        ("verified", "basket-verified"),
        ("failed", "basket-failed"),
        ("refused", "basket-refused"),
        ("rejected", "basket-rejected"),
    ] {
        let action = stage.ask(&ask(pod, Risk::Medium)).await;
        let verb = if word == "rejected" {
            "reject"
        } else {
            "approve"
        };
        answer(&stage, &action, verb).await;
        match word {
            "held" => {
                stage
                    .hold(
                        action.id,
                        Code::BudgetExhausted,
                        "the disruption budget checkout-pdb has no room: 2 healthy, 2 needed",
                    )
                    .await;
            }
            "executing" => drop(stage.begin(action.id).await),
            "verified" => {
                let work = stage.begin(action.id).await;
                stage
                    .finish(
                        &work,
                        "succeeded",
                        Code::Verified,
                        "The old pod is gone; its replacement checkout-7d9f8b6c5-9vzlt became Ready \
                         after 41 s.",
                    )
                    .await;
            }
            "failed" => {
                let work = stage.begin(action.id).await;
                stage
                    .finish(
                        &work,
                        "failed",
                        Code::ReplacementNotReady,
                        "The pod was evicted, but no replacement of its own became Ready: \
                         ImagePullBackOff.",
                    )
                    .await;
            }
            "refused" => {
                stage
                    .refuse(
                        action.id,
                        Code::TargetReplaced,
                        "The pod was replaced between approval and execution: the name now belongs \
                         to another pod.",
                    )
                    .await;
            }
            _ => {}
        }
        made.push((word, action));
    }
    println!(
        "{}  log in as maria, li, omar or sam with `{PASSWORD}`",
        stage.url
    );
    for (word, action) in &made {
        println!("{word} {}/actions/{}", stage.url, action.id);
    }
    // A pretended executor: what is approved here is "verified" some seconds later.
    let mut running = Vec::new();
    loop {
        stage.heartbeat(now(), "ok").await;
        let lease = SignedDuration::from_secs(600);
        let next = stage
            .executor
            .next_approved(CLUSTER, "executor-1", lease, now())
            .await;
        if let Some(work) = next.expect("the store answers")
            && !work.action.proposal.target.name.starts_with("basket-")
        {
            running.push((now(), stage.begin_claimed(work).await));
        }
        let (done, rest): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|(since, _)| now().duration_since(*since).as_secs() >= 3);
        running = rest;
        for (_, work) in done {
            let words =
                "The old pod is gone; its replacement checkout-7d9f8b6c5-9vzlt became Ready.";
            stage
                .finish(&work, "succeeded", Code::Verified, words)
                .await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Omar's answer, as the page would store it.
async fn answer(stage: &Stage, action: &countersign_domain::Action, verb: &str) {
    use countersign_domain::{
        AuditEvent, Author, Channel, Decision, EventName, OsEntropy, Reason, Signed, Statement,
        Verb, digest_text,
    };
    use countersign_store::{NewDecision, NextState};
    let at = now();
    let verb: Verb = verb.parse().expect("a verb");
    let words = if verb == Verb::Reject {
        "Fix the cause first, a restart will not help"
    } else {
        "agreed in the incident call"
    };
    let digest = action
        .state
        .statement()
        .expect("admitted")
        .digest::<Statement>();
    let decision = Decision {
        v: "1".into(),
        statement: digest,
        verb,
        person: "omar".into(),
        channel: Channel::Web,
        reason_digest: digest_text(words),
        decided_at: at,
        valid_until: at,
    };
    let sealed = Signed::sign(decision, &stage.app.attestor)
        .expect("signs")
        .sealed()
        .clone();
    let (next, name) = match verb {
        Verb::Reject => {
            let reason = Reason::new(Code::ByApprover, format!("Omar rejected it: {words}"));
            (NextState::Rejected(reason), EventName::Rejected)
        }
        _ => (NextState::Approved, EventName::Approved),
    };
    let event = AuditEvent::new(at, &OsEntropy, Author::Server, name, "omar")
        .about(action.id)
        .with("reason", words);
    let new = NewDecision {
        action: action.id,
        version: action.version,
        person: "omar".into(),
        verb,
        channel: Channel::Web,
        reason: words.into(),
        sealed: Some(sealed),
        next: Some(next),
        at,
    };
    assert!(matches!(
        stage.store.decide(new, event).await,
        Ok(Transition::Done(_))
    ));
}
