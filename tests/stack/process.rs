//! One child process that cannot outlive its parent: every program here exits when its standard
//! input closes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program of ours. Its standard error goes to `log`, appended.
    pub fn start(
        name: &str,
        program: &str,
        configure: impl FnOnce(&mut Command),
        log: &Path,
    ) -> Result<Self> {
        let path = binary(program)?;
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&path);
        // A clean environment: what a child knows, it knows from its own configuration.
        command.env_clear();
        for key in ["PATH", "HOME", "TMPDIR", "LANG"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C goes to the whole foreground group; children leave when the parent says so.
            .process_group(0)
            .kill_on_drop(true);
        configure(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        })
    }

    /// Reads the one line of JSON that the program prints when it is ready.
    pub async fn ready(&mut self, within: Duration) -> Result<Value> {
        let stdout = self.child.stdout.take().context("ready was already read")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = match tokio::time::timeout(within, lines.next_line()).await {
            Err(_) => bail!(
                "{} was not ready within {within:?}\n{}",
                self.name,
                self.last_words()
            ),
            Ok(line) => line?,
        };
        let Some(line) = line else {
            bail!(
                "{} ended before it was ready\n{}",
                self.name,
                self.last_words()
            );
        };
        // Keep the pipe open and empty, so that the child never blocks or breaks on it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        serde_json::from_str(&line).with_context(|| format!("{} said: {line}", self.name))
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The end of its log, for errors.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM, then wait.
    pub async fn stop(mut self, within: Duration) -> Result<std::process::ExitStatus> {
        if let Some(id) = self.child.id() {
            Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await?;
        }
        tokio::time::timeout(within, self.child.wait())
            .await
            .with_context(|| {
                format!(
                    "{} did not stop within {within:?}\n{}",
                    self.name,
                    self.last_words()
                )
            })?
            .map_err(Into::into)
    }

    /// kill -9.
    pub async fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// Waits for it to end by itself (a crash point).
    pub async fn ended(&mut self, within: Duration) -> Result<std::process::ExitStatus> {
        // Not `wait`: that closes standard input first, which tells the program to leave.
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > within {
                bail!("{} did not end within {within:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Where cargo put our programs: beside this one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me
        .ancestors()
        .skip(1)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "program `{name}` is not built: run `cargo xtask test` or `cargo build --workspace`"
            )
        })?;
    Ok(path)
}
