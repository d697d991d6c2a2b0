//! A caller's own proposals: look, list, wait, take back. A handle is bound to its caller: an id
//! of somebody else's action is an id that does not exist.

use std::time::Duration;

use countersign_domain::{
    Action, ActionId, AuditEvent, Author, Code, EventName, Reason, Signed, State, StateName,
    Statement,
};
use countersign_integrations::masking::mask;
use countersign_store::{ActionDetail, ActionFilter, Ticket, Transition};
use tokio::time::{Instant, sleep, sleep_until};

use super::answers::{
    ActionLine, ActionList, ActionStatus, Answer, Complaint, Decided, Moment, TicketLink, Why,
};
use super::arguments::{CancelAction, GetAction, ListActions, StateWord, WaitForAction};
use super::auth::Caller;
use crate::app::App;
use crate::evidence::{self, NotSigned, Standing, Voucher};

/// Moments of the timeline in one answer, the newest.
const MOMENTS: usize = 12;
const DEFAULT_WAIT: u32 = 30;

/// The server and a caller.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub app: &'a App,
    pub caller: &'a Caller,
}

/// A state and its reason as a caller is told them.
pub struct Told {
    pub state: StateName,
    pub why: Option<Why>,
}

impl Told {
    /// What the executor did is told from its signed record. Where the row alone says so, nobody
    /// knows how it ended, and that is what the caller is told.
    fn of(detail: &ActionDetail, standing: &Standing) -> Self {
        let stored = &detail.action.state;
        match standing {
            Standing::Servers => Self {
                state: stored.name(),
                why: stored.end().map(|end| Why::from(&end.reason)),
            },
            Standing::Signed(record) => Self {
                state: stored.name(),
                why: (stored.name() != StateName::Executing).then(|| Why {
                    code: countersign_domain::one_line(&record.code, 40),
                    message: record.message.clone(),
                }),
            },
            Standing::Unsigned => Self {
                state: StateName::Indeterminate,
                why: Some(Why {
                    code: evidence::UNSIGNED.to_owned(),
                    message: evidence::unsigned_sentence(stored.name()),
                }),
            },
        }
    }
}

