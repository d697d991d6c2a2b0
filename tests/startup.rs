//! What keeps either program from starting is told in one sentence, with a failure as exit code and
//! nothing half made.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign_store::testing::{Role, execute_sqlite};
use countersign_tests::stack::process::binary;
use countersign_tests::stack::{Engine, Options, Stack, free_port};
use serde_json::Value;

#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    words: [&'static str; 3],
    /// The folder of its configuration.
    part: &'static str,
    /// Before the name of a key in the environment.
    prefix: &'static str,
    role: Role,
}

const SERVER: Program = Program {
    name: "countersign",
    words: ["serve", "--config", "countersign.toml"],
    part: "server",
    prefix: "COUNTERSIGN__",
    role: Role::Server,
};
const EXECUTOR: Program = Program {
    name: "countersign-executor",
    words: ["run", "--config", "executor.toml"],
    part: "executor",
    prefix: "COUNTERSIGN_EXECUTOR__",
    role: Role::Executor,
};

/// Everything that both programs need, in good order, and what a case makes wrong with it.
struct Place {
    stack: Stack,
}

impl Place {
    async fn new(engine: Engine) -> Self {
        let options = Options {
            engine,
            ..Options::default()
        };
        let mut stack = Stack::prepare(options, |_| ()).await.unwrap();
        // Each has the other's public key, and the schema is there.
        stack.start_server().await.unwrap();
        stack.stop().await.unwrap();
        Self { stack }
    }

    fn file(&self) -> PathBuf {
        self.stack.path("data/countersign.db")
    }

    /// The program with one key set to something else.
    fn run(&self, program: Program, key: &str, value: &str) -> Output {
        Command::new(binary(program.name).unwrap())
            .args(program.words)
            .current_dir(self.stack.path(program.part))
            .env(format!("{}{key}", program.prefix), value)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// It must fail, with this as its last words, and say nothing else than what it logs.
    fn refused(&self, program: Program, key: &str, value: &str, told: &[&str]) {
        let before = made(self.stack.folder.path());
        let output = self.run(program, key, value);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}: {text}", program.name);
        // What is not a log line is the sentence.
        let is_log = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
        let (log, said): (Vec<&str>, Vec<&str>) = text.lines().partition(is_log);
        let last = format!("{}: ", program.name);
        assert!(
            said.len() == 1 && said[0].starts_with(&last),
            "not one sentence: {text}"
        );
        for word in told {
            assert!(said[0].contains(word), "no `{word}` in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        assert!(!log.iter().any(|line| line.contains("ERROR")), "{text}");
        assert_eq!(made(self.stack.folder.path()), before, "{}", said[0]);
    }
}

/// All files below: what a failed start leaves would be among them.
fn made(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(made(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_cannot_be_used_or_a_port_in_use_is_one_sentence() {
    let place = Place::new(Engine::Sqlite).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = place.file();
    let good = format!("sqlite://{}", file.display());
    let folder = format!("sqlite://{}", place.stack.path("data").display());
    let below_a_file = format!("sqlite://{}/below.db", file.display());
    const URL: &str = "DATABASE__URL";

    for program in [SERVER, EXECUTOR] {
        place.refused(program, "HTTP__LISTEN", &taken, &[&taken, "in use"]);
        place.refused(program, URL, &folder, &["is a folder"]);
        place.refused(program, URL, &below_a_file, &["cannot be reached"]);

        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, mode(0o400)).unwrap();
        place.refused(program, URL, &good, &["read-only", "countersign.db"]);
        std::fs::set_permissions(&file, mode(0o600)).unwrap();

        let newer = "UPDATE _sqlx_migrations SET version = version + 1000";
        execute_sqlite(&file, newer).await.unwrap();
        place.refused(
            program,
            URL,
            &good,
            &["schema version", "use the newer program"],
        );
        let back = "UPDATE _sqlx_migrations SET version = version - 1000";
        execute_sqlite(&file, back).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_cannot_be_used_is_one_sentence() {
    let place = Place::new(Engine::Postgres).await;
    let nobody = free_port().unwrap();
    const URL: &str = "DATABASE__URL";
    for program in [SERVER, EXECUTOR] {
        let away = format!("postgres://me:hunter2@127.0.0.1:{nobody}/countersign");
        place.refused(program, URL, &away, &["cannot be reached"]);
        let output = place.run(program, URL, &away);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("hunter2"), "the password is told: {text}");

        let postgres = place.stack.postgres.as_ref().unwrap();
        let url = postgres.url(program.role);
        let version = async |change: &str| {
            let text = format!("UPDATE _sqlx_migrations SET version = version {change}");
            postgres.execute("countersign", &text).await.unwrap();
        };
        version("+ 1000").await;
        place.refused(
            program,
            URL,
            &url,
            &["schema version", "use the newer program"],
        );
        version("- 1000").await;
        version("- 1").await;
        if program.part == "server" {
            // The executor waits a while, for a migration that is under way.
            place.refused(program, URL, &url, &["version 0", "countersign migrate"]);
        }
        version("+ 1").await;
    }
}
