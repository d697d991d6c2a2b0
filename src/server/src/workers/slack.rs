//! The text of a Slack-compatible incoming webhook: a sentence and a link, never a button. The
//! receivers of such webhooks differ in what they take for markup, so foreign text loses every
//! character that any of them could read as a mention, a link or a format.

/// Longest foreign piece, in characters.
const CAP: usize = 300;

/// Foreign text in which nothing is markup: `&`, `<` and `>` escaped as Slack asks, the rest of the
/// mark-up characters replaced by their full-width look-alikes, addresses broken.
pub fn plain(text: &str) -> String {
    let text = countersign_domain::one_line(text, CAP).replace("://", ": //");
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // The full-width forms stand at a fixed distance from ASCII.
            '@' | '*' | '_' | '~' | '`' | '[' | ']' | '|' | '#' | '!' => {
                out.push(char::from_u32(u32::from(c) + 0xFEE0).unwrap_or(' '));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_is_markup_or_a_mention() {
        let hostile =
            "<!channel> @here *now* [ok](https://evil.example) <https://evil.example|x> &";
        let text = plain(hostile);
        for c in ['<', '>', '@', '*', '[', ']', '|', '!', '`'] {
            assert!(!text.contains(c), "{c} in {text}");
        }
        assert!(!text.contains("://"), "{text}");
        assert!(text.starts_with("&lt;！channel&gt; ＠here"), "{text}");
    }

    #[test]
    fn long_text_is_cut() {
        assert!(plain(&"x".repeat(9000)).chars().count() < CAP + 40);
    }
}
