//! What we keep of Jira's objects. Free text is as Jira sent it, because the look compares it;
//! whoever shows it passes it through [`crate::untrusted`].

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

/// The account that a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    pub account_id: String,
    pub display_name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IssueRecord {
    /// Stable for the life of the issue; the key changes when it moves to another project.
    pub id: String,
    pub key: String,
    pub project_id: String,
    pub project_key: String,
    pub issue_type_id: String,
    pub status_id: String,
    pub status_name: String,
    pub creator_account_id: Option<String>,
    pub created_at: Timestamp,
    pub summary: String,
    /// Atlassian Document Format, `Null` if empty.
    pub description: Value,
    pub labels: Vec<String>,
}

/// One entry of an issue's history: what one person changed at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeEntry {
    pub id: String,
    pub created: Timestamp,
    /// Absent for a deleted account and for some automation.
    pub author_account_id: Option<String>,
    pub items: Vec<ChangeItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeItem {
    pub field: String,
    pub field_id: Option<String>,
    /// Ids.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Names, cut to 255 characters.
    pub from_string: Option<String>,
    pub to_string: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comment {
    pub id: String,
    /// Absent for a deleted account.
    pub author_account_id: Option<String>,
    /// Atlassian Document Format.
    pub body: Value,
}

/// A ticket to be made.
#[derive(Clone, Debug)]
pub struct NewIssue {
    /// Key or id.
    pub project: String,
    /// By id, or by name where the configuration has only that.
    pub issue_type: IssueType,
    /// At most 255 characters, one line.
    pub summary: String,
    /// Atlassian Document Format.
    pub description: Value,
    /// Without spaces.
    pub labels: Vec<String>,
    /// Issue properties. Anyone who may edit the issue may change them: never proof.
    pub properties: Vec<(String, Value)>,
    /// Fields that this project requires beyond the usual, from configuration.
    pub extra_fields: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub enum IssueType {
    Id(String),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreatedIssue {
    pub id: String,
    pub key: String,
}

/// A link from the issue to our page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLink {
    /// Repeating it updates the link instead of adding one.
    pub global_id: String,
    pub url: String,
    pub title: String,
    /// Strikes the link through in Jira.
    pub resolved: bool,
}
