//! The statement: what would be done, written and signed by the executor, shown to people, and
//! checked again before the write. Strings only, so that its canonical bytes are unambiguous.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::canonical::Digest;
use crate::ids::ActionId;
use crate::policy::{Requirement, Risk};
use crate::signing::SignedObject;

/// A small whole number that is written as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Count(pub u32);

impl From<Count> for String {
    fn from(count: Count) -> Self {
        count.0.to_string()
    }
}

impl TryFrom<String> for Count {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<u32>() {
            Ok(number) if number.to_string() == text => Ok(Self(number)),
            _ => Err(format!("`{text}` is not a whole number")),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which cluster. `id` is the operator's name for it, pinned in the executor's configuration;
/// `kube_system_uid` is read from the cluster. Both must match: a cloned cluster keeps its UIDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRef {
    pub id: String,
    pub kube_system_uid: String,
}

/// The controller of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerRef {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// A condition that held when the statement was made and must hold again right before the write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "check", rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicate {
    /// The target is still this very object.
    Uid { uid: String },
    /// It is still controlled by this very owner.
    Owner { owner: OwnerRef },
    /// It is not Ready, or a container of it failed within the window. Only stated when it held at
    /// admission, and worded so that a crash loop's short Ready moments do not flip it.
    Unhealthy { window_seconds: Count },
}

/// What counts as success, approved together with the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "criterion", rename_all = "snake_case", deny_unknown_fields)]
pub enum Success {
    /// The old UID is gone and a pod of the same controller that was not there before the write is
    /// Ready by the deadline, counted from the write.
    ReplacementReady { deadline_seconds: Count },
}

/// The pre-approved way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "inverse", rename_all = "snake_case", deny_unknown_fields)]
pub enum Inverse {
    /// There is none; the text says why.
    None { because: String },
}

/// What would be done. See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always `"1"`.
    pub v: String,
    /// The executor's key.
    pub kid: String,
    pub action_id: ActionId,
    pub cluster: ClusterRef,
    pub kind: ActionKind,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The action's parameters, e.g. `mode=evict`.
    pub params: BTreeMap<String, String>,
    /// What the executor observed, for people. Enforced only where a predicate says so.
    pub facts: BTreeMap<String, String>,
    pub predicates: Vec<Predicate>,
    pub success: Success,
    pub inverse: Inverse,
    /// The AI that proposed, as the server authenticated it.
    pub agent: String,
    /// The people whom the *executor's* registry maps the agent to.
    pub on_behalf_of: Vec<String>,
    /// The policy rule that matched at admission.
    pub rule: String,
    pub risk: Risk,
    pub require: Vec<Requirement>,
    /// `allowed` or `forbidden`: whether a person behind the agent may approve.
    pub self_approval: String,
    pub policy_hash: Digest,
    pub admitted_at: Timestamp,
    /// Until when people may decide.
    pub decide_by: Timestamp,
    /// Until when the executor may begin.
    pub execute_by: Timestamp,
}

impl SignedObject for Statement {
    const PREFIX: &'static str = "countersign-statement/v1";
}

impl Statement {
    /// No statement lives longer than this, whatever a rule says: the spent register is collected
    /// an hour after it.
    pub const LIFETIME_CAP: SignedDuration = SignedDuration::from_hours(24);

    pub fn owner(&self) -> Option<&OwnerRef> {
        self.predicates
            .iter()
            .find_map(|predicate| match predicate {
                Predicate::Owner { owner } => Some(owner),
                _ => None,
            })
    }

    pub fn self_approval_allowed(&self) -> bool {
        self.self_approval == "allowed"
    }

    /// Seconds that the outcome may take, counted from the write.
    pub fn success_deadline(&self) -> SignedDuration {
        match self.success {
            Success::ReplacementReady { deadline_seconds } => {
                SignedDuration::from_secs(i64::from(deadline_seconds.0))
            }
        }
    }

    /// One sentence that says the exact change. Page, ticket and MCP all use this one.
    pub fn change(&self) -> String {
        match self.kind {
            ActionKind::RestartPod => {
                let owner = self.owner().map_or_else(String::new, |owner| {
                    format!("; {} {} makes its replacement", owner.kind, owner.name)
                });
                format!(
                    "Evict pod {}/{} (uid {}) in cluster {}{owner}",
                    self.namespace, self.name, self.uid, self.cluster.id
                )
            }
        }
    }
}
