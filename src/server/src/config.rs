//! The server's own configuration: one TOML file, `COUNTERSIGN__SECTION__KEY` environment on top.
//! Paths are relative to the file's folder. Nothing of the executor's secrets belongs here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use countersign_integrations::kubernetes::Thresholds;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::peer::Network;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where people reach the pages, e.g. `https://countersign.example.com`. Required unless
    /// `http.listen` is a loopback address.
    pub external_url: Option<String>,
    pub policy_file: PathBuf,
    pub registry_file: PathBuf,
    #[serde(default)]
    pub http: Http,
    pub database: Database,
    pub keys: Keys,
    #[serde(default, rename = "cluster")]
    pub clusters: Vec<Cluster>,
    #[serde(default, rename = "api_key")]
    pub api_keys: Vec<ApiKey>,
    #[serde(default, rename = "account")]
    pub accounts: Vec<Account>,
    pub jira: Option<Jira>,
    #[serde(default)]
    pub notify: Notify,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub failing: Failing,
    #[serde(default)]
    pub log: Log,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Default `127.0.0.1:8750`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Additional `Host` values that are answered, besides the external URL's.
    pub allowed_hosts: Vec<String>,
    /// Open connections in all, and of one address: behind a proxy, of that proxy.
    #[serde(deserialize_with = "within::<_, 16, 100_000>")]
    pub connections: u32,
    #[serde(deserialize_with = "within::<_, 8, 100_000>")]
    pub connections_per_peer: u32,
    /// Proxies whose `X-Forwarded-For` is believed, where failed log-ins are counted.
    pub trusted_proxies: Vec<Network>,
    /// A Unix socket on which MCP answers, too. In a folder that only its owner may enter, nobody
    /// else can take its place, as they can take that of a port.
    pub socket: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8750)),
            allowed_hosts: Vec::new(),
            connections: 900,
            connections_per_peer: 300,
            trusted_proxies: Vec::new(),
            socket: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:///path/to/file.db` or `postgres://user:password@host/name`.
    pub url: Option<SecretString>,
    pub url_file: Option<PathBuf>,
    #[serde(default = "ten")]
    pub max_connections: u32,
    /// Bring the schema up to date at start. The default suits SQLite; with PostgreSQL the roles
    /// file gives that right to a role of its own, used by `countersign migrate`.
    pub migrate: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The attestation key; made on first start, mode 0600.
    pub file: PathBuf,
    /// Where its public half is written for the executor to read.
    pub public_file: Option<PathBuf>,
    /// The executor's public key or keys.
    pub executor_public_key_file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The operator's name for it; the executor pins the same one.
    pub id: String,
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    #[serde(default)]
    pub in_cluster: bool,
    /// Says so on every page and answer: this cluster is a playground.
    #[serde(default)]
    pub simulated: bool,
    /// Keep a picture of the cluster in memory, kept right by watches. Default true; without it
    /// every question is read live.
    #[serde(default = "yes")]
    pub cache: bool,
    /// Read these namespaces only: for an account that has no rights in the others. Absent: all.
    pub namespaces: Option<Vec<String>>,
}

/// A caller's key. Only its hash is stored: `printf %s "$KEY" | sha256sum`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// For audit and errors, e.g. `claude-laptop`.
    pub name: String,
    /// The agent in the registry that this key speaks for.
    pub agent: String,
    pub sha256: String,
    pub expires_at: Option<Timestamp>,
    /// Namespaces that exist for this caller; absent means all.
    pub namespaces: Option<Vec<String>>,
}

