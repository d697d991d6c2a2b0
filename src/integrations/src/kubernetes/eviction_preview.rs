//! Would an eviction be granted now, and may this pod be restarted at all.
//!
//! Follows the eviction handler of the Kubernetes API server step by step, because
//! `disruptionsAllowed == 0` alone misleads in both directions: an unready pod may bypass a
//! spent budget, and when every replica crashes none may.

use serde::Serialize;

use super::records::{OwnerLookup, OwnerRef, PdbRecord, PodPhase, PodRecord, UnhealthyPodPolicy};

/// What the API server would answer to an eviction of the pod as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum EvictionPreview {
    /// No budget selects the pod, or one has room.
    Allowed { pdb: Option<String> },
    /// Granted without asking a budget, or in spite of it.
    AllowedBypass { pdb: Option<String>, why: String },
    /// 429 until the budget has room.
    Blocked { pdb: String, why: String },
    /// 500: the API refuses pods that several budgets select.
    TwoBudgets { pdbs: Vec<String> },
    /// Not asked: the pod would be lost, or nothing would happen.
    NotRestartable { reason: NotRestartable },
}

impl EvictionPreview {
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. } | Self::AllowedBypass { .. })
    }
}

/// Why evicting a pod would not restart it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum NotRestartable {
    #[error("no controller owns this pod: it would be lost for good, not restarted")]
    NoController,
    #[error(
        "{kind} {name}, which owned this pod, is gone: nothing would replace it",
        kind = owner.kind, name = owner.name
    )]
    OwnerGone { owner: OwnerRef },
    #[error(
        "this is the mirror of a static pod: its kubelet owns it, and deleting the mirror \
         restarts nothing"
    )]
    MirrorPod,
    #[error("this pod is already being deleted{}", waiting_for(finalizers))]
    Terminating { finalizers: Vec<String> },
}

fn waiting_for(finalizers: &[String]) -> String {
    match finalizers {
        [] => String::new(),
        some => format!(" and waits for its finalizers: {}", some.join(", ")),
    }
}

/// What an approver should know before a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RestartWarning {
    #[error("a pod of Job {job}: the restart may use up one of its retries")]
    JobPod { job: String },
    #[error("a pod of StatefulSet {name}: the replacement has the same name; do one at a time")]
    StatefulSet { name: String },
    #[error("the content of emptyDir {} is lost", volumes.join(", "))]
    EmptyDir { volumes: Vec<String> },
    #[error("hostPath {} stays on this node; the replacement may run on another", volumes.join(", "))]
    HostPath { volumes: Vec<String> },
    #[error("{kind} {name} could not be read: whether it replaces the pod is not known")]
    OwnerUnverified { kind: String, name: String },
}

/// May this pod be restarted by evicting it: whether something will replace it.
///
/// # Errors
/// The reason why not.
pub fn restartable(
    pod: &PodRecord,
    owner: &OwnerLookup,
) -> Result<Vec<RestartWarning>, NotRestartable> {
    // A mirror pod is owned by its Node, so this question comes first.
    if pod.mirror {
        return Err(NotRestartable::MirrorPod);
    }
    if pod.deletion_timestamp.is_some() {
        return Err(NotRestartable::Terminating {
            finalizers: pod.finalizers.clone(),
        });
    }
    let mut warnings = Vec::new();
    match owner {
        OwnerLookup::NoController => return Err(NotRestartable::NoController),
        OwnerLookup::Gone { owner } => {
            return Err(NotRestartable::OwnerGone {
                owner: owner.clone(),
            });
        }
        OwnerLookup::Unverified { owner } => warnings.push(RestartWarning::OwnerUnverified {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        }),
        OwnerLookup::Found(chain) => match chain.controller.kind.as_str() {
            "Job" => warnings.push(RestartWarning::JobPod {
                job: chain.controller.name.clone(),
            }),
            "StatefulSet" => warnings.push(RestartWarning::StatefulSet {
                name: chain.controller.name.clone(),
            }),
            _ => {}
        },
    }
    let volumes = &pod.volumes;
    if !volumes.empty_dir.is_empty() {
        warnings.push(RestartWarning::EmptyDir {
            volumes: volumes.empty_dir.clone(),
        });
    }
    if !volumes.host_path.is_empty() {
        warnings.push(RestartWarning::HostPath {
            volumes: volumes.host_path.clone(),
        });
    }
    Ok(warnings)
}

impl PdbRecord {
    /// As the eviction API finds budgets: same namespace, and a pod without labels has none.
    #[must_use]
    pub fn selects(&self, pod: &PodRecord) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&pod.labels))
    }
}

/// The verdict for `pod` under `pdbs`, all budgets of its namespace.
#[must_use]
pub fn eviction_preview(
    pod: &PodRecord,
    owner: &OwnerLookup,
    pdbs: &[PdbRecord],
) -> EvictionPreview {
    if let Err(reason) = restartable(pod, owner) {
        return EvictionPreview::NotRestartable { reason };
    }
    let phase = match pod.phase {
        PodPhase::Pending => Some("Pending"),
        PodPhase::Succeeded => Some("Succeeded"),
        PodPhase::Failed => Some("Failed"),
        PodPhase::Running | PodPhase::Unknown => None,
    };
    if let Some(phase) = phase {
        let why = format!("a pod in phase {phase} is not under any disruption budget");
        return EvictionPreview::AllowedBypass { pdb: None, why };
    }
    let selecting: Vec<&PdbRecord> = pdbs.iter().filter(|pdb| pdb.selects(pod)).collect();
    match selecting.as_slice() {
        [] => EvictionPreview::Allowed { pdb: None },
        [pdb] => under_budget(pod, pdb),
        several => EvictionPreview::TwoBudgets {
            pdbs: several.iter().map(|pdb| pdb.name.clone()).collect(),
        },
    }
}

fn under_budget(pod: &PodRecord, pdb: &PdbRecord) -> EvictionPreview {
    let name = pdb.name.clone();
    let PdbRecord {
        current_healthy: current,
        desired_healthy: desired,
        ..
    } = *pdb;
    let ready = pod.ready();
    if !ready {
        let why = if pdb.unhealthy_pod_policy == UnhealthyPodPolicy::AlwaysAllow {
            Some("the pod is not ready, and the budget always lets unready pods go".to_owned())
        } else if current >= desired && desired > 0 {
            Some(format!(
                "the pod is not ready, and the budget is met without it ({current} healthy, \
                 {desired} needed)"
            ))
        } else {
            None
        };
        if let Some(why) = why {
            return EvictionPreview::AllowedBypass {
                pdb: Some(name),
                why,
            };
        }
    }
    let why = if pdb.observed_generation < pdb.generation {
        "the budget was just changed and has not been computed yet".to_owned()
    } else if let Some(problem) = &pdb.sync_failed {
        format!("the budget could not be computed: {problem}")
    } else if pdb.disruptions_allowed > 0 {
        return EvictionPreview::Allowed { pdb: Some(name) };
    } else if !ready && current < desired {
        format!(
            "it needs {desired} healthy pods and has {current}, and under its policy \
             IfHealthyBudget it then holds back unready pods, too; a restart of the whole \
             workload is not bound by it"
        )
    } else {
        format!("it needs {desired} healthy pods and has {current}: there is no room")
    };
    EvictionPreview::Blocked { pdb: name, why }
}
