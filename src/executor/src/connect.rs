//! Starting: the database, the cluster, and the identity that it is pinned to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_domain::ClusterRef;
use countersign_integrations::kubernetes::KubeReader;
use countersign_store::{Database, OpenOptions, StoreError};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::cluster::Access;
use crate::config::Config;
use crate::health::{Part, Status};
use crate::keys;

/// How long a database that the server is just making may take.
const DATABASE_PATIENCE: Duration = Duration::from_secs(15);

/// Opens the database. Never creates or migrates it: that is for the migrator's account.
pub async fn database(config: &Config, stop: &CancellationToken) -> anyhow::Result<Database> {
    let url = config.database_url()?;
    let started = tokio::time::Instant::now();
    let mut told = false;
    loop {
        let options = OpenOptions {
            create: false,
            migrate: false,
            max_connections: 6,
            app_name: "countersign-executor".to_owned(),
        };
        let error = match Database::open(url.expose_secret(), options).await {
            Ok(database) => return Ok(database),
            Err(error) => error,
        };
        // Both processes may have been started at the same time.
        let in_the_making = matches!(
            error,
            StoreError::Missing { .. } | StoreError::SchemaOld { found: 0, .. }
        );
        if !in_the_making || started.elapsed() >= DATABASE_PATIENCE || stop.is_cancelled() {
            return Err(error.into());
        }
        if !told {
            tracing::info!(%error, "waiting up to 15 s for the server to make the database");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads the cluster as configured.
pub fn reader(config: &Config) -> KubeReader {
    match &config.cluster.kubeconfig {
        Some(path) => KubeReader::from_kubeconfig(Some(path), config.cluster.context.as_deref()),
        None => KubeReader::incluster(),
    }
}

/// Writes to the cluster as configured.
pub fn access(config: &Config) -> Access<'_> {
    match &config.cluster.kubeconfig {
        Some(path) => Access::Kubeconfig {
            path,
            context: config.cluster.context.as_deref(),
        },
        None => Access::InCluster,
    }
}

/// Finds out which cluster this is and holds it against the pin; waits while it cannot be reached.
/// `None`: told to stop first.
pub async fn identify(
    config: &Config,
    reader: &KubeReader,
    status: &Arc<Status>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<ClusterRef>> {
    let found = loop {
        match reader.kube_system_uid().await {
            Ok(uid) => break uid,
            Err(error) => {
                status.set(
                    Part::Cluster,
                    Some(format!("the cluster cannot be read: {error}")),
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    };
    status.set(Part::Cluster, None);
    let path = keys::pin_path(&config.keys.file, &config.cluster.id);
    match (&config.cluster.kube_system_uid, keys::pinned(&path)?) {
        (Some(configured), _) => check(configured, &found, "`cluster.kube_system_uid`")?,
        (None, Some(pinned)) => check(&pinned, &found, &pin_name(&path))?,
        (None, None) => {
            keys::pin(&path, &found).context("the cluster's identity cannot be pinned")?;
            tracing::info!(kube_system_uid = found, file = %path.display(), "cluster pinned");
        }
    }
    Ok(Some(ClusterRef {
        id: config.cluster.id.clone(),
        kube_system_uid: found,
    }))
}

fn pin_name(path: &Path) -> String {
    format!("the pin {}", path.display())
}

fn check(expected: &str, found: &str, place: &str) -> anyhow::Result<()> {
    if expected == found {
        return Ok(());
    }
    bail!(
        "this is another cluster than before: {place} says kube-system has uid {expected}, found \
         {found}; if that is meant, give the cluster a new `cluster.id`"
    )
}
