//! The shape of a message: what stays the same when only numbers, times and ids differ.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// After these words a number is the message itself: a 500 must not hide among 200s.
const TELLING: [&str; 14] = [
    "code",
    "errno",
    "error",
    "exit",
    "exitcode",
    "http",
    "level",
    "port",
    "severity",
    "signal",
    "sqlstate",
    "state",
    "status",
    "statuscode",
];

/// Two texts of one shape differ in numbers, times and ids only.
pub(super) fn shape(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let bytes = text.as_bytes();
    let mut word: &[u8] = b"";
    let mut at = 0;
    while at < bytes.len() {
        if is_uuid(&bytes[at..]) {
            b'#'.hash(&mut hasher);
            at += 36;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
            at += 1;
        }
        if start == at {
            bytes[at].hash(&mut hasher);
            at += 1;
            continue;
        }
        let piece = &bytes[start..at];
        let digits = piece
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let all_digits = digits == piece.len();
        if all_digits && (is_telling(word) || is_http_status(&bytes[..start], piece)) {
            piece.hash(&mut hasher);
        } else if !piece.iter().any(u8::is_ascii_digit) {
            piece.hash(&mut hasher);
            word = piece;
        } else {
            b'#'.hash(&mut hasher);
            // `12ms` and `3s` differ in their unit; `7d9f6c` is one id.
            let unit = &piece[digits..];
            if digits > 0
                && !unit.is_empty()
                && unit.iter().all(u8::is_ascii_alphabetic)
                && unit.len() <= 3
            {
                unit.hash(&mut hasher);
            }
            // The fraction belongs to the number.
            if all_digits && bytes.get(at) == Some(&b'.') {
                let fraction = &bytes[at + 1..];
                let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
                if digits > 0 {
                    at += 1 + digits;
                }
            }
        }
    }
    hasher.finish()
}

fn is_telling(word: &[u8]) -> bool {
    TELLING
        .iter()
        .any(|telling| word.eq_ignore_ascii_case(telling.as_bytes()))
}

/// As in an access log: `"GET / HTTP/1.1" 500 17`.
fn is_http_status(before: &[u8], piece: &[u8]) -> bool {
    piece.len() == 3 && matches!(piece[0], b'1'..=b'5') && before.ends_with(b"\" ")
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() >= 36
        && bytes[..36].iter().enumerate().all(|(index, byte)| {
            if matches!(index, 8 | 13 | 18 | 23) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_times_and_ids_may_differ() {
        for (one, two) in [
            ("12:00:01 tick 1", "12:00:02 tick 29"),
            ("2026-11-22T16:30:01.123Z ping", "2026-11-22T16:31:59Z ping"),
            ("took 12ms", "took 1.5ms"),
            (
                "id 01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10",
                "id deadbeef-dead-beef-dead-beefdeadbeef",
            ),
            ("pod web-7d9f6c5b4-x2x1l", "pod web-6b8c9d7f5-k4j2m"),
            ("from 10.0.0.1:5123", "from 10.0.12.7:80"),
        ] {
            assert_eq!(shape(one), shape(two), "{one} / {two}");
        }
        for (one, two) in [
            ("status=200", "status=500"),
            ("exit code 0", "exit code 137"),
            ("\"GET / HTTP/1.1\" 200 5", "\"GET / HTTP/1.1\" 503 5"),
            ("took 12ms", "took 12s"),
            ("connected", "refused"),
        ] {
            assert_ne!(shape(one), shape(two), "{one} / {two}");
        }
    }
}
