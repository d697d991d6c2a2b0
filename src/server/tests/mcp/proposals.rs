use std::time::Duration;

use countersign_domain::{OsEntropy, Signer};
use countersign_server::mcp::tools::ToolName;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{crashing, healthy};
use crate::forger::{LIE, forge_success};
use crate::world::{
    Client, KEY, NARROW_KEY, OTHER_KEY, STRANGER_KEY, World, bad, call, good, text,
};

fn restart(pod: &str) -> Value {
    json!({"namespace": "shop", "pod": pod, "reason": "crash loop since 02:00"})
}

#[tokio::test]
async fn a_proposal_answers_at_once_and_carries_the_digest_once_admitted() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let began = Instant::now();
    let first = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    let body = good(&first);
    assert_eq!(body["state"], "checking");
    for awaited in ["digest", "ticket", "expires_at"] {
        assert_eq!(body.get(awaited), Some(&Value::Null), "{awaited}");
    }
    assert!(body.get("reason").is_none());
    let schema = ToolName::RestartPod.tool().output_schema.clone().unwrap();
    for awaited in ["digest", "ticket", "expires_at"] {
        let null = json!({"type": "null"});
        let choices = schema["properties"][awaited]["anyOf"].as_array().unwrap();
        assert!(choices.contains(&null), "{awaited}: {choices:?}");
    }
    assert_eq!(body["next_tool"], "wait_for_action");
    assert!(
        body["warnings"][0]
            .as_str()
            .unwrap()
            .contains("was never heard of")
    );
    let url = body["approval_url"].as_str().unwrap();
    assert!(url.starts_with(&world.url) && text(&first).contains(url));

    world.admit().await;
    let (second, _) = tokio::join!(
        call(&client, "restart_pod", restart("web-1-bbbbb")),
        async { world.admit().await }
    );
    let body = good(&second);
    assert_eq!(body["state"], "pending");
    assert_eq!(body["digest"].as_str().map(str::len), Some(64));
    assert!(body["expires_at"].is_string());
    assert_eq!(body["warnings"], json!([]));
}

#[tokio::test]
async fn the_same_proposal_is_one_action_while_it_is_open() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let one = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    let id = good(&one)["action_id"].clone();
    let again = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert_eq!(good(&again)["action_id"], id);
    assert_eq!(good(&again)["existing"], true);
    // Also when the pod is on its way out, or gone: that may be this very action at work.
    let mut terminating = crashing("shop", "web-1-aaaaa", "uid-a", "web");
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T02:00:00Z".into();
    world.cluster.pod("shop", terminating);
    let while_ending = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert_eq!(good(&while_ending)["action_id"], id);
    world.cluster.remove("pods", "web-1-aaaaa");
    assert_eq!(
        good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"],
        id
    );

    good(&call(&client, "cancel_action", json!({"action_id": id})).await);
    world
        .cluster
        .pod("shop", crashing("shop", "web-1-aaaaa", "uid-a", "web"));
    let new = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert_ne!(good(&new)["action_id"], id);
}

#[tokio::test]
async fn an_idempotency_key_means_one_action_for_good() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let mut arguments = restart("web-1-aaaaa");
    arguments["idempotency_key"] = "k-1".into();
    let id = good(&call(&client, "restart_pod", arguments.clone()).await)["action_id"].clone();
    good(&call(&client, "cancel_action", json!({"action_id": id})).await);
    world.cluster.remove("pods", "web-1-aaaaa");
    let again = call(&client, "restart_pod", arguments.clone()).await;
    assert_eq!(good(&again)["action_id"], id);
    assert_eq!(good(&again)["state"], "cancelled");
    arguments["pod"] = "web-1-bbbbb".into();
    let reused = call(&client, "restart_pod", arguments).await;
    assert!(bad(&reused).contains("use a new key"), "{}", text(&reused));
}

