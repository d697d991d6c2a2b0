//! An HTTP/1.1 listener that strangers cannot exhaust: connections are counted, in all and of each
//! peer, a request's head has bounds in time and size, and an answer has to be taken. A body's bounds are
//! for whoever reads it, with [`whole`]; how long an answer takes to make is nobody's business here.

mod answer;
mod body;
mod crowd;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use answer::Answer;
pub use body::{Incomplete, whole};
use crowd::{Crowd, Seat};

/// Largest head of a request; a larger one is answered 431.
const LARGEST_HEAD: usize = 64 * 1024;
/// Until a connection that was of use has the next request's head. Longer than proxies keep theirs
/// (60 s): else they would send a request into one that is just being closed.
const IDLE: Duration = Duration::from_secs(75);
/// After an error that is not one connection's own, such as no descriptor being left.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections are turned away by the thousand or not at all: one line in this time says so.
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open at once, in all. Each is a file descriptor, and at worst a head's size of memory.
    pub connections: usize,
    /// Of these, those of one peer: an IPv4 address, or one network of IPv6 addresses.
    pub per_peer: usize,
    /// Until a new connection has sent its first head.
    pub first_head: Duration,
    /// Until a peer that takes nothing of its answer is given up.
    pub untaken: Duration,
}

impl Default for Bounds {
    /// Leaves some of the 1,024 descriptors that a process often has for everything else.
    fn default() -> Self {
        Self {
            connections: 900,
            per_peer: 300,
            first_head: Duration::from_secs(10),
            untaken: Duration::from_secs(20),
        }
    }
}

/// Serves until `stop` is cancelled; then takes no more connections, and ends when every answer that
/// was begun is sent. Handlers find the peer as [`ConnectInfo`].
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    // Made into what serves once, and not for each request.
    let router: Router = router.with_state(());
    let crowd = Crowd::new(bounds.connections, bounds.per_peer);
    let connections = TaskTracker::new();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_its_own(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "connections cannot be taken now");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(seat) = crowd.enter(network_of(peer.ip())) else {
            if told.is_none_or(|at| at.elapsed() > TOLD_EVERY) {
                told = Some(Instant::now());
                tracing::warn!(%peer, "a connection was turned away: too many are open and none is idle");
            }
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(connection(stream, peer, seat, router, bounds, stop));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The peer went away again before it was taken.
fn is_its_own(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let first_head = async {
        sleep(bounds.first_head).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let answer = service_fn(|mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        let (answer, _busy) = (router.clone().call(request), seat.busy());
        async {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _busy }))
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.untaken));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer);
    let (mut served, mut first_head) = (pin!(served), pin!(first_head));
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            // Idle when it was told. Its descriptor is wanted now, also where it did not take its answer.
            () = seat.leave.cancelled() => return,
            // Errors are the peer's: it broke off, or does not speak HTTP.
            _ = served.as_mut() => return,
            () = first_head.as_mut() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What stands for an address when somebody is counted: whoever has one IPv6 address has 2^64 at
/// least, and at home usually 256 times as many (RIPE-690: a /56).
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 72 << 72).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::network_of;

    #[test]
    fn one_network_is_one_peer() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:ff::2"));
        assert_ne!(of("2001:db8:0:100::1"), of("2001:db8::1"));
        assert_eq!(of("::ffff:10.0.0.2"), of("10.0.0.2"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
