//! A person's answer: the second step before an approval, and the one address that takes decisions.
//!
//! An answer counts for exactly the statement that the page showed: the posted digest must be the
//! stored one, and the version the one that was read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Redirect};
use countersign_domain::{
    ActionId, AuditEvent, Author, Channel, Code, Decision, EventName, Reason, Risk, Signed,
    StateName, Statement, Verb, digest_text, eligible, seats_missing, visible,
};
use countersign_store::{ActionDetail, NewDecision, NextState, Transition};
use countersign_telemetry::metric;
use serde::Deserialize;

use super::action;
use super::error::WebError;
use super::present::{Chrome, Left, and_list, name_of};
use super::session::{SignedIn, Submitted};
use super::statement::Shown;
use super::view::{self, seats};
use super::{Shared, Web, story};
use crate::app::Rules;
use crate::crash;
use crate::workers::verdict;

/// Longest reason, in characters; the form says so, too.
const LONGEST_REASON: usize = 500;

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    chrome: Chrome,
    id: String,
    verb: &'static str,
    name: String,
    namespace: String,
    cluster: String,
    risk: Risk,
    change: String,
    success: String,
    agent: String,
    people: String,
    digest: String,
    short: String,
    version: i64,
    csrf: String,
    left: Left,
    reason_required: bool,
}

/// The second step. Shows; decides nothing.
pub(super) async fn confirm(
    State(web): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Html<String>, WebError> {
    let (detail, rules) = action::load(&web, &id).await?;
    let shown = Shown::of(&detail.action, &web.app.executor_keys, web.app.clock.now());
    let signed = answerable(&web, &detail, &shown, &rules, &who, Verb::Approve)?;
    let statement = signed.body();
    let people: Vec<String> = statement
        .on_behalf_of
        .iter()
        .map(|id| name_of(&rules.registry, id))
        .collect();
    let page = ConfirmPage {
        chrome: Chrome::of(&web, "actions", &who),
        id: detail.action.id.to_string(),
        verb: view::verb(statement.kind),
        name: visible(&statement.name, 253),
        namespace: visible(&statement.namespace, 63),
        cluster: visible(&statement.cluster.id, 63),
        risk: statement.risk,
        change: visible(&statement.change(), 1000),
        success: view::success(statement),
        agent: visible(&statement.agent, 64),
        people: and_list(&people),
        digest: signed.digest().to_string(),
        short: signed.digest().short(),
        version: detail.action.version,
        csrf: who.csrf.text().to_owned(),
        left: Left {
            until: statement.decide_by,
            now: web.app.clock.now(),
        },
        reason_required: statement.risk == Risk::High,
    };
    Ok(Html(page.render()?))
}

#[derive(Deserialize)]
pub(super) struct Answer {
    verb: Verb,
    digest: String,
    version: i64,
    #[serde(default)]
    reason: String,
}

pub(super) async fn submit(
    State(web): State<Shared>,
    Path(id): Path<String>,
    Submitted { who, form: answer }: Submitted<Answer>,
) -> Result<Redirect, WebError> {
    let (detail, rules) = action::load(&web, &id).await?;
    let id = detail.action.id;
    let shown = Shown::of(&detail.action, &web.app.executor_keys, web.app.clock.now());
    // A second click of the same person changes nothing and is no mistake.
    if view::has_attested(&detail, &who.person, answer.verb) {
        return Ok(Redirect::to(&format!("/actions/{id}")));
    }
    let signed = match answerable(&web, &detail, &shown, &rules, &who, answer.verb) {
        Ok(signed) => signed,
        Err(error) => return Err(refused(&web, &detail, &who, &answer, error).await),
    };
    if answer.digest != signed.digest().to_string() {
        let error = WebError::Conflict {
            title: "This page was stale",
            sentence: "What you saw is not what is stored now. Nothing was decided. Look at the \
                       action again before you answer."
                .to_owned(),
            action: id,
        };
        return Err(refused(&web, &detail, &who, &answer, error).await);
    }
    if answer.version != detail.action.version {
        return Err(stale(&detail, &rules));
    }
    let reason = reason_of(&answer, signed.body())?;
    let transition = decide(&web, &detail, signed, &rules, &who, answer.verb, reason).await?;
    match transition {
        Transition::Done(_) => Ok(Redirect::to(&format!("/actions/{id}"))),
        Transition::Conflict(_) => {
            let (detail, rules) = action::load(&web, &id.to_string()).await?;
            if view::has_attested(&detail, &who.person, answer.verb) {
                return Ok(Redirect::to(&format!("/actions/{id}")));
            }
            Err(stale(&detail, &rules))
        }
    }
}

/// Whether this person may give this answer to this action now; else why not.
fn answerable<'a>(
    web: &Web,
    detail: &ActionDetail,
    shown: &'a Shown,
    rules: &Rules,
    who: &SignedIn,
    verb: Verb,
) -> Result<&'a Signed<Statement>, WebError> {
    let id = detail.action.id;
    let conflict = |title, sentence: String| WebError::Conflict {
        title,
        sentence,
        action: id,
    };
    let forbidden = |sentence: String| WebError::Forbidden {
        sentence,
        action: Some(id),
    };
    if let Shown::Broken(_) = shown {
        return Err(conflict(
            "Nothing can be decided here",
            "The stored statement is not one that the executor signed.".to_owned(),
        ));
    }
    let state = detail.action.state.name();
    let fits = match verb {
        Verb::Approve => state == StateName::Pending || view::misses_evidence(detail),
        Verb::Reject | Verb::Withdraw => matches!(state, StateName::Pending | StateName::Approved),
    };
    let Some(signed) = shown.verified().filter(|_| fits) else {
        return Err(conflict(
            "Already decided",
            story::already(detail, &rules.registry),
        ));
    };
    let statement = signed.body();
    let now = web.app.clock.now();
    match verb {
        Verb::Approve => {
            if now >= statement.decide_by {
                return Err(conflict(
                    "Too late",
                    format!("It was to be decided before {}.", statement.decide_by),
                ));
            }
            if verdict::took_back(&detail.decisions, &who.person) {
                return Err(forbidden(
                    "You withdrew your approval, which is final.".to_owned(),
                ));
            }
            eligible(statement, &who.person, Channel::Web, &rules.registry, now)
                .map_err(|reason| forbidden(visible(&reason.message, 400)))?;
        }
        // Anyone in the registry may say no; a session proves that much.
        Verb::Reject => {}
        Verb::Withdraw
            if verdict::standing(&detail.decisions)
                .iter()
                .any(|row| row.person == who.person) => {}
        Verb::Withdraw => {
            return Err(forbidden(
                "You have not approved this, so there is nothing to withdraw.".to_owned(),
            ));
        }
    }
    Ok(signed)
}

