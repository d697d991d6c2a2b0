//! `countersign stdio`: a bridge from an AI client to the server of `countersign up`. Clients start
//! it as often as they like; every message finds its own way:
//!
//! - the server runs: the message is forwarded to its `/mcp`, with the key from the data folder.
//!   Over its socket in that folder, never over its port: that is anybody's on this machine who
//!   takes it while the server does not run;
//! - it does not: the same handler answers right here. Its read tools work with the kubeconfig, the
//!   others say what to start.
//!
//! STDOUT carries MCP and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use countersign_domain::{OsEntropy, SystemClock, random_token};
use countersign_integrations::kubernetes::{CacheSettings, ClusterReads, KubeReader};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt as _;

use super::workstation::Folder;
use crate::app::ClusterHandle;
use crate::mcp::auth::CLIENT_HEADER;
use crate::mcp::{Handler, HttpService, Standalone};

/// Longest message from a client.
const LONGEST_LINE: u64 = 1 << 20;
/// Longest answer of the server.
const LONGEST_ANSWER: usize = 8 << 20;
/// A long poll takes 45 s.
const PATIENCE: Duration = Duration::from_secs(90);
/// The name is only for the `Host` header: the socket is the address.
const MCP: &str = "http://localhost/mcp";
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

#[derive(clap::Args)]
pub struct Options {
    /// The data folder of `countersign up`; default: $XDG_DATA_HOME/countersign.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Kubeconfig for the read tools while `countersign up` does not run.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Its context.
    #[arg(long)]
    context: Option<String>,
    /// Read the cluster once and watch it, for a long conversation about a large one.
    #[arg(long, overrides_with = "no_cache")]
    cache: bool,
    /// Read live for every question (the default).
    #[arg(long, overrides_with = "cache")]
    no_cache: bool,
}

/// Runs until standard input closes, and answers what came before.
pub async fn stdio(options: Options) -> anyhow::Result<()> {
    let bridge = Arc::new(Bridge::new(&options)?);
    let (answers, mut lines) = mpsc::channel::<String>(64);
    let writer = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(mut line) = lines.recv().await {
            line.push('\n');
            if out.write_all(line.as_bytes()).await.is_err() || out.flush().await.is_err() {
                break;
            }
        }
    });
    let mut input = BufReader::new(tokio::io::stdin());
    let mut tasks = JoinSet::new();
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await;
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                eprintln!("countersign stdio: cannot read STDIN: {error}");
                break;
            }
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let message = match serde_json::from_slice::<Value>(text) {
            Ok(message) if message.is_object() => message,
            _ => {
                let error = failure(&Value::Null, -32700, "this line is not a JSON-RPC message");
                let _ = answers.send(error).await;
                continue;
            }
        };
        if message["method"] == "notifications/cancelled" {
            // Over HTTP a request is cancelled by leaving.
            if let Some(task) = running.remove(&message["params"]["requestId"].to_string()) {
                task.abort();
            }
            continue;
        }
        let id = message.get("id").map(Value::to_string);
        let (bridge, answers) = (bridge.clone(), answers.clone());
        let task = tasks.spawn(async move { bridge.pass(message, &answers).await });
        if let Some(id) = id {
            running.retain(|_, task| !task.is_finished());
            running.insert(id, task);
        }
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    drop(answers);
    let _ = writer.await;
    Ok(())
}

struct Bridge {
    folder: Folder,
    /// One word for this process: a session in audit and limits.
    client: String,
    /// Made when a server is found: it reads the system's certificates, which takes 10 ms.
    http: OnceLock<reqwest::Client>,
    local: HttpService,
    /// What `initialize` agreed on: later requests name it in a header.
    version: Mutex<Option<String>>,
}

/// What a request came to.
enum Reply {
    /// Accepted without an answer.
    Nothing,
    Json(Vec<u8>),
    Refused {
        status: StatusCode,
        body: Vec<u8>,
    },
    /// Nobody there.
    Unreachable,
}

