//! The PostgreSQL engine: every verb is one statement and its own transaction. Who waits is woken by
//! a NOTIFY after the commit, many commits sharing one; behind a pooler that loses it, by looking
//! each second.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::{Arguments, AssertSqlSafe};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::error::from_sqlx;
use crate::sql::{Args, Value, Write};
use crate::sqlite::bump;

const CHANNEL: &str = "countersign";
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Postgres {
    url: String,
    pool: PgPool,
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
                .connect_lazy_with(options.clone())
        };
        let side = pool(2);
        let committed = Arc::new(Notify::new());
        let notifier = tokio::spawn(notify_all(side.clone(), Arc::clone(&committed)));
        Self {
            url,
            pool: pool(max_connections.max(1)),
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

    pub(crate) async fn write(&self, write: &'static Write, args: Args) -> Rows {
        let rows = sqlx::query_with(write.postgres, bind(args)?)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| from_sqlx(&error, &self.url))?;
        if write.wakes && !rows.is_empty() {
            bump(&self.changes);
            self.committed.notify_one();
        }
        Ok(rows)
    }

    pub(crate) async fn close(&self) {
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

fn bind(args: Args) -> Result<PgArguments, StoreError> {
    let mut bound = PgArguments::default();
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
