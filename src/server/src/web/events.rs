//! Streams that tell a page to fetch its fragment again. They carry no content: what a person may
//! see is decided where the fragment is made.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use countersign_domain::{ActionId, StateName};
use countersign_store::ActionFilter;
use futures::Stream;
use futures::stream::unfold;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::error::WebError;
use super::pending::OPEN;
use super::places::{Place, Places};
use super::session::{self, SignedIn};
use super::{Shared, Web};
use crate::config;

/// Each open stream costs a connection, and browsers open one a tab. Of one person, whatever the
/// number of log-ins.
const PER_PERSON: usize = 8;
/// How often a page that shows the target looks again: with the cache's two seconds this keeps what
/// it shows within five.
const LOOK: Duration = Duration::from_secs(3);
/// Commits come in bursts; one look after the burst is enough.
const BURST: Duration = Duration::from_millis(25);
/// Then the browser connects again, with whatever session it has by then.
const LONGEST: Duration = Duration::from_secs(600);

/// Half of the connections that one address may have, which behind a proxy is all that there are:
/// pages that follow leave room for those who decide.
pub(super) fn streams(http: &config::Http) -> Places<String> {
    let connections = http.connections.min(http.connections_per_peer);
    Places::new(connections as usize / 2, PER_PERSON)
}

/// What a stream watches.
enum Subject {
    Action(ActionId),
    /// Everything that is open.
    List,
}

/// What a stream compares; any difference is a reason to fetch again.
#[derive(PartialEq, Eq)]
struct Print(Vec<(ActionId, i64, StateName, Option<String>)>);

struct Follow {
    web: Shared,
    subject: Subject,
    last: Option<Print>,
    changes: watch::Receiver<u64>,
    tick: Interval,
    until: Instant,
    /// Hash of the session that asked, looked up again while the stream lasts.
    session: String,
    _place: Place<String>,
    over: bool,
}

pub(super) async fn action(
    State(web): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, WebError> {
    let id: ActionId = id.parse().map_err(|_| WebError::NoSuchPage)?;
    if web.app.store.get(id).await?.is_none() {
        return Err(WebError::NoSuchPage);
    }
    follow(web, &who, Subject::Action(id))
}

pub(super) async fn list(
    State(web): State<Shared>,
    who: SignedIn,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, WebError> {
    follow(web, &who, Subject::List)
}

fn follow(
    web: Shared,
    who: &SignedIn,
    subject: Subject,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, WebError> {
    let place = web.streams.enter(who.person.clone());
    let place = place.ok_or_else(|| WebError::TooMany {
        sentence: "Too many pages follow at once. This one asks now and then instead.".to_owned(),
        wait_seconds: 5,
    })?;
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = web.app.store.changes();
    changes.mark_changed();
    let follow = Follow {
        _place: place,
        session: who.token_hash.clone(),
        subject,
        last: None,
        changes,
        tick,
        until: Instant::now() + LONGEST,
        over: false,
        web,
    };
    let stream = unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        // Browsers drop events without data.
        Some((Ok(Event::default().event(event).data(event)), follow))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

impl Follow {
    /// `changed`: fetch again. `look`: the target's present may be another. `end`: nothing more
    /// will come. `None` closes the stream.
    async fn next(&mut self) -> Option<&'static str> {
        if self.over {
            return None;
        }
        loop {
            let app = self.web.app.clone();
            tokio::select! {
                () = app.shutdown.cancelled() => return None,
                () = sleep_until(self.until) => return None,
                changed = self.changes.changed() => {
                    changed.ok()?;
                    tokio::time::sleep(BURST).await;
                    self.changes.mark_unchanged();
                    let print = print(&self.web, &self.subject).await?;
                    let over = self.is_over(&print);
                    // The first print is what the page already shows, or is told at once.
                    let differs = self.last.as_ref().is_none_or(|last| *last != print);
                    self.last = Some(print);
                    if over {
                        self.over = true;
                        return Some("end");
                    }
                    if differs {
                        return Some("changed");
                    }
                }
                _ = self.tick.tick() => {
                    let session = session::by_hash(&self.web, &self.session).await;
                    session.ok().flatten()?;
                    if matches!(self.subject, Subject::Action(_)) {
                        return Some("look");
                    }
                }
            }
        }
    }

    fn is_over(&self, print: &Print) -> bool {
        matches!(self.subject, Subject::Action(_))
            && print.0.iter().all(|(_, _, state, _)| state.is_terminal())
    }
}

async fn print(web: &Web, subject: &Subject) -> Option<Print> {
    let actions = match subject {
        Subject::Action(id) => web.app.store.get(*id).await.ok()?.into_iter().collect(),
        Subject::List => {
            let filter = ActionFilter {
                states: OPEN.to_vec(),
                limit: 200,
                ..ActionFilter::default()
            };
            web.app.store.list(&filter).await.ok()?
        }
    };
    let line = |action: countersign_domain::Action| {
        let held = action.state.held().map(|held| held.reason.message.clone());
        (action.id, action.version, action.state.name(), held)
    };
    Some(Print(actions.into_iter().map(line).collect()))
}
