//! A decision: one person's answer to one statement.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::word_enum;
use crate::canonical::Digest;
use crate::signing::SignedObject;

word_enum! {
    /// What the person said.
    Verb, "decision" {
        Approve => "approve",
        Reject => "reject",
        /// Takes an approval back, for good.
        Withdraw => "withdraw",
    }
}

word_enum! {
    /// Where the person said it.
    Channel, "channel" {
        Web => "web",
        Jira => "jira",
    }
}

/// What a signature over a decision covers. On the page the server attests it; for Jira the
/// executor derives and signs it after its own look at the ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Always `"1"`.
    pub v: String,
    /// Digest of the statement that the person saw.
    pub statement: Digest,
    pub verb: Verb,
    /// The person's id in the registry.
    pub person: String,
    pub channel: Channel,
    /// Digest of the reason's text ([`crate::digest_text`]); of the empty text when none was given.
    pub reason_digest: Digest,
    pub decided_at: Timestamp,
    pub valid_until: Timestamp,
}

impl SignedObject for Decision {
    const PREFIX: &'static str = "countersign-decision/v1";
}
