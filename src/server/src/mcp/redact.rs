//! Takes secrets out of text before it is written anywhere. An assistant pastes what it has read:
//! a log line with a token, a connection string, a key. None of it may reach the audit log, the
//! ticket or the page.
//!
//! Recognition is by shape and by the word in front. It errs on the side of taking out too much:
//! a lost word in an audit row costs little, a kept key costs everything.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use rmcp::model::JsonObject;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What stands where a secret stood.
pub const MARK: &str = "[redacted]";
/// Longest single value that is kept word for word, in characters.
const LONGEST_VALUE: usize = 256;
/// Longest text of all inputs of one call, in characters.
const LONGEST_INPUTS: usize = 2048;

/// Words that announce a secret when they are (part of) a name.
const NAMES: &str = "pass(?:word|wd|phrase|code)?|pwd|secrets?|tokens?|api[_. -]?keys?|apikey|\
                     access[_. -]?keys?|private[_. -]?keys?|account[_. -]?key|signing[_. -]?keys?|\
                     encryption[_. -]?keys?|key[_-]data|credentials?|authorization|cookie|\
                     session[_-]?id|connection[_. -]?string|sas|dsn|webhook[_-]?url|otp|pin";

struct Rule {
    shape: Regex,
    /// `$1` is what may stay.
    keep: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let named = format!(
        r#"(?i)((?:\b|[_.-])(?:[a-z0-9_.-]*[_.-])?(?:{NAMES})(?:[_.-][a-z0-9_.-]*)?\\?["']?\s*(?:=>|:=|[=:]|\bis\b)\s*)(?:\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s,;&"'}}\]]+)"#
    );
    let flagged = format!(
        r#"(?i)(--?(?:[a-z0-9]+-)*(?:{NAMES})(?:-[a-z0-9]+)*[ =]+)(?:"[^"]*"|'[^']*'|\S+)"#
    );
    let rules: &[(&str, &'static str)] = &[
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*-----|\z)",
            "",
        ),
        (
            r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,3}",
            "",
        ),
        (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@", "$1"),
        (r"(?i)(\b(?:set-)?cookie\s*:\s*)[^\r\n]+", "$1"),
        (
            r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{16}\b",
            "",
        ),
        (r"\bAIza[0-9A-Za-z_-]{30,}", ""),
        (r"\bya29\.[0-9A-Za-z_-]{16,}", ""),
        (r"\bGOCSPX-[0-9A-Za-z_-]{16,}", ""),
        (r"\bgh[opusr]_[A-Za-z0-9]{16,}", ""),
        (r"\bgithub_pat_[A-Za-z0-9_]{16,}", ""),
        (r"\bgl(?:pat|dt|rt|cbt|ptt|soat|ft)-[A-Za-z0-9_.-]{16,}", ""),
        (r"\bx(?:ox[abceoprs]|app)-[A-Za-z0-9-]{8,}", ""),
        (r"(?i)(https://hooks\.slack\.com/)[^\s]+", "$1"),
        (
            r"(?i)(https://[a-z0-9.-]*webhook\.office\.com/)[^\s]+",
            "$1",
        ),
        (r"\bAT(?:ATT|CTT|BB|STT)[A-Za-z0-9_=-]{16,}", ""),
        (r"\bsk-[A-Za-z0-9_-]{16,}", ""),
        (r"\b[prs]k_(?:live|test)_[A-Za-z0-9]{8,}", ""),
        (
            r"\b(?:whsec|npm|hf|cs|dop_v1|shpat|pypi|lin_api|glsa|hvs|sq0atp)[_.-][A-Za-z0-9+/=_-]{16,}",
            "",
        ),
        (r"\bSG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", ""),
        (r"(?i)((?:^|\s)(?:-u|--user)[ =]?)[^\s:]+:\S+", "$1"),
        (&flagged, "$1"),
        (&named, "$1"),
    ];
    rules
        .iter()
        .filter_map(|(shape, keep)| {
            Some(Rule {
                shape: Regex::new(shape).ok()?,
                keep,
            })
        })
        .collect()
});

/// A scheme of the Authorization header and what follows it.
static SCHEME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(bearer|basic|negotiate|token|apikey|digest)(\s+)([A-Za-z0-9._~+/=-]{6,})")
        .ok()
});

/// A long run without spaces, with both cases and digits: random, hence a key.
static RUN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9_+/=~-]{24,}").ok());

static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"(?i)(?:^|[_.\s-])(?:{NAMES})(?:$|[_.\s-])")).ok());

