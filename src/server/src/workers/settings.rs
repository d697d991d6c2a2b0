//! The workers' part of the configuration, with its secrets read once. Errors name keys and paths,
//! never contents.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_config::{SecretError, SecretSource};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use url::Url;

use crate::config::{Jira, Loaded};

/// Why the workers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("`{key}` is not an http or https address")]
    Url { key: &'static str },
    #[error(
        "`notify.webhook.secret` is not a Standard Webhooks secret: expected `whsec_` followed by \
         24 to 64 bytes in base64, e.g. from `echo whsec_$(openssl rand -base64 32)`"
    )]
    WebhookSecret,
    #[error("`notify.remind_at_percent` is {0}: use 1 to 99, or leave it out for 50")]
    Percent(u8),
    #[error("`jira.{0}` is empty: without it no ticket can be opened or read")]
    Empty(&'static str),
    #[error("status id {0} is both approving and declining in `[jira]`: it can be one of them")]
    BothWays(String),
    #[error("the Jira client cannot be set up: {0}")]
    Jira(String),
    #[error("the client for notifications cannot be set up: {0}")]
    Client(reqwest::Error),
}

pub(super) struct Settings {
    pub jira: Option<JiraSettings>,
    pub notify: NotifySettings,
}

pub(super) struct JiraSettings {
    pub config: Jira,
    pub base_url: Url,
    pub token: SecretString,
}

#[derive(Default)]
pub(super) struct NotifySettings {
    pub webhook: Option<WebhookSettings>,
    pub slack: Option<SecretUrl>,
}

pub(super) struct WebhookSettings {
    pub url: SecretUrl,
    /// The decoded key.
    pub key: SecretBox<[u8]>,
}

/// An address that is itself a secret, as those of incoming webhooks are.
#[derive(Clone)]
pub(super) struct SecretUrl(SecretString);

impl SecretUrl {
    fn new(key: &'static str, text: &SecretString) -> Result<Self, SettingsError> {
        let url = Url::parse(text.expose_secret()).map_err(|_| SettingsError::Url { key })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(SettingsError::Url { key });
        }
        Ok(Self(text.clone()))
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Whether everything that the workers need is there and readable. For `serve`, `config check` and
/// `doctor`.
///
/// # Errors
/// The first thing that is not.
pub fn check(loaded: &Loaded) -> Result<(), SettingsError> {
    resolve(loaded)?;
    webhook_secret(loaded)?;
    Ok(())
}

pub(super) fn resolve(loaded: &Loaded) -> Result<Settings, SettingsError> {
    let config = &loaded.config;
    let jira = config
        .jira
        .as_ref()
        .map(|jira| resolve_jira(loaded, jira))
        .transpose()?;
    let mut notify = NotifySettings::default();
    if let Some(target) = &config.notify.webhook {
        let secret = secret(
            loaded,
            "notify.webhook.secret",
            target.secret.as_ref(),
            target.secret_file.as_deref(),
        )?
        .ok_or_else(|| SecretError::Missing {
            key: "notify.webhook.secret".to_owned(),
        })?;
        notify.webhook = Some(WebhookSettings {
            url: SecretUrl::new("notify.webhook.url", &target.url)?,
            key: decode_key(&secret)?,
        });
    }
    if let Some(target) = &config.notify.slack {
        let url = secret(
            loaded,
            "notify.slack.url",
            target.url.as_ref(),
            target.url_file.as_deref(),
        )?
        .ok_or_else(|| SecretError::Missing {
            key: "notify.slack.url".to_owned(),
        })?;
        notify.slack = Some(SecretUrl::new("notify.slack.url", &url)?);
    }
    match config.notify.remind_at_percent {
        Some(percent) if !(1..=99).contains(&percent) => Err(SettingsError::Percent(percent)),
        _ => Ok(Settings { jira, notify }),
    }
}

/// The secret of Jira's webhook; without one the address does not exist.
pub(super) fn webhook_secret(loaded: &Loaded) -> Result<Option<SecretString>, SettingsError> {
    let Some(jira) = &loaded.config.jira else {
        return Ok(None);
    };
    Ok(secret(
        loaded,
        "jira.webhook_secret",
        jira.webhook_secret.as_ref(),
        jira.webhook_secret_file.as_deref(),
    )?)
}

fn resolve_jira(loaded: &Loaded, jira: &Jira) -> Result<JiraSettings, SettingsError> {
    for (key, value) in [
        ("email", &jira.email),
        ("project_id", &jira.project_id),
        ("issue_type_id", &jira.issue_type_id),
    ] {
        if value.trim().is_empty() {
            return Err(SettingsError::Empty(key));
        }
    }
    if jira.approving_status_ids.is_empty() {
        return Err(SettingsError::Empty("approving_status_ids"));
    }
    if let Some(both) = jira
        .approving_status_ids
        .iter()
        .find(|id| jira.declining_status_ids.contains(id))
    {
        return Err(SettingsError::BothWays(both.clone()));
    }
    let base_url = Url::parse(&jira.base_url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
        .ok_or(SettingsError::Url {
            key: "jira.base_url",
        })?;
    let token = secret(
        loaded,
        "jira.token",
        jira.token.as_ref(),
        jira.token_file.as_deref(),
    )?
    .ok_or_else(|| SecretError::Missing {
        key: "jira.token".to_owned(),
    })?;
    Ok(JiraSettings {
        config: jira.clone(),
        base_url,
        token,
    })
}

/// Reads one secret; paths are relative to the configuration file's folder.
fn secret(
    loaded: &Loaded,
    key: &str,
    value: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, SecretError> {
    let file = file.map(|file| loaded.path(file));
    SecretSource::new(key, value, file.as_deref()).resolve_optional()
}

fn decode_key(secret: &SecretString) -> Result<SecretBox<[u8]>, SettingsError> {
    secret
        .expose_secret()
        .strip_prefix("whsec_")
        .and_then(|text| STANDARD.decode(text).ok())
        .filter(|key| (24..=64).contains(&key.len()))
        .map(|key| SecretBox::new(key.into_boxed_slice()))
        .ok_or(SettingsError::WebhookSecret)
}
