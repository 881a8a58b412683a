//! Sizes: bytes, what a claim asks for, and how directories share the file system they lie on. Pure arithmetic.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A text that is not a quantity of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of bytes: write for example 500Mi, 10Gi, 2T or 1073741824")]
pub struct InvalidBytes(pub String);

/// Suffixes of Kubernetes quantities and their factors, binary before decimal.
const UNITS: [(&str, u64); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];
/// How many of them are binary.
const BINARY: usize = 6;

impl Bytes {
    /// The quantity as Kubernetes' own programs write it (Go's `resource.Quantity` in its canonical binary form), so that
    /// who reads it as text finds what others of them wrote: the largest unit of which it is a whole number.
    pub fn to_quantity(self) -> String {
        // What is less than the smallest binary unit is written in decimal ones.
        if self.0 < 1024 {
            return if self.0 == 1000 { "1k".to_owned() } else { self.0.to_string() };
        }
        let mut whole = UNITS[..BINARY].iter().rev();
        let unit = whole.find(|(_, factor)| self.0.is_multiple_of(*factor));
        unit.map_or_else(
            || self.0.to_string(),
            |(unit, factor)| format!("{}{unit}", self.0 / factor),
        )
    }
}

impl FromStr for Bytes {
    type Err = InvalidBytes;

    /// Reads a whole Kubernetes quantity: digits and an optional suffix (`Ki`…`Ei`, `k`…`E`).
    fn from_str(text: &str) -> Result<Self, InvalidBytes> {
        let invalid = || InvalidBytes(text.chars().take(64).collect());
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &text[digits.len()..];
        let factor = match UNITS.iter().find(|(unit, _)| *unit == suffix) {
            Some((_, factor)) => *factor,
            None if suffix.is_empty() => 1,
            None => return Err(invalid()),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(factor).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Bytes {
    /// Writes the largest binary unit that divides the number exactly, else one with a decimal for people: `10Gi`, `1.9Ti`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS[..BINARY].iter().rev().find(|(_, factor)| self.0 >= *factor);
        match unit {
            None => write!(formatter, "{}", self.0),
            Some((unit, factor)) if self.0.is_multiple_of(*factor) => {
                write!(formatter, "{}{unit}", self.0 / factor)
            }
            Some((unit, factor)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*factor);
                write!(formatter, "{}.{}{unit}", tenths / 10, tenths % 10)
            }
        }
    }
}

/// The sizes that a claim accepts (CSI specification, `CapacityRange`); the absence of a bound is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityRange {
    /// The least capacity, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Bytes>,
    /// The greatest capacity, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
}

impl CapacityRange {
    /// A range of at least `required` bytes.
    pub fn at_least(required: Bytes) -> Self {
        Self { required: Some(required), limit: None }
    }

    /// Whether a volume of `capacity` satisfies both bounds.
    pub fn admits(&self, capacity: Bytes) -> bool {
        self.required.is_none_or(|least| capacity >= least)
            && self.limit.is_none_or(|most| capacity <= most)
    }
}

impl fmt::Display for CapacityRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.required, self.limit) {
            (None, None) => formatter.write_str("any size"),
            (Some(least), None) => write!(formatter, "at least {least}"),
            (None, Some(most)) => write!(formatter, "at most {most}"),
            (Some(least), Some(most)) if least == most => write!(formatter, "exactly {least}"),
            (Some(least), Some(most)) => write!(formatter, "between {least} and {most}"),
        }
    }
}

/// What each free directory of a shared file system may call its own.
///
/// The rule: what the file system has in all, less what is already promised (the recorded capacity of claimed
/// directories and the sizes that pools declare), divided equally among the free ones and rounded down to 4 KiB. A
/// promise that was made is never shrunk by a directory that comes later.
pub fn share(total: Bytes, promised: Bytes, free: u64) -> Bytes {
    const GRAIN: u64 = 4096;
    match total.0.saturating_sub(promised.0).checked_div(free) {
        Some(share) => Bytes(share / GRAIN * GRAIN),
        None => Bytes(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1Ki", 1024),
            ("10Gi", 10 << 30),
            ("1Ei", 1 << 60),
            ("2T", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for wrong in ["", "Gi", "-1", "1.5Gi", "1 Gi", "1gi", "1GiB", "99999999999P", "１"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn quantities_are_written_as_kubernetes_programs_write_them() {
        // What Go prints of resource.NewQuantity(NUMBER, resource.BinarySI).
        for (number, text) in [
            (0, "0"),
            (512, "512"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (2000, "2000"),
            (1536, "1536"),
            (640 << 20, "640Mi"),
            (1025 << 20, "1025Mi"),
            (10 << 30, "10Gi"),
            (3 << 60, "3Ei"),
            ((10 << 30) + 1, "10737418241"),
        ] {
            assert_eq!(Bytes(number).to_quantity(), text);
            assert_eq!(text.parse(), Ok(Bytes(number)));
        }
    }

    #[test]
    fn directories_of_one_file_system_share_it_and_keep_what_was_promised() {
        let gib = |n: u64| Bytes(n << 30);

        assert_eq!(share(gib(100), gib(0), 4), gib(25));
        assert_eq!(share(gib(100), gib(40), 3), gib(20));
        assert_eq!(share(gib(100), gib(120), 3), gib(0));
        assert_eq!(share(gib(100), gib(0), 0), gib(0));
    }

    proptest! {
        #[test]
        fn the_shares_never_exceed_what_there_is(total: u64, promised: u64, free in 1_u64..10_000) {
            let each = share(Bytes(total), Bytes(promised), free).0;
            prop_assert!(u128::from(each) * u128::from(free) <= u128::from(total.saturating_sub(promised)));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Bytes>();
        }

        #[test]
        fn a_range_admits_exactly_what_lies_between_its_bounds(low: u64, high: u64, size: u64) {
            let range = CapacityRange { required: Some(Bytes(low)), limit: Some(Bytes(high)) };
            prop_assert_eq!(range.admits(Bytes(size)), size >= low && size <= high);
        }
    }
}
