//! Our Jira: the client, the configured ids, and what is known about it for as long as this process
//! lives. Turns Jira's errors into what the outbox does next.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_domain::{Verb, one_line};
use countersign_integrations::jira::ticket::TicketText;
use countersign_integrations::jira::{
    ChangeEntry, IssueRecord, IssueType, JiraError, JiraWriter, NewIssue, RemoteLink, StatusMove,
    adf, edited_after_creation, latest_status_move, status_moves,
};
use countersign_store::Ticket;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::outbox::Trouble;
use super::settings::{JiraSettings, SettingsError};
use super::verdict::Move;
use crate::config::Jira;

/// A person's comment is looked for among this many of the latest.
const COMMENTS: usize = 50;

pub(super) struct Tracker {
    jira: JiraWriter,
    config: Jira,
    own_account: OnceCell<String>,
    /// Outbox rows of which this process knows that no create of theirs can have happened.
    not_created: Mutex<HashSet<i64>>,
}

/// What became of a create.
pub(super) enum Created {
    Yes(Ticket),
    /// Surely not: repeating it is safe.
    No(Trouble),
    /// The answer was lost.
    Perhaps(Trouble),
}

pub(super) enum Moved {
    Done,
    AlreadyThere,
    /// The workflow offers our account no such transition.
    Unavailable(String),
}

/// What a look at a ticket shows.
pub(super) struct Look {
    issue: IssueRecord,
    history: Vec<ChangeEntry>,
}

/// Where a ticket stands now.
pub(super) enum Standing {
    /// Its status says neither yes nor no.
    Open,
    /// By the latest status change of all.
    Answered(Move),
    /// Status and history were not read at one moment.
    Unclear,
}

impl Tracker {
    pub fn new(settings: JiraSettings) -> Result<Self, SettingsError> {
        let JiraSettings {
            config,
            base_url,
            token,
        } = settings;
        let jira = JiraWriter::new(base_url.as_str(), &config.email, token)
            .map_err(|error| SettingsError::Jira(error.to_string()))?;
        Ok(Self {
            jira,
            config,
            own_account: OnceCell::new(),
            not_created: Mutex::default(),
        })
    }

    pub fn config(&self) -> &Jira {
        &self.config
    }

    /// Our own account's id. Also proves that the credentials are accepted: with bad ones, Jira may
    /// answer a search with an empty list, as to a stranger.
    pub async fn own_account(&self) -> Result<&str, JiraError> {
        self.own_account
            .get_or_try_init(|| async { Ok(self.jira.reader().myself().await?.account_id) })
            .await
            .map(String::as_str)
    }

    /// The ticket with this label that we made and that says this; the oldest, should there be
    /// several. Anyone may put a label on any issue, also on one that we made for another action:
    /// what is answered there answers another question. One of ours that somebody has rewritten is
    /// passed over, too. No move of it could approve anything, so one ticket more, which can be
    /// answered, is the better end of that.
    pub async fn find(&self, label: &str, text: &TicketText) -> Result<Option<Ticket>, Trouble> {
        let own = self.own_account().await?;
        let found = self.jira.reader().search_by_label(label).await?;
        let made_here = found.into_iter().filter(|issue| {
            issue.creator_account_id.as_deref() == Some(own)
                && issue.project_id == self.config.project_id
        });
        let (ours, others): (Vec<IssueRecord>, _) =
            made_here.partition(|issue| text.is_said_by(&issue.summary, &issue.description));
        for other in others {
            tracing::warn!(
                ticket = other.key,
                label,
                "this ticket of ours carries the label of an action that it does not ask about, or \
                 was rewritten: it is not used"
            );
        }
        let mut ours = ours.into_iter();
        let first = ours.next();
        if let (Some(first), Some(extra)) = (&first, ours.next()) {
            tracing::error!(
                ticket = first.key,
                extra = extra.key,
                label,
                "two tickets of ours carry one label; the older one counts"
            );
        }
        Ok(first.map(|issue| self.ticket(issue.id, issue.key)))
    }

    pub async fn create(&self, text: &TicketText, label: &str) -> Created {
        let new = NewIssue {
            project: self.config.project_id.clone(),
            issue_type: IssueType::Id(self.config.issue_type_id.clone()),
            summary: text.summary.clone(),
            description: text.description.clone(),
            labels: vec![label.to_owned()],
            properties: Vec::new(),
            extra_fields: Map::new(),
        };
        match self.jira.create_issue(&new).await {
            Ok(created) => Created::Yes(self.ticket(created.id, created.key)),
            Err(error @ JiraError::Ambiguous { .. }) => Created::Perhaps(error.into()),
            Err(error) => Created::No(error.into()),
        }
    }

