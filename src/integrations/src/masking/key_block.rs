//! Private keys span lines, and a log brings them line by line.

use std::borrow::Cow;

use super::{MARK, mask};

/// Lines without key material after which a key without an end is taken to have ended.
const STRIKES: u8 = 3;

/// Masks a stream of lines, each without its line break.
#[derive(Debug, Default)]
pub struct LineMasker {
    /// Inside a private key: how many more ordinary lines are borne before it counts as over.
    patience: u8,
}

impl LineMasker {
    /// The line without its secrets.
    pub fn line<'a>(&mut self, line: &'a str) -> Cow<'a, str> {
        if self.patience > 0 {
            if let Some(end) = line.find("-----END ") {
                self.patience = 0;
                let rest = &line[end + "-----END ".len()..];
                let rest = rest.find("-----").map_or("", |dashes| &rest[dashes + 5..]);
                return Cow::Owned(format!("{MARK}{}", mask(rest)));
            }
            if is_key_material(line) || self.patience > STRIKES {
                self.patience = self.patience.min(STRIKES);
                return Cow::Borrowed(MARK);
            }
            self.patience -= 1;
        }
        if let Some(begin) = line.find("-----BEGIN ") {
            let rest = &line[begin..];
            if rest.contains("PRIVATE KEY") && !rest.contains("-----END ") {
                // The first line after this one is key material, whatever it looks like.
                self.patience = STRIKES + 1;
            }
        }
        let masked = mask(line);
        if masked.trim() == MARK && line.len() >= 40 && is_base64(line.trim()) {
            // The middle of a key whose beginning was before the first line that we see.
            self.patience = self.patience.max(1);
        }
        masked
    }
}

/// A line of a PEM block, also behind a logger's prefix or inside JSON.
fn is_key_material(line: &str) -> bool {
    let line = line.trim();
    let header = ["Proc-Type:", "DEK-Info:", "Version:", "Comment:"]
        .iter()
        .any(|header| line.contains(header));
    let mut pieces = line.split(|c: char| !is_base64_char(c));
    header || is_base64(line) || pieces.any(|piece| piece.len() >= 32)
}

/// An empty line, too.
fn is_base64(line: &str) -> bool {
    line.chars().all(is_base64_char)
}

fn is_base64_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}
