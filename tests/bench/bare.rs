//! The calls to the API server that an execution makes up to the eviction, made directly: the same
//! account, the same client library, the same calls side by side, and nothing around them.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use countersign_control_plane::Api;
use countersign_domain::{OsEntropy, random_token};
use countersign_integrations::kubernetes::KubeReader;
use countersign_tests::stack::cluster::Cluster;
use serde_json::json;

use crate::calls::milliseconds;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/countersign-executor/leases";

pub struct Bare {
    reader: KubeReader,
    api: Api,
}

impl Bare {
    pub async fn new(cluster: &Cluster) -> Result<Self> {
        let kubeconfig = &cluster.executor_kubeconfig;
        Ok(Self {
            reader: KubeReader::from_kubeconfig(Some(kubeconfig), None),
            api: Api::from_kubeconfig(kubeconfig).await?,
        })
    }

    /// Reads pod, cluster, clock and register; lists pods and evicts in thought; spends. The
    /// milliseconds until the eviction could be sent. The record is one of our own.
    pub async fn calls(&self, namespace: &str, name: &str) -> Result<f64> {
        let record = format!("bench-{}", &random_token(&OsEntropy)[..16]);
        let path = format!("{LEASES}/{record}");
        let started = Instant::now();
        let (pod, uid, date, spent) = tokio::join!(
            self.reader.get_pod(namespace, name),
            self.reader.kube_system_uid(),
            self.reader.server_date(),
            self.api.get(&path),
        );
        let pod = pod?;
        uid?;
        date?;
        ensure!(spent?.status == 404, "a record of that name is there");
        let owner = pod.owner.as_ref().context("no controller")?;
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {
                "dryRun": ["All"],
                "preconditions": {"uid": pod.uid, "resourceVersion": pod.resource_version},
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction?dryRun=All");
        let (family, preview) = tokio::join!(
            self.reader.list_pods_of_controller(namespace, &owner.uid),
            self.api.post(&path, &eviction),
        );
        family?;
        preview?.success()?;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": record, "namespace": "countersign-executor"},
            "spec": {"holderIdentity": random_token(&OsEntropy)},
        });
        self.api.post(LEASES, &lease).await?.success()?;
        Ok(milliseconds(started.elapsed()))
    }
}
