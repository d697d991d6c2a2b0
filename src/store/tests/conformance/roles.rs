//! What each PostgreSQL role can and cannot do, asked of the server itself.

use countersign_store::testing::{Role, ThrowawayPostgres};

async fn may(role: Role, text: &str) -> bool {
    let cluster = ThrowawayPostgres::shared().await;
    match cluster.execute_as("countersign", role, text).await {
        Ok(()) => true,
        Err(error) => {
            assert!(
                error.contains("permission denied")
                    || error.contains("row-level security")
                    || error.contains("must be owner"),
                "{role:?}: {text}: {error}"
            );
            false
        }
    }
}

/// The condition is never true: only the right is asked about.
#[tokio::test]
async fn each_role_has_exactly_its_rights() {
    use Role::{Executor, Migrator, Server};
    let action = "INSERT INTO actions (id, kind, cluster, namespace, name, uid, params, change, agent, \
         session, reason, created_at, updated_at, slot) \
         SELECT '', '', '', '', '', '', '', '', '', '', '', 0, 0, '' WHERE false";
    let some = |table: &str| match table {
        "decisions" => "INSERT INTO decisions (action_id) SELECT '' WHERE false".to_owned(),
        "derived_decisions" => {
            "INSERT INTO derived_decisions (action_id) SELECT '' WHERE false".to_owned()
        }
        table => format!("INSERT INTO {table} SELECT * FROM {table} WHERE false"),
    };
    for (text, server, executor) in [
        (action.to_owned(), true, false),
        (some("decisions"), true, false),
        (some("tickets"), true, false),
        (some("sessions"), true, false),
        (some("admissions"), false, true),
        (
            "INSERT INTO executions (action_id) SELECT '' WHERE false".into(),
            false,
            true,
        ),
        (some("derived_decisions"), false, true),
        (some("heartbeats"), false, true),
        (
            "UPDATE actions SET state = '' WHERE false".into(),
            true,
            true,
        ),
        // An action begins as the table says: at version 1, `checking`, open.
        (
            "INSERT INTO actions (state) SELECT 'approved' WHERE false".into(),
            false,
            false,
        ),
        (
            "INSERT INTO actions (version) SELECT 2 WHERE false".into(),
            false,
            false,
        ),
        (
            "INSERT INTO actions (open) SELECT 0 WHERE false".into(),
            false,
            false,
        ),
        (
            "UPDATE actions SET slot = '' WHERE false".into(),
            false,
            false,
        ),
        (
            "UPDATE actions SET started_at = 0 WHERE false".into(),
            false,
            true,
        ),
        (
            "UPDATE actions SET decide_by = 0 WHERE false".into(),
            false,
            true,
        ),
        (
            "UPDATE actions SET fence = 0 WHERE false".into(),
            false,
            true,
        ),
        (
            "UPDATE actions SET agent = '' WHERE false".into(),
            false,
            false,
        ),
        (
            "UPDATE actions SET uid = '' WHERE false".into(),
            false,
            false,
        ),
        ("DELETE FROM actions WHERE false".into(), false, false),
        (
            "UPDATE decisions SET person = '' WHERE false".into(),
            false,
            false,
        ),
        (
            "UPDATE audit SET actor = '' WHERE false".into(),
            false,
            false,
        ),
        ("DELETE FROM audit WHERE false".into(), false, false),
        ("TRUNCATE audit".into(), false, false),
        (
            "UPDATE outbox SET done_at = 0 WHERE false".into(),
            true,
            false,
        ),
        ("SELECT 1 FROM sessions".into(), true, false),
        ("SELECT 1 FROM webhooks".into(), true, false),
        ("SELECT 1 FROM audit".into(), true, true),
        (
            "DROP TRIGGER audit_append_only ON audit".into(),
            false,
            false,
        ),
        ("CREATE TABLE mine ()".into(), false, false),
    ] {
        assert_eq!(may(Server, &text).await, server, "server: {text}");
        assert_eq!(may(Executor, &text).await, executor, "executor: {text}");
    }
    // Each signs the log in its own name.
    let event = |author: &str, seal: &str| {
        format!(
            "INSERT INTO audit (id, at, author, event, actor, action_id, outcome, json, kid, signature) \
         VALUES ('', 0, '{author}', '', '', '', '', '', {seal})"
        )
    };
    for seal in ["NULL, NULL", "'k', NULL", "NULL, 's'", "'k', 's'"] {
        for author in ["server", "executor", "nobody"] {
            let text = event(author, seal);
            let server = author == "server" && seal == "NULL, NULL";
            let executor = author == "executor" && seal == "'k', 's'";
            assert_eq!(may(Server, &text).await, server, "server: {text}");
            assert_eq!(may(Executor, &text).await, executor, "executor: {text}");
        }
    }
    assert!(may(Migrator, "CREATE TABLE mine (); DROP TABLE mine").await);
}
