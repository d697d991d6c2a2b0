//! Takes terminal escapes out. They colour for people; for a model they are noise, and they can
//! split a secret or hide and reorder text.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// Without CSI and OSC sequences, other escapes, C1 controls and bidirectional controls. Works on
/// one line, so that an unfinished sequence ends with it.
pub(super) fn strip(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_removed) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    // Once a string has no end, no later one has: each would be looked for to the end of the line.
    let mut endless = false;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    skip_control_sequence(&mut chars);
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    chars.next();
                    endless = endless || !skip_string(&mut chars);
                }
                // Character sets and the like: intermediates, then one final.
                Some(' '..='/') => {
                    while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
                    chars.next_if(|c| matches!(c, '0'..='~'));
                }
                Some('0'..='~') => {
                    chars.next();
                }
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                endless = endless || !skip_string(&mut chars);
            }
            removed if is_removed(removed) => {}
            kept => out.push(kept),
        }
    }
    Cow::Owned(out)
}

fn is_removed(c: char) -> bool {
    matches!(c,
        '\u{1b}' | '\u{80}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Parameters and intermediates, then one final character.
fn skip_control_sequence(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// Up to BEL or ST. One that has no end loses its introducer only: a terminal would swallow the
/// rest of the line, and nobody shall hide a line that way. `false`: it has no end.
fn skip_string(chars: &mut Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    while let Some(c) = ahead.next() {
        let ended = match c {
            '\u{7}' | '\u{9c}' => true,
            '\u{1b}' => ahead.next_if_eq(&'\\').is_some(),
            _ => false,
        };
        if ended {
            *chars = ahead;
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_and_text_stays() {
        for (line, want) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[38;2;1;2;3mx\u{1b}[K", "x"),
            ("\u{1b}]0;title\u{7}shown", "shown"),
            ("\u{1b}]8;;https://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never ends", "0;never ends"),
            ("\u{9b}31mred\u{9d}0;t\u{9c}!", "red!"),
            ("\u{1b}(Ba\u{1b}=b\u{1b}7c", "abc"),
            ("lone\u{1b}", "lone"),
            ("\u{1b}\u{1b}[1mtwice", "twice"),
            ("a\u{202e}b\u{2066}c\u{200f}", "abc"),
            ("\u{85}next", "next"),
            ("plain [31m größer", "plain [31m größer"),
            ("pass\u{1b}[0mword=x", "password=x"),
        ] {
            assert_eq!(strip(line), want, "{line:?}");
        }
    }
}
