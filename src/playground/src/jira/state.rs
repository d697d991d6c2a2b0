//! Everything the simulated Jira remembers, and the answers' common shapes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::control::{Fault, Webhook};
use super::people::{People, Visitor, Who};
use super::workflow::Status;
use super::{adf, webhook};
use crate::clock;

pub const PROJECT_ID: &str = "10100";
pub const PROJECT_KEY: &str = "OPS";
pub const ISSUE_TYPE_ID: &str = "10200";
pub const ISSUE_TYPE_NAME: &str = "Task";

/// How long a new issue stays invisible to searches.
pub const SEARCH_LAG: Duration = Duration::from_millis(700);
const FIRST_ISSUE_ID: u64 = 10_001;

pub struct Comment {
    pub id: u64,
    pub author: Who,
    pub body: Value,
    pub created: Timestamp,
    pub updated: Timestamp,
}

/// One changelog entry: who, when, which fields.
pub struct History {
    pub id: u64,
    pub author: Who,
    pub created: Timestamp,
    pub items: Vec<Value>,
}

pub struct Issue {
    pub id: u64,
    pub number: u64,
    pub summary: String,
    /// ADF or null.
    pub description: Value,
    pub labels: Vec<String>,
    pub status: Status,
    pub creator: Who,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub comments: Vec<Comment>,
    /// By global id, or by its own id when it has none.
    pub links: BTreeMap<String, (u64, Value)>,
    pub history: Vec<History>,
    pub searchable_from: Instant,
    /// Times of recent writes, for the per-issue limit.
    pub writes: VecDeque<Instant>,
}

impl Issue {
    pub fn key(&self) -> String {
        format!("{PROJECT_KEY}-{}", self.number)
    }
}

#[derive(Default)]
pub struct Jira {
    /// By number, oldest first.
    pub issues: Vec<Issue>,
    pub faults: Vec<Fault>,
    pub webhook: Webhook,
    pub deliveries: Vec<Value>,
    /// Sessions of the human page: cookie to person.
    pub sessions: HashMap<String, Who>,
    pub robots_may_decide: bool,
    last_id: u64,
}

impl Jira {
    /// A fresh number for an issue, comment, link or changelog entry.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        FIRST_ISSUE_ID + self.last_id
    }

    /// By id or key; a key may be written in any case.
    pub fn find(&self, id_or_key: &str) -> Option<usize> {
        self.issues.iter().position(|issue| {
            issue.id.to_string() == id_or_key || issue.key().eq_ignore_ascii_case(id_or_key)
        })
    }

    /// Appends a changelog entry and moves `updated`; nothing happens without items.
    pub fn log_change(&mut self, at: usize, author: Who, items: Vec<Value>) {
        if items.is_empty() {
            return;
        }
        let id = self.next_id();
        let issue = &mut self.issues[at];
        issue.updated = clock::now();
        issue.history.push(History {
            id,
            author,
            created: issue.updated,
            items,
        });
    }
}

pub struct Shared {
    jira: Mutex<Jira>,
    pub people: People,
    pub url: String,
    pub webhook_secret: String,
    pub rate_limit: bool,
    pub client: reqwest::Client,
    pub stop: tokio_util::sync::CancellationToken,
}

impl Shared {
    pub fn new(
        jira: Jira,
        people: People,
        url: String,
        rate_limit: bool,
        client: reqwest::Client,
        stop: tokio_util::sync::CancellationToken,
    ) -> Arc<Self> {
        let webhook_secret = crate::random::token();
        Arc::new(Self {
            jira: Mutex::new(jira),
            people,
            url,
            webhook_secret,
            rate_limit,
            client,
            stop,
        })
    }

    pub fn jira(&self) -> MutexGuard<'_, Jira> {
        self.jira.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn user(&self, who: Who) -> Value {
        self.people.user(who, &self.url)
    }

    /// The issue that `visitor` may see; 404 says the same for "not there" and "not for you".
    pub fn visible(
        &self,
        jira: &Jira,
        visitor: Visitor,
        id_or_key: &str,
    ) -> Result<(usize, Who), Refusal> {
        match (visitor, jira.find(id_or_key)) {
            (Visitor::Known(who), Some(at)) => Ok((at, who)),
            _ => Err(Refusal::no_issue()),
        }
    }

