//! The executor's own policy, registry and attestation keys, read again when the files change.
//!
//! A bad new file keeps what was read before: an executor that forgot its rules could not even
//! refuse properly. But what cannot be read may be a revocation, so nothing is admitted or carried
//! out until the file is mended, and the heartbeat tells.

use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::{Context as _, bail};
use countersign_domain::{Code, KeyRing, Policy, Reason, Registry, Tier};

use crate::config::Config;

const UNTIL_MENDED: &str = "nothing is admitted or carried out until it is mended";

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
        // It opens the tickets and may well move them: no human said anything then.
        if let Some(person) = config
            .jira
            .as_ref()
            .and_then(|jira| registry.by_jira_account(&jira.bot_account_id))
        {
            bail!(
                "the registry {} is not valid: person `{}` has the Jira account of \
                 `jira.bot_account_id`, which is the bot's",
                config.registry_file.display(),
                person.id
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
        let now = Now {
            rules: Arc::new(Rules::read(&config)?),
            attestation: Arc::new(attestation),
            // So that what changes while we start is read, too.
            seen: Default::default(),
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

    /// Why nothing may be admitted or carried out by these rules. The details are for operators.
    pub fn unusable(&self) -> Option<Reason> {
        self.read().problem.as_ref().map(|_| {
            Reason::new(
                Code::PolicyUnmet,
                "the executor's new policy, registry or key file cannot be used; nothing is \
                 carried out until it is mended",
            )
        })
    }

    /// Looks at the files again; parses only when their text changed.
    pub fn refresh(&self) {
        let found = match texts(&self.config) {
            Ok(found) if found == self.read().seen => return,
            Ok(found) => found,
            Err(error) => {
                // Forgotten, so that the same text is parsed again once it can be read again.
                self.write().seen = Default::default();
                return self.complain(&format!("{error:#}; {UNTIL_MENDED}"));
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
                self.complain(&format!("{error:#}; {UNTIL_MENDED}"));
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
        assert_eq!(watched.unusable().unwrap().code, Code::PolicyUnmet);

        std::fs::write(&policy, RULE.replace("\"low\"", "\"high\"")).unwrap();
        watched.refresh();
        assert_eq!(watched.problem(), None);
        assert_eq!(watched.unusable(), None);
        assert_ne!(watched.rules().policy.hash(), hash);
    }

    #[test]
    fn what_changed_while_starting_is_read_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, RULE).unwrap();
        let watched = start(folder.path()).unwrap();
        let hash = watched.rules().policy.hash();
        std::fs::write(&policy, RULE.replace("\"low\"", "\"high\"")).unwrap();
        watched.refresh();
        assert_ne!(watched.rules().policy.hash(), hash);
    }

    #[test]
    fn the_bots_account_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("policy.toml"), RULE).unwrap();
        start(folder.path()).unwrap();
        let path = folder.path().join("executor.toml");
        let jira = "[jira]\nbase_url=\"https://x\"\nemail=\"e\"\ntoken=\"t\"\nproject_id=\"1\"\n\
            issue_type_id=\"1\"\nbot_account_id=\"bot\"\napproving_status_ids=[\"5\"]\n\
            declining_status_ids=[\"6\"]\n";
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + jira).unwrap();
        let config = Config::load(&path).unwrap();
        let registry = "[[person]]\nid=\"ann\"\ngroups=[]\njira=[\"bot\"]\n";
        let error = Rules::parse(&config, RULE, registry).unwrap_err();
        assert!(format!("{error:#}").contains("`ann`"), "{error:#}");
        let registry = registry.replace("bot", "ann-1");
        assert!(Rules::parse(&config, RULE, &registry).is_ok());
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
