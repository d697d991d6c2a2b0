//! Resource quantities as the API writes them (`250m`, `1.5Gi`, `2e3`), in whole milli-units: a
//! node's allocatable and a pod's requests have to be added up.

use serde::Deserialize;

/// Thousandths of the unit: of a core for cpu, of a byte for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Milli(pub i128);

impl Milli {
    /// Reads a quantity, rounded up to a thousandth as the API server does. Nothing for what is
    /// not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.len() > 18 || whole.len() > 19 || !fraction.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let negative = whole.starts_with('-');
        let whole: i128 = match whole.trim_start_matches(['+', '-']) {
            "" if fraction.is_empty() => return None,
            "" => 0,
            digits => digits.parse().ok()?,
        };
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let fraction: i128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().ok()?
        };
        let (times, per) = multiplier(suffix)?;
        let value = (whole * scale + fraction).checked_mul(times)?;
        let per = scale.checked_mul(per)?;
        let value = value.checked_add(per - 1)? / per;
        Some(Self(if negative { -value } else { value }))
    }

    /// Whole units, rounded up.
    pub(super) fn units(self) -> i64 {
        i64::try_from((self.0 + 999).div_euclid(1000)).unwrap_or(i64::MAX)
    }

    pub(super) fn thousandths(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Thousandths for one of `suffix`, as a fraction.
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        _ => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match power {
                0..=18 => (1_000 * 10_i128.pow(power.unsigned_abs()), 1),
                -9..0 => (1_000, 10_i128.pow(power.unsigned_abs())),
                _ => return None,
            }
        }
    })
}

impl<'de> Deserialize<'de> for Milli {
    /// A text, or a bare number as hand-written objects have it; nonsense counts as nothing, as a
    /// sum with one odd pod left out is better than no answer.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = match &value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Ok(Self::parse(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Milli;

    #[test]
    fn reads_what_the_api_writes() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1_000),
            ("250m", 250),
            ("0.5", 500),
            (".5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("128974848", 128_974_848_000),
            ("129e6", 129_000_000_000),
            ("129M", 129_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("100n", 1),
            ("-2", -2_000),
            ("1e-3", 1),
        ] {
            assert_eq!(Milli::parse(text), Some(Milli(milli)), "{text}");
        }
        for bad in [
            "",
            "m",
            "1.2.3",
            "1 Gi",
            "1gi",
            "--",
            "1e99",
            "9".repeat(40).as_str(),
        ] {
            assert_eq!(Milli::parse(bad), None, "{bad}");
        }
        assert_eq!(Milli(1_001).units(), 2);
    }
}