#[tokio::test]
async fn what_can_never_be_allowed_is_denied_with_its_reason_before_anybody_is_asked() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let mut bare = healthy("shop", "bare", "uid-bare", "web");
    bare["metadata"]["ownerReferences"] = json!([]);
    world.cluster.pod("shop", bare);
    let mut mirror = healthy("shop", "mirror", "uid-mirror", "web");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    world.cluster.pod("shop", mirror);
    let mut ending = healthy("shop", "ending", "uid-ending", "web");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T02:00:00Z".into();
    ending["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.cluster.pod("shop", ending);
    world.cluster.pod(
        "shop",
        healthy("shop", "orphan", "uid-orphan", "no-such-app"),
    );
    let elsewhere = json!({"namespace": "billing", "pod": "ledger-1-zzzzz", "reason": "loops"});
    let mut replaced = restart("web-1-aaaaa");
    replaced["uid"] = "uid-of-before".into();
    for (arguments, code, want) in [
        (restart("bare"), "no_controller", "no controller"),
        (restart("mirror"), "mirror_pod", "static pod"),
        (restart("ending"), "terminating", "example.com/hold"),
        (restart("orphan"), "owner_gone", "gone"),
        (elsewhere, "no_rule", "no rule of the policy"),
        (replaced, "target_replaced", "now has uid uid-a"),
    ] {
        let told = call(&client, "restart_pod", arguments.clone()).await;
        assert!(bad(&told).contains(want), "{arguments}: {}", text(&told));
        let body = told.structured_content.as_ref().unwrap();
        assert_eq!(
            (&body["state"], &body["reason"]["code"]),
            (&json!("denied"), &json!(code))
        );
        assert!(body["action_id"].is_null());
        // Durable before the answer, without waiting for a batch.
        let rows = world.calls(0).await;
        assert_eq!(rows.last().unwrap().event.details["outcome"], code);
    }
    let stranger = world.client(STRANGER_KEY).await;
    let told = call(&stranger, "restart_pod", restart("web-1-aaaaa")).await;
    assert!(bad(&told).contains("not in the registry"));
    assert!(world.app.store.count_by_state().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_rejection_reaches_the_ai_and_stands_for_a_while() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let id = good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    let action = world.admit().await;
    let (waited, ()) = tokio::join!(
        call(
            &client,
            "wait_for_action",
            json!({"action_id": id, "timeout_seconds": 20})
        ),
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.reject(action, "not during the sale").await;
        }
    );
    let body = good(&waited);
    assert_eq!(
        (&body["state"], &body["ended"]),
        (&json!("rejected"), &json!(true))
    );
    assert!(
        body["outcome"]["message"]
            .as_str()
            .unwrap()
            .contains("not during the sale")
    );
    assert_eq!(body["decisions"][0]["person"], "li");
    assert!(body["next_tool"].is_null());
    let again = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert!(bad(&again).contains("cool_down") && text(&again).contains("not during the sale"));
}

#[tokio::test]
async fn caps_are_kept_and_say_what_to_do() {
    let world = World::start_with("pending_per_caller = 1\nproposals_per_hour = 2").await;
    let client = world.client(KEY).await;
    let id = good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    let full = call(&client, "restart_pod", restart("web-1-bbbbb")).await;
    assert!(bad(&full).contains("cancel_action") && text(&full).contains("rate_limited"));
    good(
        &call(
            &client,
            "cancel_action",
            json!({"action_id": id, "reason": "recovered"}),
        )
        .await,
    );
    let id = good(&call(&client, "restart_pod", restart("web-1-bbbbb")).await)["action_id"].clone();
    good(&call(&client, "cancel_action", json!({"action_id": id})).await);
    let full = call(&client, "restart_pod", restart("web-1-aaaaa")).await;
    assert!(bad(&full).contains("in the last hour"), "{}", text(&full));
    // Somebody else's limits are their own.
    let other = world.client(OTHER_KEY).await;
    good(&call(&other, "restart_pod", restart("web-1-aaaaa")).await);
}

