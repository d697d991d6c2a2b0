//! Random values: credentials of one run, and the names that Kubernetes draws.

/// Letters that Kubernetes uses for generated names: no vowels, no look-alikes.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0; N];
    getrandom::fill(&mut buffer).expect("the operating system provides randomness");
    buffer
}

/// A credential of 256 bits in hexadecimal.
pub fn token() -> String {
    hex::encode(bytes::<32>())
}

/// 64 bits in hexadecimal, for names of events and identifiers without secrecy.
pub fn short_hex() -> String {
    hex::encode(bytes::<8>())
}

/// The five letters at the end of a pod's name.
pub fn name_suffix() -> String {
    bytes::<5>().iter().map(|byte| letter(*byte)).collect()
}

/// Ten letters that depend only on `text`: the `pod-template-hash` of a template.
pub fn template_hash(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes())
        .iter()
        .take(10)
        .map(|byte| letter(*byte))
        .collect()
}

fn letter(byte: u8) -> char {
    char::from(NAME_LETTERS[usize::from(byte) % NAME_LETTERS.len()])
}

pub fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
