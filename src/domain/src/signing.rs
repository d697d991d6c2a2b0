//! Signatures over canonical bytes. One mechanism carries all signed objects: statements,
//! decisions, execution records and the executor's audit events.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::canonical::{CanonicalError, Digest, canonical_json};
use crate::ids::Entropy;

/// An object that can be signed: strings only, with a prefix of its own.
pub trait SignedObject: Serialize + DeserializeOwned {
    /// For example `countersign-statement/v1`. Part of the digest and of the signed bytes.
    const PREFIX: &'static str;
}

/// A signed object as stored and sent: canonical text, key id, signature. Says nothing about truth
/// until [`Sealed::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// RFC 8785 text of the object.
    pub json: String,
    /// Which key signed it.
    pub kid: String,
    /// Ed25519 over prefix || 0x00 || json; base64url without padding.
    pub signature: String,
}

impl Sealed {
    /// The digest that people are shown. Needs the kind, not the key.
    pub fn digest<T: SignedObject>(&self) -> Digest {
        Digest::of(T::PREFIX, self.json.as_bytes())
    }

    /// Verifies the signature with a key that was valid at `at`, and that the text is exactly the
    /// canonical form of what it parses to (duplicate keys and re-spellings fail here).
    pub fn open<T: SignedObject>(
        &self,
        keys: &KeyRing,
        at: Timestamp,
    ) -> Result<Signed<T>, VerifyError> {
        let key = keys.find(&self.kid, at)?;
        let signature = decode::<64>(&self.signature).ok_or(VerifyError::Malformed)?;
        key.verify_strict(
            &message::<T>(&self.json),
            &Signature::from_bytes(&signature),
        )
        .map_err(|_| VerifyError::WrongSignature {
            kid: self.kid.clone(),
        })?;
        let body: T = serde_json::from_str(&self.json).map_err(|_| VerifyError::Malformed)?;
        match canonical_json(&body) {
            Ok(text) if text == self.json => Ok(Signed {
                body,
                sealed: self.clone(),
            }),
            _ => Err(VerifyError::NotCanonical),
        }
    }
}

/// An object whose signature was made here or verified here. There is no other way to get one.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    body: T,
    sealed: Sealed,
}

impl<T: SignedObject> Signed<T> {
    pub fn sign(body: T, signer: &Signer) -> Result<Self, SigningError> {
        let json = canonical_json(&body)?;
        let signature = signer.key.sign(&message::<T>(&json));
        let sealed = Sealed {
            json,
            kid: signer.kid.clone(),
            signature: URL_SAFE_NO_PAD.encode(signature.to_bytes()),
        };
        Ok(Self { body, sealed })
    }

    pub fn body(&self) -> &T {
        &self.body
    }

    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    pub fn digest(&self) -> Digest {
        self.sealed.digest::<T>()
    }
}

fn message<T: SignedObject>(json: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(T::PREFIX.len() + 1 + json.len());
    bytes.extend_from_slice(T::PREFIX.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error("{0}")]
    Key(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("no key with id `{kid}` was valid then")]
    UnknownKey { kid: String },
    #[error("the signature under key `{kid}` does not fit these bytes")]
    WrongSignature { kid: String },
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    #[error("the signature or the object cannot be read")]
    Malformed,
}

/// A private Ed25519 key. Its text form is one line, `countersign-key-v1 <base64url seed>`.
pub struct Signer {
    kid: String,
    key: SigningKey,
}

const KEY_HEADER: &str = "countersign-key-v1";
const PUBLIC_HEADER: &str = "countersign-public-key-v1";

impl Signer {
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        entropy.fill(seed.as_mut());
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        Self {
            kid: kid_of(&key.verifying_key()),
            key,
        }
    }

    /// Reads the private text form.
    pub fn from_text(text: &str) -> Result<Self, SigningError> {
        let seed = text
            .trim()
            .strip_prefix(KEY_HEADER)
            .and_then(|rest| decode::<32>(rest.trim()))
            .map(Zeroizing::new)
            .ok_or_else(|| {
                SigningError::Key(format!(
                    "not a signing key: expected one line `{KEY_HEADER} ...`"
                ))
            })?;
        Ok(Self::from_seed(&seed))
    }

    /// The private text form: to a file with mode 0600, nowhere else.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.key.to_bytes());
        Zeroizing::new(format!(
            "{KEY_HEADER} {}\n",
            URL_SAFE_NO_PAD.encode(seed.as_ref())
        ))
    }

    /// The public text form, safe to hand out: `countersign-public-key-v1 <base64url>`.
    pub fn public_text(&self) -> String {
        let key = self.key.verifying_key();
        format!(
            "{PUBLIC_HEADER} {}\n",
            URL_SAFE_NO_PAD.encode(key.as_bytes())
        )
    }

    /// Key id: the first 16 hex digits of the SHA-256 of the public key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A ring that trusts this key alone, always.
    pub fn key_ring(&self) -> KeyRing {
        let mut ring = KeyRing::default();
        ring.keys.push(DatedKey {
            kid: self.kid.clone(),
            key: self.key.verifying_key(),
            from: None,
            until: None,
        });
        ring
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

fn kid_of(key: &VerifyingKey) -> String {
    let digest = Digest::of("countersign-kid/v1", key.as_bytes()).to_string();
    digest[..16].to_owned()
}

/// Public keys with the time in which each was in use.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<DatedKey>,
}

