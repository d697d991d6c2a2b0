//! Evictions: preconditions, dry runs, disruption budgets.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Fate, SETTLE, Session, controller, is_ready, name, refused};
use crate::{Reply, eventually};

pub(super) async fn dry_run_changes_nothing(session: &Session) -> Result<()> {
    let app = session.deployment("dry-run", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    created(&session.evict(&pod, true).await?)?;
    unchanged(session, &pod).await
}

pub(super) async fn eviction_brings_a_replacement(session: &Session) -> Result<()> {
    let app = session
        .deployment("replaced", 2, Fate::FirstCrashes)
        .await?;
    let before = session.pods(&app).await?;
    let pod = before
        .iter()
        .find(|pod| !is_ready(pod))
        .context("no unready pod")?;
    created(&session.evict(pod, false).await?)?;
    let old: Vec<&Value> = before.iter().map(|pod| &pod["metadata"]["uid"]).collect();
    let (new, gone) = eventually(SETTLE, "a ready replacement", async || {
        let now = session.pods(&app).await?;
        let gone = now
            .iter()
            .all(|now| now["metadata"]["uid"] != pod["metadata"]["uid"]);
        let new = now
            .into_iter()
            .find(|now| !old.contains(&&now["metadata"]["uid"]));
        Ok(new
            .filter(|new| gone && is_ready(new))
            .map(|new| (new, gone)))
    })
    .await?;
    ensure!(
        gone && controller(&new) == controller(pod),
        "the replacement has another controller"
    );
    ensure!(
        name(&new) != name(pod),
        "a ReplicaSet's pod came back under its old name"
    );
    refused(&session.read_again(pod).await?, 404, "NotFound")
}

pub(super) async fn wrong_uid_conflicts(session: &Session) -> Result<()> {
    let app = session.deployment("wrong-uid", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    let uid = json!("00000000-0000-4000-8000-000000000000");
    for dry_run in [true, false] {
        let version = &pod["metadata"]["resourceVersion"];
        let reply = session
            .evict_if(&name(&pod), &uid, version, dry_run)
            .await?;
        refused(&reply, 409, "Conflict")?;
        ensure!(
            mentions(&reply, "UID"),
            "the message does not name the UID: {reply}"
        );
    }
    unchanged(session, &pod).await
}

pub(super) async fn stale_resource_version_conflicts(session: &Session) -> Result<()> {
    let app = session.deployment("stale", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    for dry_run in [true, false] {
        let uid = &pod["metadata"]["uid"];
        let reply = session
            .evict_if(&name(&pod), uid, &json!("1"), dry_run)
            .await?;
        refused(&reply, 409, "Conflict")?;
        ensure!(
            mentions(&reply, "ResourceVersion"),
            "the message does not name it: {reply}"
        );
    }
    unchanged(session, &pod).await
}

pub(super) async fn missing_pod_is_not_found(session: &Session) -> Result<()> {
    let uid = json!("00000000-0000-4000-8000-000000000000");
    let reply = session
        .evict_if("no-such-pod", &uid, &json!("1"), false)
        .await?;
    refused(&reply, 404, "NotFound")
}

pub(super) async fn budget_without_room_refuses(session: &Session) -> Result<()> {
    let app = session.deployment("no-room", 2, Fate::Ready).await?;
    session.budget(&app, 2, None).await?;
    let pod = session.first_pod(&app).await?;
    for dry_run in [true, false] {
        over_budget(&session.evict(&pod, dry_run).await?)?;
    }
    unchanged(session, &pod).await
}

pub(super) async fn budget_with_room_allows_one(session: &Session) -> Result<()> {
    let app = session.deployment("room", 2, Fate::Ready).await?;
    session.budget(&app, 1, None).await?;
    let pod = session.first_pod(&app).await?;
    // A dry run spends nothing of the budget of one.
    created(&session.evict(&pod, true).await?)?;
    created(&session.evict(&pod, false).await?)
}

/// The worst outage, and the surprise in it: nothing is healthy, so nothing may be evicted.
pub(super) async fn default_budget_refuses_when_all_pods_are_unready(
    session: &Session,
) -> Result<()> {
    let app = session.deployment("all-down", 2, Fate::Crash).await?;
    session.budget(&app, 1, None).await?;
    let pod = session.first_pod(&app).await?;
    for dry_run in [true, false] {
        over_budget(&session.evict(&pod, dry_run).await?)?;
    }
    unchanged(session, &pod).await
}

pub(super) async fn always_allow_budget_lets_unready_pods_go(session: &Session) -> Result<()> {
    let app = session.deployment("always", 2, Fate::Crash).await?;
    session.budget(&app, 2, Some("AlwaysAllow")).await?;
    let pod = session.first_pod(&app).await?;
    created(&session.evict(&pod, true).await?)?;
    unchanged(session, &pod).await?;
    created(&session.evict(&pod, false).await?)
}

fn created(reply: &Reply) -> Result<()> {
    ensure!(reply.status == 201, "expected 201, got {reply}");
    let body = &reply.body;
    ensure!(
        body["kind"] == "Status" && body["status"] == "Success",
        "expected Success: {body}"
    );
    Ok(())
}

fn over_budget(reply: &Reply) -> Result<()> {
    refused(reply, 429, "TooManyRequests")?;
    let cause = &reply.body["details"]["causes"][0];
    ensure!(
        cause["reason"] == "DisruptionBudget",
        "no DisruptionBudget cause: {}",
        reply.body
    );
    Ok(())
}

fn mentions(reply: &Reply, word: &str) -> bool {
    reply.body["message"]
        .as_str()
        .is_some_and(|message| message.contains(word))
}

/// Still the same pod, and nobody is deleting it.
async fn unchanged(session: &Session, pod: &Value) -> Result<()> {
    let now = session.read_again(pod).await?.success()?;
    ensure!(
        now["metadata"]["uid"] == pod["metadata"]["uid"],
        "the pod was replaced"
    );
    ensure!(
        now["metadata"]["deletionTimestamp"].is_null(),
        "the pod is being deleted"
    );
    Ok(())
}
