//! The PostgreSQL engine: every verb is one statement and its own transaction; proposals that wait
//! share one. Who waits is woken by a NOTIFY after the commit, many commits sharing one; behind a
//! pooler that loses it, by looking each second.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Row, Type};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::error::from_sqlx;
use crate::sql::{Args, Value, Write};
use crate::sqlite::bump;
use crate::turns::{Changed, Done, Turns, Verb, Writer};

const CHANNEL: &str = "countersign";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Batches of proposals under way at once. The database takes one after the other (`may_propose`);
/// two, so that one is on its way while the other is at work, and a lost connection does not stop
/// everybody.
const LANES: usize = 2;
/// For connections that run verbs. Our texts are fixed and their plans do not depend on the values:
/// each is planned once, and then not as a walk because the table was empty at the time. A proposer who
/// waited for its turn must see what was stored meanwhile. Who waits for a lock holds others up: as long
/// as on SQLite, and no longer. Set after the start and not as its options, which poolers refuse or
/// forget.
const SETTINGS: &str = "\
    SET plan_cache_mode = force_generic_plan; \
    SET enable_seqscan = off; \
    SET jit = off; \
    SET default_transaction_isolation = 'read committed'; \
    SET lock_timeout = '5s'";
/// A batch that takes longer has lost its connection.
const LONGEST_BATCH: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Postgres {
    url: String,
    pool: PgPool,
    gathering: Turns<Connection>,
    /// For LISTEN and NOTIFY, so that they never wait behind calls.
    side: PgPool,
    committed: Arc<Notify>,
    notifier: JoinHandle<()>,
    changes: watch::Sender<u64>,
}

type Rows = Result<Vec<PgRow>, StoreError>;

