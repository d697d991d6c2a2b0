//! What the tools take. The schema that a client sees is also what checks a call: unknown names,
//! wrong types, lengths and shapes are found from it, so that the two cannot drift apart, and each
//! mistake is a sentence that tells a model what to change.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use countersign_integrations::near_matches::near_matches;
use regex::Regex;
use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answers::Complaint;

mod actions;
mod cluster;
mod logs;
pub(super) mod shapes;
mod workloads;

pub use actions::*;
pub use cluster::*;
pub use logs::*;
pub use workloads::*;

/// A DNS-1123 label; the API server enforces the same.
const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A DNS-1123 subdomain.
const POD: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// The operator's names.
const CLUSTER: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.:/@]*[A-Za-z0-9])?$";
/// A name, with a kind in front or without.
const WORKLOAD: &str = "^([A-Za-z]+/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// A cursor or a key: printable ASCII without spaces.
const OPAQUE: &str = "^[!-~]+$";
/// A label selector's letters; the API server judges the rest.
const SELECTOR: &str = "^[-A-Za-z0-9_./=!,() ]+$";
/// A kind of object, as manifests write it.
const KIND: &str = "^[A-Z][A-Za-z0-9]*$";

/// Fits a call's arguments to a tool's schema and type.
///
/// # Errors
/// One sentence about the first mistake.
pub fn fit<T: DeserializeOwned>(
    tool: &str,
    schema: &JsonObject,
    mut arguments: JsonObject,
) -> Result<T, Complaint> {
    let none = JsonObject::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let bad = |sentence: String| Complaint::new("invalid_arguments", sentence);

    for name in arguments.keys() {
        if !properties.contains_key(name) {
            let shown = countersign_domain::one_line(name, 64);
            let near = near_matches(name, names.iter().copied());
            let advice = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{tool} takes: {}", names.join(", ")),
            };
            return Err(bad(format!(
                "`{shown}` is not an argument of {tool}; {advice}"
            )));
        }
    }
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .map(Vec::as_slice);
    for name in required
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
    {
        if arguments.get(name).is_none_or(Value::is_null) {
            let about = properties.get(name).and_then(|p| p.get("description"));
            let about = about.and_then(Value::as_str).unwrap_or_default();
            return Err(bad(format!("`{name}` is missing. {about}")
                .trim_end()
                .to_owned()));
        }
    }
    // An explicit null means the same as leaving an optional argument out.
    arguments.retain(|_, value| !value.is_null());
    for (name, value) in &mut arguments {
        if let Some(property) = properties.get(name) {
            check(
                name,
                value,
                property,
                required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name))),
            )
            .map_err(bad)?;
        }
    }
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| bad(format!("the arguments do not fit {tool}: {error}")))
}

fn check(name: &str, value: &mut Value, property: &Value, required: bool) -> Result<(), String> {
    let number = |key: &str| property.get(key).and_then(Value::as_u64);
    if let Some(words) = property.get("enum").and_then(Value::as_array) {
        if words.contains(value) {
            return Ok(());
        }
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return Err(format!(
            "`{name}` is not one of its words: use {}",
            words.join(", ")
        ));
    }
    match property.get("type").and_then(Value::as_str) {
        Some("string") => {
            let Value::String(text) = value else {
                return Err(format!("`{name}` must be a text"));
            };
            if property
                .get("format")
                .is_some_and(|format| format == "regex")
            {
                // A pattern means each of its characters, and "null" is worth looking for.
                return pattern_fits(name, text, number("maxLength"));
            }
            text_fits(name, text, property, number("maxLength"), required)
        }
        Some("integer") => {
            let (least, most) = (number("minimum").unwrap_or(0), number("maximum"));
            let fits = value
                .as_u64()
                .is_some_and(|n| n >= least && most.is_none_or(|most| n <= most));
            let most = most.map_or_else(String::new, |most| format!(" to {most}"));
            if fits {
                Ok(())
            } else {
                Err(format!(
                    "`{name}` must be a whole number from {least}{most}, not in quotes"
                ))
            }
        }
        Some("boolean") if !value.is_boolean() => {
            Err(format!("`{name}` must be true or false, not in quotes"))
        }
        _ => Ok(()),
    }
}

fn pattern_fits(name: &str, text: &str, longest: Option<u64>) -> Result<(), String> {
    let count = text.chars().count() as u64;
    match longest.filter(|longest| count > *longest) {
        Some(longest) => Err(format!(
            "`{name}` has {count} characters; at most {longest} are allowed: shorten it"
        )),
        None if text.is_empty() => Err(format!("`{name}` is blank: leave it out or fill it")),
        None => Ok(()),
    }
}

