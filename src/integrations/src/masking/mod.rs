//! Takes secrets out of text before it is shown, stored or searched: one engine for the logs that
//! the AI reads, for what it writes to us, and for the audit log.
//!
//! Recognition is by shape and by the word in front. Where the two goals conflict, taking out too
//! much wins: a lost word costs little, a kept key costs everything. What is long and random but
//! harmless (UUIDs, git hashes, image digests, trace ids) has a shape of its own and stays.

#[cfg(test)]
pub(crate) mod corpus;
mod key_block;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

pub use key_block::LineMasker;
use rules::{ANNOUNCERS, RULES};

/// What stands where a secret stood.
pub const MARK: &str = "[redacted]";

/// A value without spaces, long enough to be a key.
static RUN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9_+/~-]{24,}={0,2}").ok());

/// The text without its secrets. It may have several lines; for a stream of lines, in which a
/// private key may span many, use [`LineMasker`].
#[must_use]
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    // One pass finds which of the rules have anything to do.
    for index in RULES.set.matches(text) {
        let Some(rule) = RULES.all.get(index) else {
            continue;
        };
        let Some(shape) = rule.shape() else {
            // Cannot happen, since the set has the same texts; then nothing may be shown.
            return MARK.into();
        };
        if let Cow::Owned(masked) = shape.replace_all(&out, |found: &Captures<'_>| {
            let kept = found.get(1).map_or("", |part| part.as_str());
            let value = found.get(2).map_or("", |part| part.as_str());
            let after = found.get(3).map_or("", |part| part.as_str());
            if rule.spares.is_some_and(|spares| spares(kept, value)) {
                found[0].to_owned()
            } else {
                format!("{kept}{MARK}{after}")
            }
        }) {
            out = Cow::Owned(masked);
        }
    }
    if let Some(run) = RUN.as_ref()
        && run.is_match(&out)
    {
        let masked = run
            .replace_all(&out, |found: &Captures<'_>| {
                let start = found.get(0).map_or(0, |run| run.start());
                // Also where the name is the beginning of the run itself: `sha256-47DE...`.
                let name = found[0].find('-').unwrap_or_default();
                if is_random(&found[0]) && !ends_with_digest_name(&out[..start + name]) {
                    MARK.to_owned()
                } else {
                    found[0].to_owned()
                }
            })
            .into_owned();
        out = Cow::Owned(masked);
    }
    out
}

/// The name of a field or argument says that its value is secret.
#[must_use]
pub fn announces_secret(name: &str) -> bool {
    ANNOUNCERS
        .as_ref()
        .is_some_and(|announcers| announcers.is_match(name))
}

/// Both cases, digits, and neither words nor hexadecimal: nobody writes that by hand.
fn is_random(run: &str) -> bool {
    let count = |test: fn(&u8) -> bool| run.bytes().filter(test).count();
    let mixed = count(u8::is_ascii_digit) >= 1
        && count(u8::is_ascii_lowercase) >= 1
        && count(u8::is_ascii_uppercase) >= 1;
    mixed && 20 * (in_words(run) + in_hexadecimal(run)) < 9 * run.len()
}

/// Characters that belong to words of at least four letters, such as `User` and `controller`.
fn in_words(run: &str) -> usize {
    let bytes = run.as_bytes();
    let (mut total, mut at) = (0, 0);
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_uppercase() {
            at += 1;
        }
        while at < bytes.len() && bytes[at].is_ascii_lowercase() {
            at += 1;
        }
        if at - start >= 4 {
            total += at - start;
        }
        at = at.max(start + 1);
    }
    total
}

/// Characters in pieces of at least 16 hexadecimal digits of one case, as ids and hashes have.
fn in_hexadecimal(run: &str) -> usize {
    run.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|piece| piece.len() >= 16)
        .filter(|piece| {
            let lower = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            let upper = |c: char| matches!(c, '0'..='9' | 'A'..='F');
            piece.chars().all(lower) || piece.chars().all(upper)
        })
        .map(str::len)
        .sum()
}

/// `sha256-` and `SHA256:` announce a digest, also in base64.
fn ends_with_digest_name(before: &str) -> bool {
    let before = before.trim_end_matches([':', '-', '=', ' ']);
    ["sha1", "sha256", "sha384", "sha512", "md5"]
        .iter()
        .any(|name| {
            before.len() >= name.len()
                && before
                    .get(before.len() - name.len()..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(name))
        })
}
