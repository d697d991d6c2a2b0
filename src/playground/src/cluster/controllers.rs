//! The controller manager's part: deployments, replica sets, deletion, and derived status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{Kind, by_plural};
use super::kubelet::{BEHAVIOR, Behavior, FAILING, Life, REPLACEMENT, STOPPING, Stage};
use super::object;
use super::selector::structured_matches;
use super::state::{Cluster, Task};
use super::status::Refusal;
use crate::{clock, random};

/// How long a ReplicaSet takes to notice that a pod is going.
const REPLACE_AFTER: Duration = Duration::from_millis(300);
/// Numbers a Deployment's templates, on it and on its ReplicaSets.
const REVISION: &str = "deployment.kubernetes.io/revision";
const DEFAULT_GRACE_SECONDS: i64 = 30;

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// The behaviors that a template's annotations ask for.
struct Plan {
    first: Behavior,
    /// How many pods of the first set follow `first`; the others are ready.
    failing: usize,
    later: Behavior,
}

impl Plan {
    fn read(annotated: &Value, replicas: usize) -> Result<Self, (&'static str, String)> {
        let parse = |key| match annotation(annotated, key) {
            Some(text) => Behavior::parse(text).map(Some).map_err(|why| (key, why)),
            None => Ok(None),
        };
        let first = parse(BEHAVIOR)?.unwrap_or(Behavior::Ready);
        let later = parse(REPLACEMENT)?.unwrap_or(first);
        let failing = match annotation(annotated, FAILING) {
            Some(text) => text
                .parse()
                .map_err(|_| (FAILING, format!("{text:?} is not a number")))?,
            None => replicas,
        };
        Ok(Self {
            first,
            failing,
            later,
        })
    }
}

