//! Checks of what is found on disks; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{Contents, EDGE, Window, contents_of, find_in, search_of};

/// A disk of zeros with bytes at a few places. Eight bytes say how large it is; then each piece has eight for its place,
/// one for its length, and itself.
struct Disk<'a> {
    size: u64,
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Disk<'a> {
    fn of(data: &'a [u8]) -> Option<Self> {
        let (size, mut rest) = data.split_first_chunk()?;
        // A pebibyte is more than any disk has.
        let size = u64::from_le_bytes(*size) % (1 << 50);
        let mut pieces = Vec::new();
        while let Some((place, after)) = rest.split_first_chunk() {
            let Some((length, after)) = after.split_first() else { break };
            let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
            rest = after;
            let place = u64::from_le_bytes(*place);
            // From the end, where the place is beyond it.
            let place = if place < size { place } else { size.saturating_sub(place % 4096 + 1) };
            let room = usize::try_from(size - place.min(size)).unwrap_or(usize::MAX);
            pieces.push((place, &piece[..piece.len().min(room)]));
        }
        Some(Self { size, pieces })
    }

    fn bytes_at(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
        for (place, piece) in &self.pieces {
            for (at, byte) in (*place..).zip(*piece) {
                if (from..to).contains(&at)
                    && let Some(slot) =
                        usize::try_from(at - from).ok().and_then(|i| bytes.get_mut(i))
                {
                    *slot = *byte;
                }
            }
        }
        bytes
    }
}

impl FileExt for Disk<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = self.size.min(offset.saturating_add(buffer.len() as u64));
        let bytes = self.bytes_at(offset.min(end), end);
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Whatever a tenant, or whoever had the disk before, has put on it: the answer is about places of the disk, and blank is
/// only what holds nothing at its ends.
pub fn signatures(data: &[u8]) {
    let Some(disk) = Disk::of(data) else { return };
    let (Ok(found), Ok(window)) = (contents_of(&disk, disk.size), Window::load(&disk, disk.size))
    else {
        panic!("a disk of {} bytes cannot be read", disk.size)
    };
    for signature in find_in(&window) {
        assert!(signature.offset < disk.size, "{signature:?} is not on the disk");
        let uuid = signature.uuid.unwrap_or_default();
        assert!(uuid.len() <= 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'));
    }
    assert!(found.to_string().len() < 4096);
    match &found {
        Contents::Blank => {
            let head = disk.bytes_at(0, EDGE.min(disk.size));
            let tail = disk.bytes_at(disk.size.saturating_sub(EDGE), disk.size);
            assert!(head.iter().chain(&tail).all(|byte| *byte == 0), "what holds data is blank");
        }
        Contents::Data { offset } => {
            assert!(disk.bytes_at(*offset, offset + 1) != [0], "nothing is at {offset}");
        }
        Contents::Signatures(all) => assert!(!all.is_empty()),
        Contents::Erased => {}
    }
    // One that is read whole is blank exactly if it holds nothing.
    if disk.size <= EDGE * 4 {
        let searched = search_of(&disk, disk.size, Duration::from_hours(1)).ok();
        let empty = disk.bytes_at(0, disk.size).iter().all(|byte| *byte == 0);
        assert_eq!(searched == Some(Contents::Blank), empty);
    }
}
