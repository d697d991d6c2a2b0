//! An attacker with every right on the database: writes what the verbs never would.

use countersign_domain::{
    Channel, Decision, OsEntropy, Sealed, Signed, Signer, Statement, Verb, digest_text,
};
use jiff::Timestamp;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _, SqliteConnection};
use tokio::sync::Mutex;

/// A connection beside the product's own.
#[derive(Debug)]
pub struct Tamper(Engine);

#[derive(Debug)]
enum Engine {
    Sqlite(Mutex<SqliteConnection>),
    Postgres(Mutex<PgConnection>),
}

/// What went wrong, for a test to print.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Tamper {
    /// Opens the database at an address of the product's own form.
    pub async fn open(url: &str) -> Outcome<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            let options = SqliteConnectOptions::new().filename(path);
            return Ok(Self(Engine::Sqlite(Mutex::new(options.connect().await?))));
        }
        let options: PgConnectOptions = url.parse()?;
        Ok(Self(Engine::Postgres(Mutex::new(options.connect().await?))))
    }

    /// Runs any statement and returns how many rows it touched.
    pub async fn execute(&self, sql: &str) -> Outcome<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match &self.0 {
            Engine::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                sqlx::query(sql)
                    .execute(&mut *connection)
                    .await?
                    .rows_affected()
            }
            Engine::Postgres(connection) => {
                let mut connection = connection.lock().await;
                sqlx::query(sql)
                    .execute(&mut *connection)
                    .await?
                    .rows_affected()
            }
        })
    }

    /// The columns of the first row, as text.
    async fn row<const N: usize>(&self, sql: &str) -> Outcome<[String; N]> {
        let sql = AssertSqlSafe(sql.to_owned());
        let mut values = std::array::from_fn(|_| String::new());
        match &self.0 {
            Engine::Sqlite(connection) => {
                let row = sqlx::query(sql)
                    .fetch_one(&mut *connection.lock().await)
                    .await?;
                for (index, value) in values.iter_mut().enumerate() {
                    *value = row.try_get(index)?;
                }
            }
            Engine::Postgres(connection) => {
                let row = sqlx::query(sql)
                    .fetch_one(&mut *connection.lock().await)
                    .await?;
                for (index, value) in values.iter_mut().enumerate() {
                    *value = row.try_get(index)?;
                }
            }
        }
        Ok(values)
    }

    /// Sets a state by hand, as if its guards did not exist.
    pub async fn set_state(&self, action: &str, state: &str) -> Outcome<()> {
        let changed = self
            .execute(&format!(
                "UPDATE actions SET state = '{state}', version = version + 1 WHERE id = '{action}'"
            ))
            .await?;
        if changed == 1 {
            Ok(())
        } else {
            Err(format!("{changed} actions changed").into())
        }
    }

    /// Sets an action that runs back to `approved` and takes it away from whoever works on it.
    pub async fn set_back(&self, action: &str) -> Outcome<()> {
        self.set_state(action, "approved").await?;
        self.execute(&format!(
            "UPDATE actions SET lease_token = NULL, lease_holder = NULL, lease_until = NULL \
             WHERE id = '{action}'"
        ))
        .await?;
        Ok(())
    }

    /// Inserts an approval of exactly the stored statement under a key made up here, and sets the
    /// state to `approved`.
    pub async fn forge_approval(&self, action: &str, person: &str) -> Outcome<()> {
        let [json, kid, signature] = self
            .row(&format!(
                "SELECT json, kid, signature FROM admissions WHERE action_id = '{action}'"
            ))
            .await?;
        let statement: Statement = serde_json::from_str(&json)?;
        let digest = Sealed {
            json,
            kid,
            signature,
        }
        .digest::<Statement>();
        let decision = Decision {
            v: "1".to_owned(),
            statement: digest,
            verb: Verb::Approve,
            person: person.to_owned(),
            channel: Channel::Web,
            reason_digest: digest_text("go"),
            decided_at: statement.admitted_at,
            valid_until: statement.execute_by,
        };
        let thief = Signer::generate(&OsEntropy);
        let forged = Signed::sign(decision, &thief)?;
        let sealed = forged.sealed();
        let at = statement.admitted_at.as_millisecond();
        self.execute(&format!(
            "INSERT INTO decisions (action_id, person, verb, channel, reason, json, kid, signature, \
             decided_at) VALUES ('{action}', '{person}', 'approve', 'web', 'go', '{}', '{}', '{}', {at})",
            sealed.json, sealed.kid, sealed.signature
        ))
        .await?;
        self.set_state(action, "approved").await
    }

    /// Calls of a tool that the audit log tells of.
    pub async fn count_calls(&self, tool: &str) -> Outcome<u64> {
        let [count] = self
            .row(&format!(
                "SELECT CAST(count(*) AS TEXT) FROM audit WHERE event = 'tool.called' \
                 AND json LIKE '%\"tool\":\"{tool}\"%'"
            ))
            .await?;
        Ok(count.parse()?)
    }

    /// Actions and outbox rows that somebody still holds.
    pub async fn leased(&self) -> Outcome<u64> {
        let [count] = self
            .row(
                "SELECT CAST((SELECT count(*) FROM actions WHERE lease_token IS NOT NULL) \
                 + (SELECT count(*) FROM outbox WHERE lease_token IS NOT NULL AND done_at IS NULL) \
                 AS TEXT)",
            )
            .await?;
        Ok(count.parse()?)
    }

    /// Until when somebody holds an action; nothing while nobody does. For benches.
    pub async fn lease_until(&self, action: &str) -> Outcome<Option<Timestamp>> {
        let [until] = self
            .row(&format!(
                "SELECT COALESCE(CAST(lease_until AS TEXT), '') FROM actions WHERE id = '{action}'"
            ))
            .await?;
        if until.is_empty() {
            return Ok(None);
        }
        Ok(Some(Timestamp::from_millisecond(until.parse()?)?))
    }

    /// When an instant of the action's audit events was, for benches.
    pub async fn event_time(&self, action: &str, event: &str) -> Outcome<Timestamp> {
        let [at] = self
            .row(&format!(
                "SELECT CAST(max(at) AS TEXT) FROM audit WHERE action_id = '{action}' AND event = '{event}'"
            ))
            .await?;
        Ok(Timestamp::from_millisecond(at.parse()?)?)
    }
}
