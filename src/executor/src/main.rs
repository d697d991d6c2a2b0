//! `countersign-executor`: the only program that can write to a cluster.
//!
//! It writes the question (admission), checks the answer (verification) and carries it out at most
//! once. It trusts its own key, its own policy and registry files, the cluster's API server and
//! the signatures of people's answers; not the server, not the database, not a webhook.

mod admit;
mod cli;
mod cluster;
mod config;
mod connect;
mod crash;
mod execute;
mod executor;
mod facts;
mod health;
mod keys;
mod lease;
mod record;
mod replacement;
mod resolve;
mod rules;
#[cfg(test)]
mod sample_pod;
mod ticket_look;
mod timing;
mod verify;
mod work;

fn main() -> anyhow::Result<std::process::ExitCode> {
    // The only TLS stack in this workspace. An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run()
}
