//! How much a proposal costs beside one bare commit: same engine, same disk, same driver, fsync on.
//! A proposal is one action with its indexes and one audit event. Trust the ratios.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use countersign_domain::{
    ActionId, ActionKind, AuditEvent, Author, Clock, EventName, OsEntropy, Proposal, SystemClock,
    Target,
};
use futures::future::join_all;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgPool, SqliteConnection};

use super::{Role, ThrowawayPostgres};
use crate::{Caps, Database, OpenOptions, Proposed, ServerStore, sqlite};

const CLIENTS: usize = 16;
const BARE: &str = "INSERT INTO bare (body) VALUES ($1)";

/// One engine's numbers.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub engine: &'static str,
    pub bare_p50_us: f64,
    pub propose_p50_us: f64,
    /// At most 1.5 is wanted.
    pub p50_ratio: f64,
    /// Commits a second: SQLite has one writer, PostgreSQL sixteen connections.
    pub bare_per_second: f64,
    /// Of sixteen clients.
    pub propose_per_second: f64,
    /// At least 1 on SQLite and 0.6 on PostgreSQL is wanted.
    pub rate_ratio: f64,
}

/// Measures both engines with `rounds` commits each.
pub async fn run(rounds: usize) -> Result<Vec<Measured>, String> {
    Ok(vec![sqlite(rounds).await?, postgres(rounds).await?])
}

