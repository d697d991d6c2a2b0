//! The first page: what waits for whom, and what was decided lately.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use countersign_domain::{Action, Registry, Risk, Signed, StateName, one_line, seats_missing};
use countersign_store::ActionFilter;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::error::WebError;
use super::present::{Chrome, Left, Moment, and_list, name_of};
use super::session::SignedIn;
use super::statement::Shown;
use super::view;
use super::{Shared, Web, story};
use crate::evidence::{self, Standing};

/// Everything in which something can still happen.
pub(super) const OPEN: [StateName; 5] = [
    StateName::Checking,
    StateName::Pending,
    StateName::Approved,
    StateName::Executing,
    StateName::Indeterminate,
];
const OVER: [StateName; 7] = [
    StateName::Succeeded,
    StateName::Failed,
    StateName::Denied,
    StateName::Rejected,
    StateName::Cancelled,
    StateName::Expired,
    StateName::Refused,
];
const RECENT: SignedDuration = SignedDuration::from_hours(24);
const MOST: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tab {
    #[default]
    Me,
    All,
    Mine,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    tab: Tab,
}

struct Row {
    id: String,
    verb: &'static str,
    name: String,
    place: String,
    simulated: bool,
    risk: Option<Risk>,
    agent: String,
    people: String,
    /// `Waiting`, `On hold`...
    word: &'static str,
    class: &'static str,
    left: Option<Left>,
    /// Approvals given and needed, such as `0 of 1`.
    need: String,
    at: Moment,
    for_me: bool,
    mine: bool,
    note: String,
}

struct List {
    tab: Tab,
    rows: Vec<Row>,
    for_me: usize,
    all: usize,
    mine: usize,
    recent: Vec<Row>,
}

#[derive(Template)]
#[template(path = "pending.html")]
struct Page<'a> {
    chrome: Chrome,
    list: &'a List,
}

#[derive(Template)]
#[template(path = "pending_live.html")]
struct Fragment<'a> {
    list: &'a List,
}

pub(super) async fn page(
    State(web): State<Shared>,
    who: SignedIn,
    Query(choice): Query<Choice>,
) -> Result<Html<String>, WebError> {
    let list = list(&web, &who, choice.tab).await?;
    Ok(Html(
        Page {
            chrome: Chrome::of(&web, "actions", &who),
            list: &list,
        }
        .render()?,
    ))
}

pub(super) async fn fragment(
    State(web): State<Shared>,
    who: SignedIn,
    Query(choice): Query<Choice>,
) -> Result<Html<String>, WebError> {
    let list = list(&web, &who, choice.tab).await?;
    Ok(Html(Fragment { list: &list }.render()?))
}

async fn list(web: &Web, who: &SignedIn, tab: Tab) -> Result<List, WebError> {
    let now = web.app.clock.now();
    let open = ActionFilter {
        states: OPEN.to_vec(),
        limit: MOST,
        ..ActionFilter::default()
    };
    let over = ActionFilter {
        states: OVER.to_vec(),
        limit: 50,
        ..ActionFilter::default()
    };
    let (open, over) = tokio::join!(web.app.store.list(&open), web.app.store.list(&over));
    let registry = web.app.rules().registry;
    let mut rows = Vec::new();
    for action in open? {
        rows.push(row(web, who, &registry, action, now).await?);
    }
    let mut recent = Vec::new();
    for action in over?
        .into_iter()
        .filter(|action| action.updated_at + RECENT > now)
    {
        recent.push(row(web, who, &registry, action, now).await?);
    }
    recent.sort_by_key(|row| std::cmp::Reverse(row.at.at));
    // Soonest deadline first; what has none yet comes last.
    rows.sort_by_key(|row| row.left.map_or(Timestamp::MAX, |left| left.until));
    let (for_me, all, mine) = (
        rows.iter().filter(|row| row.for_me).count(),
        rows.len(),
        rows.iter().filter(|row| row.mine).count(),
    );
    rows.retain(|row| match tab {
        Tab::Me => row.for_me,
        Tab::All => true,
        Tab::Mine => row.mine,
    });
    if tab == Tab::Mine {
        recent.retain(|row| row.mine);
    }
    Ok(List {
        tab,
        rows,
        for_me,
        all,
        mine,
        recent,
    })
}

