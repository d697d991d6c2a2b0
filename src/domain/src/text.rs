//! Hostile text made safe to show on one line. Escaping for HTML is the template's job; this one
//! makes invisible characters visible and caps the length.

/// Makes control, bidirectional and zero-width characters visible and cuts the text to `max`
/// characters, saying how many are left out. Line breaks and tabs stay.
pub fn visible(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max * 4));
    let mut chars = text.chars();
    for c in chars.by_ref().take(max) {
        if c == '\n' || c == '\t' || !hidden(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\u{27e8}U+{:04X}\u{27e9}", c as u32));
        }
    }
    let left = chars.count();
    if left > 0 {
        out.push_str(&format!("… ({left} more characters)"));
    }
    out
}

/// [`visible`], with line breaks and tabs turned into spaces.
pub fn one_line(text: &str, max: usize) -> String {
    visible(text, max).replace(['\n', '\t'], " ")
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_visible_and_length_is_capped() {
        assert_eq!(
            visible("a\u{202e}b\u{200b}\u{1b}[0m", 80),
            "a⟨U+202E⟩b⟨U+200B⟩⟨U+001B⟩[0m"
        );
        assert_eq!(visible("abcdef", 3), "abc… (3 more characters)");
        assert_eq!(one_line("a\r\nb", 10), "a⟨U+000D⟩ b");
    }
}
