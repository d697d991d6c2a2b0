//! Canonical bytes (RFC 8785) and their digests: what a person sees, what is signed and what is
//! enforced are the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Why a value has no canonical form here.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    #[error("not representable as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Numbers pass through f64 in canonical JSON, which turns 9007199254740993 into ...992.
    #[error("a signed object may hold strings only, found {found} at `{path}`")]
    NotAString { path: String, found: &'static str },
}

/// The RFC 8785 form of a value that holds only strings, arrays and objects.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<String, CanonicalError> {
    let value = serde_json::to_value(value)?;
    strings_only(&value, &mut String::new())?;
    Ok(serde_json_canonicalizer::to_string(&value)?)
}

fn strings_only(value: &Value, path: &mut String) -> Result<(), CanonicalError> {
    let found = match value {
        Value::String(_) => return Ok(()),
        Value::Array(items) => {
            let here = path.len();
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                strings_only(item, path)?;
                path.truncate(here);
            }
            return Ok(());
        }
        Value::Object(members) => {
            let here = path.len();
            for (key, item) in members {
                path.push('.');
                path.push_str(key);
                strings_only(item, path)?;
                path.truncate(here);
            }
            return Ok(());
        }
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
    };
    Err(CanonicalError::NotAString {
        path: path.clone(),
        found,
    })
}

/// SHA-256 over a prefix and canonical bytes. Text form: 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// SHA-256(prefix || 0x00 || bytes). The prefix keeps one kind of object from passing as another.
    pub fn of(prefix: &str, bytes: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(prefix.as_bytes());
        hash.update([0]);
        hash.update(bytes);
        Self(hash.finalize().into())
    }

    /// The first 12 hex digits: enough to compare by eye, never enough to decide by.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Digest of free text (a reason), so that a signed decision can bind it without carrying it.
pub fn digest_text(text: &str) -> Digest {
    Digest::of("countersign-text/v1", text.as_bytes())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "not a digest: expected 64 hex digits".to_owned())?;
        if hex::encode(bytes) == text {
            Ok(Self(bytes))
        } else {
            Err("not a digest: expected lowercase hex digits".to_owned())
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_bytes_do_not_depend_on_insertion_order() {
        let a = canonical_json(&json!({"b": "1", "a": ["x", {"d": "", "c": "é"}]})).unwrap();
        assert_eq!(a, r#"{"a":["x",{"c":"é","d":""}],"b":"1"}"#);
    }

    #[test]
    fn numbers_booleans_and_nulls_are_named_with_their_place() {
        let error = canonical_json(&json!({"a": {"b": ["x", 9007199254740993u64]}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a signed object may hold strings only, found a number at `.a.b[1]`"
        );
        assert!(canonical_json(&json!({"a": null})).is_err());
        assert!(canonical_json(&json!([true])).is_err());
    }

    #[test]
    fn a_prefix_separates_kinds_of_objects() {
        assert_ne!(Digest::of("a", b"x"), Digest::of("b", b"x"));
        // The zero byte keeps ("ab","c") and ("a","bc") apart.
        assert_ne!(Digest::of("ab", b"c"), Digest::of("a", b"bc"));
    }
}