/// The text without its secrets.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = text.to_owned();
    if let Some(scheme) = SCHEME.as_ref() {
        out = scheme
            .replace_all(&out, |found: &Captures<'_>| {
                // "basic authentication" is prose, "Basic dXNlcjpwdw==" is not.
                let value = &found[3];
                let prose = value.chars().all(|c| c.is_ascii_lowercase());
                if prose {
                    found[0].to_owned()
                } else {
                    format!("{}{}{MARK}", &found[1], &found[2])
                }
            })
            .into_owned();
    }
    for rule in RULES.iter() {
        if rule.shape.is_match(&out) {
            out = rule
                .shape
                .replace_all(&out, format!("{}{MARK}", rule.keep))
                .into_owned();
        }
    }
    if let Some(run) = RUN.as_ref() {
        out = run
            .replace_all(&out, |found: &Captures<'_>| {
                let value = &found[0];
                let has = |test: fn(&char) -> bool| value.chars().any(|c| test(&c));
                let random = has(char::is_ascii_digit)
                    && has(char::is_ascii_lowercase)
                    && has(char::is_ascii_uppercase);
                if random {
                    MARK.to_owned()
                } else {
                    value.to_owned()
                }
            })
            .into_owned();
    }
    out
}

/// A tool call's arguments as one JSON text for the audit log: secrets out, long values cut with
/// the hash of the whole, the total bounded.
#[must_use]
pub fn inputs(arguments: &JsonObject) -> String {
    let kept: JsonObject = arguments
        .iter()
        .map(|(name, value)| (short(&text(name), 64), member(name, value)))
        .collect();
    let json = Value::Object(kept).to_string();
    if json.chars().count() <= LONGEST_INPUTS {
        return json;
    }
    // Still JSON for whoever reads the log with a program.
    serde_json::json!({ "cut": short(&json, LONGEST_INPUTS) }).to_string()
}

