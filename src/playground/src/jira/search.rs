//! `search/jql`: the part of JQL that a ticket worker uses. A new issue is found only after a
//! while, as on Cloud, so that code which relies on reading its own writes fails here too.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::issues::{Answer, Params, is_project, number, object, show};
use super::people::Visitor;
use super::state::{ISSUE_TYPE_ID, ISSUE_TYPE_NAME, Issue, Refusal, Shared, answer};

const MOST: usize = 100;

/// A search, from either method.
struct Search {
    jql: String,
    fields: Vec<String>,
    most: usize,
    token: Option<String>,
}

pub async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Query(params): Params,
) -> Answer {
    let fields = params.get("fields").map(String::as_str).unwrap_or_default();
    let search = Search {
        jql: params.get("jql").cloned().unwrap_or_default(),
        fields: fields
            .split(',')
            .filter(|f| !f.is_empty())
            .map(str::to_owned)
            .collect(),
        most: number(&params, "maxResults", 50)?,
        token: params.get("nextPageToken").cloned(),
    };
    run(&shared, visitor, &search)
}

pub async fn post(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    body: Bytes,
) -> Answer {
    let body = Value::Object(object(&body)?);
    let fields = body["fields"].as_array().into_iter().flatten();
    let most = body["maxResults"]
        .as_u64()
        .and_then(|most| usize::try_from(most).ok());
    let search = Search {
        jql: body["jql"].as_str().unwrap_or_default().to_owned(),
        fields: fields
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        most: most.unwrap_or(50),
        token: body["nextPageToken"].as_str().map(str::to_owned),
    };
    run(&shared, visitor, &search)
}

fn run(shared: &Shared, visitor: Visitor, search: &Search) -> Answer {
    let clauses = parse(&search.jql)?;
    let start = match &search.token {
        None => 0,
        Some(token) => URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok())
            .ok_or_else(|| Refusal::bad("The provided next page token is invalid."))?,
    };
    let jira = shared.jira();
    let now = Instant::now();
    let found: Vec<&Issue> = jira
        .issues
        .iter()
        .rev()
        .filter(|_| visitor != Visitor::Anonymous)
        .filter(|issue| issue.searchable_from <= now)
        .filter(|issue| clauses.iter().all(|clause| clause.holds(issue)))
        .collect();
    let most = search.most.clamp(1, MOST);
    let issues: Vec<Value> = found
        .iter()
        .skip(start)
        .take(most)
        .map(|issue| {
            if search.fields.is_empty() {
                json!({"id": issue.id.to_string()})
            } else {
                show(shared, issue, search.fields.iter().map(String::as_str))
            }
        })
        .collect();
    let is_last = start + issues.len() >= found.len();
    let mut body = json!({"issues": issues, "isLast": is_last});
    if !is_last {
        body["nextPageToken"] = URL_SAFE_NO_PAD.encode((start + most).to_string()).into();
    }
    Ok(answer(StatusCode::OK, &body))
}

/// `field = value`, `field in (values)`, and their negations.
#[derive(Debug, PartialEq, Eq)]
struct Clause {
    field: String,
    wanted: bool,
    values: Vec<String>,
}

impl Clause {
    fn holds(&self, issue: &Issue) -> bool {
        let same = |value: &str| -> bool {
            match self.field.as_str() {
                "project" => is_project(value),
                "labels" => issue
                    .labels
                    .iter()
                    .any(|label| label.eq_ignore_ascii_case(value)),
                "status" => {
                    value == issue.status.id() || value.eq_ignore_ascii_case(issue.status.name())
                }
                "issuetype" | "type" => {
                    value == ISSUE_TYPE_ID || value.eq_ignore_ascii_case(ISSUE_TYPE_NAME)
                }
                _ => value == issue.id.to_string() || value.eq_ignore_ascii_case(&issue.key()),
            }
        };
        self.values.iter().any(|value| same(value)) == self.wanted
    }
}