#[derive(Debug, Clone)]
struct DatedKey {
    kid: String,
    key: VerifyingKey,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl KeyRing {
    /// Reads public keys, one a line: `countersign-public-key-v1 <base64url> [from=TIME] [until=TIME]`.
    /// Empty lines and lines that begin with `#` are skipped.
    pub fn from_text(text: &str) -> Result<Self, SigningError> {
        let mut ring = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |what: &str| SigningError::Key(format!("line {}: {what}", index + 1));
            let mut words = line.split_whitespace();
            if words.next() != Some(PUBLIC_HEADER) {
                return Err(bad(&format!("expected `{PUBLIC_HEADER} ...`")));
            }
            let key = words
                .next()
                .and_then(decode::<32>)
                .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
                .ok_or_else(|| bad("not an Ed25519 public key"))?;
            let mut dated = DatedKey {
                kid: kid_of(&key),
                key,
                from: None,
                until: None,
            };
            for word in words {
                let at = |text: &str| {
                    text.parse::<Timestamp>()
                        .map_err(|_| bad(&format!("`{text}` is not a time")))
                };
                match word.split_once('=') {
                    Some(("from", text)) => dated.from = Some(at(text)?),
                    Some(("until", text)) => dated.until = Some(at(text)?),
                    _ => return Err(bad(&format!("unknown word `{word}`"))),
                }
            }
            ring.keys.push(dated);
        }
        if ring.keys.is_empty() {
            return Err(SigningError::Key("holds no public key".to_owned()));
        }
        Ok(ring)
    }

    fn find(&self, kid: &str, at: Timestamp) -> Result<&VerifyingKey, VerifyError> {
        self.keys
            .iter()
            .find(|key| {
                key.kid == kid
                    && key.from.is_none_or(|from| from <= at)
                    && key.until.is_none_or(|until| at < until)
            })
            .map(|key| &key.key)
            .ok_or_else(|| VerifyError::UnknownKey {
                kid: kid.chars().take(32).collect(),
            })
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OsEntropy;
    use serde::Deserialize;

    #[derive(Debug, Serialize, Deserialize, Clone)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
    }
    impl SignedObject for Note {
        const PREFIX: &'static str = "test-note/v1";
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Other {
        text: String,
    }
    impl SignedObject for Other {
        const PREFIX: &'static str = "test-other/v1";
    }

    fn at() -> Timestamp {
        "2026-11-22T02:00:00Z".parse().unwrap()
    }

    #[test]
    fn opens_what_it_signed_and_nothing_else() {
        let signer = Signer::generate(&OsEntropy);
        let ring = signer.key_ring();
        let sealed = Signed::sign(Note { text: "a".into() }, &signer)
            .unwrap()
            .sealed()
            .clone();
        assert_eq!(sealed.open::<Note>(&ring, at()).unwrap().body().text, "a");

        let other_kind = sealed.open::<Other>(&ring, at()).unwrap_err();
        assert!(matches!(other_kind, VerifyError::WrongSignature { .. }));

        let mut altered = sealed.clone();
        altered.json = r#"{"text":"b"}"#.into();
        assert!(matches!(
            altered.open::<Note>(&ring, at()).unwrap_err(),
            VerifyError::WrongSignature { .. }
        ));

        let stranger = Signer::generate(&OsEntropy).key_ring();
        assert!(matches!(
            sealed.open::<Note>(&stranger, at()).unwrap_err(),
            VerifyError::UnknownKey { .. }
        ));
    }

    #[test]
    fn a_signature_over_a_respelled_object_is_refused() {
        let signer = Signer::generate(&OsEntropy);
        let json = r#"{ "text":"a" }"#.to_owned();
        let signature = signer.key.sign(&message::<Note>(&json));
        let sealed = Sealed {
            json,
            kid: signer.kid().into(),
            signature: URL_SAFE_NO_PAD.encode(signature.to_bytes()),
        };
        assert_eq!(
            sealed.open::<Note>(&signer.key_ring(), at()).unwrap_err(),
            VerifyError::NotCanonical
        );
    }

    #[test]
    fn keys_survive_their_text_form_and_respect_their_dates() {
        let signer = Signer::generate(&OsEntropy);
        let again = Signer::from_text(&signer.to_secret_text()).unwrap();
        assert_eq!(again.kid(), signer.kid());
        let line = format!("{} until=2026-01-01T00:00:00Z", signer.public_text().trim());
        let ring = KeyRing::from_text(&line).unwrap();
        let sealed = Signed::sign(Note { text: "a".into() }, &signer)
            .unwrap()
            .sealed()
            .clone();
        assert!(matches!(
            sealed.open::<Note>(&ring, at()).unwrap_err(),
            VerifyError::UnknownKey { .. }
        ));
        assert!(KeyRing::from_text("").is_err());
        assert!(KeyRing::from_text("countersign-public-key-v1 AAAA").is_err());
        assert!(
            !format!("{signer:?}").contains(
                signer
                    .to_secret_text()
                    .trim_start_matches(KEY_HEADER)
                    .trim()
            )
        );
    }
}
