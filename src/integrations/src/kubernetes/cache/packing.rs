//! Records as byte strings: what a record says, in a tenth of the memory that its parts take.
//!
//! The bytes never leave the process, so the format needs no version and no checks: each `unpack`
//! reads what its `pack`, next to it, wrote. A `pack` takes its record apart field by field,
//! without `..`: the compiler then names the place to extend when a record grows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::symbols::Symbols;

/// Most times of a living cluster are near this one: they take fewer bytes.
const EPOCH: i64 = 1_760_000_000;

pub(super) trait Pack: Sized {
    fn pack(&self, to: &mut Packer<'_>);
    fn unpack(from: &mut Unpacker<'_>) -> Self;
}

/// Writes one record.
pub(super) struct Packer<'a> {
    pub bytes: &'a mut Vec<u8>,
    pub symbols: &'a mut Symbols,
}

/// Reads one record. At the end of the bytes everything is zero and empty.
#[derive(Clone, Copy)]
pub(super) struct Unpacker<'a> {
    pub bytes: &'a [u8],
    pub symbols: &'a Symbols,
}

impl Packer<'_> {
    /// Seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.bytes.push(flag.into());
    }

    /// A text of its own.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A text that others have, too.
    pub(super) fn symbol(&mut self, text: &str) {
        let number = self.symbols.number(text);
        self.number(number.into());
    }

    /// A UUID as the API server writes it takes 17 bytes, any other text one more than its length.
    pub(super) fn uid(&mut self, uid: &str) {
        match uuid(uid) {
            Some(bytes) => {
                self.number(0);
                self.bytes.extend_from_slice(&bytes);
            }
            None => {
                self.number(uid.len() as u64 + 1);
                self.bytes.extend_from_slice(uid.as_bytes());
            }
        }
    }

    /// A resource version: a number that takes half the bytes of its digits, or any text.
    pub(super) fn version(&mut self, version: &str) {
        match version.parse::<u64>() {
            Ok(number) if number < u64::MAX && number.to_string() == version => {
                self.number(number + 1);
            }
            _ => {
                self.number(0);
                self.text(version);
            }
        }
    }

    pub(super) fn maybe<T>(&mut self, value: Option<&T>, some: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            some(self, value);
        }
    }

    pub(super) fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        for item in list {
            each(self, item);
        }
    }
}

impl Unpacker<'_> {
    pub(super) fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    pub(super) fn signed(&mut self) -> i64 {
        let number = self.number();
        (number >> 1) as i64 ^ -((number & 1) as i64)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.number() != 0
    }

    fn take(&mut self, length: u64) -> &[u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    pub(super) fn text(&mut self) -> String {
        let length = self.number();
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    pub(super) fn symbol(&mut self) -> String {
        let number = self.number();
        let symbol = u32::try_from(number).unwrap_or(u32::MAX);
        self.symbols.text(symbol).to_owned()
    }

    pub(super) fn uid(&mut self) -> String {
        match self.number() {
            0 => {
                let hex = hex::encode(self.take(16));
                let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
                [
                    part(0, 8),
                    part(8, 12),
                    part(12, 16),
                    part(16, 20),
                    part(20, 32),
                ]
                .join("-")
            }
            length => String::from_utf8_lossy(self.take(length - 1)).into_owned(),
        }
    }

    pub(super) fn version(&mut self) -> String {
        match self.number() {
            0 => self.text(),
            number => (number - 1).to_string(),
        }
    }

    pub(super) fn maybe<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| some(self))
    }

    pub(super) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| each(self)).collect()
    }
}

/// The bytes of a UUID in lower case with hyphens, which can be written again exactly.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens = [8, 13, 18, 23];
    let canonical = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| {
            (byte == b'-') == hyphens.contains(&at) && !byte.is_ascii_uppercase()
        });
    if !canonical {
        return None;
    }
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

impl Pack for Timestamp {
    fn pack(&self, to: &mut Packer<'_>) {
        let nanoseconds = self.subsec_nanosecond();
        let seconds = self.as_second() - EPOCH;
        to.signed(seconds * 2 + i64::from(nanoseconds != 0));
        if nanoseconds != 0 {
            to.signed(nanoseconds.into());
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let number = from.signed();
        let fraction = number.rem_euclid(2) == 1;
        let seconds = number.div_euclid(2) + EPOCH;
        let nanoseconds = if fraction { from.signed() } else { 0 };
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
        Self::new(seconds, nanoseconds).unwrap_or(Self::UNIX_EPOCH)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.maybe(self.as_ref(), |to, value| value.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        from.maybe(T::unpack)
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.list(self, |to, item| item.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        from.list(T::unpack)
    }
}

/// Labels: keys and values are shared by many objects.
impl Pack for BTreeMap<String, String> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.number(self.len() as u64);
        for (key, value) in self {
            to.symbol(key);
            to.symbol(value);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        (0..from.number())
            .map(|_| (from.symbol(), from.symbol()))
            .collect()
    }
}

/// Both directions of an enum without data.
macro_rules! pack_choice {
    ($kind:ty: $($variant:ident = $number:literal),+ $(,)?; else $other:ident) => {
        impl Pack for $kind {
            fn pack(&self, to: &mut Packer<'_>) {
                to.number(match self {
                    $(Self::$variant => $number,)+
                });
            }

            fn unpack(from: &mut Unpacker<'_>) -> Self {
                match from.number() {
                    $($number => Self::$variant,)+
                    _ => Self::$other,
                }
            }
        }
    };
}

pub(super) use pack_choice;

/// Lists of names, which objects made from one template share.
pub(super) fn pack_symbols(names: &[String], to: &mut Packer<'_>) {
    to.list(names, |to, name| to.symbol(name));
}

pub(super) fn unpack_symbols(from: &mut Unpacker<'_>) -> Vec<String> {
    from.list(Unpacker::symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let mut symbols = Symbols::default();
        let mut bytes = Vec::new();
        let mut packer = Packer {
            bytes: &mut bytes,
            symbols: &mut symbols,
        };
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        let uids = [
            "0b6cd6a8-1d2e-4f5a-9b3c-0123456789ab",
            "0B6CD6A8-1d2e-4f5a-9b3c-0123456789ab",
            "uid-web",
            "",
        ];
        let versions = ["0", "12345", "007", "18446744073709551615", "opaque", ""];
        let times = ["2026-11-22T01:02:03Z", "1960-01-01T00:00:00.25Z"];
        numbers.iter().for_each(|number| packer.number(*number));
        signed.iter().for_each(|number| packer.signed(*number));
        uids.iter().for_each(|uid| packer.uid(uid));
        versions.iter().for_each(|version| packer.version(version));
        for time in times {
            time.parse::<Timestamp>().unwrap().pack(&mut packer);
        }
        packer.symbol("web");
        packer.text("größer");
        let mut from = Unpacker {
            bytes: &bytes,
            symbols: &symbols,
        };
        assert_eq!(numbers.map(|_| from.number()), numbers);
        assert_eq!(signed.map(|_| from.signed()), signed);
        assert_eq!(uids.map(|_| from.uid()), uids);
        assert_eq!(versions.map(|_| from.version()), versions);
        assert_eq!(
            times.map(|_| Timestamp::unpack(&mut from).to_string()),
            times
        );
        assert_eq!(
            (from.symbol(), from.text()),
            ("web".into(), "größer".into())
        );
        assert!(from.bytes.is_empty());
        assert_eq!(
            (from.number(), from.text(), from.flag()),
            (0, String::new(), false)
        );
    }
}
