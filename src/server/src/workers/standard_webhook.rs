//! Standard Webhooks: the signature that lets a receiver know who sent a message, and drop one that
//! came twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Value of the header `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over
/// `id.timestamp.body`. `timestamp` is in seconds since 1970.
pub fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation: Python's `hmac` module.
    #[test]
    fn agrees_with_another_implementation() {
        let key: Vec<u8> = (0u8..32).collect();
        assert_eq!(
            signature(&key, "msg_1", 1_700_000_000, br#"{"type":"action.asked"}"#),
            "v1,cqkMv7KfWaU18T40xiC7u1VtpJdRL+s2LML6+B2exrA="
        );
    }
}
