//! The reads that the tools, the page and the executor's own look are made of.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};
use url::form_urlencoded::Serializer;

use super::connection::{Connection, Source, decode};
use super::error::KubeError;
use super::events::newest_first;
use super::lists::{LONGEST_LIST, Listing, PAGE};
use super::names::{label, subdomain};
use super::owners::{kind_of, workload_of};
use super::pod_detail::{PodDetail, WireDetail};
use super::records::{
    EventRecord, JobState, NamespaceRecord, PdbRecord, PodPhase, PodRecord, VersionRecord,
    WorkloadRecord,
};
use super::wire::{WireEvent, WireNamespace, WirePdb};
use super::wire_pod::WirePod;
use super::wire_workload::WireWorkload;
use crate::untrusted;

/// Reads one cluster. Cheap to clone; connects on the first call.
#[derive(Clone)]
pub struct KubeReader {
    pub(super) connection: Arc<Connection>,
}

/// Pods in the API's order, and whether these are all.
#[derive(Clone, Debug, Serialize)]
pub struct PodList {
    pub pods: Vec<PodRecord>,
    pub complete: bool,
    /// How many do not decode and are missing in `pods`.
    pub unreadable: usize,
    pub resource_version: Option<String>,
}

impl KubeReader {
    /// From a kubeconfig file (default: `$KUBECONFIG` or `~/.kube/config`) and one of its
    /// contexts (default: the current one). Reads nothing yet.
    #[must_use]
    pub fn from_kubeconfig(path: Option<&Path>, context: Option<&str>) -> Self {
        Self::new(Source::Kubeconfig {
            path: path.map(Path::to_owned),
            context: context.map(str::to_owned),
        })
    }

    /// With the service account of the pod that we run in. Reads nothing yet.
    #[must_use]
    pub fn incluster() -> Self {
        Self::new(Source::InCluster)
    }

    fn new(source: Source) -> Self {
        Self {
            connection: Arc::new(Connection::new(source)),
        }
    }

