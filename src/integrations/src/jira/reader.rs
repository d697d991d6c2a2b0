//! Reads of Jira: all that the executor's own look needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::connection::{Connection, Paging};
use super::error::JiraError;
use super::records::{Account, ChangeEntry, ChangeItem, Comment, IssueRecord};
use crate::untrusted;

const FIELDS: &str = "summary,description,status,issuetype,project,creator,created,labels";
/// Jira's own upper bound for a page of history.
const PAGE: usize = 100;
/// An issue with more history than this is not one of ours any more: a handful of moves is usual.
/// Whoever makes one longer, or fills it with long texts, keeps people from answering there, as by an
/// edit; not others, whose tickets are looked at after it.
const LONGEST_HISTORY: usize = 500;
/// One look at an issue, with all its pages.
const LOOK: Duration = Duration::from_secs(10);
/// Of a search: the issues that carry one label.
const MOST_PAGES: usize = 100;
/// Issues found at once; each comes with its description.
const FOUND: &str = "10";
/// Longest name kept from a history: an edit's entry has both texts whole.
const LONGEST_NAME: usize = 255;

/// Reads one Jira site as one account. Cheap to clone; connects on the first call.
#[derive(Clone, Debug)]
pub struct JiraReader {
    pub(super) connection: Arc<Connection>,
}

