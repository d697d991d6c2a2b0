//! The whole product, started as a person would start it: `countersign` and `countersign-executor`
//! as processes of their own, each with its own folder, its own configuration and its own secrets.

pub mod ai;
pub mod browser;
pub mod cluster;
pub mod jira;
pub mod person;
pub mod process;
pub mod receiver;
pub mod settings;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_store::testing::{Role, ThrowawayPostgres};

use self::ai::Ai;
use self::cluster::Cluster;
use self::jira::PlaygroundJira;
use self::person::Person;
use self::process::Process;
use self::receiver::Receiver;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Which cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterKind {
    Playground,
    /// A real API server with controllers and a fake kubelet.
    ControlPlane,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub engine: Engine,
    pub cluster: ClusterKind,
    /// Policy text; the default asks for one of group `sre` through page or ticket.
    pub policy: String,
    /// Crash points and the like, for one process only.
    pub server_env: Vec<(String, String)>,
    pub executor_env: Vec<(String, String)>,
    /// Port of the pages; 0 takes a free one.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::Sqlite,
            cluster: ClusterKind::Playground,
            policy: settings::policy("15m", "5m", "20s"),
            server_env: Vec::new(),
            executor_env: Vec::new(),
            port: 0,
        }
    }
}

pub struct Stack {
    pub options: Options,
    pub folder: tempfile::TempDir,
    pub cluster: Cluster,
    pub jira: PlaygroundJira,
    pub receiver: Receiver,
    pub url: String,
    pub secrets: settings::Secrets,
    pub postgres: Option<ThrowawayPostgres>,
    pub server: Option<Process>,
    pub executor: Option<Process>,
}

