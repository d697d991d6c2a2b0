//! Loads the configuration of either binary, and knows no key of either.
//!
//! A configuration is one TOML file with environment variables on top: `COUNTERSIGN__JIRA__BASE_URL`
//! sets `jira.base_url` and wins over the file. Each binary declares its own struct, so
//! neither can name, let alone read, a secret of the other.
//!
//! No error here repeats a configured value: any of them may be a secret.

mod error;
mod layers;
mod secret;

use std::ffi::OsString;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use error::ConfigError;
pub use secret::{SecretError, SecretSource};

/// Reads `file` (if given) and the process environment into `T`.
///
/// `T` and every struct in it should be `#[serde(deny_unknown_fields)]`, and must not use
/// `#[serde(flatten)]`: serde then stops reporting unknown keys. Environment keys are taken in
/// lower case. A variable is read as text, and as a TOML value (`true`, `8080`, `["a", "b"]`)
/// only where the text does not fit, so that a secret that looks like a number stays one.
///
/// # Errors
/// Says which key of which file or variable is wrong, and what would be right.
pub fn load<T: DeserializeOwned>(file: Option<&Path>, env_prefix: &str) -> Result<T, ConfigError> {
    load_with(file, env_prefix, std::env::vars_os())
}

/// [`load`] with the environment given as pairs, for `config check` and for tests.
///
/// # Errors
/// As for [`load`].
pub fn load_with<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<T, ConfigError> {
    layers::Layers::read(file, env_prefix, environment)?.extract()
}
