//! Opening a database: which engine, which schema version, and the two ports.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, SqliteConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{from_sqlx, without_password};
use crate::postgres::Postgres;
use crate::rows::Row;
use crate::schema::{self, Versioned};
use crate::sql::{Args, Write};
use crate::sqlite::{self, Sqlite};
use crate::{ExecutorStore, ServerStore, StoreError};

/// How to open.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Create the SQLite file (mode 0600) when it is missing. PostgreSQL databases are never created.
    pub create: bool,
    /// Bring the schema up to date first. Without it an old schema is an error.
    pub migrate: bool,
    /// Connections for calls; SQLite uses them for reading. Watching for changes takes two more.
    pub max_connections: u32,
    /// Shown in `pg_stat_activity`.
    pub app_name: String,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: false,
            migrate: false,
            max_connections: 8,
            app_name: "countersign".into(),
        }
    }
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    engine: Engine,
    changes: watch::Sender<u64>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_watching();
    }
}

impl Inner {
    fn stop_watching(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = watcher.take() {
            task.abort();
        }
    }
}

impl Database {
    /// Opens `sqlite:///path/file.db` or `postgres://user:password@host/name`. Nothing is created,
    /// and no schema touched, unless the options say so.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self, StoreError> {
        let address = Address::parse(url, &options.app_name)?;
        let changes = watch::Sender::new(0);
        let engine = match &address {
            Address::Sqlite(path) => {
                let (create, migrate) = (options.create, options.migrate);
                let writer = address.writer(path, create, migrate).await?;
                let readers = options.max_connections;
                Engine::Sqlite(Sqlite::start(path, writer, readers, changes.clone()))
            }
            Address::Postgres {
                url,
                options: server,
            } => {
                // A connection of its own first: the pool would only say that it waited in vain.
                let mut connection = address.connect(server).await?;
                address.prepare(&mut connection, options.migrate).await?;
                connection.close().await.ok();
                let (url, size) = (url.clone(), options.max_connections);
                Engine::Postgres(Postgres::start(url, server, size, changes.clone()))
            }
        };
        Ok(Self(Arc::new(Inner {
            address,
            engine,
            changes,
            watcher: Mutex::new(None),
        })))
    }

    /// The server's port.
    pub fn server(&self) -> ServerStore {
        ServerStore { db: self.clone() }
    }

    /// The executor's port.
    pub fn executor(&self) -> ExecutorStore {
        ExecutorStore { db: self.clone() }
    }

    /// Brings the schema up to date. Safe when several processes do it at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let address = &self.0.address;
        match address {
            Address::Sqlite(path) => {
                let connection = address.writer(path, false, true).await?;
                connection.close().await.ok();
            }
            Address::Postgres { options, .. } => {
                let mut connection = address.connect(options).await?;
                address.prepare(&mut connection, true).await?;
                connection.close().await.ok();
            }
        }
        Ok(())
    }

    /// The schema version, as the migrations are numbered.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        let text = "SELECT max(version) FROM _sqlx_migrations WHERE success";
        let rows: Vec<(Option<i64>,)> = self.read(text, Vec::new()).await?;
        Ok(rows.first().and_then(|row| row.0).unwrap_or(0))
    }

    /// Finishes what was begun, writes SQLite's log back and closes. Calls after it fail with
    /// [`StoreError::Closed`]. Leases are the caller's: release them before.
    pub async fn close(&self) {
        self.0.stop_watching();
        match &self.0.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.0.engine {
            Engine::Sqlite(engine) => engine.is_closed(),
            Engine::Postgres(engine) => engine.is_closed(),
        }
    }

    /// Grows whenever this or another process committed something, and now and then without a
    /// cause. A hint: look again. Whoever writes on every wake wakes itself.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let receiver = self.0.changes.subscribe();
        let mut watcher = self
            .0
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if watcher.is_none() {
            let changes = self.0.changes.clone();
            *watcher = Some(match &self.0.engine {
                Engine::Sqlite(engine) => engine.watch(changes),
                Engine::Postgres(engine) => engine.watch(changes),
            });
        }
        receiver
    }

    /// Rows of a query.
    pub(crate) async fn read<T: Row>(
        &self,
        text: impl Into<String>,
        args: Args,
    ) -> Result<Vec<T>, StoreError> {
        match &self.0.engine {
            Engine::Sqlite(engine) => decode(&engine.read(text.into(), args).await?),
            Engine::Postgres(engine) => decode(&engine.read(text.into(), args).await?),
        }
    }

    /// Runs a verb; the rows that its guarded change touched.
    pub(crate) async fn write<T: Row>(
        &self,
        write: &'static Write,
        args: Args,
    ) -> Result<Vec<T>, StoreError> {
        match &self.0.engine {
            Engine::Sqlite(engine) => decode(&engine.write(write, args).await?.rows),
            Engine::Postgres(engine) => decode(&engine.write(write, args).await?.rows),
        }
    }

    /// Runs a verb; whether it changed anything.
    pub(crate) async fn changes_by(
        &self,
        write: &'static Write,
        args: Args,
    ) -> Result<bool, StoreError> {
        match &self.0.engine {
            Engine::Sqlite(engine) => Ok(engine.write(write, args).await?.any),
            Engine::Postgres(engine) => Ok(engine.write(write, args).await?.any),
        }
    }

    /// Where the two search differently.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.0.engine, Engine::Sqlite(_))
    }

    /// On SQLite a claim takes the one write lock even when there is nothing to claim: look first.
    /// PostgreSQL looks and claims in one go.
    pub(crate) async fn anything(&self, pick: &str, args: Args) -> Result<bool, StoreError> {
        match &self.0.engine {
            Engine::Sqlite(engine) => Ok(!engine.read(pick.to_owned(), args).await?.is_empty()),
            Engine::Postgres(_) => Ok(true),
        }
    }
}