impl Cluster {
    /// Checks a Deployment and makes it with its ReplicaSet and pods, all created at `at`.
    /// Returns the pods' names in the order of creation.
    pub fn create_deployment(
        &mut self,
        mut deployment: Value,
        at: Timestamp,
    ) -> Result<Vec<String>, Refusal> {
        let kind = by_plural("deployments");
        let name = object::name(&deployment).to_owned();
        let namespace = object::namespace(&deployment).to_owned();
        let selector = deployment
            .pointer("/spec/selector")
            .cloned()
            .unwrap_or_default();
        let template = deployment
            .pointer("/spec/template")
            .cloned()
            .unwrap_or_default();
        if !selector.is_object() {
            return Err(Refusal::invalid(
                kind,
                &name,
                "spec.selector",
                "Required value",
            ));
        }
        if object::list(&template, "/spec/containers").is_empty() {
            let field = "spec.template.spec.containers";
            return Err(Refusal::invalid(kind, &name, field, "Required value"));
        }
        if !structured_matches(Some(&selector), object::labels(&template)) {
            let why = "Invalid value: `selector` does not match template `labels`";
            return Err(Refusal::invalid(
                kind,
                &name,
                "spec.template.metadata.labels",
                why,
            ));
        }
        let replicas = deployment
            .pointer("/spec/replicas")
            .and_then(Value::as_u64)
            .unwrap_or(1);
        let replicas = usize::try_from(replicas).unwrap_or(usize::MAX).min(200);
        let plan = Plan::read(&template, replicas).map_err(|(key, why)| {
            let field = format!("spec.template.metadata.annotations[{key}]");
            Refusal::invalid(kind, &name, &field, &format!("Invalid value: {why}"))
        })?;

        deployment["spec"]["replicas"] = json!(replicas);
        for (field, default) in [
            ("revisionHistoryLimit", json!(10)),
            ("progressDeadlineSeconds", json!(600)),
            (
                "strategy",
                json!({"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            ),
        ] {
            if deployment["spec"][field].is_null() {
                deployment["spec"][field] = default;
            }
        }
        deployment["metadata"]["annotations"][REVISION] = "1".into();
        let deployment = self.store.insert(kind, deployment, at);

        let hash = random::template_hash(&template.to_string());
        let mut of_set = template;
        of_set["metadata"]["labels"]["pod-template-hash"] = hash.clone().into();
        let mut set_selector = selector;
        set_selector["matchLabels"]["pod-template-hash"] = hash.clone().into();
        let set = json!({
            "metadata": {
                "name": format!("{name}-{hash}"), "namespace": namespace,
                "labels": of_set["metadata"]["labels"],
                "annotations": {
                    "deployment.kubernetes.io/desired-replicas": replicas.to_string(),
                    REVISION: "1",
                },
                "ownerReferences": [owner(&deployment, kind)],
            },
            "spec": {"replicas": replicas, "selector": set_selector, "template": of_set},
            "status": {"replicas": 0},
        });
        let set = self.store.insert(by_plural("replicasets"), set, at);
        let pods = (0..replicas)
            .map(|index| {
                let behavior = if index < plan.failing {
                    plan.first
                } else {
                    Behavior::Ready
                };
                self.create_pod_of_set(&set, behavior, at)
            })
            .collect();
        self.settle(&namespace);
        Ok(pods)
    }

    fn create_pod_of_set(&mut self, set: &Value, behavior: Behavior, at: Timestamp) -> String {
        let mut pod = set["spec"]["template"].clone();
        let generate_name = format!("{}-", object::name(set));
        let name = format!("{generate_name}{}", random::name_suffix());
        pod["metadata"]["generateName"] = generate_name.into();
        pod["metadata"]["name"] = name.clone().into();
        pod["metadata"]["namespace"] = object::namespace(set).into();
        pod["metadata"]["ownerReferences"] = json!([owner(set, by_plural("replicasets"))]);
        self.create_pod(pod, behavior, at);
        name
    }

    /// A bare pod from a document; its own annotation says how it behaves.
    pub fn create_bare_pod(&mut self, pod: Value, at: Timestamp) -> Result<(), Refusal> {
        let kind = by_plural("pods");
        let name = object::name(&pod).to_owned();
        if object::list(&pod, "/spec/containers").is_empty() {
            return Err(Refusal::invalid(
                kind,
                &name,
                "spec.containers",
                "Required value",
            ));
        }
        let plan = Plan::read(&pod, 1).map_err(|(key, why)| {
            let field = format!("metadata.annotations[{key}]");
            Refusal::invalid(kind, &name, &field, &format!("Invalid value: {why}"))
        })?;
        self.create_pod(pod, plan.first, at);
        Ok(())
    }

    fn create_pod(&mut self, mut pod: Value, behavior: Behavior, at: Timestamp) {
        self.pods_placed += 1;
        let node = 1 + self.pods_placed % 2;
        let spec = &mut pod["spec"];
        for (field, default) in [
            ("nodeName", json!(format!("worker-{node}"))),
            ("restartPolicy", json!("Always")),
            (
                "terminationGracePeriodSeconds",
                json!(DEFAULT_GRACE_SECONDS),
            ),
            ("dnsPolicy", json!("ClusterFirst")),
            ("serviceAccountName", json!("default")),
            ("schedulerName", json!("default-scheduler")),
            ("enableServiceLinks", json!(true)),
            ("preemptionPolicy", json!("PreemptLowerPriority")),
            ("priority", json!(0)),
        ] {
            if spec[field].is_null() {
                spec[field] = default;
            }
        }
        pod["status"] = json!({
            "hostIP": format!("10.0.0.{}", 10 + node),
            "podIP": format!("10.244.{node}.{}", 2 + self.pods_placed % 250),
        });
        let pod = self.store.insert(by_plural("pods"), pod, at);
        self.lives
            .insert(object::uid(&pod).to_owned(), Life::new(behavior, at));
        let (namespace, name, uid) = (
            object::namespace(&pod),
            object::name(&pod),
            object::uid(&pod),
        );
        self.enter(namespace, name, uid, Stage::Creating, at);
    }

    /// Starts the deletion of a pod, or of an object of another kind and all that it owns.
    pub fn delete(&mut self, kind: &'static Kind, namespace: &str, name: &str, grace: Option<i64>) {
        let Some(found) = self.store.get(kind, namespace, name) else {
            return;
        };
        if kind.plural == "pods" {
            return self.delete_pod(&found, grace);
        }
        self.store.remove(kind, namespace, name);
        let uid = object::uid(&found);
        for owned in ["replicasets", "pods"].map(by_plural) {
            let names: Vec<String> = self
                .store
                .list(owned, namespace)
                .filter(|object| object::controller_uid(object) == Some(uid))
                .map(|object| object::name(object).to_owned())
                .collect();
            for name in names {
                self.delete(owned, namespace, &name, grace);
            }
        }
        self.settle(namespace);
    }

    fn delete_pod(&mut self, pod: &Value, grace: Option<i64>) {
        let pods = by_plural("pods");
        let (namespace, name, uid) = (
            object::namespace(pod).to_owned(),
            object::name(pod).to_owned(),
            object::uid(pod).to_owned(),
        );
        let grace = grace.unwrap_or_else(|| {
            pod.pointer("/spec/terminationGracePeriodSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(DEFAULT_GRACE_SECONDS)
        });
        // A negative period counts as one second, as on the API server's delete path.
        let grace = if grace < 0 { 1 } else { grace };
        let now = clock::now();
        let by = now
            .checked_add(jiff::SignedDuration::from_secs(grace))
            .unwrap_or(now);
        if !object::is_terminating(pod) {
            self.store.update(pods, &namespace, &name, |pod| {
                pod["metadata"]["deletionTimestamp"] = clock::kubernetes(by).into();
                pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            });
            let container = object::text(pod, "/spec/containers/0/name");
            self.tell_event(
                pod,
                false,
                "Killing",
                &format!("Stopping container {container}"),
                1,
                now,
            );
        }
        if grace == 0 {
            self.finish_deletion(&namespace, &name, &uid);
        } else {
            let (namespace, name) = (namespace.clone(), name);
            self.schedule(
                STOPPING,
                Task::Finish {
                    namespace,
                    name,
                    uid,
                },
            );
        }
        let controller = object::list(pod, "/metadata/ownerReferences")
            .iter()
            .find(|owner| owner["controller"] == true && owner["kind"] == "ReplicaSet");
        if let Some(owner) = controller {
            let task = Task::Reconcile {
                namespace: namespace.clone(),
                name: object::text(owner, "/name").to_owned(),
            };
            self.schedule(REPLACE_AFTER, task);
        }
        self.settle(&namespace);
    }

    /// Creates the pods that a ReplicaSet lacks. Terminating and finished pods do not count.
    pub fn reconcile(&mut self, namespace: &str, name: &str) {
        let Some(set) = self.store.get(by_plural("replicasets"), namespace, name) else {
            return;
        };
        let active = self
            .pods_of(&set)
            .filter(|pod| {
                !object::is_terminating(pod)
                    && !matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed")
            })
            .count();
        let wanted = usize::try_from(object::integer(&set, "/spec/replicas")).unwrap_or_default();
        let behavior =
            Plan::read(&set["spec"]["template"], wanted).map_or(Behavior::Ready, |plan| plan.later);
        for _ in active..wanted {
            self.create_pod_of_set(&set, behavior, clock::now());
        }
    }

    /// The ReplicaSet of a Deployment's newest revision.
    pub fn newest_set(&self, deployment: &Value) -> Option<Arc<Value>> {
        let revision = |set: &Value| annotation(set, REVISION)?.parse::<u64>().ok();
        self.store
            .list(by_plural("replicasets"), object::namespace(deployment))
            .filter(|set| object::controller_uid(set) == Some(object::uid(deployment)))
            .max_by_key(|set| revision(set))
            .cloned()
    }

    /// Gives a Deployment a past: a revision before its newest, whose template is the newest one
    /// with `change` made to it, and which has no pods any more.
    pub fn insert_earlier_revision(
        &mut self,
        namespace: &str,
        name: &str,
        at: Timestamp,
        change: impl FnOnce(&mut Value),
    ) {
        let (deployments, sets) = (by_plural("deployments"), by_plural("replicasets"));
        let Some(deployment) = self.store.get(deployments, namespace, name) else {
            return;
        };
        let Some(newest) = self.newest_set(&deployment) else {
            return;
        };
        let revision = annotation(&newest, REVISION).unwrap_or("1").to_owned();
        let next = revision.parse::<u64>().unwrap_or(1) + 1;
        for (kind, name) in [(deployments, name), (sets, object::name(&newest))] {
            self.store.update(kind, namespace, name, |object| {
                object["metadata"]["annotations"][REVISION] = next.to_string().into();
            });
        }
        let mut template = newest["spec"]["template"].clone();
        change(&mut template);
        let hash = random::template_hash(&template.to_string());
        template["metadata"]["labels"]["pod-template-hash"] = hash.clone().into();
        let mut selector = newest["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = hash.clone().into();
        let earlier = json!({
            "metadata": {
                "name": format!("{name}-{hash}"), "namespace": namespace,
                "labels": template["metadata"]["labels"],
                "annotations": {REVISION: revision},
                "ownerReferences": [owner(&deployment, deployments)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
            "status": {"replicas": 0},
        });
        self.store.insert(sets, earlier, at);
        self.settle(namespace);
    }

    fn pods_of<'a>(&'a self, owner: &'a Value) -> impl Iterator<Item = &'a Value> {
        self.store
            .list(by_plural("pods"), object::namespace(owner))
            .map(|pod| &**pod)
            .filter(|pod| object::controller_uid(pod) == Some(object::uid(owner)))
    }

    /// Brings derived status in a namespace up to date: replica sets, deployments, budgets.
    pub fn settle(&mut self, namespace: &str) {
        let sets = by_plural("replicasets");
        let names = |cluster: &Self, kind| -> Vec<String> {
            cluster
                .store
                .list(kind, namespace)
                .map(|o| object::name(o).to_owned())
                .collect()
        };
        for name in names(self, sets) {
            let Some(set) = self.store.get(sets, namespace, &name) else {
                continue;
            };
            let (mut total, mut ready) = (0, 0);
            for pod in self
                .pods_of(&set)
                .filter(|pod| !object::is_terminating(pod))
            {
                total += 1;
                ready += i64::from(object::is_ready(pod));
            }
            self.store.update(sets, namespace, &name, |set| {
                set["status"] = json!({
                    "replicas": total, "fullyLabeledReplicas": total, "readyReplicas": ready,
                    "availableReplicas": ready, "observedGeneration": set["metadata"]["generation"],
                });
            });
        }
        let deployments = by_plural("deployments");
        for name in names(self, deployments) {
            self.settle_deployment(namespace, &name);
        }
        self.settle_budgets(namespace);
    }

    fn settle_deployment(&mut self, namespace: &str, name: &str) {
        let kind = by_plural("deployments");
        let Some(deployment) = self.store.get(kind, namespace, name) else {
            return;
        };
        let Some(set) = self.newest_set(&deployment) else {
            return;
        };
        let wanted = object::integer(&deployment, "/spec/replicas");
        let total = object::integer(&set, "/status/replicas");
        let ready = object::integer(&set, "/status/readyReplicas");
        let now = clock::kubernetes(clock::now());
        // The default strategy tolerates 25 % of the replicas, rounded down, being unavailable.
        let enough = ready >= wanted - wanted / 4;
        let (availability, available_reason, available_message) = if enough {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        let available = json!({
            "type": "Available", "status": availability, "reason": available_reason,
            "message": available_message,
        });
        let progressing = json!({
            "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
            "message": format!("ReplicaSet {:?} has successfully progressed.", object::name(&set)),
        });
        self.store.update(kind, namespace, name, |deployment| {
            let generation = deployment["metadata"]["generation"].clone();
            let status = &mut deployment["status"];
            status["observedGeneration"] = generation;
            status["replicas"] = total.into();
            status["updatedReplicas"] = total.into();
            status["readyReplicas"] = ready.into();
            status["availableReplicas"] = ready.into();
            status["unavailableReplicas"] = (wanted - ready).max(0).into();
            for mut condition in [available, progressing] {
                condition["lastUpdateTime"] = status
                    .pointer("/conditions/0/lastUpdateTime")
                    .cloned()
                    .unwrap_or_else(|| now.clone().into());
                object::set_condition(status, condition, &now);
            }
        });
    }
}

fn owner(owner: &Value, kind: &Kind) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "name": object::name(owner),
        "uid": object::uid(owner), "controller": true, "blockOwnerDeletion": true,
    })
}
