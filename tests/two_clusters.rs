//! Two real clusters behind one server, and one of them freezes, then dies: what is asked of the
//! other is answered as fast as before, and what is asked of this one is old and says so, or fails
//! with a sentence.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use countersign_tests::stack::ai::{Ai, Answer};
use countersign_tests::stack::cluster::Cluster;
use countersign_tests::stack::{ClusterKind, Options, Stack, private_file};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What no call to the healthy cluster may take: less than half of the time-out of one read.
const LONGEST: Duration = Duration::from_secs(2);
/// What the median may be at most, however slow it was before.
const MEDIAN: Duration = Duration::from_millis(500);
/// One read of an API server that does not answer is given up after 5 s.
const GIVEN_UP: Duration = Duration::from_secs(8);
/// Lists wait up to 15 s for a place, and then up to 5 s for the API server.
const LISTS_GIVEN_UP: Duration = Duration::from_secs(25);
/// A frozen watch is noticed after 40 s and its grace of 10 s, at the latest.
const NOTICED: Duration = Duration::from_secs(80);

/// A cluster under both of its names (with a cache, and read live), and its failing pod.
struct Side {
    cached: String,
    live: &'static str,
    pod: String,
}

impl Side {
    fn questions(&self) -> [(&'static str, Value); 4] {
        let ask = |cluster: &str| json!({"cluster": cluster, "namespace": "shop"});
        let pod = |cluster: &str| json!({"cluster": cluster, "namespace": "shop", "pod": self.pod});
        [
            ("list_failing_pods", ask(&self.cached)),
            ("get_pod_status", pod(&self.cached)),
            ("list_failing_pods", ask(self.live)),
            ("get_pod_status", pod(self.live)),
        ]
    }

    /// Medians of the four questions, each answered rightly every time, and of a question that no
    /// cluster is asked for: it tells how busy this machine is.
    async fn medians(&self, ai: &Ai) -> ([Duration; 4], Duration) {
        let mut taken: [Vec<Duration>; 5] = Default::default();
        for _ in 0..11 {
            for (at, (tool, arguments)) in self.questions().into_iter().enumerate() {
                let (answer, took) = timed(ai, tool, &arguments).await;
                assert!(!answer.is_error, "{tool} {arguments}: {}", answer.text);
                assert!(answer.text.contains(&self.pod), "{}", answer.text);
                let source = answer.str("source");
                assert!(!source.starts_with("old"), "{source}");
                taken[at].push(took);
            }
            taken[4].push(timed(ai, "list_actions", &json!({})).await.1);
        }
        let [medians @ .., busy] = taken.map(|mut taken| {
            taken.sort_unstable();
            // One call may be unlucky on a busy machine. Two are none.
            assert!(taken[taken.len() - 2] < LONGEST, "{taken:?}");
            taken[taken.len() / 2]
        });
        (medians, busy)
    }

    /// Compares, three times at most: what waits for the other cluster waits each time.
    async fn as_fast_as(&self, before: ([Duration; 4], Duration), ai: &Ai, when: &str) {
        let mut tries = 0;
        loop {
            let after = self.medians(ai).await;
            eprintln!("{when}: {after:?}, before: {before:?}");
            let busier = after.1.as_secs_f64() / before.1.as_secs_f64();
            let slower = |(after, before): (&Duration, &Duration)| {
                let allowed = before.mul_f64(4.0 * busier.max(1.0)) + Duration::from_millis(30);
                *after > allowed.min(MEDIAN)
            };
            if !after.0.iter().zip(&before.0).any(slower) {
                break;
            }
            tries += 1;
            assert!(tries < 3, "{when}: {after:?}, before: {before:?}");
        }
    }
}

async fn timed(ai: &Ai, tool: &str, arguments: &Value) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = ai.call(tool, arguments.clone()).await.unwrap();
    (answer, began.elapsed())
}

fn says_why(answer: &Answer) {
    assert!(answer.is_error, "{}", answer.text);
    let sentences = [
        "cannot be reached or did not answer in time",
        "too many lists of this cluster are being read just now",
    ];
    assert!(
        sentences.iter().any(|one| answer.text.contains(one)),
        "{}",
        answer.text
    );
}

/// The answer is not of a later moment than when the API server went away.
fn is_of_before(answer: &Answer, gone: Timestamp) {
    let as_of: Timestamp = answer.str("as_of").parse().unwrap();
    let latest = gone + SignedDuration::from_secs(2);
    assert!(as_of <= latest, "{as_of} is after {gone}: {}", answer.text);
}