/// The reason as it is stored. Control characters stay out of the AI's and the ticket's way.
fn reason_of(answer: &Answer, statement: &Statement) -> Result<String, WebError> {
    let reason = visible(answer.reason.trim(), LONGEST_REASON + 1);
    let required = match answer.verb {
        Verb::Reject => true,
        Verb::Approve => statement.risk == Risk::High,
        Verb::Withdraw => false,
    };
    if required && reason.is_empty() {
        return Err(WebError::BadRequest(
            "Say why, in a few words: the reason is told to the AI and kept in the log. Nothing was \
             decided."
                .to_owned(),
        ));
    }
    if answer.reason.trim().chars().count() > LONGEST_REASON {
        return Err(WebError::BadRequest(format!(
            "The reason has more than {LONGEST_REASON} characters. Nothing was decided."
        )));
    }
    Ok(reason)
}

async fn decide(
    web: &Web,
    detail: &ActionDetail,
    signed: &Signed<Statement>,
    rules: &Rules,
    who: &SignedIn,
    verb: Verb,
    reason: String,
) -> Result<Transition, WebError> {
    let statement = signed.body();
    let id = detail.action.id;
    let now = web.app.clock.now();
    let next = next_state(detail, statement, rules, who, verb, &reason, now);
    let decides = detail.action.state.name() == StateName::Pending
        && matches!(next, Some(NextState::Approved | NextState::Rejected(_)));
    let decision = Decision {
        v: "1".to_owned(),
        statement: signed.digest(),
        verb,
        person: who.person.clone(),
        channel: Channel::Web,
        reason_digest: digest_text(&reason),
        decided_at: now,
        valid_until: statement.execute_by,
    };
    let sealed = Signed::sign(decision, &web.app.attestor)?.sealed().clone();
    let name = match &next {
        Some(NextState::Approved) => EventName::Approved,
        Some(NextState::Rejected(_)) => EventName::Rejected,
        Some(NextState::Reopened) => EventName::Reopened,
        None => EventName::Decided,
    };
    let event = AuditEvent::new(now, &*web.app.entropy, Author::Server, name, &who.person)
        .about(id)
        .with("verb", verb.as_str())
        .with("channel", Channel::Web.as_str())
        .with("statement", signed.digest().to_string())
        .with("reason", reason.clone());
    let new = NewDecision {
        action: id,
        version: detail.action.version,
        person: who.person.clone(),
        verb,
        channel: Channel::Web,
        reason,
        sealed: Some(sealed),
        next,
        at: now,
    };
    crash::point("decision.before");
    let transition = web.app.store.decide(new, event).await?;
    crash::point("decision.after");
    if matches!((&transition, decides), (Transition::Done(_), true)) {
        let waited = now.duration_since(statement.admitted_at).as_secs_f64();
        metrics::histogram!(metric::DECISION_LATENCY_SECONDS).record(waited);
    }
    Ok(transition)
}

