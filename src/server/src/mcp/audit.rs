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
/// How often rows are tried, in one and a half seconds, before they go to the log instead.
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
        Self::with_wait(store, LONGEST_WAIT)
    }

    fn with_wait(store: ServerStore, longest_wait: Duration) -> Self {
        let (queue, rows) = mpsc::channel(QUEUE);
        tokio::spawn(write_batches(store.clone(), rows, longest_wait));
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
    /// The store did not take it, and it went to the log: the call must not be answered as if it had.
    pub async fn now(&self, event: AuditEvent) -> Result<(), NotStored> {
        write(&self.store, &[event]).await
    }

    /// Returns when every row handed over before is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

/// The rows stand in the log, and nowhere else.
#[derive(Debug)]
pub struct NotStored;

async fn write_batches(
    store: ServerStore,
    mut rows: mpsc::Receiver<Message>,
    longest_wait: Duration,
) {
    let mut batch: Vec<AuditEvent> = Vec::with_capacity(LARGEST_BATCH);
    let mut flushed: Vec<oneshot::Sender<()>> = Vec::new();
    while let Some(first) = rows.recv().await {
        let until = Instant::now() + longest_wait;
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
        // Its rows went to the log: there is nobody to tell.
        let _ = write(&store, &batch).await;
        batch.clear();
        for done in flushed.drain(..) {
            let _ = done.send(());
        }
    }
}

async fn write(store: &ServerStore, batch: &[AuditEvent]) -> Result<(), NotStored> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut pause = Duration::from_millis(100);
    for attempt in 1..=ATTEMPTS {
        match store.audit_batch(batch).await {
            Ok(()) => return Ok(()),
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
    Err(NotStored)
}

/// The last resort: redacted like the row itself.
fn to_the_log(event: &AuditEvent) {
    let row = serde_json::to_string(event).unwrap_or_default();
    tracing::error!(%row, "audit row not stored");
}

#[cfg(test)]
mod tests {
    use countersign_domain::{Author, Clock as _, EventName, OsEntropy, SystemClock};
    use countersign_store::{AuditFilter, Database, OpenOptions};

    use super::*;

    async fn store(folder: &tempfile::TempDir) -> ServerStore {
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let options = OpenOptions {
            create: true,
            migrate: true,
            ..OpenOptions::default()
        };
        Database::open(&url, options).await.unwrap().server()
    }

    fn row() -> AuditEvent {
        let (author, name) = (Author::Server, EventName::ToolCalled);
        AuditEvent::new(SystemClock.now(), &OsEntropy, author, name, "claude")
    }

    async fn stored(store: &ServerStore) -> usize {
        let (mut all, mut before_seq) = (0, None);
        loop {
            let filter = AuditFilter {
                limit: 500,
                before_seq,
                ..AuditFilter::default()
            };
            let page = store.audit_list(&filter).await.unwrap();
            all += page.len();
            match page.last() {
                Some(last) => before_seq = Some(last.seq),
                None => return all,
            }
        }
    }

    /// Waits until there is any row, and says how many there are.
    async fn first_batch(store: &ServerStore) -> usize {
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            let count = stored(store).await;
            if count > 0 {
                return count;
            }
            assert!(Instant::now() < give_up, "no batch was written");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_full_batch_is_written_without_waiting_for_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let recorder = Recorder::with_wait(store.clone(), Duration::from_secs(3600));
        for _ in 0..=LARGEST_BATCH {
            recorder.soon(row()).await;
        }
        // The one that was too many waits for its time, or for the end.
        assert_eq!(first_batch(&store).await, LARGEST_BATCH);
        recorder.flush().await;
        assert_eq!(stored(&store).await, LARGEST_BATCH + 1);
    }

    #[tokio::test]
    async fn a_lone_row_is_written_when_its_time_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let recorder = Recorder::start(store.clone());
        recorder.soon(row()).await;
        assert_eq!(first_batch(&store).await, 1);
    }
}
