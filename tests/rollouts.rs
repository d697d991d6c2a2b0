//! The tools about workloads, rollouts and nodes on a real API server with its controllers: what
//! hangs hangs for real, revisions are those that the controllers made, and the server reads with
//! the rights of its own manifests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use countersign_control_plane::{Api, Patch, eventually};
use countersign_tests::stack::ai::{Ai, Answer};
use countersign_tests::stack::{ClusterKind, Options, Stack};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const BEHAVIOR: &str = "fake.countersign.dev/behavior";
const SECRET: &str = "hunter2-secret-value";

struct Scene<'a> {
    admin: &'a Api,
    ai: Ai,
}

impl Scene<'_> {
    async fn apply(&self, kind: &str, name: &str, spec: Value) {
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": {BEHAVIOR: "ready"}},
                    "spec": {"containers": [{
                        "name": "app", "image": "registry.invalid/app:1",
                        "env": [{"name": "PASSWORD", "value": SECRET}],
                        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                    }]},
                },
            },
        });
        let fields = object["spec"].as_object_mut().unwrap();
        fields.extend(spec.as_object().unwrap().clone());
        self.admin.apply(&object).await.unwrap();
    }

    async fn patch(&self, plural: &str, name: &str, patch: Value) {
        let path = format!("/apis/apps/v1/namespaces/shop/{plural}/{name}");
        let answer = self.admin.patch(&path, Patch::StrategicMerge, &patch).await;
        answer.unwrap().success().unwrap();
    }

    async fn ask(&self, tool: &str, arguments: Value) -> Answer {
        let answer = self.ai.call(tool, arguments).await.unwrap();
        assert!(!answer.is_error, "{tool}: {}", answer.text);
        assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
        answer
    }

    /// Asks until the rollout is as wanted.
    async fn until(&self, kind: &str, name: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let last = std::sync::Mutex::new(String::new());
        let arguments = json!({"namespace": "shop", "kind": kind, "name": name});
        let found = eventually(LIMIT, "the rollout as wanted", async || {
            let answer = self.ask("get_rollout_status", arguments.clone()).await;
            last.lock().unwrap().clone_from(&answer.text);
            Ok(wanted(&answer).then_some(answer))
        });
        match found.await {
            Ok(answer) => answer,
            Err(error) => panic!("{error:#}; last: {}", last.lock().unwrap()),
        }
    }

    async fn complete(&self, kind: &str, name: &str) -> Answer {
        self.until(kind, name, |a| a.str("state") == "complete")
            .await
    }
}

