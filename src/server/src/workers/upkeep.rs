//! Small regular work on the store: sessions that ran out, webhooks that were done long ago. (The
//! gauges of `/metrics` are read when they are asked for.)

use std::sync::Arc;
use std::time::Duration;

use super::Context;

const EVERY: Duration = Duration::from_secs(60);

pub(super) async fn run(context: Arc<Context>) {
    let app = &context.app;
    loop {
        match app.store.sessions_sweep(app.clock.now()).await {
            Ok(0) => {}
            Ok(gone) => tracing::debug!(gone, "sessions ran out"),
            Err(error) => tracing::warn!(%error, "old sessions could not be deleted"),
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
