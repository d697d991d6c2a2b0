//! Receives what the workers send to people, over real HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
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
}

impl Receiver {
    /// Starts it; the address comes back.
    pub async fn start(answers: &[StatusCode]) -> (Self, String) {
        let receiver = Self::default();
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

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.got.lock().unwrap().push(Got { headers, body });
    receiver
        .answers
        .lock()
        .unwrap()
        .pop()
        .unwrap_or(StatusCode::OK)
}
