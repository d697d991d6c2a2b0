//! `register collect`: one pass over the register, and what it came to. It needs no configuration,
//! no database and no key of the executor, and is given none.

use std::path::PathBuf;

use anyhow::Context as _;
use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::KubeReader;
use jiff::SignedDuration;

use crate::cluster::{Access, Collected, collector};
use crate::timing::SKEW;

/// Where, and how old.
#[derive(clap::Args)]
pub struct Arguments {
    /// Namespace of the records (`cluster.register_namespace` of the executor).
    #[arg(long, default_value = "countersign-executor")]
    namespace: String,
    /// Records younger than this stay; 3 at least.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep_days: u16,
    /// Count only.
    #[arg(long)]
    dry_run: bool,
    /// Use the account that is mounted into this pod.
    #[arg(
        long,
        conflicts_with = "kubeconfig",
        required_unless_present = "kubeconfig"
    )]
    in_cluster: bool,
    /// Use the account of this kubeconfig.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in it, if not its current one.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
}

/// Collects, and prints what was done.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let context = arguments.context.as_deref();
    let (access, reader) = match &arguments.kubeconfig {
        Some(path) => (
            Access::Kubeconfig { path, context },
            KubeReader::from_kubeconfig(Some(path), context),
        ),
        None => (Access::InCluster, KubeReader::incluster()),
    };
    let collector = collector(access, &arguments.namespace).await?;
    // Not this machine's clock: the records' times are the API server's.
    let now = reader.server_date().await;
    let now = now.context("the API server's time cannot be read")?;
    let ahead = now.duration_since(SystemClock.now());
    // A wrong clock would make every record look old.
    anyhow::ensure!(
        ahead.abs() <= SKEW,
        "this clock and the API server's differ by {} s: correct one; nothing was deleted",
        ahead.abs().as_secs()
    );
    let keep = SignedDuration::from_hours(24 * i64::from(arguments.keep_days));
    let Collected { seen, old, deleted } = collector.collect(keep, now, arguments.dry_run).await?;
    let days = arguments.keep_days;
    match arguments.dry_run {
        true => println!("{seen} records, {old} of them older than {days} days; nothing deleted"),
        false => println!("{seen} records, {deleted} older than {days} days deleted"),
    }
    Ok(())
}
