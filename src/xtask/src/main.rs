//! Developer commands: `cargo xtask test | demo | control-plane | bench | layout`. Sets up what it needs.

mod layout;
mod prerequisites;
mod suite;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
Developer commands of Countersign.

  cargo xtask test [--fast]          format, lints and every test; --fast: the inner loop
  cargo xtask demo [--walkthrough]   the try-out on simulated systems (also: cargo demo)
  cargo xtask control-plane          a real Kubernetes API server for a developer
  cargo xtask bench [NAME]           medians and ratios, release build
  cargo xtask layout                 which functions run, for the linker (needs valgrind)

`test` installs what is missing (Debian packages, as root) unless --no-install is given.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test", flags @ ..] => flags_of(flags, &["--fast", "--no-install"])
            .and_then(|()| test(flags.contains(&"--fast"), !flags.contains(&"--no-install"))),
        ["demo", flags @ ..] => flags_of(flags, &["--walkthrough"]).and_then(|()| demo(flags)),
        ["control-plane"] => {
            step("build", cargo(PROGRAMS)).and_then(|()| become_program("control-plane"))
        }
        ["bench", flags @ ..] => bench(flags),
        ["layout"] => layout(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        [other, ..] => Err(anyhow::anyhow!("unknown command `{other}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn flags_of(given: &[&str], known: &[&str]) -> Result<()> {
    match given.iter().find(|flag| !known.contains(flag)) {
        Some(flag) => bail!("unknown flag `{flag}`; known here: {}", known.join(", ")),
        None => Ok(()),
    }
}

/// The product, the playground and the programs that drive them, in one selection: cargo unifies
/// features over what is selected, and two selections would build many dependencies twice.
const PROGRAMS: &[&str] = &[
    "build",
    "-p",
    "countersign-server",
    "-p",
    "countersign-executor",
    "-p",
    "countersign-playground",
    "-p",
    "countersign-tests",
    "--bins",
];

fn test(fast: bool, install: bool) -> Result<()> {
    let started = Instant::now();
    let missing = prerequisites::ensure(fast, install)?;
    // Said at once, and again below: what is missing makes tests fail, far from the reason.
    not_run(&missing);
    step("format", cargo(&["fmt", "--all", "--check"]))?;
    step(
        "lints",
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // All targets at once, so that the tests below find the very same builds.
    step("build", cargo(&["build", "--workspace", "--all-targets"]))?;
    eprintln!("==> tests");
    suite::run(&root(), fast).inspect_err(|_| not_run(&missing))?;
    step(
        "examples in the documentation",
        cargo(&["test", "--workspace", "--doc", "--quiet"]),
    )?;
    not_run(&missing);
    if !missing.is_empty() && !fast {
        bail!("some parts were not run; see above");
    }
    eprintln!("all green in {} s", started.elapsed().as_secs());
    Ok(())
}

fn not_run(missing: &[String]) {
    for what in missing {
        eprintln!("NOT RUN: {what}");
    }
}

fn demo(flags: &[&str]) -> Result<()> {
    let program = if flags.contains(&"--walkthrough") {
        "walkthrough"
    } else {
        "demo"
    };
    eprintln!("Building the four programs (the first time takes some minutes)...");
    step("build", cargo(PROGRAMS))?;
    become_program(program)
}

fn bench(names: &[&str]) -> Result<()> {
    release()?;
    let mut run = program("release", "bench");
    run.args(names);
    step("bench", run)
}

fn layout() -> Result<()> {
    release()?;
    layout::write(
        &target().join("release"),
        &root().join("src/server/layout.ld"),
    )
}

fn release() -> Result<()> {
    let mut build = cargo(PROGRAMS);
    build.arg("--release");
    step("build", build)
}

fn root() -> PathBuf {
    // xtask stands in src/xtask; cargo tells where that is.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// What the cargo that runs this program says about this program is taken away: build scripts would
/// take it for theirs, and be built again when cargo is started by hand.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if about_us
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Ends as this program of ours: Ctrl-C and SIGTERM reach it, and whoever waits for this process waits
/// until it has stopped all that it started. Returns only what keeps it from starting.
fn become_program(name: &str) -> Result<()> {
    eprintln!("==> {name}");
    let mut command = program("debug", name);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// A program of ours, where cargo puts it.
fn program(profile: &str, name: &str) -> Command {
    let mut command = Command::new(target().join(profile).join(name));
    command.current_dir(root());
    command
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn step(name: &str, mut command: Command) -> Result<()> {
    eprintln!("==> {name}");
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    if started.elapsed().as_secs() >= 5 {
        eprintln!("    {name}: {} s", started.elapsed().as_secs());
    }
    Ok(())
}
