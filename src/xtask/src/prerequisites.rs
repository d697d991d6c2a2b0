//! What the whole suite needs besides Rust, and how to get it: PostgreSQL's server programs,
//! Chromium with its driver, Go, Node, and MCP clients in Python and JavaScript. Installed where missing; where that is
//! not possible the name of what will not run is returned, loudly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// A Debian package, and what keeps it from being used, if anything does.
struct Package {
    debian: &'static str,
    lack: fn() -> Option<String>,
    needed_for: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        debian: "postgresql",
        lack: || (!postgres()).then(|| "`initdb` was not found".to_owned()),
        needed_for: "every test on PostgreSQL",
    },
    Package {
        debian: "chromium",
        lack: || not_on_path("chromium"),
        needed_for: "the browser tests",
    },
    Package {
        debian: "chromium-driver",
        lack: || not_on_path("chromedriver"),
        needed_for: "the browser tests",
    },
    Package {
        debian: "golang",
        lack: go,
        needed_for: "the real control plane",
    },
    Package {
        debian: "python3-venv",
        lack: || not_on_path("python3"),
        needed_for: "the Python MCP client",
    },
    Package {
        debian: "npm",
        lack: || not_on_path("npm"),
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
        .filter(|package| (package.lack)().is_some())
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
        .filter_map(|package| Some((package, (package.lack)()?)))
        .map(|(package, lack)| {
            let Package {
                needed_for, debian, ..
            } = package;
            format!("{needed_for} (package {debian}: {lack})")
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

fn not_on_path(program: &str) -> Option<String> {
    (!on_path(program)).then(|| format!("`{program}` is not on PATH"))
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

/// Go, as new as the control plane's module asks. An older one might fetch a newer one: nothing that a
/// test should wait for.
fn go() -> Option<String> {
    if let Some(lack) = not_on_path("go") {
        return Some(lack);
    }
    let module = super::root().join("tests/control-plane/go.mod");
    let module = std::fs::read_to_string(module).unwrap_or_default();
    let told = Command::new("go")
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    too_old(&module, &told)
}

/// Holds what `go version` says against the `go` line of a go.mod.
fn too_old(module: &str, told: &str) -> Option<String> {
    let wanted = module.lines().find_map(|line| line.strip_prefix("go "))?;
    let found = told.split_whitespace().nth(2).unwrap_or_default();
    (version(found.trim_start_matches("go")) < version(wanted)).then(|| {
        format!(
            "Go {wanted} or newer is needed, and `go version` says `{}`",
            told.trim()
        )
    })
}

/// `1.26.8` and `1.26rc1` as numbers that can be compared.
fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap_or_default().parse().unwrap_or(0)
    });
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_go_is_none() {
        let module = "module x\n\ngo 1.26.0\n\nrequire (\n";
        for enough in ["go1.26.0", "go1.26.8", "go1.27rc1", "go2.0"] {
            let told = format!("go version {enough} linux/amd64");
            assert_eq!(too_old(module, &told), None, "{enough}");
        }
        for old in ["go1.19.8", "go1.25.12", "go1.9", "devel", ""] {
            let told = format!("go version {old} linux/amd64");
            let lack = too_old(module, &told).unwrap();
            assert!(lack.contains("1.26.0") && lack.contains(old), "{lack}");
        }
        assert!(too_old(module, "").is_some(), "it does not run");
    }

    #[test]
    fn the_control_plane_says_which_go_it_needs() {
        let module = super::super::root().join("tests/control-plane/go.mod");
        let module = std::fs::read_to_string(module).unwrap();
        assert!(too_old(&module, "go version go1.0 linux/amd64").is_some());
    }
}
