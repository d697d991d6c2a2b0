//! Lines that belong together become one entry: a stack trace of Java, Python, Go, Node, Rust or
//! .NET, and whatever else is written as a head with indented lines below it.

use std::borrow::Cow;
use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Lines kept of the beginning and of the end of one entry; the root cause stands at either.
const HEAD_LINES: usize = 24;
const TAIL_LINES: usize = 16;
/// Bytes kept of each of the two.
const PART_BYTES: usize = 3 << 10;
/// A trace is written at once: what comes later than this is another entry.
const GAP: SignedDuration = SignedDuration::from_secs(2);

/// One clean line.
#[derive(Debug)]
pub(super) struct Line {
    pub at: Option<Timestamp>,
    pub text: String,
}

/// One message, mostly of one line.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub at: Option<Timestamp>,
    pub lines: u64,
    newest: Option<Timestamp>,
    head: Vec<String>,
    head_bytes: usize,
    tail: VecDeque<String>,
    tail_bytes: usize,
}

impl Entry {
    fn begin(line: Line) -> Self {
        let mut entry = Self {
            at: line.at,
            ..Self::default()
        };
        entry.add(line);
        entry
    }

    fn add(&mut self, line: Line) {
        self.lines += 1;
        self.newest = line.at.or(self.newest);
        let size = line.text.len();
        let room = self.head.len() < HEAD_LINES && self.head_bytes + size <= PART_BYTES;
        if self.head.is_empty() || (room && self.tail.is_empty()) {
            self.head_bytes += size;
            self.head.push(line.text);
            return;
        }
        self.tail_bytes += size;
        self.tail.push_back(line.text);
        while self.tail.len() > TAIL_LINES || (self.tail_bytes > PART_BYTES && self.tail.len() > 1)
        {
            let gone = self.tail.pop_front().unwrap_or_default();
            self.tail_bytes -= gone.len();
        }
    }

    /// The kept lines.
    pub fn text(&self) -> Cow<'_, str> {
        if let ([only], true) = (self.head.as_slice(), self.tail.is_empty()) {
            return Cow::Borrowed(only);
        }
        let mut text = self.head.join("\n");
        let kept = (self.head.len() + self.tail.len()) as u64;
        if self.lines > kept {
            text.push_str(&format!("\n⟪{} more lines⟫", self.lines - kept));
        }
        for line in &self.tail {
            text.push('\n');
            text.push_str(line);
        }
        Cow::Owned(text)
    }

    fn first_line(&self) -> &str {
        self.head.first().map_or("", String::as_str)
    }
}

/// What kind of trace the open entry is, where that decides which unindented lines belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trace {
    #[default]
    None,
    /// Java, Node, .NET and others: frames are indented.
    Frames,
    /// `Traceback`: ends with one unindented line, after which another may follow.
    Python {
        frames: bool,
        ended: bool,
    },
    Go,
    /// `file.js:10`, the source line, a caret, then the error.
    NodeSource,
    /// The message follows the line that says where.
    Rust {
        message: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: Option<Entry>,
    trace: Trace,
}

impl Assembler {
    /// Takes a line; hands out the entry that it ends.
    pub fn push(&mut self, line: Line) -> Option<Entry> {
        if let Some(open) = &mut self.open {
            let apart = match (open.newest, line.at) {
                (Some(newest), Some(at)) => at.duration_since(newest) > GAP,
                _ => false,
            };
            if !apart && continues(&mut self.trace, open, &line.text) {
                open.add(line);
                return None;
            }
        }
        let done = self.open.take();
        // An empty line that belongs to nothing says nothing.
        if !line.text.trim().is_empty() {
            self.trace = begins(&line.text);
            self.open = Some(Entry::begin(line));
        }
        done
    }

    pub fn finish(&mut self) -> Option<Entry> {
        self.open.take()
    }
}

/// The trace that an entry's first line announces.
fn begins(line: &str) -> Trace {
    if line.contains("Traceback (most recent call last):") {
        Trace::Python {
            frames: false,
            ended: false,
        }
    } else if line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || line.contains(" panic: ")
        || is_goroutine(line)
    {
        Trace::Go
    } else if line.contains("thread '") && line.contains("panicked at") {
        Trace::Rust {
            message: line.ends_with(':'),
        }
    } else if is_source_place(line) {
        Trace::NodeSource
    } else {
        Trace::None
    }
}

