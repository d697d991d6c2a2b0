//! Label selectors, matched as the API server matches them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
}
