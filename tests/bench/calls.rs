//! MCP by plain HTTP. An SDK's own work would be measured along, and shares our two CPUs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use countersign_tests::stack::Stack;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::wire::Wire;

/// Callers at once where a bench speaks of many.
pub const CLIENTS: usize = 16;

/// One AI client with connections of its own. Clones share them.
#[derive(Clone)]
pub struct Caller {
    client: reqwest::Client,
    url: String,
    key: String,
}

/// A request's body, made before the clock runs.
#[derive(Clone)]
pub struct Call(Bytes);

impl Call {
    pub fn tool(name: &str, arguments: &Value) -> Self {
        let params = json!({"name": name, "arguments": arguments});
        Self::new(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
    }

    pub fn list() -> Self {
        Self::new(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
    }

    fn new(request: &Value) -> Self {
        Self(request.to_string().into())
    }

    pub fn body(&self) -> Bytes {
        self.0.clone()
    }
}

impl Caller {
    pub fn new(stack: &Stack) -> Result<Self> {
        Self::at(&stack.url, &stack.secrets.api_key)
    }

    /// A bare connection to the same server.
    pub async fn wire(&self) -> Result<Wire> {
        Wire::connect(&self.url, &self.key).await
    }

    pub fn at(url: &str, key: &str) -> Result<Self> {
        Ok(Self {
            url: format!("{url}/mcp"),
            key: key.to_owned(),
            client: client()?,
        })
    }

    /// Asks and reads the whole answer, unparsed.
    pub async fn ask(&self, call: &Call) -> Result<String> {
        let answer = self
            .client
            .post(&self.url)
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(call.0.clone())
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(text)
    }

    /// The structured answer of a tool that did not fail.
    pub async fn answer(&self, call: &Call) -> Result<Value> {
        structured(&self.ask(call).await?)
    }

    /// The answer and the milliseconds until it was there.
    pub async fn timed(&self, call: &Call) -> Result<(String, f64)> {
        let started = Instant::now();
        let text = self.ask(call).await?;
        Ok((text, milliseconds(started.elapsed())))
    }

    /// Asks about an action until its state fits.
    pub async fn until(&self, action: &str, fits: impl Fn(&str) -> bool) -> Result<Value> {
        let call = Call::tool("get_action", &json!({"action_id": action}));
        let started = Instant::now();
        loop {
            let answer = self.answer(&call).await?;
            let state = answer["state"].as_str().unwrap_or_default();
            if fits(state) {
                return Ok(answer);
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("action {action} is still `{state}`");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60));
    Ok(client.build()?)
}

pub fn structured(text: &str) -> Result<Value> {
    let mut answer: Value = serde_json::from_str(text)?;
    let result = &mut answer["result"];
    ensure!(result["isError"] != true, "a tool failed: {text}");
    let body = result["structuredContent"].take();
    ensure!(body.is_object(), "no structured answer: {text}");
    Ok(body)
}

/// Runs [`CLIENTS`] tasks that make `each` calls one after the other; calls per second.
pub async fn per_second<F>(each: usize, client: impl Fn() -> Result<F>) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let clients = (0..CLIENTS).map(|_| client()).collect::<Result<Vec<F>>>()?;
    let started = Instant::now();
    let tasks: tokio::task::JoinSet<Result<()>> = clients.into_iter().collect();
    for done in tasks.join_all().await {
        done?;
    }
    Ok((each * CLIENTS) as f64 / started.elapsed().as_secs_f64())
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
