//! Looks at tickets that people may have moved: all open ones in turn, and at once those that a
//! webhook named. The look is what counts; a webhook only makes it sooner.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::{
    ActionId, Channel, Code, EventName, Reason, Signed, StateName, Statement, Verb,
};
use countersign_integrations::jira::ticket::render_ticket;
use countersign_integrations::jira::{JiraError, webhook};
use countersign_store::{ActionDetail, NewDecision, NextState, StoreError, Ticket, Transition};
use countersign_telemetry::metric;
use futures::StreamExt as _;
use metrics::histogram;
use tokio::time::Instant;

use super::tracker::{Look, Standing, Tracker};
use super::verdict::{self, Case, Gone, Move, Verdict};
use super::{Context, evidence, ticket_text};

/// Tickets looked at in one round; the next round goes on after them.
const ROUND: u32 = 60;
/// Looks at once: Jira limits us, and its people come first.
const AT_ONCE: usize = 4;
/// Looks that fail one after the other, before Jira itself is taken for the cause.
const IN_A_ROW: usize = 5;
/// Webhooks taken in one go; each may be a mebibyte.
const HINTS: u32 = 20;
/// How often one look is repeated at once because somebody else answered in between.
const TRIES: usize = 3;
/// Pages of open tickets that are searched for the one a webhook named.
const PAGE: u32 = 200;
/// Commits come in bursts: wait this long before asking for new webhooks.
const SETTLE: Duration = Duration::from_millis(20);

pub(super) async fn run(context: Arc<Context>) {
    let Some(tracker) = &context.tracker else {
        return;
    };
    let app = &context.app;
    let every = Duration::from_secs(u64::from(tracker.config().sweep_seconds.max(1)));
    let mut sweep = Sweep {
        context: &context,
        tracker,
        cursor: None,
        told: HashSet::new(),
    };
    let mut changes = app.store.changes();
    let mut next_round = Instant::now();
    let mut quiet_until = Instant::now();
    loop {
        changes.mark_unchanged();
        let mut pause = None;
        if Instant::now() >= quiet_until {
            pause = sweep.hints().await;
        }
        if pause.is_none() && Instant::now() >= next_round {
            pause = sweep.round().await;
            next_round = Instant::now() + every;
        }
        if let Some(pause) = pause {
            quiet_until = Instant::now() + pause;
            next_round = next_round.max(quiet_until);
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep_until(next_round) => {}
            changed = changes.changed() => match changed {
                Ok(()) => tokio::time::sleep(SETTLE).await,
                Err(_) => tokio::time::sleep(every).await,
            },
        }
    }
}

struct Sweep<'a> {
    context: &'a Context,
    tracker: &'a Tracker,
    cursor: Option<ActionId>,
    /// Moves that do not count and about which the ticket was told: (action, changelog entry).
    told: HashSet<(ActionId, String)>,
}

/// Why a look led nowhere.
enum Failed {
    Jira(JiraError),
    Store(StoreError),
}

/// How far a series of looks came.
#[derive(Default)]
struct Series {
    last: Option<ActionId>,
    /// It was broken off; Jira should be left alone for so long.
    pause: Option<Duration>,
}

impl From<JiraError> for Failed {
    fn from(error: JiraError) -> Self {
        Self::Jira(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Sweep<'_> {
    /// Looks at the next tickets in turn. Returns how long Jira should be left alone.
    async fn round(&mut self) -> Option<Duration> {
        let tickets = match self
            .context
            .app
            .store
            .open_tickets(ROUND, self.cursor)
            .await
        {
            Ok(tickets) => tickets,
            Err(error) => {
                tracing::error!(%error, "the open tickets cannot be read");
                return None;
            }
        };
        let next = if tickets.len() == ROUND as usize {
            tickets.last().map(|(action, _, _)| *action)
        } else {
            // The list ended: what was told about actions that are over is forgotten.
            if self.cursor.is_none() {
                let open: HashSet<ActionId> = tickets.iter().map(|(id, _, _)| *id).collect();
                self.told.retain(|(action, _)| open.contains(action));
            }
            None
        };
        let tickets = tickets.into_iter();
        let series = self
            .look_at_all(tickets.map(|(action, ticket, _)| (action, ticket)))
            .await;
        // Broken off: go on after the last one, so that tickets that always fail block no others.
        self.cursor = match series.pause {
            Some(_) => series.last.or(self.cursor),
            None => next,
        };
        series.pause
    }

    /// Looks at the tickets that webhooks named. Each webhook is done after one look, whatever came
    /// of it: the rounds see to the rest.
    async fn hints(&mut self) -> Option<Duration> {
        loop {
            let taken = match self.context.app.store.webhook_take(HINTS).await {
                Ok(taken) if taken.is_empty() => return None,
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, "stored webhooks cannot be read");
                    return None;
                }
            };
            let last = taken.len() < HINTS as usize || self.context.app.shutdown.is_cancelled();
            match self.follow(taken).await {
                Ok(None) if !last => {}
                Ok(pause) => return pause,
                Err(error) => {
                    tracing::error!(%error, "webhooks could not be followed");
                    return None;
                }
            }
        }
    }

