//! A whole server in this process: real router, real listener, SQLite in a folder of its own, a
//! fake cluster. The executor is played by hand through its own port of the store.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use countersign_domain::{
    ActionId, AuditEvent, Author, Channel, Clock as _, ClusterRef, Code, Count, Decision,
    EventName, Inverse, OsEntropy, OwnerRef, Predicate, Reason, Requirement, Risk, Signed, Signer,
    Statement, Success, SystemClock, Tier, Verb, digest_text,
};
use countersign_integrations::kubernetes::{CacheSettings, ClusterReads, KubeReader};
use countersign_server::app::{App, ClusterHandle, SharedApp};
use countersign_server::config::Loaded;
use countersign_server::mcp::auth::hash_of;
use countersign_server::{http, rules};
use countersign_store::{
    AuditFilter, AuditRow, Database, NewDecision, NextState, OpenOptions, Transition,
};
use jiff::SignedDuration;
use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cluster::{FakeCluster, crashing, healthy};

pub const KEY: &str = "cs_test-key-of-claude";
pub const OTHER_KEY: &str = "cs_test-key-of-another";
pub const STRANGER_KEY: &str = "cs_test-key-of-a-stranger";
pub const EXPIRED_KEY: &str = "cs_test-key-long-gone";
pub const NARROW_KEY: &str = "cs_test-key-shop-only";

const POLICY: &str = r#"
[[rule]]
name = "shop"
actions = ["restart_pod"]
clusters = ["prod"]
namespaces = ["shop"]
risk = "medium"
require = [{ group = "sre", count = 1, tier = 1, channels = ["web"] }]
decide_within = "15m"
execute_within = "5m"
"#;

const REGISTRY: &str = r#"
[[person]]
id = "li"
groups = ["sre"]
[[person]]
id = "maria"
[[agent]]
id = "claude"
people = ["maria"]
[[agent]]
id = "another"
people = ["maria"]
"#;

pub struct World {
    pub folder: tempfile::TempDir,
    pub url: String,
    pub app: SharedApp,
    pub cluster: FakeCluster,
    pub database: Database,
    pub executor: Signer,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub type Client = RunningService<RoleClient, ()>;

impl World {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// `limits` is the body of the `[limits]` table.
    pub async fn start_with(limits: &str) -> Self {
        Self::start_on(limits, None, false).await
    }