impl Desk<'_> {
    pub async fn get_action(&self, args: GetAction) -> Result<Answer, Complaint> {
        let detail = self
            .detail(&args.action_id, args.cluster.as_deref())
            .await?;
        Ok(self.status(&detail))
    }

    pub async fn list_actions(&self, args: ListActions) -> Result<Answer, Complaint> {
        let limit = args.limit.unwrap_or(20);
        let before = match &args.cursor {
            Some(cursor) => Some(parse_id(cursor)?),
            None => None,
        };
        let filter = ActionFilter {
            states: args.state.map(states).unwrap_or_default(),
            agent: Some(self.caller.agent.clone()),
            cluster: args.cluster,
            // Asked for, not left out afterwards: a cursor after what is hidden would tell of it.
            namespaces: self.caller.namespaces.clone(),
            before,
            limit: limit + 1,
        };
        let mut actions = self
            .app
            .store
            .list(&filter)
            .await
            .map_err(|error| Complaint::store(&error))?;
        let more = actions.len() > limit as usize;
        actions.truncate(limit as usize);
        let next_cursor = actions
            .last()
            .filter(|_| more)
            .map(|action| action.id.to_string());
        let mut lines = Vec::with_capacity(actions.len());
        for action in &actions {
            let told = self.told(action).await?;
            let target = &action.proposal.target;
            lines.push(ActionLine {
                action_id: action.id.to_string(),
                tool: action.proposal.kind.to_string(),
                cluster: target.cluster.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                state: told.state.to_string(),
                proposed_at: action.created_at.to_string(),
                outcome: told.why,
                approval_url: self.app.action_url(action.id),
            });
        }
        let actions = lines;
        let mut text = match actions.len() {
            0 => "None of your proposals fits.".to_owned(),
            count => format!("{count} of your proposals, newest first:"),
        };
        for line in &actions {
            text.push_str(&format!(
                "\n- {} {} {}/{} in {}: {}",
                line.action_id, line.tool, line.namespace, line.name, line.cluster, line.state
            ));
        }
        if next_cursor.is_some() {
            text.push_str("\nThere are more: pass next_cursor as `cursor`.");
        }
        Ok(Answer::new(
            text,
            &ActionList {
                actions,
                next_cursor,
            },
        ))
    }

    /// Returns at the first change of state, at an end, or when the time is over.
    pub async fn wait_for_action(&self, args: WaitForAction) -> Result<Answer, Complaint> {
        let seconds = args.timeout_seconds.unwrap_or(DEFAULT_WAIT);
        let until = Instant::now() + Duration::from_secs(u64::from(seconds));
        let mut changes = self.app.store.changes();
        let mut first: Option<StateName> = None;
        loop {
            changes.borrow_and_update();
            let action = self.action(parse_id(&args.action_id)?).await?;
            is_in(&action, args.cluster.as_deref())?;
            let state = action.state.name();
            let over = Instant::now() >= until || self.app.shutdown.is_cancelled();
            if over || state.is_terminal() || first.is_some_and(|first| first != state) {
                break;
            }
            first = Some(state);
            tokio::select! {
                changed = changes.changed() => {
                    // Commits of others wake us, too; without a sender we poll.
                    let pause = if changed.is_ok() { 10 } else { 500 };
                    sleep(Duration::from_millis(pause)).await;
                }
                () = sleep_until(until) => {}
                () = self.app.shutdown.cancelled() => {}
            }
        }
        let detail = self
            .detail(&args.action_id, args.cluster.as_deref())
            .await?;
        let mut answer = self.status(&detail);
        if !detail.action.state.name().is_terminal() {
            answer
                .text
                .push_str("\nIt has not ended: call wait_for_action again.");
        }
        Ok(answer)
    }

    pub async fn cancel_action(&self, args: CancelAction) -> Result<Answer, Complaint> {
        let id = parse_id(&args.action_id)?;
        let action = self.action(id).await?;
        is_in(&action, args.cluster.as_deref())?;
        let message = match &args.reason {
            Some(reason) => format!(
                "taken back by {}: {}",
                self.caller.agent,
                countersign_domain::one_line(&mask(reason), 500)
            ),
            None => format!("taken back by {}", self.caller.agent),
        };
        let now = self.app.clock.now();
        let reason = Reason::new(Code::ByProposer, message);
        let event = AuditEvent::new(
            now,
            &*self.app.entropy,
            Author::Server,
            EventName::Cancelled,
            self.caller.agent.as_str(),
        )
        .about(id)
        .with("code", reason.code.as_str())
        .with("message", reason.message.as_str())
        .with("session", self.caller.session.as_str());
        let cancelled = self
            .app
            .store
            .cancel(id, &self.caller.agent, reason, now, event)
            .await;
        match cancelled.map_err(|error| Complaint::store(&error))? {
            Transition::Done(_) => {}
            Transition::Conflict(now) => {
                let state = now.as_ref().unwrap_or(&action).state.name();
                if state != StateName::Cancelled {
                    let why = match state {
                        StateName::Approved => {
                            "it is approved and the executor is working on it".to_owned()
                        }
                        state if state.is_terminal() => format!("it has already ended: {state}"),
                        state => format!("it is {state} by now"),
                    };
                    return Err(Complaint::new(
                        "too_late",
                        format!("this action cannot be taken back: {why}. See get_action."),
                    )
                    .about(id));
                }
            }
        }
        let detail = self
            .detail(&args.action_id, args.cluster.as_deref())
            .await?;
        Ok(self.status(&detail))
    }

    /// One of the caller's own actions.
    pub async fn action(&self, id: ActionId) -> Result<Action, Complaint> {
        let found = self
            .app
            .store
            .get(id)
            .await
            .map_err(|error| Complaint::store(&error))?;
        found
            .filter(|action| self.owns(action))
            .ok_or_else(|| unknown(id))
    }

    async fn detail(&self, id: &str, cluster: Option<&str>) -> Result<ActionDetail, Complaint> {
        let id = parse_id(id)?;
        let found = self
            .app
            .store
            .detail(id)
            .await
            .map_err(|error| Complaint::store(&error))?;
        let detail = found
            .filter(|detail| self.owns(&detail.action))
            .ok_or_else(|| unknown(id))?;
        is_in(&detail.action, cluster)?;
        Ok(detail)
    }

    /// State and reason of an action without its records at hand.
    pub async fn told(&self, action: &Action) -> Result<Told, Complaint> {
        if evidence::is_executors(action.state.name()) {
            let detail = self.app.store.detail(action.id).await;
            if let Some(detail) = detail.map_err(|error| Complaint::store(&error))? {
                let standing = Standing::of(&detail, &self.app.executor_keys);
                return Ok(Told::of(&detail, &standing));
            }
        }
        Ok(Told {
            state: action.state.name(),
            why: action.state.end().map(|end| Why::from(&end.reason)),
        })
    }

    pub fn owns(&self, action: &Action) -> bool {
        action.proposal.agent == self.caller.agent
            && self.caller.sees(&action.proposal.target.namespace)
    }

    fn status(&self, detail: &ActionDetail) -> Answer {
        let action = &detail.action;
        let (keys, target) = (&self.app.executor_keys, &action.proposal.target);
        let standing = Standing::of(detail, keys);
        let told = Told::of(detail, &standing);
        let ended = action.state.name().is_terminal();
        let shown = self.statement(action);
        let statement = shown.as_ref().and_then(|opened| opened.as_ref().ok());
        let held = match &shown {
            Some(Err(error)) => Some(Why::new(
                Code::StatementForged,
                format!("the stored statement is not one that the executor signed: {error}"),
            )),
            _ => action.state.held().map(|held| Why::from(&held.reason)),
        };
        // Where nothing signed vouches for the state, waiting brings nothing new.
        let (poll_after_seconds, next_tool) = match standing {
            Standing::Unsigned => (0, None),
            _ => pace(told.state),
        };
        let brief = |event: &AuditEvent| {
            !matches!(
                event.event,
                EventName::ToolCalled | EventName::Viewed | EventName::Notified
            )
        };
        let moments: Vec<Moment> = detail
            .timeline
            .iter()
            .filter(|row| brief(&row.event))
            .map(|row| Moment {
                at: row.event.at.to_string(),
                event: row.event.event.to_string(),
                who: match evidence::voucher(row, keys) {
                    Voucher::Nobody => "(not signed by the executor)".to_owned(),
                    Voucher::Server | Voucher::Executor => row.event.actor.clone(),
                },
            })
            .collect();
        let skip = moments.len().saturating_sub(MOMENTS);
        let body = ActionStatus {
            action_id: action.id.to_string(),
            tool: action.proposal.kind.to_string(),
            cluster: target.cluster.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            uid: target.uid.clone(),
            state: told.state.to_string(),
            ended,
            outcome: told.why,
            held,
            change: statement.map(|statement| statement.body().change()),
            digest: statement.map(|statement| statement.digest().to_string()),
            decisions: detail
                .decisions
                .iter()
                .map(|row| Decided {
                    person: row.person.clone(),
                    decision: row.verb.to_string(),
                    channel: row.channel.to_string(),
                    at: row.decided_at.to_string(),
                    reason: countersign_domain::one_line(&row.reason, 1000),
                })
                .collect(),
            approval_url: self.app.action_url(action.id),
            ticket: detail.ticket.as_ref().map(ticket_link),
            proposed_at: action.created_at.to_string(),
            expires_at: statement.and_then(|statement| expires_at(&action.state, statement.body())),
            timeline: moments.into_iter().skip(skip).collect(),
            poll_after_seconds,
            next_tool: next_tool.map(str::to_owned),
            simulated: self.simulated(&target.cluster),
        };
        let mut text = sentence(&body);
        if let Some(record) = evidence::contradiction(detail, keys) {
            text.push_str(&format!("\n{}", evidence::contradiction_sentence(&record)));
        }
        Answer::new(text, &body).about(action.id)
    }

    /// The statement, if this deployment's executor signed it. Nothing else is ever shown as one.
    pub fn statement(&self, action: &Action) -> Option<Result<Signed<Statement>, NotSigned>> {
        evidence::statement(action, &self.app.executor_keys, self.app.clock.now())
    }

    pub fn simulated(&self, cluster: &str) -> bool {
        self.app
            .clusters
            .get(cluster)
            .is_some_and(|handle| handle.simulated)
    }
}

