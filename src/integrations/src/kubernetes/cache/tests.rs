//! Random pods: what is packed comes out as it went in, and who is not suspected is not failing.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::failing::{Thresholds, failing, scheduling_gated};
use super::super::pod_detail::WireDetail;
use super::super::records::PodRecord;
use super::super::wire_pod::WirePod;
use super::packed_pod::{self, PodInFull};
use super::suspects::Suspicion;
use super::symbols::Symbols;

/// Numbers without pattern, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn now() -> Timestamp {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

/// Within twenty minutes of [`now`], also after it: clocks differ.
fn time(random: &mut Random) -> String {
    let seconds = random.below(1500) as i64 - 1200;
    (now() + SignedDuration::from_secs(seconds)).to_string()
}

fn end(random: &mut Random) -> Value {
    let mut end = json!({
        "exitCode": random.of(&[0, 0, 1, 137]),
        "reason": random.of(&["Completed", "Error", "OOMKilled"]),
    });
    if !random.one_in(5) {
        end["finishedAt"] = time(random).into();
    }
    if random.one_in(4) {
        end["startedAt"] = time(random).into();
        end["signal"] = 9.into();
        end["message"] = "killed\nby someone".into();
    }
    json!({"terminated": end})
}

fn state(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!({"waiting": {"reason": random.of(&[
            "CrashLoopBackOff", "ContainerCreating", "PodInitializing", "ImagePullBackOff", "Odd",
        ]), "message": "back-off 5m0s"}}),
        1 => end(random),
        2 if random.one_in(3) => json!({}),
        _ => json!({"running": {"startedAt": time(random)}}),
    }
}

fn pod(random: &mut Random) -> Value {
    let mut specs = Vec::new();
    let mut statuses = Vec::new();
    for at in 0..random.below(3) + 1 {
        let name = format!("c{at}");
        let mut spec = json!({"name": name, "image": random.of(&["web:1", "db:2"])});
        if random.one_in(2) {
            spec["resources"] = json!({
                "limits": {"memory": "256Mi", "cpu": "1"}, "requests": {"memory": "64Mi"},
            });
            spec["livenessProbe"] = json!({
                "httpGet": {"path": "/healthz?token=x", "port": 8080}, "initialDelaySeconds": 3,
            });
            spec["startupProbe"] = json!({"tcpSocket": {"port": "web"}, "failureThreshold": 30});
        }
        specs.push(spec);
        if random.one_in(6) {
            continue;
        }
        let mut status = json!({
            "name": name, "ready": random.one_in(2), "restartCount": random.below(8),
            "state": state(random),
        });
        if random.one_in(2) {
            status["lastState"] = end(random);
        }
        statuses.push(status);
    }
    let (init, app) = specs.split_at(if random.one_in(3) {
        1.min(specs.len() - 1)
    } else {
        0
    });
    let mut init = init.to_vec();
    if random.one_in(2) {
        init.iter_mut()
            .for_each(|spec| spec["restartPolicy"] = "Always".into());
    }
    let (init_statuses, app_statuses): (Vec<Value>, Vec<Value>) = statuses
        .into_iter()
        .partition(|status| init.iter().any(|spec| spec["name"] == status["name"]));
    let mut conditions = Vec::new();
    for kind in [
        "PodScheduled",
        "Initialized",
        "ContainersReady",
        "Ready",
        "example.com/gate",
    ] {
        if !random.one_in(5) {
            conditions.push(json!({
                "type": kind, "status": random.of(&["True", "True", "True", "False", "Unknown"]),
                "reason": random.of(&["Unschedulable", "PodCompleted", "", "ContainersNotReady"]),
                "message": random.of(&["", "0/3 nodes are available"]),
                "lastTransitionTime": time(random),
            }));
        }
    }
    let uid = match random.below(2) {
        0 => "0b6cd6a8-1d2e-4f5a-9b3c-0123456789ab",
        _ => "strange-uid",
    };
    let mut pod = json!({
        "metadata": {
            "name": "a", "namespace": "shop", "uid": uid,
            "resourceVersion": random.below(1 << 40).to_string(),
            "creationTimestamp": time(random),
            "labels": {"app": random.of(&["web", "db"]), "größe": "再"},
        },
        "spec": {
            "nodeName": random.of(&["", "n1"]), "priorityClassName": random.of(&["", "high"]),
            "restartPolicy": random.of(&["Always", "Never", "OnFailure"]),
            "terminationGracePeriodSeconds": random.below(100),
            "initContainers": init, "containers": app,
            "volumes": [
                {"name": "v1", "emptyDir": {}}, {"name": "v2", "hostPath": {"path": "/"}},
                {"name": "v3", "persistentVolumeClaim": {"claimName": "claim"}},
            ],
            "imagePullSecrets": [{"name": "pull"}],
        },
        "status": {
            "phase": random.of(&[
                "Running", "Running", "Running", "Pending", "Succeeded", "Failed", "Unknown",
            ]),
            "reason": random.of(&["", "Evicted"]), "message": random.of(&["", "why"]),
            "qosClass": "Burstable", "startTime": time(random), "conditions": conditions,
            "initContainerStatuses": init_statuses, "containerStatuses": app_statuses,
        },
    });
    if random.one_in(6) {
        pod["metadata"]["deletionTimestamp"] = time(random).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    }
    if random.one_in(8) {
        pod["spec"]["schedulingGates"] = json!([{"name": "hold"}]);
    }
    if random.one_in(3) {
        pod["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "uid-rs",
            "controller": true,
        }]);
    }
    pod
}

