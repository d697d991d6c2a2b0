//! An old copy of the database is put back. The spent record lives in the target cluster, so
//! nothing runs twice.

use std::path::Path;
use std::time::Duration;

use anyhow::{Error, Result, ensure};

use super::{SOON, Scene};
use crate::stack::Stack;
use crate::stack::cluster::Pod;

/// A copy taken after the approval was given, put back after execution.
pub async fn database_from_before_execution(
    stack: &mut Stack,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    // The executor is down while the person approves: the copy holds approved, unexecuted work.
    let scene = Scene::new(stack, tell).await?;
    let (old, id) = scene.proposed("shop", "coupons", 2, "ready").await?;
    drop(scene);
    if let Some(executor) = stack.executor.take() {
        executor.stop(SOON).await?;
    }
    stack.li().await?.approve(&id, "go").await?;
    stack.stop().await?;
    copy_database(stack).await?;
    tell("copied the database: approved, not yet executed");
    restart(stack).await?;
    let scene = Scene::new(stack, tell).await?;
    scene.ends(&id, "succeeded", SOON).await?;
    scene.exactly_one_eviction(&old).await?;
    drop(scene);

    put_back(stack).await?;
    tell("put the old copy back: the row says approved again");
    let scene = Scene::new(stack, tell).await?;
    let again = scene
        .ai
        .until(&id, SOON, |state| state != "approved")
        .await?;
    ensure!(
        again.value.to_string().contains("already_spent"),
        "expected already_spent: {}",
        again.value
    );
    tell(&format!(
        "the executor found the spent record: {}",
        again.str("state")
    ));
    still_one(stack, &old).await
}

/// A copy taken before the admission, put back after execution.
pub async fn database_from_before_admission(
    stack: &mut Stack,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let old = stack
        .cluster
        .deploy("shop", "wishlist", 2, 1, "ready")
        .await?;
    if let Some(executor) = stack.executor.take() {
        executor.stop(SOON).await?;
    }
    let ai = stack.ai().await?;
    let arguments = serde_json::json!({"namespace": "shop", "pod": old.name, "reason": "it fails"});
    let proposed = ai.call("restart_pod", arguments).await?;
    ensure!(
        proposed.str("state") == "checking",
        "nobody can admit: {}",
        proposed.text
    );
    ensure!(
        proposed.value["digest"].is_null(),
        "a digest before admission: {}",
        proposed.value
    );
    let id = proposed.str("action_id").to_owned();
    drop(ai);
    stack.stop().await?;
    copy_database(stack).await?;
    tell("copied the database: proposed, not yet admitted");
    restart(stack).await?;
    let scene = Scene::new(stack, tell).await?;
    scene
        .ai
        .until(&id, SOON, |state| state == "pending")
        .await?;
    stack.li().await?.approve(&id, "go").await?;
    scene.ends(&id, "succeeded", SOON).await?;
    drop(scene);

    put_back(stack).await?;
    tell("put the old copy back: the row says checking again");
    let scene = Scene::new(stack, tell).await?;
    let again = scene
        .ai
        .until(&id, SOON, |state| state != "checking")
        .await?;
    ensure!(again.str("state") == "denied", "{}", again.text);
    ensure!(
        again.value.to_string().contains("already_spent"),
        "{}",
        again.value
    );
    tell("the executor denied it: it has had its one chance");
    still_one(stack, &old).await
}

/// Both processes are stopped meanwhile, here and in [`put_back`].
async fn copy_database(stack: &Stack) -> Result<()> {
    match &stack.postgres {
        Some(postgres) => postgres.copy().await.map_err(Error::msg),
        None => copy_files(&stack.path("data"), &stack.path("copy")),
    }
}

async fn put_back(stack: &mut Stack) -> Result<()> {
    stack.stop().await?;
    match &stack.postgres {
        Some(postgres) => postgres.put_back().await.map_err(Error::msg)?,
        None => {
            std::fs::remove_dir_all(stack.path("data"))?;
            copy_files(&stack.path("copy"), &stack.path("data"))?;
            std::fs::remove_dir_all(stack.path("copy"))?;
        }
    }
    restart(stack).await
}

async fn restart(stack: &mut Stack) -> Result<()> {
    stack.start_executor()?;
    stack.start_server().await?;
    stack.until_ready(Duration::from_secs(30)).await
}

async fn still_one(stack: &Stack, old: &Pod) -> Result<()> {
    // Time enough for a second one, had there been the will.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = stack.cluster.evictions_sent(&old.name).await?;
    ensure!(
        sent == 1,
        "{sent} evictions of {} were sent in all",
        old.name
    );
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
