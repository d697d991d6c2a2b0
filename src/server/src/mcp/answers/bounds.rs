//! The one place where every answer gets its bound. Tools keep their answers small by themselves;
//! what comes through here too large is cut, says so, and says how to ask for the rest.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Answer, Complaint};

/// Of the text and of the structured form, each.
pub const MOST_BYTES: usize = 24 << 10;
/// As [`estimated_tokens`] counts them.
pub const MOST_TOKENS: usize = 8_000;
/// Of an error's sentence.
const LONGEST_COMPLAINT: usize = 4_000;
/// For the words that say that something was cut.
const ROOM: usize = 400;
/// A shorter text is not cut.
const SHORTEST_CUT: usize = 64;
/// Mostly one is enough; what is not small after so many has no one large part.
const MOST_ROUNDS: u32 = 64;

/// The answer within the bounds. `how`: what to change to see the rest.
#[must_use]
pub fn bounded(mut answer: Answer, how: &str) -> Answer {
    if !fits(&answer.text, 0) {
        answer.text = cut_text(&answer.text, how);
    }
    if is_short(&answer.structured) {
        return answer;
    }
    let mut cut = false;
    for round in 0.. {
        let whole = Size::of(&answer.structured);
        if whole.fits_in(Size::MOST) {
            break;
        }
        cut = true;
        if round == MOST_ROUNDS || !shorten_largest(&mut answer.structured, whole) {
            answer.structured = json!({});
        }
    }
    if cut && let Value::Object(members) = &mut answer.structured {
        // It would continue after what is missing now.
        members.remove("next_cursor");
        members.insert("truncated".to_owned(), true.into());
        members.insert("how_to_get_the_rest".to_owned(), how.into());
    }
    answer
}

/// The sentence of an error within its bound.
#[must_use]
pub fn bounded_complaint(mut complaint: Complaint) -> Complaint {
    if complaint.message.len() > LONGEST_COMPLAINT {
        let end = complaint.message.floor_char_boundary(LONGEST_COMPLAINT);
        complaint.message.truncate(end);
        complaint.message.push('…');
    }
    complaint
}

fn fits(text: &str, room: usize) -> bool {
    // No byte makes more than one token: what is short needs no count.
    text.len() + room <= MOST_TOKENS
        || text.len() + room <= MOST_BYTES && estimated_tokens(text) + room / 4 <= MOST_TOKENS
}

/// Whether an answer has so few bytes that nothing else has to be counted: nearly all have.
fn is_short(value: &Value) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Room(MOST_TOKENS - ROOM), value).is_ok()
}

/// Whole lines from the beginning, and a last one about what is missing.
fn cut_text(text: &str, how: &str) -> String {
    let mut kept = String::new();
    let mut tokens = 0;
    for line in text.split_inclusive('\n') {
        tokens += estimated_tokens(line);
        if kept.len() + line.len() + ROOM > MOST_BYTES || tokens + ROOM / 4 > MOST_TOKENS {
            break;
        }
        kept.push_str(line);
    }
    if kept.is_empty() {
        kept = text[..text.floor_char_boundary(MOST_TOKENS)].to_owned();
    }
    let missing = text.len() - kept.len();
    // What is quoted ends before our own words begin.
    if kept.rfind('⟦') > kept.rfind('⟧') {
        kept.push_str("\n⟧");
    }
    kept.push_str(&format!("\nTRUNCATED: {missing} more bytes. {how}"));
    kept
}

/// What a piece of JSON costs.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    bytes: usize,
    tokens: usize,
}

impl Size {
    /// Of a structured answer, with room for the words that say that something was cut.
    const MOST: Self = Self {
        bytes: MOST_BYTES - ROOM,
        tokens: MOST_TOKENS - ROOM / 4,
    };
    /// Between two elements.
    const COMMA: Self = Self {
        bytes: 1,
        tokens: 1,
    };

    fn of(value: &Value) -> Self {
        let text = value.to_string();
        Self {
            bytes: text.len(),
            tokens: estimated_tokens(&text),
        }
    }

