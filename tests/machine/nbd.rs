//! The network block device protocol, as far as qemu speaks it to a disk: the newstyle handshake and simple replies.
//! See doc/proto.md of the NBD project.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_E889_0455_65A9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
/// There are flags; FLUSH, FUA, TRIM and WRITE ZEROES are understood.
const FLAGS: u16 = 1 | 4 | 8 | 32 | 64;

/// What is asked of a disk.
#[derive(Debug)]
pub(crate) enum Ask {
    Read {
        offset: u64,
        length: usize,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Zero {
        offset: u64,
        length: u64,
    },
    /// A discard, which may be ignored.
    Trim,
    Flush,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    /// Whether what is written must be on the medium before the answer.
    pub(crate) durable: bool,
    handle: u64,
}

/// A connection after its handshake.
pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Shakes hands about a disk of `size` bytes.
    pub(crate) fn accept(mut stream: UnixStream, size: u64) -> io::Result<Self> {
        stream.write_all(b"NBDMAGICIHAVEOPT")?;
        // Newstyle, and no padding of zeros.
        stream.write_all(&3_u16.to_be_bytes())?;
        let _flags = u32::from_be_bytes(take(&mut stream)?);
        loop {
            expect(u64::from_be_bytes(take(&mut stream)?) == OPTION_MAGIC)?;
            let option = u32::from_be_bytes(take(&mut stream)?);
            let length = u32::from_be_bytes(take(&mut stream)?);
            let mut ignored = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            stream.read_exact(&mut ignored)?;
            if option != OPTION_GO {
                reply(&mut stream, option, REPLY_UNSUPPORTED, &[])?;
                continue;
            }
            let export = [&0_u16.to_be_bytes()[..], &size.to_be_bytes(), &FLAGS.to_be_bytes()];
            reply(&mut stream, option, REPLY_INFO, &export.concat())?;
            reply(&mut stream, option, REPLY_ACK, &[])?;
            return Ok(Self(stream));
        }
    }

    /// The next request; none when the other side is done.
    pub(crate) fn next(&mut self) -> io::Result<Option<Request>> {
        let stream = &mut self.0;
        expect(u32::from_be_bytes(take(stream)?) == REQUEST_MAGIC)?;
        let flags = u16::from_be_bytes(take(stream)?);
        let kind = u16::from_be_bytes(take(stream)?);
        let handle = u64::from_be_bytes(take(stream)?);
        let offset = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        let bytes = usize::try_from(length).map_err(io::Error::other)?;
        let ask = match kind {
            0 => Ask::Read { offset, length: bytes },
            1 => {
                let mut bytes = vec![0; bytes];
                stream.read_exact(&mut bytes)?;
                Ask::Write { offset, bytes }
            }
            3 => Ask::Flush,
            4 => Ask::Trim,
            6 => Ask::Zero { offset, length: length.into() },
            _ => return Ok(None),
        };
        Ok(Some(Request { ask, durable: flags & 1 != 0, handle }))
    }

    /// Answers a request: what was read, or an error.
    pub(crate) fn answer(&mut self, request: &Request, done: Result<&[u8], u32>) -> io::Result<()> {
        let error = done.err().unwrap_or_default();
        let head = [
            &REPLY_MAGIC.to_be_bytes()[..],
            &error.to_be_bytes(),
            &request.handle.to_be_bytes(),
            done.unwrap_or_default(),
        ];
        self.0.write_all(&head.concat())
    }
}

fn reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let head = [
        &OPTION_REPLY_MAGIC.to_be_bytes()[..],
        &option.to_be_bytes(),
        &kind.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ];
    stream.write_all(&head.concat())
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn expect(holds: bool) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other("not the NBD protocol")) }
}
