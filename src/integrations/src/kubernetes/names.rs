//! Names that may stand in a request path. The API server enforces the same shapes; checking
//! them first keeps `../` and `?` out of a path and gives the caller a sentence.

use super::KubeError;
use crate::untrusted;

/// A DNS-1123 label: namespaces, containers.
pub(super) fn label<'a>(what: &str, name: &'a str) -> Result<&'a str, KubeError> {
    check(what, name, 63, false)
}

/// A DNS-1123 subdomain: pods and most other objects.
pub(super) fn subdomain<'a>(what: &str, name: &'a str) -> Result<&'a str, KubeError> {
    check(what, name, 253, true)
}

fn check<'a>(what: &str, name: &'a str, longest: usize, dots: bool) -> Result<&'a str, KubeError> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allowed = |c: char| edge(c) || c == '-' || (dots && c == '.');
    let part = |part: &str| part.starts_with(edge) && part.ends_with(edge);
    if name.len() <= longest && name.chars().all(allowed) && name.split('.').all(part) {
        return Ok(name);
    }
    let shown = untrusted::line(name, 80);
    let problem = if name.is_empty() {
        format!("the {what} is empty: give its name")
    } else {
        format!(
            "`{shown}` is not the name of a {what}: use at most {longest} lower-case letters, \
             digits{} and `-`, with a letter or digit at both ends",
            if dots { ", `.`" } else { "" }
        )
    };
    Err(KubeError::Invalid { problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_names_pass() {
        assert!(subdomain("pod", "web-7d9f.x").is_ok());
        assert!(label("namespace", "shop").is_ok());
        for bad in [
            "", "../x", "a/b", "A", "-a", "a-", "a..b", "a?b", "a b", "ä",
        ] {
            assert!(subdomain("pod", bad).is_err(), "{bad}");
        }
        assert!(label("namespace", "a.b").is_err());
        assert!(label("namespace", &"a".repeat(64)).is_err());
    }
}
