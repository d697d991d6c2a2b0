//! The audit row that every tool call leaves. Rows of reads are written in batches of at most
//! 100 ms or 500 rows; rows of proposals and cancellations before the answer leaves.

use std::time::Duration;

use countersign_domain::AuditEvent;
use countersign_store::ServerStore;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// A batch is written this long after its first row, at the latest.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
const LARGEST_BATCH: usize = 500;
/// Rows that may wait. When the database cannot keep up, calls wait here: no call without a row.
const QUEUE: usize = 4 * LARGEST_BATCH;
/// How often a batch is tried before its rows go to the log instead.
const ATTEMPTS: u32 = 5;

enum Message {
    Row(Box<AuditEvent>),
    Flush(oneshot::Sender<()>),
}

/// Takes rows. Cheap to clone; one task behind all clones.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Message>,
    store: ServerStore,
}

impl Recorder {
    /// Starts the writing task; it ends when the last clone is gone.
    #[must_use]
    pub fn start(store: ServerStore) -> Self {
        let (queue, rows) = mpsc::channel(QUEUE);
        tokio::spawn(write_batches(store.clone(), rows));
        Self { queue, store }
    }

    /// Hands a row over for the next batch.
    pub async fn soon(&self, event: AuditEvent) {
        if let Err(lost) = self.queue.send(Message::Row(Box::new(event))).await
            && let Message::Row(event) = lost.0
        {
            to_the_log(&event);
        }
    }

    /// Writes a row and returns when it is durable.
    ///
    /// # Errors
    /// The store did not take it: the call must not be answered as if it had.
    pub async fn now(&self, event: AuditEvent) -> Result<(), countersign_store::StoreError> {
        self.store.audit(event).await
    }

    /// Returns when every row handed over before is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

async fn write_batches(store: ServerStore, mut rows: mpsc::Receiver<Message>) {
    let mut batch: Vec<AuditEvent> = Vec::with_capacity(LARGEST_BATCH);
    let mut flushed: Vec<oneshot::Sender<()>> = Vec::new();
    while let Some(first) = rows.recv().await {
        let until = Instant::now() + LONGEST_WAIT;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Row(event) => batch.push(*event),
                Message::Flush(done) => flushed.push(done),
            }
            if batch.len() >= LARGEST_BATCH || !flushed.is_empty() {
                break;
            }
            next = timeout_at(until, rows.recv()).await.ok().flatten();
        }
        write(&store, &batch).await;
        batch.clear();
        for done in flushed.drain(..) {
            let _ = done.send(());
        }
    }
}

async fn write(store: &ServerStore, batch: &[AuditEvent]) {
    if batch.is_empty() {
        return;
    }
    let mut pause = Duration::from_millis(100);
    for attempt in 1..=ATTEMPTS {
        match store.audit_batch(batch).await {
            Ok(()) => return,
            Err(error) if attempt == ATTEMPTS => {
                tracing::error!(rows = batch.len(), %error, "audit rows could not be stored; they follow in the log");
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    batch.iter().for_each(to_the_log);
}

/// The last resort: redacted like the row itself.
fn to_the_log(event: &AuditEvent) {
    let row = serde_json::to_string(event).unwrap_or_default();
    tracing::error!(%row, "audit row not stored");
}