impl Bridge {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let folder = Folder::find(options.data_dir.as_deref())?;
        folder.belongs_to_its_owner()?;
        let context = options.context.clone();
        let id = context
            .clone()
            .unwrap_or_else(|| "current-context".to_owned());
        // Connects on the first read, not now: clients start us long before they ask.
        let reader = KubeReader::from_kubeconfig(options.kubeconfig.as_deref(), context.as_deref());
        let handle = if options.cache {
            let (clock, settings) = (Arc::new(SystemClock), CacheSettings::default());
            ClusterHandle {
                reads: ClusterReads::cached(reader.clone(), None, clock, settings),
                reader,
                simulated: false,
            }
        } else {
            ClusterHandle::live(reader, false)
        };
        let standalone = Standalone {
            clusters: BTreeMap::from([(id, handle)]),
            clock: Arc::new(SystemClock),
            instead: "Proposals need a running Countersign: ask your user to run `countersign up` \
                      in a terminal and to keep it open, then call this tool again."
                .to_owned(),
        };
        Ok(Self {
            folder,
            client: random_token(&OsEntropy)[..16].to_owned(),
            http: OnceLock::new(),
            local: Handler::standalone(standalone)
                .service(StreamableHttpServerConfig::default().disable_allowed_hosts()),
            version: Mutex::new(None),
        })
    }

    /// Brings one message to whoever answers, and its answers to the client.
    async fn pass(&self, message: Value, answers: &mpsc::Sender<String>) {
        let id = message.get("id").cloned();
        let headers = self.headers(&message).await;
        let mut reply = self.forward(&message, &headers, answers).await;
        if let Reply::Unreachable = reply {
            reply = self.answer_here(&message, headers).await;
        }
        let Some(id) = id else { return };
        let line = match reply {
            Reply::Nothing => return,
            Reply::Json(body) => match serde_json::from_slice::<Value>(&body) {
                Ok(answer) => {
                    if message["method"] == "initialize"
                        && let Some(version) = answer["result"]["protocolVersion"].as_str()
                    {
                        *self.version.lock().await = Some(version.to_owned());
                    }
                    answer.to_string()
                }
                Err(_) => failure(&id, -32603, "the answer of Countersign cannot be read"),
            },
            Reply::Refused { status, body } => refusal(&id, status, &body),
            Reply::Unreachable => failure(&id, -32603, "nobody could answer this"),
        };
        let _ = answers.send(line).await;
    }

    async fn headers(&self, message: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set("content-type", "application/json");
        set("accept", "application/json, text/event-stream");
        set(CLIENT_HEADER, &self.client);
        let params = &message["params"];
        let own = params["_meta"][META_VERSION].as_str();
        let agreed = self.version.lock().await.clone();
        if let Some(version) = own.or(agreed
            .as_deref()
            .filter(|_| message["method"] != "initialize"))
        {
            set("mcp-protocol-version", version);
        }
        // Since the revision of 2026-07-28 these two must agree with the body.
        if own.is_some() {
            set("mcp-method", message["method"].as_str().unwrap_or_default());
            let name = match message["method"].as_str() {
                Some("tools/call" | "prompts/get") => params["name"].as_str(),
                Some("resources/read") => params["uri"].as_str(),
                _ => None,
            };
            if let Some(name) = name.filter(|name| name.bytes().all(|b| (0x21..0x7f).contains(&b)))
            {
                set("mcp-name", name);
            }
        }
        headers
    }

    fn http(&self) -> Option<&reqwest::Client> {
        if self.http.get().is_none() {
            let client = reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(2))
                .timeout(PATIENCE)
                .no_proxy()
                .unix_socket(self.folder.socket())
                .build();
            match client {
                Ok(client) => drop(self.http.set(client)),
                Err(error) => tracing::error!(%error, "no HTTP client could be made"),
            }
        }
        self.http.get()
    }

    /// To the server of `countersign up`, if there is one.
    async fn forward(
        &self,
        message: &Value,
        headers: &HeaderMap,
        answers: &mpsc::Sender<String>,
    ) -> Reply {
        if !self.folder.socket().exists() {
            return Reply::Unreachable;
        }
        // Each time: somebody else may have made it since.
        if let Err(error) = self.folder.belongs_to_its_owner() {
            tracing::warn!("{error}");
            return Reply::Unreachable;
        }
        let Ok(key) = Folder::api_key(&self.folder.key_file()) else {
            return Reply::Unreachable;
        };
        let Some(http) = self.http() else {
            return Reply::Unreachable;
        };
        let request = http
            .post(MCP)
            .headers(headers.clone())
            .bearer_auth(key)
            .body(message.to_string());
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Reply::Unreachable,
            Err(_) => {
                let body = b"{\"message\":\"Countersign did not answer in time; a proposal may \
                             still have been stored: see list_actions\"}";
                return Reply::Refused {
                    status: StatusCode::GATEWAY_TIMEOUT,
                    body: body.to_vec(),
                };
            }
        };
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).cloned();
        let streamed = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if streamed {
            return relay(response, answers).await;
        }
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        reply(status, body)
    }

    /// By the handler in this process.
    async fn answer_here(&self, message: &Value, headers: HeaderMap) -> Reply {
        let mut request = Request::new(Body::from(message.to_string()));
        *request.method_mut() = http::Method::POST;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("localhost"));
        let Ok(response) = self.local.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        match axum::body::to_bytes(Body::new(body), LONGEST_ANSWER).await {
            Ok(body) => reply(head.status, body.to_vec()),
            Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
        }
    }
}

fn reply(status: StatusCode, body: Vec<u8>) -> Reply {
    let is_rpc = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["jsonrpc"] == "2.0");
    match status {
        _ if is_rpc => Reply::Json(body),
        status if status.is_success() => Reply::Nothing,
        status => Reply::Refused { status, body },
    }
}

/// Passes the messages of an event stream on, one line each.
async fn relay(mut response: reqwest::Response, answers: &mpsc::Sender<String>) -> Reply {
    let (mut pending, mut data) = (Vec::new(), String::new());
    while let Ok(Some(chunk)) = response.chunk().await {
        pending.extend_from_slice(&chunk);
        if pending.len() > LONGEST_ANSWER {
            break;
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if let Some(part) = line.strip_prefix("data:") {
                data.push_str(part.trim_start());
            } else if line.is_empty()
                && let Ok(message) = serde_json::from_str::<Value>(&std::mem::take(&mut data))
            {
                let _ = answers.send(message.to_string()).await;
            }
        }
    }
    Reply::Nothing
}

/// An HTTP refusal as a JSON-RPC error: the client sees the sentence.
fn refusal(id: &Value, status: StatusCode, body: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(body).ok();
    let told = told.as_ref().and_then(|body| body["message"].as_str());
    let message = match (status, told) {
        (StatusCode::UNAUTHORIZED, _) => {
            "the key in the data folder is not the running server's: restart `countersign up`"
                .to_owned()
        }
        (_, Some(told)) => countersign_domain::one_line(told, 500),
        (status, None) => format!("Countersign answered {status}"),
    };
    failure(id, -32000, &message)
}

fn failure(id: &Value, code: i32, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}