/// A local log-in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// A person's id in the registry.
    pub person: String,
    /// Argon2 PHC string (`countersign approvers hash-password` makes one).
    pub password_hash: SecretString,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jira {
    pub base_url: String,
    pub email: String,
    pub token: Option<SecretString>,
    pub token_file: Option<PathBuf>,
    /// Secret of the registered webhook; without it the webhook address answers 404.
    pub webhook_secret: Option<SecretString>,
    pub webhook_secret_file: Option<PathBuf>,
    pub project_id: String,
    pub issue_type_id: String,
    pub approving_status_ids: Vec<String>,
    pub declining_status_ids: Vec<String>,
    /// Where a finished ticket is moved; absent: it stays where it is.
    pub done_status_id: Option<String>,
    #[serde(default = "five")]
    pub sweep_seconds: u32,
    #[serde(default)]
    pub simulated: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Standard Webhooks: `whsec_...` secret.
    pub webhook: Option<WebhookTarget>,
    /// Slack-compatible incoming webhook; link only.
    pub slack: Option<SlackTarget>,
    /// A reminder goes out when this share of the time to decide has passed. Default 50.
    #[serde(default)]
    pub remind_at_percent: Option<u8>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    pub url: SecretString,
    pub secret: Option<SecretString>,
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackTarget {
    pub url: Option<SecretString>,
    pub url_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Actions of one caller that may wait for people at once.
    pub pending_per_caller: u32,
    pub proposals_per_hour: u32,
    /// Tool calls of one caller a minute.
    pub calls_per_minute: u32,
    /// How long an equal proposal is denied after a rejection.
    pub cool_down_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_per_caller: 10,
            proposals_per_hour: 30,
            calls_per_minute: 600,
            cool_down_seconds: 600,
        }
    }
}

/// When a slow or restarting pod counts as failing, for the read tools.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Failing {
    /// Creating, initialising, unschedulable or not ready for longer is failing. Up to a day.
    #[serde(deserialize_with = "within::<_, 1, 86_400>")]
    pub stuck_after_seconds: u32,
    /// A crash or a restart counts while it is younger. Up to a day.
    #[serde(deserialize_with = "within::<_, 1, 86_400>")]
    pub recent_seconds: u32,
    /// Allowed beyond a deletion's grace. Up to an hour.
    #[serde(deserialize_with = "within::<_, 0, 3600>")]
    pub slack_seconds: u32,
    /// This many restarts, of which one is recent.
    #[serde(deserialize_with = "within::<_, 1, 10_000>")]
    pub restarts: u32,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            stuck_after_seconds: 300,
            recent_seconds: 600,
            slack_seconds: 30,
            restarts: 5,
        }
    }
}

impl Failing {
    pub fn thresholds(&self) -> Thresholds {
        let seconds = |seconds: u32| SignedDuration::from_secs(seconds.into());
        Thresholds {
            stuck_after: seconds(self.stuck_after_seconds),
            recent: seconds(self.recent_seconds),
            slack: seconds(self.slack_seconds),
            restarts: self.restarts,
        }
    }
}

fn within<'de, D: Deserializer<'de>, const LEAST: u32, const MOST: u32>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if (LEAST..=MOST).contains(&number) {
        Ok(number)
    } else {
        Err(D::Error::custom(format!(
            "use a whole number from {LEAST} to {MOST}, not {number}"
        )))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: countersign_telemetry::LogFormat,
    /// A tracing filter such as `info,countersign=debug`.
    pub filter: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn five() -> u32 {
    5
}

const fn ten() -> u32 {
    10
}

/// A configuration with its folder, so that relative paths mean the same everywhere.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub folder: PathBuf,
}

impl Loaded {
    pub fn from_file(file: &Path) -> Result<Self, countersign_config::ConfigError> {
        let config = countersign_config::load(Some(file), "COUNTERSIGN__")?;
        let folder = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        Ok(Self { config, folder })
    }

    /// A path from the file, relative to its folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_left_out_are_those_of_the_definition() {
        assert_eq!(Failing::default().thresholds(), Thresholds::default());
        let some: Failing = toml::from_str("stuck_after_seconds = 60\nrestarts = 3").unwrap();
        let thresholds = some.thresholds();
        assert_eq!(thresholds.stuck_after.as_secs(), 60);
        assert_eq!((thresholds.restarts, thresholds.slack.as_secs()), (3, 30));
    }

    #[test]
    fn thresholds_out_of_bounds_are_refused_with_the_bounds() {
        for (bad, told) in [
            ("stuck_after_seconds = 0", "from 1 to 86400, not 0"),
            ("recent_seconds = 90000", "from 1 to 86400"),
            ("slack_seconds = 3601", "from 0 to 3600"),
            ("restarts = 0", "from 1 to 10000"),
            ("restart = 5", "unknown field"),
            ("restarts = -1", "-1"),
        ] {
            let error = toml::from_str::<Failing>(bad).unwrap_err().to_string();
            assert!(error.contains(told), "{bad}: {error}");
        }
    }
}
