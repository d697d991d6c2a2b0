//! One listener: MCP, pages, the Jira webhook, health and metrics; and an orderly end.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign_listener::Bounds;
use countersign_telemetry::{Metrics, metric};
use futures::future::OptionFuture;
use http::{StatusCode, header};
use metrics::gauge;
use tokio::net::{TcpListener, UnixListener};

use crate::app::SharedApp;
use crate::mcp::audit::Recorder;
use crate::{mcp, rules, web, workers};

/// From the signal to the end of the process, at most.
const GRACE: Duration = Duration::from_secs(15);
/// An executor that was silent for longer than this is said to be away.
const SILENT: i64 = 30;

/// What is served where, and what has to be flushed when serving ends.
pub struct Assembled {
    pub everybody: Router,
    /// MCP alone.
    pub local: Router,
    pub recorder: Recorder,
}

pub fn assemble(app: &SharedApp) -> Assembled {
    let mcp = mcp::endpoint(app.clone());
    let own = Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .layer(from_fn_with_state(app.clone(), only_our_hosts))
        .route("/healthz", get(healthz))
        .with_state(app.clone());
    let everybody = web::router(app.clone())
        .merge(workers::webhook_router(app.clone()))
        .merge(mcp.router.clone())
        .merge(own);
    Assembled {
        everybody,
        local: mcp.router,
        recorder: mcp.recorder,
    }
}

/// Serves until `app.shutdown` is cancelled; then stops accepting, finishes the answers that were
/// begun and what the workers hold, and writes the last audit rows. The store stays open: it
/// belongs to the caller. On the socket, if there is one, only MCP answers.
pub async fn serve(
    app: SharedApp,
    listener: TcpListener,
    socket: Option<UnixListener>,
) -> std::io::Result<()> {
    let Assembled {
        everybody,
        local,
        recorder,
    } = assemble(&app);
    let workers = tokio::spawn(workers::run(app.clone()));
    let rules = tokio::spawn(rules::follow(app.clone()));
    let http = &app.loaded.config.http;
    let bounds = Bounds {
        connections: http.connections as usize,
        per_peer: http.connections_per_peer as usize,
        ..Bounds::default()
    };
    let stop = app.shutdown.clone();
    let everybody = countersign_listener::serve(listener, everybody, bounds, stop);
    let stop = app.shutdown.clone().cancelled_owned();
    let local = socket.map(|socket| axum::serve(socket, local).with_graceful_shutdown(stop));
    let mut server = tokio::spawn(async move {
        let local = OptionFuture::from(local.map(IntoFuture::into_future));
        let ((), local) = tokio::join!(everybody, local);
        local.unwrap_or(Ok(()))
    });

    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = app.shutdown.cancelled() => None,
    };
    app.shutdown.cancel();
    let finish = async {
        let served = match ended {
            Some(ended) => ended,
            None => (&mut server).await,
        };
        let _ = tokio::join!(workers, rules);
        recorder.flush().await;
        served.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    };
    match tokio::time::timeout(GRACE, finish).await {
        Ok(served) => served,
        Err(_) => {
            tracing::warn!(
                "answers or workers did not finish within {} s",
                GRACE.as_secs()
            );
            server.abort();
            let _ = tokio::time::timeout(Duration::from_secs(1), recorder.flush()).await;
            Ok(())
        }
    }
}

/// The process runs and can write, or is on its way out. Says nothing about anything else: what a new
/// start would not mend is no reason for one.
async fn healthz(State(app): State<SharedApp>) -> Response {
    if app.store.is_closed() && !app.shutdown.is_cancelled() {
        tracing::error!("the store is closed; this process must be started anew");
        return (StatusCode::SERVICE_UNAVAILABLE, "the store is closed\n").into_response();
    }
    "ok\n".into_response()
}

/// Probes and scrapes name the address that they connect to. A web page in somebody's browser that
/// reaches us under a name of its own choice is not answered.
async fn only_our_hosts(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    if web::names_us(&app, &request) {
        return next.run(request).await;
    }
    let sentence = "this server does not answer to that host name: use its address, its \
                    `external_url` or a name of `http.allowed_hosts`\n";
    (StatusCode::MISDIRECTED_REQUEST, sentence).into_response()
}

/// Ready when the store answers. A silent executor is told, not an error: pages and reads still
/// serve, and proposals wait for it.
async fn readyz(State(app): State<SharedApp>) -> Response {
    let now = app.clock.now();
    if app.shutdown.is_cancelled() {
        return not_ready("shutting down");
    }
    let heartbeats = match app.store.heartbeats().await {
        Ok(heartbeats) => heartbeats,
        Err(error) => {
            tracing::error!(%error, "not ready");
            return not_ready("the database does not answer");
        }
    };
    let policy = app.rules().policy.hash().to_string();
    let executors: Vec<serde_json::Value> = heartbeats
        .iter()
        .map(|beat| {
            let age = now.duration_since(beat.at).as_secs();
            serde_json::json!({
                "cluster": beat.cluster,
                "executor": beat.executor,
                "seconds_ago": age,
                "alive": age <= SILENT,
                // The sentence names namespaces and causes: it stands on the pages.
                "status": if beat.status == "ok" { "ok" } else { "held" },
                "same_policy": beat.policy_hash == policy,
                "cluster_lock": beat.cluster_lock,
            })
        })
        .collect();
    let alive = |id: &String| {
        heartbeats
            .iter()
            .any(|beat| beat.cluster == *id && now.duration_since(beat.at).as_secs() <= SILENT)
    };
    let silent: Vec<&String> = app.clusters.keys().filter(|id| !alive(id)).collect();
    let body = serde_json::json!({
        "ready": true,
        "executors": executors,
        "clusters_without_executor": silent,
    });
    axum::Json(body).into_response()
}

fn not_ready(why: &str) -> Response {
    let body = serde_json::json!({ "ready": false, "message": why });
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}

async fn render_metrics(State(app): State<SharedApp>) -> Response {
    let Some(metrics) = &app.metrics else {
        return (
            StatusCode::NOT_FOUND,
            "metrics are not collected in this process\n",
        )
            .into_response();
    };
    let now = app.clock.now();
    let age =
        |at: Option<jiff::Timestamp>| at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    match app.store.gauges().await {
        Ok(gauges) => {
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            gauge!(metric::ACTIONS_PENDING).set(gauges.pending as f64);
            gauge!(metric::ACTION_OLDEST_PENDING_SECONDS).set(age(gauges.oldest_pending));
            for waiting in gauges.outbox {
                gauge!(metric::OUTBOX_OLDEST_SECONDS, "family" => waiting.family)
                    .set(age(waiting.oldest));
            }
        }
        Err(error) => tracing::warn!(%error, "the gauges could not be read"),
    }
    match app.store.heartbeats().await {
        Ok(heartbeats) => {
            for beat in heartbeats {
                let labels = [("cluster", beat.cluster), ("executor", beat.executor)];
                gauge!(metric::EXECUTOR_HEARTBEAT_AGE_SECONDS, &labels).set(age(Some(beat.at)));
            }
        }
        Err(error) => tracing::warn!(%error, "the heartbeats could not be read"),
    }
    (
        [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        metrics.render(),
    )
        .into_response()
}
