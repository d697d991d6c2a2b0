//! Our Jira: the client, the configured ids, and what is known about it for as long as this process
//! lives. Turns Jira's errors into what the outbox does next.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_domain::{Verb, one_line};
use countersign_integrations::jira::ticket::TicketText;
use countersign_integrations::jira::{
    ChangeEntry, IssueRecord, IssueType, JiraError, JiraWriter, NewIssue, RemoteLink, StatusMove,
    adf, edited_after_creation, latest_status_move,
};
use countersign_store::Ticket;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use url::Url;

use super::outbox::Trouble;
use super::settings::{JiraSettings, SettingsError};
use crate::config::Jira;

/// A person's comment is looked for among this many of the latest.
const COMMENTS: &str = "50";
const LARGEST_BODY: usize = 1 << 20;

pub(super) struct Tracker {
    jira: JiraWriter,
    config: Jira,
    base_url: Url,
    token: SecretString,
    comments: reqwest::Client,
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

/// What a look at a ticket shows, when its status answers the question.
pub(super) struct Look {
    pub issue: IssueRecord,
    pub verb: Verb,
    pub moved: StatusMove,
    history: Vec<ChangeEntry>,
}

impl Tracker {
    pub fn new(settings: JiraSettings) -> Result<Self, SettingsError> {
        let JiraSettings {
            config,
            base_url,
            token,
        } = settings;
        let jira = JiraWriter::new(base_url.as_str(), &config.email, token.clone())
            .map_err(|error| SettingsError::Jira(error.to_string()))?;
        let comments = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Self {
            jira,
            config,
            base_url,
            token,
            comments,
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

    /// The ticket with this label that we made; the oldest, should there be several.
    pub async fn find(&self, label: &str) -> Result<Option<Ticket>, Trouble> {
        let own = self.own_account().await?;
        let found = self.jira.reader().search_by_label(label).await?;
        // Anyone may put our label on an issue of their own.
        let mut ours = found.into_iter().filter(|issue| {
            issue.creator_account_id.as_deref() == Some(own)
                && issue.project_id == self.config.project_id
        });
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

    /// `None`: the ticket's status says neither yes nor no, or it changed while we looked.
    pub async fn look(&self, issue: &str) -> Result<Option<Look>, JiraError> {
        let record = self.jira.reader().issue(issue).await?;
        let verb = if self.config.approving_status_ids.contains(&record.status_id) {
            Verb::Approve
        } else if self.config.declining_status_ids.contains(&record.status_id) {
            Verb::Reject
        } else {
            return Ok(None);
        };
        let history = self.jira.reader().changelog(issue).await?;
        Ok(latest_status_move(&record, &history).map(|moved| Look {
            issue: record,
            verb,
            moved,
            history,
        }))
    }

    /// The words of the latest comment of this account, on one line. A courtesy: the decision does
    /// not hang on it.
    pub async fn last_comment_of(&self, issue: &str, account: &str) -> Option<String> {
        let mut url = self.base_url.clone();
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .extend(["rest", "api", "3", "issue", issue, "comment"]);
        url.query_pairs_mut()
            .append_pair("orderBy", "-created")
            .append_pair("maxResults", COMMENTS);
        let mut answer = self
            .comments
            .get(url)
            .basic_auth(&self.config.email, Some(self.token.expose_secret()))
            .send()
            .await
            .ok()?
            .error_for_status()
            .ok()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        let page: Value = serde_json::from_slice(&body).ok()?;
        let latest = page["comments"]
            .as_array()?
            .iter()
            .filter(|comment| comment["author"]["accountId"].as_str() == Some(account))
            .max_by_key(|comment| {
                let id: Option<u64> = comment["id"].as_str().and_then(|id| id.parse().ok());
                id.unwrap_or(0)
            })?;
        let words = one_line(adf::text(&latest["body"]).trim(), 500);
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

impl Look {
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
