//! The one HTTP connection to an API server. It sends GET and nothing else.
//!
//! Built on first use, so that `countersign stdio` answers before any credential plugin runs.
//! kube's own convenience calls are not used: they log whole bodies that do not decode, read
//! without a bound, and retry.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::KubeError;
use crate::untrusted;

const CONNECT: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);
/// A credential plugin may ask a cloud's log-in service first.
const BUILD: Duration = Duration::from_secs(20);
/// A page of 500 pods is near 5 MB, seldom above 10.
const LARGEST_BODY: usize = 32 << 20;

pub(super) enum Source {
    Kubeconfig {
        path: Option<PathBuf>,
        context: Option<String>,
    },
    InCluster,
}

pub(super) struct Connection {
    source: Source,
    client: Mutex<Option<Client>>,
}

/// A successful answer.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
}

impl Connection {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            client: Mutex::new(None),
        }
    }

    /// GET `path` (with query) and decode the answer. `what` names it in errors.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &str,
    ) -> Result<T, KubeError> {
        decode(&self.get_raw(path, what).await?.body, what)
    }

    pub(super) async fn get_raw(&self, path: &str, what: &str) -> Result<Answer, KubeError> {
        let mut body = Vec::new();
        let headers = self.get_into(path, what, &mut body).await?;
        Ok(Answer {
            headers,
            body: body.into(),
        })
    }

    /// GET `path` into `body`, whatever was in it: who reads many pages keeps one buffer for them.
    pub(super) async fn get_into(
        &self,
        path: &str,
        what: &str,
        body: &mut Vec<u8>,
    ) -> Result<HeaderMap, KubeError> {
        let client = self.client().await?;
        let answer = timeout(REQUEST, send(&client, path, what, body))
            .await
            .unwrap_or_else(|_| Err(no_answer(what)));
        let refused = matches!(answer, Err(KubeError::Unauthorized));
        self.forget_credentials_if(refused).await;
        answer
    }

    /// GET `path` and hand out the body as it comes: for watches, which end when they like. Only
    /// the beginning has a time limit; the reader of the stream sets its own.
    pub(super) async fn open(&self, path: &str, what: &str) -> Result<Chunks, KubeError> {
        let client = self.client().await?;
        let begun = timeout(REQUEST, begin(&client, path, what))
            .await
            .unwrap_or_else(|_| Err(no_answer(what)));
        let opened = match begun {
            Ok(response) if response.status().is_success() => Ok(Chunks {
                body: response.into_body(),
            }),
            Ok(response) => {
                let (head, body) = response.into_parts();
                let mut told = Vec::new();
                let read = timeout(REQUEST, collect(body, what, &mut told)).await;
                read.unwrap_or_else(|_| Err(no_answer(what)))?;
                Err(refusal(head.status, &told, what))
            }
            Err(error) => Err(error),
        };
        let refused = matches!(opened, Err(KubeError::Unauthorized));
        self.forget_credentials_if(refused).await;
        opened
    }

    /// The next call reads the credentials afresh: they may have been rotated.
    async fn forget_credentials_if(&self, refused: bool) {
        if refused {
            *self.client.lock().await = None;
        }
    }

    async fn client(&self) -> Result<Client, KubeError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let mut config = match &self.source {
            Source::InCluster => Config::incluster().map_err(|error| KubeError::Access {
                problem: format!("no service account is mounted here: {error}"),
            })?,
            Source::Kubeconfig { path, context } => {
                from_kubeconfig(path.clone(), context.clone()).await?
            }
        };
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        if config.cluster_url.scheme_str() == Some("http") {
            // Nothing to verify, and reading the system's certificates takes 10 ms.
            config.root_cert = Some(Vec::new());
        }
        // Building runs the credential plugin and waits for it.
        let built = tokio::task::spawn_blocking(move || Client::try_from(config));
        let client = match timeout(BUILD, built).await {
            Ok(Ok(Ok(client))) => client,
            Ok(Ok(Err(error))) => return Err(explain(&error)),
            Ok(Err(_)) => return Err(access("setting up the client failed")),
            Err(_) => return Err(access("the credential plugin did not finish within 20 s")),
        };
        *slot = Some(client.clone());
        Ok(client)
    }
}

fn access(problem: &str) -> KubeError {
    KubeError::Access {
        problem: problem.to_owned(),
    }
}

