//! Opening and closing: sentences for what is wrong, nothing half-made.

use std::os::unix::fs::PermissionsExt;

use countersign_store::testing::{Role, ThrowawayPostgres, execute_sqlite};
use countersign_store::*;
use futures::future::join_all;

use crate::on_both_engines;
use crate::world::*;

async fn refused(url: &str, options: OpenOptions) -> StoreError {
    match Database::open(url, options).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => {
            assert!(!error.to_string().contains("secret"), "{error}");
            error
        }
    }
}

fn at(folder: &tempfile::TempDir) -> (std::path::PathBuf, String) {
    let path = folder.path().join("c.db");
    let url = format!("sqlite://{}", path.display());
    (path, url)
}

#[tokio::test]
async fn addresses_that_are_none() {
    for url in [
        "",
        "c.db",
        "mysql://ann:secret@h/c",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://a?mode=ro",
    ] {
        let error = refused(url, options()).await;
        assert!(matches!(error, StoreError::BadUrl { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_file_is_private_and_made_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (path, url) = at(&folder);
    let error = refused(
        &url,
        OpenOptions {
            migrate: true,
            ..OpenOptions::default()
        },
    )
    .await;
    assert_eq!(
        error.to_string(),
        format!(
            "there is no database at {}: start `countersign` once, or run `countersign migrate`",
            path.display()
        )
    );
    assert!(!path.exists());
    let database = Database::open(&url, options()).await.unwrap();
    for name in ["c.db", "c.db-wal", "c.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(database.schema_version().await.unwrap(), 1);
    database.migrate().await.unwrap();
    database.close().await;
    assert!(
        !folder.path().join("c.db-wal").exists(),
        "the log was written back"
    );
    let gone = database.server().count_by_state().await.unwrap_err();
    assert!(matches!(gone, StoreError::Closed), "{gone}");
    let event = server_event(countersign_domain::EventName::Viewed, now());
    assert!(matches!(
        database.server().audit(event).await.unwrap_err(),
        StoreError::Closed
    ));
}

#[tokio::test]
async fn an_empty_an_older_and_a_newer_schema() {
    let folder = tempfile::tempdir().unwrap();
    let (path, url) = at(&folder);
    let create = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let error = refused(&url, create).await;
    assert!(
        matches!(
            error,
            StoreError::SchemaOld {
                found: 0,
                expected: 1
            }
        ),
        "{error}"
    );
    Database::open(&url, options()).await.unwrap().close().await;
    execute_sqlite(&path, "UPDATE _sqlx_migrations SET version = 99")
        .await
        .unwrap();
    for options in [options(), OpenOptions::default()] {
        let error = refused(&url, options).await;
        assert_eq!(
            error.to_string(),
            "the database has schema version 99, this program knows only up to 1: use the newer program"
        );
    }
    // The number is ours, what it stood for was not.
    let other = "UPDATE _sqlx_migrations SET version = 1, checksum = x'00'";
    execute_sqlite(&path, other).await.unwrap();
    let error = refused(&url, options()).await;
    assert!(
        matches!(error, StoreError::SchemaOther { version: 1 }),
        "{error}"
    );
}

#[tokio::test]
async fn a_read_only_file_a_folder_and_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, url) = at(&folder);
    Database::open(&url, options()).await.unwrap().close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let error = refused(&url, options()).await;
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    let error = refused(&format!("sqlite://{}", folder.path().display()), options()).await;
    assert!(matches!(error, StoreError::BadUrl { .. }), "{error}");
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "not a database, but long enough to look at ".repeat(50),
    )
    .unwrap();
    let error = refused(&format!("sqlite://{}", text.display()), options()).await;
    assert!(matches!(error, StoreError::BadUrl { .. }), "{error}");
    let error = refused("sqlite:///proc/none/c.db", options()).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_may_migrate_at_once() {
    // Each file is made once, so a race has as many chances as there are files.
    for _ in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let (_, url) = at(&folder);
        for opened in join_all((0..6).map(|_| Database::open(&url, options()))).await {
            opened.unwrap().close().await;
        }
    }
    let cluster = ThrowawayPostgres::shared().await;
    let name = cluster.empty_database().await.unwrap();
    let url = cluster.url_of(&name, Role::Migrator);
    for opened in join_all((0..6).map(|_| Database::open(&url, options()))).await {
        opened.unwrap().close().await;
    }
}

#[tokio::test]
async fn postgres_refusals_are_sentences() {
    let cluster = ThrowawayPostgres::shared().await;
    let good = cluster.url(Role::Server);
    let (before, after) = good.split_once("countersign_server:").unwrap();
    let (_, after) = after.split_once('@').unwrap();
    let wrong = format!("{before}countersign_server:secret@{after}");
    let error = refused(&wrong, OpenOptions::default()).await;
    assert!(matches!(error, StoreError::AccessDenied { .. }), "{error}");
    let error = refused(
        &good.replace("/countersign?", "/nowhere?"),
        OpenOptions::default(),
    )
    .await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let error = refused(
        "postgres://ann:secret@127.0.0.1:1/c",
        OpenOptions::default(),
    )
    .await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains("postgres://ann@127.0.0.1:1/c"),
        "{error}"
    );
    let empty = cluster.empty_database().await.unwrap();
    let error = refused(
        &cluster.url_of(&empty, Role::Server),
        OpenOptions::default(),
    )
    .await;
    assert!(
        matches!(
            error,
            StoreError::SchemaOld {
                found: 0,
                expected: 1
            }
        ),
        "{error}"
    );
    // The server may not migrate, but may ask for it when there is nothing to do.
    let error = refused(&cluster.url_of(&empty, Role::Server), options()).await;
    assert!(matches!(error, StoreError::Migration { .. }), "{error}");
    Database::open(&good, options())
        .await
        .unwrap()
        .close()
        .await;
}

on_both_engines! {
    async fn closing_finishes_what_was_begun(world: World) {
        let server = world.server.clone();
        let events = join_all((0..50).map(|_| {
            server.audit(server_event(countersign_domain::EventName::Viewed, now()))
        }));
        let (results, ()) = futures::join!(events, async {
            tokio::task::yield_now().await;
            world.server_db.close().await;
        });
        let stored = results.iter().filter(|result| result.is_ok()).count();
        assert!(results.iter().all(|it| matches!(it, Ok(()) | Err(StoreError::Closed))), "{results:?}");
        let filter = AuditFilter { limit: 500, ..Default::default() };
        let found = world.executor_db.server().audit_list(&filter).await.unwrap().len();
        assert_eq!(found, stored, "what was answered is there, and nothing else");
    }
}
