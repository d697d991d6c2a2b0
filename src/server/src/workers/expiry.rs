//! Ends what nobody answered or ran in time; asks once more when the time is running out; and has the
//! ticket told when something approved does not move, or runs for longer than a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::{Action, ActionId, Code, State, StateName};
use countersign_store::{ActionFilter, StoreError, Topic};
use jiff::{SignedDuration, Timestamp};

use super::{Context, evidence};

const TICK: Duration = Duration::from_secs(1);
/// Open actions are looked through in pages of this size.
const PAGE: u32 = 200;
/// A hold or an execution that is over before this is nobody's news: what follows it is told.
const NEWS_AFTER: SignedDuration = SignedDuration::from_secs(3);

pub(super) async fn run(context: Arc<Context>) {
    let app = &context.app;
    let mut watched = Watched::default();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        match app.store.expire_due(app.clock.now()).await {
            Ok(ended) if ended.is_empty() => {}
            Ok(ended) => tracing::info!(count = ended.len(), "actions expired"),
            Err(error) => tracing::error!(%error, "expired actions could not be ended"),
        }
        if let Err(error) = watched.queue_due(&context).await {
            tracing::error!(%error, "reminders could not be queued");
        }
    }
}

/// What is known about each open action. Only a saving of work: the outbox keeps one row for each
/// action and moment, whoever asks and how often.
#[derive(Default)]
struct Watched(HashMap<ActionId, Watch>);

#[derive(Clone, Copy)]
struct Watch {
    /// `None`: queued, or not to be reminded of.
    remind_at: Option<Timestamp>,
    /// The hold of which the ticket is told already.
    held: Option<Code>,
    begun: bool,
}

impl Watched {
    async fn queue_due(&mut self, context: &Context) -> Result<(), StoreError> {
        let mut seen = HashMap::new();
        let mut before = None;
        loop {
            let filter = ActionFilter {
                states: vec![
                    StateName::Pending,
                    StateName::Approved,
                    StateName::Executing,
                ],
                before,
                limit: PAGE,
                ..ActionFilter::default()
            };
            let page = context.app.store.list(&filter).await?;
            for action in &page {
                let known = self.0.get(&action.id).copied();
                let mut watch = known.unwrap_or_else(|| Watch {
                    remind_at: remind_at(context, action),
                    held: None,
                    begun: false,
                });
                watch.queue_due(context, action).await?;
                seen.insert(action.id, watch);
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => before = Some(last.id),
                _ => break,
            }
        }
        self.0 = seen;
        Ok(())
    }
}

impl Watch {
    async fn queue_due(&mut self, context: &Context, action: &Action) -> Result<(), StoreError> {
        let store = &context.app.store;
        let now = context.app.clock.now();
        if action.state.name() == StateName::Pending && self.remind_at.is_some_and(|at| at <= now) {
            for topic in Topic::NOTIFY {
                store.outbox_add(action.id, topic, "reminder", now).await?;
            }
            self.remind_at = None;
        }
        if action.state.name() == StateName::Approved
            && let Some(held) = action.state.held()
            && now.duration_since(held.since) >= NEWS_AFTER
            && self.held != Some(held.reason.code)
        {
            let moment = format!("held.{}", held.reason.code);
            store
                .outbox_add(action.id, Topic::TicketUpdate, &moment, now)
                .await?;
            self.held = Some(held.reason.code);
        }
        if let State::Executing { started_at, .. } = &action.state
            && now.duration_since(*started_at) >= NEWS_AFTER
            && !self.begun
        {
            store
                .outbox_add(action.id, Topic::TicketUpdate, "executing", now)
                .await?;
            self.begun = true;
        }
        Ok(())
    }
}

fn remind_at(context: &Context, action: &Action) -> Option<Timestamp> {
    let app = &context.app;
    let signed = evidence::statement(action, &app.executor_keys, app.clock.now())?.ok()?;
    let statement = signed.body();
    let percent = app.loaded.config.notify.remind_at_percent.unwrap_or(50);
    share(statement.admitted_at, statement.decide_by, percent)
}

/// The instant at which `percent` of the time between the two has passed.
fn share(from: Timestamp, until: Timestamp, percent: u8) -> Option<Timestamp> {
    let whole = until.as_millisecond() - from.as_millisecond();
    let part = whole.checked_mul(i64::from(percent))? / 100;
    Timestamp::from_millisecond(from.as_millisecond() + part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_is_half_of_the_time() {
        let from = "2026-11-22T02:00:00Z".parse().unwrap();
        let until = "2026-11-22T02:15:00Z".parse().unwrap();
        let half: Timestamp = "2026-11-22T02:07:30Z".parse().unwrap();
        assert_eq!(share(from, until, 50), Some(half));
    }
}
