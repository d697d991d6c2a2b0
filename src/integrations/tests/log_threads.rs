//! A large log does not hold up the threads that answer everybody else.

#![expect(clippy::unwrap_used, reason = "a failure here is the test failing")]

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use countersign_integrations::kubernetes::{KubeReader, LogPart};
use countersign_integrations::logs::{Pattern, Wanted};
use serde_json::json;

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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ctx",
        "clusters": [{"name": "c", "cluster": {"server": serve(lines(1 << 20))}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "ctx", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let reader = KubeReader::from_kubeconfig(Some(&path), None);
    let part = LogPart {
        container: "app".to_owned(),
        previous: false,
        since_seconds: None,
        tail_lines: 20_000,
    };
    let wanted = Wanted {
        grep: Some(Pattern::new("checkout.*request 7$").unwrap()),
        context: 0,
        before: None,
        most_bytes: 4 << 10,
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
