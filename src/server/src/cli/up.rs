//! `countersign up`: a server and an executor for one person and one kubeconfig context. It only
//! supervises: each child makes and keeps its own key, and reads its own configuration.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_integrations::kubernetes::KubeReader;
use countersign_integrations::near_matches::near_matches;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::workstation::{Folder, Running, Secrets, Setup};

/// Where the executor keeps its spent records.
const REGISTER: &str = "countersign-executor";
/// For a child to finish what it holds.
const GRACE: Duration = Duration::from_secs(20);
/// A child that ran for longer is restarted at once.
const STEADY: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Options {
    /// Kubeconfig file; default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one.
    #[arg(long)]
    context: Option<String>,
    /// Where to keep configuration, keys and the database; default: $XDG_DATA_HOME/countersign.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Port of the pages and of MCP, on the loopback address.
    #[arg(long, default_value_t = 8750)]
    port: u16,
    /// Make a new log-in password and print it.
    #[arg(long)]
    new_password: bool,
    /// Say on every page and answer that the cluster is simulated.
    #[arg(long)]
    simulated: bool,
    /// Read live for every question, instead of watching the cluster and answering from memory.
    #[arg(long)]
    no_cache: bool,
}

/// Runs until Ctrl-C, SIGTERM or the final end of a child.
pub async fn up(options: Options) -> anyhow::Result<ExitCode> {
    let folder = Folder::find(options.data_dir.as_deref())?;
    folder.belongs_to_its_owner()?;
    let kubeconfig = Kubeconfig::find(options.kubeconfig.as_deref(), options.context.as_deref())?;
    let executor = beside_us("countersign-executor")?;
    let server = std::env::current_exe().context("cannot find our own executable")?;
    super::local_files::make_folder(folder.path())?;
    let _lock = lock(&folder)?;
    // Of an `up` that nobody could clean up after: it says nothing of this one.
    folder.forget_running();
    if options.port != 0 {
        port_is_free(options.port)?;
    }
    cluster_is_ready(&kubeconfig).await?;

    let setup = Setup {
        person: person(),
        cluster: cluster_id(&kubeconfig.context),
        kubeconfig: kubeconfig.path.clone(),
        context: kubeconfig.context.clone(),
        port: options.port,
        simulated: options.simulated,
        cache: !options.no_cache,
    };
    let secrets = folder.prepare(&setup, options.new_password)?;

    let stop = CancellationToken::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let (mut signals, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    let (ready, mut addresses) = mpsc::channel(1);
    let server = Program {
        name: "countersign serve",
        executable: server,
        arguments: vec![
            "serve".into(),
            "--config".into(),
            folder.join("server/server.toml").into(),
            "--exit-with-parent".into(),
            "--ready-json".into(),
            // While no server ran, a browser may have shown its cookie to whoever had the port.
            "--end-sessions".into(),
        ],
        ready: Some(ready),
    };
    let executor = Program {
        name: "countersign-executor",
        executable: executor,
        arguments: vec![
            "run".into(),
            "--config".into(),
            folder.join("executor/executor.toml").into(),
            "--exit-with-parent".into(),
        ],
        ready: None,
    };
    let server = tokio::spawn(server.supervise(stop.clone()));
    let executor = tokio::spawn(executor.supervise(stop.clone()));
    let mut announced = false;
    loop {
        tokio::select! {
            address = addresses.recv() => {
                let Some(address) = address else { break };
                let running = running(&folder, &address, &setup);
                folder.write_running(&running)?;
                if !announced {
                    announce(&running, &setup, &secrets);
                    announced = true;
                }
            }
            () = stop.cancelled() => break,
        }
    }
    folder.forget_running();
    stop.cancel();
    let (server, executor) = tokio::join!(server, executor);
    server??;
    executor??;
    eprintln!("Stopped.");
    Ok(ExitCode::SUCCESS)
}

/// One `up` for one data folder. The lock dies with the process.
fn lock(folder: &Folder) -> anyhow::Result<File> {
    let path = folder.join("up.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => match folder.running() {
            Some(running) => bail!(
                "it is already running (process {}): pages at {}, MCP at {}. Stop that one first, \
                 or use another --data-dir and --port",
                running.pid,
                running.url,
                running.mcp_url
            ),
            None => bail!(
                "another `countersign up` is just starting or stopping with {}",
                folder.path().display()
            ),
        },
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn port_is_free(port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .map(drop)
        .map_err(|_| anyhow::anyhow!("{address} is in use: choose another with --port"))
}

/// The cluster answers, and has the namespace of the spent records. Nothing is made there silently.
async fn cluster_is_ready(kubeconfig: &Kubeconfig) -> anyhow::Result<()> {
    let reader = KubeReader::from_kubeconfig(Some(&kubeconfig.path), Some(&kubeconfig.context));
    let version = reader
        .version()
        .await
        .with_context(|| format!("context `{}` cannot be used", kubeconfig.context))?;
    let namespaces = reader
        .list_namespaces()
        .await
        .with_context(|| format!("context `{}` cannot be used", kubeconfig.context))?;
    if !namespaces
        .iter()
        .any(|namespace| namespace.name == REGISTER)
    {
        bail!(
            "the cluster has no namespace `{REGISTER}`, in which the executor records what it has \
             spent. Make it, then start again:\n\n  kubectl --kubeconfig {} --context {} create \
             namespace {REGISTER}\n",
            shell_word(&kubeconfig.path.to_string_lossy()),
            shell_word(&kubeconfig.context)
        );
    }
    eprintln!(
        "Context {} answers (Kubernetes {}).",
        kubeconfig.context, version.git_version
    );
    Ok(())
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The context that the children are pinned to: `kubectl config use-context` elsewhere must not
/// move them to another cluster.
struct Kubeconfig {
    path: PathBuf,
    context: String,
}

#[derive(Deserialize)]
struct KubeconfigFile {
    #[serde(rename = "current-context", default)]
    current: Option<String>,
    #[serde(default)]
    contexts: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Kubeconfig {
    fn find(path: Option<&Path>, context: Option<&str>) -> anyhow::Result<Self> {
        let paths = match path {
            Some(path) => vec![path.to_owned()],
            None => default_kubeconfigs()?,
        };
        let mut files = Vec::new();
        for path in paths {
            let path = std::path::absolute(path)?;
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
            // The parser's own text may quote a line, and a line may hold a token.
            let file: KubeconfigFile = serde_saphyr::from_str(&text).map_err(|_| {
                anyhow::anyhow!("the kubeconfig {} is not valid YAML", path.display())
            })?;
            files.push((path, file));
        }
        let wanted = context
            .map(str::to_owned)
            .or_else(|| files.iter().find_map(|(_, file)| file.current.clone()))
            .filter(|name| !name.is_empty())
            .context("the kubeconfig has no current context: name one with --context")?;
        let names = |file: &KubeconfigFile| -> Vec<String> {
            file.contexts
                .iter()
                .flatten()
                .map(|context| context.name.clone())
                .collect()
        };
        if let Some((path, _)) = files.iter().find(|(_, file)| names(file).contains(&wanted)) {
            return Ok(Self {
                path: path.clone(),
                context: wanted,
            });
        }
        let all: Vec<String> = files.iter().flat_map(|(_, file)| names(file)).collect();
        let near = near_matches(&wanted, all.iter().map(String::as_str));
        let advice = match (near.first(), all.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, false) => format!("there are: {}", all.join(", ")),
            (None, true) => "it has none".to_owned(),
        };
        bail!("the kubeconfig has no context `{wanted}`; {advice}")
    }
}

fn default_kubeconfigs() -> anyhow::Result<Vec<PathBuf>> {
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        let paths: Vec<PathBuf> = std::env::split_paths(&list)
            .filter(|path| path.is_file())
            .collect();
        if paths.is_empty() {
            bail!("no file of $KUBECONFIG exists: correct it or name one with --kubeconfig");
        }
        return Ok(paths);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let path = home
        .map(|home| home.join(".kube/config"))
        .filter(|path| path.is_file());
    path.map(|path| vec![path])
        .context("no kubeconfig was found: set KUBECONFIG, or name a file with --kubeconfig")
}

/// The context's name as a cluster id: its last part (cloud providers put an account number and a
/// region in front), at most 63 characters.
fn cluster_id(context: &str) -> String {
    let last = context
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(context);
    let id: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    let id = id.trim_matches(['-', '_', '.']).to_owned();
    if id.is_empty() {
        "cluster".to_owned()
    } else {
        id
    }
}

/// The person at this workstation, as a registry id.
fn person() -> String {
    let name = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_default();
    let id: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.@".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if id.is_empty() { "me".to_owned() } else { id }
}

fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find our own executable")?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        bail!(
            "{} is missing: install `{name}` beside `countersign`",
            path.display()
        );
    }
    Ok(path)
}