    /// Counts a write to an issue against the limit of 20 in 2 seconds.
    pub fn count_write(&self, jira: &mut Jira, at: usize) -> Result<(), Refusal> {
        if !self.rate_limit {
            return Ok(());
        }
        let (now, window) = (Instant::now(), Duration::from_secs(2));
        let writes = &mut jira.issues[at].writes;
        writes.retain(|write| now.duration_since(*write) < window);
        if writes.len() >= 20 {
            return Err(Refusal::too_many(2));
        }
        writes.push_back(now);
        Ok(())
    }

    pub fn self_link(&self, issue: &Issue) -> String {
        format!("{}/rest/api/3/issue/{}", self.url, issue.id)
    }

    /// All fields of an issue.
    pub fn fields(&self, issue: &Issue) -> Value {
        let comments: Vec<Value> = issue
            .comments
            .iter()
            .map(|comment| self.comment(issue, comment))
            .collect();
        let done = issue.status == Status::Done;
        json!({
            "summary": issue.summary, "description": issue.description, "labels": issue.labels,
            "status": issue.status.describe(&self.url),
            "project": self.project(), "issuetype": self.issue_type(),
            "creator": self.user(issue.creator), "reporter": self.user(issue.creator),
            "assignee": null, "priority": {"id": "3", "name": "Medium"},
            "resolution": if done { json!({"id": "10000", "name": "Done"}) } else { Value::Null },
            "created": clock::jira(issue.created), "updated": clock::jira(issue.updated),
            "comment": {
                "comments": comments, "maxResults": comments.len(), "total": comments.len(),
                "startAt": 0,
            },
        })
    }

    pub fn project(&self) -> Value {
        json!({
            "self": format!("{}/rest/api/3/project/{PROJECT_ID}", self.url), "id": PROJECT_ID,
            "key": PROJECT_KEY, "name": "Operations (simulated)", "projectTypeKey": "software",
        })
    }

    pub fn issue_type(&self) -> Value {
        json!({
            "self": format!("{}/rest/api/3/issuetype/{ISSUE_TYPE_ID}", self.url),
            "id": ISSUE_TYPE_ID, "name": ISSUE_TYPE_NAME, "description": "", "subtask": false,
        })
    }

    pub fn comment(&self, issue: &Issue, comment: &Comment) -> Value {
        json!({
            "self": format!("{}/comment/{}", self.self_link(issue), comment.id),
            "id": comment.id.to_string(), "author": self.user(comment.author),
            "updateAuthor": self.user(comment.author), "body": comment.body,
            "created": clock::jira(comment.created), "updated": clock::jira(comment.updated),
            "jsdPublic": true,
        })
    }

    pub fn history(&self, entry: &History) -> Value {
        json!({
            "id": entry.id.to_string(), "author": self.user(entry.author),
            "created": clock::jira(entry.created), "items": entry.items,
        })
    }

    /// Moves an issue, or says that this move is not there for `who`. `comment` is an ADF
    /// document that comes with the transition.
    pub fn transition(
        self: &Arc<Self>,
        jira: &mut Jira,
        at: usize,
        who: Who,
        transition: &str,
        comment: Option<Value>,
    ) -> Result<(), Refusal> {
        let issue = &jira.issues[at];
        let from = issue.status;
        let target = from
            .targets(who, !jira.robots_may_decide)
            .find(|target| target.transition_id() == transition);
        let Some(to) = target else {
            return Err(Refusal::invalid_move(&issue.key(), transition));
        };
        let status = json!({
            "field": "status", "fieldtype": "jira", "fieldId": "status", "from": from.id(),
            "fromString": from.name(), "to": to.id(), "toString": to.name(),
        });
        let mut items = Vec::new();
        if to == Status::Done {
            items.push(json!({
                "field": "resolution", "fieldtype": "jira", "fieldId": "resolution",
                "from": null, "fromString": null, "to": "10000", "toString": "Done",
            }));
        }
        items.push(status);
        jira.issues[at].status = to;
        jira.log_change(at, who, items);
        webhook::issue_updated(self, jira, at, who, "issue_generic");
        if let Some(body) = comment {
            self.add_comment(jira, at, who, body);
        }
        Ok(())
    }

