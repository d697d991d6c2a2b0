//! Identifiers, and where their randomness comes from.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Source of random bytes, injected so that a test can repeat a run.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness every key, nonce and id would be guessable: stopping is the only
        // safe answer, and no supported system gets here after boot.
        #[expect(
            clippy::expect_used,
            reason = "no safe way to go on without randomness"
        )]
        getrandom::fill(bytes).expect("the operating system's random generator failed");
    }
}

/// 32 random bytes as 64 lowercase hex digits: lease tokens, nonces, session secrets.
pub fn random_token(entropy: &dyn Entropy) -> String {
    let mut bytes = [0u8; 32];
    entropy.fill(&mut bytes);
    hex::encode(bytes)
}

/// An action's id: a UUIDv7, so that ids sort by creation time. Text form: 36 lowercase characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ActionId(Uuid);

impl ActionId {
    pub fn new(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0u8; 10];
        entropy.fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// When it was made, by its maker's clock: the first 48 bits.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(0);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an action id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an action id: expected 36 characters like 01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10")]
pub struct InvalidId;

impl FromStr for ActionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // Only the hyphenated lowercase form: one id has one spelling, in URLs, labels and Leases.
        let id = Uuid::try_parse(text).map_err(|_| InvalidId)?;
        if id.to_string() == text {
            Ok(Self(id))
        } else {
            Err(InvalidId)
        }
    }
}

impl From<ActionId> for String {
    fn from(id: ActionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ActionId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let at: Timestamp = "2026-11-22T02:00:00.123Z".parse().unwrap();
        assert_eq!(ActionId::new(at, &OsEntropy).time(), at);
    }
}
