//! The npm package kubernetes-mcp-server, asked for the same pod by the same clients.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use super::alone::until;
use crate::calls::{Call, Caller};

const VERSION: &str = "0.0.67";

/// Calls a second of sixteen clients, its limit of requests to the API server lifted.
pub async fn pods_get(kubeconfig: &Path, namespace: &str, pod: &str) -> Result<f64> {
    let program = install().await?;
    let port = countersign_tests::stack::free_port()?;
    let mut child = Command::new(program)
        .args(["--bind-address", "127.0.0.1", "--stateless", "--read-only"])
        .args([
            "--disable-multi-cluster",
            "--cluster-provider",
            "kubeconfig",
        ])
        .arg("--port")
        .arg(port.to_string())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env("KUBE_CLIENT_QPS", "100000")
        .env("KUBE_CLIENT_BURST", "100000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("kubernetes-mcp-server")?;
    let caller = Caller::at(&format!("http://127.0.0.1:{port}"), "none")?;
    let call = Call::tool("pods_get", &json!({"namespace": namespace, "name": pod}));
    until(Duration::from_secs(30), || async {
        Ok(caller.ask(&call).await.is_ok_and(|text| text.contains(pod)))
    })
    .await?;
    let first = caller.ask(&call).await?;
    ensure!(!first.contains("\"isError\":true"), "{first}");
    let rate = super::rate(&caller, &call, false).await?;
    child.kill().await?;
    Ok(rate)
}

/// The package's program, installed by npm into the cache folder once.
async fn install() -> Result<PathBuf> {
    let folder = match std::env::var_os("COUNTERSIGN_CACHE_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache"),
    }
    .join(format!("kubernetes-mcp-server-{VERSION}"));
    let package = match std::env::consts::ARCH {
        "aarch64" => "kubernetes-mcp-server-linux-arm64",
        _ => "kubernetes-mcp-server-linux-amd64",
    };
    let program = folder.join(format!("node_modules/{package}/bin/{package}"));
    if !program.exists() {
        std::fs::create_dir_all(&folder)?;
        let status = Command::new("npm")
            .args(["install", "--no-fund", "--no-audit", "--silent", "--prefix"])
            .arg(&folder)
            .arg(format!("kubernetes-mcp-server@{VERSION}"))
            .status()
            .await
            .context("npm")?;
        ensure!(
            status.success(),
            "npm could not install kubernetes-mcp-server {VERSION}"
        );
    }
    ensure!(program.exists(), "{} is not there", program.display());
    Ok(program)
}