fn parse(jql: &str) -> Result<Vec<Clause>, Refusal> {
    let mut words = words(jql)?.into_iter().peekable();
    let mut clauses = Vec::new();
    while let Some(word) = words.next() {
        let field = word.text.to_lowercase();
        if !word.quoted && field == "order" {
            break; // The order is always newest first.
        }
        let known = [
            "project",
            "labels",
            "status",
            "issuetype",
            "type",
            "key",
            "issuekey",
            "id",
            "issue",
        ];
        if !known.contains(&field.as_str()) {
            return Err(Refusal::bad(&format!(
                "Field '{}' does not exist or you do not have permission to view it.",
                word.text
            )));
        }
        let mut operator = words
            .next()
            .map(|word| word.text.to_lowercase())
            .unwrap_or_default();
        if operator == "not" {
            operator = format!(
                "not {}",
                words
                    .next()
                    .map(|w| w.text.to_lowercase())
                    .unwrap_or_default()
            );
        }
        let (wanted, many) = match operator.as_str() {
            "=" => (true, false),
            "!=" => (false, false),
            "in" => (true, true),
            "not in" => (false, true),
            other => {
                return Err(unreadable(&format!(
                    "expecting =, !=, in or not in, got '{other}'"
                )));
            }
        };
        let mut values = Vec::new();
        if many {
            if words.next().is_none_or(|word| word.text != "(") {
                return Err(unreadable("expecting '(' after in"));
            }
            loop {
                match words.next() {
                    Some(word) if !word.quoted && word.text == ")" => break,
                    Some(word) if !word.quoted && word.text == "," => {}
                    Some(word) => values.push(word.text),
                    None => return Err(unreadable("expecting ')'")),
                }
            }
        } else {
            values.push(
                words
                    .next()
                    .ok_or_else(|| unreadable("a value is missing"))?
                    .text,
            );
        }
        clauses.push(Clause {
            field,
            wanted,
            values,
        });
        match words.next() {
            None => break,
            Some(word) if !word.quoted && word.text.eq_ignore_ascii_case("and") => {}
            Some(word) if !word.quoted && word.text.eq_ignore_ascii_case("order") => break,
            Some(word) => {
                let why = format!(
                    "expecting AND, got '{}' (the playground knows no OR)",
                    word.text
                );
                return Err(unreadable(&why));
            }
        }
    }
    if clauses.is_empty() {
        return Err(Refusal::bad(
            "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.",
        ));
    }
    Ok(clauses)
}

fn unreadable(why: &str) -> Refusal {
    Refusal::bad(&format!("Error in the JQL Query: {why}."))
}

#[derive(Debug)]
struct Word {
    text: String,
    quoted: bool,
}

fn words(jql: &str) -> Result<Vec<Word>, Refusal> {
    let mut words = Vec::new();
    let mut letters = jql.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            space if space.is_whitespace() => {}
            quote @ ('"' | '\'') => {
                let mut text = String::new();
                loop {
                    match letters.next() {
                        None => return Err(unreadable("a quoted string has no end")),
                        Some(end) if end == quote => break,
                        Some('\\') => text.extend(letters.next()),
                        Some(other) => text.push(other),
                    }
                }
                words.push(Word { text, quoted: true });
            }
            mark @ ('(' | ')' | ',' | '=') => words.push(Word {
                text: mark.into(),
                quoted: false,
            }),
            '!' if letters.next_if_eq(&'=').is_some() => {
                words.push(Word {
                    text: "!=".to_owned(),
                    quoted: false,
                });
            }
            first => {
                let mut text = String::from(first);
                while let Some(next) =
                    letters.next_if(|c| !c.is_whitespace() && !"()=,!\"'".contains(*c))
                {
                    text.push(next);
                }
                words.push(Word {
                    text,
                    quoted: false,
                });
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_ticket_worker_asks() {
        let clauses =
            parse(r#"project = OPS AND labels = "countersign-1" and status not in (Done, "To Do") ORDER BY created"#)
                .unwrap();
        assert_eq!(clauses.len(), 3);
        assert_eq!(clauses[1].values, ["countersign-1"]);
        assert_eq!(clauses[2].values, ["Done", "To Do"]);
        assert!(!clauses[2].wanted);
        for wrong in [
            "",
            "order by created",
            "colour = red",
            "labels ~ x",
            "labels = ",
            r#"labels = "a"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
