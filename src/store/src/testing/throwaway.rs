//! A PostgreSQL cluster for one test process: real server binaries, a temporary folder, a free port,
//! fsync on, the three roles. It goes away with the process, even when that is killed.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign_domain::{OsEntropy, random_token};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::{Database, OpenOptions};

/// deploy/postgres/roles.sql, as an administrator would run it.
const ROLES: &str = include_str!("../../../../deploy/postgres/roles.sql");

/// Whose right to come in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The superuser.
    Admin,
    Migrator,
    Server,
    Executor,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Migrator => "countersign_migrator",
            Self::Server => "countersign_server",
            Self::Executor => "countersign_executor",
        }
    }
}

/// A running cluster. Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct ThrowawayPostgres {
    /// A shell that waits on its standard input: when this process ends, however it ends, the
    /// input closes and the shell stops the server.
    watchdog: Child,
    port: u16,
    password: String,
    databases: AtomicU32,
}

impl ThrowawayPostgres {
    /// Starts a cluster with one database, `countersign`, that has its roles and its schema. Takes
    /// about a second.
    pub async fn start() -> Result<Self, String> {
        let this = tokio::task::spawn_blocking(Self::boot)
            .await
            .map_err(|error| format!("starting PostgreSQL: {error}"))??;
        this.wait().await?;
        // Roles belong to the cluster, rights on tables to each database.
        this.execute("postgres", ROLES).await?;
        this.execute("postgres", &this.passwords()).await?;
        this.create("countersign").await?;
        Ok(this)
    }

