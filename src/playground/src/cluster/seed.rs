//! The example cluster of the demo: two nodes, six namespaces, a shop with a bad night.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::access::{EXECUTOR_NAMESPACE, OPTED_IN, SERVER_NAMESPACE};
use super::kinds::by_plural;
use super::kubelet::{BEHAVIOR, FAILING, REPLACEMENT, Stage};
use super::object;
use super::state::Cluster;
use super::status::Refusal;
use crate::clock;

/// What every cluster has.
pub fn furnish(cluster: &mut Cluster) {
    let now = clock::now();
    let installed = ago(now, 90 * 24 * 60);
    let own = [
        "default",
        "kube-system",
        SERVER_NAMESPACE,
        EXECUTOR_NAMESPACE,
    ];
    for name in own.into_iter().chain(OPTED_IN) {
        let mut labels = json!({"kubernetes.io/metadata.name": name});
        if OPTED_IN.contains(&name) {
            labels["countersign.dev/opt-in"] = "true".into();
        }
        let namespace = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        cluster
            .store
            .insert(by_plural("namespaces"), namespace, installed);
    }
    for number in [1, 2] {
        cluster
            .store
            .insert(by_plural("nodes"), node(number, now), installed);
    }
}

fn ago(now: Timestamp, minutes: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_mins(minutes))
        .unwrap_or(now)
}

fn node(number: u8, now: Timestamp) -> Value {
    let name = format!("worker-{number}");
    let capacity = json!({"cpu": "4", "memory": "16384Mi", "pods": "110"});
    let since = clock::kubernetes(ago(now, 90 * 24 * 60));
    json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "playground.countersign.dev/simulated": "true",
        }},
        "spec": {"podCIDR": format!("10.244.{number}.0/24")},
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": format!("10.0.0.{}", 10 + number)},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "the simulated kubelet is posting ready status",
                "lastHeartbeatTime": clock::kubernetes(now), "lastTransitionTime": since,
            }],
            "nodeInfo": {
                "kubeletVersion": "v1.36.3+countersign-playground",
                "containerRuntimeVersion": "containerd://simulated", "operatingSystem": "linux",
                "architecture": "amd64", "osImage": "countersign-playground", "kernelVersion": "",
                "bootID": "", "machineID": "", "systemUUID": "", "kubeProxyVersion": "",
            },
        },
    })
}

/// An example workload: how many replicas, which of them fail and how, and what comes after them.
struct Workload {
    namespace: &'static str,
    name: &'static str,
    replicas: usize,
    failing: usize,
    behavior: &'static str,
    replacement: &'static str,
    /// Restarts so far, and minutes since the first.
    restarts: u32,
    failing_for: i64,
}

const fn healthy(name: &'static str, replicas: usize) -> Workload {
    Workload {
        namespace: "shop",
        name,
        replicas,
        failing: 0,
        behavior: "ready",
        replacement: "ready",
        restarts: 0,
        failing_for: 0,
    }
}

const fn failing(
    name: &'static str,
    replicas: usize,
    behavior: &'static str,
    replacement: &'static str,
    restarts: u32,
    failing_for: i64,
) -> Workload {
    let failing = 1;
    let namespace = "shop";
    Workload {
        namespace,
        name,
        replicas,
        failing,
        behavior,
        replacement,
        restarts,
        failing_for,
    }
}

static WORKLOADS: [Workload; 9] = [
    failing("checkout", 3, "oomkilled", "slow-ready=800", 7, 24),
    healthy("cart", 2),
    failing("search", 2, "crashloop", "never-ready", 11, 41),
    healthy("frontend", 2),
    failing("inventory", 2, "crashloop", "ready", 6, 18),
    failing("pricing", 2, "oomkilled", "slow-ready=600", 9, 33),
    failing("catalog", 2, "crashloop", "ready", 5, 14),
    failing("reviews", 2, "crashloop", "slow-ready=800", 8, 29),
    Workload {
        namespace: "payments",
        ..failing("ledger", 2, "crashloop", "ready", 10, 37)
    },
];

/// The shop and its bad night.
pub fn seed(cluster: &mut Cluster) -> Result<(), Refusal> {
    let now = clock::now();
    for workload in &WORKLOADS {
        let pods =
            cluster.create_deployment(workload.document(), ago(now, workload.failing_for + 95))?;
        for (index, pod) in pods.iter().enumerate() {
            workload.age(cluster, pod, index, now);
        }
    }
    // The night before its pods began to run out of memory, checkout had more of it.
    cluster.insert_earlier_revision("shop", "checkout", ago(now, 26 * 60), |template| {
        let container = &mut template["spec"]["containers"][0];
        container["image"] = "registry.example/shop/checkout:2.8.0".into();
        for part in ["limits", "requests"] {
            container["resources"][part]["memory"] = "512Mi".into();
        }
    });
    for (namespace, name, minimum) in [
        ("shop", "checkout", 1),
        ("shop", "cart", 1),
        ("payments", "ledger", 2),
    ] {
        let budget = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {"minAvailable": minimum, "selector": {"matchLabels": {"app": name}}},
        });
        cluster
            .store
            .insert(by_plural("poddisruptionbudgets"), budget, ago(now, 60 * 24));
        cluster.settle(namespace);
    }
    job(cluster, now)?;
    let shell = json!({
        "metadata": {"name": "debug-shell", "namespace": "shop", "labels": {"run": "debug-shell"}},
        "spec": {"containers": [container("shell", "registry.example/debug-shell:1.4", "64Mi")]},
    });
    cluster.create_bare_pod(shell, ago(now, 52))?;
    step(cluster, "shop", "debug-shell", Stage::Running, ago(now, 52));
    step(cluster, "shop", "debug-shell", Stage::Ready, ago(now, 52));
    Ok(())
}

