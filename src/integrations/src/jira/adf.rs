//! Atlassian Document Format: building our tickets, and reading text back to compare it.
//!
//! Text goes in as text nodes, so nothing in it can become markup.

use serde_json::{Value, json};

/// A document under construction.
#[derive(Clone, Debug, Default)]
pub struct Document {
    content: Vec<Value>,
}

/// The colour of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelKind {
    Info,
    Note,
    Success,
    Warning,
    Error,
}

impl PanelKind {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Note => "note",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Document {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn heading(mut self, text: &str) -> Self {
        let content: Vec<Value> = non_empty([text_node(text)]);
        self.content
            .push(json!({ "type": "heading", "attrs": { "level": 3 }, "content": content }));
        self
    }

    #[must_use]
    pub fn paragraph(mut self, nodes: impl IntoIterator<Item = Value>) -> Self {
        self.content.push(paragraph(nodes));
        self
    }

    #[must_use]
    pub fn code_block(mut self, text: &str) -> Self {
        let content = non_empty([text_node(text)]);
        self.content
            .push(json!({ "type": "codeBlock", "content": content }));
        self
    }

    /// A coloured box around one paragraph.
    #[must_use]
    pub fn panel(mut self, kind: PanelKind, nodes: impl IntoIterator<Item = Value>) -> Self {
        self.content.push(json!({
            "type": "panel",
            "attrs": { "panelType": kind.name() },
            "content": [paragraph(nodes)],
        }));
        self
    }

    #[must_use]
    pub fn bullets(mut self, items: impl IntoIterator<Item = Vec<Value>>) -> Self {
        let items: Vec<Value> = items
            .into_iter()
            .map(|nodes| json!({ "type": "listItem", "content": [paragraph(nodes)] }))
            .collect();
        if !items.is_empty() {
            self.content
                .push(json!({ "type": "bulletList", "content": items }));
        }
        self
    }

