//! What can go wrong with the store, in sentences that say what to do. Passwords never get in here.

use countersign_domain::{ActionId, Inconsistent};

/// Errors of every store call. Conflicts are not errors: see [`crate::Transition`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The address is of no known form.
    #[error(
        "`{url}` is not a database address: use sqlite:///path/to/file.db or postgres://user@host/name ({why})"
    )]
    BadUrl { url: String, why: String },
    /// The SQLite file is not there and nobody asked to create it.
    #[error(
        "there is no database at {path}: start `countersign` once, or run `countersign migrate`"
    )]
    Missing { path: String },
    #[error("the database {what} is read-only: it must be writable for the account that runs this")]
    ReadOnly { what: String },
    #[error("the database {url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    #[error("the database {url} refuses this user or password: {why}")]
    AccessDenied { url: String, why: String },
    /// The role may not do this. Each process has a role of its own: see deploy/postgres/roles.sql.
    #[error("the database role may not do this: {why}")]
    Forbidden { why: String },
    /// `found` 0: an empty database.
    #[error(
        "the database has schema version {found}, this program needs {expected}: run `countersign migrate`"
    )]
    SchemaOld { found: i64, expected: i64 },
    #[error(
        "the database has schema version {found}, this program knows only up to {expected}: use the newer program"
    )]
    SchemaNew { found: i64, expected: i64 },
    /// Equal numbers, but not what this program's migration says.
    #[error(
        "the database says schema version {version}, but was made by an unreleased program whose version {version} was another one: begin with a new database"
    )]
    SchemaOther { version: i64 },
    #[error("the database schema could not be brought up to date: {why}")]
    Migration { why: String },
    #[error("the database stayed locked by another process for too long; the call may be repeated")]
    Locked,
    /// Somebody wrote by hand, or there is a bug. The row is left as it is.
    #[error("action {action}: {source}")]
    Inconsistent {
        action: ActionId,
        source: Inconsistent,
    },
    /// A column does not hold what it must.
    #[error("a row of table `{table}` cannot be read: {what}")]
    BadRow { table: &'static str, what: String },
    /// The action already has another ticket.
    #[error("action {action} already has the ticket {key}")]
    OtherTicket { action: ActionId, key: String },
    #[error("there is no action {action}")]
    NoSuchAction { action: ActionId },
    /// The value cannot be stored.
    #[error("cannot be stored: {why}")]
    BadInput { why: String },
    #[error("the database was closed")]
    Closed,
    #[error("the database failed: {why}")]
    Database { why: String },
}

/// The address as it may be shown: no password, no parameters.
pub(crate) fn without_password(url: &str) -> String {
    let plain = |text: &str| text.split(['?', '#']).next().unwrap_or_default().to_owned();
    let Some((scheme, rest)) = url.split_once("://") else {
        return plain(url);
    };
    if url.to_ascii_lowercase().contains("password=") {
        // A password among the parameters may hold any character as well; nothing after the
        // scheme is safe to show.
        return format!("{scheme}://(not shown: its parameters hold a password)");
    }
    // A password may hold any character, an `@`, `/` or `?` too: the last `@` ends it.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return plain(url);
    };
    let user = user.split([':', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{user}@{}", plain(host))
}

/// Turns the driver's error into a sentence. `at` is the address without its password.
pub(crate) fn from_sqlx(error: &sqlx::Error, at: &str) -> StoreError {
    let at = at.to_owned();
    match error {
        sqlx::Error::Database(refused) => {
            let why = refused.message().to_owned();
            match refused.code().as_deref() {
                Some("28P01" | "28000") => StoreError::AccessDenied { url: at, why },
                Some("42501") => StoreError::Forbidden { why },
                Some("25006") => StoreError::ReadOnly { what: at },
                Some("3D000" | "53300" | "57P01" | "57P02" | "57P03") => {
                    StoreError::Unreachable { url: at, why }
                }
                Some("40001" | "40P01" | "55P03") => StoreError::Locked,
                // SQLite's extended codes are shorter than an SQLSTATE; the low byte is the kind.
                Some(code) if code.len() < 5 => match code.parse::<u32>().map(|code| code & 0xff) {
                    Ok(5 | 6) => StoreError::Locked,
                    Ok(8) => StoreError::ReadOnly { what: at },
                    Ok(14) => StoreError::Unreachable { url: at, why },
                    Ok(26) => StoreError::BadUrl {
                        url: at,
                        why: "not an SQLite file".into(),
                    },
                    _ => StoreError::Database { why },
                },
                _ => StoreError::Database { why },
            }
        }
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::PoolTimedOut => StoreError::Unreachable {
            url: at,
            why: "no connection became free within 5 seconds".into(),
        },
        sqlx::Error::Io(why) => StoreError::Unreachable {
            url: at,
            why: why.to_string(),
        },
        sqlx::Error::Tls(why) => StoreError::Unreachable {
            url: at,
            why: why.to_string(),
        },
        other => StoreError::Database {
            why: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, shown) in [
            (
                "postgres://ann:secret@db:5432/c?sslmode=require",
                "postgres://ann@db:5432/c",
            ),
            ("postgres://ann:p@ss/w?@db/c", "postgres://ann@db/c"),
            (
                "postgres://ann@db/c?password=a@b",
                "postgres://(not shown: its parameters hold a password)",
            ),
            (
                "postgres://db/c?password=se@cret",
                "postgres://(not shown: its parameters hold a password)",
            ),
            ("sqlite:///var/lib/c.db", "sqlite:///var/lib/c.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
