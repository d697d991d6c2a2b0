//! `cargo xtask bench [NAME...]`: how fast the product is beside the bare thing that it stands on.
//!
//! Whole processes over the real protocols, loopback only, every bench bounded in count. Absolute
//! times are those of one machine; ratios carry over. `docs/benchmarks.md` has recorded numbers.

mod approval;
mod bare;
mod calls;
mod idle;
mod layout;
mod reads;
mod report;
mod scale;
mod store;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use mimalloc::MiMalloc;
use report::Line;

/// The server's, since the store's lines are measured in this process.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A busy machine measures its other work.
const CALM: f64 = 0.7;

const BENCHES: [(&str, &str); 6] = [
    ("store", "a proposal beside one bare commit, both engines"),
    (
        "approval",
        "propose over HTTP, admission, decision -> eviction; playground, both engines",
    ),
    (
        "claim",
        "claim -> eviction beside the bare calls; real API server",
    ),
    (
        "reads",
        "get_pod_status beside bare GETs, 16 clients; real API server and playground",
    ),
    (
        "scale",
        "read tools on simulated clusters of 20,000 and 100,000 pods, beside another server",
    ),
    ("idle", "resident memory"),
];

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let names: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let played = match words.as_slice() {
        ["start"] => layout::start().await.map(|()| true),
        ["calls"] => layout::calls().await.map(|()| true),
        _ => run(&names).await,
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("Not every target was met.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `true`: every target was met.
async fn run(names: &[String]) -> Result<bool> {
    let known = BENCHES
        .map(|(name, what)| format!("  {name:<9} {what}"))
        .join("\n");
    if let Some(other) = names
        .iter()
        .find(|name| BENCHES.iter().all(|(known, _)| name != known))
    {
        bail!("unknown bench `{other}`; there are:\n{known}");
    }
    let load = load()?;
    let cpus = std::thread::available_parallelism()?;
    eprintln!("{cpus} CPUs, load {load} before the first bench");
    if load > CALM {
        eprintln!("This machine is not calm: the numbers will be those of its other work, too.");
    }
    let mut lines: Vec<Line> = Vec::new();
    for (name, what) in BENCHES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("==> {name}: {what}");
        let started = Instant::now();
        let measured = match name {
            "store" => store::measure().await,
            "approval" => approval::on_the_playground().await,
            "claim" => approval::on_the_control_plane().await,
            "reads" => reads::measure().await,
            "scale" => scale::measure().await,
            _ => idle::measure().await,
        };
        lines.extend(measured.with_context(|| format!("bench {name}"))?);
        eprintln!("    {:.0} s", started.elapsed().as_secs_f64());
    }
    print!("{}", report::table(&lines));
    let me = std::env::current_exe()?;
    let target = me.ancestors().nth(2).context("no target folder")?;
    let file = target.join("bench.json");
    report::write(
        &file,
        &json!({"cpus": cpus.get(), "load_before": load}),
        &lines,
    )?;
    eprintln!("written to {}", file.display());
    Ok(lines.iter().all(|line| line.met() != Some(false)))
}

/// Processes that wanted to run, over the last minute.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text
        .split_whitespace()
        .next()
        .context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}
