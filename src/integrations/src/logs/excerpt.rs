//! Repeats become one row with a count, and the newest rows that fit are kept.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::{SignedDuration, Timestamp};

use super::selection::Block;
use super::shape::shape;

/// A row may repeat after so many others and is still folded: two messages in turn are two rows.
const REACH: usize = 8;

/// The part of a log that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// Rows, oldest first, each on one or more lines. Only this module writes `⟪…⟫`: how often a
    /// row occurred, what was cut.
    pub text: String,
    pub rows: u64,
    /// Messages that the rows stand for.
    pub entries: u64,
    /// Lines of the log that were looked at.
    pub lines_read: u64,
    /// Messages that matched, where a pattern was given.
    pub matched: Option<u64>,
    /// Older messages that were wanted and did not fit.
    pub left_out: u64,
    /// With this as [`super::Wanted::before`] they are what is read next.
    pub left_out_before: Option<Timestamp>,
    /// Of the rows that are shown.
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
}

#[derive(Debug)]
struct Row {
    shape: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    count: u64,
    entries: u64,
    /// The newest one without the times that we put in front.
    own: u64,
    /// Not all were the same word for word.
    varied: bool,
    /// The newest one.
    text: String,
    /// A match with others around it.
    context: bool,
}

#[derive(Debug)]
pub(super) struct Window {
    rows: VecDeque<Row>,
    bytes: usize,
    most_bytes: usize,
    left_out: u64,
    left_out_newest: Option<Timestamp>,
}

/// What a row's marks and line break cost at most.
const ROW_MARKS: usize = 64;

impl Window {
    pub fn new(most_bytes: usize) -> Self {
        Self {
            rows: VecDeque::new(),
            bytes: 0,
            most_bytes,
            left_out: 0,
            left_out_newest: None,
        }
    }

    pub fn push(&mut self, block: &Block) {
        let Some(first) = block.first() else {
            return;
        };
        let mut text = String::new();
        let mut own = DefaultHasher::new();
        for entry in block {
            if !text.is_empty() {
                text.push('\n');
            }
            let shown = entry.text();
            if let Some(at) = entry.at.filter(|_| !tells_time(&shown)) {
                let _ = write!(text, "{} ", at.strftime("%H:%M:%S"));
            }
            shown.hash(&mut own);
            text.push_str(&shown);
        }
        let most = self.most_bytes.saturating_sub(2 * ROW_MARKS).max(1);
        if text.len() > most {
            let over = text.len() - most;
            text.truncate(text.floor_char_boundary(most));
            let _ = write!(text, "⟪{over} more bytes⟫");
        }
        let entries = block.len() as u64;
        let row = Row {
            shape: shape(&text),
            first: first.at,
            last: block.last().and_then(|entry| entry.at),
            count: 1,
            entries,
            own: own.finish(),
            varied: false,
            text,
            context: block.len() > 1,
        };
        self.take_in(row);
        while self.bytes > self.most_bytes && self.rows.len() > 1 {
            if let Some(gone) = self.rows.pop_front() {
                self.bytes -= gone.text.len() + ROW_MARKS;
                self.left_out += gone.entries;
                self.left_out_newest = self.left_out_newest.max(gone.last);
            }
        }
    }

    fn take_in(&mut self, mut row: Row) {
        let from = self.rows.len().saturating_sub(REACH);
        let same = (from..self.rows.len())
            .rev()
            .find(|index| self.rows[*index].shape == row.shape);
        if let Some(old) = same.and_then(|index| self.rows.remove(index)) {
            self.bytes -= old.text.len() + ROW_MARKS;
            row.first = old.first;
            row.count += old.count;
            row.entries += old.entries;
            row.varied = old.varied || old.own != row.own;
        }
        self.bytes += row.text.len() + ROW_MARKS;
        self.rows.push_back(row);
    }

    pub fn finish(self, lines_read: u64, matched: Option<u64>) -> Excerpt {
        let mut excerpt = Excerpt {
            lines_read,
            matched,
            left_out: self.left_out,
            // A folded row reaches back behind rows that are left out: its time is no cursor.
            left_out_before: self
                .left_out_newest
                .and_then(|at| at.checked_add(SignedDuration::from_nanos(1)).ok()),
            oldest: self.rows.iter().filter_map(|row| row.first).min(),
            newest: self.rows.iter().filter_map(|row| row.last).max(),
            ..Excerpt::default()
        };
        let with_context = self.rows.iter().any(|row| row.context);
        for row in self.rows {
            excerpt.rows += 1;
            excerpt.entries += row.entries;
            if !excerpt.text.is_empty() {
                excerpt.text.push('\n');
                if with_context {
                    excerpt.text.push_str("⟪⟫\n");
                }
            }
            if row.count > 1 {
                let _ = write!(excerpt.text, "⟪{}x", row.count);
                if let (Some(first), Some(last)) = (row.first, row.last) {
                    let (first, last) = (first.strftime("%H:%M:%S"), last.strftime("%H:%M:%S"));
                    let _ = write!(excerpt.text, " {first} to {last}");
                }
                if row.varied {
                    excerpt.text.push_str(", numbers differ");
                }
                excerpt.text.push_str("⟫ ");
            }
            excerpt.text.push_str(&row.text);
        }
        excerpt
    }
}

/// The line says itself when it was written: `HH:MM:SS` near its start.
fn tells_time(line: &str) -> bool {
    line.as_bytes().windows(8).take(48).any(|window| {
        let digits = [0, 1, 3, 4, 6, 7]
            .iter()
            .all(|index| window[*index].is_ascii_digit());
        digits && window[2] == b':' && window[5] == b':'
    })
}
