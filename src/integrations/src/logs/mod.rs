//! From the bytes of a container's log to a small excerpt that a model can read.
//!
//! Bytes come in chunks of any size and are never held as a whole: chunks become lines, lines are
//! stripped of terminal escapes and of secrets, lines that belong together (stack traces) become
//! one entry, a pattern selects entries with their context, repeats are folded into one row with
//! a count, and a window keeps the newest rows that fit. What is dropped on the way is counted.
//!
//! Pure: no clock, no network. Secrets go before the pattern looks, so that nobody can ask for
//! them letter by letter.

mod entries;
mod escapes;
mod excerpt;
mod lines;
mod selection;
mod shape;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::masking::LineMasker;
use crate::untrusted;
use entries::{Assembler, Entry, Line};
use lines::Lines;
use selection::Selection;

pub use excerpt::Excerpt;
use excerpt::Window;
pub use selection::{BadPattern, Pattern};

/// Longest line that is shown, in characters.
const LONGEST_LINE: usize = 1500;

/// What of a log is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Only entries that match.
    pub grep: Option<Pattern>,
    /// Entries before and after each match.
    pub context: usize,
    /// Only entries that are older than this: the way to what an earlier answer left out.
    pub before: Option<Timestamp>,
    /// Most bytes of text in the excerpt.
    pub most_bytes: usize,
}

/// Takes the bytes of one log, with the kubelet's timestamp in front of each line.
#[derive(Debug)]
pub struct Pipeline {
    lines: Lines,
    stages: Stages,
}

#[derive(Debug)]
struct Stages {
    before: Option<Timestamp>,
    /// A line without a timestamp of its own is as old as the one before.
    at: Option<Timestamp>,
    masker: LineMasker,
    assembler: Assembler,
    selection: Selection,
    window: Window,
    lines_read: u64,
}

impl Pipeline {
    #[must_use]
    pub fn new(wanted: &Wanted) -> Self {
        Self {
            lines: Lines::default(),
            stages: Stages {
                before: wanted.before,
                at: None,
                masker: LineMasker::default(),
                assembler: Assembler::default(),
                selection: Selection::new(wanted.grep.clone(), wanted.context),
                window: Window::new(wanted.most_bytes),
                lines_read: 0,
            },
        }
    }

    /// The next bytes, cut anywhere.
    pub fn feed(&mut self, chunk: &[u8]) {
        let stages = &mut self.stages;
        self.lines.feed(chunk, |line, dropped, continued| {
            stages.line(line, dropped, continued);
        });
    }

    /// Lines seen so far.
    #[must_use]
    pub fn lines_read(&self) -> u64 {
        self.stages.lines_read
    }

    /// The log has ended.
    #[must_use]
    pub fn finish(mut self) -> Excerpt {
        let stages = &mut self.stages;
        self.lines
            .end(|line, dropped, continued| stages.line(line, dropped, continued));
        if let Some(entry) = stages.assembler.finish() {
            stages.entry(entry);
        }
        if let Some(block) = stages.selection.finish() {
            stages.window.push(&block);
        }
        let matched = stages.selection.matched();
        self.stages.window.finish(self.stages.lines_read, matched)
    }
}

impl Stages {
    /// `dropped`: bytes of this line that were too many to hold.
    fn line(&mut self, bytes: &[u8], dropped: usize, continued: bool) {
        self.lines_read += 1;
        let text = String::from_utf8_lossy(bytes);
        let (at, text) = match continued {
            true => (None, text.as_ref()),
            false => split_timestamp(&text),
        };
        self.at = at.or(self.at);
        let plain = escapes::strip(text);
        let masked = self.masker.line(&plain);
        let mut text = untrusted::line(&masked, LONGEST_LINE);
        if dropped > 0 {
            text.push_str(&format!(" … ({dropped} more bytes)"));
        }
        if let (Some(before), Some(at)) = (self.before, self.at)
            && at >= before
        {
            return;
        }
        let line = Line { at: self.at, text };
        if let Some(entry) = self.assembler.push(line) {
            self.entry(entry);
        }
    }

    fn entry(&mut self, entry: Entry) {
        if let Some(block) = self.selection.push(entry) {
            self.window.push(&block);
        }
    }
}

/// The timestamp that the kubelet writes in front of each line when asked to.
fn split_timestamp(line: &str) -> (Option<Timestamp>, &str) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    // RFC 3339 with up to nine digits of a second: no word of a log is parsed in vain.
    if !(20..=35).contains(&first.len()) || first.as_bytes().get(10) != Some(&b'T') {
        return (None, line);
    }
    match first.parse() {
        Ok(at) => (Some(at), rest),
        Err(_) => (None, line),
    }
}
