//! The simulated cluster: the part of the Kubernetes API that Countersign uses.
//!
//! It is held to the same contract suite as a real API server, so a status code, a reason or a
//! rule about disruption budgets is right when the real server says so, not when a caller likes it.

mod access;
mod budget;
mod control;
mod controllers;
mod eviction;
mod faults;
mod kinds;
mod kubelet;
mod logs;
mod object;
mod request;
mod rest;
mod seed;
mod selector;
mod state;
mod status;
mod store;
mod watch;
mod writes;

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::routing::any;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Running, StartError, private_file, serve};
use access::Tokens;
use state::{Cluster, Shared};

#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Receives server.kubeconfig, executor.kubeconfig and admin.kubeconfig.
    pub dir: PathBuf,
    /// Whether the example workloads are there.
    pub seed: bool,
}

#[derive(Debug)]
pub struct Started {
    pub server: Running,
    pub server_kubeconfig: PathBuf,
    pub executor_kubeconfig: PathBuf,
    pub admin_kubeconfig: PathBuf,
}

impl Started {
    /// The line on standard output that says "ready"; it holds no credential.
    pub fn ready(&self) -> Value {
        json!({
            "ready": true, "simulated": true, "kind": "cluster", "url": self.server.url(),
            "server_kubeconfig": self.server_kubeconfig,
            "executor_kubeconfig": self.executor_kubeconfig,
            "admin_kubeconfig": self.admin_kubeconfig,
        })
    }
}

/// Binds, seeds, writes the kubeconfigs and starts to answer.
pub async fn start(options: Options) -> Result<Started, StartError> {
    let listener = serve::bind(options.listen).await?;
    let address = listener.local_addr().map_err(StartError::Address)?;
    private_file::make_dir(&options.dir)?;
    let mut cluster = Cluster::default();
    seed::furnish(&mut cluster);
    if options.seed
        && let Err(refusal) = seed::seed(&mut cluster)
    {
        // The seed is a constant of this crate; a test starts it.
        tracing::error!(status = %refusal.body(), "the example workloads were refused");
    }
    let tokens = Tokens::random();
    let [server_kubeconfig, executor_kubeconfig, admin_kubeconfig] =
        tokens.write_kubeconfigs(&options.dir, &format!("http://{address}"))?;
    let shared = Shared::new(cluster, tokens);
    let app = Router::new()
        .route("/playground/{*action}", any(control::control))
        .fallback(rest::api)
        .with_state(shared.clone());
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shared.keep_time() => {}
            () = stopping.cancelled() => {}
        }
    });
    let server = serve::spawn(listener, app, stop)?;
    Ok(Started {
        server,
        server_kubeconfig,
        executor_kubeconfig,
        admin_kubeconfig,
    })
}