fn sentence(body: &ActionStatus) -> String {
    let what = body.change.clone().unwrap_or_else(|| {
        format!(
            "{} {}/{} in cluster {}",
            body.tool, body.namespace, body.name, body.cluster
        )
    });
    let mut text = format!("Action {} is {}: {what}.", body.action_id, body.state);
    if let Some(outcome) = &body.outcome {
        text.push_str(&format!(
            "\n{} ({}).",
            outcome.message.trim_end_matches('.'),
            outcome.code
        ));
    }
    if let Some(held) = &body.held {
        text.push_str(&format!(
            "\nHeld: {} ({}).",
            held.message.trim_end_matches('.'),
            held.code
        ));
    }
    for decided in &body.decisions {
        text.push_str(&format!(
            "\n{} by {} ({})",
            decided.decision, decided.person, decided.channel
        ));
        if !decided.reason.is_empty() {
            text.push_str(&format!(": \"{}\"", decided.reason));
        }
    }
    if body.state == "pending" {
        text.push_str(&format!("\nA person decides at {}", body.approval_url));
        if let Some(until) = &body.expires_at {
            text.push_str(&format!(" until {until}"));
        }
        text.push('.');
    }
    if body.simulated {
        text.push_str("\n(The cluster is simulated.)");
    }
    text
}

