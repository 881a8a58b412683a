//! For tests: a client of HTTP/2 that writes what it is told to, byte by byte.

use std::collections::VecDeque;

pub(super) const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of `kind` on `stream`.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    let head = [high, middle, low, kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// How a header is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// By the table's number for the whole of it, where there is one, or else put into the table.
    Indexed,
    /// Put into the table, again if need be.
    Inserted,
    /// Left out of the table.
    Plain,
}

/// An encoder with the table of RFC 7541.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The newest first.
    table: VecDeque<(String, String)>,
}

/// Bytes that the table may have.
const SIZE: usize = 4096;
/// Where the names that requests have stand in the static table.
const NAMES: [(&str, usize); 4] = [(":authority", 1), (":method", 2), (":path", 4), (":scheme", 6)];

impl Encoder {
    /// Adds a header to `block`.
    pub(super) fn write(&mut self, block: &mut Vec<u8>, name: &str, value: &str, how: How) {
        let known = self.table.iter().position(|(n, v)| (n.as_str(), v.as_str()) == (name, value));
        if let (Some(known), How::Indexed) = (known, how) {
            return integer(block, 0x80, 7, 62 + known);
        }
        let fixed = NAMES.iter().find(|(fixed, _)| *fixed == name).map(|(_, number)| *number);
        let number = fixed.or_else(|| {
            self.table.iter().position(|(known, _)| known == name).map(|position| 62 + position)
        });
        match how {
            How::Plain => integer(block, 0, 4, number.unwrap_or(0)),
            How::Indexed | How::Inserted => integer(block, 0x40, 6, number.unwrap_or(0)),
        }
        if number.is_none() {
            text(block, name);
        }
        text(block, value);
        if !matches!(how, How::Plain) {
            self.insert(name, value);
        }
    }

    fn insert(&mut self, name: &str, value: &str) {
        self.table.push_front((name.to_owned(), value.to_owned()));
        let size = |table: &VecDeque<(String, String)>| -> usize {
            table.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
        };
        while size(&self.table) > SIZE {
            self.table.pop_back();
        }
    }
}

fn integer(block: &mut Vec<u8>, first: u8, prefix: u8, mut value: usize) {
    let full = (1 << prefix) - 1;
    if value < full {
        return block.push(first | u8::try_from(value).unwrap());
    }
    block.push(first | u8::try_from(full).unwrap());
    value -= full;
    while value >= 0x80 {
        block.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    block.push(u8::try_from(value).unwrap());
}

fn text(block: &mut Vec<u8>, text: &str) {
    integer(block, 0, 7, text.len());
    block.extend_from_slice(text.as_bytes());
}
