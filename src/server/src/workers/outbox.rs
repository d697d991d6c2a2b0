//! Takes rows from the outbox and carries them out: in order for one action, several actions at
//! once. A row stays until it is done; one that fails is tried again and again, ever more rarely, and
//! holds up its own action and receiver only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::{AuditEvent, random_token};
use countersign_store::{OutboxItem, StoreError, Topic};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::notify::Receiver;
use super::{Context, ticket};

/// How often to look when nothing says that something changed.
const POLL: Duration = Duration::from_millis(500);
/// Commits come in bursts, and what matters then is the executor's work: one look for all of them.
const BURST: Duration = Duration::from_millis(25);
/// How long a row is ours. Longer than [`LONGEST`], so that nobody takes what is still in hand.
const LEASE: SignedDuration = SignedDuration::from_secs(75);
/// No row is worked on for longer than this in one go.
const LONGEST: Duration = Duration::from_secs(60);
/// No row waits longer for its next attempt, whatever the other side asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// What is in hand at shutdown gets this long.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Rows in hand at once, for tickets and for each receiver of notifications.
const AT_ONCE: usize = 4;

/// How a row ended: done, with the event that tells of it, or to be tried again.
pub(super) type Handled = Result<Option<AuditEvent>, Trouble>;

/// Why a row could not be carried out now. The text holds no secret: it is stored and shown.
#[derive(Debug)]
pub(super) struct Trouble {
    text: String,
    after: Option<Duration>,
}

