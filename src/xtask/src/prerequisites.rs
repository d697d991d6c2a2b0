//! What the whole suite needs besides Rust, and how to get it: PostgreSQL's server programs,
//! Chromium with its driver, Go, Node, and MCP clients in Python and JavaScript. Installed where missing; where that is
//! not possible the name of what will not run is returned, loudly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// A Debian package, and how to see that it is there.
struct Package {
    debian: &'static str,
    found: fn() -> bool,
    needed_for: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        debian: "postgresql",
        found: || postgres(),
        needed_for: "every test on PostgreSQL",
    },
    Package {
        debian: "chromium",
        found: || on_path("chromium"),
        needed_for: "the browser tests",
    },
    Package {
        debian: "chromium-driver",
        found: || on_path("chromedriver"),
        needed_for: "the browser tests",
    },
    Package {
        debian: "golang",
        found: || on_path("go"),
        needed_for: "the real control plane",
    },
    Package {
        debian: "python3-venv",
        found: || on_path("python3"),
        needed_for: "the Python MCP client",
    },
    Package {
        debian: "npm",
        found: || on_path("npm"),
        needed_for: "the JavaScript MCP clients, the MCP conformance suite and axe",
    },
];

/// Pinned: what the suite was seen working with.
const PYTHON_CLIENT: &str = "mcp==2.3.0";

/// Installs what is missing. Returns what could not be had.
pub fn ensure(fast: bool, install: bool) -> Result<Vec<String>> {
    if fast {
        return Ok(Vec::new());
    }
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| !(package.found)())
        .collect();
    if !missing.is_empty() && install {
        let names: Vec<&str> = missing.iter().map(|package| package.debian).collect();
        eprintln!("==> installing Debian packages: {}", names.join(" "));
        run(Command::new("apt-get").args(["update", "-qq"]));
        run(Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&names)
            .env("DEBIAN_FRONTEND", "noninteractive"));
    }
    let mut not_run: Vec<String> = PACKAGES
        .iter()
        .filter(|package| !(package.found)())
        .map(|package| {
            format!(
                "{} (package {} is missing)",
                package.needed_for, package.debian
            )
        })
        .collect();
    let python = super::root().join(".cache/python");
    if install && !ready(&python) {
        eprintln!("==> installing the Python MCP client");
        run(Command::new("python3").args(["-m", "venv"]).arg(&python));
        run(Command::new(python.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PYTHON_CLIENT,
        ]));
    }
    if !ready(&python) {
        not_run.push(format!(
            "the Python MCP client ({PYTHON_CLIENT} could not be installed)"
        ));
    }
    let clients = NodeClients::new();
    if install && !clients.ready() {
        eprintln!("==> installing the JavaScript MCP clients, the MCP conformance suite and axe");
        clients.install();
    }
    if !clients.ready() {
        let what = "the JavaScript MCP clients, the MCP conformance suite and axe";
        not_run.push(format!("{what} (npm could not install them)"));
    }
    Ok(not_run)
}

/// The Inspector, the TypeScript client, the MCP conformance suite, axe, and a Node that is new
/// enough for them, pinned by the lock file in `tests/node`, installed into `.cache/node`.
struct NodeClients {
    pinned: PathBuf,
    installed: PathBuf,
}

impl NodeClients {
    fn new() -> Self {
        let root = super::root();
        Self {
            pinned: root.join("tests/node"),
            installed: root.join(".cache/node"),
        }
    }

    /// Installed, and from this lock file.
    fn ready(&self) -> bool {
        let lock = |folder: &Path| std::fs::read(folder.join("package-lock.json")).ok();
        lock(&self.pinned).is_some_and(|pinned| lock(&self.installed) == Some(pinned))
            && Command::new(self.installed.join("node_modules/.bin/node"))
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
    }

    fn install(&self) {
        let copied = std::fs::create_dir_all(&self.installed).and_then(|()| {
            for name in ["package.json", "package-lock.json"] {
                std::fs::copy(self.pinned.join(name), self.installed.join(name))?;
            }
            Ok(())
        });
        if let Err(error) = copied {
            eprintln!("    cannot prepare {}: {error}", self.installed.display());
            return;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        run(npm.current_dir(&self.installed));
    }
}

fn ready(python: &Path) -> bool {
    Command::new(python.join("bin/python"))
        .args(["-c", "import mcp"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!(
            "    {} ended with {status}",
            command.get_program().display()
        ),
        Err(error) => eprintln!(
            "    cannot start {}: {error}",
            command.get_program().display()
        ),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn postgres() -> bool {
    on_path("initdb")
        || std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut versions| {
            versions.any(|version| {
                version.is_ok_and(|version| version.path().join("bin/initdb").is_file())
            })
        })
}
