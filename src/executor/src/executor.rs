//! What every piece of work shares. Holds the dangerous capabilities; makes no decision.

use std::sync::Arc;

use countersign_domain::{Clock, ClusterRef, Entropy, KeyRing, Signer, SigningError};
use countersign_integrations::kubernetes::KubeReader;
use countersign_store::{ExecutorStore, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Capabilities;
use crate::health::Status;
use crate::looks::Looks;
use crate::rules::Watched;
use crate::sightings::Sightings;
use crate::ticket_look::TicketLook;

/// One executor for one cluster.
pub struct Executor {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub store: ExecutorStore,
    pub reader: KubeReader,
    /// The operator's name for the cluster and its pinned identity.
    pub cluster: ClusterRef,
    pub capabilities: Capabilities,
    pub tickets: Option<TicketLook>,
    pub signer: Signer,
    /// The public half, for what this executor signed before.
    pub own_keys: KeyRing,
    pub watched: Arc<Watched>,
    pub status: Arc<Status>,
    pub looks: Looks,
    pub sightings: Sightings,
    /// Shown to people.
    pub instance: String,
    pub stop: CancellationToken,
    /// Every task, so that shutting down can wait for all.
    pub tasks: TaskTracker,
}

/// Why a piece of work could not be finished now. Nothing is lost: the row is offered again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot sign: {0}")]
    Signing(#[from] SigningError),
}
