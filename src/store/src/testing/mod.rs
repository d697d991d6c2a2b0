//! For tests and benchmarks of this and other crates; behind the feature `testing`.

pub mod bench;
mod tamper;
mod throwaway;

pub use tamper::Tamper;
pub use throwaway::{Role, ThrowawayPostgres};

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

/// Runs SQL on an SQLite file: what somebody with the file in hand would do.
pub async fn execute_sqlite(path: &Path, text: &str) -> Result<(), String> {
    let run = async {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    run.await
        .map_err(|error: sqlx::Error| format!("{error}, in: {text:.200}"))
}
