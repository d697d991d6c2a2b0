//! The kubelet's log endpoint, which the API server asks for `pods/log`.
//!
//! Stateless: a log follows from the pod as the API has it. What it says can be
//! set by the annotation [`LOG_ANNOTATION`], so that tests can put anything into it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::api::Api;

/// On a pod: the text of every container's log, instead of a made-up one.
pub const LOG_ANNOTATION: &str = "fake.countersign.dev/log";

const HEAD_LIMIT: usize = 16 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Listens on a free port of 127.0.0.1.
pub(crate) struct LogServer {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl LogServer {
    pub(crate) async fn bind(certificate: &Path, key: &Path) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(key)?;
        // Named, because the process may have no default provider installed.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            listener,
            tls: TlsAcceptor::from(Arc::new(config)),
        })
    }

    pub(crate) fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    pub(crate) async fn run(&self, api: Api, now: fn() -> Timestamp) {
        loop {
            let Ok((connection, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (api, tls) = (api.clone(), self.tls.clone());
            tokio::spawn(async move {
                let served = serve(connection, &tls, &api, now());
                match tokio::time::timeout(REQUEST_LIMIT, served).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("fake kubelet's log endpoint: {error:#}"),
                    Err(_) => tracing::debug!("fake kubelet's log endpoint: too slow a client"),
                }
            });
        }
    }
}

/// One request per connection; the only client is the API server.
async fn serve(connection: TcpStream, tls: &TlsAcceptor, api: &Api, now: Timestamp) -> Result<()> {
    let mut stream = tls.accept(connection).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split_whitespace().nth(1).context("no request line")?;
    let (status, body) = match answer(target, api, now).await {
        Ok(log) => ("200 OK", log),
        Err(refusal) => (refusal.status, refusal.message),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

struct Refusal {
    status: &'static str,
    message: String,
}

/// `target` is `/containerLogs/<namespace>/<pod>/<container>?<options>`.
async fn answer(target: &str, api: &Api, now: Timestamp) -> Result<String, Refusal> {
    let not_found = |message: String| Refusal {
        status: "404 Not Found",
        message,
    };
    let bad = |message: String| Refusal {
        status: "400 Bad Request",
        message,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.split('/').collect();
    let ["", "containerLogs", namespace, name, container] = parts[..] else {
        return Err(not_found(format!(
            "the fake kubelet has only logs, not {path}"
        )));
    };
    let option = |key: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
    };
    let is_set = |key: &str| option(key).is_some_and(|(_, value)| value == "true");
    let number = |key: &str| option(key).and_then(|(_, value)| value.parse::<usize>().ok());

    let pod = api
        .get(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))
        .await;
    let pod = pod
        .ok()
        .filter(|reply| reply.status == 200)
        .map(|reply| reply.body);
    let pod = pod.ok_or_else(|| not_found(format!("pod {namespace}/{name} not found")))?;
    let status = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == container)
        .ok_or_else(|| not_found(format!("container {container} not found in pod {name}")))?;

    let last = &status["lastState"]["terminated"];
    let ended = if is_set("previous") || status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    {
        if last.is_null() {
            let what = format!("previous terminated container \"{container}\" in pod \"{name}\"");
            return Err(bad(format!("{what} not found")));
        }
        Some(last)
    } else if let Some(reason) = status["state"]["waiting"]["reason"].as_str() {
        let what = format!("container \"{container}\" in pod \"{name}\"");
        return Err(bad(format!("{what} is waiting to start: {reason}")));
    } else {
        Some(&status["state"]["terminated"]).filter(|state| !state.is_null())
    };

    let end = ended
        .and_then(|state| state["finishedAt"].as_str()?.parse::<Timestamp>().ok())
        .unwrap_or(now);
    let text = match pod["metadata"]["annotations"][LOG_ANNOTATION].as_str() {
        Some(text) => text.to_owned(),
        None => made_up(container, ended),
    };
    let all: Vec<&str> = text.lines().collect();
    let mut lines: Vec<(Timestamp, &str)> = all
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let age = i64::try_from(all.len() - 1 - index).unwrap_or(i64::MAX);
            (end - SignedDuration::from_secs(age), *line)
        })
        .collect();
    if let Some(seconds) = number("sinceSeconds") {
        let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        lines.retain(|(time, _)| now.duration_since(*time) <= age);
    }
    if let Some(tail) = number("tailLines") {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let stamped = is_set("timestamps");
    let mut log = String::new();
    for (time, line) in lines {
        if stamped {
            log.push_str(&format!("{time:.9} "));
        }
        log.push_str(line);
        log.push('\n');
    }
    if let Some(limit) = number("limitBytes") {
        // A kubelet cuts at the byte; here at the character before it, to stay a String.
        log.truncate(log.floor_char_boundary(limit));
    }
    Ok(log)
}

fn made_up(container: &str, ended: Option<&Value>) -> String {
    let mut lines = vec![
        format!("level=info msg=\"starting {container}\" version=1.4.2"),
        "level=info msg=\"configuration read\" path=/etc/app/config.yaml".to_owned(),
    ];
    match ended.map(|state| (&state["reason"], &state["exitCode"])) {
        None => lines.push("level=info msg=listening address=:8080".into()),
        Some((_, code)) if *code == 0 => lines.push("level=info msg=done".into()),
        Some((reason, _)) if reason == "OOMKilled" => {
            // The kernel kills without a word from the process.
            lines.push("level=info msg=\"loading catalogue into memory\" items=4812337".into());
        }
        Some(_) => {
            lines.push("level=error msg=\"database: connection refused\" attempt=3".into());
            lines.push("level=fatal msg=\"cannot start without a database\"".into());
        }
    }
    lines.join("\n")
}
