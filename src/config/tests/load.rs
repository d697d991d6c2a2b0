//! What a person sees who makes a mistake in the configuration, and what wins when none is made.

#![expect(clippy::unwrap_used, reason = "a failure here is the test failing")]

use std::ffi::OsString;
use std::path::PathBuf;

use countersign_config::{SecretError, SecretSource, load_with};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    database: Database,
    #[serde(default)]
    http: Http,
    jira: Option<Jira>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: String,
    #[serde(default)]
    pool: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    hosts: Vec<String>,
    format: Format,
    quiet: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jira {
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
}

fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, toml).unwrap();
    let env = env
        .iter()
        .map(|(k, v)| (OsString::from(k), OsString::from(v)));
    load_with(Some(&file), "COUNTERSIGN__", env).map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
    })
}

fn refusal(toml: &str, env: &[(&str, &str)]) -> String {
    load(toml, env).unwrap_err()
}

const OK: &str = "[database]\nurl = 'sqlite:x'\n";

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        "[database]\nurl = 'sqlite:x'\npool = 3\n[http]\nformat = 'json'",
        &[
            ("COUNTERSIGN__DATABASE__URL", "12345"),
            ("COUNTERSIGN__HTTP__HOSTS", "['a', 'b']"),
            ("COUNTERSIGN__HTTP__FORMAT", "text"),
            ("COUNTERSIGN__HTTP__QUIET", "true"),
            ("UNRELATED__DATABASE__POOL", "9"),
        ],
    )
    .unwrap();
    assert_eq!(
        config.database.url, "12345",
        "text stays text even if it looks like a number"
    );
    assert_eq!(config.database.pool, 3);
    assert_eq!(config.http.hosts, ["a", "b"]);
    assert_eq!(config.http.format, Format::Text);
    assert!(config.http.quiet);
}

#[test]
fn the_environment_is_enough() {
    let env = [
        ("COUNTERSIGN__DATABASE__URL", "sqlite:x"),
        ("COUNTERSIGN__DATABASE__POOL", "8"),
    ];
    let env = env.map(|(k, v)| (OsString::from(k), OsString::from(v)));
    let config: Config = load_with(None, "COUNTERSIGN__", env).unwrap();
    assert_eq!(config.database.pool, 8);
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_real_one() {
    assert_eq!(
        refusal("[databse]\nurl = 'x'", &[]),
        "unknown key `databse.url` in x.toml: did you mean `database.url`?"
    );
    assert_eq!(
        refusal("[database]\nurl = 'x'\npoool = 3", &[]),
        "unknown key `database.poool` in x.toml: did you mean `database.pool`?"
    );
    assert_eq!(
        refusal("[database]\nurl = 'x'\nqwertyuiop = 3", &[]),
        "unknown key `database.qwertyuiop` in x.toml: \
         the keys there are `database.pool`, `database.url`"
    );
    assert_eq!(
        refusal(OK, &[("COUNTERSIGN__HTTP__HOST", "x")]),
        "unknown key `http.host` in the environment variable COUNTERSIGN__HTTP__HOST: \
         did you mean `http.hosts`?"
    );
    assert_eq!(
        refusal(OK, &[("COUNTERSIGN__JIRRA__TOKEN", "x")]),
        "unknown key `jirra.token` in the environment variable COUNTERSIGN__JIRRA__TOKEN: \
         did you mean `jira.token`?"
    );
}

#[test]
fn wrong_values_name_the_place_and_never_the_value() {
    assert_eq!(
        refusal("[database]\nurl = 'x'\npool = 'hunter2'", &[]),
        "`database.pool` in x.toml is a text, but u16 is expected"
    );
    assert_eq!(
        refusal(OK, &[("COUNTERSIGN__DATABASE__POOL", "hunter2")]),
        "`database.pool` in the environment variable COUNTERSIGN__DATABASE__POOL is a text, \
         but u16 is expected"
    );
    assert_eq!(
        refusal(OK, &[("COUNTERSIGN__HTTP__FORMAT", "yaml")]),
        "`http.format` in the environment variable COUNTERSIGN__HTTP__FORMAT is not valid: \
         use one of `json`, `text`"
    );
    let missing = refusal("", &[("COUNTERSIGN__DATABASE__POOL", "1")]);
    assert_eq!(
        missing,
        "missing key `database.url`: set it in x.toml or as COUNTERSIGN__DATABASE__URL"
    );
    let syntax = refusal("[database]\nurl = hunter2", &[]);
    assert!(
        syntax.starts_with("x.toml is not valid TOML (line 2, column"),
        "{syntax}"
    );
    assert!(!syntax.contains("hunter2"), "{syntax}");
    let clash = refusal("database = 'x'", &[("COUNTERSIGN__DATABASE__URL", "x")]);
    assert!(clash.contains("COUNTERSIGN__DATABASE__URL"), "{clash}");
    assert!(refusal(OK, &[("COUNTERSIGN____X", "x")]).contains("names no key"));
}

#[test]
fn a_missing_file_is_an_error() {
    let path = PathBuf::from("/nonexistent/countersign.toml");
    let error = load_with::<Config>(Some(&path), "COUNTERSIGN__", [])
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/countersign.toml"), "{error}");
}

#[test]
fn a_secret_stands_in_place_or_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let toml = format!("{OK}[jira]\ntoken_file = '{}'", file.display());

    let jira = load(&toml, &[]).unwrap().jira.unwrap();
    let source = SecretSource::new(
        "jira.token",
        jira.token.as_ref(),
        jira.token_file.as_deref(),
    );
    assert_eq!(source.resolve().unwrap().expose_secret(), "s3cret");

    let jira = load(&toml, &[("COUNTERSIGN__JIRA__TOKEN", "0123456789")])
        .unwrap()
        .jira
        .unwrap();
    let source = SecretSource::new(
        "jira.token",
        jira.token.as_ref(),
        jira.token_file.as_deref(),
    );
    assert!(matches!(source.resolve(), Err(SecretError::Both { .. })));
    assert!(!format!("{source:?} {jira:?}").contains("0123456789"));

    let in_place = SecretSource::new("jira.token", jira.token.as_ref(), None);
    assert_eq!(in_place.resolve().unwrap().expose_secret(), "0123456789");

    std::fs::write(&file, "\n").unwrap();
    let source = SecretSource::new("jira.token", None, Some(&file));
    assert!(matches!(
        source.resolve(),
        Err(SecretError::EmptyFile { .. })
    ));
    let nothing = SecretSource::new("jira.token", None, None);
    assert!(nothing.resolve_optional().unwrap().is_none());
    assert!(
        nothing
            .resolve()
            .unwrap_err()
            .to_string()
            .contains("jira.token_file")
    );
}

#[cfg(unix)]
#[test]
fn a_readable_secret_file_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    let source = SecretSource::new("jira.token", None, Some(&file));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(source.warning().unwrap().contains("mode 644"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(source.warning().is_none());
}
