//! An action and its life. States carry their own data; what a row says about itself is turned into
//! a [`State`] or into a typed inconsistency, never into a panic.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::ActionId;
use crate::reason::Reason;
use crate::signing::Sealed;

/// A word that is not one of an enum's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a known {what}; known are: {known}")]
pub struct UnknownWord {
    pub what: &'static str,
    pub word: String,
    pub known: String,
}

/// An enum with one stable word a variant: the same word in SQL, JSON, URLs and sentences.
macro_rules! word_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::action::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::action::UnknownWord {
                        what: $what,
                        word: word.chars().take(64).collect(),
                        known: [$($word),+].join(", "),
                    }),
                }
            }
        }
    };
}
pub(crate) use word_enum;

word_enum! {
    /// What can be proposed. One variant a write tool.
    ActionKind, "action" {
        RestartPod => "restart_pod",
    }
}

word_enum! {
    /// How a pod is restarted. `evict` honours PodDisruptionBudgets.
    RestartMode, "restart mode" {
        Evict => "evict",
    }
}

word_enum! {
    /// The name of a state: a column value, a filter, a word in sentences.
    StateName, "state" {
        Checking => "checking",
        Pending => "pending",
        Approved => "approved",
        Executing => "executing",
        Indeterminate => "indeterminate",
        Succeeded => "succeeded",
        Failed => "failed",
        Denied => "denied",
        Rejected => "rejected",
        Cancelled => "cancelled",
        Expired => "expired",
        Refused => "refused",
    }
}

impl StateName {
    /// Nothing more will happen. `indeterminate` may still be resolved by looking.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::Failed
                | Self::Denied
                | Self::Rejected
                | Self::Cancelled
                | Self::Expired
                | Self::Refused
        )
    }

    /// The arrows of the life cycle. The store's guards follow this table and a test checks it.
    pub const fn may_become(self, next: Self) -> bool {
        use StateName as S;
        match self {
            S::Checking => matches!(next, S::Pending | S::Denied | S::Cancelled | S::Expired),
            S::Pending => matches!(next, S::Approved | S::Rejected | S::Cancelled | S::Expired),
            S::Approved => matches!(
                next,
                S::Pending | S::Executing | S::Cancelled | S::Refused | S::Expired | S::Rejected
            ),
            S::Executing => matches!(next, S::Succeeded | S::Failed | S::Indeterminate),
            S::Indeterminate => matches!(next, S::Succeeded | S::Failed),
            _ => false,
        }
    }
}

/// The object that an action is about, as the server saw it when the AI proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub cluster: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What the AI asked for. Everything here is the server's word; `reason` is the AI's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub kind: ActionKind,
    pub target: Target,
    /// Parameters of the action in text form, e.g. `mode=evict`.
    pub params: BTreeMap<String, String>,
    /// The authenticated caller.
    pub agent: String,
    /// Where the call came from (see the MCP documentation); never the base of a right.
    pub session: String,
    /// Why, in the AI's words: hostile text, capped, shown in a box of its own.
    pub reason: String,
    /// The caller's own key for this proposal, at most 128 characters.
    pub idempotency_key: Option<String>,
}

/// Why nothing moves just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub reason: Reason,
    pub since: Timestamp,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub reason: Reason,
    pub at: Timestamp,
}

/// Who did something, for sentences such as "already decided by Li at 02:19".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: String,
    pub at: Timestamp,
}

/// Where an action is in its life, with what belongs to that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Checking {
        held: Option<Held>,
    },
    Pending {
        statement: Sealed,
        held: Option<Held>,
    },
    Approved {
        statement: Sealed,
        held: Option<Held>,
    },
    Executing {
        statement: Sealed,
        started_at: Timestamp,
    },
    Indeterminate {
        statement: Sealed,
        started_at: Timestamp,
        end: End,
    },
    Succeeded {
        statement: Sealed,
        started_at: Timestamp,
        end: End,
    },
    Failed {
        statement: Sealed,
        started_at: Timestamp,
        end: End,
    },
    Refused {
        statement: Sealed,
        end: End,
    },
    Rejected {
        statement: Sealed,
        end: End,
    },
    Denied {
        end: End,
    },
    Cancelled {
        statement: Option<Sealed>,
        end: End,
    },
    Expired {
        statement: Option<Sealed>,
        end: End,
    },
}

impl State {
    pub const fn name(&self) -> StateName {
        match self {
            Self::Checking { .. } => StateName::Checking,
            Self::Pending { .. } => StateName::Pending,
            Self::Approved { .. } => StateName::Approved,
            Self::Executing { .. } => StateName::Executing,
            Self::Indeterminate { .. } => StateName::Indeterminate,
            Self::Succeeded { .. } => StateName::Succeeded,
            Self::Failed { .. } => StateName::Failed,
            Self::Refused { .. } => StateName::Refused,
            Self::Rejected { .. } => StateName::Rejected,
            Self::Denied { .. } => StateName::Denied,
            Self::Cancelled { .. } => StateName::Cancelled,
            Self::Expired { .. } => StateName::Expired,
        }
    }

