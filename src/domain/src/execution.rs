//! What the executor did, in its own signed words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::word_enum;
use crate::canonical::Digest;
use crate::ids::ActionId;
use crate::signing::SignedObject;

word_enum! {
    /// Which moment of an execution a record tells of.
    RecordKind, "record kind" {
        /// Committed before anything is sent.
        Intent => "intent",
        /// How it ended: `succeeded`, `failed` or `indeterminate`.
        Outcome => "outcome",
        /// The executor would not run it.
        Refusal => "refusal",
    }
}

/// An execution record. `code` and `message` are what every reader is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionRecord {
    /// Always `"1"`.
    pub v: String,
    pub record: RecordKind,
    pub action_id: ActionId,
    pub statement: Digest,
    /// A [`crate::StateName`] for outcomes and refusals, `executing` for intents.
    pub state: String,
    pub code: String,
    pub message: String,
    /// What was seen: UIDs, resource versions, times, the evidence that counted.
    pub details: BTreeMap<String, String>,
    /// Which executor process: an instance name, for people.
    pub executor: String,
    pub at: Timestamp,
}

impl SignedObject for ExecutionRecord {
    const PREFIX: &'static str = "countersign-execution/v1";
}
