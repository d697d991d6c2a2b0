//! The simulated Jira, asked as any of its people.

use std::path::Path;

use countersign_playground::jira;
use serde_json::{Value, json};

use super::harness::client;

/// The simulated Jira and its accounts.
pub struct TestJira {
    started: jira::Started,
    pub accounts: Value,
    client: reqwest::Client,
}

impl TestJira {
    pub async fn start(dir: &Path) -> Self {
        let client = client();
        let options = jira::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: dir.to_owned(),
            webhook_url: None,
            rate_limit: false,
        };
        let started = jira::start(options).await.unwrap();
        let accounts = std::fs::read_to_string(&started.credentials).unwrap();
        Self {
            started,
            accounts: serde_json::from_str(&accounts).unwrap(),
            client,
        }
    }

    pub fn url(&self) -> String {
        self.started.server.url()
    }

    pub fn account(&self, who: &str) -> &str {
        self.accounts["users"][who]["account_id"].as_str().unwrap()
    }

    pub fn status(&self, name: &str) -> &str {
        self.accounts["statuses"][name].as_str().unwrap()
    }

    pub async fn ask(&self, who: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let user = &self.accounts["users"][who];
        let method = method.parse().unwrap();
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url()))
            .basic_auth(user["email"].as_str().unwrap(), user["token"].as_str());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn fail(&self, fault: Value) {
        self.ask("admin", "POST", "/playground/fail", Some(fault))
            .await;
    }

    pub async fn issues(&self) -> Vec<Value> {
        let found = self.ask("admin", "GET", "/playground/issues", None).await;
        found["issues"].as_array().unwrap().clone()
    }

    /// Moves a ticket as this person.
    pub async fn move_to(&self, who: &str, key: &str, status: &str) {
        let path = format!("/rest/api/3/issue/{key}/transitions");
        let offered = self.ask(who, "GET", &path, None).await;
        let transition = offered["transitions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|transition| transition["to"]["id"] == self.status(status))
            .unwrap_or_else(|| panic!("{who} is not offered {status}: {offered}"));
        let body = json!({"transition": {"id": transition["id"]}});
        self.ask(who, "POST", &path, Some(body)).await;
    }

    pub async fn say(&self, who: &str, key: &str, words: &str) {
        let body = json!({"body": {"type": "doc", "version": 1, "content": [
            {"type": "paragraph", "content": [{"type": "text", "text": words}]}]}});
        self.ask(
            who,
            "POST",
            &format!("/rest/api/3/issue/{key}/comment"),
            Some(body),
        )
        .await;
    }

    /// The words of all comments, oldest first.
    pub async fn comments(&self, key: &str) -> Vec<String> {
        let page = self
            .ask(
                "admin",
                "GET",
                &format!("/rest/api/3/issue/{key}/comment"),
                None,
            )
            .await;
        page["comments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|comment| countersign_integrations::jira::adf::text(&comment["body"]))
            .collect()
    }
}
