//! Whoever can write to the database tries to make the executor act.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use countersign_store::testing::{Role, Tamper};

use super::{SOON, Scene};
use crate::stack::ClusterKind;

/// A decision row made by hand: there is no signature of the server behind it.
pub async fn forged_decision(scene: &Scene<'_>) -> Result<()> {
    let (old, id) = scene.proposed("shop", "gateway", 2, "ready").await?;
    let tamper = Tamper::open(&scene.stack.database_url(Role::Admin))
        .await
        .map_err(|error| anyhow!("{error}"))?;
    tamper
        .forge_approval(&id, "li")
        .await
        .map_err(|error| anyhow!("{error}"))?;
    scene.tell("SQL: inserted an approval by Li, set the state to approved");
    let refused = scene.ends(&id, "refused", SOON).await?;
    ensure!(
        refused.value.to_string().contains("decision_forged"),
        "{}",
        refused.value
    );
    scene.nothing_sent(&old).await
}

/// The state set to `approved` by hand, with no decision at all: held, never run.
pub async fn forged_state(scene: &Scene<'_>) -> Result<()> {
    let (old, id) = scene.proposed("shop", "profile", 2, "ready").await?;
    let tamper = Tamper::open(&scene.stack.database_url(Role::Admin))
        .await
        .map_err(|error| anyhow!("{error}"))?;
    tamper
        .set_state(&id, "approved")
        .await
        .map_err(|error| anyhow!("{error}"))?;
    scene.tell("SQL: set the state to approved, no decision");
    scene.until_told(&id, "missing_evidence").await?;
    ensure!(
        scene.stack.cluster.spent(&id).await?.is_none(),
        "it was spent"
    );
    scene.nothing_sent(&old).await
}

/// Set back to `approved` while its replacement gets Ready: sent once, and ended by its true outcome.
pub async fn set_back_while_it_runs(scene: &Scene<'_>) -> Result<()> {
    let cluster = &scene.stack.cluster;
    let slow = match cluster.kind {
        ClusterKind::Playground => "slow-ready=4000",
        ClusterKind::ControlPlane => "slow-ready=4s",
    };
    let (old, id) = scene.proposed("shop", "ledger", 2, slow).await?;
    scene.stack.li().await?.approve(&id, "go").await?;
    let start = Instant::now();
    while cluster.evictions(&old.name).await? == 0 {
        ensure!(start.elapsed() < SOON, "not evicted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tamper = Tamper::open(&scene.stack.database_url(Role::Admin))
        .await
        .map_err(|error| anyhow!("{error}"))?;
    tamper
        .set_back(&id)
        .await
        .map_err(|error| anyhow!("{error}"))?;
    scene.tell("SQL: set the state back to approved while it ran");
    let done = scene.ends(&id, "succeeded", SOON).await?;
    ensure!(
        done.value.to_string().contains("verified"),
        "outcome: {}",
        done.value
    );
    scene.exactly_one_eviction(&old).await
}