async fn from_kubeconfig(
    path: Option<PathBuf>,
    context: Option<String>,
) -> Result<Config, KubeError> {
    let read = || match &path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let mut kubeconfig = read().map_err(|error| explain_kubeconfig(&error))?;
    let wanted = context
        .clone()
        .or_else(|| kubeconfig.current_context.clone());
    let user = wanted.as_ref().and_then(|wanted| {
        let context = kubeconfig
            .contexts
            .iter()
            .find(|context| context.name == *wanted)?;
        context.context.as_ref()?.user.clone()
    });
    for named in &mut kubeconfig.auth_infos {
        let Some(exec) = named.auth_info.as_mut().and_then(|info| info.exec.as_mut()) else {
            continue;
        };
        if exec.interactive_mode == Some(ExecInteractiveMode::Always)
            && Some(&named.name) == user.as_ref()
        {
            return Err(KubeError::Access {
                problem: format!(
                    "the credential plugin of user `{}` wants a terminal (interactiveMode \
                     Always): log in with kubectl first and use IfAvailable or Never",
                    untrusted::line(&named.name, 80)
                ),
            });
        }
        // Otherwise kube hands it our own stdin, which on stdio is the MCP pipe.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| explain_kubeconfig(&error))
}

/// kube's own texts quote lines of the file, which may hold a token.
fn explain_kubeconfig(error: &KubeconfigError) -> KubeError {
    let problem = match error {
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig has no current context: name one".to_owned()
        }
        KubeconfigError::LoadContext(name) => {
            format!(
                "the kubeconfig has no context `{}`",
                untrusted::line(name, 80)
            )
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!(
                "the kubeconfig has no cluster `{}`",
                untrusted::line(name, 80)
            )
        }
        KubeconfigError::FindPath => "no kubeconfig was found: give its path".to_owned(),
        KubeconfigError::ReadConfig(error, path) => {
            format!(
                "the kubeconfig {} cannot be read: {}",
                path.display(),
                error.kind()
            )
        }
        KubeconfigError::Parse(_) => "the kubeconfig is not valid YAML".to_owned(),
        KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => {
            "the cluster in the kubeconfig has no valid server address".to_owned()
        }
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "the cluster's certificate authority cannot be read".to_owned()
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            "the client certificate or its key cannot be read".to_owned()
        }
        _ => "the kubeconfig cannot be used".to_owned(),
    };
    KubeError::Access { problem }
}

/// `what` names the answer in errors.
pub(super) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, KubeError> {
    serde_json::from_slice(body).map_err(|error| KubeError::Unexpected {
        what: what.to_owned(),
        problem: untrusted::line(&error.to_string(), 200),
    })
}

fn no_answer(what: &str) -> KubeError {
    KubeError::Unavailable {
        problem: format!("no answer for {what} within {} s", REQUEST.as_secs()),
    }
}

async fn begin(client: &Client, path: &str, what: &str) -> Result<Response<Body>, KubeError> {
    let request = Request::get(path)
        .body(Body::empty())
        .map_err(|_| KubeError::Invalid {
            problem: format!("{what} cannot be asked for: the name does not fit in an address"),
        })?;
    client.send(request).await.map_err(|error| explain(&error))
}

async fn collect(body: Body, what: &str, into: &mut Vec<u8>) -> Result<(), KubeError> {
    into.clear();
    let mut body = Limited::new(body, LARGEST_BODY);
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => into.extend_from_slice(&data),
            // Trailers.
            Ok(Err(_)) => {}
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(KubeError::Unexpected {
                    what: what.to_owned(),
                    problem: format!("it is larger than {} MiB", LARGEST_BODY >> 20),
                });
            }
            Err(_) => return Err(broken(what)),
        }
    }
    Ok(())
}

fn broken(what: &str) -> KubeError {
    KubeError::Unavailable {
        problem: format!("the connection broke while {what} was read"),
    }
}

async fn send(
    client: &Client,
    path: &str,
    what: &str,
    into: &mut Vec<u8>,
) -> Result<HeaderMap, KubeError> {
    let (head, body) = begin(client, path, what).await?.into_parts();
    collect(body, what, into).await?;
    if head.status.is_success() {
        return Ok(head.headers);
    }
    Err(refusal(head.status, into, what))
}

/// What the API server's refusal means.
fn refusal(status: StatusCode, body: &[u8], what: &str) -> KubeError {
    let told: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = untrusted::line(&told.message, 400);
    let what = what.to_owned();
    match status {
        StatusCode::UNAUTHORIZED => KubeError::Unauthorized,
        StatusCode::FORBIDDEN => KubeError::Forbidden { what, message },
        StatusCode::NOT_FOUND => KubeError::NotFound { what },
        StatusCode::GONE => KubeError::Gone { what },
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => KubeError::Invalid {
            problem: format!("the cluster refuses the request for {what}: {message}"),
        },
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            KubeError::Unavailable {
                problem: format!("{what}: {status} {message}"),
            }
        }
        status => KubeError::Unexpected {
            what,
            problem: format!("{status} {message}"),
        },
    }
}

/// The body of an answer, piece by piece.
pub(super) struct Chunks {
    body: Body,
}

impl Chunks {
    /// The next piece, or nothing at the end.
    pub(super) async fn next(&mut self, what: &str) -> Result<Option<Bytes>, KubeError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers carry nothing for us.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(broken(what)),
            }
        }
    }
}

/// The chain of causes, except where it could quote credentials.
fn explain(error: &kube::Error) -> KubeError {
    match error {
        kube::Error::Auth(_) => {
            access("the credential plugin failed or its credentials cannot be used")
        }
        kube::Error::InferKubeconfig(error) => explain_kubeconfig(error),
        other => {
            // The outermost text only says which layer of kube it came through.
            let mut cause = other.source();
            let mut problem = String::new();
            while let Some(error) = cause {
                let text = error.to_string();
                if !problem.contains(&text) {
                    problem = if problem.is_empty() {
                        text
                    } else {
                        format!("{problem}: {text}")
                    };
                }
                cause = error.source();
            }
            KubeError::Unavailable {
                problem: untrusted::line(&problem, 300),
            }
        }
    }
}
