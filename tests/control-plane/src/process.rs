//! Child processes that cannot outlive the test process, and their ports.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};

use anyhow::{Context, Result, bail};

/// One component of the control plane; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with both output streams appended to `log`.
    pub(crate) fn spawn(
        name: &'static str,
        program: &[OsString],
        args: &[String],
        log: &Path,
    ) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("log file {}", log.display()))?;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(setpriv) = find_on_path("setpriv") {
            words.extend([setpriv.into(), "--pdeathsig".into(), "KILL".into()]);
        }
        words.extend(program.iter().cloned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal is for the parent, which then kills in the right order.
            .process_group(0);
        let child = spawn_on_lasting_thread(command).with_context(|| format!("start {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of the log when the process is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        bail!(
            "{} ended with {status}; the end of its log:\n{tail}",
            self.name
        )
    }

    /// SIGKILL and wait; works on a stopped process too.
    pub(crate) fn kill(&mut self) {
        // Both fail only if the process was already reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name (`STOP`, `CONT`). The standard library has no call
    /// for it, and the shell's `kill` is there on every POSIX system.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let script = format!("kill -{signal} {}", self.id());
        let status = Command::new("sh").args(["-c", &script]).status()?;
        if status.success() {
            Ok(())
        } else {
            bail!("{script}: {status}")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The parent-death signal fires when the *thread* that made the child ends, and
/// test threads and runtime workers end early. So one thread that lasts as long
/// as this process starts all children.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // The receiver waits below; if it is gone, the child is nobody's.
                if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        });
        sender
    });
    let (answer, result) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    orders
        .send((command, answer))
        .map_err(|_| gone(mpsc::RecvError))?;
    result.recv().map_err(gone)?
}

/// Ports on 127.0.0.1 that are free now, each another.
///
/// Taken from below the range that kernels use for outgoing connections, so that
/// they are still free a moment later, and again after a restart.
pub(crate) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::new();
    for _ in 0..200 {
        let port = 12_000 + u16::try_from(RandomState::new().hash_one(()) % 20_000)?;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if held.len() == COUNT {
            let mut ports = [0; COUNT];
            for (port, listener) in ports.iter_mut().zip(&held) {
                *port = listener.local_addr()?.port();
            }
            return Ok(ports);
        }
    }
    bail!("no {COUNT} free ports between 12000 and 31999 on 127.0.0.1")
}

pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
