//! The simulated cluster behind a server: more of the API than the fake one speaks, and a log of
//! every request.

use countersign_playground::cluster::{self, Options, Started};
use serde_json::{Value, json};

use crate::world::World;

pub struct Playground {
    pub world: World,
    started: Started,
    token: String,
    _folder: tempfile::TempDir,
}

impl Playground {
    /// Without the example workloads, read live.
    pub async fn start() -> Self {
        Self::start_read(false).await
    }

    /// Read live, or through the cache.
    pub async fn start_read(cached: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let started = cluster::start(Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: folder.path().to_owned(),
            seed: false,
        })
        .await
        .unwrap();
        let kubeconfig = std::fs::read_to_string(&started.admin_kubeconfig).unwrap();
        let token = kubeconfig
            .lines()
            .find_map(|line| line.trim().strip_prefix("token: "));
        let token = token.unwrap().to_owned();
        let world = World::start_on("", Some(started.server_kubeconfig.clone()), cached).await;
        Self {
            world,
            started,
            token,
            _folder: folder,
        }
    }

    async fn control(&self, action: &str, body: Value) -> Value {
        let url = format!("{}/playground/{action}", self.started.server.url());
        let client = reqwest::Client::builder().build().unwrap();
        let answer = client.post(url).bearer_auth(&self.token).json(&body);
        let answer = answer.send().await.unwrap();
        let good = answer.status().is_success();
        let text = answer.text().await.unwrap();
        assert!(good, "{action}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn apply(&self, objects: Value) {
        self.control("apply", objects).await;
    }

    /// What a container has written, a line a second.
    pub async fn write(
        &self,
        pod: &str,
        container: &str,
        previous: bool,
        lines: &[&str],
        times: usize,
    ) {
        let body = json!({
            "namespace": "shop", "pod": pod, "container": container, "previous": previous,
            "lines": lines, "times": times,
        });
        self.control("log", body).await;
    }

    /// A workload whose pods behave like `behavior`; returns when they have come that far.
    pub async fn deployment(
        &self,
        name: &str,
        replicas: u32,
        behavior: &str,
        containers: &[&str],
    ) -> Vec<String> {
        let containers: Vec<Value> = containers
            .iter()
            .map(|name| json!({"name": name, "image": "registry.example/app:1"}))
            .collect();
        self.apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": {
                        "playground.countersign.dev/behavior": behavior,
                        "playground.countersign.dev/failing": replicas.to_string(),
                    }},
                    "spec": {"containers": containers},
                },
            },
        }))
        .await;
        let wanted = match behavior {
            "crashloop" => "CrashLoopBackOff",
            "imagepull" => "ImagePull",
            _ => "\"ready\":true",
        };
        self.settled(name, replicas, wanted).await
    }

    /// The names of a workload's pods, once the status of each says `wanted`.
    pub async fn settled(&self, name: &str, replicas: u32, wanted: &str) -> Vec<String> {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let pods = self.pods(name).await;
            let done = |pod: &Value| pod["status"].to_string().contains(wanted);
            if pods.len() == replicas as usize && pods.iter().all(done) {
                let names = pods
                    .iter()
                    .map(|pod| pod["metadata"]["name"].as_str().unwrap());
                return names.map(str::to_owned).collect();
            }
            assert!(tokio::time::Instant::now() < until, "{pods:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub async fn uid(&self, pod: &str) -> String {
        let pod = self
            .get(&format!("/api/v1/namespaces/shop/pods/{pod}"))
            .await;
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> Value {
        let client = reqwest::Client::builder().build().unwrap();
        let url = format!("{}{path}", self.started.server.url());
        let answer = client
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    async fn pods(&self, app: &str) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/shop/pods?labelSelector=app%3D{app}");
        self.get(&path).await["items"].as_array().unwrap().clone()
    }
}
