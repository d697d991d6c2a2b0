//! The attestation key: made at the first start, kept by the server alone; its public half is what
//! the executor reads. And the executor's public key, which the executor writes.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_domain::{Entropy, KeyRing, Signer};
use tokio_util::sync::CancellationToken;

use super::local_files::{Readers, make_folder, make_once, read_secret, write};

/// How long to wait for an executor that starts at the same time.
const WAIT: Duration = Duration::from_secs(60);

/// Reads the key or makes it.
pub fn read_or_make(path: &Path, entropy: &dyn Entropy) -> anyhow::Result<Signer> {
    if let Some(text) = read_secret(path)? {
        return parse(&text, path);
    }
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let fresh = Signer::generate(entropy);
    let made = make_once(path, &fresh.to_secret_text())?;
    // Another replica may have been faster, also in between: what the file says is the key.
    let text = read_secret(path)?.context("the key file vanished while it was read")?;
    let signer = parse(&text, path)?;
    if made {
        tracing::info!(kid = signer.kid(), file = %path.display(), "made an attestation key");
    }
    Ok(signer)
}

fn parse(text: &str, path: &Path) -> anyhow::Result<Signer> {
    Signer::from_text(text).with_context(|| format!("cannot use {}", path.display()))
}

/// Writes the public half, unless the file says that already (it may be mounted read-only then).
pub fn publish(signer: &Signer, path: &Path) -> anyhow::Result<()> {
    let text = signer.public_text();
    if std::fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    write(path, &text, Readers::Everyone)
}

/// Waits for the executor's public key or keys.
pub async fn executor_keys(path: &Path, stop: &CancellationToken) -> anyhow::Result<KeyRing> {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(100);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                return KeyRing::from_text(&text)
                    .with_context(|| format!("cannot use {}", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
        if waited.is_zero() {
            tracing::info!(
                file = %path.display(),
                "waiting up to 60 s for the executor's public key: it writes it at its first start"
            );
        }
        if waited >= WAIT {
            bail!(
                "the executor's public key {} did not appear within 60 s: start \
                 `countersign-executor run`, copy its public key there, or correct \
                 `keys.executor_public_key_file`",
                path.display()
            );
        }
        tokio::select! {
            () = tokio::time::sleep(step) => waited += step,
            () = stop.cancelled() => bail!("told to stop before the executor's key appeared"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_domain::OsEntropy;

    #[test]
    fn the_key_is_made_once_and_its_public_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let (key, public) = (folder.path().join("k/s.key"), folder.path().join("p/s.pub"));
        let first = read_or_make(&key, &OsEntropy).unwrap();
        assert_eq!(read_or_make(&key, &OsEntropy).unwrap().kid(), first.kid());
        publish(&first, &public).unwrap();
        publish(&first, &public).unwrap();
        assert_eq!(
            std::fs::read_to_string(&public).unwrap(),
            first.public_text()
        );
    }
}
