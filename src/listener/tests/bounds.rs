//! The listener over real connections: what it turns away, what it ends, and what it never cuts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::routing::{get, post};
use countersign_listener::{Bounds, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Whatever is to happen has happened by then, on any machine.
const SOON: Duration = Duration::from_secs(30);
const WHOLE: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// A slow answer was begun.
    begun: Arc<Notify>,
    /// Requests that were answered.
    answered: Arc<AtomicUsize>,
}

async fn start(bounds: Bounds) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let slow = async move || {
        begins.notify_one();
        sleep(Duration::from_millis(1500)).await;
        "late"
    };
    let unread = async || {
        yield_now().await;
        StatusCode::NO_CONTENT
    };
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let router = Router::new()
        .route("/", get(peer))
        .route("/slow", get(slow))
        .route("/unread", post(unread))
        .route("/large", get(async || vec![b'x'; 64 << 20]))
        .layer(from_fn(move |request: Request, next: Next| {
            count.fetch_add(1, Ordering::Relaxed);
            next.run(request)
        }));
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, bounds, stop.clone()));
    Served {
        address,
        stop,
        task,
        begun,
        answered,
    }
}

impl Served {
    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// What a peer is answered; nothing when it is turned away.
    async fn ask(&self, from: &str) -> String {
        let mut stream = self.connect(from).await;
        let close = WHOLE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        stream.write_all(close.as_bytes()).await.ok();
        rest(&mut stream).await
    }
}

/// Everything until the other end closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut text)).await;
    // Closed with something unread in it, a connection ends by a reset.
    read.expect("the connection is still open").ok();
    String::from_utf8(text).unwrap()
}

/// Reads until the text has arrived.
async fn until(stream: &mut TcpStream, text: &str) {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let more = timeout(SOON, stream.read_buf(&mut read)).await;
        assert_ne!(more.unwrap().unwrap(), 0, "closed before `{text}`");
    }
}

#[tokio::test]
async fn an_unfinished_head_is_given_up_and_a_long_answer_is_not() {
    let served = start(Bounds {
        first_head: Duration::from_millis(300),
        ..Bounds::default()
    })
    .await;
    let mut silent = served.connect("127.0.0.1").await;
    let mut half = served.connect("127.0.0.1").await;
    half.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut slow = served.connect("127.0.0.1").await;
    slow.write_all(SLOW.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut half).await, "");
    assert_eq!(rest(&mut silent).await, "");
    until(&mut slow, "late").await;
    // And the connection goes on.
    slow.write_all(WHOLE.as_bytes()).await.unwrap();
    until(&mut slow, "127.0.0.1").await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let served = start(Bounds {
        first_head: Duration::from_secs(3600),
        ..Bounds::default()
    })
    .await;
    let mut stream = served.connect("127.0.0.1").await;
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    stream.write_all(&[b'x'; 100_000]).await.ok();
    rest(&mut stream).await;
}

#[tokio::test]
async fn one_peer_cannot_take_all_connections() {
    let served = start(Bounds {
        connections: 5,
        per_peer: 3,
        ..Bounds::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = served.connect("127.0.0.1").await;
        stream.write_all(SLOW.as_bytes()).await.unwrap();
        timeout(SOON, served.begun.notified()).await.unwrap();
        held.push(stream);
    }
    assert_eq!(served.ask("127.0.0.1").await, "", "its share is used up");
    assert!(served.ask("127.0.0.2").await.ends_with("127.0.0.2"));
    // Once one of them has its answer it may go for the next.
    for stream in &mut held {
        until(stream, "late").await;
    }
    assert!(served.ask("127.0.0.1").await.ends_with("127.0.0.1"));
    assert_eq!(rest(&mut held[0]).await, "", "idle for longest");
    held[1].write_all(WHOLE.as_bytes()).await.unwrap();
    until(&mut held[1], "127.0.0.1").await;
}

#[tokio::test]
async fn who_is_idle_makes_room_for_others() {
    let served = start(Bounds {
        connections: 3,
        per_peer: 2,
        ..Bounds::default()
    })
    .await;
    let mut held = Vec::new();
    for from in ["127.0.0.1", "127.0.0.2", "127.0.0.2"] {
        let mut stream = served.connect(from).await;
        stream.write_all(WHOLE.as_bytes()).await.unwrap();
        until(&mut stream, from).await;
        held.push(stream);
    }
    assert!(served.ask("127.0.0.3").await.ends_with("127.0.0.3"));
    assert_eq!(rest(&mut held[1]).await, "", "of those who had most");
    for (index, from) in [(0, "127.0.0.1"), (2, "127.0.0.2")] {
        held[index].write_all(WHOLE.as_bytes()).await.unwrap();
        until(&mut held[index], from).await;
    }
    // Also who connected and has said nothing yet.
    let served = start(Bounds {
        connections: 1,
        first_head: Duration::from_secs(3600),
        ..Bounds::default()
    })
    .await;
    let mut silent = served.connect("127.0.0.1").await;
    assert!(served.ask("127.0.0.2").await.ends_with("127.0.0.2"));
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_given_up() {
    let served = start(Bounds {
        untaken: Duration::from_millis(300),
        ..Bounds::default()
    })
    .await;
    let ask = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut idle = served.connect("127.0.0.1").await;
    idle.write_all(ask.as_bytes()).await.unwrap();
    let mut slow = served.connect("127.0.0.1").await;
    slow.write_all(ask.as_bytes()).await.unwrap();
    // Slower than the answer is made, but it goes on.
    let mut taken = 0;
    let mut buffer = vec![0; 8 << 20];
    while taken < 64 << 20 {
        sleep(Duration::from_millis(100)).await;
        let read = timeout(SOON, slow.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(read, 0, "given up after {taken} bytes");
        taken += read;
    }
    // What is in the sockets' buffers may still come; not all of the answer.
    assert!(rest(&mut idle).await.len() < 32 << 20);
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun_and_waits_for_nothing_else() {
    let served = start(Bounds::default()).await;
    let mut idle = served.connect("127.0.0.1").await;
    idle.write_all(WHOLE.as_bytes()).await.unwrap();
    until(&mut idle, "127.0.0.1").await;
    let mut slow = served.connect("127.0.0.1").await;
    slow.write_all(SLOW.as_bytes()).await.unwrap();
    timeout(SOON, served.begun.notified()).await.unwrap();
    served.stop.cancel();
    assert!(rest(&mut slow).await.ends_with("late"));
    assert_eq!(rest(&mut idle).await, "");
    timeout(SOON, served.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

/// Whoever asks without end and takes no answer is read no further once the sockets are full, also
/// where an answer has no body, or where nobody read the request's.
#[tokio::test]
async fn answers_that_nobody_takes_do_not_pile_up() {
    tokio::join!(
        stands_still(WHOLE),
        stands_still("HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
        stands_still("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
        stands_still("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
    );
}

async fn stands_still(request: &str) {
    let served = start(Bounds::default()).await;
    let mut stream = served.connect("127.0.0.1").await;
    let many = request.repeat(1000);
    let flood = async { while stream.write_all(many.as_bytes()).await.is_ok() {} };
    let no_more_answers = async {
        let mut before = 0;
        loop {
            sleep(Duration::from_secs(1)).await;
            let answered = served.answered.load(Ordering::Relaxed);
            if answered > 0 && answered == before {
                break;
            }
            before = answered;
        }
    };
    let both = async {
        tokio::select! {
            () = flood => panic!("the connection was ended"),
            () = no_more_answers => {}
        }
    };
    timeout(SOON, both).await.expect("answers pile up");
}