fn container(name: &str, image: &str, memory: &str) -> Value {
    json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {
            "limits": {"memory": memory}, "requests": {"cpu": "100m", "memory": memory},
        },
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

impl Workload {
    fn document(&self) -> Value {
        let Self {
            namespace,
            name,
            replicas,
            ..
        } = self;
        let labels = json!({"app": name, "app.kubernetes.io/name": name});
        let memory = if self.behavior == "oomkilled" {
            "256Mi"
        } else {
            "512Mi"
        };
        let mut container = container(
            "app",
            &format!("registry.example/{namespace}/{name}:2.8.1"),
            memory,
        );
        container["readinessProbe"] = json!({
            "httpGet": {"path": "/readyz", "port": 8080, "scheme": "HTTP"},
            "periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
        });
        json!({
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": {
                        BEHAVIOR: self.behavior, REPLACEMENT: self.replacement,
                        FAILING: self.failing.to_string(),
                    }},
                    "spec": {"containers": [container]},
                },
            },
        })
    }

    /// Tells the pod's past: up, then (for a failing one) crashing for a while.
    fn age(&self, cluster: &mut Cluster, pod: &str, index: usize, now: Timestamp) {
        let up = ago(now, self.failing_for + 94);
        step(cluster, self.namespace, pod, Stage::Running, up);
        step(cluster, self.namespace, pod, Stage::Ready, up);
        if index >= self.failing {
            return;
        }
        let restarts = self.restarts;
        let first = ago(now, self.failing_for);
        step(
            cluster,
            self.namespace,
            pod,
            Stage::Crashed {
                restarts: restarts - 1,
            },
            first,
        );
        // The last crash is recent, and not at the same moment for all.
        let last = SignedDuration::from_secs(75 + 9 * i64::from(restarts));
        let last = now.checked_sub(last).unwrap_or(now);
        let again = last
            .checked_sub(SignedDuration::from_secs(14))
            .unwrap_or(last);
        step(
            cluster,
            self.namespace,
            pod,
            Stage::Restarted { restarts },
            again,
        );
        step(
            cluster,
            self.namespace,
            pod,
            Stage::Crashed { restarts },
            last,
        );
    }
}

fn step(cluster: &mut Cluster, namespace: &str, name: &str, stage: Stage, at: Timestamp) {
    let Some(pod) = cluster.store.get(by_plural("pods"), namespace, name) else {
        return;
    };
    cluster.enter(namespace, name, object::uid(&pod), stage, at);
}

/// A finished Job with its one pod.
fn job(cluster: &mut Cluster, now: Timestamp) -> Result<(), Refusal> {
    let (started, done) = (ago(now, 190), ago(now, 187));
    let labels = json!({"app": "nightly-report", "batch.kubernetes.io/job-name": "nightly-report"});
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container("report", "registry.example/shop/report:1.9.0", "256Mi")],
        },
    });
    let job = json!({
        "metadata": {"name": "nightly-report", "namespace": "shop", "labels": labels},
        "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": template},
        "status": {
            "succeeded": 1, "startTime": clock::kubernetes(started),
            "completionTime": clock::kubernetes(done),
            "conditions": [{
                "type": "Complete", "status": "True", "reason": "CompletionsReached",
                "lastProbeTime": clock::kubernetes(done), "lastTransitionTime": clock::kubernetes(done),
            }],
        },
    });
    let job = cluster.store.insert(by_plural("jobs"), job, started);
    let mut pod = template;
    let name = format!("nightly-report-{}", crate::random::name_suffix());
    pod["metadata"]["name"] = name.clone().into();
    pod["metadata"]["namespace"] = "shop".into();
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "nightly-report",
        "uid": object::uid(&job), "controller": true, "blockOwnerDeletion": true,
    }]);
    cluster.create_bare_pod(pod, started)?;
    step(cluster, "shop", &name, Stage::Running, started);
    if let Some(pod) = cluster.store.get(by_plural("pods"), "shop", &name)
        && let Some(life) = cluster.lives.get_mut(object::uid(&pod))
    {
        life.last_run = Some((started, done));
    }
    step(cluster, "shop", &name, Stage::Completed, done);
    Ok(())
}
