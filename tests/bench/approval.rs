//! The way of one action, many times over: proposed over MCP, admitted, decided on the page, sent.
//!
//! Times inside come from the audit log (whole milliseconds) and from the API server's own log of
//! requests (microseconds). All clocks are this machine's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use countersign_control_plane::eventually;
use countersign_store::testing::{Role, Tamper};
use countersign_tests::stack::cluster::{Cluster, Pod};
use countersign_tests::stack::{ClusterKind, Engine, Options, Stack, settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bare::Bare;
use crate::calls::{Call, Caller, structured};
use crate::report::{Line, Samples, Target};

const NAMESPACE: &str = "shop";
/// For how long the executor claims: its lease ends so long after the claim.
const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// Around the bare calls only. Lists are served from the API server's watch cache, which learns of
/// etcd's newest revision at most every 100 ms: a list right after another one and a write waits for
/// that, whoever asks, and neither side should pay for the other.
const REST: Duration = Duration::from_millis(150);
/// Between the end of one action and the tap for the next: far less than a person takes.
const TAP: Duration = Duration::from_millis(500);
/// From an approval to the look at its lease, so that the look does not disturb the execution.
const LATER: Duration = Duration::from_millis(60);

/// Actions decided in each way.
const ACTIONS: usize = 30;

/// What comes before a decision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The bare calls for the same pod, with a rest before and after.
    BareCalls,
    /// A person's pause, if a short one.
    Pause,
    /// Nothing: the end of another action, a few milliseconds ago.
    Nothing,
}

/// Propose over HTTP, admission, and from the decision to the eviction, on both engines. The ticket
/// may answer too, so each execution looks at it.
pub async fn on_the_playground() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let options = Options {
            engine,
            ..Options::default()
        };
        let times = Times::measure(options, &[Before::Pause, Before::Nothing]).await?;
        let name = engine_name(engine);
        let propose = |beside: &str| format!("http.propose beside {beside}, {name}");
        lines.extend([
            Line::of(propose("tools/list"), "ms", &times.propose).beside(times.list.median()),
            Line::of(propose("get_action of an unknown id"), "ms", &times.propose)
                .beside(times.unknown.median()),
            Line::of(
                format!("proposed -> admitted, {name}"),
                "ms",
                &times.admitted,
            )
            .wanted(Target::Median { at_most: 150.0 }),
            Line::of(
                format!("decision -> eviction sent, {name}"),
                "ms",
                &times.decided_to_sent,
            )
            .wanted(Target::P99 { below: 100.0 }),
            Line::of(
                format!("the same right after another action, {name}"),
                "ms",
                &times.one_after_the_other,
            ),
        ]);
    }
    Ok(lines)
}

/// From the claim to the eviction beside the bare calls; and from the decision to the eviction, which
/// is what an approver waits for, where the bench asks the API server nothing before. Decided on the
/// page alone: a look at Jira is no call to the API server.
pub async fn on_the_control_plane() -> Result<Vec<Line>> {
    let policy = settings::policy("15m", "5m", "20s").replace(r#"["web", "jira"]"#, r#"["web"]"#);
    let mut lines = Vec::new();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let cluster = ClusterKind::ControlPlane;
        let options = Options {
            engine,
            cluster,
            policy: policy.clone(),
            ..Options::default()
        };
        let ways = [Before::BareCalls, Before::Pause, Before::Nothing];
        let times = Times::measure(options, &ways).await?;
        let name = engine_name(engine);
        lines.extend([
            Line::of(
                format!("claim -> eviction sent, {name}"),
                "ms",
                &times.claimed_to_sent,
            )
            .beside(times.bare.median())
            .wanted(Target::Ratio { at_most: 2.0 }),
            Line::of(
                format!("proposed -> admitted, real API server, {name}"),
                "ms",
                &times.admitted,
            )
            .wanted(Target::Median { at_most: 150.0 }),
            Line::of(
                format!("decision -> eviction sent, real API server, {name}"),
                "ms",
                &times.decided_to_sent,
            )
            .wanted(Target::P99 { below: 100.0 }),
            Line::of(
                format!("the same right after another action, real API server, {name}"),
                "ms",
                &times.one_after_the_other,
            ),
        ]);
    }
    Ok(lines)
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    }
}

/// Milliseconds.
#[derive(Default)]
struct Times {
    list: Samples,
    unknown: Samples,
    propose: Samples,
    admitted: Samples,
    decided_to_sent: Samples,
    one_after_the_other: Samples,
    claimed_to_sent: Samples,
    bare: Samples,
}

impl Times {
    async fn measure(mut options: Options, ways: &[Before]) -> Result<Self> {
        // The default of 60 would hold back the actions after the first minute's share.
        let no_hurry = ("COUNTERSIGN_EXECUTOR__ADMISSIONS_PER_MINUTE", "6000");
        options
            .executor_env
            .push((no_hurry.0.to_owned(), no_hurry.1.to_owned()));
        let mut stack = Stack::start(options).await?;
        let measured = Self::of(&stack, ways).await.with_context(|| stack.logs())?;
        stack.stop().await?;
        Ok(measured)
    }

