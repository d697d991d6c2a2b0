//! Issues: create, read, edit, changelog, and the metadata that says which fields are wanted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::people::{Visitor, Who};
use super::state::{
    ISSUE_TYPE_ID, ISSUE_TYPE_NAME, Issue, Jira, PROJECT_ID, PROJECT_KEY, Refusal, SEARCH_LAG,
    Shared, answer, check_document,
};
use super::workflow::Status;
use super::{adf, webhook};
use crate::clock;

pub type Answer = Result<Response<Body>, Refusal>;
pub type Params = Query<HashMap<String, String>>;

const LONGEST_SUMMARY: usize = 255;

/// A JSON object as body.
pub fn object(body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(&format!("There was an error parsing JSON. {error}")))
}

pub async fn myself(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let Visitor::Known(who) = visitor else {
        return Err(Refusal::unauthorized());
    };
    let mut user = shared.user(who);
    user["emailAddress"] = shared.people.get(who).email.into();
    user["locale"] = "en_GB".into();
    Ok(answer(StatusCode::OK, &user))
}

pub async fn server_info(State(shared): State<Arc<Shared>>) -> Answer {
    let info = json!({
        "baseUrl": shared.url, "version": "1001.0.0-SNAPSHOT", "deploymentType": "Cloud",
        "serverTitle": "Simulated Jira (countersign-playground)",
        "serverTime": clock::jira(clock::now()),
    });
    Ok(answer(StatusCode::OK, &info))
}

pub async fn create_meta_types(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(project): Path<String>,
) -> Answer {
    check_project(visitor, &project)?;
    let types =
        json!({"startAt": 0, "maxResults": 50, "total": 1, "issueTypes": [shared.issue_type()]});
    Ok(answer(StatusCode::OK, &types))
}

pub async fn create_meta(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((project, issue_type)): Path<(String, String)>,
) -> Answer {
    check_project(visitor, &project)?;
    if issue_type != ISSUE_TYPE_ID {
        return Err(Refusal::not_found(
            "The issue type was not found in this project.",
        ));
    }
    let field = |id: &str, name: &str, required: bool, schema: &str| {
        json!({
            "required": required, "name": name, "key": id, "fieldId": id,
            "hasDefaultValue": false, "operations": ["set"],
            "schema": {"type": schema, "system": id},
        })
    };
    let mut project = field("project", "Project", true, "project");
    project["allowedValues"] = json!([shared.project()]);
    let mut types = field("issuetype", "Issue Type", true, "issuetype");
    types["allowedValues"] = json!([shared.issue_type()]);
    let fields = [
        project,
        types,
        field("summary", "Summary", true, "string"),
        field("description", "Description", false, "string"),
        field("labels", "Labels", false, "array"),
    ];
    let body = json!({"startAt": 0, "maxResults": 50, "total": fields.len(), "fields": fields});
    Ok(answer(StatusCode::OK, &body))
}

fn check_project(visitor: Visitor, project: &str) -> Result<(), Refusal> {
    match visitor {
        Visitor::Known(_) if is_project(project) => Ok(()),
        _ => Err(Refusal::not_found(
            "No project could be found with this id or key.",
        )),
    }
}

pub fn is_project(text: &str) -> bool {
    text == PROJECT_ID || text.eq_ignore_ascii_case(PROJECT_KEY)
}

pub async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    body: Bytes,
) -> Answer {
    let Visitor::Known(who) = visitor else {
        return Err(Refusal::unauthorized());
    };
    if !who.may_write() {
        return Err(Refusal::fields(vec![(
            "project".to_owned(),
            "You do not have permission to create issues in this project.".to_owned(),
        )]));
    }
    let body = object(&body)?;
    let fields = body
        .get("fields")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let edit = Edit::read(&fields, true)?;
    let mut jira = shared.jira();
    let (id, now) = (jira.next_id(), clock::now());
    let number = u64::try_from(jira.issues.len()).unwrap_or(u64::MAX) + 1;
    jira.issues.push(Issue {
        id,
        number,
        summary: edit.summary.unwrap_or_default(),
        description: edit.description.unwrap_or_default(),
        labels: edit.labels.unwrap_or_default(),
        status: Status::ToDo,
        creator: who,
        created: now,
        updated: now,
        comments: Vec::new(),
        links: BTreeMap::new(),
        history: Vec::new(),
        searchable_from: Instant::now() + SEARCH_LAG,
        writes: VecDeque::new(),
    });
    let at = jira.issues.len() - 1;
    webhook::issue_created(&shared, &mut jira, at, who);
    let issue = &jira.issues[at];
    let made =
        json!({"id": issue.id.to_string(), "key": issue.key(), "self": shared.self_link(issue)});
    Ok(answer(StatusCode::CREATED, &made))
}

