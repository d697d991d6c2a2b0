//! What an operator sets. There is no place here for any secret of the server, and unknown keys
//! are errors, so none can be given by mistake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_config::SecretSource;
use countersign_telemetry::LogFormat;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde::Deserialize;

/// Prefix of the variables that override the file.
pub const ENV_PREFIX: &str = "COUNTERSIGN_EXECUTOR__";

/// The whole configuration. Paths are absolute after [`Config::load`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub database: Database,
    pub cluster: Cluster,
    pub keys: Keys,
    pub policy_file: PathBuf,
    pub registry_file: PathBuf,
    pub jira: Option<Jira>,
    pub http: Option<Http>,
    #[serde(default)]
    pub log: Log,
    /// Shown to people; host name and process id when absent.
    pub instance: Option<String>,
    /// How long to sleep when nothing wakes the executor.
    #[serde(default = "quarter_second")]
    poll_interval: String,
    #[serde(default = "sixty")]
    pub admissions_per_minute: u32,
    /// Allows rules that ask for no real evidence (tier 0).
    #[serde(default)]
    pub playground: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    url: Option<SecretString>,
    url_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The operator's name for the cluster; stands in every statement.
    pub id: String,
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    #[serde(default)]
    pub in_cluster: bool,
    /// UID of the namespace kube-system. What is first seen is pinned when absent.
    pub kube_system_uid: Option<String>,
    /// Where the spent records are created.
    #[serde(default = "own_namespace")]
    pub register_namespace: String,
    pub cluster_lock: ClusterLock,
}

/// Whether admission policies in the cluster hold this executor to the shapes that it should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterLock {
    Absent,
    Required,
}

impl ClusterLock {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Required => "required",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The private key: made at the first start, mode 0600.
    pub file: PathBuf,
    /// Where the public half is written at each start.
    pub public_file: PathBuf,
    /// Public keys that this executor signed with before. They open what is under way; `until=TIME`
    /// on a line says from when on that key may not have signed any more.
    #[serde(default)]
    pub former_public_files: Vec<PathBuf>,
    /// Public keys of the servers whose attestations count.
    pub attestation_public_key_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jira {
    /// The site, such as `https://example.atlassian.net`.
    pub base_url: String,
    /// Account of the executor's own read token.
    pub email: String,
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
    pub project_id: String,
    pub issue_type_id: String,
    /// Account id of the bot that opens the tickets.
    pub bot_account_id: String,
    pub approving_status_ids: Vec<String>,
    pub declining_status_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `/healthz`, `/readyz`, `/metrics`. No log-in: bind to a private address.
    pub listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    #[serde(default)]
    pub format: LogFormat,
    #[serde(default = "info")]
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: info(),
        }
    }
}

fn info() -> String {
    "info".to_owned()
}

fn quarter_second() -> String {
    "250ms".to_owned()
}

fn sixty() -> u32 {
    60
}

fn own_namespace() -> String {
    "countersign-executor".to_owned()
}

