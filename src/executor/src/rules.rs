//! The executor's own policy, registry and attestation keys, read again when the files change.
//!
//! A bad new file keeps what was read before: an executor that forgot its rules could not even
//! refuse properly. It is told in the heartbeat until the file is mended.

use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::{Context as _, bail};
use countersign_domain::{KeyRing, Policy, Registry, Tier};

use crate::config::Config;

/// One consistent set of rules.
#[derive(Debug, Clone)]
pub struct Rules {
    pub policy: Policy,
    pub registry: Registry,
}

impl Rules {
    /// Reads both files.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let policy = text_of(&config.policy_file)?;
        let registry = text_of(&config.registry_file)?;
        Self::parse(config, &policy, &registry)
    }

    fn parse(config: &Config, policy: &str, registry: &str) -> anyhow::Result<Self> {
        let policy = Policy::from_toml(policy)
            .with_context(|| format!("the policy {} is not valid", config.policy_file.display()))?;
        let registry = Registry::from_toml(registry).with_context(|| {
            format!(
                "the registry {} is not valid",
                config.registry_file.display()
            )
        })?;
        if !config.playground
            && let Some(rule) = policy.rules.iter().find(|rule| {
                rule.require
                    .iter()
                    .any(|entry| entry.tier == Tier::Playground)
            })
        {
            bail!(
                "the policy {} is not valid: rule `{}` asks for tier 0, which is no evidence; it \
                 works with `playground = true` only",
                config.policy_file.display(),
                rule.name
            );
        }
        Ok(Self { policy, registry })
    }
}

/// The current rules and what is wrong with the newest files, if anything.
pub struct Watched {
    config: Arc<Config>,
    now: RwLock<Now>,
}

struct Now {
    rules: Arc<Rules>,
    attestation: Arc<KeyRing>,
    seen: [String; 3],
    problem: Option<String>,
}

impl Watched {
    /// Starts from files that must be good.
    pub fn start(config: Arc<Config>, attestation: KeyRing) -> anyhow::Result<Self> {
        let rules = Arc::new(Rules::read(&config)?);
        let seen = texts(&config)?;
        let now = Now {
            rules,
            attestation: Arc::new(attestation),
            seen,
            problem: None,
        };
        Ok(Self {
            config,
            now: RwLock::new(now),
        })
    }

    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.read().rules)
    }

    pub fn attestation_keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.read().attestation)
    }

    /// A sentence when the newest files cannot be used.
    pub fn problem(&self) -> Option<String> {
        self.read().problem.clone()
    }

    /// Looks at the files again; parses only when their text changed.
    pub fn refresh(&self) {
        let found = match texts(&self.config) {
            Ok(found) if found == self.read().seen => return,
            Ok(found) => found,
            Err(error) => {
                // Forgotten, so that the same text is parsed again once it can be read again.
                self.write().seen = Default::default();
                return self.complain(&format!("{error:#}; the files read before stay in force"));
            }
        };
        let [policy, registry, keys] = &found;
        let parsed = Rules::parse(&self.config, policy, registry).and_then(|rules| {
            let keys = KeyRing::from_text(keys).context("the server's public key is not valid")?;
            Ok((rules, keys))
        });
        match parsed {
            Ok((rules, keys)) => {
                tracing::info!(policy_hash = %rules.policy.hash(), "policy and registry read again");
                let mut now = self.write();
                now.rules = Arc::new(rules);
                now.attestation = Arc::new(keys);
                now.seen = found;
                now.problem = None;
            }
            Err(error) => {
                self.complain(&format!("{error:#}; the files read before stay in force"));
                self.write().seen = found;
            }
        }
    }

    fn complain(&self, sentence: &str) {
        let mut now = self.write();
        if now.problem.as_deref() != Some(sentence) {
            tracing::error!(
                problem = sentence,
                "policy, registry or keys cannot be used"
            );
            now.problem = Some(sentence.to_owned());
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Now> {
        self.now
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Now> {
        self.now
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn texts(config: &Config) -> anyhow::Result<[String; 3]> {
    Ok([
        text_of(&config.policy_file)?,
        text_of(&config.registry_file)?,
        text_of(&config.keys.attestation_public_key_file)?,
    ])
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use countersign_domain::{OsEntropy, Signer};

    use super::*;

    const RULE: &str = "[[rule]]\nname=\"a\"\nactions=[\"restart_pod\"]\nclusters=[\"*\"]\n\
        namespaces=[\"*\"]\nrisk=\"low\"\ndecide_within=\"5m\"\nexecute_within=\"5m\"\n\
        require=[{group=\"g\",count=1,tier=1,channels=[\"web\"]}]\n";

    fn start(folder: &Path) -> anyhow::Result<Watched> {
        let keys = Signer::generate(&OsEntropy);
        std::fs::write(folder.join("server.pub"), keys.public_text())?;
        std::fs::write(folder.join("registry.toml"), "")?;
        let path = folder.join("executor.toml");
        std::fs::write(
            &path,
            "policy_file=\"policy.toml\"\nregistry_file=\"registry.toml\"\n\
             [database]\nurl=\"sqlite:///x\"\n\
             [cluster]\nid=\"c\"\nin_cluster=true\ncluster_lock=\"absent\"\n\
             [keys]\nfile=\"k\"\npublic_file=\"p\"\n\
             attestation_public_key_file=\"server.pub\"\n",
        )?;
        Watched::start(Arc::new(Config::load(&path)?), keys.key_ring())
    }

    #[test]
    fn a_bad_file_keeps_the_old_rules_and_is_told_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, RULE).unwrap();
        let watched = start(folder.path()).unwrap();
        let hash = watched.rules().policy.hash();

        std::fs::write(&policy, "nonsense").unwrap();
        watched.refresh();
        assert_eq!(watched.rules().policy.hash(), hash);
        assert!(
            watched
                .problem()
                .unwrap()
                .contains("policy.toml is not valid")
        );

        std::fs::remove_file(&policy).unwrap();
        watched.refresh();
        assert!(watched.problem().unwrap().contains("cannot read"));

        std::fs::write(&policy, RULE.replace("\"low\"", "\"high\"")).unwrap();
        watched.refresh();
        assert_eq!(watched.problem(), None);
        assert_ne!(watched.rules().policy.hash(), hash);
    }

    #[test]
    fn tier_0_is_for_the_playground_only() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, RULE.replace("tier=1", "tier=0")).unwrap();
        let error = format!("{:#}", start(folder.path()).err().unwrap());
        assert!(error.contains("playground = true"), "{error}");
    }
}