impl JiraReader {
    /// `base_url` is the site (`https://x.atlassian.net`) or, for scoped tokens,
    /// `https://api.atlassian.com/ex/jira/CLOUD-ID`.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(base_url: &str, email: &str, token: SecretString) -> Result<Self, JiraError> {
        Ok(Self {
            connection: Arc::new(Connection::new(base_url, email, token)?),
        })
    }

    /// The site's address, with a slash at the end.
    #[must_use]
    pub fn site(&self) -> &str {
        self.connection.site()
    }

    /// Whose token this is. Ask before trusting an empty search or a 404: bad credentials can
    /// look like an anonymous visitor.
    pub async fn myself(&self) -> Result<Account, JiraError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Myself {
            account_id: String,
            #[serde(default)]
            display_name: String,
        }
        let Myself {
            account_id,
            display_name,
        } = self.connection.get(&["myself"], &[], "our account").await?;
        Ok(Account {
            account_id,
            display_name: untrusted::line(&display_name, 200),
        })
    }

    /// An issue as it stands and its whole history, read within [`LOOK`].
    pub async fn look(
        &self,
        id_or_key: &str,
    ) -> Result<(IssueRecord, Vec<ChangeEntry>), JiraError> {
        self.look_within(LOOK, id_or_key).await
    }

    async fn look_within(
        &self,
        limit: Duration,
        id_or_key: &str,
    ) -> Result<(IssueRecord, Vec<ChangeEntry>), JiraError> {
        let both = async { tokio::try_join!(self.issue(id_or_key), self.changelog(id_or_key)) };
        match tokio::time::timeout(limit, both).await {
            Ok(looked) => looked,
            Err(_) => Err(JiraError::Unavailable {
                problem: format!(
                    "issue {id_or_key} and its history were not read within {} s",
                    limit.as_secs_f32()
                ),
            }),
        }
    }

    /// An issue by id (better: it never changes) or key.
    pub async fn issue(&self, id_or_key: &str) -> Result<IssueRecord, JiraError> {
        let id = issue_ref(id_or_key)?;
        let what = format!("issue {id}");
        let wire: WireIssue = self
            .connection
            .get(&["issue", id], &[("fields", FIELDS)], &what)
            .await?;
        wire.record(&what)
    }

    /// The whole history, oldest first, read page by page to its end: `expand=changelog` would
    /// give the recent part only.
    pub async fn changelog(&self, id_or_key: &str) -> Result<Vec<ChangeEntry>, JiraError> {
        let id = issue_ref(id_or_key)?;
        let what = format!("the history of issue {id}");
        let unexpected = |problem: &str| JiraError::Unexpected {
            what: what.clone(),
            problem: problem.to_owned(),
        };
        let mut entries: Vec<ChangeEntry> = Vec::new();
        let mut seen = HashSet::new();
        let (mut start, mut paging) = (0, Paging::bounded(PAGE));
        while start <= LONGEST_HISTORY {
            let page: WireHistory = self
                .connection
                .page(&["issue", id, "changelog"], &[], start, &mut paging, &what)
                .await?;
            if page.total.is_some_and(|total| total > LONGEST_HISTORY) {
                break;
            }
            let got = page.values.len();
            start += got;
            for wire in page.values {
                let entry = wire
                    .entry()
                    .ok_or_else(|| unexpected("an entry has no valid time"))?;
                if seen.insert(entry.id.clone()) {
                    entries.push(entry);
                }
            }
            let more = match (page.total, page.is_last) {
                (Some(total), _) => start < total,
                (None, Some(last)) => !last,
                (None, None) => return Err(unexpected("it does not say how long it is")),
            };
            if !more {
                // The order of equal moments is that of the ids.
                entries.sort_by(|a, b| a.order().cmp(&b.order()));
                return Ok(entries);
            }
            if got == 0 {
                return Err(unexpected("it ends before its own total"));
            }
        }
        Err(unexpected(
            "it is longer than any history of ours, so nobody can answer there",
        ))
    }

    /// The latest comments, newest first, at most `most`; fewer where they are very long.
    pub async fn comments(&self, id_or_key: &str, most: usize) -> Result<Vec<Comment>, JiraError> {
        let id = issue_ref(id_or_key)?;
        let newest = [("orderBy", "-created")];
        let mut paging = Paging::of(most);
        let page = self.comment_page(id, &newest, 0, &mut paging).await?;
        let mut comments = page.comments;
        comments.truncate(most);
        Ok(comments)
    }

    pub(super) async fn comment_page(
        &self,
        id: &str,
        order: &[(&str, &str)],
        start: usize,
        paging: &mut Paging,
    ) -> Result<CommentPage, JiraError> {
        let what = format!("the comments on issue {id}");
        let page: WireComments = self
            .connection
            .page(&["issue", id, "comment"], order, start, paging, &what)
            .await?;
        Ok(CommentPage {
            total: page.total,
            comments: page
                .comments
                .into_iter()
                .map(|wire| Comment {
                    id: wire.id,
                    author_account_id: wire.author.and_then(|author| author.account_id),
                    body: wire.body,
                })
                .collect(),
        })
    }

    /// The issues that carry `label`, oldest first. Cloud's search lags behind writes: an empty
    /// answer soon after an ambiguous create proves nothing.
    pub async fn search_by_label(&self, label: &str) -> Result<Vec<IssueRecord>, JiraError> {
        check_label(label)?;
        let jql = format!("labels = \"{label}\" ORDER BY created ASC");
        let mut issues = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![
                ("jql", jql.as_str()),
                ("fields", FIELDS),
                ("maxResults", FOUND),
            ];
            if let Some(token) = &next {
                query.push(("nextPageToken", token));
            }
            let page: WireSearch = self
                .connection
                .get(&["search", "jql"], &query, "the search")
                .await?;
            for wire in page.issues {
                issues.push(wire.record("a found issue")?);
            }
            next = page.next_page_token.filter(|token| !token.is_empty());
            if next.is_none() || page.is_last == Some(true) {
                break;
            }
        }
        Ok(issues)
    }
}

/// A part of an issue's comments.
pub(super) struct CommentPage {
    /// How many there are in all.
    pub total: usize,
    pub comments: Vec<Comment>,
}

impl ChangeEntry {
    /// Jira's order: by time, then by number.
    pub(super) fn order(&self) -> (Timestamp, u64, &str) {
        (self.created, self.id.parse().unwrap_or(u64::MAX), &self.id)
    }
}

/// An id (`10042`) or a key (`OPS-12`).
pub(super) fn issue_ref(text: &str) -> Result<&str, JiraError> {
    let id = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let key = text.split_once('-').is_some_and(|(project, number)| {
        project.starts_with(|c: char| c.is_ascii_alphabetic())
            && project
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    });
    if text.len() <= 64 && (id || key) {
        return Ok(text);
    }
    let shown = untrusted::line(text, 80);
    Err(JiraError::Invalid {
        problem: format!("`{shown}` is neither the id nor the key of a Jira issue"),
    })
}

/// Labels of ours: nothing that could end the string in a query.
pub(super) fn check_label(label: &str) -> Result<(), JiraError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=255).contains(&label.len()) && label.bytes().all(plain) {
        return Ok(());
    }
    Err(JiraError::Invalid {
        problem: format!(
            "`{}` is not a label: use letters, digits, `-`, `_` and `.`",
            untrusted::line(label, 80)
        ),
    })
}