    /// With another cluster behind it than the fake one, read live or through the cache.
    pub async fn start_on(limits: &str, other: Option<PathBuf>, cached: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (cluster, kubeconfig) = FakeCluster::start(folder.path()).await;
        furnish(&cluster);
        let kubeconfig = other.unwrap_or(kubeconfig);
        let executor = Signer::generate(&OsEntropy);
        let loaded = config(&folder, limits);
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let options = OpenOptions {
            create: true,
            migrate: true,
            ..OpenOptions::default()
        };
        let database = Database::open(&url, options).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reader = KubeReader::from_kubeconfig(Some(&kubeconfig), None);
        let mut handle = ClusterHandle::live(reader.clone(), false);
        if cached {
            let clock = Arc::new(SystemClock);
            handle.reads = ClusterReads::cached(reader, None, clock, CacheSettings::default());
        }
        let app = Arc::new(App {
            store: database.server(),
            clusters: BTreeMap::from([("prod".to_owned(), handle)]),
            rules: RwLock::new(rules::read(&loaded).unwrap()),
            attestor: Signer::generate(&OsEntropy),
            executor_keys: executor.key_ring(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            metrics: None,
            external_url: format!("http://{address}/").parse().unwrap(),
            shutdown: CancellationToken::new(),
            loaded,
        });
        let serving = tokio::spawn(http::serve(app.clone(), listener, None));
        let url = format!("http://{address}");
        Self {
            folder,
            url,
            app,
            cluster,
            database,
            executor,
            serving,
        }
    }

    /// The address of the database.
    pub fn store(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("t.db").display())
    }

    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.url)
    }

    pub async fn client(&self, key: &str) -> Client {
        let config = StreamableHttpClientTransportConfig::with_uri(self.mcp()).custom_headers(
            HashMap::from([("x-api-key".parse().unwrap(), key.parse().unwrap())]),
        );
        ().serve(StreamableHttpClientTransport::from_config(config))
            .await
            .unwrap()
    }

    /// Stops the server in order, and returns when every row is written.
    pub async fn stop(&mut self) {
        self.app.shutdown.cancel();
        (&mut self.serving).await.unwrap().unwrap();
    }

    /// Admits the oldest proposal, as the executor would.
    pub async fn admit(&self) -> ActionId {
        self.admit_as(&self.executor).await
    }

    /// Admits with a key that may not be the executor's.
    pub async fn admit_as(&self, signer: &Signer) -> ActionId {
        let store = self.database.executor();
        let now = SystemClock.now();
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        let work = loop {
            let lease = SignedDuration::from_secs(30);
            if let Some(work) = store.next_to_admit("prod", "e1", lease, now).await.unwrap() {
                break work;
            }
            assert!(tokio::time::Instant::now() < until, "nothing to admit");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let proposal = &work.action.proposal;
        let statement = Statement {
            v: "1".into(),
            kid: signer.kid().into(),
            action_id: work.action.id,
            cluster: ClusterRef {
                id: "prod".into(),
                kube_system_uid: "k".into(),
            },
            kind: proposal.kind,
            namespace: proposal.target.namespace.clone(),
            name: proposal.target.name.clone(),
            uid: proposal.target.uid.clone(),
            params: proposal.params.clone(),
            facts: BTreeMap::new(),
            predicates: vec![
                Predicate::Uid {
                    uid: proposal.target.uid.clone(),
                },
                Predicate::Owner {
                    owner: OwnerRef {
                        kind: "ReplicaSet".into(),
                        name: "web-1".into(),
                        uid: "uid-rs-web".into(),
                    },
                },
            ],
            success: Success::ReplacementReady {
                deadline_seconds: Count(120),
            },
            inverse: Inverse::None {
                because: "a pod cannot be un-evicted".into(),
            },
            agent: proposal.agent.clone(),
            on_behalf_of: vec!["maria".into()],
            rule: "shop".into(),
            risk: Risk::Medium,
            require: vec![Requirement {
                group: "sre".into(),
                count: Count(1),
                tier: Tier::Attested,
                channels: vec![Channel::Web],
            }],
            self_approval: "forbidden".into(),
            policy_hash: self.app.rules().policy.hash(),
            admitted_at: now,
            decide_by: now + SignedDuration::from_mins(15),
            execute_by: now + SignedDuration::from_mins(20),
        };
        let statement = Signed::sign(statement, signer).unwrap();
        let event = AuditEvent::new(now, &OsEntropy, Author::Executor, EventName::Admitted, "e1")
            .about(work.action.id);
        let event = Signed::sign(event, signer).unwrap();
        let done = store.admit(&work, &statement, &event).await.unwrap();
        assert!(matches!(done, Transition::Done(_)));
        work.action.id
    }

    /// Li says no on the page.
    pub async fn reject(&self, id: ActionId, words: &str) {
        let action = self.app.store.get(id).await.unwrap().unwrap();
        let now = SystemClock.now();
        let statement = action.state.statement().unwrap();
        let attested = Decision {
            v: "1".into(),
            statement: statement.digest::<Statement>(),
            verb: Verb::Reject,
            person: "li".into(),
            channel: Channel::Web,
            reason_digest: digest_text(words),
            decided_at: now,
            valid_until: now + SignedDuration::from_mins(5),
        };
        let attested = Signed::sign(attested, &self.app.attestor).unwrap();
        let reason = Reason::new(Code::ByApprover, format!("rejected by li: {words}"));
        let decision = NewDecision {
            action: id,
            version: action.version,
            person: "li".into(),
            verb: Verb::Reject,
            channel: Channel::Web,
            reason: words.into(),
            sealed: Some(attested.sealed().clone()),
            next: Some(NextState::Rejected(reason)),
            at: now,
        };
        let event =
            AuditEvent::new(now, &OsEntropy, Author::Server, EventName::Rejected, "li").about(id);
        let done = self.app.store.decide(decision, event).await.unwrap();
        assert!(matches!(done, Transition::Done(_)));
    }

    /// Rows of tool calls, oldest first. Waits until there are `count`.
    pub async fn calls(&self, count: usize) -> Vec<AuditRow> {
        let filter = AuditFilter {
            event: Some("tool.called".into()),
            limit: 500,
            ..AuditFilter::default()
        };
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        loop {
            let mut rows = self.app.store.audit_list(&filter).await.unwrap();
            if rows.len() >= count || tokio::time::Instant::now() > until {
                rows.reverse();
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Every byte that the store has on disk.
    pub async fn everything_stored(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("t.db"))
            {
                all.extend(std::fs::read(path).unwrap());
            }
        }
        all
    }
}

fn config(folder: &tempfile::TempDir, limits: &str) -> Loaded {
    let key = |name: &str, agent: &str, key: &str, more: &str| {
        format!(
            "[[api_key]]\nname = \"{name}\"\nagent = \"{agent}\"\nsha256 = \"{}\"\n{more}\n",
            hash_of(key)
        )
    };
    let text = [
        "policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\
         [database]\nurl = \"sqlite:///unused\"\n\
         [keys]\nfile = \"k\"\nexecutor_public_key_file = \"p\"\n"
            .to_owned(),
        format!("[limits]\n{limits}\n"),
        key("claude-laptop", "claude", KEY, ""),
        key("another-laptop", "another", OTHER_KEY, ""),
        key("stranger", "nobody-knows", STRANGER_KEY, ""),
        key(
            "old",
            "claude",
            EXPIRED_KEY,
            "expires_at = \"2020-01-01T00:00:00Z\"",
        ),
        key("narrow", "claude", NARROW_KEY, "namespaces = [\"shop\"]"),
    ]
    .concat();
    let path: PathBuf = folder.path().join("server.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    std::fs::write(folder.path().join("registry.toml"), REGISTRY).unwrap();
    Loaded::from_file(&path).unwrap()
}

fn furnish(cluster: &FakeCluster) {
    for namespace in ["shop", "billing", "kube-system"] {
        cluster.namespace(namespace);
    }
    cluster.workload("shop", "web");
    cluster.workload("billing", "ledger");
    cluster.pod("shop", crashing("shop", "web-1-aaaaa", "uid-a", "web"));
    cluster.pod("shop", crashing("shop", "web-1-bbbbb", "uid-b", "web"));
    cluster.pod("shop", healthy("shop", "web-1-ccccc", "uid-c", "web"));
    cluster.pod(
        "billing",
        crashing("billing", "ledger-1-zzzzz", "uid-z", "ledger"),
    );
}

/// Calls a tool with JSON arguments.
pub async fn call(client: &Client, tool: &str, arguments: Value) -> CallToolResult {
    let mut params = CallToolRequestParams::new(tool.to_owned());
    params.arguments = arguments.as_object().cloned();
    client.call_tool(params).await.unwrap()
}

pub fn text(result: &CallToolResult) -> &str {
    result.content[0].as_text().map_or("", |text| &text.text)
}

/// The structured answer of a call that succeeded.
pub fn good(result: &CallToolResult) -> &Value {
    assert_ne!(result.is_error, Some(true), "{}", text(result));
    result.structured_content.as_ref().unwrap()
}

/// The sentence of a call that did not.
pub fn bad(result: &CallToolResult) -> &str {
    assert_eq!(result.is_error, Some(true), "{}", text(result));
    text(result)
}
