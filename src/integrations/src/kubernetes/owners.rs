//! From a pod to what controls it: its ReplicaSet or Job, and the workload above that.

use std::collections::HashMap;

use super::error::KubeError;
use super::lists::Page;
use super::reader::{KubeReader, collection};
use super::records::{OwnerChain, OwnerLookup, OwnerRef, PodRecord, WorkloadRecord};
use super::wire_workload::WireWorkload;
use crate::untrusted;

/// Path of the group, plural, kind. The first three are the ones people think of as workloads.
pub(super) const KINDS: [(&str, &str, &str); 7] = [
    ("/apis/apps/v1", "deployments", "Deployment"),
    ("/apis/apps/v1", "statefulsets", "StatefulSet"),
    ("/apis/apps/v1", "daemonsets", "DaemonSet"),
    ("/apis/apps/v1", "replicasets", "ReplicaSet"),
    ("/apis/batch/v1", "jobs", "Job"),
    ("/apis/batch/v1", "cronjobs", "CronJob"),
    ("/api/v1", "replicationcontrollers", "ReplicationController"),
];

/// Path of the group, plural and kind of a workload.
pub(super) fn kind_of(kind: &str) -> Result<(&'static str, &'static str, &'static str), KubeError> {
    KINDS
        .into_iter()
        .find(|(_, _, known)| *known == kind)
        .ok_or_else(|| KubeError::Invalid {
            problem: format!(
                "`{}` is not a kind of workload: use one of {}",
                untrusted::line(kind, 60),
                KINDS.map(|(_, _, kind)| kind).join(", ")
            ),
        })
}

impl KubeReader {
    /// Who controls `pod`, up to the top.
    pub async fn owner_of(&self, pod: &PodRecord) -> Result<OwnerLookup, KubeError> {
        match &pod.owner {
            None => Ok(OwnerLookup::NoController),
            Some(owner) => self.get_owner(&pod.namespace, owner).await,
        }
    }

    /// The object that `owner` refers to, and what controls that in turn.
    pub async fn get_owner(
        &self,
        namespace: &str,
        owner: &OwnerRef,
    ) -> Result<OwnerLookup, KubeError> {
        owner_chain(self, namespace, owner).await
    }

    /// From the UID of a ReplicaSet or Job to the workload above it, for grouping pods. What our
    /// account may not read is left out.
    pub async fn top_owners(
        &self,
        namespace: Option<&str>,
    ) -> Result<HashMap<String, OwnerRef>, KubeError> {
        self.top_owners_if(namespace, |_, _| true).await
    }

    /// [`Self::top_owners`], of those whose kind and UID are `wanted`.
    pub(super) async fn top_owners_if(
        &self,
        namespace: Option<&str>,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<HashMap<String, OwnerRef>, KubeError> {
        let mut tops = HashMap::new();
        for (group, plural, kind) in [
            ("/apis/apps/v1", "replicasets", "ReplicaSet"),
            ("/apis/batch/v1", "jobs", "Job"),
        ] {
            let path = collection(group, namespace, plural)?;
            let above = |found: &mut HashMap<String, OwnerRef>, page: Page<WireWorkload>| {
                for mut wire in page.items {
                    if wanted(kind, wire.uid())
                        && let Some(owner) = wire.owner()
                    {
                        found.insert(wire.uid().to_owned(), owner);
                    }
                }
            };
            match self.fold_pages(&path, &[], plural, above).await {
                Ok(found) => tops.extend(found),
                Err(KubeError::Forbidden { .. } | KubeError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tops)
    }
}

/// Where a workload is looked up by kind and name.
pub(super) trait WorkloadLookup: Sync {
    /// # Errors
    /// [`KubeError::NotFound`] where there is none.
    fn find_workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> impl Future<Output = Result<WorkloadRecord, KubeError>> + Send;
}

impl WorkloadLookup for KubeReader {
    async fn find_workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<WorkloadRecord, KubeError> {
        self.get_workload(namespace, kind, name).await
    }
}

/// The workload behind an owner reference, or nothing for a kind that we do not read.
pub(super) async fn workload_of(
    lookup: &impl WorkloadLookup,
    namespace: &str,
    owner: &OwnerRef,
) -> Result<Option<WorkloadRecord>, KubeError> {
    let group = match owner.api_version.rsplit_once('/') {
        Some((group, _)) => format!("/apis/{group}/"),
        None => "/api/".to_owned(),
    };
    let known = KINDS
        .iter()
        .any(|(path, _, kind)| *kind == owner.kind && format!("{path}/").starts_with(&group));
    if !known {
        return Ok(None);
    }
    lookup
        .find_workload(namespace, &owner.kind, &owner.name)
        .await
        .map(Some)
}

/// See [`KubeReader::get_owner`].
pub(super) async fn owner_chain(
    lookup: &impl WorkloadLookup,
    namespace: &str,
    owner: &OwnerRef,
) -> Result<OwnerLookup, KubeError> {
    let controller = match workload_of(lookup, namespace, owner).await {
        Ok(Some(workload)) => workload,
        Ok(None) => {
            return Ok(OwnerLookup::Unverified {
                owner: owner.clone(),
            });
        }
        Err(KubeError::NotFound { .. }) => {
            return Ok(OwnerLookup::Gone {
                owner: owner.clone(),
            });
        }
        Err(error) => return Err(error),
    };
    if controller.uid != owner.uid {
        return Ok(OwnerLookup::Gone {
            owner: owner.clone(),
        });
    }
    let mut top = controller.clone();
    // ReplicaSet -> Deployment, Job -> CronJob; deeper chains are custom resources.
    if let Some(next) = &controller.owner {
        match workload_of(lookup, namespace, next).await {
            Ok(Some(workload)) if workload.uid == next.uid => top = workload,
            Ok(_) | Err(KubeError::NotFound { .. } | KubeError::Forbidden { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(OwnerLookup::Found(Box::new(OwnerChain { controller, top })))
}
