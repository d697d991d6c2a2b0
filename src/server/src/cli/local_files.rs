//! Small files that hold secrets or that others read: written whole or not at all, and readable by
//! nobody else where they should be.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    Owner,
    Everyone,
}

/// Writes a file through a temporary one beside it: readers see the old text or the new.
pub fn write(path: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    let part = partial(path);
    let mode = if readers == Readers::Owner {
        0o600
    } else {
        0o644
    };
    let written = (|| {
        let _ = fs::remove_file(&part);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a file for its owner only, unless it is there: then `false`, and nothing is written.
pub fn make_once(path: &Path, text: &str) -> anyhow::Result<bool> {
    let part = partial(path);
    write(&part, text, Readers::Owner)?;
    // A hard link fails where the name exists: whoever comes second sees the first one's file.
    let linked = fs::hard_link(&part, path);
    let _ = fs::remove_file(&part);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}

fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part-{}", std::process::id()))
}

/// Reads a secret, or nothing when the file is not there. Refuses one that others may read.
pub fn read_secret(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{} can be read by others (mode {mode:03o}): chmod 600 it",
            path.display()
        );
    }
    Ok(Some(text))
}

/// Makes a folder, and those above it, for the owner only. One that is there stays as it is.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/secret");
        make_folder(path.parent().unwrap()).unwrap();
        assert!(make_once(&path, "one").unwrap());
        assert!(!make_once(&path, "two").unwrap());
        assert_eq!(read_secret(&path).unwrap().as_deref(), Some("one"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            read_secret(&path)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
        assert_eq!(read_secret(&folder.path().join("none")).unwrap(), None);
    }
}
