//! Keys are replaced as docs/operating.md says, while work is under way: the executor's, the
//! server's, an AI client's, and the secret of Jira's webhook.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use countersign_tests::stack::ai::Ai;
use countersign_tests::stack::cluster::Pod;
use countersign_tests::stack::{Options, Stack, private_file};
use sha2::{Digest as _, Sha256};

const SOON: Duration = Duration::from_secs(25);

struct Scene {
    stack: Stack,
}

impl Scene {
    async fn new() -> Self {
        Self {
            stack: Stack::start(Options::default()).await.unwrap(),
        }
    }

    async fn ai(&self) -> Ai {
        self.stack.ai().await.unwrap()
    }

    /// A failing pod, and a proposal to restart it that waits for people.
    async fn pending(&self, app: &str) -> (Pod, String) {
        let pod = self.stack.cluster.deploy("shop", app, 2, 1, "ready").await;
        let pod = pod.unwrap();
        let ai = self.ai().await;
        let proposed = ai.restart("shop", &pod.name, "it crashes").await.unwrap();
        assert_eq!(proposed.str("state"), "pending", "{}", proposed.text);
        (pod, proposed.str("action_id").to_owned())
    }

    async fn approve(&self, action: &str) {
        let li = self.stack.li().await.unwrap();
        li.approve(action, "go").await.unwrap();
    }

    async fn succeeds(&self, (pod, action): &(Pod, String)) {
        let ended = self.ai().await.until_state(action, "succeeded", SOON).await;
        ended.unwrap_or_else(|error| panic!("{error:#}\n{}", self.stack.logs()));
        assert_eq!(self.stack.cluster.evictions(&pod.name).await.unwrap(), 1);
    }

    /// What the AI is told of an action that ended.
    async fn told(&self, action: &str) -> (String, String) {
        let answer = self.ai().await.get(action).await.unwrap();
        (answer.str("state").to_owned(), answer.value.to_string())
    }

    async fn stop_executor(&mut self) {
        let executor = self.stack.executor.take().unwrap();
        executor.stop(SOON).await.unwrap();
    }

    async fn start_executor(&mut self) {
        self.stack.start_executor().unwrap();
        self.stack.until_ready(SOON).await.unwrap();
    }

