//! The command line. Thin: it reads the configuration and hands over.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::rules::Rules;
use crate::{collect, keys, work};

/// Checks approved actions by itself and carries them out, at most once.
#[derive(Parser)]
#[command(name = "countersign-executor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Admit proposals and carry out approved actions until told to stop.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Stop when standard input closes, so that no process outlives the one that started it.
        #[arg(long)]
        exit_with_parent: bool,
    },
    /// Look at the configuration without acting on it.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// The executor's own key.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// The policy and the registry of people.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// The register of spent actions in the cluster.
    Register {
        #[command(subcommand)]
        command: RegisterCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the file and say what is wrong with it.
    Check(ConfigFile),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Print the public key, to be trusted by servers and signing pages.
    Show(ConfigFile),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Read both files, and say which rules rest on the server's word alone.
    Check(ConfigFile),
}

#[derive(Subcommand)]
enum RegisterCommand {
    /// Delete records that guard nothing any more. For an account of its own, which the running
    /// executor does not have; see deploy/kustomize/collector.
    Collect(collect::Arguments),
}

#[derive(clap::Args)]
struct ConfigFile {
    /// Configuration file (TOML). Variables COUNTERSIGN_EXECUTOR__SECTION__KEY override it.
    #[arg(long = "config", value_name = "FILE")]
    path: PathBuf,
}

/// Parses the command line and runs the command.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match Cli::parse().command {
        Command::Run {
            config,
            exit_with_parent,
        } => {
            let config = Config::load(&config.path)?;
            countersign_telemetry::init(config.log.format, &config.log.filter)?;
            runtime.block_on(async {
                let stop = stop_signal(exit_with_parent)?;
                work::run(config, stop).await
            })?;
        }
        Command::Config {
            command: ConfigCommand::Check(file),
        } => {
            Config::load(&file.path)?;
            println!("{} can be used.", file.path.display());
        }
        Command::Keys {
            command: KeysCommand::Show(file),
        } => {
            let config = Config::load(&file.path)?;
            let signer = keys::read(&config.keys.file)?.with_context(|| {
                format!(
                    "no key in {} yet: `run` makes it",
                    config.keys.file.display()
                )
            })?;
            print!("{}", signer.public_text());
        }
        Command::Policy {
            command: PolicyCommand::Check(file),
        } => check_policy(&file.path)?,
        Command::Register {
            command: RegisterCommand::Collect(arguments),
        } => runtime.block_on(collect::run(&arguments))?,
    }
    Ok(())
}

fn check_policy(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let rules = Rules::read(&config)?;
    println!(
        "{} rules, policy hash {}",
        rules.policy.rules.len(),
        rules.policy.hash()
    );
    println!("{} people in the registry", rules.registry.people().count());
    if let Some(freeze) = &rules.policy.freeze {
        println!("frozen: {}", freeze.reason);
    }
    for sentence in rules.policy.rests_on_server() {
        println!("note: {sentence}");
    }
    Ok(())
}

/// Cancelled by SIGTERM, by SIGINT and, when asked for, by the end of standard input.
fn stop_signal(exit_with_parent: bool) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stream.recv().await;
            stop.cancel();
        });
    }
    if exit_with_parent {
        let stop = stop.clone();
        // A thread of its own: a blocked read of standard input cannot be cancelled.
        std::thread::spawn(move || {
            let mut buffer = [0u8; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(count) if count > 0) {}
            stop.cancel();
        });
    }
    Ok(stop)
}
