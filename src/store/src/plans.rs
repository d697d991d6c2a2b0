//! A test: SQLite answers every hot query by an index. A statement that walks a table which only
//! grows would be fast today and slow in a year.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Connection};

use crate::rows::{ACTION, AUDIT_COLUMNS, DECISION, OUTBOX, TICKET};
use crate::sql::Write;
use crate::{Database, OpenOptions, executor, server, sqlite};

fn writes() -> Vec<&'static Write> {
    let verbs: Vec<&'static LazyLock<Write>> = server::VERBS
        .iter()
        .chain(executor::VERBS)
        .copied()
        .collect();
    verbs.into_iter().map(|verb| &**verb).collect()
}

fn reads() -> Vec<String> {
    let mut texts: Vec<String> = [
        format!("SELECT {ACTION} FROM actions WHERE id = $1"),
        format!("SELECT {ACTION} FROM actions WHERE state IN ('pending') ORDER BY id DESC LIMIT 50"),
        format!("SELECT {ACTION} FROM actions WHERE agent = $1 ORDER BY id DESC LIMIT 50"),
        format!("SELECT {ACTION} FROM actions WHERE agent = $1 AND idempotency_key = $2"),
        format!("SELECT {DECISION} FROM decisions WHERE action_id = $1 ORDER BY id"),
        format!("SELECT {DECISION} FROM derived_decisions WHERE action_id = $1 ORDER BY id"),
        format!("SELECT {TICKET} FROM tickets WHERE action_id = $1"),
        format!("SELECT {OUTBOX} FROM outbox WHERE id = $1"),
        format!(
            "SELECT {AUDIT_COLUMNS} FROM audit WHERE action_id = $1 AND action_id <> '' ORDER BY seq"
        ),
        format!("SELECT {AUDIT_COLUMNS} FROM audit WHERE true AND actor = $1 ORDER BY seq DESC"),
        format!("SELECT {AUDIT_COLUMNS} FROM audit WHERE true AND event = $1 ORDER BY seq DESC"),
        "SELECT json FROM executions WHERE action_id = $1 ORDER BY id".into(),
        "SELECT id, body FROM webhooks WHERE done_at IS NULL ORDER BY id LIMIT 5".into(),
        "SELECT person FROM sessions WHERE token_hash = $1".into(),
        server::DUE.clone(),
        server::GAUGES.into(),
        server::OUTBOX_GAUGES.into(),
        server::OUTBOX_PICK.into(),
        server::OPEN_TICKETS.clone(),
    ]
    .into();
    texts.extend(executor::picks().map(str::to_owned));
    for write in writes() {
        let body = write.alone.strip_prefix("BEGIN IMMEDIATE; ").unwrap();
        texts.extend(
            body.strip_suffix("; COMMIT")
                .unwrap()
                .split("; ")
                .map(str::to_owned),
        );
    }
    texts
}

#[tokio::test]
async fn no_hot_statement_walks_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.db");
    let options = OpenOptions {
        create: true,
        migrate: true,
        ..OpenOptions::default()
    };
    let url = format!("sqlite://{}", path.display());
    Database::open(&url, options).await.unwrap().close().await;
    let mut connection = sqlite::connect(&path, false).await.unwrap();
    let mut walks = Vec::new();
    for text in reads() {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for (_, _, _, step) in steps {
            // A partial index holds the open rows only: walking all of it is meant.
            let walk = step.strip_prefix("SCAN ").is_some_and(|what| {
                let table = what.split(' ').next().unwrap();
                let small = [
                    "outbox_open",
                    "outbox_order",
                    "webhooks_open",
                    "actions_leased",
                ];
                !["one", "t", "3-ROW", "CONSTANT"].contains(&table)
                    && !small
                        .iter()
                        .any(|index| what.contains(&format!("INDEX {index}")))
            });
            if walk {
                walks.push(format!("{step}: {text}"));
            }
        }
    }
    assert!(walks.is_empty(), "{}", walks.join("\n"));
    connection.close().await.unwrap();
}