    async fn of(stack: &Stack, ways: &[Before]) -> Result<Self> {
        let mut times = Self::default();
        let caller = Caller::new(stack)?;
        let pods = crashing(&stack.cluster, ways.len() * ACTIONS).await?;
        let mut actions = Vec::new();
        for pod in &pods {
            actions.push(times.propose(&caller, pod).await?);
        }
        let decided = times.decide(stack, &caller, &pods, &actions, ways).await?;
        let sent = evictions(&stack.cluster).await?;
        for (
            pod,
            Decided {
                claim,
                ended,
                before,
            },
        ) in pods.iter().zip(decided)
        {
            let at = |event| moment(&ended, event);
            let sent = *sent
                .get(&pod.name)
                .with_context(|| format!("{} was not evicted", pod.name))?;
            times
                .admitted
                .push(between(at("action.proposed")?, at("action.admitted")?));
            let decided = between(at("action.approved")?, sent);
            match before {
                Before::BareCalls => times.claimed_to_sent.push(between(claim, sent)),
                Before::Pause => times.decided_to_sent.push(decided),
                Before::Nothing => times.one_after_the_other.push(decided),
            }
        }
        Ok(times)
    }

    /// A do-nothing request, a read of the store, a proposal; returns once that is admitted.
    async fn propose(&mut self, caller: &Caller, pod: &Pod) -> Result<String> {
        let nobody = json!({"action_id": "01890000-0000-7000-8000-000000000000"});
        let arguments = json!({
            "namespace": NAMESPACE, "pod": pod.name, "reason": "crash loop since the deploy",
        });
        self.list.push(caller.timed(&Call::list()).await?.1);
        self.unknown
            .push(caller.timed(&Call::tool("get_action", &nobody)).await?.1);
        let (answer, milliseconds) = caller.timed(&Call::tool("restart_pod", &arguments)).await?;
        self.propose.push(milliseconds);
        let answer = structured(&answer)?;
        let action = answer["action_id"]
            .as_str()
            .context("no action id")?
            .to_owned();
        caller.until(&action, |state| state == "pending").await?;
        Ok(action)
    }

    /// Approves one action after the other, in each of these ways in turn.
    async fn decide(
        &mut self,
        stack: &Stack,
        caller: &Caller,
        pods: &[Pod],
        actions: &[String],
        ways: &[Before],
    ) -> Result<Vec<Decided>> {
        let url = stack.database_url(Role::Admin);
        let database = Tamper::open(&url)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        let li = stack.li().await?;
        let mut bare = None;
        if let (ClusterKind::ControlPlane, Some(first)) = (stack.cluster.kind, pods.first()) {
            let calls = Bare::new(&stack.cluster).await?;
            // Connects.
            calls.calls(NAMESPACE, &first.name).await?;
            bare = Some(calls);
        }
        let mut decided = Vec::new();
        for ((pod, action), before) in pods.iter().zip(actions).zip(ways.iter().cycle()) {
            match (before, &bare) {
                (Before::BareCalls, Some(bare)) => {
                    tokio::time::sleep(REST).await;
                    self.bare.push(bare.calls(NAMESPACE, &pod.name).await?);
                    tokio::time::sleep(REST).await;
                }
                (Before::BareCalls, None) => bail!("bare calls are for the real API server"),
                (Before::Pause, _) => tokio::time::sleep(TAP).await,
                (Before::Nothing, _) => {}
            }
            li.approve(action, "seen the crash loop").await?;
            tokio::time::sleep(LATER).await;
            let claim = claimed(&database, action).await?;
            // Waited for: an execution that watches its replacement lists pods, too.
            let ended = caller.until(action, |state| state == "succeeded").await?;
            decided.push(Decided {
                claim,
                ended,
                before: *before,
            });
        }
        Ok(decided)
    }
}

/// One action that was approved and has ended.
struct Decided {
    claim: Timestamp,
    /// As the AI reads it.
    ended: Value,
    before: Before,
}

/// When the executor asked the store for this action: its lease tells.
async fn claimed(database: &Tamper, action: &str) -> Result<Timestamp> {
    let started = Instant::now();
    loop {
        let until = database
            .lease_until(action)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        if let Some(until) = until {
            return Ok(until - LEASE);
        }
        ensure!(
            started.elapsed() < Duration::from_secs(5),
            "{action} was not claimed"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// So many pods that crash, of one workload. What replaces them is soon ready.
async fn crashing(cluster: &Cluster, count: usize) -> Result<Vec<Pod>> {
    cluster
        .deploy(NAMESPACE, "bench", count, count, "ready")
        .await?;
    eventually(Duration::from_secs(60), "crashing pods", async || {
        let pods = cluster.pods(NAMESPACE, "bench").await?;
        Ok((pods.len() == count && pods.iter().all(|pod| pod.crashing)).then_some(pods))
    })
    .await
}

/// When the API server received the eviction of each pod, dry runs left out.
async fn evictions(cluster: &Cluster) -> Result<HashMap<String, Timestamp>> {
    if let Some(plane) = cluster.plane() {
        let events = plane.audit_events()?.into_iter();
        let sent = events.filter(|event| event.is_eviction() && !event.dry_run);
        return Ok(sent.map(|event| (event.name, event.timestamp)).collect());
    }
    let log = cluster.admin().get("/playground/audit").await?.success()?;
    let events = log["items"]
        .as_array()
        .context("no items in the audit log")?;
    events
        .iter()
        .filter(|event| event["objectRef"]["subresource"] == "eviction" && event["dryRun"] == false)
        .map(|event| {
            let name = event["objectRef"]["name"]
                .as_str()
                .context("an eviction without name")?;
            let at = event["requestReceivedTimestamp"]
                .as_str()
                .context("no time")?;
            Ok((name.to_owned(), at.parse()?))
        })
        .collect()
}

/// When something last happened to an action, from its timeline as the AI reads it.
fn moment(action: &Value, event: &str) -> Result<Timestamp> {
    let timeline = action["timeline"].as_array().context("no timeline")?;
    let row = timeline.iter().rev().find(|row| row["event"] == event);
    let at = row
        .and_then(|row| row["at"].as_str())
        .with_context(|| format!("no {event}"))?;
    Ok(at.parse()?)
}

fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