impl Config {
    /// Reads the file and the environment, makes paths absolute and checks what types cannot.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let config: Self = countersign_config::load(Some(path), ENV_PREFIX)?;
        let folder = std::path::absolute(path)
            .with_context(|| format!("{} is not a usable path", path.display()))?;
        config
            .rooted(folder.parent().unwrap_or(Path::new("/")))
            .checked()
    }

    fn rooted(mut self, folder: &Path) -> Self {
        let root = |path: &mut PathBuf| *path = folder.join(&*path);
        root(&mut self.keys.file);
        root(&mut self.keys.public_file);
        root(&mut self.keys.attestation_public_key_file);
        self.keys.former_public_files.iter_mut().for_each(root);
        root(&mut self.policy_file);
        root(&mut self.registry_file);
        self.database.url_file.iter_mut().for_each(root);
        self.cluster.kubeconfig.iter_mut().for_each(root);
        if let Some(jira) = &mut self.jira {
            jira.token_file.iter_mut().for_each(root);
        }
        self
    }

    fn checked(self) -> anyhow::Result<Self> {
        let cluster = &self.cluster;
        if cluster.id.is_empty() || cluster.id.len() > 63 {
            bail!("`cluster.id` has 1 to 63 characters: it is the name that people will read");
        }
        if cluster.cluster_lock == ClusterLock::Required {
            bail!(
                "`cluster.cluster_lock = \"required\"` is not in this version: the admission \
                 policies that it would check do not exist yet; write \"absent\" to run without"
            );
        }
        match (cluster.in_cluster, &cluster.kubeconfig) {
            (true, Some(_)) => bail!("set `cluster.in_cluster` or `cluster.kubeconfig`, not both"),
            (false, None) => bail!(
                "no access to a cluster: set `cluster.kubeconfig` to a file, or \
                 `cluster.in_cluster = true` inside a pod"
            ),
            _ => {}
        }
        if cluster.in_cluster && cluster.context.is_some() {
            bail!("`cluster.context` belongs to a kubeconfig, not to `cluster.in_cluster`");
        }
        if self.admissions_per_minute == 0 {
            bail!("`admissions_per_minute = 0` would admit nothing: use at least 1");
        }
        self.poll_interval()?;
        self.database_url()?;
        if let Some(jira) = &self.jira {
            if jira.approving_status_ids.is_empty() {
                bail!("`jira.approving_status_ids` is empty: no ticket could ever approve");
            }
            if let Some(both) = jira
                .approving_status_ids
                .iter()
                .find(|id| jira.declining_status_ids.contains(id))
            {
                bail!("status id `{both}` both approves and declines in `[jira]`");
            }
            jira.token()?;
        }
        Ok(self)
    }

    pub fn poll_interval(&self) -> anyhow::Result<Duration> {
        let interval = self
            .poll_interval
            .parse::<SignedDuration>()
            .ok()
            .and_then(|interval| Duration::try_from(interval).ok())
            .filter(|interval| {
                (Duration::from_millis(10)..=Duration::from_secs(60)).contains(interval)
            });
        interval.with_context(|| {
            format!(
                "`poll_interval = \"{}\"` is not a duration between \"10ms\" and \"60s\"",
                self.poll_interval
            )
        })
    }

    /// Where the database is, with the password if it has one.
    pub fn database_url(&self) -> anyhow::Result<SecretString> {
        let Database { url, url_file } = &self.database;
        Ok(SecretSource::new("database.url", url.as_ref(), url_file.as_deref()).resolve()?)
    }

    /// A name for this process, for people.
    pub fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(|| {
            let host = std::env::var("HOSTNAME")
                .ok()
                .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "executor".to_owned());
            format!("{host}-{}", std::process::id())
        })
    }
}

impl Jira {
    pub fn token(&self) -> anyhow::Result<SecretString> {
        let source = SecretSource::new(
            "jira.token",
            self.token.as_ref(),
            self.token_file.as_deref(),
        );
        Ok(source.resolve()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../sample.toml");

    fn load(text: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jira-token"), "t\n").unwrap();
        std::fs::write(folder.path().join("database-url"), "postgres://x/y\n").unwrap();
        let path = folder.path().join("executor.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_sample_can_be_used_and_its_paths_belong_to_its_folder() {
        let config = load(GOOD).unwrap();
        assert!(config.policy_file.is_absolute());
        assert!(config.policy_file.ends_with("policy.toml"));
        assert_eq!(config.poll_interval().unwrap(), Duration::from_millis(250));
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (from, to, want) in [
            ("cluster_lock = \"absent\"", "", "cluster_lock"),
            (
                "cluster_lock = \"absent\"",
                "cluster_lock = \"required\"",
                "not in this version",
            ),
            (
                "in_cluster = true",
                "in_cluster = false",
                "cluster.kubeconfig",
            ),
            (
                "poll_interval = \"250ms\"",
                "poll_interval = \"soon\"",
                "poll_interval",
            ),
            (
                "admissions_per_minute = 60",
                "admissions_per_minute = 0",
                "at least 1",
            ),
            (
                "approving_status_ids = [\"10002\"]",
                "approving_status_ids = []",
                "ever approve",
            ),
            (
                "declining_status_ids = [\"10003\"]",
                "declining_status_ids = [\"10002\"]",
                "10002",
            ),
            (
                "playground = false",
                "session_secret = \"x\"",
                "session_secret",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = format!("{:#}", load(&GOOD.replace(from, to)).unwrap_err());
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
