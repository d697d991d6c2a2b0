//! What can go wrong with the store, in sentences that say what to do. Passwords never get in here.

use countersign_domain::{ActionId, Inconsistent};

/// Errors of every store call. Conflicts are not errors: see [`crate::Transition`].
#[derive(Debug, thiserror::Error)]
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
    /// Not written yet.
    #[error("not written yet: {0}")]
    NotYet(&'static str),
}
