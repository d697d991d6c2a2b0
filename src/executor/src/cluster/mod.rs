//! Everything that can change the cluster, as capabilities that cannot be confused.
//!
//! | capability | can send | needs |
//! |---|---|---|
//! | [`DryRun`] | an eviction with `dryRun=All`, which it sets itself | nothing |
//! | [`Register`] | the creation of a spent record, or of one about a new pod | nothing |
//! | [`Collector`] | the deletion of old records; not part of [`Capabilities`] | an account that may |
//! | [`Writer`] | one eviction | an `Authorized` and a [`Spent`], both by move |
//!
//! The connection never leaves this module, and only `writer.rs` removes `dryRun` from a body.

mod collector;
mod connection;
mod dry_run;
mod eviction;
mod register;
mod writer;

use std::path::Path;

pub use collector::{Collected, Collector, SHORTEST as SHORTEST_KEPT};
pub use dry_run::{DryRun, Preview};
pub use register::{Burn, Credit, Nonce, NotSpent, Record, Register, RegisterError};
pub use writer::{Sent, Writer};

/// How the cluster is reached.
pub enum Access<'a> {
    InCluster,
    Kubeconfig {
        path: &'a Path,
        context: Option<&'a str>,
    },
}

/// All capabilities over one cluster.
pub struct Capabilities {
    pub dry_run: DryRun,
    pub register: Register,
    pub writer: Writer,
}

/// Sets up the connection. Sends nothing.
pub async fn capabilities(
    access: Access<'_>,
    register_namespace: &str,
) -> anyhow::Result<Capabilities> {
    let connection = connection::Connection::new(access).await?;
    Ok(Capabilities {
        dry_run: DryRun::new(connection.clone()),
        register: Register::new(connection.clone(), register_namespace.to_owned()),
        writer: Writer::new(connection),
    })
}

/// Sets up what takes old records out of the register. Sends nothing.
pub async fn collector(access: Access<'_>, register_namespace: &str) -> anyhow::Result<Collector> {
    let connection = connection::Connection::new(access).await?;
    Ok(Collector::new(connection, register_namespace.to_owned()))
}
