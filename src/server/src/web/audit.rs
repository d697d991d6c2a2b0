//! The audit log as a plain list: filters in the address, newest first, page by page.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use countersign_domain::{ActionId, EventName, KeyRing, Registry, one_line};
use countersign_store::{AuditFilter, AuditRow};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::WebError;
use super::present::{Chrome, Moment};
use super::session::SignedIn;
use super::{Shared, story};
use crate::config;
use crate::evidence::{self, Voucher};

const PAGE: u32 = 50;
/// Searches at once.
const AT_ONCE: usize = 2;
/// Longest value of one detail; the log itself holds it whole.
const CAP: usize = 400;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    actor: String,
    event: String,
    action: String,
    outcome: String,
    from: String,
    until: String,
    before: String,
}

struct Line {
    seq: i64,
    at: Moment,
    who: String,
    /// The actor as stored, for a filter link.
    actor: String,
    what: &'static str,
    event: &'static str,
    action: String,
    /// Tool, outcome, reason: what a reader looks for first.
    gist: String,
    details: Vec<(String, String)>,
    voucher: Voucher,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    chrome: Chrome,
    asked: Asked,
    events: &'static [EventName],
    lines: Vec<Line>,
    filtered: bool,
    older: Option<String>,
    /// What the log of one action does not show, and the executor's signatures do.
    warning: Option<String>,
}

/// Instead of what the stored action says.
const UNREADABLE: &str =
    "The stored action itself cannot be read: somebody may have altered the database.";

/// Searches of the log. One that no index serves walks all of it and holds a connection of the
/// database until it has: not all of them are for that.
pub(super) struct Searches {
    turns: Arc<Semaphore>,
    turn_within: Duration,
    answer_within: Duration,
}

impl Searches {
    pub(super) fn new(database: &config::Database) -> Self {
        let half = database.max_connections as usize / 2;
        Self {
            turns: Arc::new(Semaphore::new(half.clamp(1, AT_ONCE))),
            turn_within: Duration::from_secs(2),
            answer_within: Duration::from_secs(10),
        }
    }

    /// Waits for a turn, and for the answer, for a while each.
    async fn run<T: Send + 'static>(
        &self,
        search: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, WebError> {
        let turn = timeout(self.turn_within, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(WebError::Busy(
                "Others search the log just now. Try again in a few seconds.",
            ));
        };
        // The turn is over when the database is done, also when nobody waits for it any more.
        let search = tokio::spawn(async move {
            let found = search.await;
            drop(turn);
            found
        });
        match timeout(self.answer_within, search).await {
            Ok(found) => found.map_err(|_| WebError::Internal("a search broke off")),
            Err(_) => Err(WebError::Busy(
                "This search takes too long: the log has no index for it. Name an action, an actor \
                 or an event as well, or times that are closer together.",
            )),
        }
    }
}

pub(super) async fn one(_who: SignedIn, Path(id): Path<String>) -> Result<Redirect, WebError> {
    let id: ActionId = id.parse().map_err(|_| WebError::NoSuchPage)?;
    Ok(Redirect::to(&format!("/actions/{id}#timeline")))
}

