//! What people see and where they decide: log-in, the list of what waits, one action, the audit log.
//!
//! Server-rendered; everything works without JavaScript. No GET changes anything but the note that
//! somebody looked. Pages show a statement only after its signature was verified, and a decision is
//! taken only for the statement that the page showed.

mod action;
mod assets;
mod audit;
mod decide;
mod error;
mod events;
mod guard;
mod live;
mod login;
mod notes;
mod pending;
mod places;
mod present;
mod session;
mod statement;
mod story;
mod throttle;
mod view;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use countersign_domain::ActionId;
use tokio::sync::Semaphore;

use crate::app::SharedApp;
use error::WebError;
pub(crate) use guard::names_us;
use places::Places;

/// Forms are small: a reason, a digest, a token.
const LARGEST_FORM: usize = 16 * 1024;

/// What the pages share beyond the app.
struct Web {
    app: SharedApp,
    live: live::Cache,
    throttle: throttle::Throttle,
    /// Of passwords.
    checks: Arc<Semaphore>,
    /// Pages that follow, by person.
    streams: Places<String>,
    refusals: decide::Refusals,
    searches: audit::Searches,
    /// Who was noted as having seen what, by this process; the audit log is the record.
    seen: Mutex<HashSet<(ActionId, String)>>,
}

type Shared = Arc<Web>;

/// All pages, with their own security headers, `Host` check and same-origin check. Holds the
/// fallback of the whole address space.
pub fn router(app: SharedApp) -> Router {
    let web: Shared = Arc::new(Web {
        live: live::Cache::default(),
        throttle: throttle::Throttle::default(),
        checks: Arc::new(Semaphore::new(login::CHECKS)),
        streams: events::streams(&app.loaded.config.http),
        refusals: decide::Refusals::default(),
        searches: audit::Searches::new(&app.loaded.config.database),
        seen: Mutex::default(),
        app,
    });
    Router::new()
        .route("/", get(pending::page))
        .route("/fragment", get(pending::fragment))
        .route("/events", get(events::list))
        .route("/login", get(login::form).post(login::submit))
        .route("/logout", post(login::leave))
        .route("/actions/{id}", get(action::page))
        .route("/actions/{id}/fragment", get(action::fragment))
        .route("/actions/{id}/events", get(events::action))
        .route("/actions/{id}/approve", get(decide::confirm))
        .route("/actions/{id}/decision", post(decide::submit))
        .route("/audit", get(audit::page))
        .route("/audit/{id}", get(audit::one))
        .route("/assets/{name}", get(assets::serve))
        .method_not_allowed_fallback(|| async { WebError::MethodNotAllowed })
        .fallback(|| async { WebError::NoSuchPage })
        .layer(from_fn_with_state(web.clone(), guard::check))
        .layer(from_fn(guard::headers))
        .with_state(web)
}
