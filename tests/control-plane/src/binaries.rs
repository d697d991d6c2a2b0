//! Where the control plane's programs come from: `KUBEBUILDER_ASSETS`, or a build
//! of the Go module in this folder that is kept outside `target`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::process::find_on_path;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = "v1.36.3";

/// How to start each component: program and leading arguments.
pub(crate) struct Binaries {
    assets: Option<PathBuf>,
    /// `None` only when `assets` has every component.
    built: Option<PathBuf>,
}

const COMPONENTS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

impl Binaries {
    /// Finds the programs; builds the Go module first when a program is missing.
    ///
    /// Blocks: for minutes on the first call on a machine, not at all later.
    pub(crate) fn locate() -> Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        if let Some(folder) = &assets {
            for component in ["etcd", "kube-apiserver"] {
                if !folder.join(component).is_file() {
                    bail!(
                        "KUBEBUILDER_ASSETS is {} but has no {component}; unset it to build the \
                         control plane from source",
                        folder.display()
                    );
                }
            }
            // envtest's archives stop at the API server; controllers are built then.
            if COMPONENTS
                .iter()
                .all(|component| folder.join(component).is_file())
            {
                return Ok(Self {
                    assets,
                    built: None,
                });
            }
        }
        Ok(Self {
            assets,
            built: Some(built()?),
        })
    }

    pub(crate) fn program(&self, component: &str) -> Vec<OsString> {
        let asset = self
            .assets
            .iter()
            .map(|folder| folder.join(component))
            .find(|p| p.is_file());
        match (asset, &self.built) {
            (Some(program), _) => vec![program.into()],
            (None, Some(built)) => vec![built.into(), component.into()],
            (None, None) => vec![component.into()],
        }
    }
}

/// The built program, from the cache or from `go build`.
fn built() -> Result<PathBuf> {
    let folder = cache_folder().join("control-plane").join(source_hash()?);
    let program = folder.join("control-plane");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cache folder {}", folder.display()))?;
    // Test binaries run in parallel processes: one builds, the others wait here.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()
        .with_context(|| format!("lock in {}", folder.display()))?;
    if !program.is_file() {
        build(&program)?;
    }
    Ok(program)
}

/// `COUNTERSIGN_CACHE_DIR`, or `.cache`; relative to the workspace, because Cargo
/// runs the tests of each package in another folder.
fn cache_folder() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_CACHE_DIR").filter(|folder| !folder.is_empty());
    Path::new(SOURCE)
        .join("../..")
        .join(folder.unwrap_or_else(|| ".cache".into()))
}

fn source_hash() -> Result<String> {
    let mut hash = Sha256::new();
    for name in ["main.go", "go.mod", "go.sum"] {
        let path = Path::new(SOURCE).join(name);
        hash.update(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn build(program: &Path) -> Result<()> {
    let go = find_on_path("go").context(
        "the Kubernetes control plane for tests is built with Go, and `go` is not on PATH. \
         Install Go 1.26 or newer (Debian: `apt-get install golang`; others: https://go.dev/dl), \
         or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
         kube-controller-manager and kube-scheduler",
    )?;
    let partial = program.with_extension("partial");
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    );
    say(&format!(
        "building the Kubernetes {VERSION} control plane from Go source, once per machine: \
         about 5 minutes on 2 cores, 4 GB of Go caches"
    ));
    let mut compiler = Command::new(go)
        .args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &flags,
            "-o",
        ])
        .arg(&partial)
        .arg(".")
        .current_dir(SOURCE)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("start `go build`")?;
    let start = Instant::now();
    let mut next_word = Duration::from_secs(15);
    let status = loop {
        if let Some(status) = compiler.try_wait()? {
            break status;
        }
        if start.elapsed() > next_word {
            say(&format!(
                "still building the control plane ({} s)",
                start.elapsed().as_secs()
            ));
            next_word += Duration::from_secs(15);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        bail!(
            "`go build` in {SOURCE} failed ({status}); its messages are above. The first build \
             downloads Go modules and needs a Go module proxy (`go env GOPROXY`)"
        );
    }
    fs::rename(&partial, program)?;
    say(&format!(
        "control plane built in {} s",
        start.elapsed().as_secs()
    ));
    Ok(())
}

/// To the real stderr: `eprintln!` would be swallowed by the test harness.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "control-plane: {line}");
}
