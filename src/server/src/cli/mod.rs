//! Command line. One sentence and what to do when something is wrong, a non-zero exit, and nothing
//! half-made. STDOUT carries results only; on `stdio` it is the MCP pipe.

mod check;
mod keys;
mod local_files;
mod serve;
mod stdio;
mod up;
mod workstation;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Human-approved write operations for AI assistants.
#[derive(Parser)]
#[command(name = "countersign", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve MCP, the pages and the ticket until told to stop.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Stop when standard input closes, so that no process outlives the one that started it.
        #[arg(long)]
        exit_with_parent: bool,
        /// Print one JSON line with the address when ready.
        #[arg(long)]
        ready_json: bool,
        /// Begin by ending all log-ins of earlier runs.
        #[arg(long)]
        end_sessions: bool,
    },
    /// Bring the database schema up to date.
    Migrate(ConfigFile),
    /// Look at the configuration without acting on it.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look at a policy without acting on it.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// The people who approve.
    Approvers {
        #[command(subcommand)]
        command: ApproversCommand,
    },
    /// Keys of the AI clients.
    ApiKey {
        #[command(subcommand)]
        command: ApiKeyCommand,
    },
    /// Run server and executor on this workstation, against one kubeconfig context.
    Up(up::Options),
    /// Bridge from an AI client (MCP over stdio) to the server that `countersign up` runs.
    Stdio(stdio::Options),
    /// Ask a running server whether it is alive; for containers.
    Healthcheck {
        /// Address of the server.
        #[arg(long, default_value = "http://127.0.0.1:8750")]
        url: String,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read the file and say what is wrong with it.
    Check(ConfigFile),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Read a policy file and say which rules rest on the server's word alone.
    Check {
        /// The policy (TOML).
        file: PathBuf,
        /// The registry: checks that the groups of the policy have enough people.
        #[arg(long, value_name = "FILE")]
        registry: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ApproversCommand {
    /// Hash a password from standard input, for `password_hash` of an `[[account]]`.
    HashPassword,
}

#[derive(Subcommand)]
enum ApiKeyCommand {
    /// Make a key. It is shown once; the server's configuration gets its hash.
    New {
        /// Name for audit and errors, such as `claude-laptop`.
        #[arg(long)]
        name: String,
        /// The agent in the registry that the key speaks for.
        #[arg(long)]
        agent: String,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// Configuration file (TOML). Variables COUNTERSIGN__SECTION__KEY override it.
    #[arg(long = "config", value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
    path: PathBuf,
}

/// Parses the command line, runs the command, and turns an error into a sentence.
pub fn main() -> ExitCode {
    // Two TLS stacks in one process would each want to be the default; there is only this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve {
            config,
            exit_with_parent,
            ready_json,
            end_sessions,
        } => {
            let options = serve::Options {
                exit_with_parent,
                ready_json,
                end_sessions,
            };
            runtime()?.block_on(serve::serve(&config.path, options))?;
        }
        Command::Migrate(config) => runtime()?.block_on(serve::migrate(&config.path))?,
        Command::Config {
            command: ConfigCommand::Check(config),
        } => check::config(&config.path)?,
        Command::Policy {
            command: PolicyCommand::Check { file, registry },
        } => {
            check::policy(&file, registry.as_deref())?;
        }
        Command::Approvers {
            command: ApproversCommand::HashPassword,
        } => check::hash_password()?,
        Command::ApiKey {
            command: ApiKeyCommand::New { name, agent },
        } => {
            check::new_api_key(&name, &agent)?;
        }
        Command::Up(options) => return runtime()?.block_on(up::up(options)),
        Command::Stdio(options) => {
            // One conversation: a pool of threads would only cost start-up time.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let result = runtime.block_on(stdio::stdio(options));
            // A read of standard input cannot be interrupted; do not wait for it.
            runtime.shutdown_background();
            result?;
        }
        Command::Healthcheck { url } => runtime()?.block_on(check::health(&url))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
