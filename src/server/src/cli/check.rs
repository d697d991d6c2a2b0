//! What can be known about configuration, policy and keys without starting anything.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_domain::{Clock as _, Entropy as _, OsEntropy, SystemClock};
use secrecy::ExposeSecret as _;
use url::Url;

use super::serve;
use crate::app::Rules;
use crate::config::{Config, Loaded};
use crate::mcp::auth::{expired, hash_from_hex, hash_of};
use crate::{rules, workers};

/// Everything that would keep the server from starting, short of the network and the database.
/// Returns the rules, read on the way.
pub fn whole(loaded: &Loaded) -> anyhow::Result<Rules> {
    let config = &loaded.config;
    external_url(config, config.http.listen)?;
    serve::database_url(loaded)?;
    ensure!(
        (1..=500).contains(&config.database.max_connections),
        "`database.max_connections = {}`: use 1 to 500",
        config.database.max_connections
    );
    clusters(config)?;
    api_keys(config)?;
    accounts(config)?;
    workers::check(loaded)?;
    Ok(rules::read(loaded)?)
}

/// What works and is probably not meant.
pub fn warnings(loaded: &Loaded, rules: &Rules) -> Vec<String> {
    let config = &loaded.config;
    let now = SystemClock.now();
    let mut warnings = Vec::new();
    if config.clusters.is_empty() {
        warnings.push("no `[[cluster]]` is configured: the tools have nothing to look at".into());
    }
    if config.api_keys.is_empty() {
        warnings.push(
            "no `[[api_key]]` is configured: no AI client can call. `countersign api-key new` \
             makes one"
                .into(),
        );
    }
    let clear = external_url(config, config.http.listen).is_ok_and(|url| {
        url.scheme() == "http"
            && !matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
    });
    if clear {
        warnings.push(
            "`external_url` is http: keys, passwords and decisions would travel in clear text. Put \
             a proxy with TLS in front and give its https address"
                .into(),
        );
    }
    let tls = external_url(config, config.http.listen).is_ok_and(|url| url.scheme() == "https");
    if tls && config.http.trusted_proxies.is_empty() {
        warnings.push(
            "`external_url` is https, so a proxy is in front, and `http.trusted_proxies` is empty: \
             all log-ins then come from one address, and wrong passwords of one stranger keep \
             everybody else waiting. Give the proxy's address or network"
                .into(),
        );
    }
    for key in &config.api_keys {
        if expired(key, now) {
            warnings.push(format!("the API key `{}` has expired", key.name));
        }
        if rules.registry.agent(&key.agent).is_none() {
            warnings.push(format!(
                "the API key `{}` speaks for the agent `{}`, which is not in the registry: its \
                 proposals will be denied",
                key.name, key.agent
            ));
        }
    }
    for account in &config.accounts {
        if rules.registry.person(&account.person).is_none() {
            warnings.push(format!(
                "the account of `{}` belongs to nobody in the registry: that person can log in and \
                 look, not decide",
                account.person
            ));
        }
    }
    warnings
}

/// The base of every link. Without one, a loopback listener is its own base.
pub fn external_url(config: &Config, listen: SocketAddr) -> anyhow::Result<Url> {
    let Some(text) = &config.external_url else {
        ensure!(
            listen.ip().is_loopback(),
            "`external_url` is missing: with `http.listen = \"{listen}\"` people reach the pages \
             under a name that only you know; set it, for example to \
             \"https://countersign.example.com\""
        );
        return Url::parse(&format!("http://{listen}/")).context("the listener has no address");
    };
    let wrong = |why: &str| {
        anyhow::anyhow!(
            "`external_url` {why}: it must look like \"https://countersign.example.com\""
        )
    };
    let url = Url::parse(text).map_err(|_| wrong("is not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("is not an http or https address"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(
            "has a path; Countersign needs a host name of its own",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password"));
    }
    Ok(url)
}

fn clusters(config: &Config) -> anyhow::Result<()> {
    let mut ids = BTreeSet::new();
    for cluster in &config.clusters {
        ensure!(
            (1..=63).contains(&cluster.id.len()),
            "`cluster.id` has 1 to 63 characters: it is the name that people will read"
        );
        ensure!(
            ids.insert(&cluster.id),
            "cluster `{}` stands twice",
            cluster.id
        );
        if let Some(namespaces) = &cluster.namespaces {
            let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            for (at, name) in namespaces.iter().enumerate() {
                anyhow::ensure!(
                    (1..=63).contains(&name.len()) && name.chars().all(letters),
                    "cluster `{}`: `{}` in `namespaces` is not the name of a namespace",
                    cluster.id,
                    countersign_domain::one_line(name, 80)
                );
                anyhow::ensure!(
                    !namespaces[..at].contains(name),
                    "cluster `{}`: `{name}` stands twice in `namespaces`",
                    cluster.id
                );
            }
            anyhow::ensure!(
                !namespaces.is_empty(),
                "cluster `{}`: `namespaces` is empty: name the ones to read, or leave it out for \
                 all",
                cluster.id
            );
        }
        if cluster.in_cluster && (cluster.kubeconfig.is_some() || cluster.context.is_some()) {
            bail!(
                "cluster `{}`: set `in_cluster` or a kubeconfig, not both",
                cluster.id
            );
        }
    }
    Ok(())
}

fn api_keys(config: &Config) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for key in &config.api_keys {
        ensure!(!key.name.is_empty(), "an `[[api_key]]` has an empty `name`");
        ensure!(
            names.insert(&key.name),
            "API key `{}` stands twice",
            key.name
        );
        ensure!(
            hash_from_hex(&key.sha256).is_some(),
            "API key `{}`: `sha256` is not 64 hex digits. `countersign api-key new` prints a key \
             with its hash",
            key.name
        );
        ensure!(
            key.namespaces.as_ref().is_none_or(|list| !list.is_empty()),
            "API key `{}`: `namespaces = []` shows nothing; leave it out for all",
            key.name
        );
    }
    Ok(())
}

