//! Cached and live answers are equal, on random clusters with random changes and faults.

use countersign_domain::{Clock as _, SystemClock};
use countersign_integrations::kubernetes::{
    ClusterReads, FailingFilter, KubeError, ReadSource, Scope, Thresholds,
};
use serde_json::{Value, json};

use crate::api::{Api, meta, owned, pod};

/// Numbers without pattern, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const NAMESPACES: [&str; 3] = ["shop", "billing", "logs"];

fn change(api: &Api, random: &mut Random) {
    let namespace = random.of(&NAMESPACES);
    let number = random.below(6);
    match random.below(12) {
        0 => api.delete("pods", namespace, &format!("pod-{number}")),
        1 => {
            let mut job = json!({"metadata": meta(namespace, &format!("job-{number}"))});
            job["spec"] = json!({"suspend": random.below(2) == 0});
            api.put("jobs", job);
        }
        2 => {
            let set = json!({"metadata": meta(namespace, &format!("set-{number}"))});
            let top = format!("top-{}", random.below(2));
            api.put("replicasets", owned(set, "Deployment", &top));
        }
        3 => {
            let top = format!("top-{}", random.below(2));
            api.put("deployments", json!({"metadata": meta(namespace, &top)}));
        }
        4 => {
            let name = format!("event-{number}");
            api.put(
                "events",
                json!({
                    "metadata": meta(namespace, &name), "type": random.of(&["Warning", "Normal"]),
                    "reason": "BackOff", "message": "again", "count": random.below(9) + 1,
                    "lastTimestamp": format!("2026-11-22T02:00:0{}Z", random.below(9)),
                    "involvedObject": {
                        "kind": "Pod", "namespace": namespace, "name": "pod-1",
                        "uid": format!("uid-{namespace}-pod-1"),
                    },
                }),
            );
        }
        5 => api.delete("events", namespace, &format!("event-{number}")),
        6 if random.below(4) == 0 => api.compact(),
        _ => {
            let fates = [
                "ready",
                "CrashLoopBackOff",
                "ImagePullBackOff",
                "ContainerCreating",
            ];
            let mut pod = pod(namespace, &format!("pod-{number}"), random.of(&fates));
            pod["metadata"]["uid"] = format!("uid-{namespace}-pod-{number}").into();
            pod["metadata"]["labels"]["tier"] = random.of(&["front", "back"]).into();
            if random.below(4) == 0 {
                pod["status"]["phase"] = random.of(&["Failed", "Succeeded", "Pending"]).into();
            }
            if random.below(5) == 0 {
                pod["spec"]["schedulingGates"] = json!([{"name": "hold"}]);
            }
            let kinds = [("ReplicaSet", "set"), ("Job", "job"), ("StatefulSet", "db")];
            let (kind, owner) = random.of(&kinds);
            let owner = format!("{owner}-{}", random.below(6));
            api.put("pods", owned(pod, kind, &owner));
        }
    }
}

/// Everything that can be asked, as JSON.
async fn everything(reads: &ClusterReads, at: jiff::Timestamp) -> (Vec<Value>, bool) {
    let reading = reads.begin();
    let mut told = Vec::new();
    let thresholds = Thresholds::default();
    let front = FailingFilter {
        labels: Some(serde_json::from_str(r#"{"matchLabels":{"tier":"front"}}"#).unwrap()),
        ..FailingFilter::default()
    };
    for filter in [FailingFilter::default(), front] {
        for scope in [
            Scope::All,
            Scope::namespace("shop"),
            Scope::Namespaces(vec!["billing".into(), "logs".into()]),
        ] {
            let (collector, tops) = reading
                .collect_failing(&scope, at, &thresholds, &filter)
                .await
                .unwrap();
            let page = collector.page(&tops, "", 100, None).unwrap();
            told.push(serde_json::to_value(page).unwrap());
        }
    }
    for scope in [Scope::All, Scope::namespace("shop")] {
        let loads = reading.node_loads(&scope, at, &thresholds).await.unwrap();
        let by_node: std::collections::BTreeMap<_, _> = loads.into_iter().collect();
        told.push(json!(format!("{by_node:?}")));
    }
    // Owners that are gone are looked for live; all up to here is in the cache.
    let cached = reading.freshness().source == ReadSource::Cache;
    for namespace in NAMESPACES {
        let scope = Scope::namespace(namespace);
        let pods = reading.list_pods(&scope).await.unwrap();
        for pod in &pods {
            let owner = reading.owner_of(pod).await.unwrap();
            let detail = match reading.get_pod_in_detail(namespace, &pod.name).await {
                Ok(detail) => Some(detail),
                // The cache may lag behind for a moment; the comparison is repeated then.
                Err(KubeError::NotFound { .. }) => None,
                Err(error) => panic!("{namespace}/{}: {error}", pod.name),
            };
            told.push(json!([owner, detail]));
        }
        let events = reading.list_events(&scope, None).await.unwrap();
        let uid = format!("uid-{namespace}-pod-1");
        let of_one = reading.list_events(&scope, Some(&uid)).await.unwrap();
        let workloads = reading.list_workloads(&scope).await.unwrap();
        let names = reading.pod_names(namespace).await.unwrap();
        told.extend([
            json!(pods),
            json!(events),
            json!(of_one),
            json!(workloads),
            json!(names),
        ]);
    }
    told.push(json!(reading.namespace_names().await.unwrap()));
    (told, cached)
}

/// Where two answers differ first.
fn difference(told: &Value, wanted: &Value, at: &str) -> String {
    let parts = match (told, wanted) {
        (Value::Object(told), Value::Object(wanted)) => {
            let parts = wanted
                .iter()
                .map(|(key, value)| (key.clone(), told.get(key), value));
            parts.collect::<Vec<_>>()
        }
        (Value::Array(told), Value::Array(wanted)) if told.len() == wanted.len() => {
            let parts = wanted.iter().enumerate();
            let parts = parts.map(|(at, value)| (at.to_string(), told.get(at), value));
            parts.collect()
        }
        _ => Vec::new(),
    };
    let deeper = parts
        .into_iter()
        .find(|(_, told, wanted)| *told != Some(*wanted));
    match deeper {
        Some((key, Some(told), wanted)) => difference(told, wanted, &format!("{at}/{key}")),
        _ => format!("{at}: {told} instead of {wanted}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_and_live_answers_are_equal() {
    for seed in [3, 5, 8] {
        let mut random = Random(seed);
        let api = Api::start().await;
        for _ in 0..60 {
            change(&api, &mut random);
        }
        let (cached, live) = (api.cached().await, api.live());
        for round in 0..6 {
            for _ in 0..random.below(40) {
                change(&api, &mut random);
            }
            let at = SystemClock.now();
            let (wanted, _) = everything(&live, at).await;
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            loop {
                let (told, from_cache) = everything(&cached, at).await;
                if told == wanted && from_cache {
                    break;
                }
                let late = std::time::Instant::now() > until;
                assert!(
                    !late,
                    "seed {seed}, round {round}, all from the cache: {from_cache}; {}",
                    difference(&json!(told), &json!(wanted), "")
                );
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}
