//! `get_pod_status` of 16 clients, with authentication and audit, beside bare GETs of the same pod
//! by the client library that the server uses, from 16 tasks, on the same API server: as the server
//! comes, with its watch cache, and once more without it, where each call asks the API server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_integrations::kubernetes::KubeReader;
use countersign_tests::stack::{ClusterKind, Options, Stack};
use serde_json::json;

use crate::calls::{Call, Caller, per_second};
use crate::report::{Line, Samples, Target};

const ROUNDS: usize = 3;
/// Calls of one client in one round.
const EACH: usize = 100;
const NAMESPACE: &str = "shop";

pub async fn measure() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for cluster in [ClusterKind::ControlPlane, ClusterKind::Playground] {
        let place = match cluster {
            ClusterKind::ControlPlane => "real API server",
            ClusterKind::Playground => "playground",
        };
        let mut stack = Stack::start(Options {
            cluster,
            ..Options::default()
        })
        .await?;
        let failing = stack
            .cluster
            .deploy(NAMESPACE, "bench", 2, 1, "ready")
            .await?;
        let pods = stack.cluster.pods(NAMESPACE, "bench").await?;
        let healthy = pods
            .into_iter()
            .find(|pod| pod.ready)
            .context("no pod is ready")?;
        for cached in [true, false] {
            if !cached {
                without_cache(&mut stack).await?;
            }
            // A failing pod, read live, costs three requests: its owner and its events come along.
            for (what, pod) in [("healthy", &healthy.name), ("failing", &failing.name)] {
                let how = if cached { "" } else { ", no cache" };
                let name = format!("get_pod_status, {what} pod, {place}{how}");
                let line = beside_bare(&stack, &name, pod).await?;
                lines.push(match what {
                    // The playground's GETs cost next to nothing: that ratio is only stated.
                    "healthy" if cluster == ClusterKind::ControlPlane => {
                        line.wanted(Target::RatioFrom { at_least: 0.5 })
                    }
                    _ => line,
                });
            }
        }
        stack.stop().await?;
    }
    Ok(lines)
}

/// Starts the server again with `cache = false`.
async fn without_cache(stack: &mut Stack) -> Result<()> {
    let file = stack.path("server/countersign.toml");
    let text = std::fs::read_to_string(&file)?;
    let live = text.replace("[[cluster]]\n", "[[cluster]]\ncache = false\n");
    ensure!(live != text, "no [[cluster]] in {}", file.display());
    std::fs::write(&file, live)?;
    let server = stack.server.take().context("not running")?;
    server.stop(Duration::from_secs(10)).await?;
    stack.start_server().await
}

async fn beside_bare(stack: &Stack, name: &str, pod: &str) -> Result<Line> {
    let reader = KubeReader::from_kubeconfig(Some(&stack.cluster.server_kubeconfig), None);
    let call = Call::tool(
        "get_pod_status",
        &json!({"namespace": NAMESPACE, "pod": pod}),
    );
    let (mut bare, mut product) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let bare_rate = per_second(EACH, || {
            let (reader, pod) = (reader.clone(), pod.to_owned());
            Ok(async move {
                for _ in 0..EACH {
                    reader.get_pod(NAMESPACE, &pod).await?;
                }
                Ok(())
            })
        })
        .await?;
        let product_rate = per_second(EACH, || {
            let (caller, call) = (Caller::new(stack)?, call.clone());
            Ok(async move {
                for _ in 0..EACH {
                    let text = caller.ask(&call).await?;
                    ensure!(text.contains("\"isError\":false"), "{text}");
                }
                Ok(())
            })
        })
        .await?;
        // The first round connects and warms up.
        if round > 0 {
            bare.push(bare_rate);
            product.push(product_rate);
        }
    }
    Ok(Line::new(name, "1/s", product.median()).beside(bare.median()))
}
