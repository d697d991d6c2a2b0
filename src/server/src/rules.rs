//! The server's copy of policy and registry. It only saves people from questions that could never
//! be answered with yes: what counts is the executor's own copy.
//!
//! Both files are looked at every two seconds (mounted ones change by a swapped symlink, which no
//! file watcher sees reliably). A bad file keeps the old rules and is reported once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use countersign_domain::{Policy, Registry};

use crate::app::{Rules, SharedApp};
use crate::config::Loaded;

const INTERVAL: Duration = Duration::from_secs(2);

/// A rules file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error("cannot read the {what} file {path}: {why}", path = path.display())]
    Unreadable {
        what: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("the {what} file {path} cannot be used: {why}", path = path.display())]
    Invalid {
        what: &'static str,
        path: PathBuf,
        why: String,
    },
}

/// Both files as text: compared to see a change.
#[derive(PartialEq, Eq)]
struct Texts {
    policy: String,
    registry: String,
}

/// Reads both files.
pub fn read(loaded: &Loaded) -> Result<Rules, RulesError> {
    parse(loaded, &read_texts(loaded)?)
}

/// Reads a policy file alone: `countersign policy check`.
pub fn read_policy(path: &Path) -> Result<Policy, RulesError> {
    let text = read_text("policy", path)?;
    Policy::from_toml(&text).map_err(|error| invalid("policy", path, &error))
}

/// Reads a registry file alone.
pub fn read_registry(path: &Path) -> Result<Registry, RulesError> {
    let text = read_text("registry", path)?;
    Registry::from_toml(&text).map_err(|error| invalid("registry", path, &error))
}

/// Follows both files until the server ends.
pub async fn follow(app: SharedApp) {
    // Nothing is known yet: a file that changed since the rules in use were read is read again.
    let mut known: Option<Texts> = None;
    let mut reported: Option<RulesError> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.shutdown.cancelled() => return,
        }
        let texts = match read_texts(&app.loaded) {
            Ok(texts) => texts,
            Err(error) => {
                report(&mut reported, error);
                continue;
            }
        };
        if known.as_ref() == Some(&texts) {
            continue;
        }
        match parse(&app.loaded, &texts) {
            Ok(rules) => {
                let first = known.is_none() && rules.policy.hash() == app.rules().policy.hash();
                if !first {
                    tracing::info!(
                        policy = %rules.policy.hash(),
                        rules = rules.policy.rules.len(),
                        frozen = rules.policy.freeze.is_some(),
                        "policy and registry were read again"
                    );
                }
                *app.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
                reported = None;
            }
            Err(error) => report(&mut reported, error),
        }
        known = Some(texts);
    }
}

fn report(reported: &mut Option<RulesError>, error: RulesError) {
    if reported.as_ref() != Some(&error) {
        tracing::error!(%error, "the rules in use stay as they were");
        *reported = Some(error);
    }
}

fn parse(loaded: &Loaded, texts: &Texts) -> Result<Rules, RulesError> {
    let (policy, registry) = paths(loaded);
    Ok(Rules {
        policy: Arc::new(
            Policy::from_toml(&texts.policy).map_err(|error| invalid("policy", &policy, &error))?,
        ),
        registry: Arc::new(
            Registry::from_toml(&texts.registry)
                .map_err(|error| invalid("registry", &registry, &error))?,
        ),
    })
}

fn read_texts(loaded: &Loaded) -> Result<Texts, RulesError> {
    let (policy, registry) = paths(loaded);
    Ok(Texts {
        policy: read_text("policy", &policy)?,
        registry: read_text("registry", &registry)?,
    })
}

fn paths(loaded: &Loaded) -> (PathBuf, PathBuf) {
    let config = &loaded.config;
    (
        loaded.path(&config.policy_file),
        loaded.path(&config.registry_file),
    )
}

fn read_text(what: &'static str, path: &Path) -> Result<String, RulesError> {
    std::fs::read_to_string(path).map_err(|error| RulesError::Unreadable {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn invalid(what: &'static str, path: &Path, error: &impl ToString) -> RulesError {
    RulesError::Invalid {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    }
}