fn text_fits(
    name: &str,
    text: &mut String,
    property: &Value,
    longest: Option<u64>,
    required: bool,
) -> Result<(), String> {
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        *text = trimmed.to_owned();
    }
    let instead = if required {
        "give its real value"
    } else {
        "leave it out or give its real value"
    };
    if text.is_empty() {
        return Err(format!("`{name}` is blank: {instead}"));
    }
    if ["null", "none", "undefined", "nil", "n/a"]
        .iter()
        .any(|w| text.eq_ignore_ascii_case(w))
    {
        return Err(format!(
            "`{name}` is the word \"{text}\", not a value: {instead}"
        ));
    }
    let count = text.chars().count() as u64;
    if let Some(longest) = longest.filter(|longest| count > *longest) {
        return Err(format!(
            "`{name}` has {count} characters; at most {longest} are allowed: shorten it"
        ));
    }
    let Some(pattern) = property.get("pattern").and_then(Value::as_str) else {
        return Ok(());
    };
    if matches(pattern, text) {
        return Ok(());
    }
    let shown = countersign_domain::one_line(text, 80);
    let wanted = match pattern {
        NAMESPACE => "use lower-case letters, digits and `-`, with a letter or digit at both ends",
        POD => {
            "use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends \
                (the name alone, without `pod/` or a namespace)"
        }
        UUID => {
            "pass it exactly as it was returned, 36 characters like \
                 01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10"
        }
        SELECTOR => "use a Kubernetes label selector such as app=web,tier!=db",
        KIND => "use the kind as manifests write it, such as Pod, Deployment or Node",
        WORKLOAD => "write Kind/name such as Deployment/web, or the name alone",
        CLUSTER => "use a cluster id as list_failing_pods shows it",
        _ => "use printable characters without spaces",
    };
    Err(format!("`{name}` = \"{shown}\" cannot be right: {wanted}"))
}

fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    compiled
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok())
        .as_ref()
        .is_some_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sentence(arguments: &Value) -> String {
        let schema = super::super::schema::input::<RestartPod>();
        let arguments = arguments.as_object().unwrap().clone();
        match fit::<RestartPod>("restart_pod", &schema, arguments) {
            Ok(arguments) => format!("{arguments:?}"),
            Err(complaint) => complaint.message,
        }
    }

    #[test]
    fn each_mistake_is_a_sentence_that_says_what_to_change() {
        let good = json!({"namespace": "shop", "pod": "web-1", "reason": "OOM since 02:00"});
        let with = |name: &str, value: Value| {
            let mut all = good.clone();
            all[name] = value;
            sentence(&all)
        };
        assert!(sentence(&good).starts_with("RestartPod {"));
        assert!(with("cluster", Value::Null).contains("cluster: None"));
        assert!(with("pod", json!(" web-1 ")).contains("\"web-1\""));
        for (name, value, want) in [
            ("pod", json!(""), "`pod` is blank"),
            ("pod", json!("null"), "is the word \"null\""),
            ("cluster", json!("undefined"), "leave it out"),
            ("pod", json!("../secrets"), "cannot be right"),
            ("pod", json!("Web_1"), "lower-case"),
            ("pod", json!("a".repeat(254)), "254 characters"),
            ("namespace", json!(7), "must be a text"),
            ("namespace", Value::Null, "`namespace` is missing"),
            ("reason", json!("x".repeat(2001)), "at most 2000"),
            ("namespce", json!("shop"), "did you mean `namespace`?"),
            (
                "force",
                json!(true),
                "restart_pod takes: cluster, namespace, pod",
            ),
            ("idempotency_key", json!("two words"), "without spaces"),
        ] {
            let told = with(name, value.clone());
            assert!(told.contains(want), "{name}={value}: {told}");
        }
    }

    #[test]
    fn numbers_and_words_are_checked_by_their_schema() {
        let fit = |arguments: Value| {
            let schema = super::super::schema::input::<ListActions>();
            let arguments = arguments.as_object().unwrap().clone();
            super::fit::<ListActions>("list_actions", &schema, arguments)
                .map_err(|complaint| complaint.message)
        };
        assert_eq!(
            fit(json!({"state": "open", "limit": 3})).unwrap().limit,
            Some(3)
        );
        assert!(
            fit(json!({"limit": "3"}))
                .unwrap_err()
                .contains("from 1 to 100, not in quotes")
        );
        assert!(
            fit(json!({"limit": 0}))
                .unwrap_err()
                .contains("from 1 to 100")
        );
        assert!(
            fit(json!({"state": "done"}))
                .unwrap_err()
                .contains("use open, checking")
        );
    }
}
