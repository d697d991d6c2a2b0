//! `countersign-executor`: the only program that can write to a cluster.
//!
//! It writes the question (admission), checks the answer (verification) and carries it out at most
//! once. It trusts its own key, its own policy and registry files, the cluster's API server and
//! the signatures of people's answers; not the server, not the database, not a webhook.

use std::process::ExitCode;

mod admit;
mod admitting;
mod api_time;
mod cli;
mod cluster;
mod collect;
mod config;
mod connect;
mod crash;
mod execute;
mod executor;
mod facts;
mod health;
mod keys;
mod lease;
mod looks;
mod record;
mod replacement;
mod resolve;
mod rules;
#[cfg(test)]
mod sample_pod;
mod sightings;
mod ticket_look;
mod timing;
mod verify;
mod work;

fn main() -> ExitCode {
    // The only TLS stack in this workspace. An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign-executor: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, without those that its own text already tells.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.is_empty() {
            true => cause,
            false if told.contains(&cause) => told,
            false => format!("{told}: {cause}"),
        }
    })
}
