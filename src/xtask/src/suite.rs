//! Runs the workspace's test programs, two at a time: most of them wait more than they compute. The
//! output of each is shown whole when it ends, so that two never mix.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Test programs that start processes, clusters, databases or a browser: left out of `--fast`. The
/// longest come first, so that the last minutes are not one of them alone.
const SLOW: &[&str] = &[
    "crash",
    "executor",
    "story",
    "conformance",
    "workloads",
    "contract",
    "lifecycle",
    "pod_states",
    "two_clusters",
    "processes",
    "rotation",
    "accounts",
    "collector",
    "rollouts",
    "clients",
    "mcp_conformance",
    "python_client",
    "browser",
    "readme",
    "workers",
    "cli_up",
];

/// How many run side by side.
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
    let rank = |program: &Program| {
        SLOW.iter()
            .position(|slow| *slow == program.name)
            .unwrap_or(SLOW.len())
    };
    programs.sort_by_key(rank);
    if fast {
        programs.retain(|program| {
            let slow = rank(program) < SLOW.len();
            if slow {
                eprintln!("NOT RUN in --fast: {} of {}", program.name, program.package);
            }
            !slow
        });
    }
    let queue = Mutex::new(VecDeque::from(programs));
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(program) = next else { break };
                    let ended = one(&program);
                    totals
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(&program, ended);
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
    let output = Command::new(&program.executable)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
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
