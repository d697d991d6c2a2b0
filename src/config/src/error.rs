//! What can be wrong with a configuration, as sentences for the person who writes it.

use std::path::PathBuf;

use figment::error::{Actual, Kind};

/// One mistake in the configuration. The text never contains a configured value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not valid TOML (line {line}, column {column}): {message}", path = path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    #[error("the environment variable {variable} {problem}")]
    Environment { variable: String, problem: String },
    #[error("unknown key `{key}` in {place}: {advice}")]
    UnknownKey {
        key: String,
        place: String,
        advice: String,
    },
    #[error("missing key `{key}`: set it in {places}")]
    MissingKey { key: String, places: String },
    #[error("`{key}` in {place} is {found}, but {expected} is expected")]
    WrongType {
        key: String,
        place: String,
        found: String,
        expected: String,
    },
    #[error("`{key}` in {place} is not valid: {problem}")]
    Invalid {
        key: String,
        place: String,
        problem: String,
    },
}

/// "did you mean" for the closest of `real`, else the list of them.
///
/// `prefix` is the dotted path of the section, `rest` what followed the unknown part.
pub(crate) fn advice(prefix: &str, wrong: &str, rest: &str, real: &[&str]) -> String {
    let closest = real
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min();
    match closest {
        Some((_, name)) => format!("did you mean `{prefix}{name}{rest}`?"),
        None if real.is_empty() => "no key is allowed there".to_owned(),
        None => {
            let mut names = real.to_vec();
            names.sort_unstable();
            let names: Vec<_> = names
                .iter()
                .map(|name| format!("`{prefix}{name}`"))
                .collect();
            format!("the keys there are {}", names.join(", "))
        }
    }
}

/// The kind of a value without the value.
fn kind_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a decimal number",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Bytes(_) => "bytes",
        Actual::Seq => "a list",
        Actual::Map | Actual::Enum | Actual::StructVariant => "a section",
        _ => "a value of another kind",
    }
}

/// Turns serde's finding at `key` of `place` into a sentence.
pub(crate) fn from_kind(kind: Kind, key: String, place: String) -> ConfigError {
    match kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            ConfigError::WrongType {
                key,
                place,
                found: kind_of(&found).to_owned(),
                expected,
            }
        }
        Kind::InvalidLength(length, expected) => ConfigError::WrongType {
            key,
            place,
            found: format!("a list of {length}"),
            expected,
        },
        Kind::UnknownVariant(_, real) => {
            let names: Vec<_> = real.iter().map(|name| format!("`{name}`")).collect();
            ConfigError::Invalid {
                key,
                place,
                problem: format!("use one of {}", names.join(", ")),
            }
        }
        Kind::DuplicateField(field) => ConfigError::Invalid {
            key,
            place,
            problem: format!("`{field}` is given twice"),
        },
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => ConfigError::Invalid {
            key,
            place,
            problem: "the number is out of range".to_owned(),
        },
        Kind::Message(problem) => ConfigError::Invalid {
            key,
            place,
            problem,
        },
        other => ConfigError::Invalid {
            key,
            place,
            problem: match other {
                Kind::Unsupported(actual) | Kind::UnsupportedKey(actual, _) => {
                    format!("{} is not supported there", kind_of(&actual))
                }
                _ => "it cannot be read".to_owned(),
            },
        },
    }
}