/// The fields that can be set; every wrong one is named in the answer.
#[derive(Default)]
struct Edit {
    summary: Option<String>,
    description: Option<Value>,
    labels: Option<Vec<String>>,
}

impl Edit {
    fn read(fields: &Map<String, Value>, creating: bool) -> Result<Self, Refusal> {
        let mut edit = Self::default();
        let mut wrong: Vec<(String, String)> = Vec::new();
        let mut refuse = |field: &str, why: &str| wrong.push((field.to_owned(), why.to_owned()));
        for (field, value) in fields {
            match field.as_str() {
                "summary" => match check_summary(value) {
                    Ok(summary) => edit.summary = Some(summary),
                    Err(why) => refuse("summary", &why),
                },
                "description" if value.is_null() => edit.description = Some(Value::Null),
                "description" => match check_document("description", value) {
                    Ok(()) => edit.description = Some(value.clone()),
                    Err((field, why)) => refuse(&field, &why),
                },
                "labels" => match check_labels(value) {
                    Ok(labels) => edit.labels = Some(labels),
                    Err(why) => refuse("labels", &why),
                },
                "project" if creating => {
                    let named = value["key"].as_str().or_else(|| value["id"].as_str());
                    if !named.is_some_and(is_project) {
                        refuse("project", "Specify a valid project ID or key");
                    }
                }
                "issuetype" if creating => {
                    let fits = value["id"] == ISSUE_TYPE_ID || value["name"] == ISSUE_TYPE_NAME;
                    if !fits {
                        refuse("issuetype", "Specify a valid issue type");
                    }
                }
                other => refuse(
                    other,
                    &format!(
                        "Field '{other}' cannot be set. It is not on the appropriate screen, or unknown."
                    ),
                ),
            }
        }
        if creating {
            if !fields.contains_key("summary") {
                refuse("summary", "You must specify a summary of the issue.");
            }
            if !fields.contains_key("project") {
                refuse("project", "Specify a valid project ID or key");
            }
            if !fields.contains_key("issuetype") {
                refuse("issuetype", "Specify an issue type");
            }
        }
        if wrong.is_empty() {
            Ok(edit)
        } else {
            Err(Refusal::fields(wrong))
        }
    }
}

fn check_summary(value: &Value) -> Result<String, String> {
    let summary = value.as_str().unwrap_or_default().trim();
    if summary.is_empty() {
        return Err("You must specify a summary of the issue.".to_owned());
    }
    if summary.contains('\n') || summary.contains('\r') {
        return Err("The summary is invalid because it contains newline characters.".to_owned());
    }
    if summary.chars().count() > LONGEST_SUMMARY {
        return Err(format!(
            "Summary can't exceed {LONGEST_SUMMARY} characters."
        ));
    }
    Ok(summary.to_owned())
}

fn check_labels(value: &Value) -> Result<Vec<String>, String> {
    let labels = value.as_array().ok_or("data was not an array")?;
    labels
        .iter()
        .map(|label| match label.as_str() {
            None => Err("string expected".to_owned()),
            Some(label) if label.contains(char::is_whitespace) => Err(format!(
                "The label '{label}' contains spaces which is invalid."
            )),
            Some(label) if label.is_empty() || label.chars().count() > 255 => {
                Err("A label has 1 to 255 characters.".to_owned())
            }
            Some(label) => Ok(label.to_owned()),
        })
        .collect()
}

pub async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    Query(params): Params,
) -> Answer {
    let jira = shared.jira();
    let (at, _) = shared.visible(&jira, visitor, &key)?;
    let issue = &jira.issues[at];
    let wanted = params.get("fields").map_or("*all", String::as_str);
    let mut body = show(&shared, issue, wanted.split(','));
    if params
        .get("expand")
        .is_some_and(|expand| expand.split(',').any(|e| e == "changelog"))
    {
        // The recent part only, newest first: the changelog resource has it all.
        let histories: Vec<Value> = issue
            .history
            .iter()
            .rev()
            .take(100)
            .map(|entry| shared.history(entry))
            .collect();
        body["changelog"] = json!({
            "startAt": 0, "maxResults": histories.len(), "total": issue.history.len(),
            "histories": histories,
        });
    }
    Ok(answer(StatusCode::OK, &body))
}

