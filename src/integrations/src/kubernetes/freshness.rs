//! What an answer says about itself: as of when, from where, and whether all could be understood.

use jiff::Timestamp;

use super::error::KubeError;

/// How old an answer is, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The answer shows the cluster as it was then, or later. By our clock.
    pub as_of: Timestamp,
    pub source: ReadSource,
    /// Objects that are missing because they do not decode.
    pub unreadable: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadSource {
    /// Kept right by a watch that works.
    Cache,
    /// Read for this answer.
    Live,
    /// The watch does not work and the API does not answer: what was seen last.
    Old(KubeError),
}

impl ReadSource {
    /// `cache`, `live` or `old`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Live => "live",
            Self::Old(_) => "old",
        }
    }
}

impl Freshness {
    /// Of an answer that was made of both.
    pub(super) fn and(self, other: Self) -> Self {
        // Both may have missed the same objects.
        let unreadable = self.unreadable.max(other.unreadable);
        let as_of = self.as_of.min(other.as_of);
        let source = match (self.source, other.source) {
            (old @ ReadSource::Old(_), _) | (_, old @ ReadSource::Old(_)) => old,
            (ReadSource::Cache, ReadSource::Cache) => ReadSource::Cache,
            _ => ReadSource::Live,
        };
        Self {
            as_of,
            source,
            unreadable,
        }
    }
}
