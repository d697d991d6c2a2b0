//! Opens the ticket, once, and tells it each moment, once, although every answer of Jira's may get
//! lost. Jira has no idempotency key: the ticket is found again by its label and its text, a comment by
//! its last line.

use std::time::Duration;

use countersign_domain::{ActionId, EventName, Signed, Statement};
use countersign_integrations::jira::ticket::{TicketText, render_ticket};
use countersign_store::{ActionDetail, OutboxItem, StoreError, Ticket};
use jiff::SignedDuration;

use super::outbox::{Handled, Trouble, unknown};
use super::story::{self, Moment};
use super::tracker::{Created, Moved, Tracker};
use super::{Context, evidence, ticket_text};
use crate::crash;

/// Seconds between searches when a create may have happened: its index is not read-after-write.
const PATIENCE: [u64; 6] = [0, 1, 2, 3, 3, 3];
/// A row that waited longer than this for its first attempt may have had one that nobody noted.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// After a create whose answer was lost, and that no search found, the second one waits this long.
const BEFORE_SECOND: Duration = Duration::from_secs(20);

/// Topic `TicketOpen`.
pub(super) async fn open(context: &Context, item: &OutboxItem) -> Handled {
    let Some(tracker) = &context.tracker else {
        return Ok(None);
    };
    let Some(detail) = context.app.store.detail(item.action).await? else {
        return Ok(None);
    };
    ensure(context, tracker, item, &detail).await?;
    Ok(None)
}

/// Topic `TicketUpdate`.
pub(super) async fn update(context: &Context, item: &OutboxItem) -> Handled {
    let Some(tracker) = &context.tracker else {
        return Ok(None);
    };
    let app = &context.app;
    let Some(detail) = app.store.detail(item.action).await? else {
        return Ok(None);
    };
    let Some(moment) = Moment::from_word(&item.moment) else {
        return Err(unknown(&item.moment));
    };
    // Normally there: rows of one action come in order, and the one that opens stands first.
    let ticket = match &detail.ticket {
        Some(ticket) => ticket.clone(),
        None => match ensure(context, tracker, item, &detail).await? {
            Some(ticket) => ticket,
            None => return Ok(None),
        },
    };
    let registry = app.rules().registry;
    let sentence = story::sentence(&detail, moment, &registry, &app.executor_keys);
    // One moment may come twice (approved, taken back, approved again): each row is told once.
    let marker = ticket_text::marker(item.action, &format!("{}.{}", item.moment, item.id));
    let body = ticket_text::told(&sentence, &app.action_url(item.action));
    tracker
        .comment_once(&ticket.issue_id, &marker, &body)
        .await?;
    if let (Moment::State(state), Some(done)) = (moment, &tracker.config().done_status_id)
        && state.is_terminal()
        && state == detail.action.state.name()
    {
        match tracker.move_to(&ticket.issue_id, done).await? {
            Moved::Done | Moved::AlreadyThere => {}
            Moved::Unavailable(why) => tracing::warn!(
                action = %item.action, ticket = ticket.key, why,
                "the comment stands, but the ticket stays where it is"
            ),
        }
    }
    Ok(Some(
        context
            .event(EventName::TicketUpdated, "countersign")
            .about(item.action)
            .with("ticket", ticket.key)
            .with("moment", item.moment.clone()),
    ))
}

/// The ticket, with its link and its first comment. `None`: the action was never admitted, so there
/// is nothing to ask anybody.
async fn ensure(
    context: &Context,
    tracker: &Tracker,
    item: &OutboxItem,
    detail: &ActionDetail,
) -> Result<Option<Ticket>, Trouble> {
    let app = &context.app;
    let action = &detail.action;
    let signed = match evidence::statement(action, &app.executor_keys, app.clock.now()) {
        None => return Ok(None),
        Some(Ok(signed)) => signed,
        Some(Err(error)) => {
            return Err(Trouble::new(format!(
                "the stored statement is not one that the executor signed, so no ticket asks it: \
                 {error}"
            )));
        }
    };
    let ticket = match &detail.ticket {
        Some(ticket) => ticket.clone(),
        None => find_or_create(context, tracker, item, &signed).await?,
    };
    let url = app.action_url(action.id);
    let global_id = ticket_text::label(action.id);
    tracker
        .link(
            &ticket.issue_id,
            &global_id,
            &url,
            "Approve or reject in Countersign",
        )
        .await?;
    let marker = ticket_text::marker(action.id, "opened");
    let body = ticket_text::opening(detail, &signed, &url);
    tracker
        .comment_once(&ticket.issue_id, &marker, &body)
        .await?;
    Ok(Some(ticket))
}

async fn find_or_create(
    context: &Context,
    tracker: &Tracker,
    item: &OutboxItem,
    signed: &Signed<Statement>,
) -> Result<Ticket, Trouble> {
    let app = &context.app;
    let label = ticket_text::label(item.action);
    let text = render_ticket(signed.body(), &signed.digest());
    let waited = app.clock.now().duration_since(item.created_at);
    // The claim itself counts as an attempt.
    let first = item.attempts <= 1 && waited < FRESH;
    if first {
        tracker.note_not_created(item.id);
    }
    let found = if tracker.surely_not_created(item.id) {
        tracker.find(&label, &text).await?
    } else {
        search_patiently(context, tracker, &label, &text).await?
    };
    let ticket = match found {
        Some(ticket) => ticket,
        None => {
            // From here on nobody knows, should this be cut off before the answer.
            tracker.forget(item.id);
            crash::point("ticket.before");
            match tracker.create(&text, &label).await {
                Created::Yes(ticket) => ticket,
                Created::No(trouble) => {
                    tracker.note_not_created(item.id);
                    return Err(trouble);
                }
                Created::Perhaps(trouble) => {
                    tracing::warn!(action = %item.action, error = %trouble,
                        "the answer to a create was lost; searching for the ticket");
                    match search_patiently(context, tracker, &label, &text).await? {
                        Some(ticket) => ticket,
                        None => return Err(trouble.not_before(Some(BEFORE_SECOND))),
                    }
                }
            }
        }
    };
    tracker.forget(item.id);
    crash::point("ticket.created");
    record(context, item.action, ticket).await
}

async fn record(context: &Context, action: ActionId, ticket: Ticket) -> Result<Ticket, Trouble> {
    let event = context
        .event(EventName::TicketOpened, "countersign")
        .about(action)
        .with("ticket", ticket.key.clone());
    match context
        .app
        .store
        .ticket_record(action, &ticket, event)
        .await
    {
        Ok(()) => Ok(ticket),
        // Two workers raced past an expired lease. The one that was recorded is the ticket.
        Err(StoreError::OtherTicket { .. }) => {
            let known = context.app.store.ticket_get(action).await?;
            tracing::error!(%action, extra = ticket.key,
                "this action has two tickets; the extra one may be deleted");
            known.ok_or_else(|| Trouble::new("the recorded ticket went away"))
        }
        Err(error) => Err(error.into()),
    }
}

async fn search_patiently(
    context: &Context,
    tracker: &Tracker,
    label: &str,
    text: &TicketText,
) -> Result<Option<Ticket>, Trouble> {
    for pause in PATIENCE {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            () = context.app.shutdown.cancelled() => {
                return Err(Trouble::new("the server stops; the search goes on at its next start"));
            }
        }
        if let Some(ticket) = tracker.find(label, text).await? {
            return Ok(Some(ticket));
        }
    }
    Ok(None)
}
