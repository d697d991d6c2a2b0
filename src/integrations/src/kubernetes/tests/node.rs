//! What is wrong with nodes, and what pods request of them.

use super::super::failing::Severity;
use super::super::node::{NodeLoads, node_problems};
use super::super::records::{NodeRecord, Requests};
use super::super::wire_node::WireNode;
use super::*;
use crate::kubernetes::Thresholds;

fn node(patch: Value) -> NodeRecord {
    let mut node = json!({
        "metadata": {
            "name": "node-1", "uid": "n1", "resourceVersion": "1",
            "creationTimestamp": before(9000.0),
        },
        "status": {
            "allocatable": { "cpu": "3920m", "memory": "15Gi", "pods": "110" },
            "conditions": [
                condition("MemoryPressure", "False", 90.0), condition("Ready", "True", 90.0),
            ],
        },
    });
    merge(&mut node, patch);
    serde_json::from_value::<WireNode>(node).unwrap().into()
}

fn told(patch: Value) -> Vec<(Severity, String)> {
    node_problems(&node(patch))
}

#[test]
fn conditions_pressure_and_cordons_are_problems() {
    assert!(told(json!({})).is_empty());
    assert_eq!(node(json!({})).allocatable.cpu_milli, 3920);
    assert_eq!(node(json!({})).allocatable_pods, 110);
    let gone = told(json!({ "status": { "conditions": [{
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "lastTransitionTime": before(7.0),
    }] } }));
    assert_eq!(gone[0].0, Severity::High);
    assert!(
        gone[0]
            .1
            .starts_with("its kubelet has stopped reporting since"),
        "{gone:?}"
    );
    let pressed = told(json!({
        "spec": { "unschedulable": true },
        "status": { "conditions": [
            condition("Ready", "True", 90.0),
            { "type": "DiskPressure", "status": "True", "message": "disk\nfull",
              "lastTransitionTime": before(7.0) },
        ] },
    }));
    let severities: Vec<Severity> = pressed.iter().map(|(severity, _)| *severity).collect();
    assert_eq!(severities, [Severity::Medium, Severity::Low]);
    assert!(pressed[0].1.contains("DiskPressure") && pressed[0].1.contains("disk⏎full"));
    assert_eq!(
        told(json!({ "status": { "conditions": [] } }))[0].0,
        Severity::High
    );
}

#[test]
fn a_pod_requests_what_the_scheduler_reserves() {
    let asks = |cpu: &str, memory: &str| json!({ "requests": { "cpu": cpu, "memory": memory } });
    let requests = |spec: Value| pod(json!({ "spec": spec })).requests;
    let both = json!({
        "initContainers": [
            { "name": "proxy", "restartPolicy": "Always", "resources": asks("100m", "64Mi") },
            { "name": "migrate", "resources": asks("2", "32Mi") },
        ],
        "containers": [
            { "name": "app", "resources": asks("500m", "512Mi") },
            { "name": "side", "resources": asks("0.25", "128Mi") },
        ],
        "overhead": { "cpu": "10m" },
    });
    // 2 + 0.1 cores while migrating are more than 0.85 while running; memory is the other way.
    let expected = Requests {
        cpu_milli: 2110,
        memory_bytes: (512 + 128 + 64) << 20,
    };
    assert_eq!(requests(both.clone()), expected);
    let mut whole = both;
    merge(
        &mut whole,
        json!({ "resources": { "requests": { "cpu": "1" } } }),
    );
    assert_eq!(requests(whole).cpu_milli, 1010);
    assert_eq!(requests(json!({})), Requests::default());
}

#[test]
fn loads_add_up_live_pods_and_name_failing_ones() {
    let on = |name: &str, node: &str, patch: Value| {
        let mut all = json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "app", "resources": { "requests": { "cpu": "100m" } } }],
            },
        });
        merge(&mut all, patch);
        pod(all)
    };
    let pods = [
        on("a", "node-1", json!({})),
        on(
            "b",
            "node-1",
            json!({ "status": { "conditions": unready(30.0) } }),
        ),
        on(
            "done",
            "node-1",
            json!({ "status": { "phase": "Succeeded" } }),
        ),
        on("c", "node-2", json!({})),
    ];
    let thresholds = Thresholds::default();
    let mut loads = NodeLoads::new(now(), &thresholds);
    pods.iter().for_each(|pod| loads.see(pod));
    let loads = loads.finish();
    let one = &loads["node-1"];
    assert_eq!(
        (one.pods, one.requested.cpu_milli, one.failing),
        (2, 200, 1)
    );
    assert_eq!(one.failing_names, ["shop/b"]);
    assert_eq!(loads["node-2"].pods, 1);
}
