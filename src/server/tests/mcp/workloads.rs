//! Workloads, rollouts, nodes and events over MCP, on a cluster whose every object is known.

use serde_json::{Value, json};

use crate::cluster::{FakeCluster, crashing, event, meta};
use crate::world::{KEY, NARROW_KEY, World, bad, call, good, text};

const SECRET: &str = "hunter2-secret-value";

/// Deployment `web`, revision 3 of which hangs: of its pods two crash and one is from before.
fn hanging(cluster: &FakeCluster) {
    let mut deployment = json!({
        "metadata": meta("web", Some("shop"), "uid-deploy-web"),
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 1,
            "availableReplicas": 1,
            "conditions": [{
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet has timed out", "lastTransitionTime": "2026-01-01T01:00:00Z",
            }],
        },
    });
    deployment["metadata"]["generation"] = 2.into();
    deployment["metadata"]["annotations"] = json!({
        "deployment.kubernetes.io/revision": "3",
        "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web",
    });
    cluster.put("/apis/apps/v1", "deployments", Some("shop"), deployment);
    for (name, uid, revision, image, password) in [
        ("web-0", "uid-rs-old", "2", "web:1.2", "before"),
        ("web-1", "uid-rs-web", "3", "web:1.3", SECRET),
    ] {
        let mut set = json!({
            "metadata": meta(name, Some("shop"), uid),
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{
                "name": "app", "image": image, "args": ["--password", password],
                "env": [{"name": "PASSWORD", "value": password}],
                "resources": {"limits": {"memory": if revision == "2" { "256Mi" } else { "128Mi" }}},
            }]}}},
            "status": {"replicas": 2},
        });
        set["metadata"]["annotations"] = json!({
            "deployment.kubernetes.io/revision": revision,
            "kubectl.kubernetes.io/last-applied-configuration": SECRET,
        });
        set["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
            "uid": "uid-deploy-web", "controller": true,
        }]);
        cluster.put("/apis/apps/v1", "replicasets", Some("shop"), set);
    }
    let hpa = json!({
        "metadata": meta("web", Some("shop"), "uid-hpa"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2, "maxReplicas": 9,
        },
    });
    let group = "/apis/autoscaling/v2";
    cluster.put(group, "horizontalpodautoscalers", Some("shop"), hpa);
}

fn node(name: &str, ready: &str) -> Value {
    json!({
        "metadata": meta(name, None, &format!("uid-{name}")),
        "spec": {"unschedulable": name == "worker-2"},
        "status": {
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
            "conditions": [{
                "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T01:00:00Z",
            }],
        },
    })
}

#[tokio::test]
async fn workloads_with_problems_come_first_and_say_why() {
    let world = World::start().await;
    hanging(&world.cluster);
    let client = world.client(KEY).await;
    let all = call(&client, "list_workloads", json!({})).await;
    let body = good(&all);
    assert_eq!(body["workloads_seen"], 2);
    assert_eq!(body["unhealthy"], 2);
    let named = |name: &str| {
        let lines = body["workloads"].as_array().unwrap();
        lines.iter().find(|line| line["name"] == name).unwrap()
    };
    let web = named("web");
    assert_eq!(web["severity"], "high");
    assert!(web["why"].as_str().unwrap().contains("deadline has passed"));
    assert_eq!((&web["desired"], &web["ready"]), (&json!(3), &json!(1)));
    assert_eq!(web["managed_by"], "Argo CD");
    assert_eq!(web["autoscaler"], "web, 2 to 9 replicas");
    assert!(text(&all).contains("Next: get_rollout_status"));

    let narrow = world.client(NARROW_KEY).await;
    let some = call(&narrow, "list_workloads", json!({})).await;
    assert_eq!(good(&some)["workloads_seen"], 1);
    assert!(!text(&some).contains("ledger"));
    let jobs = call(&client, "list_workloads", json!({"kind": "Job"})).await;
    assert_eq!(good(&jobs)["workloads_seen"], 0);
    let wrong = call(&client, "list_workloads", json!({"kind": "Pod"})).await;
    assert!(bad(&wrong).contains("use Deployment, StatefulSet"));
}