    pub fn add_comment(
        self: &Arc<Self>,
        jira: &mut Jira,
        at: usize,
        who: Who,
        body: Value,
    ) -> Value {
        let (id, now) = (jira.next_id(), clock::now());
        let comment = Comment {
            id,
            author: who,
            body,
            created: now,
            updated: now,
        };
        let issue = &mut jira.issues[at];
        issue.updated = now;
        issue.comments.push(comment);
        let issue = &jira.issues[at];
        let shown = issue
            .comments
            .last()
            .map(|comment| self.comment(issue, comment));
        let shown = shown.unwrap_or_default();
        webhook::comment_created(self, jira, at, who, &shown);
        shown
    }
}

/// A refused request, in Jira's shape.
#[derive(Debug)]
pub struct Refusal {
    code: StatusCode,
    messages: Vec<String>,
    fields: Vec<(String, String)>,
    retry_after: Option<u64>,
}

impl Refusal {
    fn message(code: StatusCode, message: &str) -> Self {
        Self {
            code,
            messages: vec![message.to_owned()],
            fields: Vec::new(),
            retry_after: None,
        }
    }

    pub fn bad(message: &str) -> Self {
        Self::message(StatusCode::BAD_REQUEST, message)
    }

    /// 400 with an `errors` object: field to sentence.
    pub fn fields(fields: Vec<(String, String)>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            messages: Vec::new(),
            fields,
            retry_after: None,
        }
    }

    pub fn forbidden(message: &str) -> Self {
        Self::message(StatusCode::FORBIDDEN, message)
    }

    pub fn no_issue() -> Self {
        let message = "Issue does not exist or you do not have permission to see it.";
        Self::message(StatusCode::NOT_FOUND, message)
    }

    pub fn not_found(message: &str) -> Self {
        Self::message(StatusCode::NOT_FOUND, message)
    }

    pub fn unauthorized() -> Self {
        let message = "Client must be authenticated to access this resource.";
        Self::message(StatusCode::UNAUTHORIZED, message)
    }

    pub fn too_many(seconds: u64) -> Self {
        let mut refusal = Self::message(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded.");
        refusal.retry_after = Some(seconds);
        refusal
    }

    pub fn down() -> Self {
        let message = "Jira is unavailable (played by the playground).";
        Self::message(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub fn lost() -> Self {
        let message = "Internal server error (played by the playground after the effect).";
        Self::message(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    fn invalid_move(key: &str, transition: &str) -> Self {
        Self::bad(&format!(
            "It seems that you have tried to perform a workflow operation ({transition}) that is \
             not valid for the current state of this issue {key}. The likely cause is that \
             somebody has changed the issue recently, please look at the issue history for details."
        ))
    }

    pub fn text(&self) -> String {
        let fields = self
            .fields
            .iter()
            .map(|(field, why)| format!("{field}: {why}"));
        self.messages
            .iter()
            .cloned()
            .chain(fields)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub fn into_response(self) -> Response<Body> {
        let errors: serde_json::Map<String, Value> = self
            .fields
            .into_iter()
            .map(|(field, why)| (field, why.into()))
            .collect();
        let mut response = answer(
            self.code,
            &json!({"errorMessages": self.messages, "errors": errors}),
        );
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub fn answer(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Checks an ADF document for `field`.
pub fn check_document(field: &str, document: &Value) -> Result<(), (String, String)> {
    if !adf::is_document(document) {
        let why =
            "Operation value must be an Atlassian Document (see the Atlassian Document Format)";
        return Err((field.to_owned(), why.to_owned()));
    }
    if adf::plain_text(document).chars().count() > adf::LONGEST {
        let why = format!(
            "The entered text is too long. It exceeds the allowed limit of {} characters.",
            adf::LONGEST
        );
        return Err((field.to_owned(), why));
    }
    Ok(())
}
