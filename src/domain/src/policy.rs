//! The policy: ordered rules in TOML, first match wins, no match is a denial.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::action::{ActionKind, word_enum};
use crate::canonical::Digest;
use crate::decision::Channel;
use crate::statement::{Count, Statement};

word_enum! {
    /// How much friction a decision deserves.
    Risk, "risk" {
        Low => "low",
        Medium => "medium",
        High => "high",
    }
}

word_enum! {
    /// How strong an approval's evidence is; a requirement means "at least".
    Tier, "evidence tier" {
        /// A click in the playground: no security at all.
        Playground => "0",
        /// A log-in session attested by the server, or the executor's own look at the ticket.
        Attested => "1",
    }
}

/// Who must approve: `count` different people of `group`, each with evidence of at least `tier`,
/// given through one of `channels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    pub group: String,
    pub count: Count,
    pub tier: Tier,
    pub channels: Vec<Channel>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub actions: Vec<ActionKind>,
    /// Exact names, or a prefix that ends in `*`.
    pub clusters: Vec<String>,
    pub namespaces: Vec<String>,
    /// Labels that the target must carry, all of them.
    pub labels: BTreeMap<String, String>,
    pub risk: Risk,
    pub require: Vec<Requirement>,
    pub decide_within: SignedDuration,
    pub execute_within: SignedDuration,
    /// How long the outcome may take, counted from the write.
    pub success_within: SignedDuration,
    /// Whether a person behind the agent may approve: for a workstation used alone.
    pub allow_requester: bool,
}

/// An emergency stop. Stands outside the policy's hash: it holds actions, it does not kill them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Shown to people.
    pub reason: String,
}

/// The whole policy.
#[derive(Debug, Clone)]
pub struct Policy {
    pub rules: Vec<Rule>,
    pub freeze: Option<Freeze>,
    hash: Digest,
}

/// What a rule is matched against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub kind: ActionKind,
    pub cluster: &'a str,
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// The policy file cannot be used. The text names the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<RuleText>,
    freeze: Option<Freeze>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    actions: Vec<ActionKind>,
    clusters: Vec<String>,
    namespaces: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    risk: Risk,
    require: Vec<RequirementText>,
    decide_within: String,
    execute_within: String,
    #[serde(default = "two_minutes")]
    success_within: String,
    #[serde(default)]
    allow_requester: bool,
}

fn two_minutes() -> String {
    "2m".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementText {
    group: String,
    count: u32,
    tier: u8,
    channels: Vec<Channel>,
}

impl Policy {
    /// Reads and checks a policy file's text.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text)
            .map_err(|error| PolicyError(error.to_string().trim().to_owned()))?;
        let mut rules = Vec::with_capacity(file.rule.len());
        for rule in file.rule {
            let name = rule.name.clone();
            let rule = check(rule).map_err(|what| PolicyError(format!("rule `{name}`: {what}")))?;
            if rules.iter().any(|earlier: &Rule| earlier.name == rule.name) {
                return Err(PolicyError(format!(
                    "rule `{name}` stands twice; names are unique"
                )));
            }
            rules.push(rule);
        }
        let hash = hash(&rules)?;
        Ok(Self {
            rules,
            freeze: file.freeze,
            hash,
        })
    }

    /// The first rule that fits.
    pub fn rule_for(&self, subject: Subject<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(subject))
    }

    /// Digest over what the rules mean, not over the file's spelling. Without the freeze.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Rules that rest on the server's word alone, each with a sentence. For `policy check`.
    pub fn rests_on_server(&self) -> Vec<String> {
        self.rules
            .iter()
            .filter(|rule| {
                rule.require
                    .iter()
                    .all(|entry| entry.channels.contains(&Channel::Web))
            })
            .map(|rule| {
                format!(
                    "rule `{}` can be met by tier 1 web approvals alone: whoever steals the server \
                     can forge them",
                    rule.name
                )
            })
            .collect()
    }
}

