//! How the target looks right now, by our own read: bounded to two seconds, shared by all who look
//! at the same pod, and said to be unknown rather than guessed.
//!
//! The facts are made by the same function as those of the statement, so that the page can say what
//! has changed since the executor looked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::Target;
use countersign_integrations::kubernetes::facts::{Observed, pod_facts};
use countersign_integrations::kubernetes::{KubeError, KubeReader};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::app::App;

/// A look is used again for this long, so that many viewers cost one read.
const FRESH: Duration = Duration::from_secs(2);
/// Longer than this nobody waits for the cluster before seeing the page.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Clone)]
pub(super) enum Look {
    Seen {
        at: Timestamp,
        uid: String,
        facts: BTreeMap<String, String>,
        /// It is being deleted.
        terminating: bool,
    },
    /// The API server says that there is no pod of this name.
    Gone,
    /// A sentence that says why nothing is known.
    Unknown { why: String },
}

#[derive(Default)]
pub(super) struct Cache {
    slots: Mutex<HashMap<Key, Slot>>,
}

type Key = (String, String, String);
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Look)>>>;

impl Cache {
    /// The target as it is now, at most [`FRESH`] old.
    pub(super) async fn look(&self, app: &App, target: &Target) -> Look {
        let Some(cluster) = app.clusters.get(&target.cluster) else {
            return Look::Unknown {
                why: "this server has no access to that cluster".to_owned(),
            };
        };
        let slot = self.slot(target);
        // The first to come reads; the others wait for its answer.
        let mut last = slot.lock().await;
        if let Some((taken, look)) = &*last
            && taken.elapsed() < FRESH
        {
            return look.clone();
        }
        let look = match tokio::time::timeout(PATIENCE, read(&cluster.reader, target, app)).await {
            Ok(Ok(look)) => look,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a look at a target failed");
                Look::Unknown {
                    why: in_short(&error).to_owned(),
                }
            }
            Err(_) => Look::Unknown {
                why: "the cluster did not answer within 2 s".to_owned(),
            },
        };
        *last = Some((Instant::now(), look.clone()));
        look
    }

    fn slot(&self, target: &Target) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > 200 {
            // Nobody is looking where nobody else holds the slot.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let key = (
            target.cluster.clone(),
            target.namespace.clone(),
            target.name.clone(),
        );
        slots.entry(key).or_default().clone()
    }
}

/// Errors can quote the cluster; pages do not.
const fn in_short(error: &KubeError) -> &'static str {
    match error {
        KubeError::Unavailable { .. } | KubeError::Busy => "the cluster cannot be reached",
        KubeError::Unauthorized | KubeError::Access { .. } => {
            "the cluster does not accept this server's credentials"
        }
        KubeError::Forbidden { .. } => "this server may not read that namespace",
        KubeError::Invalid { .. }
        | KubeError::NotFound { .. }
        | KubeError::Gone { .. }
        | KubeError::Unexpected { .. } => "the cluster's answer cannot be used",
    }
}

async fn read(reader: &KubeReader, target: &Target, app: &App) -> Result<Look, KubeError> {
    let pod = match reader.get_pod(&target.namespace, &target.name).await {
        Ok(pod) => pod,
        Err(KubeError::NotFound { .. }) => return Ok(Look::Gone),
        Err(error) => return Err(error),
    };
    let owner_uid = pod
        .owner
        .as_ref()
        .map(|owner| owner.uid.clone())
        .unwrap_or_default();
    // The pod alone is worth showing: what else cannot be read is left out.
    let (owner, family, pdbs) = tokio::join!(
        reader.owner_of(&pod),
        reader.list_pods_of_controller(&pod.namespace, &owner_uid),
        reader.list_pdbs(&pod.namespace),
    );
    let now = app.clock.now();
    let (owner, family, pdbs) = (owner.ok(), family.ok(), pdbs.ok());
    let observed = Observed {
        pod: &pod,
        owner: owner.as_ref(),
        family: family.as_deref(),
        pdbs: pdbs.as_deref(),
    };
    let facts = pod_facts(&observed, now);
    Ok(Look::Seen {
        at: now,
        facts,
        terminating: pod.deletion_timestamp.is_some(),
        uid: pod.uid,
    })
}
