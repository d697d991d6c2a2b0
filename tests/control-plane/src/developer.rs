//! A control plane to look around in, for `cargo xtask control-plane`.

use anyhow::Result;
use tokio::signal::unix::SignalKind;

use crate::{ControlPlane, Options};

/// Something to restart: three replicas, one in CrashLoopBackOff for 20 minutes.
const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop, labels: {app: checkout}}
spec:
  replicas: 3
  selector: {matchLabels: {app: checkout}}
  template:
    metadata:
      labels: {app: checkout}
      annotations: {fake.countersign.dev/behavior: "crashloop since=20m, slow-ready=2s"}
    spec:
      containers:
      - {name: checkout, image: "registry.invalid/checkout:1.4.2"}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: checkout, namespace: shop}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: checkout}}
"#;

/// Starts a control plane with a namespace `shop` in trouble, prints how to reach
/// it, and stops it on Ctrl-C or SIGTERM.
pub async fn run_for_developer(options: Options) -> Result<()> {
    let plane = ControlPlane::start(options).await?;
    plane.apply_yaml(SHOP).await?;
    println!("Kubernetes API   {}", plane.url());
    println!("kubeconfig       {}", plane.admin_kubeconfig().display());
    println!("audit log        {}", plane.audit_log_path().display());
    println!();
    println!("  export KUBECONFIG={}", plane.admin_kubeconfig().display());
    println!("  kubectl -n shop get pods");
    println!();
    println!(
        "What a pod does is in its annotation {}.",
        crate::ANNOTATION
    );
    println!("Ctrl-C stops it and removes everything.");
    let mut terminated = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    plane.stop();
    Ok(())
}