fn accounts(config: &Config) -> anyhow::Result<()> {
    let mut people = BTreeSet::new();
    for account in &config.accounts {
        ensure!(
            people.insert(&account.person),
            "account `{}` stands twice",
            account.person
        );
        ensure!(
            PasswordHash::new(account.password_hash.expose_secret()).is_ok(),
            "account `{}`: `password_hash` is not an Argon2 hash. `countersign approvers \
             hash-password` makes one",
            account.person
        );
    }
    Ok(())
}

/// `config check`.
pub fn config(file: &Path) -> anyhow::Result<()> {
    let loaded = Loaded::from_file(file)?;
    let rules = whole(&loaded)?;
    for warning in warnings(&loaded, &rules) {
        println!("warning: {warning}");
    }
    for sentence in rules.policy.rests_on_server() {
        println!("note: {sentence}");
    }
    println!("{} can be used.", file.display());
    Ok(())
}

/// `policy check`.
pub fn policy(file: &Path, registry: Option<&Path>) -> anyhow::Result<()> {
    let policy = rules::read_policy(file)?;
    println!(
        "{} rules, policy hash {}",
        policy.rules.len(),
        policy.hash()
    );
    if let Some(freeze) = &policy.freeze {
        println!("frozen: {}", freeze.reason);
    }
    for sentence in policy.rests_on_server() {
        println!("note: {sentence}");
    }
    let Some(registry) = registry else {
        return Ok(());
    };
    let registry = rules::read_registry(registry)?;
    println!("{} people in the registry", registry.people().count());
    let mut short = Vec::new();
    for rule in &policy.rules {
        for entry in &rule.require {
            let members = registry
                .people()
                .filter(|p| p.groups.contains(&entry.group))
                .count();
            if members < entry.count.0 as usize {
                short.push(format!(
                    "rule `{}` needs {} of group `{}`, which has {members}",
                    rule.name, entry.count, entry.group
                ));
            }
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: add people to the registry, or correct the policy",
        short.join("; ")
    )
}

/// `approvers hash-password`: the password never stands on a command line.
pub fn hash_password() -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read STDIN")?;
    println!("{}", hash(line.trim_end_matches(['\n', '\r']))?);
    Ok(())
}

/// The Argon2 PHC text of a password.
pub fn hash(password: &str) -> anyhow::Result<String> {
    ensure!(
        password.chars().count() >= 8,
        "the password is shorter than 8 characters: pass a longer one on standard input"
    );
    ensure!(
        password.len() <= 1024,
        "the password is longer than 1024 bytes"
    );
    let mut salt = [0u8; 16];
    OsEntropy.fill(&mut salt);
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| anyhow::anyhow!("the password cannot be hashed: {error}"))?;
    Ok(hash.to_string())
}

/// `api-key new`.
pub fn new_api_key(name: &str, agent: &str) -> anyhow::Result<()> {
    for (what, value) in [("--name", name), ("--agent", agent)] {
        let fits = (1..=64).contains(&value.len())
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        ensure!(
            fits,
            "{what} `{value}`: use 1 to 64 letters, digits and - _ . @ only"
        );
    }
    let key = random_key();
    eprintln!("The key, shown only now; give it to the AI client:");
    println!("{key}");
    eprintln!("For the server's configuration:");
    println!(
        "\n[[api_key]]\nname = \"{name}\"\nagent = \"{agent}\"\nsha256 = \"{}\"",
        hash_of(&key)
    );
    Ok(())
}

/// 256 random bits behind a prefix that scanners for secrets can find.
pub fn random_key() -> String {
    let mut bytes = [0u8; 32];
    OsEntropy.fill(&mut bytes);
    format!("cs_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// `healthcheck`.
pub async fn health(url: &str) -> anyhow::Result<()> {
    let url = Url::parse(url)
        .ok()
        .and_then(|url| url.join("/healthz").ok());
    let url = url.context("--url is not an address such as http://127.0.0.1:8750")?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(3))
        .build()?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(reqwest::Error::without_url);
    let status = answer
        .with_context(|| format!("{url} does not answer"))?
        .status();
    ensure!(status.is_success(), "{url} answers {status}");
    Ok(())
}