fn running(folder: &Folder, address: &str, setup: &Setup) -> Running {
    let url = format!("{}/", address.trim_end_matches('/'));
    Running {
        version: 1,
        pid: std::process::id(),
        mcp_url: format!("{url}mcp"),
        url,
        key_file: folder.key_file(),
        context: setup.context.clone(),
    }
}

/// One child.
struct Program {
    name: &'static str,
    executable: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    /// Where the address goes that it prints when it is ready.
    ready: Option<mpsc::Sender<String>>,
}

impl Program {
    /// Keeps the child running until told to stop. A child that fails before it ever ran steadily
    /// ends everything: it has said why.
    async fn supervise(self, stop: CancellationToken) -> anyhow::Result<()> {
        let _ends_the_other = stop.clone().drop_guard();
        let mut pause = Duration::from_secs(1);
        let mut ever_steady = false;
        loop {
            let began = Instant::now();
            let mut child = self.start()?;
            // The child ends when this is dropped.
            let line_to_child = child.stdin.take();
            let told = self.listen(&mut child);
            let status = tokio::select! {
                status = child.wait() => status?,
                () = stop.cancelled() => {
                    drop(line_to_child);
                    if timeout(GRACE, child.wait()).await.is_err() {
                        eprintln!("{} did not end within {} s and is killed", self.name, GRACE.as_secs());
                        child.kill().await?;
                    }
                    return Ok(());
                }
            };
            drop(line_to_child);
            let was_ready = told.await.unwrap_or(false);
            ever_steady |= was_ready || began.elapsed() > Duration::from_secs(10);
            if !ever_steady {
                bail!(
                    "{} could not start ({status}); its reason stands above",
                    self.name
                );
            }
            if began.elapsed() > STEADY {
                pause = Duration::from_secs(1);
            }
            eprintln!(
                "{} ended ({status}); it starts again in {} s",
                self.name,
                pause.as_secs()
            );
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.executable);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Settings in our environment would silently win over the files just written.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COUNTERSIGN__") || text.starts_with("COUNTERSIGN_EXECUTOR__") {
                command.env_remove(&name);
            }
        }
        command
            .spawn()
            .with_context(|| format!("cannot start {}", self.executable.display()))
    }

    /// Reads the child's output to its end; resolves to whether it ever said that it is ready.
    fn listen(&self, child: &mut Child) -> tokio::task::JoinHandle<bool> {
        let (output, ready) = (child.stdout.take(), self.ready.clone());
        tokio::spawn(async move {
            let Some(output) = output else { return false };
            let mut lines = BufReader::new(output).lines();
            let mut was_ready = false;
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(told) = serde_json::from_str::<serde_json::Value>(&line) else {
                    continue;
                };
                if let (Some(url), Some(ready)) = (told["url"].as_str(), &ready) {
                    was_ready = true;
                    let _ = ready.send(url.to_owned()).await;
                }
            }
            was_ready
        })
    }
}