async fn sqlite(rounds: usize) -> Result<Measured, String> {
    let folder = std::env::temp_dir().join(format!("countersign-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(text)?;
    let path = folder.join("c.db");
    let url = format!("sqlite://{}", path.display());
    let options = OpenOptions {
        create: true,
        migrate: true,
        ..OpenOptions::default()
    };
    let database = Database::open(&url, options).await.map_err(text)?;
    // A file of its own: on one file each commit of the one would empty the page cache of the other.
    let mut bare = sqlite::connect(&folder.join("bare.db"), true)
        .await
        .map_err(text)?;
    sqlx::query("CREATE TABLE bare (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        .execute(&mut bare)
        .await
        .map_err(text)?;
    let store = database.server();
    // Until both logs are written over: while a log's file still grows a commit costs twice as much.
    for n in 0..1200 {
        bare_sqlite(&mut bare).await?;
        propose(&store, n, CLIENTS + 1).await?;
    }
    let (bare_alone, propose_alone) = in_turn(
        rounds,
        async |_| bare_sqlite(&mut bare).await,
        async |n| propose(&store, n, CLIENTS).await,
    )
    .await?;
    // SQLite commits one after the other: its rate is that of one writer without a pause.
    let started = Instant::now();
    for _ in 0..rounds {
        bare_sqlite(&mut bare).await?;
    }
    let bare_rate = rounds as f64 / started.elapsed().as_secs_f64();
    let propose_rate = together(rounds, |n, client| propose(&store, n, client)).await?;
    bare.close().await.map_err(text)?;
    database.close().await;
    std::fs::remove_dir_all(&folder).map_err(text)?;
    Ok(measured(
        "sqlite",
        bare_alone,
        propose_alone,
        bare_rate,
        propose_rate,
    ))
}

async fn postgres(rounds: usize) -> Result<Measured, String> {
    let cluster = ThrowawayPostgres::start().await?;
    cluster
        .execute(
            "countersign",
            "CREATE TABLE bare (id BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY, body TEXT NOT NULL)",
        )
        .await?;
    let options = OpenOptions {
        max_connections: CLIENTS as u32,
        ..OpenOptions::default()
    };
    let database = Database::open(&cluster.url(Role::Server), options)
        .await
        .map_err(text)?;
    let pool = PgPoolOptions::new()
        .max_connections(CLIENTS as u32)
        .test_before_acquire(false)
        .connect(&cluster.url(Role::Admin))
        .await
        .map_err(text)?;
    let store = database.server();
    let (bare_alone, propose_alone) = in_turn(
        rounds,
        async |_| bare_postgres(&pool).await,
        async |n| propose(&store, n, CLIENTS).await,
    )
    .await?;
    let bare_rate = together(rounds * 4, |_, _| bare_postgres(&pool)).await?;
    let propose_rate = together(rounds * 4, |n, client| propose(&store, n, client)).await?;
    pool.close().await;
    database.close().await;
    Ok(measured(
        "postgres",
        bare_alone,
        propose_alone,
        bare_rate,
        propose_rate,
    ))
}

async fn bare_sqlite(connection: &mut SqliteConnection) -> Result<(), String> {
    sqlx::query(BARE)
        .bind("x".repeat(600))
        .execute(connection)
        .await
        .map(drop)
        .map_err(text)
}

async fn bare_postgres(pool: &PgPool) -> Result<(), String> {
    sqlx::query(BARE)
        .bind("x".repeat(600))
        .execute(pool)
        .await
        .map(drop)
        .map_err(text)
}

async fn propose(store: &ServerStore, n: usize, client: usize) -> Result<(), String> {
    let now = SystemClock.now();
    let id = ActionId::new(now, &OsEntropy);
    // As in real life there are many callers, each with a few proposals and under caps.
    let agent = format!("agent-{client}-{}", n / 5);
    let proposal = Proposal {
        kind: ActionKind::RestartPod,
        target: Target {
            cluster: "prod".into(),
            namespace: "shop".into(),
            name: format!("web-{n}"),
            uid: id.to_string(),
        },
        params: BTreeMap::from([("mode".into(), "evict".into())]),
        agent: agent.clone(),
        session: "bench".into(),
        reason: "It fails since 02:00 and the replica beside it does not.".into(),
        idempotency_key: None,
    };
    let event = AuditEvent::new(now, &OsEntropy, Author::Server, EventName::Proposed, agent)
        .about(id)
        .with("tool", "restart_pod")
        .with("outcome", "ok");
    let caps = Caps {
        pending: u32::MAX,
        per_hour: u32::MAX,
    };
    match store
        .propose(&proposal, id, caps, now, event)
        .await
        .map_err(text)?
    {
        Proposed::Created(_) => Ok(()),
        other => Err(format!("not created: {other:?}")),
    }
}

/// The medians of two calls that take turns, so that a disk which is busy with something else is
/// busy for both. A tenth goes before to warm up.
async fn in_turn(
    rounds: usize,
    mut first: impl AsyncFnMut(usize) -> Result<(), String>,
    mut second: impl AsyncFnMut(usize) -> Result<(), String>,
) -> Result<(Duration, Duration), String> {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for n in 0..rounds + rounds / 10 {
        let started = Instant::now();
        first(n).await?;
        let between = Instant::now();
        second(n).await?;
        if n >= rounds / 10 {
            firsts.push(between - started);
            seconds.push(between.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Ok((median(&mut firsts), median(&mut seconds)))
}

/// Calls a second of sixteen clients.
async fn together<F>(rounds: usize, call: impl Fn(usize, usize) -> F) -> Result<f64, String>
where
    F: Future<Output = Result<(), String>>,
{
    let each = rounds / CLIENTS;
    let (call, started) = (&call, Instant::now());
    let clients = join_all((0..CLIENTS).map(|client| async move {
        for n in 0..each {
            call(n, client).await?;
        }
        Ok::<(), String>(())
    }));
    clients.await.into_iter().collect::<Result<(), String>>()?;
    Ok((each * CLIENTS) as f64 / started.elapsed().as_secs_f64())
}

fn measured(
    engine: &'static str,
    bare: Duration,
    propose: Duration,
    bare_per_second: f64,
    propose_per_second: f64,
) -> Measured {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Measured {
        engine,
        bare_p50_us: us(bare),
        propose_p50_us: us(propose),
        p50_ratio: us(propose) / us(bare).max(1.0),
        bare_per_second,
        propose_per_second,
        rate_ratio: propose_per_second / bare_per_second.max(1.0),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
