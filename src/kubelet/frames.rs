//! The frames of an HTTP/2 connection (RFC 9113), as the client sends them, with another `:authority` in each request.
//!
//! Only header blocks are kept until they are whole; all else passes as it comes. No I/O: bytes in, bytes out.

use super::authority;

/// What every connection begins with: `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`.
const PREFACE: usize = 24;
/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Bytes that a header block, and each of its frames, may have: what fits one frame unless another size was agreed on,
/// which nobody does here.
const MOST: usize = 16 << 10;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection that cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// More headers than any call on this socket has.
    #[error("a request has more than 16 KiB of headers")]
    TooLarge,
    /// A frame between those of one header block, or a continuation of nothing.
    #[error("a header block is interrupted, or continues none")]
    Order,
    /// More padding than frame.
    #[error("a frame of headers is shorter than its own fields say")]
    Short,
    /// A block that is none.
    #[error(transparent)]
    Block(#[from] authority::Malformed),
}

/// Takes what a client sends, in pieces of any size, and gives what the server is to read.
#[derive(Debug)]
pub(super) struct Rewriter {
    /// Bytes that pass untouched before the next frame begins.
    passing: usize,
    /// What has come of a frame's head, and of the rest where the frame is needed whole.
    frame: Vec<u8>,
    /// The header block whose end has not come.
    open: Option<Block>,
}

/// A header block, gathered from its frames.
#[derive(Debug)]
struct Block {
    stream: [u8; 4],
    end_stream: u8,
    fragments: Vec<u8>,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { passing: PREFACE, frame: Vec::new(), open: None }
    }
}

impl Rewriter {
    /// Takes `input` and adds to `output` what is ready to be read.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), Malformed> {
        while !input.is_empty() {
            if self.passing > 0 {
                let passing = take(&mut input, self.passing);
                self.passing -= passing.len();
                output.extend_from_slice(passing);
                continue;
            }
            let missing = self.needed() - self.frame.len();
            self.frame.extend_from_slice(take(&mut input, missing));
            if self.frame.len() == HEAD {
                self.begin(output)?;
            }
            if self.frame.len() >= HEAD && self.frame.len() == self.needed() {
                self.end(output)?;
                self.frame.clear();
            }
        }
        Ok(())
    }

    /// Bytes that are kept.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> usize {
        self.frame.len() + self.open.as_ref().map_or(0, |block| block.fragments.len())
    }

    /// Bytes that the frame has to have before anything can be done: its head, and then all of it.
    fn needed(&self) -> usize {
        if self.frame.len() < HEAD { HEAD } else { HEAD + self.length() }
    }

    fn length(&self) -> usize {
        let byte = |position| usize::from(self.frame[position]);
        byte(0) << 16 | byte(1) << 8 | byte(2)
    }

    fn flag(&self, flag: u8) -> bool {
        self.frame[4] & flag != 0
    }

    /// A frame's head is there: passes it on, with all that follows, unless it is about headers.
    fn begin(&mut self, output: &mut Vec<u8>) -> Result<(), Malformed> {
        let kind = self.frame[3];
        if self.open.is_some() != (kind == CONTINUATION) {
            return Err(Malformed::Order);
        }
        if !matches!(kind, HEADERS | CONTINUATION) {
            output.extend_from_slice(&self.frame);
            self.passing = self.length();
            self.frame.clear();
        } else if self.length() > MOST {
            return Err(Malformed::TooLarge);
        }
        Ok(())
    }

    /// A frame of headers is there: its part of the block is kept, and the block passed on when it is whole.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut block = match self.open.take() {
            None => Block {
                stream: [self.frame[5], self.frame[6], self.frame[7], self.frame[8]],
                end_stream: self.frame[4] & END_STREAM,
                fragments: self.unpadded()?.to_owned(),
            },
            Some(mut block) => {
                block.fragments.extend_from_slice(&self.frame[HEAD..]);
                block
            }
        };
        if block.fragments.len() > MOST {
            return Err(Malformed::TooLarge);
        }
        if self.flag(END_HEADERS) {
            block.fragments = authority::replaced(&block.fragments)?;
            block.write(output);
        } else {
            self.open = Some(block);
        }
        Ok(())
    }

    /// The part of the block in a HEADERS frame, without padding and without the priority, which nobody heeds any
    /// longer.
    fn unpadded(&self) -> Result<&[u8], Malformed> {
        let mut payload = &self.frame[HEAD..];
        if self.flag(PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Malformed::Short)?;
            let end = rest.len().checked_sub((*padding).into()).ok_or(Malformed::Short)?;
            payload = &rest[..end];
        }
        if self.flag(PRIORITY) {
            payload = payload.get(5..).ok_or(Malformed::Short)?;
        }
        Ok(payload)
    }
}

impl Block {
    /// The whole block as one frame; it is no longer than it was, and so fits.
    fn write(&self, output: &mut Vec<u8>) {
        let [.., high, middle, low] = self.fragments.len().to_be_bytes();
        output.extend([high, middle, low, HEADERS, END_HEADERS | self.end_stream]);
        output.extend(self.stream);
        output.extend_from_slice(&self.fragments);
    }
}

/// Takes at most `most` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
