//! What honest people see: approvals, a rejection, and the ways in which a restart can go.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::json;

use super::{SOON, Scene};
use crate::stack::ClusterKind;
use crate::stack::person::strip;

/// Failing pods -> `restart_pod` -> ticket, notification, page -> approve -> evicted -> replacement
/// Ready -> outcome in MCP, page, ticket and audit.
pub async fn page_approval(scene: &Scene<'_>) -> Result<()> {
    let stack = scene.stack;
    let old = stack
        .cluster
        .deploy("shop", "basket", 3, 1, "ready")
        .await?;
    let failing = scene
        .ai
        .call("list_failing_pods", json!({"namespace": "shop"}))
        .await?;
    ensure!(
        failing.text.contains("basket"),
        "list_failing_pods: {}",
        failing.text
    );
    scene.tell(&format!("list_failing_pods names {}", old.name));

    let reason = "crash loop <b>since</b> the deploy";
    let proposed = scene.ai.restart("shop", &old.name, reason).await?;
    let id = proposed.str("action_id").to_owned();
    ensure!(
        proposed.str("state") == "pending",
        "not admitted: {}",
        proposed.text
    );
    ensure!(
        proposed
            .str("approval_url")
            .ends_with(&format!("/actions/{id}")),
        "no address: {}",
        proposed.text
    );
    let digest = proposed.str("digest").to_owned();
    ensure!(digest.len() == 64, "no digest: {}", proposed.value);
    scene.nothing_sent(&old).await?;
    scene.tell(&format!(
        "executor signed the statement: sha256 {}...",
        &digest[..12]
    ));

    let asked = stack
        .receiver
        .until(SOON, |got| {
            got.kind == "webhook" && got.body.to_string().contains(&id)
        })
        .await?;
    ensure!(
        asked.headers.contains_key("webhook-signature"),
        "unsigned notification"
    );
    scene.tell(&format!(
        "signed notification arrived: {}",
        asked.body["type"]
    ));
    let key = scene.ticket(&id).await?;
    scene.tell(&format!("ticket {key} in the playground Jira (simulated)"));

    let li = stack.li().await?;
    let page = li.get(&format!("/actions/{id}")).await?;
    let text = strip(&page);
    ensure!(
        text.contains(&old.name) && text.contains(&old.uid),
        "page: {text}"
    );
    ensure!(page.contains(&digest), "the page does not show the digest");
    ensure!(
        !page.contains("<b>since"),
        "the AI's markup reached the page"
    );
    li.approve(&id, "seen the crash loop").await?;
    scene.tell("Li approved on the page (log-in, CSRF token, digest, version)");

    let done = scene.ends(&id, "succeeded", SOON).await?;
    ensure!(
        done.value.to_string().contains("verified"),
        "outcome: {}",
        done.value
    );
    scene.exactly_one_eviction(&old).await?;
    let pods = stack.cluster.pods("shop", "basket").await?;
    ensure!(
        pods.iter().all(|pod| pod.uid != old.uid && pod.ready),
        "pods: {pods:?}"
    );
    ensure!(
        stack.cluster.spent(&id).await?.is_some(),
        "no spent record in the cluster"
    );

    let page = strip(&li.get(&format!("/actions/{id}")).await?).to_lowercase();
    ensure!(page.contains("verified after"), "page: {page}");
    stack
        .jira
        .until_comment(&key, "Done and verified", SOON)
        .await?;
    stack
        .receiver
        .until(SOON, |got| {
            let text = got.body.to_string();
            got.kind == "slack" && text.contains(&id) && text.contains("Done and verified")
        })
        .await?;
    let audit = li.get(&format!("/audit?action={id}")).await?;
    let rows = strip(audit.split("<tbody").nth(1).unwrap_or_default());
    for event in [
        "action.proposed",
        "action.admitted",
        "action.viewed",
        "action.approved",
        "action.executing",
        "action.succeeded",
        "ticket.opened",
        "notification.sent",
    ] {
        ensure!(
            rows.contains(event),
            "{event} is missing in the audit: {rows}"
        );
    }
    scene.tell("outcome in MCP, page, ticket, notification and audit");
    Ok(())
}

