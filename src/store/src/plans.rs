//! A test: SQLite answers every hot query by an index. A statement that walks a table which only
//! grows would be fast today and slow in a year.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::rows::{ACTION, DECISION, OUTBOX, TICKET};
use crate::sql::Write;
use crate::testing::{Role, ThrowawayPostgres};
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
        format!("SELECT {ACTION} FROM actions WHERE agent = $1 AND idempotency_key = $2"),
        format!("SELECT {DECISION} FROM decisions WHERE action_id = $1 ORDER BY id"),
        format!("SELECT {DECISION} FROM derived_decisions WHERE action_id = $1 ORDER BY id"),
        format!("SELECT {TICKET} FROM tickets WHERE action_id = $1"),
        format!("SELECT {OUTBOX} FROM outbox WHERE id = $1"),
        "SELECT json FROM executions WHERE action_id = $1 ORDER BY id".into(),
        "SELECT id, body FROM webhooks WHERE done_at IS NULL ORDER BY id LIMIT 5".into(),
        "SELECT person FROM sessions WHERE token_hash = $1".into(),
        server::DUE.clone(),
        server::GAUGES.clone(),
        server::OUTBOX_GAUGES.into(),
        server::OUTBOX_PICK.into(),
        server::OPEN_TICKETS.clone(),
    ]
    .into();
    texts.push(server::story(true));
    texts.push(server::COUNTS.into());
    texts.extend(lists());
    texts.extend(executor::picks().map(str::to_owned));
    for write in writes() {
        let body = write.alone.strip_prefix("BEGIN IMMEDIATE; ");
        let body = body.map_or(write.alone, |body| body.strip_suffix("; COMMIT").unwrap());
        texts.extend(body.split("; ").map(str::to_owned));
    }
    texts
}

/// What pages and tools ask for; what has no index of its own (a cluster, an outcome) is walked.
fn lists() -> Vec<String> {
    use countersign_domain::{ActionId, OsEntropy, StateName};
    use jiff::Timestamp;

    use crate::{ActionFilter, AuditFilter};

    let at = Some(Timestamp::UNIX_EPOCH);
    let id = Some(ActionId::new(Timestamp::UNIX_EPOCH, &OsEntropy));
    let (agent, actor) = (Some("claude".to_owned()), Some("ann".to_owned()));
    let mut texts = Vec::new();
    let some = [StateName::Pending, StateName::Failed, StateName::Expired];
    for states in [&some[..0], &some[..1], &some[1..], &some] {
        for agent in [None, agent.clone()] {
            if !states.is_empty() || agent.is_some() {
                for before in [None, id] {
                    let (agent, states) = (agent.clone(), states.to_vec());
                    let filter = ActionFilter {
                        states,
                        agent,
                        before,
                        ..Default::default()
                    };
                    texts.push(server::list(&filter).0);
                }
            }
        }
    }
    let event = |event: &str| Some(event.to_owned());
    for asked in [
        AuditFilter {
            actor: actor.clone(),
            ..Default::default()
        },
        AuditFilter {
            event: event("action.failed"),
            ..Default::default()
        },
        AuditFilter {
            event: event("action.*"),
            ..Default::default()
        },
        AuditFilter {
            event: event("nonsense*"),
            ..Default::default()
        },
        AuditFilter {
            action: id,
            ..Default::default()
        },
        AuditFilter {
            from: at,
            ..Default::default()
        },
        AuditFilter {
            until: at,
            ..Default::default()
        },
        AuditFilter {
            actor,
            event: event("action.*"),
            from: at,
            until: at,
            ..Default::default()
        },
    ] {
        for before_seq in [None, Some(7)] {
            texts.push(
                server::search(
                    &AuditFilter {
                        before_seq,
                        ..asked.clone()
                    },
                    true,
                )
                .0,
            );
        }
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
                // One row for 256 of the log, and read from the newest only as far as needed.
                let none = ["one", "t", "3-ROW", "CONSTANT", "audit_blocks"].contains(&table)
                    // Parts of a list, each with a plan of its own.
                    || table.starts_with("arm_");
                !none
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

/// What the caps count is looked for with the whole of the one index, however the planner rewrites it.
#[tokio::test]
async fn postgres_counts_for_a_cap_by_the_index() {
    let cluster = ThrowawayPostgres::shared().await;
    let mut connection = PgConnection::connect(&cluster.url(Role::Server))
        .await
        .unwrap();
    let text = server::COUNTS
        .replace("$1", "'claude'")
        .replace("$2", "'01'");
    sqlx::query("SET enable_seqscan = off")
        .execute(&mut connection)
        .await
        .unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN {text}"));
    let plan: Vec<String> = sqlx::query_scalar(explain)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let whole = plan.iter().any(|step| {
        step.contains("Index Cond: ((open")
            && step.contains("ANY (")
            && step.contains("(agent = ")
            && step.contains(">= ")
    });
    let walks = plan.iter().any(|step| step.contains("Filter: ("));
    assert!(whole && !walks, "{}", plan.join("\n"));
    connection.close().await.unwrap();
}