fn decode<T, R: sqlx::Row>(rows: &[R]) -> Result<Vec<T>, StoreError>
where
    T: for<'r> sqlx::FromRow<'r, R>,
{
    rows.iter()
        .map(T::from_row)
        .collect::<Result<_, sqlx::Error>>()
        .map_err(|error| StoreError::BadRow {
            table: "read",
            what: error.to_string(),
        })
}

#[derive(Debug)]
enum Address {
    Sqlite(PathBuf),
    /// `url` is for people and has no password.
    Postgres {
        url: String,
        options: Box<PgConnectOptions>,
    },
}

impl Address {
    fn parse(url: &str, app_name: &str) -> Result<Self, StoreError> {
        let shown = without_password(url);
        let bad = |why: &str| StoreError::BadUrl {
            url: shown.clone(),
            why: why.to_owned(),
        };
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains(":memory:") {
                return Err(bad("a path to a file is needed"));
            }
            if path.contains('?') {
                return Err(bad("a path takes no parameters"));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(bad("unknown kind of database"));
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| bad("not a well-formed address"))?
            .application_name(app_name)
            .disable_statement_logging();
        Ok(Self::Postgres {
            url: shown,
            options: Box::new(options),
        })
    }

    /// A writing connection to a SQLite file with the schema that is needed. Processes that open a
    /// new file at once get in each other's way while it is turned to write-ahead logging, which
    /// SQLite refuses at once whatever the busy timeout is: tried again for as long as that.
    async fn writer(
        &self,
        path: &Path,
        create: bool,
        migrate: bool,
    ) -> Result<SqliteConnection, StoreError> {
        let started = Instant::now();
        loop {
            match self.try_writer(path, create, migrate).await {
                Err(StoreError::Locked) if started.elapsed() < sqlite::BUSY_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    async fn try_writer(
        &self,
        path: &Path,
        create: bool,
        migrate: bool,
    ) -> Result<SqliteConnection, StoreError> {
        let mut connection = sqlite::connect(path, create).await?;
        match self.prepare(&mut connection, migrate).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                // Or the process could end before the log beside the file is removed.
                connection.close().await.ok();
                Err(error)
            }
        }
    }

    async fn connect(&self, options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
        match tokio::time::timeout(Duration::from_secs(5), options.connect()).await {
            Ok(connected) => connected.map_err(|error| self.explain(&error)),
            Err(_) => Err(StoreError::Unreachable {
                url: self.to_string(),
                why: "no answer within 5 seconds".into(),
            }),
        }
    }

    async fn prepare(
        &self,
        connection: &mut impl Versioned,
        migrate: bool,
    ) -> Result<(), StoreError> {
        let migrator = match self {
            Self::Sqlite(_) => &schema::SQLITE,
            Self::Postgres { .. } => &schema::POSTGRES,
        };
        schema::prepare(connection, migrator, migrate, |error| self.explain(error)).await
    }

    fn explain(&self, error: &sqlx::Error) -> StoreError {
        from_sqlx(error, &self.to_string())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, .. } => f.write_str(url),
        }
    }
}