/// A model that has learnt to name the cluster names it everywhere.
#[tokio::test]
async fn every_tool_takes_the_cluster_and_an_action_is_in_its_own() {
    for tool in ToolName::ALL {
        let takes = tool.input_schema()["properties"].get("cluster").is_some();
        assert!(takes, "{}", tool.as_str());
    }
    let world = World::start().await;
    let (mine, other) = (world.client(KEY).await, world.client(OTHER_KEY).await);
    let id = good(&call(&mine, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    for tool in ["get_action", "wait_for_action", "cancel_action"] {
        let elsewhere = json!({"action_id": id, "cluster": "staging"});
        let told = call(&mine, tool, elsewhere.clone()).await;
        let sentence = bad(&told);
        assert!(
            sentence.contains("is in cluster prod, not in staging"),
            "{tool}: {sentence}"
        );
        // Whose action it is not learns nothing of where it is.
        let told = call(&other, tool, elsewhere).await;
        assert!(
            bad(&told).contains("you have no action"),
            "{tool}: {}",
            text(&told)
        );
    }
    let here = json!({"action_id": id, "cluster": "prod"});
    assert_eq!(
        good(&call(&mine, "get_action", here.clone()).await)["state"],
        "checking"
    );
    assert_eq!(
        good(&call(&mine, "cancel_action", here.clone()).await)["state"],
        "cancelled"
    );
    assert_eq!(
        good(&call(&mine, "wait_for_action", here).await)["ended"],
        true
    );
}

/// The policy allows what is in `shop`; now also what is in `billing`.
fn allow_billing(world: &World) {
    let policy = std::fs::read_to_string(world.folder.path().join("policy.toml")).unwrap();
    let both = policy.replace("[\"shop\"]", "[\"shop\", \"billing\"]");
    let both = countersign_domain::Policy::from_toml(&both).unwrap();
    world.app.rules.write().unwrap().policy = std::sync::Arc::new(both);
}

#[tokio::test]
async fn a_narrow_keys_list_is_as_if_the_rest_did_not_exist() {
    let world = World::start().await;
    allow_billing(&world);
    let (wide, narrow) = (world.client(KEY).await, world.client(NARROW_KEY).await);
    let list = async |client: &Client| {
        let answer = call(client, "list_actions", json!({"limit": 1})).await;
        (good(&answer).clone(), text(&answer).to_owned())
    };
    let nothing = list(&narrow).await;
    let hidden = json!({"namespace": "billing", "pod": "ledger-1-zzzzz", "reason": "loops"});
    good(&call(&wide, "restart_pod", hidden.clone()).await);
    assert_eq!(list(&narrow).await, nothing);

    good(&call(&wide, "restart_pod", restart("web-1-aaaaa")).await);
    let one = list(&narrow).await;
    assert_eq!(one.0["actions"][0]["name"], "web-1-aaaaa");
    assert!(one.0.get("next_cursor").is_none());
    // Hidden ones between two that are not do not fill a page.
    let ledger = good(&call(&wide, "restart_pod", hidden.clone()).await)["action_id"].clone();
    good(&call(&wide, "cancel_action", json!({"action_id": ledger})).await);
    good(&call(&wide, "restart_pod", hidden).await);
    assert_eq!(list(&narrow).await, one);
    assert!(list(&wide).await.0["next_cursor"].is_string());
}

#[tokio::test]
async fn a_handle_belongs_to_its_caller() {
    let world = World::start().await;
    let (mine, other) = (world.client(KEY).await, world.client(OTHER_KEY).await);
    let id = good(&call(&mine, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    for tool in ["get_action", "wait_for_action", "cancel_action"] {
        let told = call(&other, tool, json!({"action_id": id})).await;
        assert!(bad(&told).contains("you have no action"), "{tool}");
    }
    assert_eq!(
        good(&call(&other, "list_actions", json!({})).await)["actions"],
        json!([])
    );
    let uri = format!("action://{}", id.as_str().unwrap());
    let params = rmcp::model::ReadResourceRequestParams::new(uri);
    assert!(other.read_resource(params.clone()).await.is_err());
    let read = mine.read_resource(params).await.unwrap();
    assert!(format!("{:?}", read.contents).contains("checking"));
    // The narrow key speaks for the same agent, inside its namespaces.
    let narrow = world.client(NARROW_KEY).await;
    assert_eq!(
        good(&call(&narrow, "get_action", json!({"action_id": id})).await)["ended"],
        false
    );
}

#[tokio::test]
async fn lists_page_and_filter() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    for pod in ["web-1-aaaaa", "web-1-bbbbb", "web-1-ccccc"] {
        good(&call(&client, "restart_pod", restart(pod)).await);
    }
    let first = call(
        &client,
        "list_actions",
        json!({"limit": 2, "state": "open"}),
    )
    .await;
    let cursor = good(&first)["next_cursor"].clone();
    assert_eq!(good(&first)["actions"][0]["name"], "web-1-ccccc");
    let second = call(
        &client,
        "list_actions",
        json!({"limit": 2, "cursor": cursor}),
    )
    .await;
    assert_eq!(good(&second)["actions"].as_array().unwrap().len(), 1);
    assert!(good(&second)["next_cursor"].is_null());
    let none = call(&client, "list_actions", json!({"state": "succeeded"})).await;
    assert_eq!(good(&none)["actions"], json!([]));
}

#[tokio::test]
async fn waiting_ends_at_a_change_at_an_end_or_with_its_time() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let id = good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    let began = Instant::now();
    let still = call(
        &client,
        "wait_for_action",
        json!({"action_id": id, "timeout_seconds": 1}),
    )
    .await;
    assert!(began.elapsed() >= Duration::from_secs(1) && text(&still).contains("again"));
    let began = Instant::now();
    let (changed, _) = tokio::join!(
        call(
            &client,
            "wait_for_action",
            json!({"action_id": id, "timeout_seconds": 30})
        ),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.admit().await
        }
    );
    assert_eq!(good(&changed)["state"], "pending");
    assert!(
        good(&changed)["change"]
            .as_str()
            .unwrap()
            .starts_with("Evict pod shop/web-1-aaaaa")
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let taken = call(
        &client,
        "cancel_action",
        json!({"action_id": id, "reason": "it recovered"}),
    )
    .await;
    assert_eq!(good(&taken)["state"], "cancelled");
    assert!(
        good(&taken)["outcome"]["message"]
            .as_str()
            .unwrap()
            .contains("it recovered")
    );
    // A second time is the same answer, not an error.
    assert_eq!(
        good(&call(&client, "cancel_action", json!({"action_id": id})).await)["ended"],
        true
    );
    let began = Instant::now();
    good(&call(&client, "wait_for_action", json!({"action_id": id})).await);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_statement_that_the_executor_did_not_sign_is_never_shown() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let id = good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    world.admit_as(&Signer::generate(&OsEntropy)).await;
    let told = call(&client, "get_action", json!({"action_id": id})).await;
    let body = good(&told);
    assert_eq!(body["state"], "pending");
    for hidden in ["digest", "change", "expires_at"] {
        assert!(body[hidden].is_null(), "{hidden}");
    }
    assert_eq!(body["held"]["code"], "statement_forged");
    assert!(text(&told).contains("not one that the executor signed"));
}

#[tokio::test]
async fn a_success_that_the_executor_did_not_sign_is_not_reported() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let mut arguments = restart("web-1-aaaaa");
    arguments["idempotency_key"] = "k".into();
    let id = good(&call(&client, "restart_pod", arguments.clone()).await)["action_id"].clone();
    let action = world.admit().await;
    forge_success(&world.store(), action, world.executor.kid()).await;

    for tool in ["get_action", "wait_for_action"] {
        let told = call(&client, tool, json!({"action_id": id})).await;
        let body = good(&told);
        assert_eq!(body["state"], "indeterminate", "{tool}");
        assert_eq!(body["outcome"]["code"], "outcome_unsigned");
        assert!(body["next_tool"].is_null() && body["ended"] == true);
        assert!(text(&told).contains("Do not rely on it"));
        assert!(!text(&told).contains(LIE) && !body.to_string().contains(LIE));
        let last = body["timeline"].as_array().unwrap().last().unwrap();
        assert_eq!(last["who"], "(not signed by the executor)");
    }
    let list = call(&client, "list_actions", json!({})).await;
    assert_eq!(good(&list)["actions"][0]["state"], "indeterminate");
    assert!(!good(&list).to_string().contains(LIE));
    let again = call(&client, "restart_pod", arguments).await;
    assert_eq!(good(&again)["state"], "indeterminate");
    assert!(!good(&again).to_string().contains(LIE) && !text(&again).contains(LIE));
}

#[tokio::test]
async fn a_key_of_one_namespace_learns_nothing_from_anothers_idempotency_key() {
    let world = World::start().await;
    allow_billing(&world);
    let (wide, narrow) = (world.client(KEY).await, world.client(NARROW_KEY).await);
    let arguments = json!({"namespace": "billing", "pod": "ledger-1-zzzzz", "reason": "loops",
        "idempotency_key": "k-1"});
    let id = good(&call(&wide, "restart_pod", arguments).await)["action_id"].clone();
    let mut arguments = restart("web-1-aaaaa");
    arguments["idempotency_key"] = "k-1".into();
    let told = call(&narrow, "restart_pod", arguments.clone()).await;
    assert!(bad(&told).contains("use a new key"), "{}", text(&told));
    for hidden in [id.as_str().unwrap(), "billing", "ledger"] {
        assert!(!text(&told).contains(hidden), "{hidden}");
    }
    arguments["idempotency_key"] = "k-2".into();
    good(&call(&narrow, "restart_pod", arguments).await);
}

#[tokio::test]
async fn rules_are_read_again_and_bad_ones_keep_the_old() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let policy = world.folder.path().join("policy.toml");
    let good_policy = std::fs::read_to_string(&policy).unwrap();
    let ledger = json!({"namespace": "billing", "pod": "ledger-1-zzzzz", "reason": "loops"});
    bad(&call(&client, "restart_pod", ledger.clone()).await);

    std::fs::write(&policy, good_policy.replace("[\"shop\"]", "[\"billing\"]")).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while call(&client, "restart_pod", ledger.clone()).await.is_error == Some(true) {
        assert!(Instant::now() < until, "the new policy was never used");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bad(&call(&client, "restart_pod", restart("web-1-aaaaa")).await);

    // A file that cannot be used changes nothing; it has been looked at once the next good one is.
    let used = world.app.rules().policy.hash();
    std::fs::write(&policy, "nonsense = 1").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.app.rules().policy.hash(), used);
}

#[tokio::test]
async fn an_ended_action_says_that_it_is_too_late_to_cancel() {
    let world = World::start().await;
    let client = world.client(KEY).await;
    let id = good(&call(&client, "restart_pod", restart("web-1-aaaaa")).await)["action_id"].clone();
    let action = world.admit().await;
    world.reject(action, "no").await;
    let told = call(&client, "cancel_action", json!({"action_id": id})).await;
    assert!(
        bad(&told).contains("already ended: rejected"),
        "{}",
        text(&told)
    );
}