fn announce(running: &Running, setup: &Setup, secrets: &Secrets) {
    let own = std::env::current_exe().unwrap_or_else(|_| "countersign".into());
    let own = own.display().to_string();
    let folder = running
        .key_file
        .parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf);
    let default = Folder::find(None)
        .ok()
        .map(|folder| folder.path().to_path_buf());
    // The bridge finds the default folder by itself.
    let mut arguments = vec!["stdio".to_owned()];
    if folder != default
        && let Some(folder) = folder
    {
        arguments.extend(["--data-dir".to_owned(), folder.display().to_string()]);
    }
    let json = serde_json::json!({ "command": own, "args": arguments });
    let words: Vec<String> = std::iter::once(&own)
        .chain(&arguments)
        .map(|word| shell_word(word))
        .collect();
    let words = words.join(" ");
    let password = match &secrets.password {
        Some(password) => format!("{password}   (shown only now)"),
        None => "as printed at the first start (new one: countersign up --new-password)".to_owned(),
    };
    println!(
        "\nCountersign runs for context {context}{simulated}.\n\n\
         Pages      {url}\n\
         Log-in     {person}\n\
         Password   {password}\n\
         Policy     you may approve what your own AI proposes (allow_requester)\n\
         Lock       absent: no admission policy in the cluster holds the executor\n\n\
         Claude Code\n  claude mcp add countersign -- {words}\n\
         Cursor, in ~/.cursor/mcp.json\n  {cursor}\n\
         VS Code, in .vscode/mcp.json\n  {code}\n\
         HTTP\n  {mcp}   with the header: Authorization: Bearer $(cat {key})\n\n\
         Ctrl-C ends server and executor.",
        context = setup.context,
        simulated = if setup.simulated { " (simulated)" } else { "" },
        url = running.url,
        person = setup.person,
        cursor = serde_json::json!({ "mcpServers": { "countersign": json } }),
        code = serde_json::json!({ "servers": { "countersign": json } }),
        mcp = running.mcp_url,
        key = shell_word(&running.key_file.to_string_lossy()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_become_short_ids() {
        assert_eq!(cluster_id("kind-dev"), "kind-dev");
        assert_eq!(
            cluster_id("arn:aws:eks:eu-west-1:123456789012:cluster/prod"),
            "prod"
        );
        assert_eq!(cluster_id("admin@home lab"), "admin-home-lab");
        assert_eq!(cluster_id("///"), "cluster");
    }

    #[test]
    fn the_context_is_pinned_and_a_wrong_one_gets_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text =
            "current-context: kind-dev\ncontexts:\n- name: kind-dev\n  context: {}\n- name: prod\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(
            Kubeconfig::find(Some(&path), None).unwrap().context,
            "kind-dev"
        );
        assert_eq!(
            Kubeconfig::find(Some(&path), Some("prod")).unwrap().context,
            "prod"
        );
        let wrong = Kubeconfig::find(Some(&path), Some("kind-dve"))
            .err()
            .unwrap()
            .to_string();
        assert!(wrong.contains("did you mean `kind-dev`?"), "{wrong}");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("/a/b.c"), "/a/b.c");
        assert_eq!(shell_word("it's me"), r"'it'\''s me'");
    }
}
