//! The file and the environment, laid over each other, and the origin of each key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use crate::error::{ConfigError, advice, from_kind};

/// Both sources, before a type has been asked of them.
pub(crate) struct Layers {
    file: Option<PathBuf>,
    from_file: Dict,
    env_prefix: String,
    from_env: BTreeMap<Vec<String>, String>,
}

/// A finished dictionary as figment wants it.
struct Merged(Dict);

impl Provider for Merged {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

impl Layers {
    pub(crate) fn read(
        file: Option<&Path>,
        env_prefix: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            file: file.map(Path::to_owned),
            from_file: file.map(read_toml).transpose()?.unwrap_or_default(),
            env_prefix: env_prefix.to_owned(),
            from_env: read_environment(env_prefix, environment)?,
        })
    }

    /// Reads `T`, giving each variable first as text and, where that does not fit, as TOML.
    pub(crate) fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut values: BTreeMap<Vec<String>, Value> = self
            .from_env
            .iter()
            .map(|(path, text)| (path.clone(), Value::from(text.as_str())))
            .collect();
        let mut reread: Vec<Vec<String>> = Vec::new();
        loop {
            let mut merged = self.from_file.clone();
            for (path, value) in &values {
                self.lay(&mut merged, path, value.clone())?;
            }
            let error = match Figment::from(Merged(merged)).extract::<T>() {
                Ok(config) => return Ok(config),
                Err(error) => error,
            };
            let as_toml = self
                .from_env
                .get(&error.path)
                .filter(|_| !reread.contains(&error.path))
                .and_then(|text| parse_value(text));
            match as_toml {
                Some(value) => {
                    reread.push(error.path.clone());
                    values.insert(error.path, value);
                }
                None => return Err(self.explain(error)),
            }
        }
    }

    /// Puts `value` at `path`, making the sections on the way.
    fn lay(&self, into: &mut Dict, path: &[String], value: Value) -> Result<(), ConfigError> {
        let Some((last, sections)) = path.split_last() else {
            return Ok(());
        };
        let mut dict = into;
        for (depth, section) in sections.iter().enumerate() {
            let next = dict
                .entry(section.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            match next {
                Value::Dict(_, inner) => dict = inner,
                _ => {
                    return Err(ConfigError::Environment {
                        variable: self.variable(path),
                        problem: format!(
                            "sets a key inside `{}`, which is set elsewhere and is not a section",
                            path[..=depth].join(".")
                        ),
                    });
                }
            }
        }
        dict.insert(last.clone(), value);
        Ok(())
    }

    fn explain(&self, error: figment::Error) -> ConfigError {
        let mut path = error.path;
        match error.kind {
            Kind::UnknownField(field, real) => {
                if path.last() != Some(&field) {
                    path.push(field.clone());
                }
                let section = &path[..path.len() - 1];
                let prefix: String = section.iter().map(|part| format!("{part}.")).collect();
                let below = self.first_leaf(&path);
                let rest: String = below.iter().map(|part| format!(".{part}")).collect();
                ConfigError::UnknownKey {
                    key: format!("{}{rest}", path.join(".")),
                    place: self.place(&path),
                    advice: advice(&prefix, &field, &rest, real),
                }
            }
            Kind::MissingField(field) => {
                path.push(field.into_owned());
                let variable = self.variable(&path);
                let places = match &self.file {
                    Some(file) => format!("{} or as {variable}", file.display()),
                    None => format!("a configuration file or as {variable}"),
                };
                ConfigError::MissingKey {
                    key: path.join("."),
                    places,
                }
            }
            kind => {
                let key = if path.is_empty() {
                    "(the whole)".to_owned()
                } else {
                    path.join(".")
                };
                let place = self.place(&path);
                from_kind(kind, key, place)
            }
        }
    }

    fn variable(&self, path: &[String]) -> String {
        format!("{}{}", self.env_prefix, path.join("__").to_uppercase())
    }

    /// The file or the variable that `path` came from.
    fn place(&self, path: &[String]) -> String {
        let variable = self.from_env.keys().find(|key| key.starts_with(path));
        match (variable, &self.file) {
            (Some(key), _) => format!("the environment variable {}", self.variable(key)),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => "the configuration".to_owned(),
        }
    }

    /// What follows `path` down to the first value that is not a section.
    fn first_leaf(&self, path: &[String]) -> Vec<String> {
        if let Some(key) = self.from_env.keys().find(|key| key.starts_with(path)) {
            return key[path.len()..].to_vec();
        }
        let mut dict = &self.from_file;
        for part in path {
            match dict.get(part) {
                Some(Value::Dict(_, inner)) => dict = inner,
                _ => return Vec::new(),
            }
        }
        let mut below = Vec::new();
        while let Some((key, value)) = dict.iter().next() {
            below.push(key.clone());
            match value {
                Value::Dict(_, inner) => dict = inner,
                _ => break,
            }
        }
        below
    }
}

/// Parses with our own reader: figment's shows the offending line, which may hold a secret.
fn read_toml(path: &Path) -> Result<Dict, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let syntax = |message: String, at: usize| {
        let before = &text.as_bytes()[..at.min(text.len())];
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before
                .iter()
                .rev()
                .take_while(|byte| **byte != b'\n')
                .count()
                + 1,
            message,
        }
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        syntax(
            error.message().to_owned(),
            error.span().map_or(0, |span| span.start),
        )
    })?;
    match Value::serialize(table) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        _ => Err(syntax("it cannot be represented".to_owned(), 0)),
    }
}

fn read_environment(
    prefix: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<Vec<String>, String>, ConfigError> {
    let mut keys = BTreeMap::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(prefix) else {
            continue;
        };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let problem = if path.iter().any(String::is_empty) {
            format!("names no key: use {prefix}SECTION__KEY")
        } else {
            match value.into_string() {
                Ok(text) => {
                    keys.insert(path, text);
                    continue;
                }
                Err(_) => "is not valid UTF-8".to_owned(),
            }
        };
        return Err(ConfigError::Environment {
            variable: name,
            problem,
        });
    }
    Ok(keys)
}

/// `text` as a TOML value, or nothing if it is not one.
fn parse_value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    Value::serialize(table.get("value").filter(|_| table.len() == 1)?).ok()
}
