//! Files that hold credentials: readable by their owner alone, and never half-written.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::StartError;

/// Creates `dir` (0700) with its parents when it does not exist.
pub fn make_dir(dir: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StartError::Write {
            path: dir.to_owned(),
            source,
        })
}

/// Writes `text` to `dir/name` with mode 0600, replacing an older file in one step.
pub fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, StartError> {
    let path = dir.join(name);
    let draft = dir.join(format!(".{name}.{}", crate::random::short_hex()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| std::fs::rename(&draft, &path));
    match written {
        Ok(()) => Ok(path),
        Err(source) => {
            let _ = std::fs::remove_file(&draft);
            Err(StartError::Write { path, source })
        }
    }
}
