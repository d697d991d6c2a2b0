//! Receives what the workers send to people, over real HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::harness::serve;

/// One HTTP request that a receiver got.
#[derive(Debug, Clone)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers with the statuses given, one after the other, then with 200.
#[derive(Clone, Default)]
pub struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
    retry_after: Option<&'static str>,
}

impl Receiver {
    /// Starts it; the address comes back.
    pub async fn start(answers: &[StatusCode]) -> (Self, String) {
        Self::default().serve(answers).await
    }

    /// One that asks with every answer for this pause.
    pub async fn start_slow(answers: &[StatusCode], pause: &'static str) -> (Self, String) {
        let receiver = Self {
            retry_after: Some(pause),
            ..Self::default()
        };
        receiver.serve(answers).await
    }

    async fn serve(self, answers: &[StatusCode]) -> (Self, String) {
        let receiver = self;
        receiver
            .answers
            .lock()
            .unwrap()
            .extend(answers.iter().rev());
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(receiver.clone());
        (receiver, format!("{}/hook", serve(router).await))
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    receiver.got.lock().unwrap().push(Got { headers, body });
    let status = receiver.answers.lock().unwrap().pop();
    let pause = receiver
        .retry_after
        .map(|pause| (RETRY_AFTER, pause.parse().unwrap()));
    (
        status.unwrap_or(StatusCode::OK),
        HeaderMap::from_iter(pause),
    )
}