/// How soon to ask again, and with what.
pub const fn pace(state: StateName) -> (u32, Option<&'static str>) {
    match state {
        StateName::Checking => (1, Some("wait_for_action")),
        StateName::Pending | StateName::Indeterminate => (10, Some("wait_for_action")),
        StateName::Approved | StateName::Executing => (3, Some("wait_for_action")),
        _ => (0, None),
    }
}

/// The deadline that counts in this state.
pub fn expires_at(state: &State, statement: &Statement) -> Option<String> {
    match state.name() {
        StateName::Pending => Some(statement.decide_by.to_string()),
        StateName::Approved => Some(statement.execute_by.to_string()),
        _ => None,
    }
}

pub fn ticket_link(ticket: &Ticket) -> TicketLink {
    TicketLink {
        key: ticket.key.clone(),
        url: ticket.url.clone(),
    }
}

fn parse_id(text: &str) -> Result<ActionId, Complaint> {
    text.parse::<ActionId>()
        .map_err(|error| Complaint::new("invalid_arguments", error.to_string()))
}

fn unknown(id: ActionId) -> Complaint {
    Complaint::new(
        "unknown_action",
        format!("you have no action {id}: list_actions shows those that you proposed"),
    )
}

/// An id says which action is meant. A cluster beside it must be the action's own, so that a caller
/// that has mixed two up learns of it. Only for actions that the caller may see.
fn is_in(action: &Action, cluster: Option<&str>) -> Result<(), Complaint> {
    let own = &action.proposal.target.cluster;
    match cluster {
        Some(cluster) if cluster != own => Err(Complaint::new(
            "wrong_cluster",
            format!(
                "your action {} is in cluster {own}, not in {}: leave `cluster` out, or look for \
                 the action that you mean with list_actions",
                action.id,
                countersign_domain::one_line(cluster, 128)
            ),
        )
        .about(action.id)),
        _ => Ok(()),
    }
}

fn states(word: StateWord) -> Vec<StateName> {
    let one = match word {
        StateWord::Open => {
            return StateName::ALL
                .iter()
                .copied()
                .filter(|state| !state.is_terminal())
                .collect();
        }
        StateWord::Checking => StateName::Checking,
        StateWord::Pending => StateName::Pending,
        StateWord::Approved => StateName::Approved,
        StateWord::Executing => StateName::Executing,
        StateWord::Indeterminate => StateName::Indeterminate,
        StateWord::Succeeded => StateName::Succeeded,
        StateWord::Failed => StateName::Failed,
        StateWord::Denied => StateName::Denied,
        StateWord::Rejected => StateName::Rejected,
        StateWord::Cancelled => StateName::Cancelled,
        StateWord::Expired => StateName::Expired,
        StateWord::Refused => StateName::Refused,
    };
    vec![one]
}
