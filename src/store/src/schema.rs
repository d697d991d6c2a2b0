//! Which schema a database has, and bringing it up to the one that this program was built with.

use std::cmp::Ordering;
use std::time::Duration;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::{PgConnection, SqliteConnection};

use crate::StoreError;

pub(crate) static SQLITE: Migrator = sqlx::migrate!("../../migrations/sqlite");
pub(crate) static POSTGRES: Migrator = sqlx::migrate!("../../migrations/postgres");

const CHECKSUM: &str = "SELECT checksum FROM _sqlx_migrations WHERE version = $1";
const HIGHEST: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

/// A connection that can say which schema it finds; 0: none.
pub(crate) trait Versioned: Migrate + Send {
    fn version(&mut self) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// Of the migration that made this version, as it was then.
    fn checksum(
        &mut self,
        version: i64,
    ) -> impl Future<Output = Result<Vec<u8>, sqlx::Error>> + Send;
}

impl Versioned for SqliteConnection {
    async fn version(&mut self) -> Result<i64, sqlx::Error> {
        let table = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
        let tables: i64 = sqlx::query_scalar(table).fetch_one(&mut *self).await?;
        if tables == 0 {
            return Ok(0);
        }
        let version: Option<i64> = sqlx::query_scalar(HIGHEST).fetch_one(self).await?;
        Ok(version.unwrap_or(0))
    }

    async fn checksum(&mut self, version: i64) -> Result<Vec<u8>, sqlx::Error> {
        let checksum = sqlx::query_scalar(CHECKSUM).bind(version);
        checksum.fetch_one(self).await
    }
}

impl Versioned for PgConnection {
    async fn version(&mut self) -> Result<i64, sqlx::Error> {
        let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        let exists: bool = sqlx::query_scalar(table).fetch_one(&mut *self).await?;
        if !exists {
            return Ok(0);
        }
        let version: Option<i64> = sqlx::query_scalar(HIGHEST).fetch_one(self).await?;
        Ok(version.unwrap_or(0))
    }

    async fn checksum(&mut self, version: i64) -> Result<Vec<u8>, sqlx::Error> {
        let checksum = sqlx::query_scalar(CHECKSUM).bind(version);
        checksum.fetch_one(self).await
    }
}

/// Makes sure that the schema is the one that this program needs. Several processes may do it at
/// once: PostgreSQL holds them in turn with an advisory lock, on SQLite the loser looks again.
pub(crate) async fn prepare(
    connection: &mut impl Versioned,
    migrator: &Migrator,
    migrate: bool,
    explain: impl Fn(&sqlx::Error) -> StoreError,
) -> Result<(), StoreError> {
    let expected = migrator
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let mut tries = 0;
    loop {
        let found = connection
            .version()
            .await
            .map_err(|error| explain(&error))?;
        match found.cmp(&expected) {
            // A process without the right to migrate may ask for it when there is nothing to do.
            Ordering::Equal => {
                let made = connection.checksum(found).await;
                let made = made.map_err(|error| explain(&error))?;
                let ours = migrator.iter().find(|migration| migration.version == found);
                return match ours {
                    Some(ours) if *ours.checksum == *made => Ok(()),
                    _ => Err(StoreError::SchemaOther { version: found }),
                };
            }
            Ordering::Greater => return Err(StoreError::SchemaNew { found, expected }),
            Ordering::Less if !migrate => return Err(StoreError::SchemaOld { found, expected }),
            Ordering::Less => {}
        }
        match migrator.run_direct(None, connection, false).await {
            Ok(()) => tracing::info!(from = found, to = expected, "schema brought up to date"),
            Err(error) if tries == 5 => {
                return Err(StoreError::Migration {
                    why: error.to_string(),
                });
            }
            Err(_) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
        }
    }
}