fn now() -> Timestamp {
    use countersign_domain::Clock as _;
    countersign_domain::SystemClock.now()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cluster_freezes_and_dies_and_the_other_answers_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        cluster: ClusterKind::ControlPlane,
        ..Options::default()
    };
    let (stack, far) = tokio::join!(
        Stack::start(options),
        Cluster::start(ClusterKind::ControlPlane, folder.path()),
    );
    let (mut stack, far) = (stack.unwrap(), far.unwrap());
    let (near_pod, far_pod) = tokio::join!(
        stack.cluster.deploy("shop", "till", 2, 1, "ready"),
        far.deploy("shop", "oven", 2, 1, "ready"),
    );
    let near_side = Side {
        cached: stack.cluster.id.clone(),
        live: "near-live",
        pod: near_pod.unwrap().name,
    };
    let far_side = Side {
        cached: "far".to_owned(),
        live: "far-live",
        pod: far_pod.unwrap().name,
    };
    configure(&stack, &far);
    stack.restart_server(&[]).await.unwrap();
    let ai = stack.ai().await.unwrap();
    until_cached(&ai, &near_side).await;
    until_cached(&ai, &far_side).await;
    let before = near_side.medians(&ai).await;
    far_side.medians(&ai).await;

    let frozen = now();
    far.plane().unwrap().freeze_api_server().unwrap();
    let mut tries = 0;
    loop {
        let crowd = crowd(&stack, &far_side).await;
        near_side.as_fast_as(before, &ai, "frozen").await;
        let waiting = crowd.iter().filter(|call| !call.is_finished()).count();
        for call in crowd {
            let (tool, limit, answer, took) = call.await.unwrap();
            eprintln!("{tool} {took:?}: {}", answer.text);
            says_why(&answer);
            assert!(took < limit, "{tool} took {took:?}");
        }
        // On a starved machine measuring may take longer than they wait.
        if waiting > 0 {
            break;
        }
        tries += 1;
        assert!(tries < 3, "nobody waited while that was measured");
    }

    // The cached picture is of before, and once the silence is noticed it says so.
    let [list, status, _, _] = far_side.questions();
    let began = Instant::now();
    loop {
        let (answer, took) = timed(&ai, list.0, &list.1).await;
        assert!(!answer.is_error, "{}", answer.text);
        assert!(took < GIVEN_UP, "{took:?}");
        is_of_before(&answer, frozen);
        if answer.str("source").starts_with("old: ") {
            assert!(answer.text.starts_with("OLD: "), "{}", answer.text);
            break;
        }
        assert!(began.elapsed() < NOTICED, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    near_side.as_fast_as(before, &ai, "noticed").await;
    old_and_quick(&ai, &status, &far_side.pod, frozen).await;

    far.plane().unwrap().kill_api_server();
    near_side.as_fast_as(before, &ai, "dead").await;
    old_and_quick(&ai, &list, &far_side.pod, frozen).await;
    old_and_quick(&ai, &status, &far_side.pod, frozen).await;
    for (tool, arguments) in &far_side.questions()[2..] {
        let (answer, took) = timed(&ai, tool, arguments).await;
        says_why(&answer);
        assert!(took < GIVEN_UP, "{took:?}");
    }
    // What the server does besides reading goes on, too: the near cluster's pod is restarted.
    let arguments = json!({
        "cluster": near_side.cached, "namespace": "shop", "pod": near_side.pod, "reason": "loops",
    });
    let proposed = ai.call("restart_pod", arguments).await.unwrap();
    let id = proposed.str("action_id").to_owned();
    ai.until(&id, GIVEN_UP, |state| state == "pending")
        .await
        .unwrap();
    stack.li().await.unwrap().approve(&id, "go").await.unwrap();
    ai.until_state(&id, "succeeded", Duration::from_secs(25))
        .await
        .unwrap();
    stack.stop().await.unwrap();
}

/// Each cluster once with a cache and once without.
fn configure(stack: &Stack, far: &Cluster) {
    let file = stack.path("server/countersign.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (id, cluster, cache) in [
        ("near-live", &stack.cluster, false),
        ("far", far, true),
        ("far-live", far, false),
    ] {
        let kubeconfig = cluster.server_kubeconfig.display();
        text.push_str(&format!(
            "\n[[cluster]]\nid = \"{id}\"\nkubeconfig = \"{kubeconfig}\"\ncache = {cache}\n"
        ));
    }
    private_file(&file, &text).unwrap();
}

async fn until_cached(ai: &Ai, side: &Side) {
    let (tool, arguments) = &side.questions()[0];
    let began = Instant::now();
    while timed(ai, tool, arguments).await.0.str("source") != "cache" {
        assert!(began.elapsed() < Duration::from_secs(30), "never cached");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The tool, how long it may take, and what came of it.
type Call = (&'static str, Duration, Answer, Duration);

/// Many callers at once ask the silent cluster, live. Plain HTTP: rmcp's client sends one request
/// after the other.
async fn crowd(stack: &Stack, side: &Side) -> Vec<JoinHandle<Call>> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let [_, _, list, status] = side.questions();
    let mut calls = Vec::new();
    for (count, (tool, arguments), limit) in [(24, list, LISTS_GIVEN_UP), (40, status, GIVEN_UP)] {
        for _ in 0..count {
            let request = client
                .post(format!("{}/mcp", stack.url))
                .bearer_auth(&stack.secrets.api_key)
                .header("accept", "application/json, text/event-stream")
                .json(&json!({
                    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                    "params": {"name": tool, "arguments": arguments},
                }));
            calls.push(tokio::spawn(async move {
                let began = Instant::now();
                let answer = request.send().await.unwrap();
                let answer: Value = answer.json().await.unwrap();
                let result = &answer["result"];
                let answer = Answer {
                    value: result["structuredContent"].clone(),
                    text: result["content"][0]["text"].as_str().unwrap().to_owned(),
                    is_error: result["isError"] == true,
                };
                (tool, limit, answer, began.elapsed())
            }));
        }
    }
    // On the way, all of them.
    tokio::time::sleep(Duration::from_millis(300)).await;
    calls
}

/// Nobody waits for the dead again and again: of several calls one may find out anew.
async fn old_and_quick(ai: &Ai, question: &(&str, Value), pod: &str, gone: Timestamp) {
    let mut taken = Vec::new();
    for _ in 0..5 {
        let (answer, took) = timed(ai, question.0, &question.1).await;
        assert!(!answer.is_error, "{}", answer.text);
        assert!(answer.text.starts_with("OLD: "), "{}", answer.text);
        assert!(answer.text.contains(pod), "{}", answer.text);
        is_of_before(&answer, gone);
        assert!(took < GIVEN_UP, "{took:?}");
        taken.push(took);
    }
    taken.sort_unstable();
    assert!(taken[2] < MEDIAN, "{taken:?}");
}