fn member(name: &str, value: &Value) -> Value {
    if NAME.as_ref().is_some_and(|shape| shape.is_match(name)) && !value.is_null() {
        return Value::from(MARK);
    }
    match value {
        Value::String(word) => Value::from(short(&text(word), LONGEST_VALUE)),
        Value::Array(items) => items.iter().take(20).map(|item| member("", item)).collect(),
        Value::Object(members) => {
            let members = members.iter().take(20);
            Value::Object(
                members
                    .map(|(k, v)| (short(&text(k), 64), member(k, v)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// Cut to `most` characters; what was cut is bound by a hash of the (redacted) whole.
fn short(value: &str, most: usize) -> String {
    let count = value.chars().count();
    if count <= most {
        return countersign_domain::visible(value, most);
    }
    let hash = hex::encode(Sha256::digest(value.as_bytes()));
    let start: String = value.chars().take(most).collect();
    format!(
        "{}… ({} more characters, sha256 {})",
        countersign_domain::visible(&start, most),
        count - most,
        &hash[..16]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (what surrounds and holds the secret, the secret itself)
    fn corpus() -> Vec<(String, String)> {
        // Put together at run time, so that no scanner takes this file for a leak.
        let s = |parts: &[&str]| parts.concat();
        let mixed = "Zk3Rq9Lw7Tn2Xv5Bp8Hd4Jm6Cs1Gf0Qa";
        let secrets: Vec<(String, String)> = vec![
            ("Authorization: Bearer {}".into(), s(&["abc123.", mixed])),
            (
                "authorization: bearer {}, next".into(),
                "short1token".into(),
            ),
            ("header \"Basic {}\"".into(), "YWRtaW46aHVudGVyMg==".into()),
            (
                "Proxy-Authorization: Basic {}".into(),
                "dXNlcjpwYXNz".into(),
            ),
            (
                "postgres://app:{}@db.example.com/app".into(),
                "hunter2".into(),
            ),
            ("redis://:{}@cache:6379".into(), "r3disPass".into()),
            (
                "git clone https://{}@github.example.com/x.git".into(),
                "oauth2tokenvalue".into(),
            ),
            ("amqp://guest:{}@mq:5672/%2f".into(), "gu%40est!9".into()),
            ("key {} leaked".into(), s(&["AKIA", "IOSFODNN7EXAMPLE"])),
            ("temporary {}".into(), s(&["ASIA", "Q3EGRIOSFODNN7EX"])),
            (
                "aws_secret_access_key = {}".into(),
                s(&["wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"]),
            ),
            (
                "plain {} in text".into(),
                s(&["wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"]),
            ),
            (
                "maps key {}".into(),
                s(&["AIza", "SyA1234567890abcdefghijklmnopqrstuv"]),
            ),
            (
                "gcloud {}".into(),
                s(&["ya29.", "a0AfH6SMBx_example_token_value"]),
            ),
            (
                "oauth {}".into(),
                s(&["GOCSPX-", "1mVwFTjGIXgs2BC2uHzksQi0HAK"]),
            ),
            (
                "jwt {} expired".into(),
                s(&[
                    "eyJhbGciOiJIUzI1NiJ9",
                    ".eyJzdWIiOiIxMjM0In0",
                    ".dozjgNryP4J3jVmN",
                ]),
            ),
            (
                "{}".into(),
                s(&[
                    "-----BEGIN RSA PRIVATE ",
                    "KEY-----\nMIIEow\nAB+c\n-----END RSA PRIVATE KEY-----",
                ]),
            ),
            (
                "{}".into(),
                s(&[
                    "-----BEGIN OPENSSH PRIVATE ",
                    "KEY-----\nb3BlbnNz cut off here",
                ]),
            ),
            ("password={}".into(), "hunter2".into()),
            ("DB_PASSWORD: {}".into(), "correct-horse".into()),
            ("{\"password\":\"{}\"}".into(), "with spaces in it".into()),
            (
                "{\\\"client_secret\\\":\\\"{}\\\"}".into(),
                "esc4ped".into(),
            ),
            ("the password is {}".into(), "swordfish".into()),
            ("api_key: {}".into(), "0123456789abcdef".into()),
            ("x-api-key: {}".into(), "f00dfeed".into()),
            ("?token={}&a=b".into(), "deadbeef01".into()),
            ("mysqldump --password {}".into(), "topsecret".into()),
            ("curl -u admin:{}".into(), "s3cr3t".into()),
            ("--api-key={}".into(), "abcdefg1".into()),
            (
                "push with {}".into(),
                s(&["ghp_", "16C7e42F292c6912E7710c838347Ae178B4a"]),
            ),
            (
                "push with {}".into(),
                s(&["github_pat_", "11ABCDEFG0123456789_abcdefghijklmnop"]),
            ),
            ("ci {}".into(), s(&["glpat-", "abcdefghij0123456789"])),
            ("bot {}".into(), s(&["xoxb-", "123456789012-abcdefghijkl"])),
            (
                "post to https://hooks.slack.com/{}".into(),
                s(&["services/", "T000/B000/XXXXXXXX"]),
            ),
            (
                "jira {}".into(),
                s(&["ATATT3", "xFfGF0123456789abcdefghijklmnop"]),
            ),
            ("llm {}".into(), s(&["sk-", "ant-api03-abcdefghijklmnop"])),
            (
                "pay {}".into(),
                s(&["sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"]),
            ),
            (
                "hook {}".into(),
                s(&["whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]),
            ),
            (
                "mail {}".into(),
                s(&["SG.", "ngeVfQFYQlKU0uf", ".sLaGvu92TzPCErHQ"]),
            ),
            (
                "Set-Cookie: sid={}; Path=/".into(),
                "31d4d96e407aad42".into(),
            ),
            ("client-key-data: {}".into(), "LS0tLS1CRUdJTg==".into()),
            (
                "AccountKey={};EndpointSuffix=x".into(),
                "ZmFrZWtleQ==".into(),
            ),
            ("ours {}".into(), s(&["cs_", "9cJ2nQ8xVb4LmT7yRk3W"])),
            ("blob {}".into(), mixed.to_owned()),
        ];
        secrets
            .into_iter()
            .map(|(around, secret)| (around.replacen("{}", &secret, 1), secret))
            .collect()
    }

    #[test]
    fn no_planted_secret_survives() {
        let corpus = corpus();
        assert!(corpus.len() >= 30);
        for (written, secret) in corpus {
            let kept = text(&written);
            assert!(!kept.contains(&secret), "`{secret}` stands in `{kept}`");
            assert!(kept.contains(MARK), "{kept}");
            let arguments = JsonObject::from_iter([("reason".to_owned(), Value::from(written))]);
            let row = inputs(&arguments);
            let escaped = Value::from(secret.clone()).to_string();
            assert!(
                !row.contains(&secret) && !row.contains(escaped.trim_matches('"')),
                "{row}"
            );
        }
    }

    #[test]
    fn ordinary_inputs_stay_as_they_are() {
        for plain in [
            "checkout-7d9f6c5b4-x2x1l",
            "Memory at 97% for 22 minutes, restartCount 1 to 3; see INC-991.",
            "CrashLoopBackOff: back-off 5m0s restarting failed container",
            "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10",
            "3f9a0c4b8d103f9a0c4b8d103f9a0c4b8d103f9a0c4b8d103f9a0c4b8d10aaaa",
            "uses basic authentication",
            "https://grafana.example.com/d/abc?from=now-1h",
        ] {
            assert_eq!(text(plain), plain);
        }
    }

    #[test]
    fn a_value_under_a_telling_name_is_taken_whatever_it_is() {
        let arguments = serde_json::json!({"db_password": "x", "pod": "web-1", "n": {"token": 7}});
        let row = inputs(arguments.as_object().unwrap());
        assert_eq!(
            row,
            r#"{"db_password":"[redacted]","pod":"web-1","n":{"token":"[redacted]"}}"#
        );
    }

    #[test]
    fn long_values_are_cut_and_hashed() {
        let arguments = serde_json::json!({"reason": "a ".repeat(1000)});
        let row = inputs(arguments.as_object().unwrap());
        assert!(
            row.len() < 400 && row.contains("1744 more characters, sha256 "),
            "{row}"
        );
        let many: JsonObject = (0..100)
            .map(|n| (format!("k{n}"), Value::from("b ".repeat(100))))
            .collect();
        assert!(inputs(&many).chars().count() < 2300);
    }
}