/// What follows from the answer, as far as the server can tell; the executor counts for itself.
fn next_state(
    detail: &ActionDetail,
    statement: &Statement,
    rules: &Rules,
    who: &SignedIn,
    verb: Verb,
    reason: &str,
    now: jiff::Timestamp,
) -> Option<NextState> {
    let registry = &rules.registry;
    let mut seats = seats(statement, detail, registry, now);
    match verb {
        Verb::Reject => {
            let message = format!("{} rejected it: {reason}", who.name);
            Some(NextState::Rejected(Reason::new(Code::ByApprover, message)))
        }
        Verb::Approve => {
            seats.extend(eligible(
                statement,
                &who.person,
                Channel::Web,
                registry,
                now,
            ));
            let met = seats_missing(&statement.require, &seats) == 0;
            (met && detail.action.state.name() == StateName::Pending).then_some(NextState::Approved)
        }
        Verb::Withdraw => {
            seats.retain(|seat| seat.person != who.person);
            let short = seats_missing(&statement.require, &seats) > 0;
            (short && detail.action.state.name() == StateName::Approved)
                .then_some(NextState::Reopened)
        }
    }
}

fn stale(detail: &ActionDetail, rules: &Rules) -> WebError {
    let already = story::already(detail, &rules.registry);
    let (title, sentence) = if detail.action.state.name() == StateName::Pending {
        let sentence =
            format!("Somebody was faster. {already} Look at it again before you answer.");
        ("This page was stale", sentence)
    } else {
        ("Already decided", already)
    };
    WebError::Conflict {
        title,
        sentence,
        action: detail.action.id,
    }
}

/// Equal refusals: of one person, to one action, with one sentence.
type Refusal = (ActionId, String, Verb, String);

/// Refusals that this process met, with their number.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Refusal, u64>>);

impl Refusals {
    /// Counts one. The first, the tenth, the hundredth... is for the log, which is kept for good and of
    /// which an action's page shows the end: nobody washes the others out of it by trying on and on.
    fn count(&self, refusal: &Refusal) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() > 10_000 {
            counts.clear();
        }
        let count = counts.entry(refusal.clone()).or_default();
        *count += 1;
        (*count == 10_u64.pow(count.ilog10())).then_some(*count)
    }

    /// It was not noted: the next one is the first again.
    fn forget(&self, refusal: &Refusal) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(refusal);
    }
}

/// Notes the attempt, and hands the error on.
async fn refused(
    web: &Web,
    detail: &ActionDetail,
    who: &SignedIn,
    answer: &Answer,
    error: WebError,
) -> WebError {
    let id = detail.action.id;
    let refusal = (id, who.person.clone(), answer.verb, error.to_string());
    let Some(times) = web.refusals.count(&refusal) else {
        return error;
    };
    let now = web.app.clock.now();
    let mut event = AuditEvent::new(
        now,
        &*web.app.entropy,
        Author::Server,
        EventName::DecisionRefused,
        &who.person,
    )
    .about(id)
    .with("verb", answer.verb.as_str())
    .with("channel", Channel::Web.as_str())
    .with("message", error.to_string());
    if times > 1 {
        event = event.with("times", times.to_string());
    }
    if let Err(failed) = web.app.store.audit(event).await {
        web.refusals.forget(&refusal);
        return failed.into();
    }
    error
}