    /// One cluster for the whole test process. Panics with a sentence when there cannot be one.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ThrowawayPostgres> = OnceCell::const_new();
        match SHARED.get_or_try_init(Self::start).await {
            Ok(cluster) => cluster,
            Err(why) => panic!("no PostgreSQL for the tests: {why}"),
        }
    }

    /// Address of the database `countersign` for this role.
    pub fn url(&self, role: Role) -> String {
        self.url_of("countersign", role)
    }

    /// Address of another database.
    pub fn url_of(&self, database: &str, role: Role) -> String {
        let (name, password, port) = (role.name(), &self.password, self.port);
        format!("postgres://{name}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// A new database with roles and schema; its name.
    pub async fn fresh_database(&self) -> Result<String, String> {
        let name = format!("fresh_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&name).await?;
        Ok(name)
    }

    /// A new database with nothing in it but what roles.sql does first; its name.
    pub async fn empty_database(&self) -> Result<String, String> {
        let name = format!("empty_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
            .await?;
        self.execute(&name, ROLES).await?;
        Ok(name)
    }

    /// Copies the database `countersign`, which nobody may be connected to, for [`Self::put_back`].
    pub async fn copy(&self) -> Result<(), String> {
        self.execute("postgres", "CREATE DATABASE old TEMPLATE countersign")
            .await
    }

    /// The copy takes the place of the database `countersign`.
    pub async fn put_back(&self) -> Result<(), String> {
        self.execute("postgres", "DROP DATABASE countersign")
            .await?;
        self.execute("postgres", "ALTER DATABASE old RENAME TO countersign")
            .await
    }

    /// Runs SQL as the superuser: what an attacker with full rights, or an administrator, would do.
    pub async fn execute(&self, database: &str, text: &str) -> Result<(), String> {
        self.execute_as(database, Role::Admin, text).await
    }

    /// Runs SQL with the rights of this role.
    pub async fn execute_as(&self, database: &str, role: Role, text: &str) -> Result<(), String> {
        let mut connection = self.connect(database, role).await?;
        sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .execute(&mut connection)
            .await
            .map_err(|error| format!("{error}, in: {text:.200}"))?;
        connection.close().await.map_err(|error| error.to_string())
    }

    async fn create(&self, name: &str) -> Result<(), String> {
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
            .await?;
        self.execute(name, ROLES).await?;
        let options = OpenOptions {
            migrate: true,
            ..OpenOptions::default()
        };
        let migrated = Database::open(&self.url_of(name, Role::Migrator), options).await;
        migrated.map_err(|error| error.to_string())?.close().await;
        self.execute(name, ROLES).await
    }

    fn passwords(&self) -> String {
        [Role::Migrator, Role::Server, Role::Executor]
            .map(|role| format!("ALTER ROLE {} PASSWORD '{}';", role.name(), self.password))
            .join("\n")
    }

    async fn connect(&self, database: &str, role: Role) -> Result<PgConnection, String> {
        let options: PgConnectOptions = self
            .url_of(database, role)
            .parse()
            .map_err(|error: sqlx::Error| error.to_string())?;
        options
            .disable_statement_logging()
            .connect()
            .await
            .map_err(|error| error.to_string())
    }

    async fn wait(&self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..300 {
            match self.connect("postgres", Role::Admin).await {
                Ok(connection) => {
                    connection.close().await.ok();
                    return Ok(());
                }
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!(
            "the server did not come up within 15 seconds: {last}"
        ))
    }

    fn boot() -> Result<Self, String> {
        let binaries = binaries()?;
        let owner = owner()?;
        let password = random_token(&OsEntropy);
        let folder = std::env::temp_dir().join(format!("countersign-pg-{}", &password[..12]));
        let said = |what: &str, error: std::io::Error| format!("{what}: {error}");
        std::fs::create_dir(&folder).map_err(|error| said("temporary folder", error))?;
        let secret = folder.join("password");
        std::fs::write(&secret, &password).map_err(|error| said("password file", error))?;
        for path in [&folder, &secret] {
            let mode = if path == &folder { 0o700 } else { 0o600 };
            std::fs::set_permissions(path, Permissions::from_mode(mode))
                .and_then(|()| chown(path, Some(owner.uid), Some(owner.gid)))
                .map_err(|error| said("temporary folder", error))?;
        }
        let data = folder.join("data");
        let made = owner
            .command(&binaries.join("initdb"), &folder)
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--username=admin",
                "--auth=scram-sha-256",
            ])
            .arg(format!("--pwfile={}", secret.display()))
            .arg("-D")
            .arg(&data)
            .output()
            .map_err(|error| said("initdb", error))?;
        if !made.status.success() {
            std::fs::remove_dir_all(&folder).ok();
            return Err(format!(
                "initdb: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            ));
        }
        let port = free_port().map_err(|error| said("free port", error))?;
        let script = "\"$0\" -D \"$1/data\" -p \"$2\" -c listen_addresses=127.0.0.1 \
             -c unix_socket_directories=\"$1\" -c max_connections=200 >\"$1/log\" 2>&1 & pid=$!; \
             read _; kill -INT $pid; wait $pid; cd /; rm -rf \"$1\"";
        let watchdog = owner
            .command(Path::new("/bin/sh"), &folder)
            .args(["-c", script])
            .arg(binaries.join("postgres"))
            .arg(&folder)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal reaches the whole group; the shell must live to clean up.
            .process_group(0)
            .spawn()
            .map_err(|error| said("postgres", error))?;
        Ok(Self {
            watchdog,
            port,
            password,
            databases: AtomicU32::new(0),
        })
    }
}

impl Drop for ThrowawayPostgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().ok();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The folder with `initdb` and `postgres`: of PATH, or where Debian puts them.
fn binaries() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .ok_or_else(|| {
            "`initdb` and `postgres` were not found: install the PostgreSQL server (Debian: postgresql)"
                .to_owned()
        })
}

/// The account that runs the server: its binaries refuse root.
struct Owner {
    uid: u32,
    gid: u32,
    change: bool,
}

impl Owner {
    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env("LC_ALL", "C.UTF-8");
        if self.change {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

fn owner() -> Result<Owner, String> {
    let own = std::fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
    if own.uid() != 0 {
        return Ok(Owner {
            uid: own.uid(),
            gid: own.gid(),
            change: false,
        });
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| {
            let line = accounts
                .lines()
                .find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            let uid = fields.next()?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Owner {
                uid,
                gid,
                change: true,
            })
        })
        .ok_or_else(|| "PostgreSQL refuses root and there is no other account to use".to_owned())
}
