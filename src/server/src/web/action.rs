//! One action: the page, and the part of it that the script swaps when something has changed.

use std::sync::PoisonError;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Html;
use countersign_domain::{ActionId, AuditEvent, Author, EventName, Statement, Target};
use countersign_store::ActionDetail;

use super::error::WebError;
use super::notes::Piece;
use super::present::Chrome;
use super::session::SignedIn;
use super::statement::Shown;
use super::view::{ActionView, Approve, Material, SeenNow};
use super::{Shared, Web};
use crate::app::Rules;
use crate::evidence::Voucher;

/// Offered beside the free text: the answers that are given most.
pub(super) const REASONS: [&str; 4] = [
    "Not now: wait for the incident lead",
    "Fix the cause first, a restart will not help",
    "Wrong target",
    "I will do it by hand",
];

#[derive(Template)]
#[template(path = "action.html")]
struct Page<'a> {
    chrome: Chrome,
    view: &'a ActionView,
    reasons: &'static [&'static str],
}

#[derive(Template)]
#[template(path = "action_live.html")]
struct Fragment<'a> {
    view: &'a ActionView,
    reasons: &'static [&'static str],
}

pub(super) async fn page(
    State(web): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Html<String>, WebError> {
    let (detail, rules) = load(&web, &id).await?;
    let view = view(&web, &detail, &rules, &who).await?;
    note_viewed(&web, &detail, &who).await?;
    let chrome = Chrome::of(&web, "actions", &who);
    Ok(Html(
        Page {
            chrome,
            view: &view,
            reasons: &REASONS,
        }
        .render()?,
    ))
}

pub(super) async fn fragment(
    State(web): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Html<String>, WebError> {
    let (detail, rules) = load(&web, &id).await?;
    let view = view(&web, &detail, &rules, &who).await?;
    Ok(Html(
        Fragment {
            view: &view,
            reasons: &REASONS,
        }
        .render()?,
    ))
}

/// The action with all that belongs to it, and the rules of this request.
pub(super) async fn load(web: &Web, id: &str) -> Result<(ActionDetail, Rules), WebError> {
    let id: ActionId = id.parse().map_err(|_| WebError::NoSuchPage)?;
    let detail = web
        .app
        .store
        .detail(id)
        .await?
        .ok_or(WebError::NoSuchPage)?;
    Ok((detail, web.app.rules()))
}

async fn view(
    web: &Web,
    detail: &ActionDetail,
    rules: &Rules,
    who: &SignedIn,
) -> Result<ActionView, WebError> {
    let over = detail.action.state.name().is_terminal();
    let now = web.app.clock.now();
    let shown = Shown::of(&detail.action, &web.app.executor_keys, now);
    // What the executor signed, not what a row says: else the look could be at another pod.
    let target = shown.verified().map_or_else(
        || detail.action.proposal.target.clone(),
        |signed| target_of(signed.body()),
    );
    let look = async {
        if over {
            // The present says nothing about what is over.
            return super::live::Look::Unknown { why: String::new() };
        }
        web.live.look(&web.app, &target).await
    };
    let (look, heartbeats) = tokio::join!(look, web.app.store.heartbeats());
    let material = Material {
        detail,
        shown: &shown,
        heartbeats: &heartbeats?,
        look: &look,
        rules,
        who,
        now: web.app.clock.now(),
    };
    Ok(ActionView::of(web, &material))
}

fn target_of(statement: &Statement) -> Target {
    Target {
        cluster: statement.cluster.id.clone(),
        namespace: statement.namespace.clone(),
        name: statement.name.clone(),
        uid: statement.uid.clone(),
    }
}

/// Who has seen which statement is part of the record: once a person and statement.
async fn note_viewed(web: &Web, detail: &ActionDetail, who: &SignedIn) -> Result<(), WebError> {
    let Some(sealed) = detail.action.state.statement() else {
        return Ok(());
    };
    let id = detail.action.id;
    let before = detail
        .timeline
        .iter()
        .any(|row| row.event.event == EventName::Viewed && row.event.actor == who.person);
    let first = {
        let mut seen = web.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() > 10_000 {
            seen.clear();
        }
        seen.insert((id, who.person.clone()))
    };
    if before || !first {
        return Ok(());
    }
    let digest = sealed.digest::<Statement>().to_string();
    let now = web.app.clock.now();
    let event = AuditEvent::new(
        now,
        &*web.app.entropy,
        Author::Server,
        EventName::Viewed,
        &who.person,
    )
    .about(id)
    .with("statement", digest)
    .with("channel", "web");
    web.app.store.audit(event).await.map_err(|error| {
        // Not noted: the next look is the first one again.
        let mut seen = web.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&(id, who.person.clone()));
        WebError::from(error)
    })
}
