//! The statement as pages may use it: only after its signature was verified with the executor's
//! key, and only when it is this action's own.

use countersign_domain::{Action, KeyRing, Signed, Statement};

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
    pub(super) fn of(action: &Action, keys: &KeyRing) -> Self {
        let Some(sealed) = action.state.statement() else {
            return Self::None;
        };
        // The key must have been valid when it signed. The body tells when that was, and is only
        // believed once the signature fits.
        let Ok(claimed) = serde_json::from_str::<Statement>(&sealed.json) else {
            return Self::Broken("it cannot be read".to_owned());
        };
        match sealed.open::<Statement>(keys, claimed.admitted_at) {
            Err(error) => Self::Broken(error.to_string()),
            Ok(signed) if signed.body().action_id != action.id => {
                Self::Broken(format!("it belongs to action {}", signed.body().action_id))
            }
            Ok(signed) if signed.body().kid != sealed.kid => {
                Self::Broken("it names another key than the one that signed it".to_owned())
            }
            Ok(signed) => Self::Verified(Box::new(signed)),
        }
    }

    pub(super) fn verified(&self) -> Option<&Signed<Statement>> {
        match self {
            Self::Verified(signed) => Some(signed),
            Self::None | Self::Broken(_) => None,
        }
    }
}
