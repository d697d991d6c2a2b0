//! The statement as pages may use it: only after its signature was verified with the executor's
//! key, and only when it is this action's own.

use countersign_domain::{Action, KeyRing, Signed, Statement};
use jiff::Timestamp;

use crate::evidence;

/// What there is to show.
#[derive(Debug)]
pub(super) enum Shown {
    /// Not admitted (yet): there is no statement.
    None,
    Verified(Box<Signed<Statement>>),
    /// The stored statement is not the executor's: shown in red, and nothing can be decided.
    Broken(String),
}

impl Shown {
    pub(super) fn of(action: &Action, keys: &KeyRing, now: Timestamp) -> Self {
        match evidence::statement(action, keys, now) {
            None => Self::None,
            Some(Ok(signed)) => Self::Verified(Box::new(signed)),
            Some(Err(error)) => Self::Broken(error.to_string()),
        }
    }

    pub(super) fn verified(&self) -> Option<&Signed<Statement>> {
        match self {
            Self::Verified(signed) => Some(signed),
            Self::None | Self::Broken(_) => None,
        }
    }
}
