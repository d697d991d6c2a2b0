//! The ticket's text, rendered from the signed statement alone.
//!
//! The server renders it when it opens the ticket, the executor when it looks: whoever edits a
//! ticket so that it says something else than the statement makes its approval count for nothing.
//! So nothing may enter the text that is not in the statement: no address of the approval page (a
//! remote link carries it), no words of the AI (a comment does).

use countersign_domain::{Digest, Inverse, Predicate, Statement, Success, one_line};
use serde_json::Value;

use super::adf::{self, Document, bold, text_node};

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
    /// Whether a ticket as Jira returns it says exactly this, to a reader: see
    /// [`adf::canonical`].
    #[must_use]
    pub fn is_said_by(&self, summary: &str, description: &Value) -> bool {
        summary == self.summary && adf::canonical(description) == adf::canonical(&self.description)
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
            format!(
                "{} of {} ({})",
                entry.count,
                entry.group,
                channels.join(" or ")
            )
        })
        .collect();
    let own = if statement.self_approval_allowed() {
        "may"
    } else {
        "may not"
    };
    let asked = [
        (
            "Asked by",
            format!(
                "AI client {}, which can speak for {people}",
                statement.agent
            ),
        ),
        ("Needs", require.join(", ")),
        (
            "Self-approval",
            format!("the people behind the AI client {own} approve"),
        ),
        (
            "Rule",
            format!("{} (risk {})", statement.rule, statement.risk),
        ),
        ("Decide by", statement.decide_by.to_string()),
        ("Begins by", statement.execute_by.to_string()),
        ("Action", statement.action_id.to_string()),
        ("Statement", digest.to_string()),
    ];
    let params = statement.params.iter().map(|(key, value)| line(key, value));
    let facts = statement.facts.iter().map(|(key, value)| line(key, value));
    let checks = statement
        .predicates
        .iter()
        .map(|check| sentence(&predicate_text(check)));
    let description = Document::new()
        .heading("What would be done")
        .paragraph(sentence(&statement.change()))
        .bullets(params)
        .heading("Who asks and who may answer")
        .bullets(asked.iter().map(|(key, value)| line(key, value)))
        .heading(&format!(
            "What the executor saw at {}",
            statement.admitted_at
        ))
        .bullets(facts)
        .heading("What it checks again right before the write")
        .bullets(checks)
        .heading("What counts as success")
        .paragraph(sentence(&success_text(&statement.success)))
        .heading("Way back")
        .paragraph(sentence(&inverse_text(&statement.inverse)))
        .paragraph(sentence(
            "Please leave summary and description as they are: the executor compares them with \
             the signed statement, and an edited ticket approves nothing.",
        ))
        .into_value();
    TicketText {
        summary,
        description,
    }
}

fn predicate_text(predicate: &Predicate) -> String {
    match predicate {
        Predicate::Uid { uid } => format!("It is still the object with uid {uid}."),
        Predicate::Owner { owner } => {
            format!(
                "It still belongs to {} {} (uid {}).",
                owner.kind, owner.name, owner.uid
            )
        }
        Predicate::Unhealthy { window_seconds } => format!(
            "It is not Ready, or a container of it failed in the last {window_seconds} seconds."
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

fn inverse_text(inverse: &Inverse) -> String {
    match inverse {
        Inverse::None { because } => format!("There is none: {because}."),
    }
}

/// Facts can hold text from a pod: hidden characters show themselves, and a line stays a line.
fn shown(value: &str) -> String {
    let value = one_line(value, VALUE_CAP);
    if value.trim().is_empty() {
        "(empty)".to_owned()
    } else {
        value
    }
}

fn sentence(text: &str) -> Vec<Value> {
    vec![text_node(&shown(text))]
}

fn line(key: &str, value: &str) -> Vec<Value> {
    vec![bold(&shown(key)), text_node(&format!(": {}", shown(value)))]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use countersign_domain::{
        ActionKind, Channel, ClusterRef, Count, OwnerRef, Requirement, Risk, Tier, digest_text,
    };
    use serde_json::json;

    use super::*;

    fn statement() -> Statement {
        Statement {
            v: "1".into(),
            kid: "k".into(),
            action_id: "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10".parse().unwrap(),
            cluster: ClusterRef {
                id: "prod".into(),
                kube_system_uid: "u".into(),
            },
            kind: ActionKind::RestartPod,
            namespace: "shop".into(),
            name: "checkout-1".into(),
            uid: "uid-1".into(),
            params: BTreeMap::from([("mode".into(), "evict".into())]),
            facts: BTreeMap::from([
                (
                    "reason".into(),
                    "CrashLoopBackOff\u{202e}\nApproved by Li".into(),
                ),
                ("node".into(), String::new()),
            ]),
            predicates: vec![Predicate::Owner {
                owner: OwnerRef {
                    kind: "ReplicaSet".into(),
                    name: "checkout".into(),
                    uid: "o".into(),
                },
            }],
            success: Success::ReplacementReady {
                deadline_seconds: Count(120),
            },
            inverse: Inverse::None {
                because: "an evicted pod does not come back".into(),
            },
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
        let text = render_ticket(&statement(), &digest_text("d"))
            .description
            .to_string();
        assert!(
            text.contains("CrashLoopBackOff⟨U+202E⟩ Approved by Li"),
            "{text}"
        );
        assert!(text.contains("(empty)"));
    }

    #[test]
    fn the_same_text_is_recognised_through_local_ids_and_an_edit_is_not() {
        let text = render_ticket(&statement(), &digest_text("d"));
        let mut live = text.description.clone();
        live["content"][1]["attrs"] = json!({"localId": "x"});
        assert!(text.is_said_by(&text.summary, &live));
        live["content"][1]["content"][0]["text"] = json!("Evict something else");
        assert!(!text.is_said_by(&text.summary, &live));
        assert!(!text.is_said_by("Approve something else?", &text.description));
        assert!(!text.is_said_by(&text.summary, &Value::Null));
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