/// An approval by moving the ticket; the requester's own move does not count.
pub async fn ticket_approval(scene: &Scene<'_>) -> Result<()> {
    let jira = &scene.stack.jira;
    let (old, id) = scene.proposed("shop", "mailer", 2, "ready").await?;
    let key = scene.ticket(&id).await?;

    jira.transition(&jira.maria, &key, &jira.status.approved)
        .await?;
    jira.until_comment(&key, "may not approve", SOON).await?;
    let state = scene.ai.get(&id).await?;
    ensure!(
        state.str("state") == "pending",
        "Maria's move counted: {}",
        state.text
    );
    scene.nothing_sent(&old).await?;
    scene.tell(&format!(
        "Maria moved {key} to Approved: not counted, she is behind the AI"
    ));
    jira.transition(&jira.maria, &key, &jira.status.to_do)
        .await?;

    jira.transition(&jira.li, &key, &jira.status.approved)
        .await?;
    scene.tell(&format!("Li moved {key} to Approved"));
    scene.ends(&id, "succeeded", SOON).await?;
    scene.exactly_one_eviction(&old).await
}

/// Two people answer the same page at the same moment: one answer counts, the other person is told.
pub async fn two_answers_at_once(scene: &Scene<'_>) -> Result<()> {
    let (old, id) = scene.proposed("shop", "invoices", 2, "ready").await?;
    let (li, omar) = tokio::try_join!(scene.stack.li(), scene.stack.omar())?;
    let (of_li, of_omar) = tokio::try_join!(li.form(&id), omar.form(&id))?;
    let (first, second) = tokio::try_join!(
        li.submit(&id, "approve", "go", &of_li),
        omar.submit(&id, "approve", "go", &of_omar),
    )?;
    let (mut counted, mut told) = (Vec::new(), String::new());
    for (name, answer) in [("Li Wei", first), ("Omar Haddad", second)] {
        match answer.status() {
            StatusCode::SEE_OTHER => counted.push(name),
            StatusCode::CONFLICT => told = strip(&answer.text().await?),
            other => bail!("{name} was answered with {other}"),
        }
    }
    ensure!(counted.len() == 1, "answers of {counted:?} counted");
    let earlier = format!("{} approved it", counted[0]);
    ensure!(told.contains(&earlier), "the other person reads: {told}");
    let done = scene.ends(&id, "succeeded", SOON).await?;
    let decisions = done.value["decisions"].as_array().map(Vec::len);
    ensure!(decisions == Some(1), "decisions: {}", done.value);
    scene.tell(&format!(
        "Li and Omar tapped at once: {}'s answer counts, the other was told",
        counted[0]
    ));
    scene.exactly_one_eviction(&old).await
}

/// A rejection; its reason reaches the AI, and the same proposal is denied for a while.
pub async fn rejection(scene: &Scene<'_>) -> Result<()> {
    let (old, id) = scene.proposed("shop", "quotes", 2, "ready").await?;
    let reason = "wait for the database to come back";
    scene.stack.li().await?.reject(&id, reason).await?;
    let answer = scene.ai.until_state(&id, "rejected", SOON).await?;
    ensure!(
        answer.text.contains(reason),
        "the reason did not reach the AI: {}",
        answer.text
    );
    scene.tell(&format!("the AI reads the reason: {reason}"));
    let arguments = json!({"namespace": "shop", "pod": old.name, "reason": "again"});
    let again = scene.ai.call("restart_pod", arguments).await?;
    ensure!(again.text.contains(reason), "no cool-down: {}", again.text);
    scene.tell("the same proposal again: denied, with the same reason");
    scene.nothing_sent(&old).await
}

