//! One loopback HTTP/1.1 server: binds, answers, marks every answer as simulated, stops at once.
//!
//! The connection loop is our own because a fault to play is "the answer was lost": the effect
//! happened, the connection closed, no byte came back. A handler asks for that with [`HangUp`].

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::StartError;

pub const SERVER_HEADER: &str = "countersign-playground (simulated)";

/// Response extension: close the connection without an answer.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

/// An answer that will never be sent.
pub fn hang_up() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

/// A server that is answering. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    connections: Option<JoinHandle<()>>,
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A token that is cancelled when the server stops; background work ends with it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Closes the listener and every connection, then returns.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(connections) = self.connections.take() {
            let _ = connections.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Binds `listen`, which must be a loopback address: the playground's credentials guard nothing
/// that may be shown to a network.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, StartError> {
    if !listen.ip().is_loopback() {
        return Err(StartError::NotLoopback(listen));
    }
    TcpListener::bind(listen)
        .await
        .map_err(|source| StartError::Bind { listen, source })
}

/// Starts to answer on `listener`.
pub fn spawn(
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
) -> Result<Running, StartError> {
    let address = listener.local_addr().map_err(StartError::Address)?;
    let connections = tokio::spawn(accept(listener, app, stop.clone()));
    Ok(Running {
        address,
        stop,
        connections: Some(connections),
    })
}

async fn accept(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(converse(stream, app.clone()));
                }
                // Out of file descriptors, most likely: give the others a moment to finish.
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

async fn converse(stream: tokio::net::TcpStream, app: Router) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let app = app.clone();
        async move {
            let answered: Result<_, Infallible> = app.oneshot(request.map(Body::new)).await;
            let mut response = match answered {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<HangUp>().is_some() {
                return Err(std::io::Error::other("playing a lost answer"));
            }
            response
                .headers_mut()
                .insert(header::SERVER, HeaderValue::from_static(SERVER_HEADER));
            Ok(response)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