    /// As an operator restarts it: in order.
    async fn restart_server(&mut self) {
        let server = self.stack.server.take().unwrap();
        server.stop(SOON).await.unwrap();
        self.stack.start_server().await.unwrap();
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.stack.path(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        private_file(&self.stack.path(file), text).unwrap();
    }

    fn set_aside(&self, file: &str) {
        let path = self.stack.path(file);
        std::fs::rename(&path, path.with_extension("aside")).unwrap();
    }

    /// Replaces a line of a configuration.
    fn set(&self, file: &str, line: &str, by: &str) {
        let text = self.read(file);
        assert_eq!(text.matches(line).count(), 1, "{line}");
        self.write(file, &text.replace(line, by));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executors_key_is_replaced_while_work_is_under_way() {
    let mut scene = Scene::new().await;
    let done = scene.pending("till").await;
    scene.approve(&done.1).await;
    scene.succeeds(&done).await;
    let waiting = scene.pending("oven").await;
    let agreed = scene.pending("cart").await;

    // Stop it. People may answer meanwhile.
    scene.stop_executor().await;
    scene.approve(&agreed.1).await;
    let old = scene.read("executor/public/executor.pub");
    scene.write("executor/former.pub", &old);
    scene.set(
        "executor/executor.toml",
        "[keys]\n",
        "[keys]\nformer_public_files = [\"former.pub\"]\n",
    );
    scene.set_aside("executor/executor.key");
    // A key that is lost while its pin is there is not passed over.
    scene.stack.start_executor().unwrap();
    let mut refused = scene.stack.executor.take().unwrap();
    assert!(!refused.ended(SOON).await.unwrap().success());
    let words = refused.last_words();
    assert!(words.contains("keys.former_public_files"), "{words}");

    let pin = format!("executor/executor.{}.cluster", scene.stack.cluster.id);
    let uid = scene.read(&pin);
    scene.set_aside(&pin);
    scene.set(
        "executor/executor.toml",
        "[cluster]\n",
        &format!("[cluster]\nkube_system_uid = \"{}\"\n", uid.trim()),
    );
    // Until the server knows the new key, nothing is carried out.
    let policy = scene.read("executor/policy.toml");
    let frozen = format!("[freeze]\nreason = \"a new key\"\n\n{policy}");
    scene.write("executor/policy.toml", &frozen);
    scene.stack.start_executor().unwrap();
    let new = loop {
        let public = scene.read("executor/public/executor.pub");
        if public != old {
            break public;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let ai = scene.ai().await;
    let held = ai.until_told(&agreed.1, "frozen", SOON).await;
    held.unwrap_or_else(|error| panic!("{error:#}\n{}", scene.stack.logs()));

    // Without the old line, what the old key signed counts as not signed.
    scene.restart_server().await;
    let (state, told) = scene.told(&done.1).await;
    assert_eq!(state, "indeterminate", "{told}");
    assert!(told.contains("outcome_unsigned"), "{told}");
    scene.write("server/executor-keys.pub", &format!("{new}\n{old}"));
    scene.set(
        "server/countersign.toml",
        "executor_public_key_file = \"../executor/public/executor.pub\"",
        "executor_public_key_file = \"executor-keys.pub\"",
    );
    scene.restart_server().await;
    let (state, told) = scene.told(&done.1).await;
    assert_eq!(state, "succeeded", "{told}");

    scene.write("executor/policy.toml", &policy);
    scene.succeeds(&agreed).await;
    scene.approve(&waiting.1).await;
    scene.succeeds(&waiting).await;
    let next = scene.pending("desk").await;
    scene.approve(&next.1).await;
    scene.succeeds(&next).await;
    scene.stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_key_is_replaced_while_work_is_under_way() {
    let mut scene = Scene::new().await;
    let waiting = scene.pending("till").await;
    let agreed = scene.pending("oven").await;
    let unlucky = scene.pending("cart").await;

    // Both lines: what was approved under the old key is carried out.
    scene.stop_executor().await;
    scene.approve(&agreed.1).await;
    let old = scene.read("server/public/server.pub");
    replace_key(&mut scene).await;
    let new = scene.read("server/public/server.pub");
    assert_ne!(old, new);
    scene.write("executor/server-keys.pub", &format!("{new}\n{old}"));
    scene.set(
        "executor/executor.toml",
        "attestation_public_key_file = \"../server/public/server.pub\"",
        "attestation_public_key_file = \"server-keys.pub\"",
    );
    scene.start_executor().await;
    scene.succeeds(&agreed).await;
    scene.approve(&waiting.1).await;
    scene.succeeds(&waiting).await;

    // The new line alone: what was approved under the one before is refused.
    scene.stop_executor().await;
    scene.approve(&unlucky.1).await;
    replace_key(&mut scene).await;
    let newest = scene.read("server/public/server.pub");
    scene.write("executor/server-keys.pub", &newest);
    scene.start_executor().await;
    let ai = scene.ai().await;
    let refused = ai.until_state(&unlucky.1, "refused", SOON).await.unwrap();
    let told = refused.value.to_string();
    assert!(told.contains("decision_forged"), "{told}");
    assert!(
        scene
            .stack
            .cluster
            .spent(&unlucky.1)
            .await
            .unwrap()
            .is_none()
    );
    let sent = scene.stack.cluster.evictions_sent(&unlucky.0.name).await;
    assert_eq!(sent.unwrap(), 0);
    let next = scene.pending("desk").await;
    scene.approve(&next.1).await;
    scene.succeeds(&next).await;
    scene.stack.stop().await.unwrap();
}

async fn replace_key(scene: &mut Scene) {
    let server = scene.stack.server.take().unwrap();
    server.stop(SOON).await.unwrap();
    scene.set_aside("server/server.key");
    scene.stack.start_server().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_and_the_webhooks_secret_are_replaced() {
    let mut scene = Scene::new().await;
    let mine = scene.pending("till").await;
    let old = scene.stack.secrets.api_key.clone();
    let (new, late) = (format!("{old}-2"), format!("{old}-3"));
    let hash = |key: &str| hex::encode(Sha256::digest(key.as_bytes()));
    let entry = |name: &str, key: &str, more: &str| {
        let hash = hash(key);
        format!(
            "\n[[api_key]]\nname = \"{name}\"\nagent = \"claude-ops\"\nsha256 = \"{hash}\"\n{more}"
        )
    };

    // For a while both count; one that has expired does not.
    let file = "server/countersign.toml";
    let with = scene.read(file)
        + &entry("laptop-2", &new, "")
        + &entry("laptop-3", &late, "expires_at = \"2026-01-01T00:00:00Z\"\n");
    scene.write(file, &with);
    let webhook = format!("webhook_secret = \"{}\"", scene.stack.jira.webhook_secret);
    scene.set(
        file,
        &webhook,
        "webhook_secret = \"another-secret-of-enough-length\"",
    );
    scene.restart_server().await;
    for (key, status) in [(&old, 200), (&new, 200), (&late, 401)] {
        assert_eq!(knock(&scene, key).await, status);
    }
    // The proposals are the agent's, whichever key it comes with.
    scene.stack.secrets.api_key = new.clone();
    let (state, told) = scene.told(&mine.1).await;
    assert_eq!(state, "pending", "{told}");

    // Jira still signs with the old secret: its hints are refused, and the sweep finds the answer.
    let jira = &scene.stack.jira;
    let key = loop {
        let found = jira.by_label(&format!("countersign-{}", mine.1)).await;
        if let Some(key) = found.unwrap().pop() {
            break key;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let approved = jira.status.approved.clone();
    jira.transition(&jira.li, &key, &approved).await.unwrap();
    scene.succeeds(&mine).await;
    let log = scene.read("server/log");
    assert!(!log.contains(&scene.stack.jira.webhook_secret));

    let text = scene.read(file);
    let first = format!(
        "name = \"claude-laptop\"\nagent = \"claude-ops\"\nsha256 = \"{}\"",
        hash(&old)
    );
    assert!(text.contains(&first));
    scene.write(file, &text.replace(&format!("[[api_key]]\n{first}\n"), ""));
    scene.restart_server().await;
    for (key, status) in [(&old, 401), (&new, 200)] {
        assert_eq!(knock(&scene, key).await, status);
    }
    scene.stack.stop().await.unwrap();
}

/// How the MCP endpoint answers a ping with this key.
async fn knock(scene: &Scene, key: &str) -> u16 {
    let client = reqwest::Client::builder().build().unwrap();
    let answer = client
        .post(format!("{}/mcp", scene.stack.url))
        .bearer_auth(key)
        .header("accept", "application/json, text/event-stream")
        .json(&serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    if status == 401 {
        let told = answer.text().await.unwrap();
        assert!(told.to_lowercase().contains("authorization"), "{told}");
    }
    status
}
