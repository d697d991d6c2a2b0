//! How this executor is doing: for the page (heartbeat), for probes and for Prometheus.

use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use countersign_listener::Bounds;
use countersign_telemetry::Metrics;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Counter: statements made.
pub const ADMISSIONS_TOTAL: &str = "countersign_admissions_total";

/// What keeps approved work from running, by where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Starting,
    Database,
    Cluster,
    /// Nothing at all is claimed while this one is wrong.
    Clock,
    Rules,
    Freeze,
}

/// The problems of now. Empty is well.
#[derive(Debug, Default)]
pub struct Status {
    problems: Mutex<std::collections::BTreeMap<Part, String>>,
}

impl Status {
    /// Sets or clears the problem of a part; logs it when it is new.
    pub fn set(&self, part: Part, problem: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(sentence) => {
                let before = problems.insert(part, sentence.clone());
                if before.is_none() && part != Part::Starting {
                    tracing::warn!(?part, problem = sentence, "approved work cannot run");
                }
            }
            None => {
                if problems.remove(&part).is_some() && part != Part::Starting {
                    tracing::info!(?part, "well again");
                }
            }
        }
    }

    /// Whether this part has a problem now.
    pub fn is_set(&self, part: Part) -> bool {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.contains_key(&part)
    }

    /// `ok`, or sentences that say why approved work cannot run now.
    pub fn sentence(&self) -> String {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problems.is_empty() {
            true => "ok".to_owned(),
            false => problems.values().cloned().collect::<Vec<_>>().join("; "),
        }
    }
}

#[derive(Clone)]
struct Shared {
    status: Arc<Status>,
    metrics: Metrics,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until stopped.
pub async fn serve(
    listener: tokio::net::TcpListener,
    status: Arc<Status>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let app = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(async |State(shared): State<Shared>| {
                (
                    [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)],
                    shared.metrics.render(),
                )
            }),
        )
        .with_state(Shared { status, metrics });
    // Asked by the kubelet and Prometheus, and by nobody else.
    let bounds = Bounds {
        connections: 64,
        per_peer: 32,
        ..Bounds::default()
    };
    countersign_listener::serve(listener, app, bounds, stop).await;
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let sentence = shared.status.sentence();
    let status = match sentence.as_str() {
        "ok" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{sentence}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_and_none_is_ok() {
        let status = Status::default();
        assert_eq!(status.sentence(), "ok");
        status.set(Part::Rules, Some("the policy is not valid".to_owned()));
        status.set(Part::Database, Some("the database is gone".to_owned()));
        assert_eq!(
            status.sentence(),
            "the database is gone; the policy is not valid"
        );
        assert!(status.is_set(Part::Rules) && !status.is_set(Part::Clock));
        status.set(Part::Rules, None);
        status.set(Part::Database, None);
        assert_eq!(status.sentence(), "ok");
    }

    #[tokio::test]
    async fn half_a_request_keeps_no_connection() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let metrics = Metrics::install().unwrap();
        tokio::spawn(serve(listener, Arc::default(), metrics, stop));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let mut rest = Vec::new();
        let closed = stream.read_to_end(&mut rest);
        let closed = tokio::time::timeout(std::time::Duration::from_secs(60), closed).await;
        closed.expect("still open").unwrap();
    }
}