impl Trouble {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            after: None,
        }
    }

    /// Not before this has passed: what the other side asked for.
    pub fn not_before(mut self, after: Option<Duration>) -> Self {
        self.after = self.after.max(after);
        self
    }

    /// Until the next attempt, after this many: our own schedule or what the other side asked for,
    /// at most [`LONGEST_WAIT`]: a receiver may not park an action's messages for years.
    pub fn wait(&self, attempts: u32) -> Duration {
        back_off(attempts.saturating_sub(1))
            .max(self.after.unwrap_or_default())
            .min(LONGEST_WAIT)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

/// A newer version wrote the row; a worker of that version will know it.
pub(super) fn unknown(moment: &str) -> Trouble {
    Trouble::new(format!("this version does not know the moment `{moment}`"))
}

/// Opens tickets and tells them the story.
pub(super) async fn tickets(context: Arc<Context>) {
    lane(context, &[Topic::TicketOpen, Topic::TicketUpdate]).await;
}

/// Tells people, each receiver for itself.
pub(super) async fn notifications(context: Arc<Context>) {
    tokio::join!(
        lane(Arc::clone(&context), &[Topic::NotifyWebhook]),
        lane(context, &[Topic::NotifySlack]),
    );
}

async fn lane(context: Arc<Context>, topics: &'static [Topic]) {
    let app = &context.app;
    let mut changes = app.store.changes();
    let mut running: JoinSet<()> = JoinSet::new();
    let mut in_hand: HashMap<tokio::task::Id, OutboxItem> = HashMap::new();
    while !app.shutdown.is_cancelled() {
        changes.mark_unchanged();
        let free = AT_ONCE - running.len();
        if free > 0 {
            for item in claim(&context, topics, free).await {
                let task = running.spawn(carry_out(Arc::clone(&context), item.clone()));
                in_hand.insert(task.id(), item);
            }
        }
        tokio::select! {
            () = app.shutdown.cancelled() => break,
            Some(ended) = running.join_next_with_id() => forget(&mut in_hand, &ended),
            changed = changes.changed() => {
                tokio::time::sleep(if changed.is_ok() { BURST } else { POLL }).await;
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
    let finish = async {
        while let Some(ended) = running.join_next_with_id().await {
            forget(&mut in_hand, &ended);
        }
    };
    if tokio::time::timeout(LAST_WORDS, finish).await.is_err() {
        running.shutdown().await;
    }
    for item in in_hand.into_values() {
        give_back(
            &context,
            &item,
            Duration::ZERO,
            "the server stopped before it was finished",
        )
        .await;
    }
}

fn forget(
    in_hand: &mut HashMap<tokio::task::Id, OutboxItem>,
    ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>,
) {
    match ended {
        Ok((id, ())) => in_hand.remove(id),
        // A bug. The row's lease runs out and it is offered again.
        Err(error) => {
            tracing::error!(%error, "carrying out an outbox row failed unexpectedly");
            in_hand.remove(&error.id())
        }
    };
}

async fn claim(context: &Context, topics: &[Topic], free: usize) -> Vec<OutboxItem> {
    let app = &context.app;
    let token = random_token(app.entropy.as_ref());
    let limit = u32::try_from(free).unwrap_or(1);
    match app
        .store
        .outbox_claim(topics, limit, LEASE, app.clock.now(), &token)
        .await
    {
        Ok(items) => items,
        Err(error) => {
            tracing::error!(%error, "the outbox cannot be read");
            // The database is in trouble: do not add to it.
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = app.shutdown.cancelled() => {}
            }
            Vec::new()
        }
    }
}

async fn carry_out(context: Arc<Context>, item: OutboxItem) {
    let work = async {
        match item.topic {
            Topic::TicketOpen => ticket::open(&context, &item).await,
            Topic::TicketUpdate => ticket::update(&context, &item).await,
            Topic::NotifyWebhook => tell(&context, &item, Receiver::Webhook).await,
            Topic::NotifySlack => tell(&context, &item, Receiver::Slack).await,
        }
    };
    let handled = tokio::time::timeout(LONGEST, work)
        .await
        .unwrap_or_else(|_| Err(Trouble::new("it took longer than a minute")));
    match handled {
        Ok(event) => {
            let now = context.app.clock.now();
            match context.app.store.outbox_done(&item, now, event).await {
                Ok(true) => tracing::debug!(action = %item.action, moment = item.moment, "told"),
                Ok(false) => tracing::debug!(action = %item.action, "another worker has the row"),
                // It is offered again when the lease runs out; doing it twice is harmless.
                Err(error) => tracing::error!(%error, action = %item.action, "not marked as done"),
            }
        }
        Err(_) if context.app.shutdown.is_cancelled() => {
            give_back(
                &context,
                &item,
                Duration::ZERO,
                "the server stopped before it was finished",
            )
            .await;
        }
        Err(trouble) => {
            let wait = trouble.wait(item.attempts);
            tracing::warn!(
                action = %item.action, moment = item.moment, attempts = item.attempts,
                retry_in_seconds = wait.as_secs(), error = %trouble, "not told yet"
            );
            give_back(&context, &item, wait, &trouble.text).await;
        }
    }
}

async fn tell(context: &Context, item: &OutboxItem, receiver: Receiver) -> Handled {
    context.notifier.deliver(context, item, receiver).await
}

async fn give_back(context: &Context, item: &OutboxItem, wait: Duration, why: &str) {
    let not_before = later(context.app.clock.now(), wait);
    if let Err(error) = context.app.store.outbox_retry(item, not_before, why).await {
        tracing::error!(%error, action = %item.action, "an outbox row was not given back");
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(now)
}

/// 1, 2, 4, ... 60 seconds after the first, second, ... failure. Without jitter: few rows, and a
/// schedule that can be read off the row.
fn back_off(failures_before: u32) -> Duration {
    Duration::from_secs(1 << failures_before.min(6)).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_doubles_to_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn nobody_can_ask_for_more_than_an_hour() {
        let asked = |seconds| {
            let after = Some(Duration::from_secs(seconds));
            Trouble::new("busy").not_before(after).wait(1).as_secs()
        };
        assert_eq!((asked(7), asked(3600), asked(u64::MAX)), (7, 3600, 3600));
        assert_eq!(Trouble::new("busy").wait(2).as_secs(), 2);
    }
}
