//! The try-out: a simulated Kubernetes API server and a simulated Jira Cloud.
//!
//! Both speak the real protocols over HTTP on loopback, hold state, and say everywhere that they
//! are simulated. They exist for the demo and for tests. They depend on no other crate of the
//! workspace, so that they cannot share a mistake with the code that talks to them, and they must
//! never be used as a security boundary.

pub mod cluster;
pub mod jira;

mod clock;
mod private_file;
mod random;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use serve::Running;

/// Why a simulated server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0} is not a loopback address; the playground listens on 127.0.0.1 or [::1] only")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {listen}: {source}; choose another port, or :0 for a free one")]
    Bind {
        listen: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot read the listener's own address: {0}")]
    Address(std::io::Error),
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot build the client that delivers webhooks: {0}")]
    Client(reqwest::Error),
}
