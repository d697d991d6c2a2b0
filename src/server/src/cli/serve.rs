//! `serve` and `migrate`: from a configuration file to a running server. Everything that can be
//! wrong is looked at before anything is made.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::{Context as _, bail};
use countersign_config::SecretSource;
use countersign_domain::{OsEntropy, SystemClock};
use countersign_integrations::kubernetes::{CacheSettings, ClusterReads, KubeReader};
use countersign_store::{Database, OpenOptions};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{check, keys};
use crate::app::{App, ClusterHandle};
use crate::config::{Cluster, Loaded};
use crate::http;

/// rmcp logs each stateless request as a session that began and ended, with what the client says
/// about itself.
const FILTER: &str = "info,rmcp=warn";

pub struct Options {
    pub exit_with_parent: bool,
    pub ready_json: bool,
    pub end_sessions: bool,
}

/// Serves until SIGTERM, SIGINT or (when asked for) the end of standard input.
pub async fn serve(file: &Path, options: Options) -> anyhow::Result<()> {
    let loaded = Loaded::from_file(file)?;
    let rules = check::whole(&loaded)?;
    let log = &loaded.config.log;
    countersign_telemetry::init(log.format, log.filter.as_deref().unwrap_or(FILTER))?;
    for warning in check::warnings(&loaded, &rules) {
        tracing::warn!("{warning}");
    }
    let listen = loaded.config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{listen} is in use: another process listens there. Stop it, or set `http.listen` to \
             another port"
        ),
        _ => anyhow::anyhow!("cannot listen on {listen}: {error}"),
    })?;
    let address = listener.local_addr()?;
    let external_url = check::external_url(&loaded.config, address)?;

    let shutdown = stop_signal(options.exit_with_parent)?;
    let database = open_database(&loaded, migrates(&loaded)?).await?;
    let keys = &loaded.config.keys;
    let store = database.server();
    let prepared = async {
        let attestor = keys::read_or_make(&loaded.path(&keys.file), &OsEntropy)?;
        if let Some(public) = &keys.public_file {
            keys::publish(&attestor, &loaded.path(public))?;
        }
        let file = loaded.path(&keys.executor_public_key_file);
        let executor_keys = keys::executor_keys(&file, &shutdown).await?;
        if options.end_sessions {
            store.sessions_end().await?;
        }
        let metrics = countersign_telemetry::Metrics::install()?;
        // Last: whoever can connect waits for an answer.
        let socket = loaded.config.http.socket.as_ref();
        let socket = socket.map(|path| listen_locally(&loaded.path(path)));
        anyhow::Ok((attestor, executor_keys, socket.transpose()?, metrics))
    };
    let (attestor, executor_keys, socket, metrics) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            database.close().await;
            return Err(error);
        }
    };
    let clusters = loaded.config.clusters.iter();
    let clusters: BTreeMap<String, ClusterHandle> = clusters
        .map(|cluster| (cluster.id.clone(), handle(&loaded, cluster)))
        .collect();
    let app = Arc::new(App {
        store,
        clusters,
        rules: RwLock::new(rules),
        attestor,
        executor_keys,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        metrics: Some(metrics),
        external_url,
        shutdown,
        loaded,
    });
    let url = format!("http://{address}");
    tracing::info!(url, "countersign listens");
    if options.ready_json {
        let line = serde_json::json!({ "ready": true, "url": url, "external_url": app.external_url.as_str() });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("cannot write to STDOUT")?;
    }
    let served = http::serve(app, listener, socket).await;
    database.close().await;
    tracing::info!("stopped");
    served.context("the listener failed")
}

/// Listens on a Unix socket for its owner alone. What a server left there when it ended is replaced:
/// on that nobody answers.
fn listen_locally(path: &Path) -> anyhow::Result<UnixListener> {
    match UnixStream::connect(path).map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
        Ok(_) => bail!(
            "{} is in use: another server listens there. Stop it, or set `http.socket` to another \
             path",
            path.display()
        ),
        Err(error) => bail!(
            "{} is not a socket of ours: {error}. Set `http.socket` to another path",
            path.display()
        ),
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)
            .with_context(|| format!("cannot replace the socket {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!(
            "cannot listen on the socket {} (the whole path may have about 100 characters)",
            path.display()
        )
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot keep the socket {} private", path.display()))?;
    Ok(listener)
}

/// Brings the schema up to date and says to which version.
pub async fn migrate(file: &Path) -> anyhow::Result<()> {
    let loaded = Loaded::from_file(file)?;
    let database = open_database(&loaded, true).await?;
    let version = database.schema_version().await;
    database.close().await;
    println!("The database has schema version {}.", version?);
    Ok(())
}

/// The address of the database, with its password.
pub fn database_url(loaded: &Loaded) -> anyhow::Result<SecretString> {
    let database = &loaded.config.database;
    let file = database.url_file.as_ref().map(|file| loaded.path(file));
    Ok(SecretSource::new("database.url", database.url.as_ref(), file.as_deref()).resolve()?)
}

/// SQLite has one user; with PostgreSQL the right to change the schema belongs to another role.
fn migrates(loaded: &Loaded) -> anyhow::Result<bool> {
    let sqlite = database_url(loaded)?.expose_secret().starts_with("sqlite:");
    Ok(loaded.config.database.migrate.unwrap_or(sqlite))
}

async fn open_database(loaded: &Loaded, migrate: bool) -> anyhow::Result<Database> {
    let options = OpenOptions {
        create: true,
        migrate,
        max_connections: loaded.config.database.max_connections,
        app_name: "countersign".to_owned(),
    };
    Ok(Database::open(database_url(loaded)?.expose_secret(), options).await?)
}

fn handle(loaded: &Loaded, cluster: &Cluster) -> ClusterHandle {
    let kubeconfig = cluster.kubeconfig.as_ref().map(|file| loaded.path(file));
    let reader = if cluster.in_cluster {
        KubeReader::incluster()
    } else {
        KubeReader::from_kubeconfig(kubeconfig.as_deref(), cluster.context.as_deref())
    };
    let namespaces = cluster.namespaces.clone();
    let clock = Arc::new(SystemClock);
    let reads = if cluster.cache {
        ClusterReads::cached(reader.clone(), namespaces, clock, CacheSettings::default())
    } else {
        ClusterReads::live(reader.clone(), namespaces, clock)
    };
    // Fills in the background: nobody waits for it.
    reads.start();
    ClusterHandle {
        reader,
        reads,
        simulated: cluster.simulated,
    }
}

/// Cancelled by SIGTERM, by SIGINT and, when asked for, by the end of standard input.
fn stop_signal(exit_with_parent: bool) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stream.recv().await;
            stop.cancel();
        });
    }
    if exit_with_parent {
        let stop = stop.clone();
        // A thread of its own: tokio would wait for its pending read when the runtime ends.
        std::thread::Builder::new()
            .name("parent".to_owned())
            .spawn(move || {
                let mut buffer = [0u8; 64];
                let mut input = std::io::stdin().lock();
                while matches!(std::io::Read::read(&mut input, &mut buffer), Ok(count) if count > 0)
                {
                }
                stop.cancel();
            })?;
    }
    Ok(stop)
}
