//! What the server does without being asked: it opens tickets and tells them the story, wakes
//! people, looks at tickets that were moved, ends what nobody answered.
//!
//! Everything here is a messenger. Nothing may decide except a person's move of a ticket that
//! was looked at, and even that is only a pointer: the executor looks for itself. What is to be sent
//! stands in the outbox first, so that nothing is lost when this process or Jira goes away.

mod expiry;
mod notify;
mod outbox;
mod settings;
mod slack;
mod standard_webhook;
mod story;
mod sweep;
mod ticket;
mod ticket_text;
mod tracker;
mod upkeep;
pub(crate) mod verdict;
mod webhook;

use std::sync::Arc;

use countersign_domain::{AuditEvent, Author, EventName};

pub use settings::{SettingsError, check};
pub use webhook::router as webhook_router;

use crate::app::SharedApp;
use crate::evidence;
use notify::Notifier;
use tracker::Tracker;

/// What all workers share.
struct Context {
    app: SharedApp,
    tracker: Option<Tracker>,
    notifier: Notifier,
}

impl Context {
    fn event(&self, event: EventName, actor: &str) -> AuditEvent {
        AuditEvent::new(
            self.app.clock.now(),
            self.app.entropy.as_ref(),
            Author::Server,
            event,
            actor,
        )
    }
}

/// Runs all workers until `app.shutdown` is cancelled. Returns when nothing is in flight: what was in
/// hand is finished within ten seconds or given back.
///
/// A secret that cannot be read ends the whole process: a server that silently opens no tickets is
/// worse than one that does not start. Call [`check`] first to say so on the command line.
pub async fn run(app: SharedApp) {
    let context = match prepare(&app) {
        Ok(context) => Arc::new(context),
        Err(error) => {
            tracing::error!(%error, "the workers cannot start; shutting down");
            app.shutdown.cancel();
            return;
        }
    };
    tokio::join!(
        outbox::tickets(Arc::clone(&context)),
        outbox::notifications(Arc::clone(&context)),
        sweep::run(Arc::clone(&context)),
        expiry::run(Arc::clone(&context)),
        upkeep::run(Arc::clone(&context)),
    );
}

fn prepare(app: &SharedApp) -> Result<Context, SettingsError> {
    let settings = settings::resolve(&app.loaded)?;
    let tracker = settings.jira.map(Tracker::new).transpose()?;
    Ok(Context {
        tracker,
        notifier: Notifier::new(settings.notify)?,
        app: Arc::clone(app),
    })
}
