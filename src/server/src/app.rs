//! What every request and worker of the server shares.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use countersign_domain::{Clock, Entropy, KeyRing, Policy, Registry, Signer, SystemClock};
use countersign_integrations::kubernetes::{ClusterReads, KubeReader};
use countersign_store::ServerStore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::Loaded;

/// Cheap to clone; one per process.
pub type SharedApp = Arc<App>;

pub struct App {
    pub loaded: Loaded,
    pub store: ServerStore,
    /// By the operator's cluster id.
    pub clusters: BTreeMap<String, ClusterHandle>,
    pub rules: RwLock<Rules>,
    /// Signs what a person answered on our page. The executor holds the public half only.
    pub attestor: Signer,
    /// Verifies statements before they are shown.
    pub executor_keys: KeyRing,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Option<countersign_telemetry::Metrics>,
    /// Base of every link; no trailing slash in `Url::join` terms: always ends in `/`.
    pub external_url: Url,
    /// Cancelled when the process should end; workers finish what they hold.
    pub shutdown: CancellationToken,
}

/// A cluster that this server can look at.
pub struct ClusterHandle {
    /// Live: for what somebody decides on.
    pub reader: KubeReader,
    /// From the cache where there is one: for what somebody wants to know.
    pub reads: ClusterReads,
    pub simulated: bool,
}

impl ClusterHandle {
    /// Without a cache.
    pub fn live(reader: KubeReader, simulated: bool) -> Self {
        let reads = ClusterReads::live(reader.clone(), None, Arc::new(SystemClock));
        Self {
            reader,
            reads,
            simulated,
        }
    }
}

/// Policy and registry as they are now: re-read when their files change.
#[derive(Clone)]
pub struct Rules {
    pub policy: Arc<Policy>,
    pub registry: Arc<Registry>,
}

impl App {
    /// The rules of this moment: a request uses one pair from beginning to end.
    pub fn rules(&self) -> Rules {
        self.rules
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// The address at which a person decides.
    pub fn action_url(&self, id: countersign_domain::ActionId) -> String {
        format!("{}actions/{id}", self.external_url)
    }

    /// Whether any configured cluster is simulated: pages and answers then say so.
    pub fn simulated(&self) -> bool {
        self.clusters.values().any(|cluster| cluster.simulated)
    }
}
