//! Writes to Jira, for the outbox. Each can be repeated after any error, except
//! [`JiraWriter::create_issue`] after [`JiraError::Ambiguous`]: search by label first.

use std::sync::Arc;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::adf;
use super::connection::Paging;
use super::error::JiraError;
use super::reader::{JiraReader, check_label, issue_ref};
use super::records::{CreatedIssue, IssueType, NewIssue, RemoteLink};
use crate::untrusted;

/// Jira's own limits, in characters.
const LONGEST_SUMMARY: usize = 255;
const LONGEST_TEXT: usize = 32_767;
const COMMENTS: usize = 100;
const MOST_PAGES: usize = 100;

/// Writes to one Jira site as our bot. Everything that reads is on [`Self::reader`].
#[derive(Clone, Debug)]
pub struct JiraWriter {
    reader: JiraReader,
    own_account: Arc<OnceCell<String>>,
}

/// The comment's id, and whether it is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommentOutcome {
    Added { id: String },
    AlreadyThere { id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionOutcome {
    Moved,
    AlreadyThere,
}

impl JiraWriter {
    /// As [`JiraReader::new`].
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(base_url: &str, email: &str, token: SecretString) -> Result<Self, JiraError> {
        let reader = JiraReader::new(base_url, email, token)?;
        Ok(Self {
            reader,
            own_account: Arc::default(),
        })
    }

    #[must_use]
    pub fn reader(&self) -> &JiraReader {
        &self.reader
    }

    /// Makes a ticket. Persist its label before, and after [`JiraError::Ambiguous`] search by
    /// that label, over minutes, before trying again.
    pub async fn create_issue(&self, new: &NewIssue) -> Result<CreatedIssue, JiraError> {
        let invalid = |problem: String| Err(JiraError::Invalid { problem });
        let length = new.summary.chars().count();
        if length > LONGEST_SUMMARY || new.summary.contains(['\n', '\r']) {
            return invalid(format!(
                "a ticket's summary is one line of at most {LONGEST_SUMMARY} characters; this \
                 one has {length}"
            ));
        }
        if adf::text(&new.description).chars().count() > LONGEST_TEXT {
            return invalid(format!(
                "a ticket's description has at most {LONGEST_TEXT} characters"
            ));
        }
        new.labels.iter().try_for_each(|label| check_label(label))?;
        // Configured fields first: none of them may replace one of ours.
        let mut fields: Map<String, Value> = new.extra_fields.clone();
        let numeric = new.project.bytes().all(|b| b.is_ascii_digit());
        let project = if numeric { "id" } else { "key" };
        fields.insert("project".into(), json!({ project: new.project }));
        let issue_type = match &new.issue_type {
            IssueType::Id(id) => json!({ "id": id }),
            IssueType::Name(name) => json!({ "name": name }),
        };
        fields.insert("issuetype".into(), issue_type);
        fields.insert("summary".into(), json!(new.summary));
        fields.insert("description".into(), new.description.clone());
        fields.insert("labels".into(), json!(new.labels));
        let properties: Vec<Value> = new
            .properties
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        let mut content = json!({ "fields": fields });
        if !properties.is_empty() {
            content["properties"] = json!(properties);
        }
        let answer = self
            .reader
            .connection
            .post(&["issue"], &content, "the new ticket")
            .await?;
        match (answer["id"].as_str(), answer["key"].as_str()) {
            (Some(id), Some(key)) => Ok(CreatedIssue {
                id: id.to_owned(),
                key: key.to_owned(),
            }),
            _ => Err(JiraError::Ambiguous {
                problem: "the answer does not name the new ticket".to_owned(),
            }),
        }
    }

    /// Adds a comment once: `marker` is appended as its last line, and a comment of our own
    /// account that ends so is taken for this one. (A marker in someone else's comment is not:
    /// it would let them silence us.)
    pub async fn add_comment(
        &self,
        id_or_key: &str,
        body: &Value,
        marker: &str,
    ) -> Result<CommentOutcome, JiraError> {
        let id = issue_ref(id_or_key)?;
        check_label(marker)?;
        let last_line = format!("[{marker}]");
        if let Some(id) = self.own_comment(id, &last_line).await? {
            return Ok(CommentOutcome::AlreadyThere { id });
        }
        let mut body = body.clone();
        if let Some(content) = body["content"].as_array_mut() {
            content.push(adf::paragraph([adf::text_node(&last_line)]));
        } else {
            return Err(JiraError::Invalid {
                problem: "a comment needs a document with content".to_owned(),
            });
        }
        let what = format!("the comment on issue {id}");
        let content = json!({ "body": body });
        let answer = self
            .reader
            .connection
            .post(&["issue", id, "comment"], &content, &what)
            .await?;
        match answer["id"].as_str() {
            Some(id) => Ok(CommentOutcome::Added { id: id.to_owned() }),
            None => Err(JiraError::Ambiguous {
                problem: format!("the answer for {what} does not name it"),
            }),
        }
    }

    /// Moves an issue to a status, by the status's id, if it is not already there.
    pub async fn transition_to_status(
        &self,
        id_or_key: &str,
        status_id: &str,
    ) -> Result<TransitionOutcome, JiraError> {
        let id = issue_ref(id_or_key)?;
        let issue = self.reader.issue(id).await?;
        if issue.status_id == status_id {
            return Ok(TransitionOutcome::AlreadyThere);
        }
        let what = format!("the transitions of issue {id}");
        let path = ["issue", id, "transitions"];
        let offered: WireTransitions = self.reader.connection.get(&path, &[], &what).await?;
        let Some(transition) = offered.transitions.iter().find(|t| t.to.id == status_id) else {
            return Err(JiraError::NoTransition {
                from: format!(
                    "{} ({})",
                    untrusted::line(&issue.status_name, 60),
                    issue.status_id
                ),
                to: untrusted::line(status_id, 60),
                offered: offered
                    .transitions
                    .iter()
                    .map(|t| format!("{} ({})", untrusted::line(&t.to.name, 60), t.to.id))
                    .collect(),
            });
        };
        let content = json!({ "transition": { "id": transition.id } });
        self.reader.connection.post(&path, &content, &what).await?;
        Ok(TransitionOutcome::Moved)
    }

    /// Adds or updates the link with this `global_id`.
    pub async fn remote_link(&self, id_or_key: &str, link: &RemoteLink) -> Result<(), JiraError> {
        let id = issue_ref(id_or_key)?;
        let content = json!({
            "globalId": link.global_id,
            "object": {
                "url": link.url,
                "title": link.title,
                "status": { "resolved": link.resolved },
            },
        });
        let what = format!("the link on issue {id}");
        let path = ["issue", id, "remotelink"];
        match self.reader.connection.post(&path, &content, &what).await {
            // An upsert by globalId: repeating it is safe.
            Err(JiraError::Ambiguous { problem }) => Err(JiraError::Unavailable { problem }),
            result => result.map(drop),
        }
    }

    async fn own_comment(&self, id: &str, last_line: &str) -> Result<Option<String>, JiraError> {
        let own = self
            .own_account
            .get_or_try_init(|| async { Ok(self.reader.myself().await?.account_id) })
            .await?;
        let (mut start, mut paging) = (0, Paging::of(COMMENTS));
        for _ in 0..MOST_PAGES {
            let page = self
                .reader
                .comment_page(id, &[], start, &mut paging)
                .await?;
            start += page.comments.len();
            let ours = page.comments.iter().find(|comment| {
                comment.author_account_id.as_ref() == Some(own)
                    && adf::text(&comment.body).trim_end().ends_with(last_line)
            });
            if let Some(comment) = ours {
                return Ok(Some(comment.id.clone()));
            }
            if page.comments.is_empty() || start >= page.total {
                return Ok(None);
            }
        }
        // So many comments are not ours: one more does no harm.
        Ok(None)
    }
}

#[derive(Deserialize)]
struct WireTransitions {
    transitions: Vec<WireTransition>,
}

#[derive(Deserialize)]
struct WireTransition {
    id: String,
    to: WireStatus,
}

#[derive(Deserialize)]
struct WireStatus {
    id: String,
    #[serde(default)]
    name: String,
}
