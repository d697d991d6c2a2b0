//! What happens to an issue: transitions, comments, remote links.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::issues::{Answer, Params, number, object};
use super::people::Visitor;
use super::state::{Refusal, Shared, answer, check_document};
use crate::clock;

pub async fn transitions(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
) -> Answer {
    let jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    let transitions: Vec<Value> = jira.issues[at]
        .status
        .targets(who, !jira.robots_may_decide)
        .map(|to| {
            json!({
                "id": to.transition_id(), "name": to.name(), "to": to.describe(&shared.url),
                "hasScreen": false, "isGlobal": false, "isInitial": false, "isAvailable": true,
                "isConditional": false, "isLooped": false,
            })
        })
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({"expand": "transitions", "transitions": transitions}),
    ))
}

pub async fn transition(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    body: Bytes,
) -> Answer {
    let mut jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    let body = Value::Object(object(&body)?);
    let id = match &body["transition"]["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err(Refusal::bad("Missing 'transition' identifier")),
    };
    shared.count_write(&mut jira, at)?;
    let comment = body.pointer("/update/comment/0/add/body").cloned();
    if let Some(comment) = &comment {
        check_document("comment", comment).map_err(|wrong| Refusal::fields(vec![wrong]))?;
    }
    shared.transition(&mut jira, at, who, &id, comment)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

pub async fn comments(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    Query(params): Params,
) -> Answer {
    let jira = shared.jira();
    let (at, _) = shared.visible(&jira, visitor, &key)?;
    let issue = &jira.issues[at];
    let (start, limit) = (
        number(&params, "startAt", 0)?,
        number(&params, "maxResults", 50)?,
    );
    let newest_first = params
        .get("orderBy")
        .is_some_and(|order| order == "-created");
    let mut shown: Vec<Value> = issue
        .comments
        .iter()
        .map(|comment| shared.comment(issue, comment))
        .collect();
    if newest_first {
        shown.reverse();
    }
    let page: Vec<Value> = shown.into_iter().skip(start).take(limit).collect();
    let body = json!({
        "startAt": start, "maxResults": limit, "total": issue.comments.len(), "comments": page,
    });
    Ok(answer(StatusCode::OK, &body))
}

/// The `body` field of a comment request.
fn comment_body(body: &Bytes) -> Result<Value, Refusal> {
    let mut fields = object(body)?;
    let Some(document) = fields.remove("body") else {
        let why = "Comment body can not be empty!".to_owned();
        return Err(Refusal::fields(vec![("comment".to_owned(), why)]));
    };
    check_document("comment", &document).map_err(|wrong| Refusal::fields(vec![wrong]))?;
    Ok(document)
}

pub async fn add_comment(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    body: Bytes,
) -> Answer {
    let mut jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    if !who.may_write() {
        let why = "You do not have the permission to comment on this issue.".to_owned();
        return Err(Refusal::fields(vec![("comment".to_owned(), why)]));
    }
    let document = comment_body(&body)?;
    shared.count_write(&mut jira, at)?;
    let comment = shared.add_comment(&mut jira, at, who, document);
    Ok(answer(StatusCode::CREATED, &comment))
}

pub async fn edit_comment(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((key, id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let mut jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    let document = comment_body(&body)?;
    shared.count_write(&mut jira, at)?;
    let position = jira.issues[at]
        .comments
        .iter()
        .position(|comment| comment.id.to_string() == id);
    let Some(position) = position else {
        return Err(Refusal::not_found(&format!(
            "Can not find a comment for the id: {id}."
        )));
    };
    let comment = &mut jira.issues[at].comments[position];
    if comment.author != who {
        let why = "You do not have the permission to edit this comment.".to_owned();
        return Err(Refusal::fields(vec![("comment".to_owned(), why)]));
    }
    comment.body = document;
    comment.updated = clock::now();
    let issue = &jira.issues[at];
    Ok(answer(
        StatusCode::OK,
        &shared.comment(issue, &issue.comments[position]),
    ))
}

pub async fn get_comment(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((key, id)): Path<(String, String)>,
) -> Answer {
    let jira = shared.jira();
    let (at, _) = shared.visible(&jira, visitor, &key)?;
    let issue = &jira.issues[at];
    let comment = issue
        .comments
        .iter()
        .find(|comment| comment.id.to_string() == id);
    let comment = comment
        .ok_or_else(|| Refusal::not_found(&format!("Can not find a comment for the id: {id}.")))?;
    Ok(answer(StatusCode::OK, &shared.comment(issue, comment)))
}

pub async fn links(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
) -> Answer {
    let jira = shared.jira();
    let (at, _) = shared.visible(&jira, visitor, &key)?;
    let links: Vec<Value> = jira.issues[at]
        .links
        .values()
        .map(|(id, link)| {
            let mut link = link.clone();
            link["id"] = (*id).into();
            link
        })
        .collect();
    Ok(answer(StatusCode::OK, &Value::Array(links)))
}

/// 201 when new, 200 when the global id was there: an idempotent upsert.
pub async fn put_link(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    body: Bytes,
) -> Answer {
    let mut jira = shared.jira();
    let (at, who) = shared.visible(&jira, visitor, &key)?;
    if !who.may_write() {
        return Err(Refusal::forbidden(
            "You do not have permission to link issues.",
        ));
    }
    let link = Value::Object(object(&body)?);
    let mut wrong = Vec::new();
    for field in ["title", "url"] {
        if link["object"][field].as_str().is_none_or(str::is_empty) {
            wrong.push((field.to_owned(), format!("'{field}' is required.")));
        }
    }
    if !wrong.is_empty() {
        return Err(Refusal::fields(wrong));
    }
    shared.count_write(&mut jira, at)?;
    let fresh = jira.next_id();
    let global_id = link["globalId"]
        .as_str()
        .map_or_else(|| fresh.to_string(), str::to_owned);
    let links = &mut jira.issues[at].links;
    let (code, id) = match links.get(&global_id) {
        Some((id, _)) => (StatusCode::OK, *id),
        None => (StatusCode::CREATED, fresh),
    };
    links.insert(global_id, (id, link));
    let issue = &jira.issues[at];
    let own = format!("{}/remotelink/{id}", shared.self_link(issue));
    Ok(answer(code, &json!({"id": id, "self": own})))
}
