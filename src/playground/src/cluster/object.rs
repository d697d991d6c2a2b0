//! Reading Kubernetes objects held as JSON. Missing fields read as empty, never as a panic.

use serde_json::{Map, Value};

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
}

pub fn integer(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

pub fn is_terminating(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|at| !at.is_null())
}

/// UID of the owner that manages this object.
pub fn controller_uid(object: &Value) -> Option<&str> {
    list(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true)
        .and_then(|owner| owner["uid"].as_str())
}

/// The `Ready` condition, as disruption budgets and ReplicaSets count it.
pub fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Sets a condition, keeping `lastTransitionTime` while the status stays the same.
pub fn set_condition(status: &mut Value, mut condition: Value, at: &str) {
    let Some(conditions) = status["conditions"].as_array_mut() else {
        condition["lastTransitionTime"] = at.into();
        status["conditions"] = Value::Array(vec![condition]);
        return;
    };
    let old = conditions
        .iter_mut()
        .find(|old| old["type"] == condition["type"]);
    match old {
        Some(old) => {
            condition["lastTransitionTime"] = if old["status"] == condition["status"] {
                old["lastTransitionTime"].clone()
            } else {
                at.into()
            };
            *old = condition;
        }
        None => {
            condition["lastTransitionTime"] = at.into();
            conditions.push(condition);
        }
    }
}
