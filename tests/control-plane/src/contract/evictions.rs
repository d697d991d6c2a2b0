//! Evictions: preconditions, dry runs, disruption budgets.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Fate, SETTLE, Session, controller, eviction, is_ready, name, refused};
use crate::{Reply, eventually};

pub(super) async fn dry_run_changes_nothing(session: &Session) -> Result<()> {
    let app = session.deployment("dry-run", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    created(&session.evict(&pod, true).await?)?;
    unchanged(session, &pod).await?;
    // Said in one place only, it must hold as well.
    let path = format!("{}/{}/eviction", session.pods_path(), name(&pod));
    for (query, options) in [("?dryRun=All", json!({})), ("", json!({"dryRun": ["All"]}))] {
        let eviction = eviction(&session.target.namespace, &name(&pod), &options);
        created(
            &session
                .executor
                .post(&format!("{path}{query}"), &eviction)
                .await?,
        )?;
        unchanged(session, &pod).await?;
    }
    Ok(())
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

/// Both are how an eviction is found again in an audit log.
pub(super) async fn audit_id_and_annotations_are_taken(session: &Session) -> Result<()> {
    let app = session.deployment("audited", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    let (namespace, audit_id) = (&session.target.namespace, session.unique("audit"));
    let preconditions = json!({"preconditions": {"uid": pod["metadata"]["uid"]}});
    let mut eviction = eviction(namespace, &name(&pod), &preconditions);
    eviction["metadata"]["annotations"] = json!({"countersign.dev/action-id": audit_id});
    let path = format!("{}/{}/eviction", session.pods_path(), name(&pod));
    let request = http::Request::post(path)
        .header("Audit-ID", &audit_id)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(eviction.to_string().into_bytes())?;
    let reply = session.executor.send(request).await?;
    created(&reply)?;
    let echoed = reply
        .headers
        .get("Audit-ID")
        .and_then(|id| id.to_str().ok());
    ensure!(
        echoed == Some(&*audit_id),
        "Audit-ID {echoed:?} instead of {audit_id}"
    );
    Ok(())
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

/// Nothing may be disrupted, but a pod that is down already disrupts nothing.
pub(super) async fn budget_met_by_others_lets_an_unready_pod_go(session: &Session) -> Result<()> {
    let app = session.deployment("met", 3, Fate::FirstCrashes).await?;
    session.budget(&app, 2, None).await?;
    let pods = session.pods(&app).await?;
    let ready = pods
        .iter()
        .find(|pod| is_ready(pod))
        .context("no ready pod")?;
    over_budget(&session.evict(ready, false).await?)?;
    let unready = pods
        .iter()
        .find(|pod| !is_ready(pod))
        .context("no unready pod")?;
    created(&session.evict(unready, true).await?)?;
    created(&session.evict(unready, false).await?)
}

/// The trap: the budget is spent before the preconditions are looked at.
pub(super) async fn conflict_spends_the_budget(session: &Session) -> Result<()> {
    let app = session.deployment("spent", 2, Fate::Ready).await?;
    session.budget(&app, 1, None).await?;
    let pod = session.first_pod(&app).await?;
    let uid = json!("00000000-0000-4000-8000-000000000000");
    let version = &pod["metadata"]["resourceVersion"];
    let conflict = session.evict_if(&name(&pod), &uid, version, false).await?;
    refused(&conflict, 409, "Conflict")?;
    over_budget(&session.evict(&pod, false).await?)?;
    unchanged(session, &pod).await
}

pub(super) async fn two_budgets_are_an_error(session: &Session) -> Result<()> {
    let app = session.deployment("two", 2, Fate::Ready).await?;
    session.budget(&app, 1, None).await?;
    session
        .named_budget(&format!("{app}-second"), &app, 1, None)
        .await?;
    let pod = session.first_pod(&app).await?;
    for dry_run in [true, false] {
        let reply = session.evict(&pod, dry_run).await?;
        let body = &reply.body;
        ensure!(
            reply.status == 500 && body["kind"] == "Status",
            "expected 500, got {reply}"
        );
        // Unlike all other refusals it has no reason: a client has only the code.
        ensure!(
            body["reason"].is_null() && body["code"] == 500,
            "expected no reason: {body}"
        );
        ensure!(
            mentions(&reply, "more than one PodDisruptionBudget"),
            "message: {reply}"
        );
    }
    unchanged(session, &pod).await
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
