//! Logs: how they are asked for, and what reading a large one costs everybody else.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use countersign_integrations::kubernetes::{KubeReader, LogPart};
use countersign_integrations::logs::{Pattern, Wanted};
use serde_json::json;

use crate::api::{Api, TOKEN, kubeconfig, reader};

pub fn part(container: &str) -> LogPart {
    LogPart {
        container: container.to_owned(),
        previous: false,
        since_seconds: None,
        tail_lines: 1000,
    }
}

pub const EVERYTHING: Wanted = Wanted {
    grep: None,
    context: 0,
    before: None,
    most_bytes: 4096,
};

#[tokio::test]
async fn a_log_is_asked_for_in_the_words_of_the_api_and_made_safe() {
    let api = Api::default();
    let path = "/api/v1/namespaces/shop/pods/web/log";
    let query = "container=app&previous=true&timestamps=true&tailLines=5&limitBytes=8388609\
                 &sinceSeconds=60";
    api.on(
        &format!("{path}?{query}"),
        200,
        "2026-11-22T16:00:00.1Z one\n2026-11-22T16:00:01.1Z \u{1b}[2Jtwo password=x\n",
    );
    let (_dir, reader) = reader(&api).await;
    let asked = LogPart {
        previous: true,
        since_seconds: Some(60),
        tail_lines: 5,
        ..part("app")
    };
    let look = reader.pod_log("shop", "web", &asked, &EVERYTHING);
    let look = look.await.unwrap();
    assert_eq!(
        look.excerpt.text,
        "16:00:00 one\n16:00:01 two password=[redacted]"
    );
    assert!(!look.unfinished && look.tail_lines == 5);
}

#[tokio::test]
async fn where_lines_are_huge_fewer_are_asked_for_so_that_the_newest_count() {
    let api = Api::default();
    let path = "/api/v1/namespaces/shop/pods/web/log";
    let query = |tail: u32| {
        format!("{path}?container=app&timestamps=true&tailLines={tail}&limitBytes=8388609")
    };
    // 1000 lines of 20,000 bytes are 20 MB; 8 MiB hold 419 of them, and half of those fit.
    let lines = |count: usize| format!("{}\n", "y".repeat(19_999)).repeat(count);
    api.on(&query(1000), 200, lines(1000));
    api.on(&query(209), 200, format!("{}newest\n", lines(208)));
    let (_dir, reader) = reader(&api).await;
    let app = part("app");
    let look = reader.pod_log("shop", "web", &app, &EVERYTHING);
    let look = look.await.unwrap();
    assert!(!look.unfinished && look.excerpt.text.ends_with("newest"));
    assert_eq!((look.tail_lines, api.seen().len()), (209, 2));
}

/// Serves `log` for every path, on a thread of its own: this test watches the reader's thread.
fn serve(log: String) -> String {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let router = Router::new().fallback(get(move || async move { log.clone() }));
            axum::serve(listener, router).await.unwrap();
        });
    });
    format!("http://{}", address.recv().unwrap())
}

fn lines(bytes: usize) -> String {
    let line =
        "2026-11-22T02:00:00.000000000Z GET /checkout 500 user=anna password=hunter2 in 12ms";
    let mut log = String::new();
    for number in 0.. {
        if log.len() >= bytes {
            break;
        }
        log.push_str(&format!("{line} request {number}\n"));
    }
    log
}

#[tokio::test]
async fn a_large_log_is_masked_and_folded_off_the_runtimes_thread() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (_dir, path) = kubeconfig(&serve(lines(1 << 20)), &json!({"token": TOKEN}));
    let reader = KubeReader::from_kubeconfig(Some(&path), None);
    let part = LogPart {
        tail_lines: 20_000,
        ..part("app")
    };
    let wanted = Wanted {
        grep: Some(Pattern::new("checkout.*request 7$").unwrap()),
        ..EVERYTHING
    };
    // Connects.
    reader.readyz().await.unwrap();

    let metrics = tokio::runtime::Handle::current().metrics();
    let busy = || metrics.worker_total_busy_duration(0);
    let (began, before) = (Instant::now(), busy());
    let look = reader.pod_log("shop", "web", &part, &wanted).await.unwrap();
    // The last stretch is added when the thread has nothing to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (took, worked) = (began.elapsed(), busy() - before);
    assert_eq!(look.excerpt.matched, Some(1));
    assert!(look.excerpt.lines_read > 9_000 && !look.unfinished);
    assert!(worked * 4 < took, "busy for {worked:?} of {took:?}");
}
