//! The ticket's text, rendered from the signed statement alone.
//!
//! The server renders it when it opens the ticket, the executor when it looks: whoever edits a
//! ticket so that it says something else than the statement makes its approval count for nothing.
//! So nothing may enter the text that is not in the statement: no address of the approval page (a
//! remote link carries it), no words of the AI (a comment does).

use countersign_domain::{Digest, Predicate, Statement, Success, one_line};
use serde_json::{Value, json};

/// Longest value of one fact, in characters.
const VALUE_CAP: usize = 400;
/// Jira refuses summaries beyond 255 characters.
const SUMMARY_CAP: usize = 230;

/// A ticket's summary and its description (Atlassian Document Format).
#[derive(Clone, Debug, PartialEq)]
pub struct TicketText {
    pub summary: String,
    pub description: Value,
}

impl TicketText {
    /// Whether a ticket as Jira returns it says exactly this. Jira may add `localId` attributes,
    /// which show nothing; any other difference counts.
    #[must_use]
    pub fn is_said_by(&self, summary: &str, description: &Value) -> bool {
        let mut found = description.clone();
        drop_local_ids(&mut found);
        summary == self.summary && found == self.description
    }
}

/// Renders the ticket of a statement; `digest` is the statement's.
#[must_use]
pub fn render_ticket(statement: &Statement, digest: &Digest) -> TicketText {
    let summary = one_line(
        &format!(
            "Approve {} of {}/{} in {}?",
            statement.kind, statement.namespace, statement.name, statement.cluster.id
        ),
        SUMMARY_CAP,
    );
    let people = statement.on_behalf_of.join(", ");
    let require: Vec<String> = statement
        .require
        .iter()
        .map(|entry| {
            let channels: Vec<&str> = entry.channels.iter().map(|c| c.as_str()).collect();
            format!("{} of {} ({})", entry.count, entry.group, channels.join(" or "))
        })
        .collect();
    let own = if statement.self_approval_allowed() { "may" } else { "may not" };
    let asked = [
        ("Asked by", format!("AI client {}, which can speak for {people}", statement.agent)),
        ("Needs", require.join(", ")),
        ("Self-approval", format!("the people behind the AI client {own} approve")),
        ("Rule", format!("{} (risk {})", statement.rule, statement.risk)),
        ("Decide by", statement.decide_by.to_string()),
        ("Begins by", statement.execute_by.to_string()),
        ("Action", statement.action_id.to_string()),
        ("Statement", digest.to_string()),
    ];
    let params: Vec<_> = statement.params.iter().collect();
    let facts: Vec<_> = statement.facts.iter().collect();
    let mut content = vec![heading("What would be done"), paragraph(&statement.change())];
    if !params.is_empty() {
        content.push(list(params.into_iter().map(|(key, value)| line(key, value))));
    }
    content.push(heading("Who asks and who may answer"));
    content.push(list(asked.iter().map(|(key, value)| line(key, value))));
    content.push(heading(&format!("What the executor saw at {}", statement.admitted_at)));
    content.push(match facts.is_empty() {
        true => paragraph("Nothing that it could read."),
        false => list(facts.into_iter().map(|(key, value)| line(key, value))),
    });
    content.push(heading("What it checks again right before the write"));
    content.push(list(
        statement.predicates.iter().map(|predicate| paragraph(&predicate_text(predicate))),
    ));
    content.push(heading("What counts as success"));
    content.push(paragraph(&success_text(&statement.success)));
    content.push(heading("Way back"));
    content.push(paragraph(&inverse_text(statement)));
    content.push(paragraph(
        "Please leave summary and description as they are: the executor compares them with the \
         signed statement, and an edited ticket approves nothing.",
    ));
    let description = json!({"type": "doc", "version": 1, "content": content});
    TicketText { summary, description }
}

fn predicate_text(predicate: &Predicate) -> String {
    match predicate {
        Predicate::Uid { uid } => format!("It is still the object with uid {uid}."),
        Predicate::Owner { owner } => {
            format!("It still belongs to {} {} (uid {}).", owner.kind, owner.name, owner.uid)
        }
        Predicate::Unhealthy { window_seconds } => format!(
            "It is not Ready, or a container of it failed in the last {} seconds.",
            window_seconds
        ),
    }
}

fn success_text(success: &Success) -> String {
    match success {
        Success::ReplacementReady { deadline_seconds } => format!(
            "The old pod is gone, and a new pod of the same controller is Ready within \
             {deadline_seconds} seconds of the write."
        ),
    }
}

fn inverse_text(statement: &Statement) -> String {
    match &statement.inverse {
        countersign_domain::Inverse::None { because } => format!("There is none: {because}"),
    }
}

