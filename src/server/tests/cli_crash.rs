//! The server dies right before and right after a proposal is stored: nothing is half there, and
//! the caller's own retry makes no second one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign_domain::{OsEntropy, Signer};
use countersign_playground::cluster;
use countersign_server::mcp::auth::hash_of;
use serde_json::{Value, json};

const KEY: &str = "cs_crash-test-key";
const POLICY: &str = r#"
[[rule]]
name = "all"
actions = ["restart_pod"]
clusters = ["*"]
namespaces = ["*"]
risk = "low"
require = [{ group = "sre", count = 1, tier = 1, channels = ["web"] }]
decide_within = "15m"
execute_within = "5m"
"#;
const REGISTRY: &str = "[[person]]\nid = \"li\"\ngroups = [\"sre\"]\n\
                        [[agent]]\nid = \"claude\"\npeople = [\"li\"]\n";

struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path, crash_at: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args([
            "serve",
            "--config",
            "server.toml",
            "--exit-with-parent",
            "--ready-json",
        ]);
        command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(point) = crash_at {
            command.env("COUNTERSIGN_CRASH_AT", point);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self {
            child,
            url: ready["url"].as_str().unwrap().to_owned(),
        }
    }

    async fn call(&self, tool: &str, arguments: &Value) -> Option<Value> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments,
        }});
        let answer = client
            .post(format!("{}/mcp", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("x-api-key", KEY)
            .body(body.to_string())
            .send()
            .await
            .ok()?;
        let answer: Value = answer.json().await.ok()?;
        Some(answer["result"]["structuredContent"].clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_the_commit_loses_nothing_and_doubles_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().canonicalize().unwrap();
    let options = cluster::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        dir: folder.join("playground"),
        seed: true,
    };
    let simulated = cluster::start(options).await.unwrap();
    let config = format!(
        "policy_file = \"policy.toml\"\nregistry_file = \"registry.toml\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{}\"\n\
         [keys]\nfile = \"server.key\"\nexecutor_public_key_file = \"executor.pub\"\n\
         [[cluster]]\nid = \"c\"\nkubeconfig = \"playground/server.kubeconfig\"\n\
         [[api_key]]\nname = \"k\"\nagent = \"claude\"\nsha256 = \"{}\"\n",
        folder.join("d.db").display(),
        hash_of(KEY)
    );
    let public = Signer::generate(&OsEntropy).public_text();
    for (name, text) in [
        ("server.toml", config.as_str()),
        ("policy.toml", POLICY),
        ("registry.toml", REGISTRY),
        ("executor.pub", public.as_str()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }

    let server = Server::start(&folder, Some("proposal.before"));
    let failing = server.call("list_failing_pods", &json!({})).await.unwrap();
    let group = &failing["groups"][0];
    let proposal = json!({
        "namespace": group["namespace"], "pod": group["names"][0], "reason": "crash loop",
    });
    assert!(
        server.call("restart_pod", &proposal).await.is_none(),
        "it should have died"
    );
    drop(server);

    let server = Server::start(&folder, Some("proposal.after"));
    let none = server.call("list_actions", &json!({})).await.unwrap();
    assert_eq!(
        none["actions"],
        json!([]),
        "nothing was committed, so nothing is there"
    );
    assert!(
        server.call("restart_pod", &proposal).await.is_none(),
        "it should have died"
    );
    drop(server);

    let server = Server::start(&folder, None);
    let one = server.call("list_actions", &json!({})).await.unwrap();
    assert_eq!(
        one["actions"].as_array().unwrap().len(),
        1,
        "committed, so it is there"
    );
    let again = server.call("restart_pod", &proposal).await.unwrap();
    assert_eq!(again["existing"], true);
    assert_eq!(again["action_id"], one["actions"][0]["action_id"]);
    drop(server);
    simulated.server.stop().await;
}
