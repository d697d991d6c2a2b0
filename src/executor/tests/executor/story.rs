//! What an approver and an attacker would see.

use countersign_domain::{Code, OsEntropy, RecordKind, Signer, StateName};
use serde_json::json;

use crate::world::{World, is_ready, text};

fn code(action: &countersign_domain::Action) -> Code {
    action.state.end().unwrap().reason.code
}

fn message(action: &countersign_domain::Action) -> String {
    action.state.end().unwrap().reason.message.clone()
}

#[tokio::test]
async fn an_approved_pod_is_evicted_once_and_its_replacement_verified() {
    let world = World::new().await;
    let executor = world.executor(None);
    let pod = world.failing_pod("checkout").await;
    let id = world.propose(&pod).await;
    let action = world.wait(id, StateName::Pending).await;

    let statement = world.statement(&action);
    assert_eq!((statement.name, statement.uid), pod.clone());
    assert_eq!(statement.on_behalf_of, ["bob"]);
    assert_eq!(statement.rule, "shop");
    for (key, part) in [
        ("owner", "of Deployment checkout"),
        ("siblings", "2 of 3 ready"),
        ("last exit", "OOMKilled"),
        ("budget", "checkout: 2 healthy of 3, needs 1"),
        ("dry run", "accepted"),
        ("ready", "no, 0 of 1"),
    ] {
        let fact = statement.facts.get(key).map_or("", String::as_str);
        assert!(fact.contains(part), "{key}: {:?}", statement.facts);
    }
    assert!(
        world.evictions().await.is_empty(),
        "a dry run has no effect"
    );

    world.approve(id).await;
    let done = world.wait(id, StateName::Succeeded).await;
    assert_eq!(code(&done), Code::Verified);
    assert_eq!(world.evictions().await, std::slice::from_ref(&pod.0));
    let pods = world.pods("checkout").await;
    assert!(
        pods.iter()
            .all(|other| text(other, "/metadata/uid") != pod.1)
    );

    let log = world.get("/playground/audit").await;
    let named: Vec<_> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["auditID"] == id.to_string())
        .map(|event| {
            (
                text(event, "/objectRef/subresource"),
                event["dryRun"] == true,
            )
        })
        .collect();
    assert_eq!(
        named,
        [("eviction".to_owned(), false)],
        "the action's id is on the write alone"
    );

    // The record names the very pod that came: a sibling was Ready all along.
    let detail = world.detail(id).await;
    let kinds: Vec<_> = detail
        .records
        .iter()
        .map(|(record, _)| record.record)
        .collect();
    assert_eq!(kinds, [RecordKind::Intent, RecordKind::Outcome]);
    let (intent, outcome) = (&detail.records[0].0.details, &detail.records[1].0.details);
    assert!(!intent["pods_before"].contains(&outcome["replacement_uid"]));
    let replacement = pods
        .iter()
        .find(|pod| text(pod, "/metadata/uid") == outcome["replacement_uid"])
        .unwrap();
    assert!(is_ready(replacement));
    assert!(intent["approvals"].starts_with("ann (web,"), "{intent:?}");

    // The register holds the spent record under the claim's nonce.
    let lease = world
        .get(&format!(
            "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases/{id}"
        ))
        .await;
    assert_eq!(text(&lease, "/spec/holderIdentity"), intent["nonce"]);
    drop(executor);
}

#[tokio::test]
async fn an_approval_that_the_server_did_not_attest_is_refused() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let id = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(id, StateName::Pending).await;
    world.decide(id, &Signer::generate(&OsEntropy), "ann").await;
    let refused = world.wait(id, StateName::Refused).await;
    assert_eq!(code(&refused), Code::DecisionForged);
    assert!(message(&refused).contains("not attested by a known server"));
    assert!(world.evictions().await.is_empty());
    let detail = world.detail(id).await;
    assert_eq!(detail.records[0].0.record, RecordKind::Refusal);
}

#[tokio::test]
async fn the_person_behind_the_agent_cannot_approve() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let id = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(id, StateName::Pending).await;
    world.decide(id, &world.server_key, "bob").await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    assert_eq!(held.state.held().unwrap().reason.code, Code::SelfApproval);
    assert!(world.evictions().await.is_empty());
}

#[tokio::test]
async fn a_pod_that_was_replaced_is_not_evicted() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    world.wait(id, StateName::Pending).await;
    world
        .control(
            "replace-pod",
            json!({"namespace": "shop", "name": pod.0, "same_name": true}),
        )
        .await;
    world.approve(id).await;
    let refused = world.wait(id, StateName::Refused).await;
    assert_eq!(code(&refused), Code::TargetReplaced);
    assert!(
        message(&refused).contains(&pod.1),
        "old against new: {}",
        message(&refused)
    );
    assert!(world.evictions().await.is_empty());
}