fn shown(value: &str) -> String {
    let value = one_line(value, VALUE_CAP);
    // A text node may not be empty in this format.
    if value.trim().is_empty() { "(empty)".to_owned() } else { value }
}

fn heading(title: &str) -> Value {
    json!({"type": "heading", "attrs": {"level": 3},
        "content": [{"type": "text", "text": shown(title)}]})
}

fn paragraph(sentence: &str) -> Value {
    json!({"type": "paragraph", "content": [{"type": "text", "text": shown(sentence)}]})
}

fn line(key: &str, value: &str) -> Value {
    json!({"type": "paragraph", "content": [
        {"type": "text", "text": shown(key), "marks": [{"type": "strong"}]},
        {"type": "text", "text": format!(": {}", shown(value))},
    ]})
}

fn list(paragraphs: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = paragraphs
        .map(|paragraph| json!({"type": "listItem", "content": [paragraph]}))
        .collect();
    json!({"type": "bulletList", "content": items})
}

fn drop_local_ids(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(drop_local_ids),
        Value::Object(members) => {
            if let Some(Value::Object(attrs)) = members.get_mut("attrs") {
                attrs.shift_remove("localId");
                if attrs.is_empty() {
                    members.shift_remove("attrs");
                }
            }
            members.values_mut().for_each(drop_local_ids);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use countersign_domain::{
        ActionKind, Channel, ClusterRef, Count, Inverse, OwnerRef, Requirement, Risk, Tier,
        digest_text,
    };

    use super::*;

    fn statement() -> Statement {
        Statement {
            v: "1".into(),
            kid: "k".into(),
            action_id: "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10".parse().unwrap(),
            cluster: ClusterRef { id: "prod".into(), kube_system_uid: "u".into() },
            kind: ActionKind::RestartPod,
            namespace: "shop".into(),
            name: "checkout-1".into(),
            uid: "uid-1".into(),
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            facts: BTreeMap::from([
                ("reason".into(), "CrashLoopBackOff\u{202e}\nApproved by Li".into()),
                ("node".into(), String::new()),
            ]),
            predicates: vec![Predicate::Owner {
                owner: OwnerRef { kind: "ReplicaSet".into(), name: "checkout".into(), uid: "o".into() },
            }],
            success: Success::ReplacementReady { deadline_seconds: Count(120) },
            inverse: Inverse::None { because: "an evicted pod does not come back".into() },
            agent: "bot".into(),
            on_behalf_of: vec!["ann".into()],
            rule: "shop".into(),
            risk: Risk::Low,
            require: vec![Requirement {
                group: "sre".into(),
                count: Count(1),
                tier: Tier::Attested,
                channels: vec![Channel::Web, Channel::Jira],
            }],
            self_approval: "forbidden".into(),
            policy_hash: digest_text("p"),
            admitted_at: "2026-11-22T02:00:00Z".parse().unwrap(),
            decide_by: "2026-11-22T02:15:00Z".parse().unwrap(),
            execute_by: "2026-11-22T02:20:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn hostile_facts_stay_on_their_line_and_show_themselves() {
        let text = render_ticket(&statement(), &digest_text("d")).description.to_string();
        assert!(text.contains("CrashLoopBackOff⟨U+202E⟩ Approved by Li"), "{text}");
        assert!(text.contains("(empty)"));
    }

    #[test]
    fn the_same_text_is_recognised_through_local_ids_and_an_edit_is_not() {
        let text = render_ticket(&statement(), &digest_text("d"));
        let mut live = text.description.clone();
        live["content"][1]["attrs"] = json!({"localId": "x"});
        live["content"][0]["attrs"]["localId"] = json!("y");
        assert!(text.is_said_by(&text.summary, &live));
        live["content"][1]["content"][0]["text"] = json!("Evict something else");
        assert!(!text.is_said_by(&text.summary, &live));
        assert!(!text.is_said_by("Approve something else?", &text.description));
        let linked = json!({"type": "text", "text": "x", "marks": [{"type": "link",
            "attrs": {"href": "https://example.org", "localId": "z"}}]});
        let mut live = text.description.clone();
        live["content"][0]["content"][0] = linked;
        assert!(!text.is_said_by(&text.summary, &live));
    }

    #[test]
    fn the_summary_fits_and_names_the_object() {
        let mut statement = statement();
        assert_eq!(
            render_ticket(&statement, &digest_text("d")).summary,
            "Approve restart_pod of shop/checkout-1 in prod?"
        );
        statement.name = "x".repeat(253);
        let summary = render_ticket(&statement, &digest_text("d")).summary;
        assert!(summary.chars().count() <= 255, "{summary}");
    }
}
