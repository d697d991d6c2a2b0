//! Runs the workspace's test programs, two at a time, and beside them those that do little but wait
//! for time-outs of minutes. The output of each is shown whole when it ends, so that two never mix.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Test programs that wait for most of their time (until a dead executor's lease has run out, until
/// nothing that it sent can arrive any more, until a frozen watch is noticed): each begins at once,
/// beside the others. Left out of `--fast`.
const WAITING: &[&str] = &["crash", "executor", "two_clusters"];

/// Test programs that start processes, clusters, databases or a browser: left out of `--fast`. The
/// longest come first, but for one, so that the last minutes are not one of them alone; the story waits,
/// too.
const SLOW: &[&str] = &[
    "story",
    "conformance",
    "clients",
    "browser",
    "workers",
    "contract",
    "pod_states",
    "rotation",
    "accounts",
    "collector",
    "rollouts",
    "lifecycle",
    "python_client",
    "readme",
    "workloads",
    "mcp_conformance",
    "processes",
    "telemetry",
    "startup",
    "cli_up",
    // When those that wait have ended: it looks at what a starved machine does not keep up.
    "watch_cache",
];

/// How many others run side by side.
const LANES: usize = 2;

struct Program {
    name: String,
    /// `target` of its crate: two crates may each have a test of the same name.
    package: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// Builds and runs everything; fails when anything failed.
pub fn run(root: &Path, fast: bool) -> Result<()> {
    let mut programs = build(root)?;
    let waits = |program: &Program| WAITING.contains(&program.name.as_str());
    let rank = |program: &Program| {
        let place = SLOW.iter().position(|slow| *slow == program.name);
        place.unwrap_or(SLOW.len())
    };
    programs.sort_by_key(rank);
    if fast {
        programs.retain(|program| {
            let slow = waits(program) || rank(program) < SLOW.len();
            if slow {
                eprintln!("NOT RUN in --fast: {} of {}", program.name, program.package);
            }
            !slow
        });
    }
    let (waiting, others): (Vec<_>, Vec<_>) = programs.into_iter().partition(waits);
    let queue = Mutex::new(VecDeque::from(others));
    let totals = Mutex::new(Totals::default());
    let run = |program: &Program| {
        let ended = one(program);
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.add(program, ended);
    };
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    std::thread::scope(|scope| {
        for program in &waiting {
            scope.spawn(|| run(program));
        }
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(program) = next() {
                    run(&program);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} passed, {} failed", totals.passed, totals.failed);
    if !totals.broken.is_empty() {
        bail!("failed: {}", totals.broken.join(", "));
    }
    if totals.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    broken: Vec<String>,
}

impl Totals {
    fn add(&mut self, program: &Program, ended: Result<(bool, String)>) {
        let (green, text) = ended.unwrap_or_else(|error| (false, format!("{error:#}")));
        let count = |word: &str| -> u64 {
            text.lines()
                .filter(|line| line.starts_with("test result:"))
                .flat_map(|line| line.split([';', '.']))
                .filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
                .sum()
        };
        self.passed += count("passed");
        self.failed += count("failed");
        if !green {
            self.broken
                .push(format!("{} of {}", program.name, program.package));
        }
        let quiet: Vec<&str> = text
            .lines()
            .filter(|line| green && line.starts_with("test result:"))
            .collect();
        let shown = if green { quiet.join("\n") } else { text };
        println!("--- {} of {}\n{shown}", program.name, program.package);
    }
}

fn one(program: &Program) -> Result<(bool, String)> {
    let started = Instant::now();
    // Tests that wait need no core each.
    let mostly_waits = WAITING
        .iter()
        .chain(&SLOW[..1])
        .any(|name| *name == program.name);
    let threads = mostly_waits.then_some(("RUST_TEST_THREADS", "4"));
    let output = Command::new(&program.executable)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .envs(threads)
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.executable.display()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    eprintln!(
        "    {} of {}: {} s",
        program.name,
        program.package,
        started.elapsed().as_secs()
    );
    Ok((output.status.success(), text))
}

/// Asks cargo to build all test programs and to say where they are.
fn build(root: &Path) -> Result<Vec<Program>> {
    let output = super::cargo(&[
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ])
    .current_dir(root)
    .stderr(std::process::Stdio::inherit())
    .output()
    .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let is_test =
            message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        let (Some(executable), true) = (message["executable"].as_str(), is_test) else {
            continue;
        };
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().unwrap_or(root).to_path_buf();
        programs.push(Program {
            name: message["target"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            package: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            executable: executable.into(),
            folder,
        });
    }
    Ok(programs)
}
