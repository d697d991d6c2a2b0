//! Key files: the executor's own, made at the first start, and the pinned identity of its cluster.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_domain::{Entropy, KeyRing, Signer};

/// Reads the private key; nothing when there is none yet.
pub fn read(path: &Path) -> anyhow::Result<Option<Signer>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the key {}", path.display()));
        }
    };
    let mode = fs::metadata(path)?.permissions().mode() & 0o007;
    // A volume's group may read it: Kubernetes gives files of a volume to the pod's own group.
    if mode != 0 {
        bail!(
            "the key {} can be read by others: chmod 600 it",
            path.display()
        );
    }
    Signer::from_text(&text)
        .map(Some)
        .with_context(|| format!("{}", path.display()))
}

/// Reads the private key or makes it, and writes its public half. `pin` is where the identity of
/// the cluster is kept: an executor that has one had a key, and its loss is not passed over.
pub fn read_or_make(
    path: &Path,
    public: &Path,
    pin: &Path,
    entropy: &dyn Entropy,
) -> anyhow::Result<Signer> {
    // Asked first: a replica that starts beside us makes its key, and pins after it.
    let pinned = pin.exists();
    let signer = match read(path)? {
        Some(signer) => signer,
        None if pinned => bail!(
            "the key {} is gone, and the pin {} says that this executor had one: put the key back. \
             If it is lost for good, name its public half in `keys.former_public_files` and remove \
             the pin; a new key is made then, which servers and signing pages must be told",
            path.display(),
            pin.display()
        ),
        None => {
            let signer = Signer::generate(entropy);
            if write_whole(path, &signer.to_secret_text(), Replace::Never)? {
                tracing::info!(kid = signer.kid(), file = %path.display(), "made a signing key");
                signer
            } else {
                // Another replica was faster: its key is the key.
                read(path)?.context("the key file vanished while it was read")?
            }
        }
    };
    write_whole(public, &signer.public_text(), Replace::Always)?;
    Ok(signer)
}

/// The public half, and those of the keys that this executor signed with before.
pub fn own_ring(signer: &Signer, former: &[PathBuf]) -> anyhow::Result<KeyRing> {
    let mut text = signer.public_text();
    for path in former {
        let lines = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {} (`keys.former_public_files`)",
                path.display()
            )
        })?;
        KeyRing::from_text(&lines).with_context(|| format!("{}", path.display()))?;
        text.push('\n');
        text.push_str(&lines);
    }
    Ok(KeyRing::from_text(&text)?)
}

/// Waits up to a minute for the server's public key: both may start at the same time.
pub async fn wait_for_attestation_keys(path: &Path) -> anyhow::Result<KeyRing> {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(100);
    loop {
        match fs::read_to_string(path) {
            Ok(text) => {
                return KeyRing::from_text(&text).with_context(|| format!("{}", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
        if waited == Duration::ZERO {
            tracing::info!(
                file = %path.display(),
                "waiting up to 60 s for the server's public key: it writes it at its first start"
            );
        }
        if waited >= Duration::from_secs(60) {
            bail!(
                "the server's public key {} did not appear within 60 s: copy it there, or correct \
                 `keys.attestation_public_key_file`",
                path.display()
            );
        }
        tokio::time::sleep(step).await;
        waited += step;
    }
}

/// Where the identity of the cluster is pinned when the configuration does not say it.
pub fn pin_path(key: &Path, cluster: &str) -> PathBuf {
    let safe: String = cluster
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    key.with_extension(format!("{safe}.cluster"))
}

/// The pinned kube-system UID, if one was stored.
pub fn pinned(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => bail!("{} is empty: remove it", path.display()),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Pins what was first seen.
pub fn pin(path: &Path, uid: &str) -> anyhow::Result<()> {
    write_whole(path, &format!("{uid}\n"), Replace::Always).map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    /// What is there stays. Nobody but its owner may read the file.
    Never,
    Always,
}

/// Readers see the old text or the new, never half of it, whoever else writes the same file, and a
/// process that is killed leaves no half of it. `false`: a file was there, and stays.
fn write_whole(path: &Path, text: &str, replace: Replace) -> anyhow::Result<bool> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mode = if replace == Replace::Never {
        0o600
    } else {
        0o644
    };
    let written = (|| {
        let mut part = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        part.write_all(text.as_bytes())?;
        part.as_file().sync_all()?;
        match replace {
            Replace::Never => part.persist_noclobber(path),
            Replace::Always => part.persist(path),
        }
        .map_err(|error| error.error)
    })();
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && replace == Replace::Never => {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::OsEntropy;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let (key, public) = (folder.path().join("k/a.key"), folder.path().join("p/a.pub"));
        let pin = folder.path().join("k/a.x.cluster");
        let first = read_or_make(&key, &public, &pin, &OsEntropy).unwrap();
        let again = read_or_make(&key, &public, &pin, &OsEntropy).unwrap();
        assert_eq!(first.kid(), again.kid());
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_to_string(&public).unwrap(), first.public_text());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&key).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn replicas_that_start_together_have_one_key() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join("k").join(name);
            let together = std::sync::Barrier::new(4);
            let start = || {
                together.wait();
                let made = read_or_make(&at("a.key"), &at("a.pub"), &at("a.pin"), &OsEntropy);
                let signer = made.unwrap();
                pin(&at("a.pin"), "uid").unwrap();
                signer.kid().to_owned()
            };
            let kids: Vec<String> = std::thread::scope(|scope| {
                let replicas: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                replicas.into_iter().map(|it| it.join().unwrap()).collect()
            });
            assert!(kids.iter().all(|kid| *kid == kids[0]), "{kids:?}");
            let left = fs::read_dir(folder.path().join("k")).unwrap().count();
            assert_eq!(left, 3, "the key, its public half and the pin");
        }
    }

    #[test]
    fn a_lost_key_is_not_passed_over_where_a_cluster_is_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        pin(&at("a.x.cluster"), "uid").unwrap();
        let make = || read_or_make(&at("a.key"), &at("a.pub"), &at("a.x.cluster"), &OsEntropy);
        let error = make().err().unwrap().to_string();
        assert!(error.contains("former_public_files"), "{error}");
        assert!(!at("a.key").exists());
        fs::remove_file(at("a.x.cluster")).unwrap();
        assert!(make().is_ok());
    }

    #[test]
    fn former_keys_open_what_was_signed_before() {
        let folder = tempfile::tempdir().unwrap();
        let (before, now) = (Signer::generate(&OsEntropy), Signer::generate(&OsEntropy));
        let path = folder.path().join("before.pub");
        fs::write(&path, before.public_text()).unwrap();
        let statement = crate::sample_pod::statement();
        let at = statement.admitted_at;
        let signed = countersign_domain::Signed::sign(statement, &before).unwrap();
        let opens = |former: &[PathBuf]| {
            let ring = own_ring(&now, former).unwrap();
            let opened = signed
                .sealed()
                .open::<countersign_domain::Statement>(&ring, at);
            opened.is_ok()
        };
        assert!(!opens(&[]));
        assert!(opens(std::slice::from_ref(&path)));
        let missing = own_ring(&now, &[folder.path().join("none")]).err().unwrap();
        assert!(missing.to_string().contains("former_public_files"));
    }

    #[test]
    fn a_cluster_is_pinned_beside_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = pin_path(&folder.path().join("executor.key"), "prod-eu");
        assert!(path.ends_with("executor.prod_eu.cluster"));
        assert_eq!(pinned(&path).unwrap(), None);
        pin(&path, "uid").unwrap();
        assert_eq!(pinned(&path).unwrap().as_deref(), Some("uid"));
    }
}
