//! Receives notifications, as a chat tool or a webhook of the user's own would.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Received {
    /// `webhook` or `slack`.
    pub kind: String,
    pub headers: HeaderMap,
    pub raw: Bytes,
    pub body: Value,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    all: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self {
            url: format!("http://{}", listener.local_addr()?),
            all: Arc::default(),
        };
        let router = Router::new()
            .route("/{kind}", post(receive))
            .with_state(Arc::clone(&receiver.all));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(receiver)
    }

    pub fn all(&self) -> Vec<Received> {
        self.all.lock().map(|all| all.clone()).unwrap_or_default()
    }

    /// Waits for a message that fits.
    pub async fn until(
        &self,
        within: Duration,
        fits: impl Fn(&Received) -> bool,
    ) -> Result<Received> {
        let start = Instant::now();
        loop {
            if let Some(found) = self.all().into_iter().find(|received| fits(received)) {
                return Ok(found);
            }
            if start.elapsed() > within {
                bail!(
                    "no such notification within {within:?}; {} arrived",
                    self.all().len()
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

async fn receive(
    State(all): State<Arc<Mutex<Vec<Received>>>>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    raw: Bytes,
) {
    let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    if let Ok(mut all) = all.lock() {
        all.push(Received {
            kind,
            headers,
            raw,
            body,
        });
    }
}
