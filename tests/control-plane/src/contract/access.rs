//! Who may do what: the executor's register, and what neither account may do.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Fate, Session, eviction, name, refused};
use crate::Patch;

pub(super) async fn lease_is_created_once(session: &Session) -> Result<()> {
    let (leases, lease) = lease(session, "once");
    let first = session.executor.post(&leases, &lease).await?;
    ensure!(first.status == 201, "expected 201, got {first}");
    ensure!(first.body["kind"] == "Lease", "not a Lease: {}", first.body);
    ensure!(
        first.body["spec"]["holderIdentity"] == "contract",
        "spec lost: {}",
        first.body
    );
    refused(
        &session.executor.post(&leases, &lease).await?,
        409,
        "AlreadyExists",
    )?;
    let read = session
        .executor
        .get(&format!("{leases}/{}", name(&lease)))
        .await?
        .success()?;
    ensure!(
        read["metadata"]["uid"] == first.body["metadata"]["uid"],
        "another Lease: {read}"
    );
    Ok(())
}

pub(super) async fn executor_cannot_change_or_delete_a_lease(session: &Session) -> Result<()> {
    let (leases, lease) = lease(session, "kept");
    session.executor.post(&leases, &lease).await?.success()?;
    let path = format!("{leases}/{}", name(&lease));
    refused(
        &session.executor.delete(&path, &json!({})).await?,
        403,
        "Forbidden",
    )?;
    let patch = json!({"spec": {"holderIdentity": "another"}});
    refused(
        &session.executor.patch(&path, Patch::Merge, &patch).await?,
        403,
        "Forbidden",
    )?;
    session.executor.get(&path).await?.success().map(drop)
}

pub(super) async fn server_cannot_evict(session: &Session) -> Result<()> {
    let app = session.deployment("readers", 1, Fate::Ready).await?;
    let pod = name(&session.first_pod(&app).await?);
    for query in ["", "?dryRun=All"] {
        let path = format!("{}/{pod}/eviction{query}", session.pods_path());
        let eviction = eviction(&session.target.namespace, &pod, &json!({}));
        refused(
            &session.server.post(&path, &eviction).await?,
            403,
            "Forbidden",
        )?;
    }
    Ok(())
}

pub(super) async fn server_cannot_read_secrets(session: &Session) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/secrets", session.target.namespace);
    refused(&session.server.get(&path).await?, 403, "Forbidden")
}

pub(super) async fn executor_cannot_delete_pods(session: &Session) -> Result<()> {
    let app = session.deployment("kept", 1, Fate::Ready).await?;
    let pod = session.first_pod(&app).await?;
    let path = format!("{}/{}", session.pods_path(), name(&pod));
    refused(
        &session.executor.delete(&path, &json!({})).await?,
        403,
        "Forbidden",
    )?;
    refused(
        &session
            .executor
            .delete(&session.pods_path(), &json!({}))
            .await?,
        403,
        "Forbidden",
    )?;
    session.read_again(&pod).await?.success().map(drop)
}

pub(super) async fn executor_cannot_read_secrets(session: &Session) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/secrets", session.target.namespace);
    refused(&session.executor.get(&path).await?, 403, "Forbidden")?;
    refused(
        &session.executor.get(&format!("{path}/any")).await?,
        403,
        "Forbidden",
    )
}

pub(super) async fn executor_cannot_see_other_namespaces(session: &Session) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods", session.target.other_namespace);
    refused(&session.executor.get(&path).await?, 403, "Forbidden")?;
    refused(
        &session.executor.get("/api/v1/pods").await?,
        403,
        "Forbidden",
    )
}

pub(super) async fn executor_cannot_evict_in_other_namespaces(session: &Session) -> Result<()> {
    let namespace = &session.target.other_namespace;
    let path = format!("/api/v1/namespaces/{namespace}/pods/any/eviction");
    // Authorisation comes before the look-up: 403, not 404.
    let reply = session
        .executor
        .post(&path, &eviction(namespace, "any", &json!({})))
        .await?;
    refused(&reply, 403, "Forbidden")
}

/// The collection's path, and a Lease for it.
fn lease(session: &Session, kind: &str) -> (String, serde_json::Value) {
    let namespace = &session.target.register_namespace;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": session.unique(kind), "namespace": namespace},
        "spec": {"holderIdentity": "contract"},
    });
    (leases, lease)
}
