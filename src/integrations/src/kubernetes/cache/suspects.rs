//! Which pods have to be looked at again when somebody asks what fails.
//!
//! Most pods of a cluster run and are ready: whatever the clock says, they are not failing until
//! they change. That is found out once, when a pod comes in, so that a question about 20,000 pods
//! judges the few hundred that could be meant.

use jiff::Timestamp;

use super::super::failing::Thresholds;
use super::super::records::{ConditionStatus, ContainerState, PodPhase, PodRecord};

/// Whether a pod could be failing, or held by a scheduling gate, before it changes again. Errs
/// towards suspicion only: a test holds it against [`super::super::failing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    Never,
    /// A container ended then: that counts for a while.
    WhileRecent(Timestamp),
    Always,
}

impl Suspicion {
    pub(super) fn of(pod: &PodRecord) -> Self {
        match (pod.deletion_timestamp, pod.phase) {
            (None, PodPhase::Succeeded) => return Self::Never,
            (None, PodPhase::Running) => {}
            _ => return Self::Always,
        }
        let ready = pod
            .condition("Ready")
            .is_some_and(|ready| ready.status == ConditionStatus::True);
        let waiting =
            |state: &Option<ContainerState>| matches!(state, Some(ContainerState::Waiting { .. }));
        if !ready
            || pod
                .containers
                .iter()
                .any(|container| waiting(&container.state))
        {
            return Self::Always;
        }
        let ends = pod.containers.iter().flat_map(|container| {
            let current = match &container.state {
                Some(ContainerState::Terminated(end)) => Some(end),
                _ => None,
            };
            current.into_iter().chain(&container.last_terminated)
        });
        // A run that followed a restart began with one, whether its end is told or not.
        let restarts = pod.containers.iter().filter(|one| one.restart_count > 0);
        let began = restarts.filter_map(|container| match &container.state {
            Some(ContainerState::Running { since }) => *since,
            _ => None,
        });
        match ends.filter_map(|end| end.finished_at).chain(began).max() {
            Some(end) => Self::WhileRecent(end),
            None => Self::Never,
        }
    }

    /// Whether the pod has to be judged at `now`.
    pub(super) fn stands(self, now: Timestamp, thresholds: &Thresholds) -> bool {
        match self {
            Self::Never => false,
            Self::WhileRecent(end) => now.duration_since(end) <= thresholds.recent,
            Self::Always => true,
        }
    }
}
