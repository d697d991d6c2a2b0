//! Label and field selectors, and the structured selectors of budgets and workloads.

use serde_json::{Map, Value};

use super::kinds::Kind;
use super::object;
use super::status::Refusal;

#[derive(Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Requirement {
    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str)
        };
        match self {
            Self::In(key, among) => value(key).is_some_and(|v| among.iter().any(|a| a == v)),
            // A missing label satisfies "not in".
            Self::NotIn(key, among) => !value(key).is_some_and(|v| among.iter().any(|a| a == v)),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
        }
    }
}

/// What a list or watch lets through.
#[derive(Debug, Default)]
pub struct Filter {
    labels: Vec<Requirement>,
    /// JSON pointer, wanted value, and whether equality is wanted.
    fields: Vec<(String, String, bool)>,
}

impl Filter {
    pub fn parse(kind: &Kind, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Refusal> {
        let labels = match labels {
            Some(text) => split_outside_parentheses(text)
                .map(|part| requirement(part.trim()))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let mut parsed = Vec::new();
        for part in fields
            .unwrap_or_default()
            .split(',')
            .filter(|part| !part.is_empty())
        {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once('=') {
                (field, value.strip_prefix('=').unwrap_or(value), true)
            } else {
                let message =
                    format!("invalid field selector: {part:?}; can't understand {part:?}");
                return Err(Refusal::bad_request(&message));
            };
            if !selectable(kind, field) {
                let message = format!(
                    "Unable to find {:?} that match label selector \"\", field selector {:?}: \
                     field label not supported: {field}",
                    format!("{}, Resource={}", group_version(kind), kind.plural),
                    fields.unwrap_or_default(),
                );
                return Err(Refusal::bad_request(&message));
            }
            let pointer = format!("/{}", field.replace('.', "/"));
            parsed.push((pointer, value.to_owned(), equal));
        }
        Ok(Self {
            labels,
            fields: parsed,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn lets_through(&self, found: &Value) -> bool {
        let labels = object::labels(found);
        self.labels
            .iter()
            .all(|requirement| requirement.holds(labels))
            && self.fields.iter().all(|(pointer, wanted, equal)| {
                let value = match found.pointer(pointer) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Bool(flag)) => flag.to_string(),
                    Some(Value::Number(number)) => number.to_string(),
                    _ if pointer == "/spec/unschedulable" => "false".to_owned(),
                    _ => String::new(),
                };
                (value == *wanted) == *equal
            })
    }
}

fn group_version(kind: &Kind) -> String {
    format!("{}/{}", kind.group, kind.version)
}

/// The field labels that each kind's conversion functions accept.
fn selectable(kind: &Kind, field: &str) -> bool {
    let own: &[&str] = match kind.plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "replicasets" => &["status.replicas"],
        "jobs" => &["status.successful"],
        "secrets" => &["type"],
        _ => &[],
    };
    matches!(field, "metadata.name" | "metadata.namespace") || own.contains(&field)
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .filter(|part| !part.trim().is_empty())
}

fn requirement(part: &str) -> Result<Requirement, Refusal> {
    let unreadable = || Refusal::bad_request(&format!("unable to parse requirement: {part:?}"));
    let key = |text: &str| {
        let text = text.trim();
        let fine = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        fine.then(|| text.to_owned()).ok_or_else(unreadable)
    };
    let among = |text: &str| {
        let inner = text
            .trim()
            .strip_prefix('(')
            .and_then(|text| text.strip_suffix(')'));
        inner
            .map(|inner| {
                inner
                    .split(',')
                    .map(|value| value.trim().to_owned())
                    .collect()
            })
            .ok_or_else(unreadable)
    };
    if let Some((left, right)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(
            key(left)?,
            vec![right.trim().to_owned()],
        ));
    }
    if let Some((left, right)) = part.split_once('=') {
        let right = right.strip_prefix('=').unwrap_or(right).trim();
        return Ok(Requirement::In(key(left)?, vec![right.to_owned()]));
    }
    if let Some((left, right)) = part.split_once(" notin ") {
        return Ok(Requirement::NotIn(key(left)?, among(right)?));
    }
    if let Some((left, right)) = part.split_once(" in ") {
        return Ok(Requirement::In(key(left)?, among(right)?));
    }
    match part.strip_prefix('!') {
        Some(absent) => Ok(Requirement::Absent(key(absent)?)),
        None => Ok(Requirement::Exists(key(part)?)),
    }
}

/// A `LabelSelector` object. In policy/v1 an empty selector matches everything, a missing one
/// nothing; an operator that does not exist makes it match nothing.
pub fn structured_matches(selector: Option<&Value>, labels: Option<&Map<String, Value>>) -> bool {
    let Some(selector) = selector.filter(|selector| selector.is_object()) else {
        return false;
    };
    let exact = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, wanted)| labels.and_then(|labels| labels.get(key)) == Some(wanted));
    exact
        && selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|expression| {
                let key = object::text(expression, "/key").to_owned();
                let among = object::list(expression, "/values")
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect();
                match object::text(expression, "/operator") {
                    "In" => Requirement::In(key, among).holds(labels),
                    "NotIn" => Requirement::NotIn(key, among).holds(labels),
                    "Exists" => Requirement::Exists(key).holds(labels),
                    "DoesNotExist" => Requirement::Absent(key).holds(labels),
                    _ => false,
                }
            })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::by_plural;
    use super::*;

    fn passes(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "cart", "tier": "web"}},
            "status": {"phase": "Running"},
        });
        Filter::parse(by_plural("pods"), Some(labels), Some(fields))
            .unwrap()
            .lets_through(&pod)
    }

    #[test]
    fn selectors_let_through_what_they_say() {
        assert!(passes(
            "app=cart,tier in (web, api)",
            "status.phase=Running"
        ));
        assert!(passes(
            "app==cart,tier notin (db),!gone,app",
            "metadata.name!=b"
        ));
        assert!(passes("missing!=x", ""));
        assert!(!passes("app!=cart", ""));
        assert!(!passes("", "status.phase=Pending"));
        let refused = Filter::parse(by_plural("pods"), None, Some("spec.color=red")).unwrap_err();
        assert!(
            refused.body()["message"]
                .as_str()
                .unwrap()
                .contains("not supported: spec.color")
        );
    }
}
