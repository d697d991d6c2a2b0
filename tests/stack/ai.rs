//! An AI client: rmcp's own client over Streamable HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;

pub struct Ai {
    service: RunningService<RoleClient, ClientConfig>,
}

/// A tool's answer: the structured part, the text, and whether it was an error.
#[derive(Debug, Clone)]
pub struct Answer {
    pub value: Value,
    pub text: String,
    pub is_error: bool,
}

impl Answer {
    pub fn str(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }
}

impl Ai {
    pub async fn connect(base: &str, api_key: &str) -> Result<Self> {
        let config = StreamableHttpClientTransportConfig::with_uri(format!(
            "{}/mcp",
            base.trim_end_matches('/')
        ))
        .auth_header(api_key.to_owned());
        let transport = StreamableHttpClientTransport::with_client(
            reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .build()?,
            config,
        );
        let service = ClientConfig::default()
            .serve(transport)
            .await
            .context("MCP did not start")?;
        Ok(Self { service })
    }

    pub async fn tools(&self) -> Result<Vec<String>> {
        let tools = self.service.list_all_tools().await?;
        Ok(tools
            .into_iter()
            .map(|tool| tool.name.to_string())
            .collect())
    }

    /// The tools that say of themselves that they only read.
    pub async fn read_tools(&self) -> Result<Vec<String>> {
        let tools = self.service.list_all_tools().await?;
        let reads = tools.into_iter().filter(|tool| {
            let annotations = tool.annotations.as_ref();
            annotations.is_some_and(|annotations| annotations.read_only_hint == Some(true))
        });
        Ok(reads.map(|tool| tool.name.to_string()).collect())
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Answer> {
        let arguments = arguments
            .as_object()
            .cloned()
            .context("arguments are an object")?;
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let result = self.service.call_tool(params).await?;
        let text = result
            .content
            .iter()
            .filter_map(|block| block.as_text().map(|text| text.text.clone()))
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Answer {
            value: result.structured_content.unwrap_or(Value::Null),
            text,
            is_error: result.is_error.unwrap_or(false),
        })
    }

    /// Proposes and waits until it is admitted.
    pub async fn restart(&self, namespace: &str, pod: &str, reason: &str) -> Result<Answer> {
        let answer = self
            .call(
                "restart_pod",
                serde_json::json!({"namespace": namespace, "pod": pod, "reason": reason}),
            )
            .await?;
        if answer.is_error {
            bail!("restart_pod: {}", answer.text);
        }
        if answer.str("state") != "checking" {
            return Ok(answer);
        }
        let id = answer.str("action_id").to_owned();
        self.until(&id, Duration::from_secs(15), |state| state != "checking")
            .await
    }

    pub async fn get(&self, action: &str) -> Result<Answer> {
        self.call("get_action", serde_json::json!({"action_id": action}))
            .await
    }

    /// Asks until the state fits.
    pub async fn until(
        &self,
        action: &str,
        within: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = self.get(action).await?;
            if fits(answer.str("state")) {
                return Ok(answer);
            }
            if start.elapsed() > within {
                bail!(
                    "action {action} is still `{}` after {within:?}: {}",
                    answer.str("state"),
                    answer.text
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks until the answer says this.
    pub async fn until_told(&self, action: &str, word: &str, within: Duration) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = self.get(action).await?;
            if answer.text.contains(word) || answer.value.to_string().contains(word) {
                return Ok(answer);
            }
            if start.elapsed() > within {
                bail!("the AI was not told `{word}`: {}", answer.text);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_state(&self, action: &str, state: &str, within: Duration) -> Result<Answer> {
        const ENDS: &[&str] = &[
            "succeeded",
            "failed",
            "denied",
            "rejected",
            "cancelled",
            "expired",
            "refused",
        ];
        let answer = self
            .until(action, within, |now| now == state || ENDS.contains(&now))
            .await?;
        if answer.str("state") != state {
            bail!(
                "action {action} became `{}`, not `{state}`: {}",
                answer.str("state"),
                answer.text
            );
        }
        Ok(answer)
    }
}
