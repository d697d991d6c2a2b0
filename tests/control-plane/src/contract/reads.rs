//! Lists, pages, single reads, events and watches.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Fate, SETTLE, Session, controller, is_ready, name, refused};
use crate::eventually;

/// What a client learns before it does anything: which cluster, which version, what time.
pub(super) async fn tells_identity_version_and_time(session: &Session) -> Result<()> {
    let mut uids = BTreeSet::new();
    for account in [&session.server, &session.executor] {
        let namespace = account
            .get("/api/v1/namespaces/kube-system")
            .await?
            .success()?;
        uids.insert(
            namespace["metadata"]["uid"]
                .as_str()
                .context("no uid")?
                .to_owned(),
        );
        let ready = account.get("/readyz").await?;
        ensure!(ready.status == 200, "readyz: {ready}");
        let version = account.get("/version").await?;
        let date = version
            .headers
            .get(http::header::DATE)
            .and_then(|date| date.to_str().ok());
        let date = date.context("an answer without Date")?;
        jiff::fmt::rfc2822::parse(date).with_context(|| format!("Date: {date}"))?;
        let version = version.success()?;
        for field in ["gitVersion", "major", "minor"] {
            ensure!(version[field].is_string(), "no {field}: {version}");
        }
    }
    ensure!(uids.len() == 1, "two accounts see two clusters: {uids:?}");
    Ok(())
}

pub(super) async fn owners_lead_to_the_deployment(session: &Session) -> Result<()> {
    let app = session.deployment("owners", 1, Fate::Ready).await?;
    let namespace = &session.target.namespace;
    let mut object = session.first_pod(&app).await?;
    for (kind, plural) in [("ReplicaSet", "replicasets"), ("Deployment", "deployments")] {
        let owner = object["metadata"]["ownerReferences"][0].clone();
        ensure!(
            owner["kind"] == kind && owner["controller"] == true,
            "not a {kind}: {owner}"
        );
        ensure!(owner["apiVersion"] == "apps/v1", "apiVersion: {owner}");
        let name = owner["name"].as_str().context("an owner without name")?;
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{plural}/{name}");
        object = session.executor.get(&path).await?.success()?;
        ensure!(
            object["metadata"]["uid"] == owner["uid"],
            "another {kind}: {object}"
        );
    }
    ensure!(
        name(&object) == app,
        "not the Deployment that was made: {object}"
    );
    Ok(())
}

pub(super) async fn lists_pods_by_label(session: &Session) -> Result<()> {
    let app = session.deployment("label", 2, Fate::Ready).await?;
    let path = format!("{}?labelSelector=app%3D{app}", session.pods_path());
    let list = session.server.get(&path).await?.success()?;
    ensure!(
        list["kind"] == "PodList" && list["apiVersion"] == "v1",
        "not a PodList: {list}"
    );
    ensure!(
        list["metadata"]["resourceVersion"].is_string(),
        "a list without resourceVersion"
    );
    let pods = list["items"].as_array().context("no items")?;
    ensure!(pods.len() == 2, "{} pods instead of 2", pods.len());
    for pod in pods {
        ensure!(
            pod["metadata"]["labels"]["app"] == app.as_str(),
            "a pod of another app: {pod}"
        );
        ensure!(controller(pod).is_some(), "a pod without controller: {pod}");
    }
    let path = format!("{}?labelSelector=app%3Dnobody", session.pods_path());
    let none = session.server.get(&path).await?.success()?;
    ensure!(
        none["items"] == serde_json::json!([]),
        "items must be an empty array: {none}"
    );
    Ok(())
}

pub(super) async fn pages_with_limit_and_continue(session: &Session) -> Result<()> {
    let app = session.deployment("pages", 5, Fate::Ready).await?;
    let base = format!("{}?labelSelector=app%3D{app}&limit=2", session.pods_path());
    let (mut sizes, mut names, mut versions) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut path = base.clone();
    while sizes.len() < 10 {
        let page = session.server.get(&path).await?.success()?;
        let pods = page["items"].as_array().context("no items")?;
        sizes.push(pods.len());
        names.extend(pods.iter().map(name));
        versions.insert(page["metadata"]["resourceVersion"].to_string());
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => {
                // A token is base64url, but nothing promises that.
                let token: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
                path = format!("{base}&continue={token}");
            }
            _ => break,
        }
    }
    ensure!(sizes == [2, 2, 1], "pages of {sizes:?} instead of 2, 2, 1");
    ensure!(
        names.len() == 5,
        "{} distinct pods instead of 5",
        names.len()
    );
    ensure!(
        versions.len() == 1,
        "the pages are of different versions: {versions:?}"
    );
    Ok(())
}

pub(super) async fn gets_one_pod(session: &Session) -> Result<()> {
    let app = session.deployment("get", 1, Fate::Ready).await?;
    let listed = session.first_pod(&app).await?;
    let pod = session.read_again(&listed).await?.success()?;
    ensure!(
        pod["kind"] == "Pod" && pod["apiVersion"] == "v1",
        "kind and apiVersion: {pod}"
    );
    ensure!(
        pod["metadata"]["uid"] == listed["metadata"]["uid"],
        "another UID"
    );
    ensure!(
        pod["metadata"]["resourceVersion"].is_string(),
        "no resourceVersion"
    );
    ensure!(
        pod["status"]["phase"] == "Running" && is_ready(&pod),
        "not Running and Ready: {pod}"
    );
    Ok(())
}

