//! How the target looks right now, by our own read: bounded to two seconds, shared by all who look
//! at the same pod, and said to be unknown rather than guessed.
//!
//! The words and their keys are those of the statement's facts, so that the page can say what has
//! changed since the executor looked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::{Target, one_line};
use countersign_integrations::kubernetes::{
    EvictionPreview, KubeError, KubeReader, OwnerLookup, PdbRecord, PodRecord, Thresholds,
    eviction_preview, failing, restartable,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::app::App;

/// A look is used again for this long, so that many viewers cost one read.
const FRESH: Duration = Duration::from_secs(2);
/// Longer than this nobody waits for the cluster before seeing the page.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest value of one fact, as in statements.
const CAP: usize = 300;

/// What was found.
#[derive(Debug, Clone)]
pub(super) enum Look {
    Seen {
        at: Timestamp,
        uid: String,
        facts: BTreeMap<String, String>,
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
        KubeError::Unavailable { .. } => "the cluster cannot be reached",
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
    let facts = facts(
        &pod,
        owner.ok().as_ref(),
        family.ok().as_deref(),
        pdbs.ok().as_deref(),
        now,
    );
    Ok(Look::Seen {
        at: now,
        uid: pod.uid,
        facts,
    })
}

fn facts(
    pod: &PodRecord,
    owner: Option<&OwnerLookup>,
    family: Option<&[PodRecord]>,
    pdbs: Option<&[PdbRecord]>,
    now: Timestamp,
) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut say = |key: &str, value: String| {
        if !value.is_empty() {
            facts.insert(key.to_owned(), one_line(&value, CAP));
        }
    };
    let (ready, containers) = pod.ready_containers();
    let is_ready = if pod.ready() { "yes" } else { "no" };
    say("phase", format!("{:?}", pod.phase));
    say(
        "ready",
        format!("{is_ready}, {ready} of {containers} containers"),
    );
    say("restarts", pod.restarts().to_string());
    if let Some(failing) = failing(pod, now, &Thresholds::default()) {
        say("reason", failing.reason.to_string());
        say("since", failing.since.to_string());
    } else if let Some(since) = pod.ready_changed_at() {
        say("since", since.to_string());
    }
    say(
        "node",
        pod.node.clone().unwrap_or_else(|| "none yet".to_owned()),
    );
    if let Some(family) = family {
        let others: Vec<_> = family.iter().filter(|other| other.uid != pod.uid).collect();
        let ready = others.iter().filter(|other| other.ready()).count();
        say(
            "siblings",
            match others.len() {
                0 => "none: it is the only pod of its controller".to_owned(),
                count => format!("{ready} of {count} others ready"),
            },
        );
    }
    if let Some(owner) = owner {
        say("owner", owner_text(owner));
        if let Some(pdbs) = pdbs {
            say("budget", budget_text(pod, owner, pdbs));
        }
        if let Ok(warnings) = restartable(pod, owner) {
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            say("warnings", warnings.join("; "));
        }
    }
    if pod.deletion_timestamp.is_some() {
        say("deletion", "under way".to_owned());
    }
    facts
}

fn owner_text(owner: &OwnerLookup) -> String {
    match owner {
        OwnerLookup::NoController => "none".to_owned(),
        OwnerLookup::Found(chain) => {
            let own = format!("{} {}", chain.controller.kind, chain.controller.name);
            match chain.top.uid == chain.controller.uid {
                true => own,
                false => format!("{own} of {} {}", chain.top.kind, chain.top.name),
            }
        }
        OwnerLookup::Gone { owner } => format!("{} {}, which is gone", owner.kind, owner.name),
        OwnerLookup::Unverified { owner } => {
            format!("{} {}, which could not be read", owner.kind, owner.name)
        }
    }
}

fn budget_text(pod: &PodRecord, owner: &OwnerLookup, pdbs: &[PdbRecord]) -> String {
    let numbers = |name: &str| {
        pdbs.iter().find(|pdb| pdb.name == name).map_or_else(
            || name.to_owned(),
            |pdb| {
                format!(
                    "{name}: {} healthy of {}, needs {}",
                    pdb.current_healthy, pdb.expected_pods, pdb.desired_healthy
                )
            },
        )
    };
    match eviction_preview(pod, owner, pdbs) {
        EvictionPreview::Allowed { pdb: None } => "none".to_owned(),
        EvictionPreview::Allowed { pdb: Some(name) } => format!("{}: room", numbers(&name)),
        EvictionPreview::AllowedBypass { pdb, why } => match pdb {
            Some(name) => format!("{}: not in the way, {why}", numbers(&name)),
            None => why,
        },
        EvictionPreview::Blocked { pdb, why } => format!("{}: no room, {why}", numbers(&pdb)),
        EvictionPreview::TwoBudgets { pdbs } => {
            format!(
                "{} select this pod, and the API then refuses evictions",
                pdbs.join(" and ")
            )
        }
        EvictionPreview::NotRestartable { reason } => reason.to_string(),
    }
}
