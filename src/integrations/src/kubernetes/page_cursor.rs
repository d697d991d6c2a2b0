//! Where a page of groups ended. The order of the first page (the worst first) changes with
//! every pod, so a cursor into it would lose groups and repeat others. Instead it remembers
//! which groups the first page showed, and a place in an order that does not change.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const VERSION: u8 = 1;
/// Bytes of the hash of a shown group: a collision among a thousand groups is a matter of one
/// cluster in many millions.
const SHORT: usize = 6;
const QUESTION: usize = 4;
/// Groups that the first page may have.
const MOST_SHOWN: usize = u8::MAX as usize;

/// What a group is, whatever its pods do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub String);

impl GroupId {
    fn short(&self) -> [u8; SHORT] {
        prefix(&self.0)
    }
}

/// A group's place behind the first page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The most serious reasons first.
    pub mildness: u8,
    pub group: GroupId,
}

/// The cursor was not made by us, was cut, or belongs to another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCursor {
    #[error("this is not a cursor from an earlier answer: pass `next_cursor` unchanged, or none")]
    Unreadable,
    #[error(
        "this cursor belongs to a question with other filters: repeat the filters of the answer \
         that gave it, or leave the cursor out"
    )]
    OtherQuestion,
}

#[derive(Clone, Debug)]
pub(super) struct Cursor {
    question: [u8; QUESTION],
    /// Groups of the first page.
    shown: Vec<[u8; SHORT]>,
    /// The last group of the last page, if that was not the first.
    after: Option<Place>,
}

impl Cursor {
    pub(super) fn decode(question: &str, cursor: Option<&str>) -> Result<Self, BadCursor> {
        let question = prefix(question);
        let Some(text) = cursor else {
            let (shown, after) = (Vec::new(), None);
            return Ok(Self {
                question,
                shown,
                after,
            });
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| BadCursor::Unreadable)?;
        let read = Self::read(&bytes).ok_or(BadCursor::Unreadable)?;
        if read.question == question {
            Ok(read)
        } else {
            Err(BadCursor::OtherQuestion)
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (question, rest) = rest.split_first_chunk::<QUESTION>()?;
        let (count, mut rest) = rest.split_first()?;
        let mut shown = Vec::new();
        for _ in 0..*count {
            let (one, behind) = rest.split_first_chunk::<SHORT>()?;
            shown.push(*one);
            rest = behind;
        }
        let after = match rest.split_first() {
            None => None,
            Some((mildness, name)) => Some(Place {
                mildness: *mildness,
                group: GroupId(std::str::from_utf8(name).ok()?.to_owned()),
            }),
        };
        (*version == VERSION && !shown.is_empty()).then_some(Self {
            question: *question,
            shown,
            after,
        })
    }

    /// Nothing has been shown yet.
    pub(super) fn is_start(&self) -> bool {
        self.shown.is_empty()
    }

    /// The group has not been shown.
    pub(super) fn leads_to(&self, place: &Place) -> bool {
        self.after.as_ref().is_none_or(|after| place > after)
            && !self.shown.contains(&place.group.short())
    }

    /// The cursor behind a page that this one led to.
    pub(super) fn behind(&self, page: impl Iterator<Item = Place>) -> Self {
        let mut next = self.clone();
        if self.is_start() {
            next.shown = page
                .take(MOST_SHOWN)
                .map(|place| place.group.short())
                .collect();
        } else {
            next.after = page.max().or(next.after);
        }
        next
    }

    /// Nothing for a start, which needs no cursor.
    pub(super) fn encode(&self) -> Option<String> {
        let count = u8::try_from(self.shown.len()).ok()?;
        let mut bytes = vec![VERSION];
        bytes.extend(self.question);
        bytes.push(count);
        bytes.extend(self.shown.iter().flatten());
        if let Some(after) = &self.after {
            bytes.push(after.mildness);
            bytes.extend(after.group.0.as_bytes());
        }
        (!self.is_start()).then(|| URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn prefix<const N: usize>(text: &str) -> [u8; N] {
    let digest: [u8; 32] = Sha256::digest(text).into();
    std::array::from_fn(|at| digest[at])
}