    /// The JSON that Jira takes.
    #[must_use]
    pub fn into_value(self) -> Value {
        json!({ "type": "doc", "version": 1, "content": self.content })
    }
}

#[must_use]
pub fn text_node(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

#[must_use]
pub fn bold(text: &str) -> Value {
    json!({ "type": "text", "text": text, "marks": [{ "type": "strong" }] })
}

#[must_use]
pub fn code(text: &str) -> Value {
    json!({ "type": "text", "text": text, "marks": [{ "type": "code" }] })
}

#[must_use]
pub fn link(text: &str, url: &str) -> Value {
    json!({
        "type": "text",
        "text": text,
        "marks": [{ "type": "link", "attrs": { "href": url } }],
    })
}

#[must_use]
pub fn paragraph(nodes: impl IntoIterator<Item = Value>) -> Value {
    json!({ "type": "paragraph", "content": non_empty(nodes) })
}

/// Jira refuses text nodes without text.
fn non_empty(nodes: impl IntoIterator<Item = Value>) -> Vec<Value> {
    nodes
        .into_iter()
        .filter(|node| node["text"] != "")
        .collect()
}

/// The words of a document, one line for each block.
#[must_use]
pub fn text(document: &Value) -> String {
    let mut out = String::new();
    write(document, &mut out, false);
    out.trim_end().to_owned()
}

/// A rendering in which any change that a reader could see shows: words, formatting, links with
/// their targets, panels, and the type of every node. Two documents with equal renderings look
/// alike; attributes that Jira adds by itself (such as `localId`) do not count.
#[must_use]
pub fn canonical(document: &Value) -> String {
    let mut out = String::new();
    write(document, &mut out, true);
    out
}

fn write(node: &Value, out: &mut String, everything: bool) {
    let kind = node["type"].as_str().unwrap_or("?");
    match kind {
        "text" if everything => out.push_str(&rendered(&marks(node), &node_text(node))),
        "text" => out.push_str(&node_text(node)),
        "hardBreak" if !everything => out.push('\n'),
        _ => {
            if everything {
                out.push_str(&format!("<{kind}{}>", attributes(node)));
            }
            write_children(node, out, everything);
            if everything {
                out.push_str(&format!("</{kind}>"));
            } else if matches!(
                kind,
                "paragraph" | "heading" | "codeBlock" | "mediaSingle" | "rule"
            ) {
                out.push('\n');
            }
        }
    }
}

/// Neighbouring text nodes of one formatting are one text: Jira joins them when it saves.
fn write_children(node: &Value, out: &mut String, everything: bool) {
    let mut pending: Option<(String, String)> = None;
    for child in node["content"].as_array().into_iter().flatten() {
        if everything && child["type"] == "text" {
            let (marks, text) = (marks(child), node_text(child));
            match &mut pending {
                Some((same, joined)) if *same == marks => joined.push_str(&text),
                _ => {
                    if let Some((marks, text)) = pending.replace((marks, text)) {
                        out.push_str(&rendered(&marks, &text));
                    }
                }
            }
            continue;
        }
        if let Some((marks, text)) = pending.take() {
            out.push_str(&rendered(&marks, &text));
        }
        write(child, out, everything);
    }
    if let Some((marks, text)) = pending {
        out.push_str(&rendered(&marks, &text));
    }
}

fn node_text(node: &Value) -> String {
    node["text"].as_str().unwrap_or_default().to_owned()
}

/// The text is escaped, so that it cannot imitate structure.
fn rendered(marks: &str, text: &str) -> String {
    format!("{marks}{}", Value::from(text))
}

/// Attributes without those that Jira fills in: ids, and null for "not set".
fn attributes(node: &Value) -> String {
    let mut all: Vec<String> = node["attrs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| *name != "localId" && !value.is_null())
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    all.sort();
    all.concat()
}

fn marks(node: &Value) -> String {
    let mut all: Vec<String> = node["marks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mark| {
            format!(
                "[{}{}]",
                mark["type"].as_str().unwrap_or("?"),
                attributes(mark)
            )
        })
        .collect();
    all.sort();
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        Document::new()
            .heading("Restart pod web-1")
            .paragraph([text_node("Asked by "), bold("claude-ops"), text_node("")])
            .code_block("EVICT shop/web-1\nuid 42")
            .panel(
                PanelKind::Warning,
                [link("Decide here", "https://x/actions/1")],
            )
            .bullets([vec![code("a")], vec![text_node("b")]])
            .into_value()
    }

    #[test]
    fn words_come_back_out() {
        assert_eq!(
            text(&sample()),
            "Restart pod web-1\nAsked by claude-ops\nEVICT shop/web-1\nuid 42\nDecide here\na\nb"
        );
        assert_eq!(text(&Value::Null), "");
    }

    #[test]
    fn what_a_reader_sees_counts_and_what_jira_adds_does_not() {
        let original = canonical(&sample());
        let mut with_ids = sample();
        with_ids["content"][0]["attrs"]["localId"] = json!("7");
        assert_eq!(canonical(&with_ids), original);
        let one = Document::new().paragraph([text_node("a"), text_node("b"), bold("c")]);
        let joined = Document::new().paragraph([text_node("ab"), bold("c")]);
        assert_eq!(
            canonical(&one.into_value()),
            canonical(&joined.into_value())
        );
        let mut elsewhere = sample();
        elsewhere["content"][3]["content"][0]["content"][0]["marks"][0]["attrs"]["href"] =
            json!("https://evil/");
        assert_ne!(canonical(&elsewhere), original);
        let mut other_panel = sample();
        other_panel["content"][3]["attrs"]["panelType"] = json!("info");
        assert_ne!(canonical(&other_panel), original);
        let mut added = sample();
        added["content"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": "rule" }));
        assert_ne!(canonical(&added), original);
        let imitation = Document::new().paragraph([text_node("a\"</paragraph><paragraph>\"b")]);
        let real = Document::new()
            .paragraph([text_node("a")])
            .paragraph([text_node("b")]);
        assert_ne!(
            canonical(&imitation.into_value()),
            canonical(&real.into_value())
        );
    }
}
