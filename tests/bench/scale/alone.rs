//! `countersign serve` by itself, with a cluster to read and nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_domain::{OsEntropy, Signer};
use countersign_tests::stack::process::Process;
use countersign_tests::stack::{free_port, settings};
use sha2::{Digest as _, Sha256};

use crate::calls::Caller;

/// Makes the folder, for its owner only.
pub fn folder(folder: &Path) -> Result<()> {
    settings::private_folder(folder)
}

pub struct Alone {
    pub process: Process,
    pub caller: Caller,
}

impl Alone {
    /// With SQLite in `folder`, until it answers.
    pub async fn start(folder: &Path, kubeconfig: &Path, cache: bool) -> Result<Self> {
        self::folder(folder)?;
        let secrets = settings::Secrets::generate()?;
        let port = free_port()?;
        let files = [
            ("policy.toml", settings::policy("15m", "5m", "20s")),
            (
                "registry.toml",
                settings::registry("bot", "li", "omar", "maria"),
            ),
            ("executor.pub", Signer::generate(&OsEntropy).public_text()),
            (
                "countersign.toml",
                format!(
                    "policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\
                     [http]\nlisten = \"127.0.0.1:{port}\"\n\
                     [database]\nurl = \"sqlite://{database}\"\n\
                     [keys]\nfile = \"server.key\"\nexecutor_public_key_file = \"executor.pub\"\n\
                     [[cluster]]\nid = \"big\"\nkubeconfig = \"{kubeconfig}\"\ncache = {cache}\n\
                     simulated = true\n\
                     [[api_key]]\nname = \"bench\"\nagent = \"claude-ops\"\nsha256 = \"{hash}\"\n\
                     [limits]\ncalls_per_minute = 100000000\n",
                    database = folder.join("countersign.db").display(),
                    kubeconfig = kubeconfig.display(),
                    hash = hex::encode(Sha256::digest(secrets.api_key.as_bytes())),
                ),
            ),
        ];
        for (name, text) in files {
            countersign_tests::stack::private_file(&folder.join(name), &text)?;
        }
        let mut process = Process::start(
            "countersign",
            "countersign",
            |command| {
                command
                    .args(["serve", "--ready-json", "--exit-with-parent", "--config"])
                    .arg(folder.join("countersign.toml"));
            },
            &folder.join("log"),
        )?;
        process.ready(Duration::from_secs(60)).await?;
        let caller = Caller::at(&format!("http://127.0.0.1:{port}"), &secrets.api_key)?;
        Ok(Self { process, caller })
    }

    pub fn memory(&self) -> Result<Memory> {
        let id = self.process.id().context("not running")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.with_context(|| format!("no {name}"))?;
            let kib: f64 = kib.trim().trim_end_matches(" kB").trim().parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok(Memory {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }

    /// Seconds of CPU that the process has used. Linux counts in hundredths here on every platform
    /// that Rust supports.
    pub fn cpu(&self) -> Result<f64> {
        let id = self.process.id().context("not running")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("no stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("short")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

/// Resident, in millions of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: f64,
    pub peak: f64,
}

/// Asks until `fits`, and the milliseconds that it took.
pub async fn until<F>(within: Duration, mut fits: impl FnMut() -> F) -> Result<f64>
where
    F: Future<Output = Result<bool>>,
{
    let started = Instant::now();
    while !fits().await? {
        if started.elapsed() > within {
            bail!("not so after {within:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