/// An issue with the fields that were asked for: names, `*all`, `*navigable`, `-name`.
pub fn show<'a>(shared: &Shared, issue: &Issue, wanted: impl Iterator<Item = &'a str>) -> Value {
    let wanted: Vec<&str> = wanted
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut fields = shared.fields(issue);
    if let Some(fields) = fields.as_object_mut() {
        let all = wanted.contains(&"*all")
            || wanted.contains(&"*navigable")
            || wanted.iter().all(|name| name.starts_with('-'));
        fields.retain(|name, _| {
            let excluded = wanted
                .iter()
                .any(|w| w.strip_prefix('-') == Some(name.as_str()));
            !excluded && (all || wanted.contains(&name.as_str()))
        });
    }
    json!({
        "expand": "renderedFields,names,schema,operations,editmeta,changelog",
        "id": issue.id.to_string(), "self": shared.self_link(issue), "key": issue.key(),
        "fields": fields,
    })
}

pub async fn edit(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    body: Bytes,
) -> Answer {
    let mut jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    if !who.may_write() {
        return Err(Refusal::forbidden(
            "You do not have permission to edit issues in this project.",
        ));
    }
    shared.count_write(&mut jira, at)?;
    let body = object(&body)?;
    let mut fields = body
        .get("fields")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if let Some(operations) = body.get("update").and_then(|update| update.get("labels")) {
        let labels = changed_labels(&jira.issues[at].labels, operations)?;
        fields.insert("labels".to_owned(), json!(labels));
    }
    let edit = Edit::read(&fields, false)?;
    let items = apply(&mut jira, at, edit);
    if !items.is_empty() {
        jira.log_change(at, who, items);
        webhook::issue_updated(&shared, &mut jira, at, who, "issue_updated");
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn changed_labels(before: &[String], operations: &Value) -> Result<Vec<String>, Refusal> {
    let mut labels = before.to_vec();
    for operation in operations.as_array().into_iter().flatten() {
        if let Some(label) = operation["add"].as_str() {
            if !labels.iter().any(|present| present == label) {
                labels.push(label.to_owned());
            }
        } else if let Some(label) = operation["remove"].as_str() {
            labels.retain(|present| present != label);
        } else {
            return Err(Refusal::fields(vec![(
                "labels".to_owned(),
                "the playground knows the operations add and remove".to_owned(),
            )]));
        }
    }
    Ok(labels)
}

/// Sets fields and returns a changelog item for each that changed.
fn apply(jira: &mut Jira, at: usize, edit: Edit) -> Vec<Value> {
    let issue = &mut jira.issues[at];
    let mut items = Vec::new();
    let mut changed = |field: &str, from: String, to: String| {
        items.push(json!({
            "field": field, "fieldtype": "jira", "fieldId": field,
            "from": null, "fromString": from, "to": null, "toString": to,
        }));
    };
    if let Some(summary) = edit.summary.filter(|summary| *summary != issue.summary) {
        changed("summary", issue.summary.clone(), summary.clone());
        issue.summary = summary;
    }
    if let Some(description) = edit.description.filter(|new| *new != issue.description) {
        let text = adf::plain_text(&description);
        changed("description", adf::plain_text(&issue.description), text);
        issue.description = description;
    }
    if let Some(labels) = edit.labels.filter(|labels| *labels != issue.labels) {
        changed("labels", issue.labels.join(" "), labels.join(" "));
        issue.labels = labels;
    }
    items
}

pub async fn changelog(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    Query(params): Params,
) -> Answer {
    let jira = shared.jira();
    let (at, _): (usize, Who) = shared.visible(&jira, visitor, &key)?;
    let issue = &jira.issues[at];
    let (start, limit) = (
        number(&params, "startAt", 0)?,
        number(&params, "maxResults", 100)?.clamp(1, 100),
    );
    let values: Vec<Value> = issue
        .history
        .iter()
        .skip(start)
        .take(limit)
        .map(|entry| shared.history(entry))
        .collect();
    let total = issue.history.len();
    let link = |start: usize| {
        format!(
            "{}/changelog?startAt={start}&maxResults={limit}",
            shared.self_link(issue)
        )
    };
    let is_last = start + values.len() >= total;
    let mut body = json!({
        "self": link(start), "maxResults": limit, "startAt": start, "total": total,
        "isLast": is_last, "values": values,
    });
    if !is_last {
        body["nextPage"] = link(start + limit).into();
    }
    Ok(answer(StatusCode::OK, &body))
}

pub fn number(
    params: &HashMap<String, String>,
    key: &str,
    default: usize,
) -> Result<usize, Refusal> {
    match params.get(key) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| Refusal::bad(&format!("{key}: {text:?} is not a whole number"))),
    }
}