#[tokio::test]
async fn a_budget_without_room_is_said_before_and_held_until_there_is_room() {
    let world = World::new().await;
    world.budget("checkout", 3).await;
    let _executor = world.executor(None);
    let id = world.propose(&world.failing_pod("checkout").await).await;
    let pending = world.wait(id, StateName::Pending).await;
    let facts = world.statement(&pending).facts;
    assert!(
        facts["dry run"].contains("would be refused now"),
        "{facts:?}"
    );
    assert!(facts["budget"].contains("no room"), "{facts:?}");

    world.approve(id).await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    assert_eq!(
        held.state.held().unwrap().reason.code,
        Code::BudgetExhausted
    );
    assert!(world.evictions().await.is_empty());

    world.budget("checkout", 1).await;
    world.wait(id, StateName::Succeeded).await;
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn a_replacement_that_never_gets_ready_is_a_failure() {
    let world = World::new().await;
    world.policy(|policy| policy.replace("20s", "4s"));
    let _executor = world.executor(None);
    let id = world.propose(&world.failing_pod("search").await).await;
    world.wait(id, StateName::Pending).await;
    world.approve(id).await;
    let failed = world.wait(id, StateName::Failed).await;
    assert_eq!(code(&failed), Code::ReplacementNotReady);
    assert!(
        message(&failed).contains("not Ready"),
        "{}",
        message(&failed)
    );
    assert_eq!(world.evictions().await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_a_question_is_denied_with_its_reason() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let bare = world.get("/api/v1/namespaces/shop/pods/debug-shell").await;
    let bare = ("debug-shell".to_owned(), text(&bare, "/metadata/uid"));
    for (id, want) in [
        (world.propose_as("stranger", &pod).await, Code::UnknownAgent),
        (world.propose(&bare).await, Code::NoController),
        (
            world.propose(&("ghost".into(), "u".into())).await,
            Code::TargetMissing,
        ),
        (
            world.propose(&(pod.0.clone(), "old".into())).await,
            Code::TargetMissing,
        ),
    ] {
        let denied = world.wait(id, StateName::Denied).await;
        assert_eq!(code(&denied), want, "{}", message(&denied));
    }
}

#[tokio::test]
async fn a_lost_answer_about_the_spent_record_does_not_spend_the_chance() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    world.wait(id, StateName::Pending).await;
    world
        .control(
            "fail",
            json!({"kind": "lose-answer", "resource": "leases", "verb": "create", "count": 1}),
        )
        .await;
    world.approve(id).await;
    world.wait(id, StateName::Succeeded).await;
    assert_eq!(world.evictions().await, [pod.0]);
}

#[tokio::test]
async fn an_eviction_whose_answer_is_lost_is_found_by_looking_and_not_sent_again() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    world.wait(id, StateName::Pending).await;
    // While the spent record is being created the dry run is over: what is lost is the real answer.
    let slow = json!({"kind": "slow", "resource": "leases", "verb": "create", "count": 1});
    world.control("fail", slow).await;
    world.approve(id).await;
    world.wait(id, StateName::Executing).await;
    let lost = json!({"kind": "lose-answer", "resource": "pods/eviction", "count": 1});
    world.control("fail", lost).await;
    let end = world.wait(id, StateName::Succeeded).await;
    assert_eq!(code(&end), Code::Verified);
    let records = world.detail(id).await.records;
    let states: Vec<_> = records
        .iter()
        .map(|(record, _)| record.state.as_str())
        .collect();
    assert_eq!(states, ["executing", "indeterminate", "succeeded"]);
    assert_eq!(world.evictions().await, [pod.0]);
}

#[tokio::test]
async fn a_freeze_holds_and_its_end_lets_go() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let id = world.propose(&world.failing_pod("inventory").await).await;
    world.wait(id, StateName::Pending).await;
    world.policy(|policy| format!("{policy}\n[freeze]\nreason = \"quarter end\"\n"));
    world.heartbeat("frozen: quarter end").await;
    world.approve(id).await;
    let held = world
        .wait_until(id, "held", |action| action.state.held().is_some())
        .await;
    assert_eq!(held.state.held().unwrap().reason.code, Code::Frozen);
    world.policy(str::to_owned);
    world.wait(id, StateName::Succeeded).await;
}

#[tokio::test]
async fn a_blip_while_spending_does_not_cost_the_chance() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    world.wait(id, StateName::Pending).await;
    let blip = json!({"kind": "503", "resource": "leases", "verb": "create", "count": 6});
    world.control("fail", blip).await;
    world.approve(id).await;
    world.wait(id, StateName::Succeeded).await;
    assert_eq!(world.evictions().await, [pod.0]);
}

#[tokio::test]
async fn rules_that_cannot_be_read_hold_what_they_might_have_revoked() {
    let world = World::new().await;
    let _executor = world.executor(None);
    let pod = world.failing_pod("inventory").await;
    let id = world.propose(&pod).await;
    world.wait(id, StateName::Pending).await;
    std::fs::write(world.folder.path().join("registry.toml"), "[[person]\n").unwrap();
    world
        .heartbeat_where(|status| status.contains("registry.toml is not valid"))
        .await;
    world.approve(id).await;
    let next = world.propose(&world.failing_pod("checkout").await).await;
    for id in [id, next] {
        let held = world
            .wait_until(id, "held", |action| action.state.held().is_some())
            .await;
        assert_eq!(held.state.held().unwrap().reason.code, Code::PolicyUnmet);
    }
    assert!(world.evictions().await.is_empty());
    world.registry();
    world.wait(next, StateName::Pending).await;
    world.wait(id, StateName::Succeeded).await;
}
