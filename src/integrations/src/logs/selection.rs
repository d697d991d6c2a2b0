//! Which entries are shown: all, or those that match a pattern, with some around each.

use std::collections::VecDeque;

use regex::{Regex, RegexBuilder};

use super::entries::Entry;

/// Longest pattern, in characters.
const LONGEST_PATTERN: usize = 200;
/// Most memory that a compiled pattern may take.
const LARGEST_PATTERN: usize = 256 << 10;
/// Entries in one block of matches that follow each other closely.
const LONGEST_BLOCK: usize = 40;

/// A checked regular expression. Matching takes time linear in the text.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Why a pattern cannot be used, with what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("the pattern is too long: at most {LONGEST_PATTERN} characters")]
    TooLong,
    #[error("the pattern would become too large: use smaller counts in {{…}} or fewer of them")]
    TooLarge,
    #[error(
        "the pattern is not a regular expression: {problem}; look-around and back-references are \
         not supported; write \\ before ( [ {{ . * + ? to find them as they are"
    )]
    Syntax { problem: String },
}

impl Pattern {
    /// Case matters; `(?i)` in front makes it not matter.
    ///
    /// # Errors
    /// Too long, too large, or no regular expression.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        if pattern.chars().count() > LONGEST_PATTERN {
            return Err(BadPattern::TooLong);
        }
        RegexBuilder::new(pattern)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(4 * LARGEST_PATTERN)
            .nest_limit(40)
            .multi_line(true)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => BadPattern::TooLarge,
                other => {
                    // The last line says what; the ones before it draw a picture.
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    let problem = last.trim_start_matches("error: ");
                    BadPattern::Syntax {
                        problem: crate::untrusted::line(problem, 160),
                    }
                }
            })
    }
}

/// Entries that are shown together.
pub(super) type Block = Vec<Entry>;

#[derive(Debug)]
pub(super) struct Selection {
    pattern: Option<Pattern>,
    context: usize,
    /// The last entries that did not match.
    before: VecDeque<Entry>,
    /// How many more entries follow the last match.
    after: usize,
    open: Block,
    matched: u64,
}

impl Selection {
    pub fn new(pattern: Option<Pattern>, context: usize) -> Self {
        Self {
            pattern,
            context,
            before: VecDeque::new(),
            after: 0,
            open: Block::new(),
            matched: 0,
        }
    }

    /// Entries that matched, where there was a pattern.
    pub fn matched(&self) -> Option<u64> {
        self.pattern.as_ref().map(|_| self.matched)
    }

    /// Takes an entry; hands out a block that is complete.
    pub fn push(&mut self, entry: Entry) -> Option<Block> {
        let Some(Pattern(pattern)) = &self.pattern else {
            return Some(vec![entry]);
        };
        if pattern.is_match(&entry.text()) {
            self.matched += 1;
            self.after = self.context;
            self.open.extend(self.before.drain(..));
            self.open.push(entry);
            if self.context == 0 || self.open.len() >= LONGEST_BLOCK {
                return self.finish();
            }
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            self.open.push(entry);
            return None;
        }
        if self.context == 0 {
            return None;
        }
        // The block stays open until something lies between it and what could follow.
        let complete = if self.before.len() == self.context {
            self.before.pop_front();
            self.finish()
        } else {
            None
        };
        self.before.push_back(entry);
        complete
    }

    pub fn finish(&mut self) -> Option<Block> {
        (!self.open.is_empty()).then(|| std::mem::take(&mut self.open))
    }
}
