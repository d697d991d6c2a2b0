//! Jira's webhook: is it from our Jira, and which issue should be looked at.
//!
//! Nothing else is taken from the payload. Recorded bodies show why: event names are wrong or
//! missing, change lists are empty, users lack ids, and deliveries are lost, doubled, reordered.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;

use super::reader::issue_ref;
use crate::untrusted;

/// The header that carries the signature, in lower case.
pub const SIGNATURE_HEADER: &str = "x-hub-signature";

/// Answer 401: Jira does not repeat the delivery then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the webhook has no X-Hub-Signature header: give it a secret in Jira")]
    Missing,
    #[error("the X-Hub-Signature header is not `sha256=` and 64 hexadecimal digits")]
    Malformed,
    #[error("the webhook's signature does not fit its body and our secret")]
    Wrong,
}

/// An issue to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    pub issue_id: Option<String>,
    pub issue_key: Option<String>,
    /// For logs only.
    pub event: Option<String>,
}

/// The value of `X-Hub-Signature`, in its proper form. Whether it fits is another question: this
/// one can be asked before the body is read.
pub struct Signature([u8; 32]);

impl Signature {
    /// # Errors
    /// [`SignatureError::Missing`] or [`SignatureError::Malformed`].
    pub fn parse(header: Option<&str>) -> Result<Self, SignatureError> {
        let header = header.ok_or(SignatureError::Missing)?;
        let digits = header
            .trim()
            .strip_prefix("sha256=")
            .ok_or(SignatureError::Malformed)?;
        let mut signature = [0; 32];
        hex::decode_to_slice(digits, &mut signature).map_err(|_| SignatureError::Malformed)?;
        Ok(Self(signature))
    }

    /// Checks it over the raw body, in constant time.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`]: the delivery must not be believed.
    pub fn verify(&self, secret: &SecretString, body: &[u8]) -> Result<(), SignatureError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
            .map_err(|_| SignatureError::Wrong)?;
        mac.update(body);
        mac.verify_slice(&self.0).map_err(|_| SignatureError::Wrong)
    }
}

/// Finds the issue in a payload, wherever this kind of event keeps it; nothing if it names none
/// (then the sweep will see to it) or is not JSON.
#[must_use]
pub fn hint(body: &[u8]) -> Option<Hint> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let issue = &body["issue"];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let valid = |text: String| issue_ref(&text).is_ok().then_some(text);
    let numeric = |text: &String| text.bytes().all(|b| b.is_ascii_digit());
    let issue_id = text(&issue["id"])
        // Server's comment events carry no issue, only the comment's address.
        .or_else(|| text(&body["comment"]["self"]).and_then(|address| id_in(&address)))
        .and_then(valid)
        .filter(numeric);
    let issue_key = text(&issue["key"])
        .and_then(valid)
        .filter(|key| !numeric(key));
    if issue_id.is_none() && issue_key.is_none() {
        return None;
    }
    // A workflow's post function sends no event name, but its transition.
    let event = text(&body["webhookEvent"]).map(|event| untrusted::line(&event, 80));
    Some(Hint {
        issue_id,
        issue_key,
        event,
    })
}

/// `.../issue/10042/comment/7` -> `10042`.
fn id_in(address: &str) -> Option<String> {
    let mut parts = address.split('/').skip_while(|part| *part != "issue");
    parts.nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_vector_verifies_and_nothing_near_it() {
        let secret = SecretString::from("It's a Secret to Everybody");
        let good = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
        let verify = |body: &[u8], header| {
            Signature::parse(header).and_then(|signature| signature.verify(&secret, body))
        };
        assert_eq!(verify(b"Hello World!", Some(good)), Ok(()));
        assert_eq!(
            verify(b"Hello World", Some(good)),
            Err(SignatureError::Wrong)
        );
        assert_eq!(verify(b"Hello World!", None), Err(SignatureError::Missing));
        for bad in [
            "",
            "sha256=",
            "sha1=a477",
            &good[..40],
            &format!("{good}00"),
        ] {
            assert_eq!(
                verify(b"Hello World!", Some(bad)),
                Err(SignatureError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_issue_is_found_in_every_recorded_shape() {
        let find = |body: &str| hint(body.as_bytes());
        let both = Hint {
            issue_id: Some("10042".into()),
            issue_key: Some("OPS-1".into()),
            event: Some("jira:issue_updated".into()),
        };
        assert_eq!(
            find(
                r#"{"webhookEvent":"jira:issue_updated","issue_event_type_name":"issue_generic",
                "issue":{"id":"10042","key":"OPS-1"},"changelog":{"items":[]}}"#
            ),
            Some(both)
        );
        let post_function = find(r#"{"transition":{"to_status":"x"},"issue":{"id":10042}}"#);
        assert_eq!(post_function.unwrap().issue_id.as_deref(), Some("10042"));
        let server_comment = find(
            r#"{"webhookEvent":"comment_created",
            "comment":{"self":"http://j/rest/api/2/issue/10042/comment/7"}}"#,
        );
        assert_eq!(server_comment.unwrap().issue_id.as_deref(), Some("10042"));
        for nothing in [
            "",
            "[]",
            "{}",
            "7",
            r#"{"issue":{"id":"../x","key":"a b"}}"#,
        ] {
            assert_eq!(find(nothing), None, "{nothing}");
        }
    }
}
