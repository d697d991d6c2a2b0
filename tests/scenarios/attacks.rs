//! Whoever can write to the database tries to make the executor act.

use anyhow::{Result, anyhow, ensure};
use countersign_store::testing::{Role, Tamper};

use super::{SOON, Scene};

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
