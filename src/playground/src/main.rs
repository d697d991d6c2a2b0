//! Thin command line: starts one simulated server per process, says when it is ready, and leaves
//! on SIGTERM, on Ctrl-C, or with its parent.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_playground::{Running, cluster, jira};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

/// Simulated systems for trying Countersign out. Nothing here is real, and nothing here is secure.
#[derive(Parser)]
#[command(name = "countersign-playground", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Simulated Kubernetes API server; writes server, executor and admin kubeconfigs into DIR.
    Cluster {
        #[command(flatten)]
        common: Common,
        /// Start without the example workloads (namespaces and nodes are always there).
        #[arg(long)]
        empty: bool,
    },
    /// Simulated Jira Cloud; writes jira.json (accounts, ids, webhook secret) into DIR.
    Jira {
        #[command(flatten)]
        common: Common,
        /// Where to deliver webhooks; can be set later by POST /playground/webhook.
        #[arg(long, value_name = "URL")]
        webhook_url: Option<url::Url>,
        /// Answer 429 beyond 20 writes in 2 seconds to one issue, as Jira Cloud does.
        #[arg(long)]
        rate_limit: bool,
    },
}

#[derive(Args)]
struct Common {
    /// Loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Folder for the credentials of this run (files of mode 0600).
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Stop when standard input closes, so that no process outlives the one that started it.
    #[arg(long)]
    exit_with_parent: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Cluster { common, empty } => {
            let options = cluster::Options {
                listen: common.listen,
                dir: common.dir,
                seed: !empty,
            };
            let started = cluster::start(options).await?;
            run(
                common.exit_with_parent,
                "Kubernetes",
                started.ready(),
                started.server,
            )
            .await
        }
        Command::Jira {
            common,
            webhook_url,
            rate_limit,
        } => {
            let options = jira::Options {
                listen: common.listen,
                dir: common.dir,
                webhook_url,
                rate_limit,
            };
            let started = jira::start(options).await?;
            run(
                common.exit_with_parent,
                "Jira",
                started.ready(),
                started.server,
            )
            .await
        }
    }
}

/// Prints the one line that says "ready" on standard output, then waits for the end.
async fn run(
    exit_with_parent: bool,
    what: &str,
    ready: serde_json::Value,
    server: Running,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!(
        "SIMULATED {what} at {} (countersign-playground; nothing here is real)",
        server.url()
    );
    println!("{ready}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = parent_gone(), if exit_with_parent => {}
    }
    server.stop().await;
    // A read of standard input may still be parked in a thread of the runtime; the process must
    // not wait for a byte that nobody will send.
    std::process::exit(0)
}

/// Returns when standard input reaches its end.
async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(count) if count > 0) {}
}