async fn row(
    web: &Web,
    who: &SignedIn,
    registry: &Registry,
    mut action: Action,
    now: Timestamp,
) -> Result<Row, WebError> {
    let keys = &web.app.executor_keys;
    let shown = Shown::of(&action, keys, now);
    let statement = shown.verified().map(Signed::body);
    let state = action.state.name();
    let mut for_me = false;
    let mut need = String::new();
    let mut told = Standing::Servers;
    let asks = matches!(state, StateName::Pending | StateName::Approved);
    if (asks || evidence::is_executors(state))
        && let Some(detail) = web.app.store.detail(action.id).await?
    {
        told = Standing::of(&detail, keys);
        if let Some(statement) = statement.filter(|_| asks) {
            for_me = view::may_approve(&detail, statement, &who.person, registry, now).is_ok();
        }
        if let Some(statement) = statement.filter(|_| state == StateName::Pending) {
            let total: u32 = statement.require.iter().map(|entry| entry.count.0).sum();
            let seats = view::seats(statement, &detail, registry, now);
            let missing = seats_missing(&statement.require, &seats);
            need = format!("{} of {total}", (total as usize).saturating_sub(missing));
        }
        // A moment later than the list: the row says what was looked into.
        action = detail.action;
    }
    let state = action.state.name();
    let target = &action.proposal.target;
    let agent = &action.proposal.agent;
    let people: Vec<String> = match statement {
        Some(statement) => statement.on_behalf_of.clone(),
        None => registry
            .agent(agent)
            .map(|agent| agent.people.clone())
            .unwrap_or_default(),
    };
    let left = match state {
        StateName::Pending => statement.map(|statement| statement.decide_by),
        StateName::Approved => statement.map(|statement| statement.execute_by),
        _ => None,
    };
    let step = story::steps(&action.state, told.is_unsigned())
        .into_iter()
        .rfind(|step| step.class != "todo");
    let at = if state.is_terminal() {
        action.updated_at
    } else {
        action.created_at
    };
    let cluster = statement.map_or(&target.cluster, |statement| &statement.cluster.id);
    Ok(Row {
        id: action.id.to_string(),
        verb: view::verb(action.proposal.kind),
        name: one_line(
            statement.map_or(&target.name, |statement| &statement.name),
            120,
        ),
        place: one_line(
            &format!(
                "{} · {cluster}",
                statement.map_or(&target.namespace, |statement| &statement.namespace)
            ),
            130,
        ),
        simulated: web
            .app
            .clusters
            .get(cluster)
            .is_some_and(|cluster| cluster.simulated),
        risk: statement.map(|statement| statement.risk),
        agent: one_line(agent, 64),
        people: and_list(
            &people
                .iter()
                .map(|id| name_of(registry, id))
                .collect::<Vec<_>>(),
        ),
        word: step.as_ref().map_or("", |step| step.label),
        class: step.as_ref().map_or("todo", |step| step.class),
        left: left.map(|until| Left { until, now }),
        need,
        at: Moment { at, now },
        for_me,
        mine: people.contains(&who.person),
        note: note(&action, &told),
    })
}

/// Why it ended so or does not move, from the executor's record where that is the one to tell.
fn note(action: &Action, told: &Standing) -> String {
    let message = match told {
        Standing::Signed(record) => Some(record.message.as_str()),
        Standing::Unsigned => Some("The executor has not signed this outcome."),
        Standing::Servers => None,
    };
    let state = &action.state;
    message
        .or_else(|| state.end().map(|end| end.reason.message.as_str()))
        .or_else(|| state.held().map(|held| held.reason.message.as_str()))
        .map(|message| one_line(message, 140))
        .unwrap_or_default()
}