#[tokio::test]
async fn pages_of_workloads_cover_everything_once() {
    let world = World::start().await;
    for number in 0..7 {
        world.cluster.workload("shop", &format!("app-{number}"));
    }
    let client = world.client(KEY).await;
    let (mut names, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = json!({"limit": 4, "namespace": "shop"});
        if let Some(cursor) = &cursor {
            arguments["cursor"] = cursor.as_str().into();
        }
        let answer = call(&client, "list_workloads", arguments).await;
        let body = good(&answer);
        let lines = body["workloads"].as_array().unwrap();
        names.extend(
            lines
                .iter()
                .map(|line| line["name"].as_str().unwrap().to_owned()),
        );
        cursor = body["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        // What breaks between two pages moves to the front, and is still shown once.
        world.cluster.remove("deployments", "app-0");
    }
    names.sort();
    let mut once = names.clone();
    once.dedup();
    assert_eq!((names.len(), once.len()), (8, 8), "{names:?}");
}

#[tokio::test]
async fn a_hanging_rollout_names_the_pods_that_hold_it_up() {
    let world = World::start().await;
    hanging(&world.cluster);
    let client = world.client(KEY).await;
    let arguments = json!({"namespace": "shop", "name": "web"});
    let status = call(&client, "get_rollout_status", arguments.clone()).await;
    let body = good(&status);
    assert_eq!(
        (&body["kind"], &body["state"]),
        (&json!("Deployment"), &json!("stuck"))
    );
    assert_eq!(body["revision"], "3");
    assert_eq!(body["held_up_total"], 2);
    let held = &body["held_up_by"][0];
    assert_eq!(
        (&held["updated"], &held["failing"]),
        (&json!(true), &json!(true))
    );
    assert!(
        held["problem"]
            .as_str()
            .unwrap()
            .starts_with("CrashLoopBackOff")
    );
    let next = body["next_tool"].as_str().unwrap();
    assert_eq!(
        next,
        format!("get_pod_status for pod {}", held["pod"].as_str().unwrap())
    );
    assert!(text(&status).contains("Managed by Argo CD"));

    for (arguments, want) in [
        (
            json!({"namespace": "shop", "name": "webb"}),
            "near it are: Deployment web",
        ),
        (
            json!({"namespace": "shop", "name": "zebra"}),
            "there are: Deployment web",
        ),
        (
            json!({"namespace": "shpo", "name": "web"}),
            "near it are: shop",
        ),
        (
            json!({"namespace": "shop", "name": "web", "kind": "DaemonSet"}),
            "no DaemonSet `web`",
        ),
        (json!({"namespace": "shop"}), "`name` is missing"),
    ] {
        let told = call(&client, "get_rollout_status", arguments.clone()).await;
        assert!(bad(&told).contains(want), "{arguments}: {}", text(&told));
    }
    let narrow = world.client(NARROW_KEY).await;
    let hidden = json!({"namespace": "billing", "name": "ledger"});
    let absent = json!({"namespace": "nowhere", "name": "ledger"});
    let hidden = call(&narrow, "get_rollout_status", hidden).await;
    let absent = call(&narrow, "get_rollout_status", absent).await;
    assert_eq!(
        bad(&hidden).replace("billing", "X"),
        bad(&absent).replace("nowhere", "X")
    );
}

#[tokio::test]
async fn a_history_tells_names_and_never_values() {
    let world = World::start().await;
    hanging(&world.cluster);
    let client = world.client(KEY).await;
    let arguments = json!({"namespace": "shop", "name": "web"});
    let history = call(&client, "get_rollout_history", arguments).await;
    let body = good(&history);
    assert_eq!(body["revisions_total"], 2);
    let newest = &body["revisions"][0];
    assert_eq!(
        (&newest["revision"], &newest["current"]),
        (&json!(3), &json!(true))
    );
    assert_eq!(newest["compared_with"], 2);
    let told: Vec<String> = newest["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            format!(
                "{}: {}",
                c["what"].as_str().unwrap(),
                c["change"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "image: web:1.2 -> web:1.3",
            "env: changed PASSWORD",
            "resources: limits.memory 256Mi -> 128Mi",
            "args: changed",
        ]
    );
    assert!(body["revisions"][1].get("compared_with").is_none());
    let everything = serde_json::to_string(&history).unwrap();
    assert!(!everything.contains("hunter2"), "{everything}");
    let one = json!({"namespace": "shop", "name": "web", "limit": 1});
    let one = call(&client, "get_rollout_history", one).await;
    assert!(text(&one).contains("1 older revisions are left out: set `limit`"));
}

#[tokio::test]
async fn nodes_show_their_problems_and_only_the_pods_that_a_key_may_see() {
    let world = World::start().await;
    for (name, ready) in [
        ("worker-1", "True"),
        ("worker-2", "True"),
        ("worker-3", "Unknown"),
    ] {
        world
            .cluster
            .put("/api/v1", "nodes", None, node(name, ready));
    }
    let mut asks = crashing("shop", "web-1-eeeee", "uid-e", "web");
    asks["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "500m", "memory": "1Gi"}});
    world.cluster.pod("shop", asks);
    let client = world.client(KEY).await;
    let all = call(&client, "list_nodes", json!({})).await;
    let body = good(&all);
    let names: Vec<&str> = body["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["worker-3", "worker-2", "worker-1"]);
    assert_eq!(body["nodes_with_problems"], 2);
    let last = &body["nodes"][2];
    assert_eq!(
        (&last["pods"], &last["pods_failing"]),
        (&json!(5), &json!(4))
    );
    assert_eq!(last["cpu_requested_milli"], 500);
    assert_eq!(last["memory_requested_mib"], 1024);
    assert!(body.get("pods_counted_in").is_none());

    let narrow = world.client(NARROW_KEY).await;
    let seen = |answer: &rmcp::model::CallToolResult| {
        let mut body = good(answer).clone();
        body["as_of"] = Value::Null;
        body
    };
    let with = seen(&call(&narrow, "list_nodes", json!({})).await);
    assert_eq!(with["nodes"][2]["pods"], 4);
    assert_eq!(with["pods_counted_in"], json!(["shop"]));
    world.cluster.remove("pods", "ledger-1-zzzzz");
    let without = seen(&call(&narrow, "list_nodes", json!({})).await);
    assert_eq!(with, without, "a hidden namespace leaves no trace");

    let one = call(&client, "list_nodes", json!({"node": "worker-2"})).await;
    assert_eq!(good(&one)["nodes"][0]["cordoned"], true);
    let wrong = call(&client, "list_nodes", json!({"node": "worker-22"})).await;
    assert!(bad(&wrong).contains("near it are: worker-2"));
}

#[tokio::test]
async fn nodes_are_added_up_in_the_cache_without_a_request() {
    let world = World::start_on("", None, true).await;
    let (group, nodes) = ("/api/v1", "nodes");
    world
        .cluster
        .put(group, nodes, None, node("worker-1", "True"));
    let reads = &world.app.clusters["prod"].reads;
    assert!(reads.filled(std::time::Duration::from_secs(10)).await);
    let client = world.client(KEY).await;
    let before = world.cluster.reads();
    let answer = call(&client, "list_nodes", json!({})).await;
    let body = good(&answer);
    assert_eq!(body["source"], "cache");
    assert_eq!(body["nodes"][0]["pods"], 4);
    assert_eq!(body["nodes"][0]["pods_failing"], 3);
    assert_eq!(world.cluster.reads(), before);
}

#[tokio::test]
async fn events_are_newest_first_wherever_they_stand_in_the_list() {
    let world = World::start().await;
    let place = |name: &str, namespace: &str, kind: &str, object: &str, minute: u8| {
        let mut one = event(name, object, "uid-x", &format!("attempt {minute} failed"));
        one["metadata"]["namespace"] = namespace.into();
        one["involvedObject"]["namespace"] = namespace.into();
        one["involvedObject"]["kind"] = kind.into();
        one["firstTimestamp"] = format!("2026-01-01T02:{minute:02}:00Z").into();
        one["lastTimestamp"] = one["firstTimestamp"].clone();
        world.cluster.put("/api/v1", "events", Some(namespace), one);
    };
    place("a", "shop", "Pod", "web-1-aaaaa", 10);
    place("b", "shop", "Pod", "web-1-aaaaa", 40);
    place("c", "shop", "Deployment", "web", 30);
    place("d", "billing", "Pod", "ledger-1-zzzzz", 50);
    let client = world.client(KEY).await;
    let all = call(&client, "get_recent_events", json!({})).await;
    let objects: Vec<&str> = good(&all)["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["object"].as_str().unwrap())
        .collect();
    assert_eq!(
        objects,
        ["Pod/ledger-1-zzzzz", "Pod/web-1-aaaaa", "Deployment/web"]
    );
    let folded = &good(&all)["events"][1];
    assert_eq!(folded["count"], 6);
    assert_eq!(folded["first_seen"], "2026-01-01T02:10:00Z");
    assert_eq!(folded["last_seen"], "2026-01-01T02:40:00Z");

    let one = json!({"namespace": "shop", "kind": "Deployment", "name": "web"});
    let one = call(&client, "get_recent_events", one).await;
    assert_eq!(good(&one)["total"], 1);
    let few = call(&client, "get_recent_events", json!({"limit": 1})).await;
    assert!(text(&few).contains("2 older ones are left out: raise `limit`"));
    let narrow = world.client(NARROW_KEY).await;
    let some = call(&narrow, "get_recent_events", json!({})).await;
    assert_eq!(good(&some)["total"], 2);
    assert!(!text(&some).contains("ledger"));
    let wrong = json!({"kind": "pod", "name": "web"});
    let wrong = call(&client, "get_recent_events", wrong).await;
    assert!(bad(&wrong).contains("as manifests write it"));
}

#[tokio::test]
async fn pods_are_resources_and_answer_as_their_tool_does() {
    use rmcp::model::ReadResourceRequestParams;
    let world = World::start().await;
    let client = world.client(KEY).await;
    let templates = client.list_all_resource_templates().await.unwrap();
    let addresses: Vec<&str> = templates
        .iter()
        .map(|one| one.uri_template.as_str())
        .collect();
    assert_eq!(
        addresses,
        ["action://{action_id}", "pod://{cluster}/{namespace}/{name}"]
    );
    let read = async |client: &crate::world::Client, address: &str| {
        let answer = client
            .read_resource(ReadResourceRequestParams::new(address))
            .await;
        answer.map(|answer| serde_json::to_value(answer.contents).unwrap()[0].clone())
    };
    let pod = read(&client, "pod://prod/shop/web-1-aaaaa").await.unwrap();
    assert_eq!(pod["mimeType"], "application/json");
    let body: Value = serde_json::from_str(pod["text"].as_str().unwrap()).unwrap();
    assert_eq!(body["failing"]["reason"], "CrashLoopBackOff");
    let narrow = world.client(NARROW_KEY).await;
    for (client, address, want) in [
        (
            &client,
            "pod://prod/shop/web-1-aaaab",
            "near it are: web-1-aaaaa",
        ),
        (&client, "pod://prd/shop/web-1-aaaaa", "there is: prod"),
        (
            &client,
            "pod://prod/shop",
            "use action://ACTION_ID or pod://",
        ),
        (
            &narrow,
            "pod://prod/billing/ledger-1-zzzzz",
            "there is no namespace `billing`",
        ),
    ] {
        let told = read(client, address).await.unwrap_err().to_string();
        assert!(told.contains(want), "{address}: {told}");
    }
}

#[tokio::test]
async fn prompts_lead_through_the_tools_and_check_their_arguments() {
    use rmcp::model::GetPromptRequestParams;
    let world = World::start().await;
    let client = world.client(KEY).await;
    let prompts = client.list_all_prompts().await.unwrap();
    let names: Vec<&str> = prompts.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["triage_cluster", "triage_pod"]);
    let needed: Vec<&str> = prompts[1]
        .arguments
        .iter()
        .flatten()
        .filter(|argument| argument.required == Some(true))
        .map(|argument| argument.name.as_str())
        .collect();
    assert_eq!(needed, ["namespace", "pod"]);
    let get = async |client: &crate::world::Client, name: &str, arguments: Value| {
        let mut params = GetPromptRequestParams::new(name);
        params.arguments = arguments.as_object().cloned();
        let answer = client.get_prompt(params).await;
        answer.map(|answer| serde_json::to_string(&answer.messages).unwrap())
    };
    let whole = get(&client, "triage_cluster", json!({})).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    for word in whole.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let is_tool = ["list_", "get_", "restart_", "wait_"]
            .iter()
            .any(|p| word.starts_with(p));
        let known = tools.iter().any(|tool| tool.name == word);
        assert!(!is_tool || known, "{word} is no tool");
    }
    let pod = json!({"namespace": "shop", "pod": "web-1-aaaaa"});
    let pod = get(&client, "triage_pod", pod).await.unwrap();
    assert!(pod.contains("pod web-1-aaaaa in namespace shop"));
    let narrow = world.client(NARROW_KEY).await;
    for (client, name, arguments, want) in [
        (
            &client,
            "triage_pod",
            json!({"namespace": "shop"}),
            "`pod` is missing",
        ),
        (
            &client,
            "triage_pod",
            json!({"namespace": "a b", "pod": "x"}),
            "cannot be right",
        ),
        (
            &client,
            "triage_cluster",
            json!({"cluster": "prd"}),
            "there is: prod",
        ),
        (
            &client,
            "triage_world",
            json!({}),
            "the prompts are triage_cluster",
        ),
        (
            &narrow,
            "triage_cluster",
            json!({"namespace": "billing"}),
            "no namespace `billing`",
        ),
    ] {
        let told = get(client, name, arguments).await.unwrap_err().to_string();
        assert!(told.contains(want), "{name}: {told}");
    }
}