impl Stack {
    /// Starts everything and waits until the executor's heartbeat has arrived.
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_with(options, |_| ()).await
    }

    /// [`Stack::start`], telling each step as it begins.
    pub async fn start_with(options: Options, tell: impl Fn(&str)) -> Result<Self> {
        let mut stack = Self::prepare(options, &tell).await?;
        tell("countersign");
        stack.start_server().await?;
        tell("countersign-executor");
        stack.start_executor()?;
        stack
            .jira
            .send_webhooks_to(&format!("{}/webhooks/jira", stack.url))
            .await?;
        stack.until_ready(Duration::from_secs(30)).await?;
        Ok(stack)
    }

    /// All that the two processes need, configurations included; neither is started.
    pub async fn prepare(mut options: Options, tell: impl Fn(&str)) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("countersign-").tempdir()?;
        let root = folder.path();
        for part in ["server", "executor", "cluster", "jira", "data"] {
            settings::private_folder(&root.join(part))?;
        }
        tell("cluster");
        let cluster = Cluster::start(options.cluster, &root.join("cluster")).await?;
        tell("jira");
        let jira = PlaygroundJira::start(&root.join("jira")).await?;
        let receiver = Receiver::start().await?;
        let postgres = match options.engine {
            Engine::Sqlite => None,
            Engine::Postgres => {
                tell("postgres");
                Some(
                    ThrowawayPostgres::start()
                        .await
                        .map_err(anyhow::Error::msg)
                        .context("PostgreSQL")?,
                )
            }
        };
        if options.port == 0 {
            options.port = free_port()?;
        }
        let secrets = settings::Secrets::generate()?;
        let stack = Self {
            url: format!("http://127.0.0.1:{}", options.port),
            options,
            folder,
            cluster,
            jira,
            receiver,
            secrets,
            postgres,
            server: None,
            executor: None,
        };
        settings::write(&stack).await?;
        Ok(stack)
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The address that a process uses for the database: each its own role on PostgreSQL.
    pub fn database_url(&self, role: Role) -> String {
        match &self.postgres {
            Some(postgres) => postgres.url(role),
            None => format!("sqlite://{}", self.path("data/countersign.db").display()),
        }
    }

    pub async fn start_server(&mut self) -> Result<()> {
        let config = self.path("server/countersign.toml");
        let env = self.options.server_env.clone();
        let mut process = Process::start(
            "countersign",
            "countersign",
            |command| {
                command
                    .arg("serve")
                    .arg("--config")
                    .arg(config)
                    .args(["--ready-json", "--exit-with-parent"])
                    .envs(env);
            },
            &self.path("server/log"),
        )?;
        // The server waits for the executor's public key; both start side by side.
        if self.executor.is_none() && !self.path("executor/public/executor.pub").exists() {
            self.start_executor()?;
        }
        process.ready(Duration::from_secs(60)).await?;
        self.server = Some(process);
        Ok(())
    }

    pub fn start_executor(&mut self) -> Result<()> {
        if self.executor.is_some() {
            return Ok(());
        }
        let config = self.path("executor/executor.toml");
        let env = self.options.executor_env.clone();
        self.executor = Some(Process::start(
            "countersign-executor",
            "countersign-executor",
            |command| {
                command
                    .arg("run")
                    .arg("--config")
                    .arg(config)
                    .arg("--exit-with-parent")
                    .envs(env);
            },
            &self.path("executor/log"),
        )?);
        Ok(())
    }

    /// The same with this environment, now and at later starts.
    pub fn start_executor_with(&mut self, env: &[(&str, &str)]) -> Result<()> {
        self.options.executor_env = owned(env);
        self.start_executor()
    }

    /// Ends the executor, however it is, and starts it again with this environment.
    pub async fn restart_executor(&mut self, env: &[(&str, &str)]) -> Result<()> {
        if let Some(process) = self.executor.take() {
            process.kill().await?;
        }
        self.start_executor_with(env)?;
        self.until_ready(Duration::from_secs(60)).await
    }

    /// The same for the server.
    pub async fn restart_server(&mut self, env: &[(&str, &str)]) -> Result<()> {
        self.options.server_env = owned(env);
        if let Some(process) = self.server.take() {
            process.kill().await?;
        }
        self.start_server().await?;
        self.until_ready(Duration::from_secs(60)).await
    }

    /// `/readyz` answers 200 once the store answers and the executor's heartbeat is fresh.
    pub async fn until_ready(&mut self, within: Duration) -> Result<()> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()?;
        let start = Instant::now();
        loop {
            let answer = client.get(format!("{}/readyz", self.url)).send().await;
            let text = match answer {
                Ok(answer) if answer.status().is_success() => {
                    let text = answer.text().await?;
                    let seen: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                    let executor = &seen["executors"][0];
                    if executor["alive"] == true && executor["status"] == "ok" {
                        return Ok(());
                    }
                    text
                }
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if start.elapsed() > within {
                bail!("not ready after {within:?}: {text}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The ends of both logs, for errors.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (name, process) in [("countersign", &self.server), ("executor", &self.executor)] {
            if let Some(process) = process {
                text.push_str(&format!("--- {name}\n{}\n", process.last_words()));
            }
        }
        text
    }

    pub async fn ai(&self) -> Result<Ai> {
        Ai::connect(&self.url, &self.secrets.api_key).await
    }

    /// Li and Omar may approve; Maria is behind the agent.
    pub async fn li(&self) -> Result<Person> {
        Person::log_in(&self.url, "li", &self.secrets.li_password).await
    }

    pub async fn omar(&self) -> Result<Person> {
        Person::log_in(&self.url, "omar", &self.secrets.omar_password).await
    }

    pub async fn maria(&self) -> Result<Person> {
        Person::log_in(&self.url, "maria", &self.secrets.maria_password).await
    }

    /// Stops both processes with SIGTERM and insists on a clean end.
    pub async fn stop(&mut self) -> Result<()> {
        for process in [self.server.take(), self.executor.take()]
            .into_iter()
            .flatten()
        {
            process.stop(Duration::from_secs(20)).await?;
        }
        Ok(())
    }
}

fn owned(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Writes a file that only its owner reads.
pub fn private_file(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