fn continues(trace: &mut Trace, open: &Entry, line: &str) -> bool {
    let blank = line.trim().is_empty();
    let indented = line.starts_with([' ', '\t']);
    match trace {
        Trace::Python { frames, ended } => {
            if blank || line.starts_with("During handling of") || line.starts_with("The above exc")
            {
                return true;
            }
            if line.starts_with("Traceback (most recent call last):") {
                (*frames, *ended) = (false, false);
                return true;
            }
            if indented && !*ended {
                *frames = true;
                return true;
            }
            if *frames && !*ended && !begins_anew(line) {
                *ended = true;
                return true;
            }
            return indented && !begins_anew(line);
        }
        Trace::Go => {
            return blank
                || indented
                || is_goroutine(line)
                || line.starts_with("[signal ")
                || line.starts_with("created by ")
                || line.starts_with("exit status ")
                || line.starts_with("panic: ")
                || line.starts_with("goroutine ")
                || is_go_call(line);
        }
        Trace::Rust { message } => {
            if std::mem::take(message) {
                return true;
            }
            return indented || line == "stack backtrace:" || line.starts_with("note: ");
        }
        Trace::NodeSource => {
            if blank || indented || line.starts_with("Node.js v") {
                return true;
            }
            if names_an_exception(line) || closes(line) {
                return true;
            }
        }
        Trace::None | Trace::Frames => {}
    }
    if line.contains("Traceback (most recent call last):") && tells_of_an_error(open) {
        *trace = Trace::Python {
            frames: false,
            ended: false,
        };
        return true;
    }
    if indented && !blank && !begins_anew(line) {
        *trace = Trace::Frames;
        return true;
    }
    if *trace == Trace::Frames {
        return line.starts_with("Caused by:")
            || line.starts_with("Suppressed:")
            || line.starts_with("--- End of ")
            || closes(line);
    }
    // A logger's line, then the exception without a prefix.
    open.lines == 1 && names_an_exception(line) && tells_of_an_error(open)
}

/// An indented line that is a message of its own all the same: loggers that pad.
fn begins_anew(line: &str) -> bool {
    let line = line.trim_start();
    let word: String = line
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .take(9)
        .collect();
    let level = matches!(
        word.as_str(),
        "TRACE" | "DEBUG" | "INFO" | "WARN" | "WARNING" | "ERROR" | "FATAL" | "CRITICAL"
    );
    let mut digits = line.bytes();
    let dated = digits.by_ref().take(4).filter(u8::is_ascii_digit).count() == 4
        && matches!(digits.next(), Some(b'-' | b'/'));
    level || dated || line.starts_with('{') && line.ends_with('}')
}

fn tells_of_an_error(entry: &Entry) -> bool {
    let line = entry.first_line().to_ascii_lowercase();
    [
        "error",
        "exception",
        "fatal",
        "critical",
        "fail",
        "panic",
        "severe",
        "warn",
    ]
    .iter()
    .any(|word| line.contains(word))
}

/// `java.lang.IllegalStateException: no`, `Error: boom`, `ValueError`.
fn names_an_exception(line: &str) -> bool {
    let line = line
        .strip_prefix("Exception in thread")
        .map_or(line, |_| "java.lang.Exception");
    let name: String = line
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '$'))
        .collect();
    let after = line[name.len()..].chars().next();
    let kind = name.rsplit('.').next().unwrap_or_default();
    matches!(after, None | Some(':' | ' '))
        && ["Exception", "Error", "Throwable"]
            .iter()
            .any(|end| kind.ends_with(end))
}

fn is_goroutine(line: &str) -> bool {
    line.starts_with("goroutine ") && line.ends_with("]:")
}

/// `main.(*Server).Handle(0xc0000a4000, ...)`.
fn is_go_call(line: &str) -> bool {
    line.ends_with(')')
        && line.contains('(')
        && line.split('(').next().is_some_and(|name| {
            name.contains('.') && !name.contains(' ') && !name.starts_with(char::is_numeric)
        })
}

/// `/app/index.js:10`.
fn is_source_place(line: &str) -> bool {
    line.rsplit_once(':').is_some_and(|(path, number)| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !path.contains(' ')
            && [".js", ".mjs", ".cjs", ".ts"]
                .iter()
                .any(|end| path.ends_with(end))
    })
}

/// The end of something that was printed over several lines.
fn closes(line: &str) -> bool {
    !line.is_empty()
        && line
            .chars()
            .all(|c| matches!(c, '}' | ']' | ')' | ',' | ';'))
}