    async fn follow(&mut self, taken: Vec<(i64, Vec<u8>)>) -> Result<Option<Duration>, StoreError> {
        let own = self.tracker.own_account().await.ok();
        let named: HashSet<String> = taken
            .iter()
            .filter(|(_, body)| !own.is_some_and(|own| is_echo(body, own)))
            .filter_map(|(_, body)| webhook::hint(body))
            .flat_map(|hint| [hint.issue_id, hint.issue_key])
            .flatten()
            .collect();
        let mut pause = None;
        if !named.is_empty() {
            let tickets = self.open_among(&named).await?;
            pause = self.look_at_all(tickets.into_iter()).await.pause;
        }
        let app = &self.context.app;
        for (id, _) in taken {
            app.store.webhook_done(id, app.clock.now()).await?;
        }
        Ok(pause)
    }

    /// Open tickets whose issue id or key is among the named. The id is what is looked at.
    async fn open_among(
        &self,
        named: &HashSet<String>,
    ) -> Result<HashMap<ActionId, Ticket>, StoreError> {
        let mut found = HashMap::new();
        let mut after = None;
        loop {
            let page = self.context.app.store.open_tickets(PAGE, after).await?;
            let full = page.len() == PAGE as usize;
            after = page.last().map(|(action, _, _)| *action);
            found.extend(page.into_iter().filter_map(|(action, ticket, _)| {
                let hit = named.contains(&ticket.issue_id) || named.contains(&ticket.key);
                hit.then_some((action, ticket))
            }));
            if !full {
                return Ok(found);
            }
        }
    }

    async fn look_at_all(&mut self, tickets: impl Iterator<Item = (ActionId, Ticket)>) -> Series {
        let this = &*self;
        let mut looks =
            futures::stream::iter(tickets)
                .map(|(action, ticket)| async move {
                    (action, this.look_at(action, &ticket).await, ticket)
                })
                .buffered(AT_ONCE);
        let mut told = Vec::new();
        let mut series = Series::default();
        let mut failures = 0;
        while let Some((action, looked, ticket)) = looks.next().await {
            let unavailable = matches!(&looked, Err(Failed::Jira(error)) if error.is_transient());
            failures = if unavailable { failures + 1 } else { 0 };
            match looked {
                Ok(Some(entry)) => told.push((action, entry)),
                Ok(None) => {}
                Err(Failed::Jira(JiraError::RateLimited { retry_after })) => {
                    tracing::warn!(seconds = retry_after.as_secs(), "Jira asks for a pause");
                    series.pause = Some(retry_after);
                    break;
                }
                // This ticket only: deleted, hidden from us, too large, or too slow. The others
                // are looked at all the same.
                Err(Failed::Jira(error)) => {
                    tracing::warn!(%error, %action, ticket = ticket.key, "this ticket cannot be read");
                }
                Err(Failed::Store(error)) => {
                    tracing::error!(%error, %action, "an answer in Jira could not be recorded");
                }
            }
            series.last = Some(action);
            if failures == IN_A_ROW {
                tracing::warn!("Jira cannot be read now");
                series.pause = Some(Duration::from_secs(1));
                break;
            }
            if this.context.app.shutdown.is_cancelled() {
                break;
            }
        }
        drop(looks);
        self.told.extend(told);
        series
    }

