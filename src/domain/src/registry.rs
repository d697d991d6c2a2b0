//! The registry: which people there are, in which groups, and which people speak through which
//! agent. The executor reads its own file; whoever can write that file can approve.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// A person who may approve.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub id: String,
    /// As shown to people; the id when absent.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub groups: Vec<String>,
    /// Jira account ids of this person.
    #[serde(default)]
    pub jira: Vec<String>,
    pub valid_from: Option<Timestamp>,
    pub valid_until: Option<Timestamp>,
}

/// An AI client, and every person who can speak through it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub id: String,
    pub people: Vec<String>,
}

/// People, agents, the accounts of our own bots, and a deny list.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    people: BTreeMap<String, Person>,
    agents: BTreeMap<String, Agent>,
    jira_bots: Vec<String>,
    denied: Vec<String>,
}

/// The registry file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistryError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    person: Vec<Person>,
    #[serde(default)]
    agent: Vec<Agent>,
    #[serde(default)]
    jira_bots: Vec<String>,
    /// Action ids or statement digests that must never run.
    #[serde(default)]
    deny: Vec<String>,
}

impl Registry {
    pub fn from_toml(text: &str) -> Result<Self, RegistryError> {
        let file: File = toml::from_str(text)
            .map_err(|error| RegistryError(error.to_string().trim().to_owned()))?;
        let mut registry = Self {
            jira_bots: file.jira_bots,
            denied: file.deny,
            ..Self::default()
        };
        let mut accounts: BTreeMap<String, String> = BTreeMap::new();
        for mut person in file.person {
            check_id("person", &person.id)?;
            if person.name.is_empty() {
                person.name.clone_from(&person.id);
            }
            for account in &person.jira {
                // Two people with one account would let one move fill two seats.
                if let Some(other) = accounts.insert(account.clone(), person.id.clone()) {
                    return Err(RegistryError(format!(
                        "Jira account `{account}` belongs to both `{other}` and `{}`",
                        person.id
                    )));
                }
                if registry.jira_bots.contains(account) {
                    return Err(RegistryError(format!(
                        "Jira account `{account}` is listed as a bot and as person `{}`",
                        person.id
                    )));
                }
            }
            if let Some(twice) = registry.people.insert(person.id.clone(), person) {
                return Err(RegistryError(format!("person `{}` stands twice", twice.id)));
            }
        }
        for agent in file.agent {
            check_id("agent", &agent.id)?;
            if agent.people.is_empty() {
                return Err(RegistryError(format!(
                    "agent `{}` lists no people: name everyone who can speak through it",
                    agent.id
                )));
            }
            if let Some(unknown) = agent
                .people
                .iter()
                .find(|id| !registry.people.contains_key(*id))
            {
                return Err(RegistryError(format!(
                    "agent `{}` names person `{unknown}`, who is not in the registry",
                    agent.id
                )));
            }
            if let Some(twice) = registry.agents.insert(agent.id.clone(), agent) {
                return Err(RegistryError(format!("agent `{}` stands twice", twice.id)));
            }
        }
        Ok(registry)
    }

    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// The person, valid or not: for names on pages.
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.people.get(id)
    }

    /// The person, if valid at that time.
    pub fn valid_person(&self, id: &str, at: Timestamp) -> Option<&Person> {
        self.people.get(id).filter(|person| {
            person.valid_from.is_none_or(|from| from <= at)
                && person.valid_until.is_none_or(|until| at < until)
        })
    }

    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    /// The person who owns this Jira account, valid or not; never a bot.
    pub fn by_jira_account(&self, account: &str) -> Option<&Person> {
        self.people
            .values()
            .find(|person| person.jira.iter().any(|id| id == account))
    }

    /// The person who owns this Jira account, if valid at that time: who has left says nothing more,
    /// not even no. What was said before stands, so a "no" is looked at as of when it was said.
    pub fn valid_jira_account(&self, account: &str, at: Timestamp) -> Option<&Person> {
        let owner = self.by_jira_account(account)?;
        self.valid_person(&owner.id, at)
    }

    pub fn is_jira_bot(&self, account: &str) -> bool {
        self.jira_bots.iter().any(|id| id == account)
    }

    /// Whether the deny list names this action id or digest.
    pub fn denies(&self, id_or_digest: &str) -> bool {
        self.denied.iter().any(|entry| entry == id_or_digest)
    }

    /// Whether the person is one of those who can speak through the agent. Unknown agents count as
    /// everyone: they are denied before this matters.
    pub fn is_behind(&self, person: &str, agent: &str) -> bool {
        self.agents
            .get(agent)
            .is_none_or(|agent| agent.people.iter().any(|id| id == person))
    }
}

fn check_id(what: &str, id: &str) -> Result<(), RegistryError> {
    let fits = !id.is_empty()
        && id.len() <= 64
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(RegistryError(format!(
            "{what} id `{id}`: use 1 to 64 letters, digits and - _ . @ only"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        for (text, want) in [
            ("[[person]]\nid=\"a b\"", "a b"),
            ("[[person]]\nid=\"a\"\n[[person]]\nid=\"a\"", "stands twice"),
            ("[[agent]]\nid=\"x\"\npeople=[\"nobody\"]", "nobody"),
            ("[[agent]]\nid=\"x\"\npeople=[]", "lists no people"),
            (
                "[[person]]\nid=\"a\"\njira=[\"1\"]\n[[person]]\nid=\"b\"\njira=[\"1\"]",
                "both",
            ),
            (
                "jira_bots=[\"1\"]\n[[person]]\nid=\"b\"\njira=[\"1\"]",
                "bot",
            ),
            ("persons=[]", "persons"),
        ] {
            let error = Registry::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn validity_is_half_open() {
        let registry =
            Registry::from_toml("[[person]]\nid=\"a\"\nvalid_until=\"2026-01-01T00:00:00Z\"\n")
                .unwrap();
        assert!(
            registry
                .valid_person("a", "2025-12-31T23:59:59Z".parse().unwrap())
                .is_some()
        );
        assert!(
            registry
                .valid_person("a", "2026-01-01T00:00:00Z".parse().unwrap())
                .is_none()
        );
        assert_eq!(registry.person("a").unwrap().name, "a");
    }
}