pub(super) async fn missing_pod_is_a_404_status(session: &Session) -> Result<()> {
    let reply = session
        .server
        .get(&format!("{}/no-such-pod", session.pods_path()))
        .await?;
    refused(&reply, 404, "NotFound")?;
    ensure!(
        reply.body["details"]["name"] == "no-such-pod",
        "details: {}",
        reply.body
    );
    ensure!(
        reply.body["details"]["kind"] == "pods",
        "details: {}",
        reply.body
    );
    Ok(())
}

pub(super) async fn events_are_found_by_uid(session: &Session) -> Result<()> {
    let app = session.deployment("events", 2, Fate::Crash).await?;
    let pod = session.first_pod(&app).await?;
    let uid = pod["metadata"]["uid"].as_str().context("no uid")?;
    let namespace = &session.target.namespace;
    let path =
        format!("/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid%3D{uid}");
    let events = eventually(SETTLE, "an event of a crashing pod", async || {
        let list = session.server.get(&path).await?.success()?;
        let events = list["items"].as_array().context("no items")?.clone();
        Ok(events
            .iter()
            .any(|event| event["reason"] == "BackOff")
            .then_some(events))
    })
    .await?;
    for event in events {
        let involved = &event["involvedObject"];
        ensure!(
            involved["uid"] == uid && involved["kind"] == "Pod",
            "event of another: {event}"
        );
    }
    Ok(())
}

pub(super) async fn crashing_pod_says_so(session: &Session) -> Result<()> {
    let app = session
        .deployment("crashing", 2, Fate::FirstCrashes)
        .await?;
    let pods = session.pods(&app).await?;
    let pod = pods
        .iter()
        .find(|pod| !is_ready(pod))
        .context("no unready pod")?;
    // The trap: the phase alone looks healthy.
    ensure!(
        pod["status"]["phase"] == "Running",
        "phase {}",
        pod["status"]["phase"]
    );
    let status = &pod["status"]["containerStatuses"][0];
    ensure!(
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff",
        "status {status}"
    );
    ensure!(
        status["lastState"]["terminated"]["exitCode"] == 1,
        "status {status}"
    );
    ensure!(status["restartCount"].as_u64() > Some(0), "status {status}");
    Ok(())
}

pub(super) async fn crashing_pod_left_a_log(session: &Session) -> Result<()> {
    let app = session.deployment("logs", 1, Fate::Crash).await?;
    let pod = name(&session.first_pod(&app).await?);
    let path = format!(
        "{}/{pod}/log?container=app&previous=true",
        session.pods_path()
    );
    let log = session.server.get(&path).await?;
    let text = log
        .body
        .as_str()
        .filter(|_| log.status == 200)
        .with_context(|| log.to_string())?;
    ensure!(
        text.lines().count() > 1 && text.ends_with('\n'),
        "not lines: {text:?}"
    );
    let last = session.server.get(&format!("{path}&tailLines=1")).await?;
    let line = text.lines().last().context("no line")?;
    ensure!(
        last.body == format!("{line}\n").as_str(),
        "tailLines=1: {}",
        last.body
    );
    let start = session.server.get(&format!("{path}&limitBytes=10")).await?;
    ensure!(
        start.body.as_str() == text.get(..10),
        "limitBytes=10: {}",
        start.body
    );
    let other = format!("{}/{pod}/log?container=nobody", session.pods_path());
    refused(&session.server.get(&other).await?, 400, "BadRequest")
}

pub(super) async fn watch_reports_what_happens_after_a_list(session: &Session) -> Result<()> {
    let list = session.server.get(&session.pods_path()).await?.success()?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("no resourceVersion")?;
    let app = session.deployment("watched", 1, Fate::Ready).await?;
    let path = format!(
        "{}?watch=true&timeoutSeconds=20&labelSelector=app%3D{app}&resourceVersion={version}",
        session.pods_path()
    );
    let mut watch = match session.server.watch(&path).await? {
        Ok(watch) => watch,
        Err(reply) => bail!("{reply}"),
    };
    let mut added = false;
    let pod = loop {
        let event = watch
            .next()
            .await?
            .context("the watch ended before the pod was ready")?;
        let pod = event["object"].clone();
        ensure!(pod["kind"] == "Pod", "not a pod: {event}");
        match event["type"].as_str() {
            Some("ADDED") => added = true,
            Some("MODIFIED") => ensure!(added, "MODIFIED before ADDED"),
            other => bail!("event {other:?}"),
        }
        if is_ready(&pod) {
            break pod;
        }
    };
    let evicted = session.evict(&pod, false).await?;
    ensure!(evicted.status == 201, "eviction: {evicted}");
    loop {
        let event = watch
            .next()
            .await?
            .context("the watch ended before the deletion")?;
        if event["type"] == "DELETED" {
            ensure!(
                event["object"]["metadata"]["uid"] == pod["metadata"]["uid"],
                "{event}"
            );
            return Ok(());
        }
    }
}

/// Either as the answer's status or as an ERROR event on an accepted watch.
pub(super) async fn watch_from_an_ancient_version_is_gone(session: &Session) -> Result<()> {
    let path = format!(
        "{}?watch=true&timeoutSeconds=5&resourceVersion=1",
        session.pods_path()
    );
    let status = match session.server.watch(&path).await? {
        Err(reply) => reply.body,
        Ok(mut watch) => {
            let event = watch
                .next()
                .await?
                .context("the watch ended without a word")?;
            ensure!(
                event["type"] == "ERROR",
                "expected an ERROR event, got {event}"
            );
            event["object"].clone()
        }
    };
    ensure!(
        status["kind"] == "Status" && status["code"] == 410,
        "expected 410, got {status}"
    );
    ensure!(
        status["reason"] == "Expired" || status["reason"] == "Gone",
        "reason: {status}"
    );
    Ok(())
}