impl Postgres {
    pub(crate) fn start(
        url: String,
        options: &PgConnectOptions,
        max_connections: u32,
        changes: watch::Sender<u64>,
    ) -> Self {
        let pool = |size| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(TIMEOUT)
                // A ping before each call would double a short call's time.
                .test_before_acquire(false)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        sqlx::raw_sql(SETTINGS).execute(connection).await?;
                        Ok(())
                    })
                })
                .connect_lazy_with(options.clone())
        };
        let side = pool(2);
        let committed = Arc::new(Notify::new());
        let notifier = tokio::spawn(notify_all(side.clone(), Arc::clone(&committed)));
        let max_connections = max_connections.max(1);
        let pool = pool(max_connections);
        let lanes = LANES.min(max_connections as usize);
        let lane = || Connection {
            url: url.clone(),
            pool: pool.clone(),
        };
        Self {
            gathering: Turns::new((0..lanes).map(|_| lane()).collect()),
            url,
            pool,
            side,
            committed,
            notifier,
            changes,
        }
    }

    pub(crate) async fn read(&self, text: String, args: Args) -> Rows {
        sqlx::query_with(AssertSqlSafe(text), bind(args)?)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| from_sqlx(&error, &self.url))
    }

    pub(crate) async fn write(&self, write: &'static Write, args: Args) -> Done<PgRow> {
        let rows = match &write.arrays {
            Some(arrays) if arrays.gather => self.gathering.run(write, args).await?.rows,
            Some(arrays) if write.verbs(&args)? > 1 => {
                sqlx::query_with(arrays.text, columns(write, &args)?)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|error| from_sqlx(&error, &self.url))?
            }
            _ => sqlx::query_with(write.postgres, bind(args)?)
                .fetch_all(&self.pool)
                .await
                .map_err(|error| from_sqlx(&error, &self.url))?,
        };
        if write.wakes && !rows.is_empty() {
            bump(&self.changes);
            self.committed.notify_one();
        }
        Ok(rows.into())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gathering.is_closed()
    }

    pub(crate) async fn close(&self) {
        self.gathering.close().await;
        self.notifier.abort();
        self.pool.close().await;
        self.side.close().await;
    }

    pub(crate) fn watch(&self, changes: watch::Sender<u64>) -> JoinHandle<()> {
        let side = self.side.clone();
        tokio::spawn(async move {
            tokio::join!(listen(side, &changes), look_each_second(&changes));
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.notifier.abort();
    }
}

async fn listen(side: PgPool, changes: &watch::Sender<u64>) {
    while !side.is_closed() {
        if let Err(error) = listen_once(&side, changes).await {
            tracing::debug!(%error, "not listening for notifications; looking each second instead");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn listen_once(side: &PgPool, changes: &watch::Sender<u64>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(side).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // `None`: the connection was lost and is back; what was said meanwhile is lost.
        listener.try_recv().await?;
        bump(changes);
    }
}

async fn look_each_second(changes: &watch::Sender<u64>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bump(changes);
    }
}

/// One NOTIFY for all commits since the last one.
async fn notify_all(side: PgPool, committed: Arc<Notify>) {
    loop {
        committed.notified().await;
        if let Err(error) = sqlx::query("SELECT pg_notify($1, '')")
            .bind(CHANNEL)
            .execute(&side)
            .await
        {
            tracing::debug!(%error, "others were not notified; they look each second");
        }
    }
}

/// One lane for verbs that go together.
struct Connection {
    url: String,
    pool: PgPool,
}

impl Writer for Connection {
    type Row = PgRow;

    async fn commit(&mut self, verbs: Vec<Verb>) -> Vec<Done<PgRow>> {
        let mut results = Vec::with_capacity(verbs.len());
        for run in verbs.chunk_by(|(one, _), (next, _)| std::ptr::eq(*one, *next)) {
            match self.together(run).await {
                Ok(rows) => results.extend(rows.into_iter().map(|rows| Ok(rows.into()))),
                // One of them cannot be done, and none was: each for itself.
                Err(StoreError::Database { .. } | StoreError::BadInput { .. }) if run.len() > 1 => {
                    for verb in run {
                        let rows = self.together(std::slice::from_ref(verb)).await;
                        let rows = rows.map(|rows| rows.into_iter().flatten().collect::<Vec<_>>());
                        results.push(rows.map(Changed::from));
                    }
                }
                // No connection, no right, a lock: it would be the same for each.
                Err(error) => results.extend(run.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }
}

impl Connection {
    /// Equal verbs as one statement; the rows of each.
    async fn together(&self, verbs: &[Verb]) -> Result<Vec<Vec<PgRow>>, StoreError> {
        let (write, arrays) = match verbs {
            [(write, args)] => {
                return Ok(vec![self.fetch(write.postgres, bind(args.clone())?).await?]);
            }
            [(write, _), ..] => (write, &write.arrays),
            [] => return Ok(Vec::new()),
        };
        let Some(arrays) = arrays else {
            return Err(StoreError::Database {
                why: format!("`{:.60}...` does not go together", write.postgres),
            });
        };
        let mut all = Args::with_capacity(write.width * verbs.len());
        for (_, args) in verbs {
            match write.verbs(args)? {
                1 => all.extend_from_slice(args),
                many => {
                    return Err(StoreError::Database {
                        why: format!("{many} verbs as one"),
                    });
                }
            }
        }
        let mut rows: Vec<Vec<PgRow>> = verbs.iter().map(|_| Vec::new()).collect();
        for row in self.fetch(arrays.text, columns(write, &all)?).await? {
            let n: i64 = row
                .try_get("n")
                .map_err(|error| from_sqlx(&error, &self.url))?;
            let verb = usize::try_from(n - 1)
                .ok()
                .and_then(|index| rows.get_mut(index));
            verb.ok_or_else(|| StoreError::Database {
                why: format!("`{:.60}...` has no verb {n}", arrays.text),
            })?
            .push(row);
        }
        Ok(rows)
    }

    async fn fetch(&self, text: &'static str, args: PgArguments) -> Rows {
        let failed = |error: sqlx::Error| from_sqlx(&error, &self.url);
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        let fetched = sqlx::query_with(text, args).fetch_all(&mut *connection);
        if let Ok(rows) = tokio::time::timeout(LONGEST_BATCH, fetched).await {
            return rows.map_err(failed);
        }
        // Not back into the pool: its answer may still come.
        drop(connection.detach());
        Err(StoreError::Unreachable {
            url: self.url.clone(),
            why: format!("no answer within {} seconds", LONGEST_BATCH.as_secs()),
        })
    }
}

/// The arguments of many verbs, each as an array.
fn columns(write: &Write, args: &[Value]) -> Result<PgArguments, StoreError> {
    let mut bound = PgArguments::default();
    for column in 0..write.width {
        let values = || args.iter().skip(column).step_by(write.width);
        match args.get(column) {
            Some(Value::Int(_)) => add(
                &mut bound,
                values()
                    .map(|value| match value {
                        Value::Int(number) => *number,
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            )?,
            Some(Value::Bytes(_)) => add(
                &mut bound,
                values()
                    .map(|value| match value {
                        Value::Bytes(bytes) => Some(&**bytes),
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            )?,
            _ => add(
                &mut bound,
                values()
                    .map(|value| match value {
                        Value::Text(text) => text.as_deref(),
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            )?,
        }
    }
    Ok(bound)
}

fn bind(args: Args) -> Result<PgArguments, StoreError> {
    let mut bound = PgArguments::default();
    for value in args {
        match value {
            Value::Text(text) => add(&mut bound, text.as_deref())?,
            Value::Int(number) => add(&mut bound, number)?,
            Value::Bytes(bytes) => add(&mut bound, &*bytes)?,
        }
    }
    Ok(bound)
}

fn add<'v, V>(bound: &mut PgArguments, value: V) -> Result<(), StoreError>
where
    V: Encode<'v, sqlx::Postgres> + Type<sqlx::Postgres>,
{
    bound.add(value).map_err(|error| StoreError::BadInput {
        why: error.to_string(),
    })
}
