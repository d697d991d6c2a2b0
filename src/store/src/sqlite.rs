//! The SQLite engine: one writing connection on which callers take turns, a small pool for reading.
//!
//! All verbs that wait are committed together, so that many callers share one fsync; when one fails,
//! each is tried again with a savepoint of its own. Each verb is answered after the commit. Another
//! process (the executor) has a writer of its own on the same file; `BEGIN IMMEDIATE` and the busy
//! timeout keep the two in turn.

use std::fs::{File, OpenOptions as FileOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions, Connection as _, Either, Executor, Row,
    SqliteConnection,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::error::from_sqlx;
use crate::sql::{Args, Together, Value, Write};
use crate::turns::{Changed, Done, Turns, Verb, Writer};

/// Connections for reading, each with a thread and some 300 kB of its own. Reading keeps a CPU busy,
/// so more of them would not read faster; some may be held by long searches of the log.
const READERS: u32 = 4;
/// How long a connection waits for the others, and opening for other processes that open.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often another process's commits are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    writer: Turns<Connection>,
    readers: SqlitePool,
}

type Rows = Result<Vec<SqliteRow>, StoreError>;

impl Sqlite {
    /// Takes over the connection that the schema was checked with.
    pub(crate) fn start(
        path: &Path,
        writer: SqliteConnection,
        max_readers: u32,
        committed: watch::Sender<u64>,
    ) -> Self {
        let writer = Connection {
            connection: writer,
            path: path.display().to_string(),
            committed,
        };
        let readers = SqlitePoolOptions::new()
            .max_connections(max_readers.clamp(1, READERS))
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(reader(path));
        Self {
            path: path.to_owned(),
            writer: Turns::new(vec![writer]),
            readers,
        }
    }

    pub(crate) async fn read(&self, text: String, args: Args) -> Rows {
        sqlx::query_with(AssertSqlSafe(text), bind(args)?)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))
    }

    pub(crate) async fn write(&self, write: &'static Write, args: Args) -> Done<SqliteRow> {
        self.writer.run(write, args).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        for writer in self.writer.close().await {
            writer.close().await;
        }
    }

    /// Asks one and the same connection for `data_version`, which moves when any other connection
    /// of any process commits.
    pub(crate) fn watch(&self, changes: watch::Sender<u64>) -> JoinHandle<()> {
        let path = self.path.clone();
        tokio::spawn(async move {
            let mut connection = None;
            let mut last = 0;
            loop {
                tokio::time::sleep(WATCH_EVERY).await;
                if changes.receiver_count() == 0 {
                    continue;
                }
                match data_version(&path, &mut connection).await {
                    Ok(version) if version != last => {
                        last = version;
                        bump(&changes);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "watching the database for changes failed");
                        connection = None;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        bump(&changes);
                    }
                }
            }
        })
    }

    fn error(&self, error: &sqlx::Error) -> StoreError {
        from_sqlx(error, &self.path.display().to_string())
    }
}

pub(crate) fn bump(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}

async fn data_version(
    path: &Path,
    connection: &mut Option<SqliteConnection>,
) -> Result<i64, sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(reader(path).connect().await?),
    };
    sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await
}

fn reader(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        // Not `read_only`: the first reader of a cold file must be able to make the -shm file.
        .pragma("query_only", "ON")
        .disable_statement_logging()
}

/// A writing connection. Creates the file when asked to, readable by its owner only; SQLite gives
/// the -wal and -shm files the same mode.
pub(crate) async fn connect(path: &Path, create: bool) -> Result<SqliteConnection, StoreError> {
    let shown = path.display().to_string();
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(StoreError::BadUrl {
                url: shown,
                why: "that is a folder".into(),
            });
        }
        // Said before SQLite tries, since root is let through by the system.
        Ok(found) if found.permissions().readonly() => {
            return Err(StoreError::ReadOnly { what: shown });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && create => create_private(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(StoreError::Missing { path: shown });
        }
        Err(error) => {
            return Err(StoreError::Unreachable {
                url: shown,
                why: error.to_string(),
            });
        }
    }
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| from_sqlx(&error, &shown))
}

fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = FileOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let created: Result<File, _> = options.open(path);
    match created {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Unreachable {
            url: path.display().to_string(),
            why: format!("the file cannot be created: {error}"),
        }),
    }
}

fn bind(args: impl IntoIterator<Item = Value>) -> Result<SqliteArguments, StoreError> {
    let mut bound = SqliteArguments::default();
    for value in args {
        match value {
            Value::Text(text) => bound.add(text),
            Value::Int(number) => bound.add(number),
            Value::Bytes(bytes) => bound.add(bytes),
        }
        .map_err(|error| StoreError::BadInput {
            why: error.to_string(),
        })?;
    }
    Ok(bound)
}

/// As the trigger of a view says it.
fn is_left_out(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message() == "left out")
}

/// The last column.
fn number(row: &SqliteRow) -> Result<usize, sqlx::Error> {
    let number: i64 = row.try_get(row.len().saturating_sub(1))?;
    usize::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The one connection of this process that writes.
struct Connection {
    connection: SqliteConnection,
    path: String,
    committed: watch::Sender<u64>,
}

impl Writer for Connection {
    type Row = SqliteRow;

    async fn commit(&mut self, verbs: Vec<Verb>) -> Vec<Done<SqliteRow>> {
        let wakes: Vec<bool> = verbs.iter().map(|(write, _)| write.wakes).collect();
        let results = self.transaction(verbs).await;
        let changed = |(wakes, done): (&bool, &Done<SqliteRow>)| {
            *wakes && done.as_ref().is_ok_and(|changed| changed.any)
        };
        if wakes.iter().zip(&results).any(changed) {
            bump(&self.committed);
        }
        results
    }
}

impl Connection {
    /// Runs verbs in one transaction; as many results as verbs, in their order.
    async fn transaction(&mut self, mut verbs: Vec<Verb>) -> Vec<Done<SqliteRow>> {
        if let [(write, args)] = &mut *verbs
            && write.width == args.len()
        {
            return vec![self.alone(write, std::mem::take(args)).await];
        }
        // When one of them cannot be done, each is tried for itself.
        match self.commit_in_runs(&verbs).await {
            Ok(results) => return results.into_iter().map(|rows| Ok(rows.into())).collect(),
            Err(_) => self.roll_back().await,
        }
        match self.commit_one_by_one(&verbs).await {
            Ok(results) => {
                let done = |rows: Rows| rows.map(Changed::from);
                results.into_iter().map(done).collect()
            }
            Err(error) => {
                self.roll_back().await;
                verbs.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn alone(&mut self, write: &Write, args: Args) -> Done<SqliteRow> {
        let done: Result<Vec<SqliteRow>, _> = sqlx::query_with(write.alone, bind(args)?)
            .fetch(&mut self.connection)
            .try_collect()
            .await;
        match done {
            Ok(rows) => Ok(Changed {
                any: write.or_fails || !rows.is_empty(),
                rows,
            }),
            // The statement took all back itself.
            Err(error) if write.or_fails && is_left_out(&error) => Ok(Vec::new().into()),
            Err(error) => {
                self.roll_back().await;
                Err(from_sqlx(&error, &self.path))
            }
        }
    }

    async fn commit_in_runs(&mut self, verbs: &[Verb]) -> Result<Vec<Vec<SqliteRow>>, StoreError> {
        let mut results = Vec::with_capacity(verbs.len());
        self.script("BEGIN IMMEDIATE", Args::new()).await?;
        for run in verbs.chunk_by(|(one, _), (next, _)| std::ptr::eq(*one, *next)) {
            results.extend(self.equal(run).await?);
        }
        self.script("COMMIT", Args::new()).await?;
        Ok(results)
    }

    async fn commit_one_by_one(&mut self, verbs: &[Verb]) -> Result<Vec<Rows>, StoreError> {
        self.script("BEGIN IMMEDIATE", Args::new()).await?;
        let mut results = Vec::with_capacity(verbs.len());
        for verb in verbs {
            self.script("SAVEPOINT verb", Args::new()).await?;
            let rows = self.equal(std::slice::from_ref(verb)).await;
            // When either fails the whole transaction is gone: an error for all of them.
            let end = match &rows {
                Ok(_) => "RELEASE verb",
                Err(_) => "ROLLBACK TO verb; RELEASE verb",
            };
            self.script(end, Args::new()).await?;
            results.push(rows.map(|rows| rows.into_iter().flatten().collect()));
        }
        self.script("COMMIT", Args::new()).await?;
        Ok(results)
    }

    /// Equal verbs, in as few texts as can be; the rows of each.
    async fn equal(&mut self, verbs: &[Verb]) -> Result<Vec<Vec<SqliteRow>>, StoreError> {
        let Some((write, _)) = verbs.first() else {
            return Ok(Vec::new());
        };
        // Whose each part is.
        let mut owners = Vec::with_capacity(verbs.len());
        for (index, (_, args)) in verbs.iter().enumerate() {
            owners.extend(std::iter::repeat_n(index, write.verbs(args)?));
        }
        let mut args = verbs.iter().flat_map(|(_, args)| args.iter().cloned());
        let mut rows: Vec<Vec<SqliteRow>> = verbs.iter().map(|_| Vec::new()).collect();
        let mut owners = &*owners;
        while !owners.is_empty() {
            let together = write.together(owners.len());
            let (part, rest) = owners.split_at(together.verbs);
            let bound = bind(args.by_ref().take(write.width * together.verbs))?;
            self.together(together, bound, part, &mut rows).await?;
            owners = rest;
        }
        Ok(rows)
    }

    /// One text. Anything but the expected number of statements would give one caller's rows to
    /// another: an error.
    async fn together(
        &mut self,
        together: Together,
        args: SqliteArguments,
        owners: &[usize],
        rows: &mut [Vec<SqliteRow>],
    ) -> Result<(), StoreError> {
        let Together {
            text,
            statements,
            numbered,
            ..
        } = together;
        let differs = |found: usize| StoreError::Database {
            why: format!("`{text:.60}...` is {statements} statements, {found} were run"),
        };
        let mut steps = (&mut self.connection).fetch_many(sqlx::query_with(text, args));
        let mut done = 0;
        while let Some(step) = steps
            .try_next()
            .await
            .map_err(|error| from_sqlx(&error, &self.path))?
        {
            match step {
                Either::Left(_) => done += 1,
                Either::Right(row) => {
                    let index = match numbered {
                        true => number(&row).map_err(|error| from_sqlx(&error, &self.path))?,
                        false => done * owners.len() / statements,
                    };
                    let verb = owners.get(index).and_then(|owner| rows.get_mut(*owner));
                    verb.ok_or_else(|| differs(done + 1))?.push(row);
                }
            }
        }
        match done == statements {
            true => Ok(()),
            false => Err(differs(done)),
        }
    }

    /// Fails when the transaction is gone already, and then that is what we want.
    async fn roll_back(&mut self) {
        self.script("ROLLBACK", Args::new()).await.ok();
    }

    /// Runs every statement of the text to its end: stopping at the first row would leave the
    /// transaction open.
    async fn script(&mut self, text: &'static str, args: Args) -> Rows {
        sqlx::query_with(text, bind(args)?)
            .fetch(&mut self.connection)
            .try_collect()
            .await
            .map_err(|error| from_sqlx(&error, &self.path))
    }

    async fn close(mut self) {
        // So that the file alone is a complete copy.
        if let Err(error) = self
            .script("PRAGMA wal_checkpoint(TRUNCATE)", Args::new())
            .await
        {
            tracing::warn!(%error, "the write-ahead log was not written back");
        }
        self.connection.close().await.ok();
    }
}
