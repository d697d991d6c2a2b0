//! The words of our comments. Every foreign word is a text node of its own, so that none of it can
//! become a mention, a link or a heading.

use countersign_domain::{ActionId, Channel, Signed, Statement, visible};
use countersign_integrations::jira::adf::{Document, bold, link, text_node};
use countersign_store::ActionDetail;
use serde_json::Value;

/// Longest foreign text in a comment, in characters.
const CAP: usize = 2000;

/// The label by which a ticket is found again.
pub fn label(action: ActionId) -> String {
    format!("countersign-{action}")
}

/// The last line of the comment of one moment: who finds it there does not write it again.
pub fn marker(action: ActionId, moment: &str) -> String {
    format!("countersign.{action}.{moment}")
}

/// The first comment: where and how to answer, and what the AI claims.
pub fn opening(detail: &ActionDetail, signed: &Signed<Statement>, url: &str) -> Value {
    let statement = signed.body();
    let needed: Vec<String> = statement
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
    let by_ticket = statement
        .require
        .iter()
        .any(|entry| entry.channels.contains(&Channel::Jira));
    let how = if by_ticket {
        "Decide on the page, or move this ticket to an approving or a declining status: "
    } else {
        "Decide on the page. Moving this ticket approves nothing under this rule; moving it to a \
         declining status rejects: "
    };
    let asker = if statement.on_behalf_of.is_empty() {
        statement.agent.clone()
    } else {
        format!(
            "{}, which can speak for {}",
            statement.agent,
            statement.on_behalf_of.join(", ")
        )
    };
    Document::new()
        .paragraph([text(&statement.change())])
        .paragraph([text(how), link(url, url)])
        .bullets([
            vec![bold("Asked by: "), text(&asker)],
            vec![bold("Needed: "), text(&needed.join(", "))],
            vec![bold("Decide by: "), text(&statement.decide_by.to_string())],
            vec![
                bold("Statement: "),
                text(&format!("sha256 {}", signed.digest())),
            ],
        ])
        .paragraph([bold("Claimed by the AI, not verified:")])
        .code_block(&shown(&detail.action.proposal.reason))
        .into_value()
}

/// A comment of one sentence.
pub fn told(sentence: &str, url: &str) -> Value {
    Document::new()
        .paragraph([text(sentence)])
        .paragraph([text("The whole story: "), link(url, url)])
        .into_value()
}

fn text(words: &str) -> Value {
    text_node(&shown(words))
}

/// Jira refuses a text without words.
fn shown(words: &str) -> String {
    let words = visible(words, CAP);
    if words.trim().is_empty() {
        "(nothing)".to_owned()
    } else {
        words
    }
}
