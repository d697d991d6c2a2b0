//! The store: one place for what must survive, on SQLite or PostgreSQL, behind two narrow ports.
//!
//! [`ServerStore`] is what the server may do, [`ExecutorStore`] what the executor may do; neither can
//! reach the other's verbs. Every verb is one transaction that also writes its audit event and its
//! outbox rows; no transaction crosses the port. Nothing here decides: guards only keep two
//! writers from both winning. Nothing but this crate may name sqlx.

mod database;
mod error;
mod executor;
mod model;
#[cfg(test)]
mod plans;
mod postgres;
mod rows;
mod schema;
mod server;
mod sql;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod turns;

pub use database::{Database, OpenOptions};
pub use error::StoreError;
pub use executor::ExecutorStore;
pub use model::*;
pub use server::ServerStore;
