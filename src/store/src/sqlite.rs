//! The SQLite engine: one owned writing connection in a task of its own, a small pool for reading.
//!
//! The writer takes all verbs that wait, gives each a savepoint and commits them together, so that
//! many callers share one fsync. Each verb is answered after the commit. Another process (the
//! executor) has a writer of its own on the same file; `BEGIN IMMEDIATE` and the busy timeout keep
//! the two in turn.

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
    Arguments, AssertSqlSafe, ConnectOptions, Connection, Either, Executor, SqliteConnection,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::error::from_sqlx;
use crate::sql::{Args, Value, Write};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often another process's commits are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(10);
/// Verbs in one commit.
const BATCH: usize = 64;

#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
}

type Rows = Result<Vec<SqliteRow>, StoreError>;
type Verb = (&'static Write, Args);

#[derive(Debug)]
enum Job {
    Write {
        write: &'static Write,
        args: Args,
        answer: oneshot::Sender<Rows>,
    },
    Close(oneshot::Sender<()>),
}

impl Sqlite {
    /// Takes over the connection that the schema was checked with.
    pub(crate) fn start(
        path: &Path,
        writer: SqliteConnection,
        max_readers: u32,
        committed: watch::Sender<u64>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(1024);
        let writer = Writer {
            connection: writer,
            path: path.display().to_string(),
        };
        tokio::spawn(writer.run(queue, committed));
        let readers = SqlitePoolOptions::new()
            .max_connections(max_readers.clamp(1, 8))
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(reader(path));
        Self {
            path: path.to_owned(),
            jobs,
            readers,
        }
    }

    pub(crate) async fn read(&self, text: String, args: Args) -> Rows {
        sqlx::query_with(AssertSqlSafe(text), bind(&args)?)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))
    }

    /// A caller who goes away before the answer does not undo the verb.
    pub(crate) async fn write(&self, write: &'static Write, args: Args) -> Rows {
        let (answer, answered) = oneshot::channel();
        let job = Job::Write {
            write,
            args,
            answer,
        };
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    pub(crate) async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        self.readers.close().await;
        if self.jobs.send(Job::Close(closed)).await.is_ok() {
            // Answered, or dropped by a writer that is gone already: closed either way.
            wait.await.ok();
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

fn bind(args: &[Value]) -> Result<SqliteArguments, StoreError> {
    let mut bound = SqliteArguments::default();
    for value in args {
        match value {
            Value::Text(text) => bound.add(text.clone()),
            Value::Int(number) => bound.add(*number),
            Value::Bytes(bytes) => bound.add(bytes.clone()),
        }
        .map_err(|error| StoreError::BadInput {
            why: error.to_string(),
        })?;
    }
    Ok(bound)
}

/// The one connection of this process that writes.
struct Writer {
    connection: SqliteConnection,
    path: String,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>, committed: watch::Sender<u64>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut closed = None;
        while closed.is_none() && queue.recv_many(&mut batch, BATCH).await > 0 {
            let mut verbs = Vec::with_capacity(batch.len());
            let mut answers = Vec::with_capacity(batch.len());
            for job in batch.drain(..) {
                match job {
                    Job::Write {
                        write,
                        args,
                        answer,
                    } => {
                        verbs.push((write, args));
                        answers.push((write.wakes, answer));
                    }
                    Job::Close(answer) => closed = Some(answer),
                }
            }
            let results = self.commit(verbs).await;
            let mut wakes = false;
            for ((wake, answer), result) in answers.into_iter().zip(results) {
                wakes |= wake && result.as_ref().is_ok_and(|rows| !rows.is_empty());
                // Nobody waits any more: the verb stands all the same.
                answer.send(result).ok();
            }
            if wakes {
                bump(&committed);
            }
        }
        // So that the file alone is a complete copy.
        if let Err(error) = self.script("PRAGMA wal_checkpoint(TRUNCATE)", none()).await {
            tracing::warn!(%error, "the write-ahead log was not written back");
        }
        self.connection.close().await.ok();
        if let Some(answer) = closed {
            answer.send(()).ok();
        }
    }

    /// Runs verbs in one transaction; as many results as verbs, in their order.
    async fn commit(&mut self, mut verbs: Vec<Verb>) -> Vec<Rows> {
        if verbs.len() <= 1 {
            let Some((write, args)) = verbs.pop() else {
                return Vec::new();
            };
            let args = match bind(&args) {
                Ok(args) => args,
                Err(error) => return vec![Err(error)],
            };
            let result = self.script(write.alone, args).await;
            if result.is_err() {
                self.roll_back().await;
            }
            return vec![result.map_err(|error| from_sqlx(&error, &self.path))];
        }
        // When one of them cannot be done, each is tried for itself.
        match self.commit_in_runs(&verbs).await {
            Ok(results) => return results,
            Err(_) => self.roll_back().await,
        }
        match self.commit_one_by_one(&verbs).await {
            Ok(results) => results,
            Err(error) => {
                self.roll_back().await;
                verbs
                    .iter()
                    .map(|_| Err(from_sqlx(&error, &self.path)))
                    .collect()
            }
        }
    }

    /// Equal verbs that follow each other share a text.
    async fn commit_in_runs(&mut self, verbs: &[Verb]) -> Result<Vec<Rows>, StoreError> {
        let path = self.path.clone();
        let failed = |error: sqlx::Error| from_sqlx(&error, &path);
        let mut results = Vec::with_capacity(verbs.len());
        self.script("BEGIN IMMEDIATE", none())
            .await
            .map_err(failed)?;
        for run in verbs.chunk_by(|(one, _), (next, _)| std::ptr::eq(*one, *next)) {
            for part in run.chunks(Write::TOGETHER) {
                if part.len() == Write::TOGETHER {
                    results.extend(self.together(part).await?.into_iter().map(Ok));
                    continue;
                }
                for (write, args) in part {
                    let rows = self.script(write.nested, bind(args)?).await;
                    results.push(Ok(rows.map_err(failed)?));
                }
            }
        }
        self.script("COMMIT", none()).await.map_err(failed)?;
        Ok(results)
    }

    /// So many equal verbs, and the rows of each.
    async fn together(&mut self, verbs: &[Verb]) -> Result<Vec<Vec<SqliteRow>>, StoreError> {
        let Some((write, _)) = verbs.first() else {
            return Ok(Vec::new());
        };
        let args: Vec<Value> = verbs.iter().flat_map(|(_, args)| args.clone()).collect();
        let query = sqlx::query_with(write.together, bind(&args)?);
        let mut steps = (&mut self.connection).fetch_many(query);
        let mut rows: Vec<Vec<SqliteRow>> = verbs.iter().map(|_| Vec::new()).collect();
        let mut done = 0;
        while let Some(step) = steps
            .try_next()
            .await
            .map_err(|error| from_sqlx(&error, &self.path))?
        {
            match step {
                Either::Left(_) => done += 1,
                Either::Right(row) => {
                    if let Some(verb) = rows.get_mut(done / write.statements) {
                        verb.push(row);
                    }
                }
            }
        }
        Ok(rows)
    }

    async fn commit_one_by_one(&mut self, verbs: &[Verb]) -> Result<Vec<Rows>, sqlx::Error> {
        self.script("BEGIN IMMEDIATE", none()).await?;
        let mut results = Vec::with_capacity(verbs.len());
        for (write, args) in verbs {
            let args = match bind(args) {
                Ok(args) => args,
                Err(error) => {
                    results.push(Err(error));
                    continue;
                }
            };
            let result = self.script(write.nested, args).await;
            if result.is_err() {
                // When this fails the whole transaction is gone: an error for all of them.
                self.script("ROLLBACK TO verb; RELEASE verb", none())
                    .await?;
            }
            results.push(result.map_err(|error| from_sqlx(&error, &self.path)));
        }
        self.script("COMMIT", none()).await?;
        Ok(results)
    }

    /// Fails when the transaction is gone already, and then that is what we want.
    async fn roll_back(&mut self) {
        self.script("ROLLBACK", none()).await.ok();
    }

    /// Runs every statement of the text to its end: stopping at the first row would leave the
    /// transaction open.
    async fn script(
        &mut self,
        text: &'static str,
        args: SqliteArguments,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        sqlx::query_with(text, args)
            .fetch(&mut self.connection)
            .try_collect()
            .await
    }
}

fn none() -> SqliteArguments {
    SqliteArguments::default()
}
