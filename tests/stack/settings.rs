//! Configuration files and secrets of one stack. Each process gets a folder of its own; nothing in
//! the server's folder belongs to the executor and the other way round. Public keys are exchanged
//! through `*/public`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use countersign_domain::{OsEntropy, random_token};
use countersign_store::testing::Role;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::{ClusterKind, Stack, private_file};

/// Random per run.
pub struct Secrets {
    pub api_key: String,
    pub li_password: String,
    pub omar_password: String,
    pub maria_password: String,
    /// For Standard Webhooks.
    pub webhook_secret: String,
}

impl Secrets {
    pub fn generate() -> Result<Self> {
        use base64::Engine as _;
        let token = || random_token(&OsEntropy);
        let password = || token()[..16].to_owned();
        Ok(Self {
            api_key: format!("csk_{}", token()),
            li_password: password(),
            omar_password: password(),
            maria_password: password(),
            webhook_secret: format!(
                "whsec_{}",
                base64::engine::general_purpose::STANDARD.encode(hex::decode(token())?)
            ),
        })
    }
}

/// One of group `sre`, through page or ticket; every namespace of the cluster.
pub fn policy(decide_within: &str, execute_within: &str, success_within: &str) -> String {
    format!(
        r#"[[rule]]
name = "restart-pods"
actions = ["restart_pod"]
clusters = ["*"]
namespaces = ["*"]
risk = "medium"
require = [{{ group = "sre", count = 1, tier = 1, channels = ["web", "jira"] }}]
decide_within = "{decide_within}"
execute_within = "{execute_within}"
success_within = "{success_within}"
"#
    )
}

pub fn registry(jira_bot: &str, li: &str, omar: &str, maria: &str) -> String {
    format!(
        r#"jira_bots = ["{jira_bot}"]

[[person]]
id = "li"
name = "Li Wei"
groups = ["sre"]
jira = ["{li}"]

[[person]]
id = "omar"
name = "Omar Haddad"
groups = ["sre"]
jira = ["{omar}"]

[[person]]
id = "maria"
name = "Maria Keller"
groups = ["sre"]
jira = ["{maria}"]

[[agent]]
id = "claude-ops"
people = ["maria"]
"#
    )
}

pub fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    Ok(())
}

pub async fn write(stack: &Stack) -> Result<()> {
    let root = stack.folder.path();
    for part in ["server/public", "executor/public"] {
        private_folder(&root.join(part))?;
    }
    let jira = &stack.jira;
    let registry = registry(
        &jira.bot.account_id,
        &jira.li.account_id,
        &jira.omar.account_id,
        &jira.maria.account_id,
    );
    // Each has its own copy: the executor trusts its own file only.
    for part in ["server", "executor"] {
        private_file(&root.join(part).join("policy.toml"), &stack.options.policy)?;
        private_file(&root.join(part).join("registry.toml"), &registry)?;
    }
    private_file(&root.join("server/countersign.toml"), &server(stack).await?)?;
    private_file(&root.join("executor/executor.toml"), &executor(stack))?;
    Ok(())
}

async fn server(stack: &Stack) -> Result<String> {
    let jira = &stack.jira;
    let secrets = &stack.secrets;
    let li_hash = password_hash(&secrets.li_password).await?;
    let omar_hash = password_hash(&secrets.omar_password).await?;
    let maria_hash = password_hash(&secrets.maria_password).await?;
    let simulated = stack.options.cluster == ClusterKind::Playground;
    Ok(format!(
        r#"policy_file = "policy.toml"
registry_file = "registry.toml"

[http]
listen = "127.0.0.1:{port}"

[database]
url = "{database}"
migrate = {migrate}

[keys]
file = "server.key"
public_file = "public/server.pub"
executor_public_key_file = "../executor/public/executor.pub"

[[cluster]]
id = "{cluster}"
kubeconfig = "{kubeconfig}"
simulated = {simulated}

[[api_key]]
name = "claude-laptop"
agent = "claude-ops"
sha256 = "{key_hash}"

[[account]]
person = "li"
password_hash = "{li_hash}"

[[account]]
person = "omar"
password_hash = "{omar_hash}"

[[account]]
person = "maria"
password_hash = "{maria_hash}"

[jira]
base_url = "{jira_url}"
email = "{email}"
token = "{token}"
webhook_secret = "{webhook_secret}"
project_id = "{project}"
issue_type_id = "{issue_type}"
approving_status_ids = ["{approved}"]
declining_status_ids = ["{declined}"]
done_status_id = "{done}"
sweep_seconds = 1
simulated = true

[notify.webhook]
url = "{receiver}/webhook"
secret = "{notify_secret}"

[notify.slack]
url = "{receiver}/slack"

[limits]
pending_per_caller = 100
proposals_per_hour = 1000
calls_per_minute = 100000
"#,
        port = stack.options.port,
        database = stack.database_url(Role::Server),
        migrate = stack.postgres.is_none(),
        cluster = stack.cluster.id,
        kubeconfig = stack.cluster.server_kubeconfig.display(),
        key_hash = hex::encode(Sha256::digest(secrets.api_key.as_bytes())),
        jira_url = jira.url,
        email = jira.bot.email,
        token = jira.bot.token,
        webhook_secret = jira.webhook_secret,
        project = jira.project_id,
        issue_type = jira.issue_type_id,
        approved = jira.status.approved,
        declined = jira.status.declined,
        done = jira.status.done,
        receiver = stack.receiver.url,
        notify_secret = secrets.webhook_secret,
    ))
}

fn executor(stack: &Stack) -> String {
    let jira = &stack.jira;
    format!(
        r#"policy_file = "policy.toml"
registry_file = "registry.toml"
instance = "executor-1"

[database]
url = "{database}"

[cluster]
id = "{cluster}"
kubeconfig = "{kubeconfig}"
cluster_lock = "absent"

[keys]
file = "executor.key"
public_file = "public/executor.pub"
attestation_public_key_file = "../server/public/server.pub"

[jira]
base_url = "{jira_url}"
email = "{email}"
token = "{token}"
project_id = "{project}"
issue_type_id = "{issue_type}"
bot_account_id = "{bot}"
approving_status_ids = ["{approved}"]
declining_status_ids = ["{declined}"]
"#,
        database = stack.database_url(Role::Executor),
        cluster = stack.cluster.id,
        kubeconfig = stack.cluster.executor_kubeconfig.display(),
        jira_url = jira.url,
        email = jira.executor.email,
        token = jira.executor.token,
        project = jira.project_id,
        issue_type = jira.issue_type_id,
        bot = jira.bot.account_id,
        approved = jira.status.approved,
        declined = jira.status.declined,
    )
}

/// Asks the product itself: `countersign approvers hash-password`.
async fn password_hash(password: &str) -> Result<String> {
    let mut child = tokio::process::Command::new(super::process::binary("countersign")?)
        .args(["approvers", "hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(format!("{password}\n").as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("`countersign approvers hash-password` failed");
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
