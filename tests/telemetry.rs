//! What the processes tell whoever runs them: every metric that docs/operating.md names, where it says,
//! and log lines that a collector can read.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_tests::scenarios::{self, SOON, Scene};
use countersign_tests::stack::{Options, Stack, free_port};
use serde_json::Value;

/// Metrics by name: the processes that serve them.
type Documented = BTreeMap<String, BTreeSet<String>>;

/// The table of metrics: names, then who serves them.
fn documented() -> Documented {
    let text = include_str!("../docs/operating.md");
    let mut found = Documented::new();
    for row in text
        .lines()
        .filter(|line| line.starts_with("| `countersign_"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let processes: BTreeSet<String> = cells[2].split(", ").map(str::to_owned).collect();
        for name in cells[1].split(", ") {
            found.insert(name.trim_matches('`').to_owned(), processes.clone());
        }
    }
    assert!(found.len() > 5, "the table was not found: {found:?}");
    found
}

/// What one process serves, by series as Prometheus writes it.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(url: &str) -> Self {
        let answer = reqwest::get(format!("{url}/metrics")).await.unwrap();
        let text = answer.error_for_status().unwrap().text().await.unwrap();
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()));
        Self(samples.collect())
    }

    /// Names of the metrics, those of a histogram's parts taken together.
    fn names(&self) -> BTreeSet<String> {
        let series = self.0.keys();
        let names = series.map(|series| series.split('{').next().unwrap());
        let whole = names.map(|name| {
            let parts = ["_bucket", "_sum", "_count"];
            let base = parts.iter().find_map(|part| name.strip_suffix(part));
            base.unwrap_or(name).to_owned()
        });
        whole.collect()
    }

    fn get(&self, series: &str) -> f64 {
        let found = self.0.get(series);
        *found.unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// A histogram's observations, each of which took a plausible time.
    fn observed(&self, histogram: &str, labels: &str) -> f64 {
        let count = self.get(&format!("{histogram}_count{labels}"));
        let sum = self.get(&format!("{histogram}_sum{labels}"));
        assert!(sum > 0.0 && sum < 120.0 * count, "{histogram}: {sum} s");
        count
    }
}

/// The metrics that this process serves, by the table.
fn served_by(process: &str, documented: &Documented) -> BTreeSet<String> {
    let of = |(name, processes): (&String, &BTreeSet<String>)| {
        processes.contains(process).then(|| name.clone())
    };
    documented.iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_story_every_documented_metric_has_a_plausible_value_and_every_log_line_is_json() {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut stack = Stack::start(Options {
        server_env: vec![set("COUNTERSIGN__LOG__FORMAT", "json")],
        executor_env: vec![
            set("COUNTERSIGN_EXECUTOR__LOG__FORMAT", "json"),
            set("COUNTERSIGN_EXECUTOR__HTTP__LISTEN", &address),
        ],
        ..Options::default()
    })
    .await
    .unwrap();
    let tell = |evidence: &str| eprintln!("  {evidence}");
    let scene = Scene::new(&stack, &tell).await.unwrap();
    scenarios::page_approval(&scene).await.unwrap();
    scenarios::rejection(&scene).await.unwrap();
    scenarios::pod_replaced(&scene).await.unwrap();
    let cluster = &stack.cluster;
    let pod = cluster
        .deploy("shop", "waits", 2, 1, "ready")
        .await
        .unwrap();
    let waiting = scene
        .ai
        .restart("shop", &pod.name, "it fails")
        .await
        .unwrap();
    assert_eq!(waiting.str("state"), "pending", "{}", waiting.text);
    let waiting = waiting.str("action_id").to_owned();

    let server = Scrape::of(&stack.url).await;
    let executor = Scrape::of(&format!("http://{address}")).await;
    let documented = documented();
    assert_eq!(server.names(), served_by("server", &documented));
    assert_eq!(executor.names(), served_by("executor", &documented));

    assert_eq!(server.get("countersign_actions_pending"), 1.0);
    let oldest = server.get("countersign_action_oldest_pending_seconds");
    assert!(oldest > 0.0 && oldest < 60.0, "pending for {oldest} s");
    let beat = "countersign_executor_heartbeat_age_seconds\
                {cluster=\"playground\",executor=\"executor-1\"}";
    assert!((0.0..30.0).contains(&server.get(beat)));
    for family in ["ticket", "notify_webhook", "notify_slack"] {
        let series = format!("countersign_outbox_oldest_seconds{{family=\"{family}\"}}");
        assert!((0.0..60.0).contains(&server.get(&series)), "{series}");
    }
    // Approved, rejected, approved; of those one was carried out and one refused by the executor, and
    // what was rejected was denied by the server when it was asked for again.
    let decided = server.observed("countersign_decision_latency_seconds", "");
    assert_eq!(decided, 3.0);
    let executed = executor.observed("countersign_execution_latency_seconds", "");
    assert_eq!(executed, 1.0);
    let refused = |code: &str| format!("countersign_refusals_total{{code=\"{code}\"}}");
    assert_eq!(executor.get(&refused("target_replaced")), 1.0);
    assert_eq!(server.get(&refused("cool_down")), 1.0);
    assert_eq!(executor.get("countersign_admissions_total"), 4.0);
    let called = "countersign_tool_calls_total{tool=\"restart_pod\",outcome=\"ok\"}";
    assert_eq!(server.get(called), 4.0);
    let calls = server.observed("countersign_tool_call_seconds", "{tool=\"restart_pod\"}");
    assert_eq!(calls, 5.0);

    stack
        .li()
        .await
        .unwrap()
        .approve(&waiting, "go")
        .await
        .unwrap();
    scene
        .ai
        .until_state(&waiting, "succeeded", SOON)
        .await
        .unwrap();
    drop(scene);
    stack.stop().await.unwrap();
    for (log, about) in [("server/log", "countersign"), ("executor/log", "executing")] {
        let text = std::fs::read_to_string(stack.path(log)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| line_of(log, line)).collect();
        assert!(!lines.is_empty(), "{log} is empty");
        let says = |line: &Value| line["message"].as_str().unwrap().contains(about);
        assert!(
            lines.iter().any(says),
            "{log} does not say `{about}`: {text}"
        );
    }
    let text = std::fs::read_to_string(stack.path("executor/log")).unwrap();
    let of_the_action = |line: &&str| line_of("executor/log", line)["action"] == waiting.as_str();
    assert!(text.lines().any(|line| of_the_action(&line)), "{text}");
}

/// A log line's fields: when, how grave, from where, what.
fn line_of(log: &str, line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{log}: {line}"));
    let at = value["timestamp"].as_str().unwrap_or_default();
    assert!(at.parse::<jiff::Timestamp>().is_ok(), "{log}: {line}");
    let levels = ["ERROR", "WARN", "INFO", "DEBUG"];
    assert!(
        levels.iter().any(|level| value["level"] == *level),
        "{log}: {line}"
    );
    for field in ["target", "message"] {
        assert!(value[field].is_string(), "{log}: no {field} in {line}");
    }
    value
}
