//! The identity that the API server gives to each object.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A UID. It is a UUID, which is kept as its bits: in a large cluster there are many. What else an API server may give is
/// kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uid {
    /// The 128 bits of a UUID that was written as `Display` writes it (RFC 9562, section 4).
    Uuid([u8; 16]),
    /// Any other text.
    Other(Box<str>),
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let bits = u128::from_str_radix(&text.replace('-', ""), 16).unwrap_or_default();
        let uuid = Self::Uuid(bits.to_be_bytes());
        if uuid.to_string() == text { uuid } else { Self::Other(text.into()) }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    let hyphen = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(formatter, "{hyphen}{byte:02x}")?;
                }
                Ok(())
            }
            Self::Other(text) => formatter.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_given_back_and_a_uuid_takes_no_memory_of_its_own() {
        let uuid = "0e1e7e8c-94f4-4be1-8aab-3a4d61f4c2d0";
        let others = [
            "",
            "uid-1",
            "0E1E7E8C-94F4-4BE1-8AAB-3A4D61F4C2D0",
            "0e1e7e8c94f44be18aab3a4d61f4c2d0",
        ];
        let odd =
            ["00000000-0000-0000-0000-000000000000", "-", "+e1e7e8c-94f4-4be1-8aab-3a4d61f4c2d0"];

        assert!(matches!(Uid::from(uuid), Uid::Uuid(_)));
        assert!(others.iter().all(|other| matches!(Uid::from(*other), Uid::Other(_))));
        for text in others.iter().chain(&odd).chain(&[uuid]) {
            assert_eq!(Uid::from(*text).to_string(), *text);
        }
    }
}