/// The pod is replaced by another of the same name between proposal and approval: refused, old facts
/// against new.
pub async fn pod_replaced(scene: &Scene<'_>) -> Result<()> {
    let cluster = &scene.stack.cluster;
    let old = cluster.deploy_named("shop", "stock", 2, "ready").await?;
    let id = scene.proposed_for("shop", &old).await?;
    let new = cluster.replace_pod("shop", &old).await?;
    scene.tell(&format!(
        "somebody else replaced that pod meanwhile: uid {} then, {} now",
        old.uid, new.uid
    ));
    scene.stack.li().await?.approve(&id, "go").await?;
    let refused = scene.ends(&id, "refused", SOON).await?;
    let told = scene.all_read(&id, &refused, "target_replaced").await?;
    for (fact, uid) in [("old", &old.uid), ("new", &new.uid)] {
        ensure!(
            told.contains(uid),
            "the {fact} uid {uid} is missing: {told}"
        );
    }
    scene.nothing_sent(&old).await
}

/// The replacement never becomes Ready, although two siblings were all along: failed.
pub async fn replacement_never_ready(scene: &Scene<'_>) -> Result<()> {
    let (old, id) = scene.proposed("shop", "ranking", 3, "never-ready").await?;
    scene.stack.li().await?.approve(&id, "go").await?;
    let failed = scene.ends(&id, "failed", Duration::from_secs(45)).await?;
    scene
        .all_read(&id, &failed, "replacement_not_ready")
        .await?;
    scene.exactly_one_eviction(&old).await
}

/// All three pods of one workload restarted at once: each outcome names a new pod of its own.
pub async fn three_at_once(scene: &Scene<'_>) -> Result<()> {
    let cluster = &scene.stack.cluster;
    let slow = match cluster.kind {
        ClusterKind::Playground => "slow-ready=2000",
        ClusterKind::ControlPlane => "slow-ready=2s",
    };
    cluster.deploy("shop", "lift", 3, 3, slow).await?;
    let mut asked = Vec::new();
    for pod in cluster.pods("shop", "lift").await? {
        let answer = scene.ai.restart("shop", &pod.name, "it fails").await?;
        ensure!(answer.str("state") == "pending", "{}", answer.text);
        asked.push((pod, answer.str("action_id").to_owned()));
    }
    let li = scene.stack.li().await?;
    for (_, id) in &asked {
        li.approve(id, "go").await?;
    }
    let mut told = Vec::new();
    for (pod, id) in &asked {
        told.push(scene.ends(id, "succeeded", SOON).await?.text);
        scene.exactly_one_eviction(pod).await?;
    }
    let pods = cluster.pods("shop", "lift").await?;
    ensure!(pods.len() == 3, "pods: {pods:?}");
    for pod in pods {
        let naming = told.iter().filter(|text| text.contains(&pod.name)).count();
        ensure!(naming == 1, "{naming} outcomes name {}: {told:?}", pod.name);
    }
    scene.tell("three restarts at once: each outcome names a new pod of its own");
    Ok(())
}

/// A PodDisruptionBudget without room: said before the tap, held unspent, tried until it has room.
pub async fn budget_without_room(scene: &Scene<'_>) -> Result<()> {
    let cluster = &scene.stack.cluster;
    let old = cluster.deploy("payments", "booking", 2, 1, "ready").await?;
    cluster.budget("payments", "booking", 2).await?;
    let proposed = scene.ai.restart("payments", &old.name, "it fails").await?;
    ensure!(
        proposed.str("state") == "pending",
        "not admitted: {}",
        proposed.text
    );
    let id = proposed.str("action_id").to_owned();
    let li = scene.stack.li().await?;
    let page = strip(&li.get(&format!("/actions/{id}")).await?).to_lowercase();
    ensure!(page.contains("budget"), "not said before the tap: {page}");
    scene.tell("the page says before the tap: the disruption budget has no room");
    li.approve(&id, "go").await?;
    let held = scene.until_told(&id, "disruption_budget").await?;
    ensure!(held.str("state") == "approved", "{}", held.text);
    ensure!(
        cluster.spent(&id).await?.is_none(),
        "held must mean unspent"
    );
    scene.nothing_sent(&old).await?;
    scene.tell("held, unspent; the budget gets room");
    cluster.budget("payments", "booking", 1).await?;
    scene.ends(&id, "succeeded", SOON).await?;
    scene.exactly_one_eviction(&old).await
}
