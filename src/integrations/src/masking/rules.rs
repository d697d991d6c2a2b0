//! The table of shapes.

use std::sync::{LazyLock, OnceLock};

use regex::{Regex, RegexSet};

/// Names that announce a secret wherever they end a name: `dbPassword`, `x-auth-token`.
const LONG_NAMES: &str = "pass(?:word|wd|phrase|code)|secrets?|tokens?|apikeys?|accesskeys?|\
                          privatekeys?|secretkeys?|secretaccesskey|accountkey|signingkeys?|\
                          encryptionkeys?|credentials?";

/// Names that announce a secret only as words of their own.
const NAMES: &str = "pass(?:word|wd|phrase|code)?|pwd|secrets?|tokens?|api[_. -]?keys?|\
                     access[_. -]?keys?|private[_. -]?keys?|secret[_. -]?keys?|\
                     (?:shared[_. -]?)?(?:account|access)[_. -]?key|signing[_. -]?keys?|\
                     encryption[_. -]?keys?|key[_-]data|credentials?|authorization|cookie|\
                     session[_-]?id|connection[_. -]?string|sas|dsn|webhook[_-]?url|otp|pin";

/// Second part of a name that makes its value harmless: `token_type`, `secret_name`.
const HARMLESS_ENDS: [&str; 24] = [
    "age",
    "budget",
    "count",
    "expires",
    "expires_at",
    "expires_in",
    "expiry",
    "file",
    "filename",
    "len",
    "length",
    "limit",
    "name",
    "namespace",
    "path",
    "policy",
    "size",
    "status",
    "total",
    "ttl",
    "type",
    "usage",
    "used",
    "version",
];

/// What a log says about a secret without telling it: "token is expired", "password: null".
const STATES: &str = " a accepted an and are bad being cannot correct denied empty error expired \
                      expiring failed false for found has in incorrect invalid is issued loaded \
                      malformed mismatch missing must needed nil no none not null ok or present \
                      provided refreshed rejected required revoked rotated set still the to too \
                      true undefined unauthorized unknown unset unused updated used valid wrong ";

/// Decides from what is kept and what would be taken out that this is no secret after all.
type Spares = fn(&str, &str) -> bool;

pub(super) struct Rule {
    text: String,
    shape: OnceLock<Option<Regex>>,
    pub spares: Option<Spares>,
}

impl Rule {
    /// Groups 1 and 3 are what may stay before and after, group 2 is what `spares` looks at. Made
    /// when it is first needed: most rules never are, and together they take milliseconds and
    /// megabytes.
    pub fn shape(&self) -> Option<&Regex> {
        self.shape
            .get_or_init(|| Regex::new(&self.text).ok())
            .as_ref()
    }
}

pub(super) struct Rules {
    pub all: Vec<Rule>,
    pub set: RegexSet,
}