    pub async fn link(
        &self,
        issue: &str,
        global_id: &str,
        url: &str,
        title: &str,
    ) -> Result<(), Trouble> {
        let link = RemoteLink {
            global_id: global_id.to_owned(),
            url: url.to_owned(),
            title: title.to_owned(),
            resolved: false,
        };
        Ok(self.jira.remote_link(issue, &link).await?)
    }

    /// Adds a comment unless one of ours ends with this marker.
    pub async fn comment_once(
        &self,
        issue: &str,
        marker: &str,
        body: &Value,
    ) -> Result<(), JiraError> {
        self.jira.add_comment(issue, body, marker).await.map(drop)
    }

    pub async fn move_to(&self, issue: &str, status: &str) -> Result<Moved, Trouble> {
        use countersign_integrations::jira::TransitionOutcome as Outcome;
        match self.jira.transition_to_status(issue, status).await {
            Ok(Outcome::Moved) => Ok(Moved::Done),
            Ok(Outcome::AlreadyThere) => Ok(Moved::AlreadyThere),
            Err(error @ JiraError::NoTransition { .. }) => {
                Ok(Moved::Unavailable(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub async fn look(&self, issue: &str) -> Result<Look, JiraError> {
        let (issue, history) = self.jira.reader().look(issue).await?;
        Ok(Look { issue, history })
    }

    /// What a move to this status says.
    fn verb(&self, status: &str) -> Option<Verb> {
        let is = |ids: &[String]| ids.iter().any(|id| id == status);
        if is(&self.config.approving_status_ids) {
            Some(Verb::Approve)
        } else if is(&self.config.declining_status_ids) {
            Some(Verb::Reject)
        } else {
            None
        }
    }

    /// All moves that said no, the latest first, also those that were undone since.
    pub fn declined(&self, look: &Look) -> Vec<Move> {
        let moves = status_moves(&look.history).into_iter().rev();
        moves
            .filter(|moved| self.verb(&moved.to_status_id) == Some(Verb::Reject))
            .map(|moved| answer(moved, Verb::Reject))
            .collect()
    }

    pub fn standing(&self, look: &Look) -> Standing {
        let latest = latest_status_move(&look.issue, &look.history);
        match (self.verb(&look.issue.status_id), latest) {
            (Some(verb), Some(moved)) => Standing::Answered(answer(moved, verb)),
            (None, Some(_)) => Standing::Open,
            // Nobody has moved it yet.
            (None, None) if status_moves(&look.history).is_empty() => Standing::Open,
            (_, None) => Standing::Unclear,
        }
    }

    /// The words of the latest comment of this account, on one line. A courtesy: the decision does
    /// not hang on it.
    pub async fn last_comment_of(&self, issue: &str, account: &str) -> Option<String> {
        let comments = self.jira.reader().comments(issue, COMMENTS).await.ok()?;
        let latest = comments
            .iter()
            .filter(|comment| comment.author_account_id.as_deref() == Some(account))
            .max_by_key(|comment| comment.id.parse().unwrap_or(0_u64))?;
        let words = one_line(adf::text(&latest.body).trim(), 500);
        (!words.is_empty()).then_some(words)
    }

    pub fn surely_not_created(&self, item: i64) -> bool {
        self.noted().contains(&item)
    }

    pub fn note_not_created(&self, item: i64) {
        self.noted().insert(item);
    }

    pub fn forget(&self, item: i64) {
        self.noted().remove(&item);
    }

    fn noted(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.not_created
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self, issue_id: String, key: String) -> Ticket {
        let url = format!("{}browse/{key}", self.jira.reader().site());
        Ticket { issue_id, key, url }
    }
}

fn answer(moved: StatusMove, verb: Verb) -> Move {
    Move {
        entry: moved.entry_id,
        verb,
        account: moved.author_account_id,
        at: moved.at,
    }
}

impl Look {
    /// When anything about the ticket was changed last, by Jira's clock.
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.history.last().map(|entry| entry.created)
    }

    /// Why the ticket is no longer the one that we wrote, if it is not.
    pub fn altered(&self, text: &TicketText, own_account: &str, config: &Jira) -> Option<String> {
        if self.issue.creator_account_id.as_deref() != Some(own_account) {
            return Some("the ticket was not made by Countersign".to_owned());
        }
        if self.issue.project_id != config.project_id
            || self.issue.issue_type_id != config.issue_type_id
        {
            return Some("the ticket was moved to another project or type".to_owned());
        }
        if edited_after_creation(&self.history).is_some()
            || !text.is_said_by(&self.issue.summary, &self.issue.description)
        {
            return Some("the ticket's summary or description was edited".to_owned());
        }
        None
    }
}

impl From<JiraError> for Trouble {
    fn from(error: JiraError) -> Self {
        let after = match &error {
            JiraError::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        };
        Self::new(format!("Jira: {error}")).not_before(after)
    }
}