    /// Returns the changelog entry that does not count, once the ticket was told so.
    async fn look_at(&self, action: ActionId, ticket: &Ticket) -> Result<Option<String>, Failed> {
        let app = &self.context.app;
        for _ in 0..TRIES {
            // First what is stored, then the look: a yes on record that the look does not show was
            // taken back, and not just recorded by another server from a later look.
            let Some(detail) = app.store.detail(action).await? else {
                return Ok(None);
            };
            let look = self.tracker.look(&ticket.issue_id).await?;
            let now = app.clock.now();
            let signed = match evidence::statement(&detail.action, &app.executor_keys, now) {
                Some(Ok(signed)) => signed,
                Some(Err(error)) => {
                    tracing::error!(%action, %error, "a ticket was moved for a statement that is \
                        not the executor's; nothing is decided");
                    return Ok(None);
                }
                None => return Ok(None),
            };
            let own = self.tracker.own_account().await?;
            let text = render_ticket(signed.body(), &signed.digest());
            let altered = look.altered(&text, own, self.tracker.config());
            let registry = app.rules().registry;
            let case = Case {
                statement: signed.body(),
                state: detail.action.state.name(),
                decisions: &detail.decisions,
                registry: &registry,
                own_account: own,
                altered: altered.as_deref(),
                now,
            };
            let declined = self.tracker.declined(&look).into_iter().find_map(|moved| {
                match verdict::weigh(&moved, &case) {
                    Verdict::Counts { person } => Some((moved, person)),
                    Verdict::Nothing | Verdict::Void { .. } => None,
                }
            });
            if let Some((moved, person)) = declined {
                let decided = self.decide(&detail, &signed, ticket, &moved, &person, true);
                if decided.await? {
                    return Ok(None);
                }
                continue;
            }
            let moved = match self.tracker.standing(&look) {
                Standing::Unclear => return Ok(None),
                Standing::Open => None,
                Standing::Answered(moved) => Some(moved),
            };
            let yes = moved.as_ref().filter(|moved| moved.verb == Verb::Approve);
            if let Some(gone) = verdict::gone(yes, &case) {
                self.take_back(&detail, &signed, ticket, &look, gone)
                    .await?;
                continue;
            }
            let Some(moved) = moved else {
                return Ok(None);
            };
            match verdict::weigh(&moved, &case) {
                Verdict::Nothing => return Ok(None),
                Verdict::Counts { person } => {
                    let filled = verdict::fills_the_seats(&person, &case);
                    if self
                        .decide(&detail, &signed, ticket, &moved, &person, filled)
                        .await?
                    {
                        return Ok(None);
                    }
                }
                // Weighed anew each time: the registry may have learnt who that is.
                Verdict::Void { because } => {
                    if !self.told.contains(&(action, moved.entry.clone())) {
                        self.tell_void(&detail, ticket, &moved, &because).await?;
                    }
                    return Ok(Some(moved.entry));
                }
            }
        }
        Ok(None)
    }

    /// `false`: somebody else answered in between; look again.
    async fn decide(
        &self,
        detail: &ActionDetail,
        signed: &Signed<Statement>,
        ticket: &Ticket,
        moved: &Move,
        person: &str,
        filled: bool,
    ) -> Result<bool, Failed> {
        let app = &self.context.app;
        let action = &detail.action;
        let registry = app.rules().registry;
        let name = registry
            .person(person)
            .map_or(person, |known| known.name.as_str());
        let (reason, next) = match moved.verb {
            Verb::Approve => (String::new(), filled.then_some(NextState::Approved)),
            _ => {
                let account = moved.account.as_deref().unwrap_or_default();
                let reason = self
                    .tracker
                    .last_comment_of(&ticket.issue_id, account)
                    .await
                    .unwrap_or_else(|| format!("declined in Jira by {name}"));
                let why = Reason::new(Code::ByApprover, reason.clone());
                (reason, Some(NextState::Rejected(why)))
            }
        };
        let now = app.clock.now();
        let ends = next.is_some();
        let name = match &next {
            Some(NextState::Approved) => EventName::Approved,
            Some(NextState::Rejected(_)) => EventName::Rejected,
            _ => EventName::Decided,
        };
        let event = self
            .context
            .event(name, person)
            .about(action.id)
            .with("verb", moved.verb.as_str())
            .with("channel", Channel::Jira.as_str())
            .with("statement", signed.digest().to_string())
            .with("reason", reason.clone())
            .with("ticket", ticket.key.clone())
            .with("changelog_entry", moved.entry.clone())
            .with("moved_at", moved.at.to_string());
        let decision = NewDecision {
            action: action.id,
            version: action.version,
            person: person.to_owned(),
            verb: moved.verb,
            channel: Channel::Jira,
            reason,
            sealed: None,
            next,
            // Jira's clock may be ahead of ours; nobody decided later than now.
            at: moved.at.min(now),
        };
        match app.store.decide(decision, event).await? {
            Transition::Done(_) => {
                tracing::info!(action = %action.id, person, decision = %moved.verb, "decided in Jira");
                if ends && action.state.name() == StateName::Pending {
                    let waited = now.duration_since(signed.body().admitted_at).as_secs_f64();
                    histogram!(metric::DECISION_LATENCY_SECONDS).record(waited);
                }
                Ok(true)
            }
            Transition::Conflict(_) => {
                tracing::info!(action = %action.id, person, "an answer in Jira met another one");
                Ok(false)
            }
        }
    }

