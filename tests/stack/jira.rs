//! The playground's Jira, and people moving tickets in it through Jira's own API.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::process::Process;

pub struct PlaygroundJira {
    pub url: String,
    pub project_id: String,
    pub issue_type_id: String,
    pub webhook_secret: String,
    pub bot: Account,
    pub executor: Account,
    pub li: Account,
    pub omar: Account,
    pub maria: Account,
    pub admin: Account,
    pub status: Statuses,
    client: reqwest::Client,
    _process: Process,
}

#[derive(Debug, Clone)]
pub struct Account {
    pub account_id: String,
    pub email: String,
    pub token: String,
}

#[derive(Debug, Clone)]
pub struct Statuses {
    pub to_do: String,
    pub approved: String,
    pub declined: String,
    pub done: String,
}

impl PlaygroundJira {
    pub async fn start(folder: &Path) -> Result<Self> {
        let mut process = Process::start(
            "playground jira",
            "countersign-playground",
            |command| {
                command
                    .arg("jira")
                    .arg("--dir")
                    .arg(folder)
                    .arg("--exit-with-parent");
            },
            &folder.join("log"),
        )?;
        let ready = process.ready(Duration::from_secs(20)).await?;
        let file: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("jira.json"))?)?;
        let text = |pointer: &str| {
            file.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("jira.json has no {pointer}"))
        };
        let account = |who: &str| -> Result<Account> {
            Ok(Account {
                account_id: text(&format!("/users/{who}/account_id"))?,
                email: text(&format!("/users/{who}/email"))?,
                token: text(&format!("/users/{who}/token"))?,
            })
        };
        Ok(Self {
            url: ready["url"].as_str().context("no url")?.to_owned(),
            project_id: text("/project/id")?,
            issue_type_id: text("/issue_type/id")?,
            webhook_secret: text("/webhook_secret")?,
            bot: account("bot")?,
            executor: account("executor_bot")?,
            li: account("li")?,
            omar: account("omar")?,
            maria: account("maria")?,
            admin: account("admin")?,
            status: Statuses {
                to_do: text("/statuses/to_do")?,
                approved: text("/statuses/approved")?,
                declined: text("/statuses/declined")?,
                done: text("/statuses/done")?,
            },
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(10))
                .build()?,
            _process: process,
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .client
            .get(format!("{}{path}", self.url))
            .basic_auth(&self.admin.email, Some(&self.admin.token))
            .send()
            .await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    pub async fn post(&self, who: &Account, path: &str, body: &Value) -> Result<Value> {
        let answer = self
            .client
            .post(format!("{}{path}", self.url))
            .basic_auth(&who.email, Some(&who.token))
            .json(body)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("POST {path}: {status}: {text}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The administrator's control endpoint: faults and the webhook's address.
    pub async fn control(&self, path: &str, body: &Value) -> Result<()> {
        self.post(&self.admin, path, body).await.map(|_| ())
    }

    pub async fn send_webhooks_to(&self, url: &str) -> Result<()> {
        self.control("/playground/webhook", &json!({"url": url}))
            .await
    }

    /// Moves a ticket, as a person does with a click.
    pub async fn transition(&self, who: &Account, key: &str, status_id: &str) -> Result<()> {
        let path = format!("/rest/api/3/issue/{key}/transitions");
        let offered = self.get(&path).await?;
        let id = offered["transitions"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["to"]["id"] == status_id))
            .and_then(|one| one["id"].as_str())
            .with_context(|| format!("{key} cannot go to status {status_id}"))?
            .to_owned();
        self.post(who, &path, &json!({"transition": {"id": id}}))
            .await
            .map(|_| ())
    }

    pub async fn comment(&self, who: &Account, key: &str, text: &str) -> Result<()> {
        let body = json!({"body": {"type": "doc", "version": 1, "content": [
            {"type": "paragraph", "content": [{"type": "text", "text": text}]}]}});
        self.post(who, &format!("/rest/api/3/issue/{key}/comment"), &body)
            .await
            .map(|_| ())
    }

    pub async fn status_of(&self, key: &str) -> Result<String> {
        let issue = self.get(&format!("/rest/api/3/issue/{key}")).await?;
        Ok(issue["fields"]["status"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    pub async fn until_status(&self, key: &str, status_id: &str, within: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = self.status_of(key).await?;
            if status == status_id {
                return Ok(());
            }
            if start.elapsed() > within {
                bail!("{key} has status {status}, not {status_id}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All comments as one text.
    pub async fn comments(&self, key: &str) -> Result<String> {
        let list = self
            .get(&format!("/rest/api/3/issue/{key}/comment"))
            .await?;
        Ok(list["comments"].to_string())
    }

    pub async fn until_comment(&self, key: &str, contains: &str, within: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let comments = self.comments(key).await?;
            if comments.contains(contains) {
                return Ok(());
            }
            if start.elapsed() > within {
                bail!("no comment on {key} says `{contains}`: {comments}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keys of all issues that carry the label.
    pub async fn by_label(&self, label: &str) -> Result<Vec<String>> {
        let answer = self
            .post(
                &self.admin,
                "/rest/api/3/search/jql",
                &json!({"jql": format!("labels = \"{label}\""), "fields": ["labels"]}),
            )
            .await?;
        let issues = answer["issues"].as_array().cloned().unwrap_or_default();
        Ok(issues
            .iter()
            .filter_map(|issue| issue["key"].as_str().map(str::to_owned))
            .collect())
    }
}