/// `2026-11-22T02:16:00.000+0000`: no colon in the offset, so not RFC 3339.
fn time(text: &str) -> Option<Timestamp> {
    Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text)
        .ok()
        .or_else(|| text.parse().ok())
}

#[derive(Deserialize)]
struct WireIssue {
    id: String,
    key: String,
    fields: WireFields,
}

#[derive(Deserialize)]
struct WireFields {
    summary: String,
    #[serde(default)]
    description: Value,
    status: WireNamed,
    issuetype: WireNamed,
    project: WireProject,
    #[serde(default)]
    creator: Option<WireAuthor>,
    created: String,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize)]
struct WireNamed {
    id: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct WireProject {
    id: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAuthor {
    account_id: Option<String>,
}

impl WireIssue {
    fn record(self, what: &str) -> Result<IssueRecord, JiraError> {
        let Self { id, key, fields } = self;
        let created_at = time(&fields.created).ok_or_else(|| JiraError::Unexpected {
            what: what.to_owned(),
            problem: "its creation has no valid time".to_owned(),
        })?;
        Ok(IssueRecord {
            id,
            key,
            project_id: fields.project.id,
            project_key: fields.project.key,
            issue_type_id: fields.issuetype.id,
            status_id: fields.status.id,
            status_name: fields.status.name,
            creator_account_id: fields.creator.and_then(|creator| creator.account_id),
            created_at,
            summary: fields.summary,
            description: fields.description,
            labels: fields.labels,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHistory {
    total: Option<usize>,
    is_last: Option<bool>,
    values: Vec<WireEntry>,
}

#[derive(Deserialize)]
struct WireEntry {
    id: String,
    author: Option<WireAuthor>,
    created: String,
    #[serde(default)]
    items: Vec<WireItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireItem {
    field: String,
    field_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    from_string: Option<String>,
    to_string: Option<String>,
}

fn name(text: &str) -> String {
    text.chars().take(LONGEST_NAME).collect()
}

impl WireEntry {
    fn entry(self) -> Option<ChangeEntry> {
        Some(ChangeEntry {
            created: time(&self.created)?,
            id: self.id,
            author_account_id: self.author.and_then(|author| author.account_id),
            items: self
                .items
                .into_iter()
                .map(|item| ChangeItem {
                    field: item.field,
                    field_id: item.field_id,
                    from: item.from,
                    to: item.to,
                    from_string: item.from_string.as_deref().map(name),
                    to_string: item.to_string.as_deref().map(name),
                })
                .collect(),
        })
    }
}

#[derive(Deserialize)]
struct WireComments {
    #[serde(default)]
    total: usize,
    comments: Vec<WireComment>,
}

#[derive(Deserialize)]
struct WireComment {
    id: String,
    author: Option<WireAuthor>,
    #[serde(default)]
    body: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSearch {
    issues: Vec<WireIssue>,
    next_page_token: Option<String>,
    is_last: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_keys_and_plain_labels_pass() {
        for good in ["10042", "OPS-12", "A1_B-1"] {
            assert!(issue_ref(good).is_ok(), "{good}");
        }
        for bad in ["", "OPS", "../x", "OPS-12/x", "1 OR 1", "-1", "OPS-1a"] {
            assert!(issue_ref(bad).is_err(), "{bad}");
        }
        assert!(check_label("countersign-0192f0c1").is_ok());
        assert!(check_label("a b").is_err());
        assert!(check_label("a\" OR labels = \"b").is_err());
    }

    #[tokio::test]
    async fn a_look_has_an_end_however_slowly_jira_answers() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let reader = JiraReader::new(&url, "bot@example.org", SecretString::from("t")).unwrap();
        let looked = reader.look_within(Duration::from_millis(50), "OPS-1").await;
        let error = looked.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let told = error.to_string();
        assert!(
            told.contains("OPS-1 and its history were not read within 0.05 s"),
            "{told}"
        );
    }

    #[test]
    fn jira_times_parse() {
        let at = time("2026-11-22T02:16:00.123+0100").unwrap();
        assert_eq!(at.to_string(), "2026-11-22T01:16:00.123Z");
        assert_eq!(time("2026-11-22T01:16:00.123Z").unwrap(), at);
        assert!(time("yesterday").is_none());
    }
}