/// A template that differs, and whose pods do what `behavior` says.
fn template(image: &str, behavior: &str) -> Value {
    json!({"spec": {"template": {
        "metadata": {"annotations": {BEHAVIOR: behavior}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    }}})
}

#[tokio::test(flavor = "multi_thread")]
async fn real_rollouts_are_told_as_they_are() {
    let options = Options {
        cluster: ClusterKind::ControlPlane,
        ..Options::default()
    };
    let mut stack = Stack::start(options).await.unwrap();
    let scene = Scene {
        admin: stack.cluster.admin(),
        ai: stack.ai().await.unwrap(),
    };
    tokio::join!(
        a_deployment_hangs_and_its_history_says_why(&scene),
        a_stateful_set_stops_at_its_partition(&scene),
        a_daemon_set_waits_for_its_pods(&scene),
    );
    nodes_and_workloads_add_up(&scene).await;
    drop(scene);
    stack.stop().await.unwrap();
}

async fn a_deployment_hangs_and_its_history_says_why(scene: &Scene<'_>) {
    let spec = json!({"replicas": 2, "progressDeadlineSeconds": 4});
    scene.apply("Deployment", "web", spec).await;
    scene.complete("Deployment", "web").await;
    let mut next = template("registry.invalid/app:2", "crashloop since=20m");
    next["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "PASSWORD", "value": "hunter2-other"}, {"name": "DEBUG", "value": "1"}]);
    next["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "70m"}});
    scene.patch("deployments", "web", next).await;
    let stuck = scene
        .until("Deployment", "web", |a| a.str("state") == "stuck")
        .await;
    assert!(
        stuck.str("summary").contains("deadline has passed"),
        "{}",
        stuck.text
    );
    assert_eq!(stuck.str("revision"), "2");
    let held = stuck.value["held_up_by"].as_array().unwrap();
    assert!(!held.is_empty(), "{}", stuck.text);
    for one in held {
        assert_eq!(
            (&one["updated"], &one["failing"]),
            (&json!(true), &json!(true))
        );
        assert!(
            one["problem"]
                .as_str()
                .unwrap()
                .starts_with("CrashLoopBackOff")
        );
    }
    assert!(
        stuck
            .str("next_tool")
            .starts_with("get_pod_status for pod web-")
    );

    let name = json!({"namespace": "shop", "name": "web"});
    let history = scene.ask("get_rollout_history", name).await;
    let newest = &history.value["revisions"][0];
    assert_eq!(
        (&newest["revision"], &newest["current"]),
        (&json!(2), &json!(true))
    );
    let told: Vec<&str> = newest["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["change"].as_str().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            &*format!("changed {BEHAVIOR}"),
            "registry.invalid/app:1 -> registry.invalid/app:2",
            "added DEBUG; changed PASSWORD",
            "requests.cpu 50m -> 70m",
        ]
    );

    // Paused in the middle of the next change.
    scene
        .patch("deployments", "web", json!({"spec": {"paused": true}}))
        .await;
    let paused = |a: &Answer| a.str("state") == "paused" && a.value["paused"] == true;
    scene.until("Deployment", "web", paused).await;
    let resume = json!({"spec": {"paused": false}});
    scene.patch("deployments", "web", resume).await;
    // Rolled back: the first template comes again, as revision 3.
    let mut back = template("registry.invalid/app:1", "ready");
    back["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"$patch": "replace"}, {"name": "PASSWORD", "value": SECRET}]);
    back["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "50m"}});
    scene.patch("deployments", "web", back).await;
    scene.complete("Deployment", "web").await;
    let name = json!({"namespace": "shop", "name": "web"});
    let history = scene.ask("get_rollout_history", name).await;
    let newest = &history.value["revisions"][0];
    assert_eq!(newest["revision"], 3);
    assert_eq!(newest["earlier_numbers"], json!([1]), "{}", history.text);
    assert_eq!(history.value["revisions_total"], 2);
}

async fn a_stateful_set_stops_at_its_partition(scene: &Scene<'_>) {
    let partition = |partition: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let spec = json!({"replicas": 2, "serviceName": "db", "updateStrategy": partition(1)});
    scene.apply("StatefulSet", "db", spec).await;
    scene.complete("StatefulSet", "db").await;
    scene
        .patch(
            "statefulsets",
            "db",
            template("registry.invalid/app:2", "ready"),
        )
        .await;
    let halved = |a: &Answer| a.str("state") == "complete" && a.value["updated"] == 1;
    let half = scene.until("StatefulSet", "db", halved).await;
    assert!(
        half.str("summary").contains("partition of 1"),
        "{}",
        half.text
    );

    let mut broken = template("registry.invalid/app:3", "crashloop since=20m");
    broken["spec"]["updateStrategy"] = partition(0);
    scene.patch("statefulsets", "db", broken).await;
    // kubectl knows no deadline here.
    let held =
        |a: &Answer| a.str("state") == "progressing" && a.value["held_up_by"][0]["failing"] == true;
    let held = scene.until("StatefulSet", "db", held).await;
    assert_eq!(held.value["held_up_by"][0]["pod"], "db-1");
    assert!(
        held.text.contains("until somebody deletes it"),
        "{}",
        held.text
    );
    let name = json!({"namespace": "shop", "name": "db"});
    let history = scene.ask("get_rollout_history", name).await;
    assert_eq!(history.value["revisions_total"], 3, "{}", history.text);
    assert_eq!(history.value["revisions"][0]["current"], true);

    let by_hand = json!({
        "spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}},
    });
    scene.patch("statefulsets", "db", by_hand).await;
    let waits = |a: &Answer| a.str("state") == "waits_for_deletion";
    scene.until("StatefulSet", "db", waits).await;
}

async fn a_daemon_set_waits_for_its_pods(scene: &Scene<'_>) {
    scene.apply("DaemonSet", "agent", json!({})).await;
    scene.complete("DaemonSet", "agent").await;
    scene
        .patch(
            "daemonsets",
            "agent",
            template("registry.invalid/app:2", "never-ready"),
        )
        .await;
    let waits =
        |a: &Answer| a.str("state") == "progressing" && a.value["held_up_by"][0]["updated"] == true;
    let waits = scene.until("DaemonSet", "agent", waits).await;
    assert_eq!(
        waits.value["held_up_by"][0]["failing"], false,
        "{}",
        waits.text
    );
    let name = json!({"namespace": "shop", "name": "agent"});
    let history = scene.ask("get_rollout_history", name).await;
    assert_eq!(history.value["revisions_total"], 2, "{}", history.text);
    assert!(
        history
            .text
            .contains("registry.invalid/app:1 -> registry.invalid/app:2")
    );
}

async fn nodes_and_workloads_add_up(scene: &Scene<'_>) {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "import", "namespace": "shop"},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"annotations": {BEHAVIOR: "failed"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "import", "image": "registry.invalid/import:1"}],
            },
        }},
    });
    scene.admin.apply(&job).await.unwrap();
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
            }}],
        },
    });
    scene.admin.apply(&hpa).await.unwrap();
    let listed = eventually(LIMIT, "the failed Job is listed", async || {
        let all = scene
            .ask("list_workloads", json!({"namespace": "shop"}))
            .await;
        let job = line(&all, "import");
        Ok((job["severity"] == "high").then_some(all))
    });
    let listed = listed.await.unwrap();
    assert!(
        line(&listed, "import")["why"]
            .as_str()
            .unwrap()
            .contains("BackoffLimitExceeded")
    );
    assert_eq!(line(&listed, "web")["autoscaler"], "web, 2 to 5 replicas");
    assert_eq!(line(&listed, "web")["healthy"], true);
    assert_eq!(line(&listed, "agent")["healthy"], false);
    assert_eq!(
        listed.value["not_read"],
        json!([]),
        "the manifests grant every read"
    );
    // The Deployment has no labels of its own, so a selector finds none.
    let none = json!({"namespace": "shop", "label_selector": "app=web"});
    let none = scene.ask("list_workloads", none).await;
    assert_eq!(none.value["workloads_seen"], 0);
    let wrong = json!({"namespace": "shop", "label_selector": "app=="});
    let wrong = scene.ai.call("list_workloads", wrong).await.unwrap();
    assert!(!wrong.text.contains("unexpected"), "{}", wrong.text);

    let cordon = json!({"spec": {"unschedulable": true}});
    let path = "/api/v1/nodes/node-1";
    let answer = scene.admin.patch(path, Patch::Merge, &cordon).await;
    answer.unwrap().success().unwrap();
    // The server sees it by its watch, a moment later.
    let nodes = eventually(LIMIT, "the cordoned node is listed", async || {
        let nodes = scene.ask("list_nodes", json!({})).await;
        let cordoned = nodes.value["nodes"][0]["cordoned"] == true;
        Ok(cordoned.then_some(nodes))
    });
    let nodes = nodes.await.unwrap();
    let node = &nodes.value["nodes"][0];
    assert_eq!(node["ready"], true);
    assert_eq!(nodes.value["nodes_with_problems"], 1);
    let pods = scene
        .admin
        .get("/api/v1/pods")
        .await
        .unwrap()
        .success()
        .unwrap();
    let asked = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| !pod["spec"]["nodeName"].is_null())
        .filter(|pod| !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap()))
        .map(|pod| &pod["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        .filter_map(|cpu| cpu.as_str()?.strip_suffix('m')?.parse::<i64>().ok())
        .sum::<i64>();
    assert_eq!(node["cpu_requested_milli"], asked, "{}", nodes.text);
    assert!(asked >= 250, "{asked}");

    // The controllers' own events, of one object and of the cluster.
    let one = json!({
        "namespace": "shop", "kind": "Deployment", "name": "web", "include_normal": true,
    });
    let one = scene.ask("get_recent_events", one).await;
    assert!(one.text.contains("ScalingReplicaSet"), "{}", one.text);
    let all = scene
        .ask(
            "get_recent_events",
            json!({"include_normal": true, "limit": 100}),
        )
        .await;
    let seen: Vec<jiff::Timestamp> = all.value["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["last_seen"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(seen.len() > 10, "{}", all.text);
    assert!(seen.is_sorted_by(|a, b| a >= b), "newest first: {seen:?}");
}

fn line<'a>(answer: &'a Answer, name: &str) -> &'a Value {
    let lines = answer.value["workloads"].as_array().unwrap();
    let found = lines.iter().find(|line| line["name"] == name);
    found.unwrap_or(&Value::Null)
}
