//! Atlassian Document Format: what a description must be, and its text.

use serde_json::Value;

/// Longest text of a description or comment.
pub const LONGEST: usize = 32_767;

/// A document node of version 1 whose nodes all have a type.
pub fn is_document(value: &Value) -> bool {
    value["type"] == "doc"
        && value["version"] == 1
        && value["content"]
            .as_array()
            .is_some_and(|content| content.iter().all(is_node))
}

fn is_node(node: &Value) -> bool {
    node["type"].is_string()
        && match node.get("content") {
            None => true,
            Some(content) => content
                .as_array()
                .is_some_and(|content| content.iter().all(is_node)),
        }
        && (node["type"] != "text" || node["text"].as_str().is_some_and(|text| !text.is_empty()))
}

/// The text with a line per block, as changelog entries show a description.
pub fn plain_text(document: &Value) -> String {
    let mut text = String::new();
    collect(document, &mut text);
    text.trim_end().to_owned()
}

fn collect(node: &Value, text: &mut String) {
    match node["type"].as_str() {
        Some("text") => text.push_str(node["text"].as_str().unwrap_or_default()),
        Some("hardBreak") => text.push('\n'),
        _ => {}
    }
    for child in node["content"].as_array().into_iter().flatten() {
        collect(child, text);
    }
    if matches!(
        node["type"].as_str(),
        Some("paragraph" | "heading" | "codeBlock" | "rule")
    ) {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_one_of_version_1_and_reads_as_text() {
        let document = json!({"type": "doc", "version": 1, "content": [
            {"type": "paragraph", "content": [{"type": "text", "text": "a"}]},
            {"type": "bulletList", "content": [{"type": "listItem", "content": [
                {"type": "paragraph", "content": [{"type": "text", "text": "b"}]}]}]},
        ]});
        assert!(is_document(&document));
        assert_eq!(plain_text(&document), "a\nb");
        assert!(!is_document(&json!("wiki text")));
        assert!(!is_document(&json!({"type": "doc", "version": 1})));
    }
}