    fn fits_in(self, room: Self) -> bool {
        self.bytes <= room.bytes && self.tokens <= room.tokens
    }

    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            tokens: self.tokens + other.tokens,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }
}

/// Takes as much from the largest list as has to go, or from the longest text where no list has two
/// elements; at most half of it, as another may be the largest then. `whole`: of all of `value`.
fn shorten_largest(value: &mut Value, whole: Size) -> bool {
    let (mut lists, mut texts) = (Size::default(), Size::default());
    largest(value, &mut lists, &mut texts);
    if lists == Size::default() && texts.bytes < SHORTEST_CUT {
        return false;
    }
    shorten(value, whole, lists, texts)
}

/// The largest list with two elements or more, and the longest text.
fn largest(value: &Value, lists: &mut Size, texts: &mut Size) {
    match value {
        Value::Array(items) => {
            if items.len() > 1 {
                *lists = (*lists).max(Size::of(value));
            }
            items.iter().for_each(|item| largest(item, lists, texts));
        }
        Value::Object(members) => members
            .values()
            .for_each(|member| largest(member, lists, texts)),
        Value::String(_) => *texts = (*texts).max(Size::of(value)),
        _ => {}
    }
}

/// Shortens the one list of the size of `lists`, or the one text of the size of `texts`.
fn shorten(value: &mut Value, whole: Size, lists: Size, texts: Size) -> bool {
    let is_meant = match &*value {
        Value::Array(items) => items.len() > 1 && Size::of(value) == lists,
        Value::String(text) => {
            lists == Size::default() && text.len() >= SHORTEST_CUT && Size::of(value) == texts
        }
        _ => false,
    };
    match value {
        Value::Array(items) if is_meant => {
            let room = Size::MOST.minus(whole.minus(lists));
            let mut kept = Size::default();
            let fitting = items
                .iter()
                .take_while(|item| {
                    kept = kept.plus(Size::of(item)).plus(Size::COMMA);
                    kept.fits_in(room)
                })
                .count();
            items.truncate(fitting.clamp(items.len() / 2, items.len() - 1));
            true
        }
        Value::String(text) if is_meant => {
            let room = Size::MOST.minus(whole.minus(texts));
            let share = |room: usize, size: usize| text.len() * room.min(size) / size.max(1);
            let fitting = share(room.bytes, texts.bytes).min(share(room.tokens, texts.tokens));
            let most = fitting.clamp(text.len() / 2, text.len() - 8);
            text.truncate(text.floor_char_boundary(most));
            text.push('…');
            true
        }
        Value::Array(items) => items
            .iter_mut()
            .any(|item| shorten(item, whole, lists, texts)),
        Value::Object(members) => members
            .values_mut()
            .any(|member| shorten(member, whole, lists, texts)),
        _ => false,
    }
}

