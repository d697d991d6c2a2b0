//! Secrets as `x` or `x_file`: in place for a try-out, from a mounted file in production.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// A secret's two keys in a configuration struct, seen together.
///
/// ```
/// # use std::path::PathBuf;
/// # use countersign_config::{SecretError, SecretSource};
/// # use secrecy::SecretString;
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Jira {
///     token: Option<SecretString>,
///     token_file: Option<PathBuf>,
/// }
/// # impl Jira {
/// fn token(&self) -> Result<SecretString, SecretError> {
///     SecretSource::new("jira.token", self.token.as_ref(), self.token_file.as_deref()).resolve()
/// }
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct SecretSource<'a> {
    key: &'a str,
    value: Option<&'a SecretString>,
    file: Option<&'a Path>,
}

/// Why a secret cannot be had. The text names keys and paths, never contents.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("missing secret: set `{key}_file` to the path of a file that holds it (or `{key}`)")]
    Missing { key: String },
    #[error("both `{key}` and `{key}_file` are set: keep one of them")]
    Both { key: String },
    #[error("`{key}` is empty")]
    Empty { key: String },
    #[error("cannot read the file of `{key}_file`, {path}: {source}", path = path.display())]
    Read {
        key: String,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the file of `{key}_file`, {path}, is empty", path = path.display())]
    EmptyFile { key: String, path: PathBuf },
}

impl<'a> SecretSource<'a> {
    /// `key` is the dotted name without `_file`, for messages.
    #[must_use]
    pub fn new(key: &'a str, value: Option<&'a SecretString>, file: Option<&'a Path>) -> Self {
        Self { key, value, file }
    }

    /// The secret. One newline at the end of a file is not part of it.
    ///
    /// # Errors
    /// Neither or both keys set, an empty secret, or a file that cannot be read as UTF-8.
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        self.resolve_optional()?
            .ok_or_else(|| SecretError::Missing {
                key: self.key.to_owned(),
            })
    }

    /// Like [`resolve`](Self::resolve), with nothing for neither key set.
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve).
    pub fn resolve_optional(&self) -> Result<Option<SecretString>, SecretError> {
        let key = || self.key.to_owned();
        match (self.value, self.file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SecretError::Both { key: key() }),
            (Some(value), None) if value.expose_secret().is_empty() => {
                Err(SecretError::Empty { key: key() })
            }
            (Some(value), None) => Ok(Some(value.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|source| SecretError::Read {
                    key: key(),
                    path: path.to_owned(),
                    source,
                })?;
                let trimmed = text.strip_suffix('\n').unwrap_or(&text);
                let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
                if trimmed.is_empty() {
                    return Err(SecretError::EmptyFile {
                        key: key(),
                        path: path.to_owned(),
                    });
                }
                Ok(Some(SecretString::from(trimmed)))
            }
        }
    }

    /// A sentence for the log or `doctor` if others on this machine may read the file.
    ///
    /// Not an error: a Kubernetes secret volume is world-readable inside its pod by default.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let path = self.file?;
        let mode = permissions(path)? & 0o777;
        (mode & 0o044 != 0).then(|| {
            format!(
                "the file of `{}_file`, {}, can be read by other users (mode {mode:03o}): \
                 chmod 600 it",
                self.key,
                path.display()
            )
        })
    }
}

impl fmt::Debug for SecretSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("key", &self.key)
            .field("value", &self.value.map(|_| "[redacted]"))
            .field("file", &self.file)
            .finish()
    }
}

#[cfg(unix)]
fn permissions(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

#[cfg(not(unix))]
fn permissions(_: &Path) -> Option<u32> {
    None
}