    /// One pod. A failed pod of a Job comes with the Job's state.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<PodRecord, KubeError> {
        let namespace = label("namespace", namespace)?;
        let name = subdomain("pod", name)?;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let wire: WirePod = self
            .connection
            .get(&path, &format!("pod {namespace}/{name}"))
            .await?;
        Ok(self.with_job(wire.into()).await)
    }

    /// One pod with what only a close look needs, in one request.
    pub async fn get_pod_in_detail(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(PodRecord, PodDetail), KubeError> {
        let path = collection("/api/v1", Some(namespace), "pods")?;
        let what = format!("pod {namespace}/{name}");
        let path = format!("{path}/{}", subdomain("pod", name)?);
        let body = self.connection.get_raw(&path, &what).await?.body;
        let pod: WirePod = decode(&body, &what)?;
        let detail: WireDetail = decode(&body, &what)?;
        Ok((self.with_job(pod.into()).await, detail.into()))
    }

    async fn with_job(&self, mut pod: PodRecord) -> PodRecord {
        if let Some(owner) = pod.owner.as_ref().filter(|_| needs_job(&pod)) {
            pod.job = workload_of(self, &pod.namespace, owner)
                .await
                .ok()
                .flatten()
                .filter(|job| job.uid == owner.uid)
                .and_then(|job| job.job);
        }
        pod
    }

    /// Pods of a namespace, or of all, at most `max`, read in pages. Failed pods of Jobs come
    /// with the Job's state where our account may read Jobs.
    pub async fn list_pods(
        &self,
        namespace: Option<&str>,
        label_selector: Option<&str>,
        max: usize,
    ) -> Result<PodList, KubeError> {
        let path = collection("/api/v1", namespace, "pods")?;
        let query = [("labelSelector", label_selector)];
        let Listing {
            mut items,
            complete,
            resource_version,
            unreadable,
        } = self
            .list(&path, &query, "pods", max, |w: WirePod| PodRecord::from(w))
            .await?;
        if items.iter().any(needs_job) {
            self.attach_jobs(namespace, &mut items).await;
        }
        Ok(PodList {
            pods: items,
            complete,
            unreadable,
            resource_version,
        })
    }

    /// The pods that a controller owns by UID, whatever their labels say.
    pub async fn list_pods_of_controller(
        &self,
        namespace: &str,
        controller_uid: &str,
    ) -> Result<Vec<PodRecord>, KubeError> {
        let mut pods = self
            .list_pods(Some(namespace), None, LONGEST_LIST)
            .await?
            .pods;
        pods.retain(|pod| {
            pod.owner
                .as_ref()
                .is_some_and(|owner| owner.uid == controller_uid)
        });
        Ok(pods)
    }

    /// The PodDisruptionBudgets of a namespace.
    pub async fn list_pdbs(&self, namespace: &str) -> Result<Vec<PdbRecord>, KubeError> {
        let path = collection("/apis/policy/v1", Some(namespace), "poddisruptionbudgets")?;
        let what = "PodDisruptionBudgets";
        Ok(self
            .list(&path, &[], what, LONGEST_LIST, |w: WirePdb| w.into())
            .await?
            .items)
    }

    /// The PodDisruptionBudgets that select `pod`, as the eviction API would find them.
    pub async fn pdbs_matching(&self, pod: &PodRecord) -> Result<Vec<PdbRecord>, KubeError> {
        let mut pdbs = self.list_pdbs(&pod.namespace).await?;
        pdbs.retain(|pdb| pdb.selects(pod));
        Ok(pdbs)
    }

    /// A workload by kind (`Deployment`, `StatefulSet`, `DaemonSet`, `ReplicaSet`, `Job`,
    /// `CronJob`, `ReplicationController`) and name.
    pub async fn get_workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<WorkloadRecord, KubeError> {
        let (group, plural, kind) = kind_of(kind)?;
        let path = collection(group, Some(namespace), plural)?;
        let name = subdomain(kind, name)?;
        let wire: WireWorkload = self
            .connection
            .get(
                &format!("{path}/{name}"),
                &format!("{kind} {namespace}/{name}"),
            )
            .await?;
        Ok(wire.record(kind))
    }

    pub async fn list_namespaces(&self) -> Result<Vec<NamespaceRecord>, KubeError> {
        let convert = |w: WireNamespace| NamespaceRecord::from(w);
        let path = "/api/v1/namespaces";
        Ok(self
            .list(path, &[], "namespaces", LONGEST_LIST, convert)
            .await?
            .items)
    }

    /// Events of a namespace (or all), of one object if its UID is given, newest first. The
    /// list is read to its end: the API returns it in no useful order.
    pub async fn list_events(
        &self,
        namespace: Option<&str>,
        involved_uid: Option<&str>,
    ) -> Result<Vec<EventRecord>, KubeError> {
        let path = collection("/api/v1", namespace, "events")?;
        let field_selector = involved_uid.map(|uid| format!("involvedObject.uid={uid}"));
        let query = [("fieldSelector", field_selector.as_deref())];
        let convert = |w: WireEvent| EventRecord::from(w);
        let mut events = self
            .list(&path, &query, "events", LONGEST_LIST, convert)
            .await?
            .items;
        newest_first(&mut events);
        Ok(events)
    }

    /// The UID of the namespace `kube-system`: the customary identity of a cluster.
    pub async fn kube_system_uid(&self) -> Result<String, KubeError> {
        #[derive(Deserialize)]
        struct Uid {
            uid: String,
        }
        #[derive(Deserialize)]
        struct Namespace {
            metadata: Uid,
        }
        let path = "/api/v1/namespaces/kube-system";
        let namespace: Namespace = self.connection.get(path, "namespace kube-system").await?;
        Ok(namespace.metadata.uid)
    }

    /// The API server's clock, from the `Date` header: whole seconds, as old as the answer.
    pub async fn server_date(&self) -> Result<Timestamp, KubeError> {
        let answer = self.connection.get_raw("/version", "the version").await?;
        let unexpected = |problem: &str| KubeError::Unexpected {
            what: "the API server's time".to_owned(),
            problem: problem.to_owned(),
        };
        let date = answer
            .headers
            .get(http::header::DATE)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| unexpected("the answer has no Date header"))?;
        rfc2822::DateTimeParser::new()
            .parse_timestamp(date)
            .map_err(|_| unexpected("the Date header is not a date"))
    }

    pub async fn version(&self) -> Result<VersionRecord, KubeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
            major: String,
            minor: String,
        }
        let Version {
            git_version,
            major,
            minor,
        } = self.connection.get("/version", "the version").await?;
        let short = |text: String| untrusted::line(&text, 60);
        Ok(VersionRecord {
            git_version: short(git_version),
            major: short(major),
            minor: short(minor),
        })
    }

    /// The API server says that it is ready to serve.
    pub async fn readyz(&self) -> Result<(), KubeError> {
        self.connection
            .get_raw("/readyz", "the readiness of the API server")
            .await
            .map(drop)
    }

    /// Best effort: without the right to read Jobs a failed pod counts as failing.
    async fn attach_jobs(&self, namespace: Option<&str>, pods: &mut [PodRecord]) {
        let jobs = self.job_states(namespace).await;
        for pod in pods.iter_mut().filter(|pod| needs_job(pod)) {
            pod.job = job_of(pod, &jobs);
        }
    }

    async fn job_states(&self, namespace: Option<&str>) -> HashMap<String, JobState> {
        let Ok(path) = collection("/apis/batch/v1", namespace, "jobs") else {
            return HashMap::new();
        };
        let convert = |wire: WireWorkload| (wire.uid().to_owned(), wire.job());
        match self.list(&path, &[], "jobs", LONGEST_LIST, convert).await {
            Ok(listing) => listing.items.into_iter().collect(),
            Err(error) => {
                tracing::debug!(%error, "jobs cannot be read, so their retries are unknown");
                HashMap::new()
            }
        }
    }

    /// Shows every pod of a namespace, or of all, to `see`; one page of them is in memory at a
    /// time. Says how many do not decode.
    ///
    /// # Errors
    /// [`KubeError::Gone`] where the list expired half-way: what was seen is then worth nothing.
    pub(super) async fn each_pod(
        &self,
        namespace: Option<&str>,
        mut see: impl FnMut(&PodRecord),
    ) -> Result<usize, KubeError> {
        let path = collection("/api/v1", namespace, "pods")?;
        let (mut jobs, mut unreadable) = (None, 0);
        let mut pages = self.pages(&path, &[], "pods");
        while let Some(page) = pages.read::<WirePod>(PAGE).await? {
            unreadable += page.unreadable.len();
            let mut of_jobs = Vec::new();
            for pod in page.items.into_iter().map(PodRecord::from) {
                match needs_job(&pod) {
                    true => of_jobs.push(pod),
                    false => see(&pod),
                }
            }
            if !of_jobs.is_empty() && jobs.is_none() {
                jobs = Some(self.job_states(namespace).await);
            }
            for mut pod in of_jobs {
                pod.job = jobs.as_ref().and_then(|jobs| job_of(&pod, jobs));
                see(&pod);
            }
        }
        Ok(unreadable)
    }
}

/// The given pairs as a query. (A serializer held across an await would tie the read to one
/// thread.)
pub(super) fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut query = Serializer::new(String::new());
    for (key, value) in pairs {
        if let Some(value) = value {
            query.append_pair(key, &value);
        }
    }
    query.finish()
}

pub(super) fn collection(
    group: &str,
    namespace: Option<&str>,
    plural: &str,
) -> Result<String, KubeError> {
    Ok(match namespace {
        Some(namespace) => {
            format!(
                "{group}/namespaces/{}/{plural}",
                label("namespace", namespace)?
            )
        }
        None => format!("{group}/{plural}"),
    })
}

pub(super) fn job_of(pod: &PodRecord, jobs: &HashMap<String, JobState>) -> Option<JobState> {
    jobs.get(&pod.owner.as_ref()?.uid).cloned()
}

/// What a failed pod means depends on its Job.
pub(super) fn needs_job(pod: &PodRecord) -> bool {
    pod.phase == PodPhase::Failed && pod.owner.as_ref().is_some_and(|owner| owner.kind == "Job")
}