/// How many tokens a model will count, from above: a pass over the bytes, no table. Words of up to
/// five letters, numbers of up to three digits and pairs of signs count one each; a byte beyond
/// ASCII counts one, in a longer run less. A test holds it against a real tokenizer.
#[must_use]
pub fn estimated_tokens(text: &str) -> usize {
    #[derive(Clone, Copy, PartialEq)]
    enum Class {
        Letters,
        Digits,
        Signs,
        Space,
        Other,
    }
    let class = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letters,
        b'0'..=b'9' => Class::Digits,
        b' ' | b'\n' | b'\t' | b'\r' => Class::Space,
        0x80.. => Class::Other,
        _ => Class::Signs,
    };
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let (mut total, mut at) = (0, 0);
    while at < bytes.len() {
        let (start, kind) = (at, class(bytes[at]));
        at += 1;
        while at < bytes.len()
            && class(bytes[at]) == kind
            // A new word begins inside: `podName`.
            && !(bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase())
        {
            at += 1;
        }
        let run = at - start;
        total += match kind {
            // Next to digits they are no word but a piece of an id.
            Class::Letters if digit(start.checked_sub(1)) || digit(Some(at)) => run.div_ceil(2),
            Class::Letters => run.div_ceil(5),
            Class::Digits => run.div_ceil(3),
            Class::Signs => run.div_ceil(2),
            // One space belongs to the word after it.
            Class::Space => usize::from(run > 1 || bytes[start] != b' '),
            // A rare sign costs a token a byte, a word of another script less.
            Class::Other => run.min(6) + (2 * run.saturating_sub(6)).div_ceil(3),
        };
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, structured: Value) -> Answer {
        Answer {
            text: text.to_owned(),
            structured,
            action: None,
            outcome: "ok",
        }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let structured = json!({"a": ["b"], "next_cursor": "c"});
        let same = bounded(answer("text", structured.clone()), "ask less");
        assert_eq!((same.text.as_str(), same.structured), ("text", structured));
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let line = "⟦quoted text of some length⟧\n";
        let rows: Vec<Value> = (0..2000)
            .map(|n| json!({"name": format!("pod-{n}")}))
            .collect();
        let structured = json!({"rows": rows, "next_cursor": "x", "total": 2000});
        let cut = bounded(
            answer(&line.repeat(5000), structured),
            "ask for one namespace",
        );
        assert!(fits(&cut.text, 0) && fits(&cut.structured.to_string(), 0));
        assert!(
            cut.text.contains("⟧\n\nTRUNCATED: "),
            "{}",
            &cut.text[cut.text.len() - 200..]
        );
        assert!(cut.text.ends_with("ask for one namespace"));
        assert_eq!(cut.structured["truncated"], true);
        assert_eq!(cut.structured["total"], 2000);
        assert!(cut.structured["next_cursor"].is_null());
        let kept = cut.structured["rows"].as_array().unwrap();
        assert!(
            kept.len() > 850 && kept[0]["name"] == "pod-0",
            "{}",
            kept.len()
        );
    }

    #[test]
    fn of_several_parts_the_largest_pays_first_and_little_room_is_left_unused() {
        let rows = |count: usize| -> Vec<Value> {
            (0..count)
                .map(|n| json!({"name": format!("pod-{n}"), "why": "it is not ready"}))
                .collect()
        };
        for (small, large, text) in [
            (10, 3000, 0),
            (1500, 1600, 0),
            (1, 0, 90_000),
            (400, 400, 9_000),
        ] {
            let structured = json!({
                "small": rows(small), "large": rows(large), "text": "word ".repeat(text / 5),
            });
            let cut = bounded(answer("", structured), "ask less").structured;
            let size = Size::of(&cut);
            assert!(fits(&cut.to_string(), 0), "{small} {large} {text}");
            assert!(
                size.bytes * 10 > MOST_BYTES * 8 || size.tokens * 10 > MOST_TOKENS * 8,
                "{small} {large} {text}: {} bytes, {} tokens",
                size.bytes,
                size.tokens
            );
            let left = cut["small"].as_array().unwrap().len();
            assert!(
                left == small || left > 100,
                "{small} {large} {text}: {left}"
            );
        }
    }

    #[test]
    fn a_quotation_that_is_cut_is_closed() {
        let cut = bounded(
            answer(
                &format!("log:\n⟦\n{}⟧ end", "words\n".repeat(9000)),
                json!({}),
            ),
            "x",
        );
        let (open, close) = (cut.text.find('⟦').unwrap(), cut.text.find('⟧').unwrap());
        assert!(open < close && close < cut.text.find("TRUNCATED").unwrap());
        let one = bounded(
            answer(&"ä".repeat(90_000), json!({"s": "ä".repeat(90_000)})),
            "x",
        );
        assert!(fits(&one.text, 0) && fits(&one.structured.to_string(), 0));
    }

    #[test]
    fn many_short_texts_of_control_characters_are_no_panic() {
        let members: serde_json::Map<String, Value> = (0..5_000)
            .map(|n| (format!("k{n}"), "\u{1}".repeat(11).into()))
            .collect();
        let cut = bounded(answer("x", members.into()), "ask less");
        assert_eq!(cut.structured["truncated"], true);
    }
}