    /// Records that a yes in Jira does not stand any more. It is the look's finding, not the person's
    /// word: somebody else may have moved the ticket back.
    async fn take_back(
        &self,
        detail: &ActionDetail,
        signed: &Signed<Statement>,
        ticket: &Ticket,
        look: &Look,
        gone: Gone,
    ) -> Result<(), Failed> {
        let app = &self.context.app;
        let action = &detail.action;
        let now = app.clock.now();
        let (name, next) = if gone.reopens {
            (EventName::Reopened, Some(NextState::Reopened))
        } else {
            (EventName::Decided, None)
        };
        let event = self
            .context
            .event(name, "countersign")
            .about(action.id)
            .with("verb", Verb::Withdraw.as_str())
            .with("channel", Channel::Jira.as_str())
            .with("person", gone.person.clone())
            .with("statement", signed.digest().to_string())
            .with("reason", gone.because.clone())
            .with("ticket", ticket.key.clone());
        tracing::info!(action = %action.id, person = gone.person, because = gone.because,
            "an approval in Jira does not stand any more");
        let decision = NewDecision {
            action: action.id,
            version: action.version,
            person: gone.person,
            verb: Verb::Withdraw,
            channel: Channel::Jira,
            reason: gone.because,
            sealed: None,
            next,
            // After the approval and before any later one, whatever our clock says.
            at: look.changed_at().unwrap_or(now).min(now),
        };
        // A conflict: somebody answered in between, and the next look sees to it.
        app.store.decide(decision, event).await?;
        Ok(())
    }

    /// Says once, on the ticket and in the audit log, why a move does not count.
    async fn tell_void(
        &self,
        detail: &ActionDetail,
        ticket: &Ticket,
        moved: &Move,
        because: &str,
    ) -> Result<(), Failed> {
        let app = &self.context.app;
        let action = detail.action.id;
        let audited = detail.timeline.iter().any(|row| {
            row.event.event == EventName::DecisionRefused
                && row.event.details.get("changelog_entry") == Some(&moved.entry)
        });
        if !audited {
            let event = self
                .context
                .event(
                    EventName::DecisionRefused,
                    moved.account.as_deref().unwrap_or("unknown"),
                )
                .about(action)
                .with("verb", moved.verb.as_str())
                .with("channel", Channel::Jira.as_str())
                .with("ticket", ticket.key.clone())
                .with("changelog_entry", moved.entry.clone())
                .with("message", because);
            app.store.audit(event).await?;
            tracing::info!(%action, ticket = ticket.key, because, "a move in Jira does not count");
        }
        let marker = ticket_text::marker(action, &format!("void-{}", moved.entry));
        let sentence = format!(
            "This move of the ticket decides nothing: {because}. Move it out of the status and let \
             somebody who may decide move it in, or decide on the page."
        );
        let body = ticket_text::told(&sentence, &app.action_url(action));
        self.tracker
            .comment_once(&ticket.issue_id, &marker, &body)
            .await?;
        Ok(())
    }
}

/// Whether a webhook tells of what our own account did. Only saves a look.
fn is_echo(body: &[u8], own: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| {
        [&body["user"], &body["comment"]["author"]]
            .iter()
            .any(|author| author["accountId"].as_str() == Some(own))
    })
}
