//! Label selectors, matched as the API server matches them.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::untrusted;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    pub key: String,
    pub operator: SelectorOperator,
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Every requirement holds. An empty selector matches everything; `NotIn` also holds where
    /// the key is missing.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }
}

impl LabelSelector {
    /// As the API takes it in a query, such as `app=web,tier notin (db)`.
    #[must_use]
    pub fn query(&self) -> String {
        let labels = self.match_labels.iter();
        let labels = labels.map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|one| {
            let (key, values) = (&one.key, one.values.join(","));
            match one.operator {
                SelectorOperator::In => format!("{key} in ({values})"),
                SelectorOperator::NotIn => format!("{key} notin ({values})"),
                SelectorOperator::Exists => key.clone(),
                SelectorOperator::DoesNotExist => format!("!{key}"),
            }
        });
        labels.chain(expressions).collect::<Vec<_>>().join(",")
    }
}

/// Why a text is no label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{part}` is not a part of a label selector: write parts such as app=web, tier!=cache, \
     env in (prod,staging), zone notin (a), canary or !canary, with commas between them"
)]
pub struct BadSelector {
    part: String,
}

/// As in `kubectl get -l`: `app=web,tier in (front,back),!canary`.
impl FromStr for LabelSelector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let mut depth = 0_u32;
        let parts = text.split(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        let match_expressions = parts
            .map(|part| {
                requirement(part.trim()).ok_or_else(|| BadSelector {
                    part: untrusted::line(part, 80),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            match_labels: BTreeMap::new(),
            match_expressions,
        })
    }
}

fn requirement(part: &str) -> Option<Requirement> {
    use SelectorOperator as Op;
    let (key, operator, values) = if let Some((key, list)) = set(part, " notin ") {
        (key, Op::NotIn, list)
    } else if let Some((key, list)) = set(part, " in ") {
        (key, Op::In, list)
    } else if let Some((key, value)) = part.split_once("!=") {
        (key, Op::NotIn, vec![value])
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Op::In, vec![value])
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Op::DoesNotExist, Vec::new())
    } else {
        (part, Op::Exists, Vec::new())
    };
    let plain = |text: &str, more: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
        text.chars().all(fits)
    };
    let (key, values): (&str, Vec<&str>) = (key.trim(), values.iter().map(|v| v.trim()).collect());
    let sound = !key.is_empty()
        && key.len() <= 317
        && plain(key, "/")
        && values
            .iter()
            .all(|value| value.len() <= 63 && plain(value, ""));
    sound.then(|| Requirement {
        key: key.to_owned(),
        operator,
        values: values.into_iter().map(str::to_owned).collect(),
    })
}

/// `key in (a, b)` as the key and the values.
fn set<'a>(part: &'a str, operator: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (key, list) = part.split_once(operator)?;
    let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some((key, list.split(',').collect()))
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector: LabelSelector = serde_json::from_str(selector).unwrap();
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        selector.matches(&labels)
    }

    #[test]
    fn a_query_says_the_same() {
        let selector: LabelSelector = serde_json::from_str(
            r#"{"matchLabels":{"app":"web"},"matchExpressions":[
                {"key":"tier","operator":"NotIn","values":["a","b"]},
                {"key":"old","operator":"DoesNotExist"}]}"#,
        )
        .unwrap();
        assert_eq!(selector.query(), "app=web,tier notin (a,b),!old");
    }

    #[test]
    fn matches_as_the_api_server_does() {
        let labels = [("app", "web"), ("tier", "front")];
        assert!(matches("{}", &labels));
        assert!(matches("{}", &[]));
        assert!(matches(r#"{"matchLabels":{"app":"web"}}"#, &labels));
        assert!(!matches(
            r#"{"matchLabels":{"app":"web","x":"y"}}"#,
            &labels
        ));
        let one = |operator: &str, key: &str, values: &str| {
            let text = format!(
                r#"{{"matchExpressions":[{{"key":"{key}","operator":"{operator}"{values}}}]}}"#
            );
            matches(&text, &labels)
        };
        assert!(one("In", "app", r#","values":["api","web"]"#));
        assert!(!one("In", "zone", r#","values":["a"]"#));
        assert!(!one("NotIn", "app", r#","values":["web"]"#));
        assert!(one("NotIn", "zone", r#","values":["a"]"#));
        assert!(one("Exists", "tier", ""));
        assert!(one("DoesNotExist", "zone", ""));
        assert!(!one("DoesNotExist", "app", ""));
    }

    #[test]
    fn is_read_as_kubectl_reads_it() {
        let labels: BTreeMap<String, String> = [("app", "web"), ("example.org/tier", "front")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let holds = |text: &str| text.parse::<LabelSelector>().unwrap().matches(&labels);
        for yes in [
            "app=web",
            "app==web",
            "app in (api, web),!canary",
            "example.org/tier notin (back),app",
            "zone!=a",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "app=api",
            "app!=web",
            "canary",
            "app notin (web)",
            "!app",
            "zone=",
            "app in (a)",
        ] {
            assert!(!holds(no), "{no}");
        }
        for bad in [
            "",
            ",",
            "app=web,",
            "a b",
            "app in web",
            "=x",
            "app=web;rm",
            "a=b=c",
            "&",
        ] {
            let told = bad.parse::<LabelSelector>().unwrap_err().to_string();
            assert!(told.contains("app=web"), "{bad}: {told}");
        }
    }
}
