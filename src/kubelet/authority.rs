//! `:authority` in a header block, replaced without decoding the rest (RFC 7541).
//!
//! A header block is a sequence of representations, some of which refer to what earlier ones have put into a table
//! that both ends of the connection keep. Decoding and encoding anew would need that table, and Huffman's code; this
//! replaces the one value where it stands and leaves every other byte as it is. That is sound because the table at the
//! reading end then has the same entries in the same order, one of them shorter: entries leave the table only to make
//! room, so the reading end has at least those that the writing end still refers to, under the same numbers.
//!
//! A name may also be spelled out, or be taken from the table. A value under such a name stays as it is: the worst that
//! follows is the refusal that there would have been anyway. The kubelet's encoder refers to the static table.

use std::ops::Range;

/// What stands in place of every authority: a host's name that [`http::uri::Authority`] takes, and that nobody reads. One
/// byte, so that no entry of the table becomes larger than it was.
const AUTHORITY: u8 = b'k';

/// The number of `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;

/// A header block that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header block is malformed")]
pub(super) struct Malformed;

/// `block` with another authority.
pub(super) fn replaced(block: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut replaced = Vec::with_capacity(block.len());
    let mut reader = Reader { block, position: 0 };
    while let Some(first) = reader.peek() {
        let start = reader.position;
        let value = match Kind::of(first) {
            Kind::Whole { prefix } => reader.integer(prefix).map(|_| None)?,
            Kind::Literal { prefix } => Some(reader.literal(prefix)?),
        };
        match value {
            Some(Literal { index: AUTHORITY_INDEX, value }) if !value.text.is_empty() => {
                replaced.extend_from_slice(&block[start..value.start]);
                // A string of one byte, not in Huffman's code.
                replaced.extend([1, AUTHORITY]);
            }
            _ => replaced.extend_from_slice(&block[start..reader.position]),
        }
    }
    Ok(replaced)
}

/// What a representation is, told by its first byte (section 6).
enum Kind {
    /// An integer and nothing else: an indexed field, or a change of the table's size.
    Whole { prefix: u8 },
    /// A name, which is an integer where it is in a table, and a value.
    Literal { prefix: u8 },
}

impl Kind {
    fn of(first: u8) -> Self {
        match first {
            0x80.. => Self::Whole { prefix: 7 },
            0x40.. => Self::Literal { prefix: 6 },
            0x20.. => Self::Whole { prefix: 5 },
            _ => Self::Literal { prefix: 4 },
        }
    }
}

/// A literal field: where its name is in the tables, 0 for nowhere, and its value.
struct Literal {
    index: usize,
    value: Text,
}

/// A string in a block.
struct Text {
    /// Where its length begins.
    start: usize,
    /// Its bytes, in Huffman's code or not.
    text: Range<usize>,
}

struct Reader<'a> {
    block: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.position).copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.position += 1;
        Ok(byte)
    }

    /// An integer whose first `prefix` bits are in the low bits of the next byte (section 5.1).
    fn integer(&mut self, prefix: u8) -> Result<usize, Malformed> {
        let full = (1_usize << prefix) - 1;
        let mut integer = usize::from(self.next()?) & full;
        if integer < full {
            return Ok(integer);
        }
        // No block is long enough for a number that needs more than four bytes.
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.next()?);
            integer += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(integer);
            }
        }
        Err(Malformed)
    }

    /// A string: a bit that says how it is coded, its length, its bytes (section 5.2).
    fn text(&mut self) -> Result<Text, Malformed> {
        let start = self.position;
        let length = self.integer(7)?;
        let text = self.position..self.position + length;
        if text.end > self.block.len() {
            return Err(Malformed);
        }
        self.position = text.end;
        Ok(Text { start, text })
    }

    fn literal(&mut self, prefix: u8) -> Result<Literal, Malformed> {
        let index = self.integer(prefix)?;
        if index == 0 {
            self.text()?;
        }
        Ok(Literal { index, value: self.text()? })
    }
}

#[cfg(test)]
mod tests;
