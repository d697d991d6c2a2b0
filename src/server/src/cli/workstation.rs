//! What `countersign up` keeps in its data folder, and what `countersign stdio` reads there.
//!
//! ```text
//! up.lock            held while `up` runs
//! up.json            where it runs, for people: present while it runs
//! mcp.sock           where its server answers MCP to `stdio`
//! client/api-key     the AI client's key
//! server/            configuration, rules and keys of the server
//! executor/          the same for the executor
//! public/            the public halves of both keys
//! database/          SQLite
//! ```
//! All folders have mode 0700. Each process is given the path of its own folder only. Under one
//! user that is order, not a wall: see the threat model. Between users it is a wall, and the socket
//! stands behind it: whoever answers there is the user who owns the folder. A port is anybody's
//! who takes it while our server does not run, so `stdio` sends its key to no port.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::check::{hash, random_key};
use super::local_files::{Readers, make_folder, make_once, read_secret, write};
use crate::mcp::auth::hash_of;

/// The agent in the workstation's registry.
pub const AGENT: &str = "assistant";

/// `up.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Grows when a field changes its meaning.
    pub version: u32,
    /// Of `countersign up`.
    pub pid: u32,
    /// Of the server; ends in `/`.
    pub url: String,
    /// Where MCP is served.
    pub mcp_url: String,
    /// The file with the AI client's key.
    pub key_file: PathBuf,
    /// The kubeconfig context.
    pub context: String,
}

/// The data folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// What the configuration files are made from.
pub struct Setup {
    pub person: String,
    pub cluster: String,
    pub kubeconfig: PathBuf,
    pub context: String,
    pub port: u16,
    /// This cluster is a playground.
    pub simulated: bool,
    /// The server keeps a picture of the cluster in memory.
    pub cache: bool,
}

/// What only the first start knows.
pub struct Secrets {
    /// Present when it was made just now; only its hash is kept.
    pub password: Option<String>,
}

impl Folder {
    /// `--data-dir`, else `$XDG_DATA_HOME/countersign`, else `~/.local/share/countersign`.
    pub fn find(wanted: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = wanted {
            return Ok(Self(std::path::absolute(path)?));
        }
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|base| Self(base.join("countersign")))
            .context("neither XDG_DATA_HOME nor HOME is set: name a folder with --data-dir")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where the server answers MCP to `stdio`.
    pub fn socket(&self) -> PathBuf {
        self.join("mcp.sock")
    }

    pub fn key_file(&self) -> PathBuf {
        self.join("client/api-key")
    }

    /// That the folder, where it is there, is this user's, and that nobody else can put anything into
    /// it. Of a link both count: whose it is, and whose is what it leads to.
    pub fn belongs_to_its_owner(&self) -> anyhow::Result<()> {
        let us = rustix::process::geteuid().as_raw();
        let shown = self.0.display();
        let mut mode = 0;
        for found in [
            std::fs::symlink_metadata(&self.0),
            std::fs::metadata(&self.0),
        ] {
            let Ok(found) = found else { return Ok(()) };
            if found.uid() != us {
                bail!(
                    "the data folder {shown} belongs to another user (uid {}): name one of your \
                     own with --data-dir",
                    found.uid()
                );
            }
            mode = found.permissions().mode() & 0o777;
        }
        if mode & 0o022 != 0 {
            bail!(
                "others may write to the data folder {shown} (mode {mode:03o}): chmod 700 it, or \
                 name another one with --data-dir"
            );
        }
        Ok(())
    }

    /// What the holder of the lock says of itself. Nobody may send a secret to the addresses in it.
    pub fn running(&self) -> Option<Running> {
        let text = std::fs::read_to_string(self.join("up.json")).ok()?;
        serde_json::from_str::<Running>(&text)
            .ok()
            .filter(|running| running.version == 1)
    }