fn decoded(pod: &Value) -> PodInFull {
    let wire: WirePod = serde_json::from_value(pod.clone()).unwrap();
    let detail: WireDetail = serde_json::from_value(pod.clone()).unwrap();
    PodInFull {
        pod: wire.into(),
        detail: detail.into(),
    }
}

#[test]
fn a_pod_comes_out_as_it_went_in() {
    let (mut random, mut symbols) = (Random(7), Symbols::default());
    let mut sizes = 0;
    for _ in 0..2000 {
        let whole = decoded(&pod(&mut random));
        let bytes = packed_pod::pack(&whole, &mut symbols);
        sizes += bytes.len();
        let out = packed_pod::unpack_in_full("shop", "a", &bytes, &symbols);
        assert_eq!(
            serde_json::to_value(&out.pod).unwrap(),
            serde_json::to_value(&whole.pod).unwrap()
        );
        assert_eq!(out.detail, whole.detail);
        let labels = packed_pod::label_bytes(&bytes, &symbols);
        assert_eq!(packed_pod::labels(labels, &symbols), whole.pod.labels);
    }
    assert!(sizes / 2000 < 350, "{} bytes a pod", sizes / 2000);
    // Cut or strange bytes come from nowhere; they do not panic either.
    let bytes = packed_pod::pack(&decoded(&pod(&mut random)), &mut symbols);
    for length in 0..bytes.len() {
        packed_pod::unpack_in_full("shop", "a", &bytes[..length], &symbols);
    }
}

#[test]
fn who_is_not_suspected_is_not_failing_whatever_the_clock_says() {
    let mut random = Random(11);
    let limits = [
        Thresholds::default(),
        Thresholds {
            stuck_after: SignedDuration::from_secs(1),
            recent: SignedDuration::from_mins(30),
            slack: SignedDuration::ZERO,
            restarts: 1,
        },
    ];
    let (mut never, mut spared, mut failed) = (0, 0, 0);
    for _ in 0..5000 {
        let pod: PodRecord = decoded(&pod(&mut random)).pod;
        let suspicion = Suspicion::of(&pod);
        never += usize::from(suspicion == Suspicion::Never);
        for minutes in [-30, -5, 0, 1, 6, 11, 60, 100_000] {
            let at = now() + SignedDuration::from_mins(minutes);
            for limits in &limits {
                let verdict = failing(&pod, at, limits);
                if suspicion.stands(at, limits) {
                    failed += usize::from(verdict.is_some());
                } else {
                    spared += 1;
                    assert!(verdict.is_none(), "{verdict:?}\n{pod:#?}");
                    assert!(!scheduling_gated(&pod), "{pod:#?}");
                }
            }
        }
    }
    assert!(
        never > 200 && spared > 5000 && failed > 5000,
        "{never} {spared} {failed}"
    );
}