    pub const fn statement(&self) -> Option<&Sealed> {
        match self {
            Self::Checking { .. } | Self::Denied { .. } => None,
            Self::Pending { statement, .. }
            | Self::Approved { statement, .. }
            | Self::Executing { statement, .. }
            | Self::Indeterminate { statement, .. }
            | Self::Succeeded { statement, .. }
            | Self::Failed { statement, .. }
            | Self::Refused { statement, .. }
            | Self::Rejected { statement, .. } => Some(statement),
            Self::Cancelled { statement, .. } | Self::Expired { statement, .. } => {
                statement.as_ref()
            }
        }
    }

    pub const fn held(&self) -> Option<&Held> {
        match self {
            Self::Checking { held } | Self::Pending { held, .. } | Self::Approved { held, .. } => {
                held.as_ref()
            }
            _ => None,
        }
    }

    pub const fn end(&self) -> Option<&End> {
        match self {
            Self::Indeterminate { end, .. }
            | Self::Succeeded { end, .. }
            | Self::Failed { end, .. }
            | Self::Refused { end, .. }
            | Self::Rejected { end, .. }
            | Self::Denied { end }
            | Self::Cancelled { end, .. }
            | Self::Expired { end, .. } => Some(end),
            _ => None,
        }
    }
}

/// An action as read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub id: ActionId,
    /// Grows by one with each transition; every guarded update names it.
    pub version: i64,
    pub proposal: Proposal,
    pub state: State,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The columns that together make a [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub state: StateName,
    pub statement: Option<Sealed>,
    pub held: Option<Held>,
    pub started_at: Option<Timestamp>,
    pub end: Option<End>,
}

/// A row contradicts itself: somebody wrote to the database by hand, or there is a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored action contradicts itself: state `{state}` with {what}")]
pub struct Inconsistent {
    pub state: StateName,
    pub what: &'static str,
}

impl TryFrom<Parts> for State {
    type Error = Inconsistent;

    fn try_from(parts: Parts) -> Result<Self, Inconsistent> {
        use StateName as S;
        let state = parts.state;
        let no = |what| Inconsistent { state, what };
        let statement = parts.statement.clone().ok_or(no("no statement"));
        let started_at = parts.started_at.ok_or(no("no start"));
        let end = parts.end.ok_or(no("no end"));
        let held = parts.held;
        Ok(match state {
            S::Checking if parts.statement.is_some() => return Err(no("a statement")),
            S::Checking => Self::Checking { held },
            S::Pending => Self::Pending {
                statement: statement?,
                held,
            },
            S::Approved => Self::Approved {
                statement: statement?,
                held,
            },
            S::Executing => Self::Executing {
                statement: statement?,
                started_at: started_at?,
            },
            S::Indeterminate => Self::Indeterminate {
                statement: statement?,
                started_at: started_at?,
                end: end?,
            },
            S::Succeeded => Self::Succeeded {
                statement: statement?,
                started_at: started_at?,
                end: end?,
            },
            S::Failed => Self::Failed {
                statement: statement?,
                started_at: started_at?,
                end: end?,
            },
            S::Refused => Self::Refused {
                statement: statement?,
                end: end?,
            },
            S::Rejected => Self::Rejected {
                statement: statement?,
                end: end?,
            },
            S::Denied => Self::Denied { end: end? },
            S::Cancelled => Self::Cancelled {
                statement: parts.statement,
                end: end?,
            },
            S::Expired => Self::Expired {
                statement: parts.statement,
                end: end?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways_and_errors_name_the_known_ones() {
        for state in StateName::ALL {
            assert_eq!(state.as_str().parse::<StateName>().unwrap(), *state);
        }
        let error = "delete_pod".parse::<ActionKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`delete_pod` is not a known action; known are: restart_pod"
        );
    }

    #[test]
    fn nothing_leaves_a_terminal_state_and_everything_reaches_one() {
        for from in StateName::ALL {
            let leaves = StateName::ALL.iter().any(|to| from.may_become(*to));
            assert_eq!(leaves, !from.is_terminal(), "{from}");
        }
    }

    #[test]
    fn a_row_that_contradicts_itself_is_a_typed_error() {
        let parts = Parts {
            state: StateName::Succeeded,
            statement: None,
            held: None,
            started_at: None,
            end: None,
        };
        let error = State::try_from(parts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stored action contradicts itself: state `succeeded` with no statement"
        );
    }
}