    pub fn write_running(&self, running: &Running) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(running)? + "\n";
        write(&self.join("up.json"), &text, Readers::Owner)
    }

    pub fn forget_running(&self) {
        let _ = std::fs::remove_file(self.join("up.json"));
    }

    /// The AI client's key.
    pub fn api_key(path: &Path) -> anyhow::Result<String> {
        let key = read_secret(path)?
            .with_context(|| format!("{} is missing: run `countersign up`", path.display()))?;
        Ok(key.trim().to_owned())
    }

    /// Makes folders, secrets and rules that are not there, and writes both configurations afresh:
    /// they follow the command line. Policy and registry are the user's after the first start.
    pub fn prepare(&self, setup: &Setup, new_password: bool) -> anyhow::Result<Secrets> {
        for name in [
            "",
            "client",
            "server",
            "server/keys",
            "executor",
            "executor/keys",
            "public",
            "database",
        ] {
            make_folder(&self.join(name))?;
        }
        let key_file = self.key_file();
        make_once(&key_file, &(random_key() + "\n"))?;
        let api_key = Self::api_key(&key_file)?;

        let hash_file = self.join("server/password-hash");
        let mut password = None;
        if new_password || !hash_file.exists() {
            // Short enough to type on a phone, 103 bits.
            let chosen: String = random_key().chars().skip(3).take(18).collect();
            write(&hash_file, &(hash(&chosen)? + "\n"), Readers::Owner)?;
            password = Some(chosen);
        }
        let hash = read_secret(&hash_file)?.context("the password's hash vanished")?;

        for side in ["server", "executor"] {
            make_once(&self.join(&format!("{side}/policy.toml")), &policy(setup))?;
            make_once(
                &self.join(&format!("{side}/registry.toml")),
                &registry(&setup.person),
            )?;
        }
        let database = format!(
            "sqlite://{}",
            self.join("database/countersign.db").display()
        );
        let server = server_config(setup, &database, &hash_of(&api_key), hash.trim());
        write(&self.join("server/server.toml"), &server, Readers::Owner)?;
        let executor = executor_config(setup, &database);
        write(
            &self.join("executor/executor.toml"),
            &executor,
            Readers::Owner,
        )?;
        Ok(Secrets { password })
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn policy(setup: &Setup) -> String {
    format!(
        "# Made by `countersign up`; yours from now on. Server and executor each have a copy: the\n\
         # executor's counts. allow_requester lets the person behind the AI approve: right for one\n\
         # person at a workstation, wrong for a team.\n\
         [[rule]]\n\
         name = \"workstation\"\n\
         actions = [\"restart_pod\"]\n\
         clusters = [{}]\n\
         namespaces = [\"*\"]\n\
         risk = \"medium\"\n\
         require = [{{ group = \"owner\", count = 1, tier = 1, channels = [\"web\"] }}]\n\
         decide_within = \"30m\"\n\
         execute_within = \"10m\"\n\
         allow_requester = true\n",
        quoted(&setup.cluster)
    )
}

fn registry(person: &str) -> String {
    let person = quoted(person);
    format!(
        "# Made by `countersign up`; yours from now on.\n\
         [[person]]\nid = {person}\ngroups = [\"owner\"]\n\n\
         [[agent]]\nid = \"{AGENT}\"\npeople = [{person}]\n"
    )
}

fn access(setup: &Setup) -> String {
    format!(
        "id = {}\nkubeconfig = {}\ncontext = {}\n",
        quoted(&setup.cluster),
        quoted(&setup.kubeconfig.to_string_lossy()),
        quoted(&setup.context)
    )
}

fn server_config(
    setup: &Setup,
    database: &str,
    api_key_sha256: &str,
    password_hash: &str,
) -> String {
    format!(
        "# Written by each `countersign up`. Change policy.toml and registry.toml instead.\n\
         policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\nsocket = \"../mcp.sock\"\n\n\
         [database]\nurl = {database}\n\n\
         [keys]\nfile = \"keys/server.key\"\npublic_file = \"../public/server.pub\"\n\
         executor_public_key_file = \"../public/executor.pub\"\n\n\
         [[cluster]]\n{access}simulated = {simulated}\ncache = {cache}\n\n\
         [[api_key]]\nname = \"workstation\"\nagent = \"{AGENT}\"\nsha256 = \"{api_key_sha256}\"\n\n\
         [[account]]\nperson = {person}\npassword_hash = {hash}\n\n\
         [log]\nformat = \"text\"\nfilter = \"warn,countersign_server::rules=info\"\n",
        port = setup.port,
        access = access(setup),
        simulated = setup.simulated,
        cache = setup.cache,
        person = quoted(&setup.person),
        hash = quoted(password_hash),
        database = quoted(database),
    )
}

fn executor_config(setup: &Setup, database: &str) -> String {
    format!(
        "# Written by each `countersign up`. Change policy.toml and registry.toml instead.\n\
         policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\n\
         [database]\nurl = {database}\n\n\
         [keys]\nfile = \"keys/executor.key\"\npublic_file = \"../public/executor.pub\"\n\
         attestation_public_key_file = \"../public/server.pub\"\n\n\
         [cluster]\n{access}cluster_lock = \"absent\"\n\n\
         [log]\nformat = \"text\"\nfilter = \"warn\"\n",
        access = access(setup),
        database = quoted(database),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    #[test]
    fn a_folder_or_link_of_another_user_is_refused() {
        let refused = |path: &Path| {
            let checked = Folder(path.to_owned()).belongs_to_its_owner();
            checked.is_err_and(|error| error.to_string().contains("belongs to another user"))
        };
        let data = tempfile::tempdir().unwrap();
        let (own, link) = (data.path().join("own"), data.path().join("link"));
        make_folder(&own).unwrap();
        assert!(!refused(&own) && !refused(&data.path().join("missing")));
        symlink(&own, &link).unwrap();
        assert!(!refused(&link));
        if !rustix::process::geteuid().is_root() {
            // Only root can give anything away; what is root's is another's.
            assert!(refused(Path::new("/")));
            return;
        }
        lchown(&link, Some(1), None).unwrap();
        assert!(refused(&link), "it could lead elsewhere by the next look");
        chown(&own, Some(1), None).unwrap();
        assert!(refused(&own));
    }

    #[test]
    fn both_configurations_can_be_used_and_the_second_start_keeps_secrets_and_rules() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::find(Some(data.path())).unwrap();
        let setup = Setup {
            person: "o'brien".into(),
            cluster: "kind \"x\"".into(),
            kubeconfig: "/home/a b/config".into(),
            context: "kind".into(),
            port: 8750,
            simulated: false,
            cache: true,
        };
        let first = folder
            .prepare(
                &Setup {
                    person: "li".into(),
                    ..setup
                },
                false,
            )
            .unwrap();
        assert!(
            first
                .password
                .as_ref()
                .is_some_and(|password| password.len() == 18)
        );
        let api_key = Folder::api_key(&folder.join("client/api-key")).unwrap();
        let loaded = crate::config::Loaded::from_file(&folder.join("server/server.toml")).unwrap();
        let rules = super::super::check::whole(&loaded).unwrap();
        assert!(rules.registry.agent(AGENT).is_some() && rules.policy.rules[0].allow_requester);
        assert_eq!(loaded.config.api_keys[0].sha256, hash_of(&api_key));
        let executor = std::fs::read_to_string(folder.join("executor/executor.toml")).unwrap();
        toml::from_str::<toml::Table>(&executor).unwrap();
        for secret in [
            api_key.as_str(),
            "password_hash",
            loaded.config.api_keys[0].sha256.as_str(),
        ] {
            assert!(!executor.contains(secret));
        }

        std::fs::write(folder.join("executor/policy.toml"), "# mine").unwrap();
        let setup = Setup {
            person: "li".into(),
            cluster: "kind".into(),
            kubeconfig: "/k".into(),
            context: "kind".into(),
            port: 1,
            simulated: false,
            cache: true,
        };
        let second = folder.prepare(&setup, false).unwrap();
        assert_eq!(
            Folder::api_key(&folder.join("client/api-key")).unwrap(),
            api_key
        );

        assert!(second.password.is_none());
        let kept = std::fs::read_to_string(folder.join("executor/policy.toml")).unwrap();
        assert_eq!(kept, "# mine");
        assert!(folder.prepare(&setup, true).unwrap().password.is_some());
    }
}