impl Rule {
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        self.actions.contains(&subject.kind)
            && self
                .clusters
                .iter()
                .any(|pattern| fits(pattern, subject.cluster))
            && self
                .namespaces
                .iter()
                .any(|pattern| fits(pattern, subject.namespace))
            && self
                .labels
                .iter()
                .all(|(key, value)| subject.labels.get(key) == Some(value))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn check(text: RuleText) -> Result<Rule, String> {
    let named = |what: &str, list: &[String]| {
        if list.is_empty() || list.iter().any(|item| item.is_empty()) {
            Err(format!(
                "`{what}` needs at least one non-empty name (`\"*\"` means every one)"
            ))
        } else {
            Ok(())
        }
    };
    if text.name.is_empty() || text.name.len() > 63 {
        return Err("a rule's name has 1 to 63 characters".to_owned());
    }
    named("clusters", &text.clusters)?;
    named("namespaces", &text.namespaces)?;
    if text.actions.is_empty() {
        return Err("`actions` is empty: the rule can never match".to_owned());
    }
    if text.require.is_empty() {
        return Err("`require` is empty: nobody would have to approve".to_owned());
    }
    let mut require = Vec::with_capacity(text.require.len());
    for entry in text.require {
        if entry.count == 0 {
            return Err(format!(
                "group `{}`: `count` must be at least 1",
                entry.group
            ));
        }
        if entry.channels.is_empty() {
            return Err(format!(
                "group `{}`: name its `channels` (web, jira)",
                entry.group
            ));
        }
        let tier = match entry.tier {
            0 => Tier::Playground,
            1 => Tier::Attested,
            other => {
                return Err(format!(
                    "group `{}`: tier {other} is not available in this version; use 1",
                    entry.group
                ));
            }
        };
        require.push(Requirement {
            group: entry.group,
            count: Count(entry.count),
            tier,
            channels: entry.channels,
        });
    }
    let decide_within = duration("decide_within", &text.decide_within)?;
    let execute_within = duration("execute_within", &text.execute_within)?;
    if decide_within + execute_within > Statement::LIFETIME_CAP {
        return Err("`decide_within` + `execute_within` is more than 24 hours".to_owned());
    }
    Ok(Rule {
        name: text.name,
        actions: text.actions,
        clusters: text.clusters,
        namespaces: text.namespaces,
        labels: text.labels,
        risk: text.risk,
        require,
        decide_within,
        execute_within,
        success_within: duration("success_within", &text.success_within)?,
        allow_requester: text.allow_requester,
    })
}

/// Durations such as `90s`, `15m`, `1h 30m`; at least one second, at most a day.
fn duration(key: &str, text: &str) -> Result<SignedDuration, String> {
    let bad =
        || format!("`{key} = \"{text}\"` is not a duration such as \"90s\", \"15m\" or \"2h\"");
    let parsed: SignedDuration = text.parse().map_err(|_| bad())?;
    if parsed < SignedDuration::from_secs(1) || parsed > Statement::LIFETIME_CAP {
        return Err(format!("`{key}` must lie between 1s and 24h"));
    }
    Ok(parsed)
}

fn hash(rules: &[Rule]) -> Result<Digest, PolicyError> {
    #[derive(Serialize)]
    struct Canonical<'a> {
        name: &'a str,
        actions: &'a [ActionKind],
        clusters: &'a [String],
        namespaces: &'a [String],
        labels: &'a BTreeMap<String, String>,
        risk: Risk,
        require: &'a [Requirement],
        decide_within: String,
        execute_within: String,
        success_within: String,
        allow_requester: String,
    }
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| Canonical {
            name: &rule.name,
            actions: &rule.actions,
            clusters: &rule.clusters,
            namespaces: &rule.namespaces,
            labels: &rule.labels,
            risk: rule.risk,
            require: &rule.require,
            decide_within: rule.decide_within.as_secs().to_string(),
            execute_within: rule.execute_within.as_secs().to_string(),
            success_within: rule.success_within.as_secs().to_string(),
            allow_requester: rule.allow_requester.to_string(),
        })
        .collect();
    let json = crate::canonical_json(&rules).map_err(|error| PolicyError(error.to_string()))?;
    Ok(Digest::of("countersign-policy/v1", json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[rule]]
        name = "shop"
        actions = ["restart_pod"]
        clusters = ["prod-*"]
        namespaces = ["shop"]
        labels = { app = "checkout" }
        risk = "high"
        require = [{ group = "sre", count = 1, tier = 1, channels = ["web", "jira"] }]
        decide_within = "15m"
        execute_within = "5m"
    "#;

    fn subject<'a>(
        cluster: &'a str,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> Subject<'a> {
        Subject {
            kind: ActionKind::RestartPod,
            cluster,
            namespace,
            labels,
        }
    }

    #[test]
    fn first_match_wins_and_no_match_is_none() {
        let policy = Policy::from_toml(GOOD).unwrap();
        let labels = BTreeMap::from([("app".to_owned(), "checkout".to_owned())]);
        let none = BTreeMap::new();
        assert_eq!(
            policy
                .rule_for(subject("prod-eu", "shop", &labels))
                .unwrap()
                .name,
            "shop"
        );
        assert!(
            policy
                .rule_for(subject("staging", "shop", &labels))
                .is_none()
        );
        assert!(
            policy
                .rule_for(subject("prod-eu", "shop2", &labels))
                .is_none()
        );
        assert!(policy.rule_for(subject("prod-eu", "shop", &none)).is_none());
    }

    #[test]
    fn the_hash_follows_meaning_not_spelling_and_ignores_the_freeze() {
        let policy = Policy::from_toml(GOOD).unwrap();
        let respelled = GOOD.replace("\"15m\"", "\"900s\"") + "\n[freeze]\nreason = \"x\"\n";
        assert_eq!(policy.hash(), Policy::from_toml(&respelled).unwrap().hash());
        let wider = GOOD.replace("count = 1", "count = 2");
        assert_ne!(policy.hash(), Policy::from_toml(&wider).unwrap().hash());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_rule() {
        for (from, to, want) in [
            ("tier = 1, ", "", "tier"),
            ("tier = 1", "tier = 3", "tier 3 is not available"),
            ("count = 1", "count = 0", "at least 1"),
            ("\"15m\"", "\"soon\"", "decide_within"),
            ("\"15m\"", "\"30h\"", "between 1s and 24h"),
            ("risk = \"high\"", "risk = \"scary\"", "scary"),
            ("namespaces = [\"shop\"]", "namespaces = []", "namespaces"),
            (
                "name = \"shop\"",
                "name = \"shop\"\nwhenever = 1",
                "whenever",
            ),
            (
                "channels = [\"web\", \"jira\"]",
                "channels = []",
                "channels",
            ),
            ("[\"restart_pod\"]", "[\"drop_table\"]", "drop_table"),
        ] {
            let error = Policy::from_toml(&GOOD.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
