//! The page for people: see a ticket, be somebody, move it. Says that it is simulated; no script.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Form, Path, Query, State};
use axum::response::Html;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::adf;
use super::people::Who;
use super::state::{Issue, Jira, Shared};
use crate::{clock, random};

const COOKIE: &str = "countersign_playground_jira";
const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem;color:#1c2230;background:#fff}\
.simulated{background:#fff3cd;border:1px solid #b58900;padding:.5rem .75rem;border-radius:.4rem}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f5f7;padding:.75rem;border-radius:.4rem}\
button{font:inherit;padding:.6rem 1.1rem;margin:.3rem .5rem .3rem 0;min-height:44px}\
table{border-collapse:collapse}td,th{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top}";

/// What may be on the page: its own style sheet and forms to itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

pub async fn style() -> Response<Body> {
    let mut response = Response::new(Body::from(STYLE));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css"));
    response
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A whole page. `title` is escaped here, `body` is HTML that is already safe.
fn page(code: StatusCode, title: &str, body: &str) -> Response<Body> {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title} - Simulated Jira</title><link rel=\"stylesheet\" href=\"/playground.css\">\
         </head><body><p class=\"simulated\"><strong>Simulated Jira</strong>, part of the Countersign \
         playground. Nothing here is real.</p><main>{body}</main></body></html>"
    );
    let mut response = axum::response::IntoResponse::into_response(Html(html));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn see_other(to: &str) -> Response<Body> {
    let mut response = page(StatusCode::SEE_OTHER, "See", "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn who(jira: &Jira, headers: &HeaderMap) -> Option<Who> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .and_then(|(_, session)| jira.sessions.get(session).copied())
}

/// `?as=TOKEN` becomes a session, and leaves the address bar.
fn sign_in(
    shared: &Shared,
    params: &HashMap<String, String>,
    path: &str,
) -> Option<Response<Body>> {
    let token = params.get("as")?;
    let Some(person) = shared.people.by_token(token) else {
        let body = "<h1>Unknown log-in link</h1><p>Use the link that the demo printed.</p>";
        return Some(page(StatusCode::FORBIDDEN, "Unknown log-in link", body));
    };
    let session = random::token();
    shared.jira().sessions.insert(session.clone(), person.who);
    let mut response = see_other(path);
    let cookie = format!("{COOKIE}={session}; HttpOnly; SameSite=Lax; Path=/");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Some(response)
}

pub async fn index(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(params): Query<HashMap<String, String>>,
) -> Response<Body> {
    if let Some(response) = sign_in(&shared, &params, "/") {
        return response;
    }
    let jira = shared.jira();
    let Some(who) = who(&jira, &headers) else {
        return please_sign_in();
    };
    let mut body = format!("<h1>Tickets</h1>{}", greeting(&shared, who));
    if jira.issues.is_empty() {
        body.push_str("<p>No tickets yet. A proposal makes the first.</p>");
    } else {
        body.push_str("<table><tr><th>Key</th><th>Status</th><th>Summary</th></tr>");
        for issue in jira.issues.iter().rev() {
            let (key, status) = (issue.key(), issue.status.name());
            let summary = escape(&issue.summary);
            let _ = write!(
                body,
                "<tr><td><a href=\"/browse/{key}\">{key}</a></td><td>{status}</td><td>{summary}</td></tr>"
            );
        }
        body.push_str("</table>");
    }
    page(StatusCode::OK, "Tickets", &body)
}

fn please_sign_in() -> Response<Body> {
    let body = "<h1>Who are you?</h1><p>Open one of the log-in links that the demo printed; each \
                makes you one person.</p>";
    page(StatusCode::UNAUTHORIZED, "Who are you?", body)
}

fn greeting(shared: &Shared, who: Who) -> String {
    format!(
        "<p>You are <strong>{}</strong>.</p>",
        escape(shared.people.get(who).display_name)
    )
}

fn no_ticket() -> Response<Body> {
    let body = "<h1>No such ticket</h1><p><a href=\"/\">All tickets</a></p>";
    page(StatusCode::NOT_FOUND, "No such ticket", body)
}

pub async fn browse(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    Query(params): Query<HashMap<String, String>>,
) -> Response<Body> {
    let known = {
        let jira = shared.jira();
        let Some(at) = jira.find(&key) else {
            return no_ticket();
        };
        jira.issues[at].key()
    };
    if let Some(response) = sign_in(&shared, &params, &format!("/browse/{known}")) {
        return response;
    }
    let jira = shared.jira();
    let Some(who) = who(&jira, &headers) else {
        return please_sign_in();
    };
    let Some(at) = jira.find(&key) else {
        return no_ticket();
    };
    let issue = &jira.issues[at];
    page(
        StatusCode::OK,
        &issue.key(),
        &ticket(&shared, &jira, issue, who),
    )
}

fn ticket(shared: &Shared, jira: &Jira, issue: &Issue, who: Who) -> String {
    let key = issue.key();
    let name = |who: Who| escape(shared.people.get(who).display_name);
    let mut body = format!(
        "<p><a href=\"/\">All tickets</a></p><h1>{key}: {}</h1>{}<p>Status: <strong>{}</strong></p>",
        escape(&issue.summary),
        greeting(shared, who),
        issue.status.name()
    );
    let targets: Vec<_> = issue.status.targets(who, !jira.robots_may_decide).collect();
    if targets.is_empty() {
        body.push_str("<p>You cannot move this ticket from here.</p>");
    } else {
        let _ = write!(
            body,
            "<form method=\"post\" action=\"/browse/{key}/move\"><p><label>Comment (optional)<br>\
             <input name=\"comment\" maxlength=\"1000\" size=\"50\"></label></p>"
        );
        for target in targets {
            let _ = write!(
                body,
                "<button name=\"transition\" value=\"{}\">{}</button>",
                target.transition_id(),
                target.name()
            );
        }
        body.push_str("</form>");
    }
    let _ = write!(
        body,
        "<h2>Description</h2><pre>{}</pre>",
        escape(&adf::plain_text(&issue.description))
    );
    if !issue.links.is_empty() {
        body.push_str("<h2>Links</h2><ul>");
        for (_, link) in issue.links.values() {
            let title = escape(link["object"]["title"].as_str().unwrap_or_default());
            let url = link["object"]["url"].as_str().unwrap_or_default();
            let safe =
                url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if safe {
                let url = escape(url);
                let _ = write!(
                    body,
                    "<li><a rel=\"noreferrer\" href=\"{url}\">{title}</a></li>"
                );
            } else {
                let _ = write!(body, "<li>{title}</li>");
            }
        }
        body.push_str("</ul>");
    }
    body.push_str("<h2>Comments</h2>");
    for comment in &issue.comments {
        let _ = write!(
            body,
            "<p>{}, {}</p><pre>{}</pre>",
            name(comment.author),
            clock::kubernetes(comment.created),
            escape(&adf::plain_text(&comment.body))
        );
    }
    body.push_str("<h2>History</h2><table>");
    for entry in &issue.history {
        for item in &entry.items {
            let text = |field: &str| escape(item[field].as_str().unwrap_or_default());
            let _ = write!(
                body,
                "<tr><td>{}</td><td>{}</td><td>{}: {} &rarr; {}</td></tr>",
                clock::kubernetes(entry.created),
                name(entry.author),
                text("field"),
                text("fromString"),
                text("toString")
            );
        }
    }
    body.push_str("</table>");
    body
}

#[derive(Deserialize)]
pub struct Move {
    transition: String,
    #[serde(default)]
    comment: String,
}

/// The only form. A page of another origin cannot send it: the browser would name that origin.
pub async fn move_ticket(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    Form(form): Form<Move>,
) -> Response<Body> {
    if !is_same_origin(&headers) {
        let body = "<h1>Refused</h1><p>This request did not come from this page.</p>";
        return page(StatusCode::FORBIDDEN, "Refused", body);
    }
    let mut jira = shared.jira();
    let Some(who) = who(&jira, &headers) else {
        return please_sign_in();
    };
    let Some(at) = jira.find(&key) else {
        return no_ticket();
    };
    let comment = (!form.comment.trim().is_empty()).then(|| {
        json!({"type": "doc", "version": 1, "content": [
            {"type": "paragraph", "content": [{"type": "text", "text": form.comment.trim()}]},
        ]})
    });
    match shared.transition(&mut jira, at, who, &form.transition, comment) {
        Ok(()) => see_other(&format!("/browse/{}", jira.issues[at].key())),
        Err(refusal) => {
            let body = format!("<h1>Not moved</h1><p>{}</p>", escape(&refusal.text()));
            page(StatusCode::CONFLICT, "Not moved", &body)
        }
    }
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin == format!("http://{host}"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_stays_text() {
        assert_eq!(super::escape("<b a=\"'&"), "&lt;b a=&quot;&#39;&amp;");
    }
}
