//! Answers about actions.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Why;
use crate::mcp::schema::{OrNull, drop_nulls};

#[derive(Debug, Serialize, JsonSchema)]
pub struct TicketLink {
    pub key: String,
    pub url: String,
}

/// Answer of `restart_pod`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Proposed {
    /// Null when the proposal was denied at once and nothing was stored.
    pub action_id: Option<String>,
    pub state: String,
    /// True: this very proposal was there already; no second one was made.
    pub existing: bool,
    /// SHA-256 of the statement that people are shown; null while `checking`.
    #[schemars(with = "OrNull<String>")]
    pub digest: Option<String>,
    /// Where a person decides. Give it to your user.
    pub approval_url: Option<String>,
    #[schemars(with = "OrNull<TicketLink>")]
    pub ticket: Option<TicketLink>,
    /// Until when people may decide; null while `checking`.
    #[schemars(with = "OrNull<String>")]
    pub expires_at: Option<String>,
    /// Ask again after so many seconds; 0 when it has ended.
    pub poll_after_seconds: u32,
    /// The tool to call next, if any.
    pub next_tool: Option<String>,
    /// Why it was denied or held.
    pub reason: Option<Why>,
    /// What an approver will be told, too: lost volumes, a Job's retries.
    pub warnings: Vec<String>,
    /// True: the cluster is a playground.
    pub simulated: bool,
}

impl Proposed {
    /// The structured form. What comes with the executor's look is named also before: a null there
    /// says "not yet", where a field that is missing could be one that this version does not know.
    pub fn structured(&self) -> Value {
        let mut body = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut body {
            let awaited = |name: &str| ["digest", "ticket", "expires_at"].contains(&name);
            fields.retain(|name, value| !value.is_null() || awaited(name));
            fields.values_mut().for_each(drop_nulls);
        }
        body
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Decided {
    pub person: String,
    /// approve, reject or withdraw.
    pub decision: String,
    pub channel: String,
    pub at: String,
    /// The person's own words.
    pub reason: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Moment {
    pub at: String,
    pub event: String,
    pub who: String,
}

/// Answer of `get_action`, `wait_for_action` and `cancel_action`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ActionStatus {
    pub action_id: String,
    pub tool: String,
    pub cluster: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub state: String,
    /// True: nothing more will happen.
    pub ended: bool,
    /// How it ended, or why it was refused or rejected.
    pub outcome: Option<Why>,
    /// Why nothing moves just now.
    pub held: Option<Why>,
    /// The exact change in one sentence, as people are shown it; null while `checking`.
    pub change: Option<String>,
    pub digest: Option<String>,
    pub decisions: Vec<Decided>,
    pub approval_url: String,
    pub ticket: Option<TicketLink>,
    pub proposed_at: String,
    /// Until when people may decide, or, once approved, until when it may begin.
    pub expires_at: Option<String>,
    pub timeline: Vec<Moment>,
    pub poll_after_seconds: u32,
    pub next_tool: Option<String>,
    pub simulated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ActionLine {
    pub action_id: String,
    pub tool: String,
    pub cluster: String,
    pub namespace: String,
    pub name: String,
    pub state: String,
    pub proposed_at: String,
    pub outcome: Option<Why>,
    pub approval_url: String,
}

/// Answer of `list_actions`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ActionList {
    pub actions: Vec<ActionLine>,
    pub next_cursor: Option<String>,
}
