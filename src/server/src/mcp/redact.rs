//! A tool call's arguments as the audit log keeps them. An assistant pastes what it has read: a log
//! line with a token, a connection string, a key. None of it may reach the audit log; the engine
//! that takes it out is [`countersign_integrations::masking`], here are the bounds.

use countersign_integrations::masking::{MARK, announces_secret, mask};
use rmcp::model::JsonObject;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longest single value that is kept word for word, in characters.
const LONGEST_VALUE: usize = 256;
/// Longest text of all inputs of one call, in characters.
const LONGEST_INPUTS: usize = 2048;

/// A tool call's arguments as one JSON text for the audit log: secrets out, long values cut with
/// the hash of the whole, the total bounded.
#[must_use]
pub fn inputs(arguments: &JsonObject) -> String {
    let kept: JsonObject = arguments
        .iter()
        .map(|(name, value)| (short(&mask(name), 64), member(name, value)))
        .collect();
    let json = Value::Object(kept).to_string();
    if json.chars().count() <= LONGEST_INPUTS {
        return json;
    }
    // Still JSON for whoever reads the log with a program.
    serde_json::json!({ "cut": short(&json, LONGEST_INPUTS) }).to_string()
}

fn member(name: &str, value: &Value) -> Value {
    if announces_secret(name) && !value.is_null() {
        return Value::from(MARK);
    }
    match value {
        Value::String(word) => Value::from(short(&mask(word), LONGEST_VALUE)),
        Value::Array(items) => items.iter().take(20).map(|item| member("", item)).collect(),
        Value::Object(members) => {
            let members = members.iter().take(20);
            Value::Object(
                members
                    .map(|(k, v)| (short(&mask(k), 64), member(k, v)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// Cut to `most` characters; what was cut is bound by a hash of the (redacted) whole.
fn short(value: &str, most: usize) -> String {
    let count = value.chars().count();
    if count <= most {
        return countersign_domain::visible(value, most);
    }
    let hash = hex::encode(Sha256::digest(value.as_bytes()));
    let start: String = value.chars().take(most).collect();
    format!(
        "{}… ({} more characters, sha256 {})",
        countersign_domain::visible(&start, most),
        count - most,
        &hash[..16]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_names_and_values_at_any_depth() {
        let arguments = serde_json::json!({
            "reason": "failed with password=hunter2 and {\"api_key\":\"hunter2\"}",
            "n": [{"deep": "Authorization: Bearer hunter2x"}],
            "postgres://u:hunter2@db": "x",
        });
        let row = inputs(arguments.as_object().unwrap());
        assert!(!row.contains("hunter2"), "{row}");
        assert_eq!(row.matches(MARK).count(), 4, "{row}");
    }

    #[test]
    fn a_value_under_a_telling_name_is_taken_whatever_it_is() {
        let arguments = serde_json::json!({"db_password": "x", "pod": "web-1", "n": {"token": 7}});
        let row = inputs(arguments.as_object().unwrap());
        assert_eq!(
            row,
            r#"{"db_password":"[redacted]","pod":"web-1","n":{"token":"[redacted]"}}"#
        );
    }

    #[test]
    fn long_values_are_cut_and_hashed() {
        let arguments = serde_json::json!({"reason": "a ".repeat(1000)});
        let row = inputs(arguments.as_object().unwrap());
        assert!(
            row.len() < 400 && row.contains("1744 more characters, sha256 "),
            "{row}"
        );
        let many: JsonObject = (0..100)
            .map(|n| (format!("k{n}"), Value::from("b ".repeat(100))))
            .collect();
        assert!(inputs(&many).chars().count() < 2300);
    }
}