pub(super) async fn page(
    State(web): State<Shared>,
    who: SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, WebError> {
    let filter = filter(&asked)?;
    let (store, search) = (web.app.store.clone(), filter.clone());
    let rows = web
        .searches
        .run(async move { store.audit_list(&search).await })
        .await??;
    let now = web.app.clock.now();
    let registry = web.app.rules().registry;
    let last = rows
        .last()
        .map(|row| row.seq)
        .filter(|_| rows.len() == PAGE as usize);
    let keys = &web.app.executor_keys;
    let warning = match filter.action {
        None => None,
        Some(id) => match web.app.store.detail(id).await {
            Ok(detail) => {
                let record = detail.and_then(|detail| evidence::contradiction(&detail, keys));
                record.map(|record| evidence::contradiction_sentence(&record))
            }
            // The log is what one looks at then.
            Err(error) => {
                tracing::warn!(action = %id, %error, "a stored action cannot be read");
                Some(UNREADABLE.to_owned())
            }
        },
    };
    let lines = rows
        .iter()
        .map(|row| line(row, keys, &registry, now))
        .collect();
    let page = Page {
        chrome: Chrome::of(&web, "audit", &who),
        events: EventName::ALL,
        lines,
        filtered: filter_words(&asked).count() > 0,
        older: last.map(|seq| address(&asked, seq)),
        asked,
        warning,
    };
    Ok(Html(page.render()?))
}

fn filter(asked: &Asked) -> Result<AuditFilter, WebError> {
    let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
    let bad = |what: &str| WebError::BadRequest(what.to_owned());
    let action = match text(&asked.action) {
        None => None,
        Some(id) => Some(id.parse().map_err(|_| {
            bad("`action` takes a whole action id, 36 characters, as in its address.")
        })?),
    };
    let before_seq = match text(&asked.before) {
        None => None,
        Some(seq) => Some(
            seq.parse()
                .map_err(|_| bad("`before` takes the number of an entry."))?,
        ),
    };
    let instant = |value: &str| match text(value) {
        None => Ok(None),
        Some(at) => instant(&at).map(Some).ok_or_else(|| {
            bad("A time looks like 2026-11-22T02:19 (UTC) or 2026-11-22T02:19:04Z.")
        }),
    };
    Ok(AuditFilter {
        actor: text(&asked.actor),
        event: text(&asked.event),
        action,
        outcome: text(&asked.outcome),
        from: instant(&asked.from)?,
        until: instant(&asked.until)?,
        before_seq,
        limit: PAGE,
    })
}

/// A time with a zone, or one without, which is UTC.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

fn filter_words(asked: &Asked) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("actor", asked.actor.as_str()),
        ("event", &asked.event),
        ("action", &asked.action),
        ("outcome", &asked.outcome),
        ("from", &asked.from),
        ("until", &asked.until),
    ]
    .into_iter()
    .filter(|(_, value)| !value.trim().is_empty())
}

/// The address of the next page, with the same filters.
fn address(asked: &Asked, before: i64) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(filter_words(asked));
    query.append_pair("before", &before.to_string());
    format!("/audit?{}", query.finish())
}

fn line(row: &AuditRow, keys: &KeyRing, registry: &Registry, now: Timestamp) -> Line {
    let event = &row.event;
    let details: Vec<(String, String)> = event
        .details
        .iter()
        .map(|(key, value)| (one_line(key, 60), one_line(value, CAP)))
        .collect();
    let gist: Vec<String> = ["tool", "verb", "outcome", "code", "reason", "message"]
        .into_iter()
        .filter_map(|key| event.details.get(key))
        .filter(|value| !value.is_empty())
        .take(3)
        .map(|value| one_line(value, 160))
        .collect();
    Line {
        seq: row.seq,
        at: Moment { at: event.at, now },
        who: story::actor(event, registry),
        actor: one_line(&event.actor, 64),
        what: story::what(event.event),
        event: event.event.as_str(),
        action: event
            .action_id
            .parse::<ActionId>()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        gist: gist.join(" · "),
        details,
        voucher: evidence::voucher(row, keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_utc() {
        let want: Timestamp = "2026-11-22T02:19:00Z".parse().unwrap();
        assert_eq!(instant("2026-11-22T02:19"), Some(want));
        assert_eq!(instant("2026-11-22T03:19:00+01:00"), Some(want));
        assert_eq!(instant("yesterday"), None);
    }

    #[tokio::test]
    async fn slow_searches_take_no_more_than_their_turns_and_give_them_back() {
        let searches = Searches {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            turn_within: Duration::from_millis(50),
            answer_within: Duration::from_millis(50),
        };
        let done = tokio_util::sync::CancellationToken::new();
        for _ in 0..AT_ONCE {
            let given_up = searches.run(done.clone().cancelled_owned()).await;
            let told = given_up.unwrap_err().to_string();
            assert!(told.contains("takes too long"), "{told}");
        }
        // Nobody waits for those two, and the database is at them still.
        let told = searches.run(async {}).await.unwrap_err().to_string();
        assert!(told.contains("Others search"), "{told}");
        done.cancel();
        while searches.run(async {}).await.is_err() {}
    }

    #[test]
    fn paging_keeps_the_filters() {
        let asked = Asked {
            actor: "li".into(),
            outcome: "a&b".into(),
            ..Asked::default()
        };
        assert_eq!(address(&asked, 7), "/audit?actor=li&outcome=a%26b&before=7");
    }
}