pub(super) static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let named = format!(
        r#"(?i)((?:\b|[_.-])(?:(?:[a-z0-9_.-]*[_.-])?(?:{NAMES})|[a-z0-9]*(?:{LONG_NAMES}))(?:[_.-][a-z0-9_.-]*)?\\?["']?\s*(?:=>|:=|[=:]|\bis\b)\s*)(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s,;&"'}}\]]+)"#
    );
    let flagged =
        format!(r#"(?i)(--?(?:[a-z0-9]+-)*(?:{NAMES})(?:-[a-z0-9]+)*[ =]+)("[^"]*"|'[^']*'|\S+)"#);
    let all: Vec<(&str, Option<Spares>)> = vec![
        // A header with its scheme, before the rule for names would take the scheme alone.
        (
            r#"(?i)((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)[a-z][a-z0-9-]*\s+[^\s"',;]+"#,
            None,
        ),
        (
            r"(?i)\b((?:bearer|basic|negotiate|token|apikey|digest)\s+)([A-Za-z0-9._~+/=-]{6,})",
            Some(is_prose),
        ),
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*-----|\z)",
            None,
        ),
        (
            r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,3}",
            None,
        ),
        // To the last `@` before the path: a password may hold one.
        (r#"(?i)\b([a-z][a-z0-9+.-]*://)([^\s/"'<>]+)(@)"#, None),
        (r"(?i)(\b(?:set-)?cookie\s*:\s*)[^\r\n]+", None),
        // Amazon, Google, Microsoft.
        (
            r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{16}\b",
            None,
        ),
        (r"\bAIza[0-9A-Za-z_-]{30,}", None),
        (r"\bya29\.[0-9A-Za-z_-]{16,}", None),
        (r"\bGOCSPX-[0-9A-Za-z_-]{16,}", None),
        (r"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", None),
        (
            r"(?i)([?&;](?:sig|x-(?:amz|goog)-(?:signature|credential|security-token))=)[^&\s]+",
            None,
        ),
        // Code hosts and registries.
        (r"\bgh[opusr]_[A-Za-z0-9]{16,}", None),
        (r"\bgithub_pat_[A-Za-z0-9_]{16,}", None),
        (
            r"\bgl(?:pat|dt|rt|cbt|ptt|soat|ft|agent)-[A-Za-z0-9_.-]{16,}",
            None,
        ),
        (r"\bdckr_pat_[A-Za-z0-9_-]{16,}", None),
        (r"\bAT(?:ATT|CTT|BB|STT)[A-Za-z0-9_=-]{16,}", None),
        // Chat and mail.
        (r"\bx(?:ox[abceoprs]|app)-[A-Za-z0-9-]{8,}", None),
        (r"(?i)(https://hooks\.slack\.com/)[^\s]+", None),
        (
            r"(?i)(https://[a-z0-9.-]*webhook\.office\.com/)[^\s]+",
            None,
        ),
        (
            r"(?i)(https://discord(?:app)?\.com/api/webhooks/)[^\s]+",
            None,
        ),
        (r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}", None),
        (r"\bSG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", None),
        (r"\bSK[0-9a-f]{32}\b", None),
        (r"\bkey-[0-9a-f]{32}\b", None),
        // Payment, models, platforms.
        (r"\b(?:sk|gsk|xai|pplx|nvapi)-[A-Za-z0-9_-]{16,}", None),
        (r"\b[prs]k_(?:live|test)_[A-Za-z0-9]{8,}", None),
        (r"\bdapi[0-9a-f]{32}\b", None),
        (r"\bAGE-SECRET-KEY-1[A-Z0-9]{16,}", None),
        (
            r"\b(?:whsec|npm|hf|gsk|r8|cs|do[orp]_v1|shp(?:at|ss|ca|pa)|pypi|lin_api|glsa|hv[sbr]|sq0[a-z]{3}|sntry[su]|PMAK|figd|rubygems|tfp|HRKU|NRAK|dp\.pt)[_.-][A-Za-z0-9+/=_-]{16,}",
            None,
        ),
        // Password hashes can be guessed at.
        (r"\$(?:2[abxy]|5|6|y|argon2(?:id|i|d))\$[^\s]{16,}", None),
        (r"(?i)((?:^|\s)(?:-u|--user)[ =]?)[^\s:]+:\S+", None),
        (&flagged, Some(is_state)),
        (&named, Some(is_state)),
    ];
    let set = RegexSet::new(all.iter().map(|(shape, _)| shape)).unwrap_or_default();
    let all = all
        .iter()
        .map(|(shape, spares)| Rule {
            text: (*shape).to_owned(),
            shape: OnceLock::new(),
            spares: *spares,
        })
        .collect();
    Rules { all, set }
});

/// Names of fields and arguments.
pub(super) static ANNOUNCERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let shape = format!(r"(?i)(?:(?:^|[_.\s-])(?:{NAMES})|(?:{LONG_NAMES}))(?:$|[_.\s-])");
    Regex::new(&shape).ok()
});

/// "basic authentication" and "Token expired" are prose, "Basic dXNlcjpwdw==" is not.
fn is_prose(_: &str, value: &str) -> bool {
    let mut letters = value.chars();
    letters.next();
    let word = letters.all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_' | '-' | '='));
    word || value.to_ascii_lowercase().starts_with("sha")
}

fn is_state(name: &str, value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'', '\\']);
    if bare.is_empty() || bare.starts_with('[') && bare.contains("redacted") {
        return true;
    }
    let word = bare
        .trim_end_matches(['.', ':', '!', ')'])
        .to_ascii_lowercase();
    if !word.contains(' ') && STATES.contains(&format!(" {word} ")) {
        return true;
    }
    let name: String = name
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        .collect::<String>()
        .to_ascii_lowercase();
    // Numbers of tokens, as programs that call models log them.
    if name.ends_with("tokens") && bare.len() <= 9 && bare.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    HARMLESS_ENDS.iter().any(|end| {
        name.strip_suffix(end)
            .is_some_and(|start| start.ends_with(['_', '.', '-']))
    })
}
