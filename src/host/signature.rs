//! What is on a block device: the magic numbers of file systems, swap, encryption, volume managers, RAID and partition
//! tables, at the places where their formats put them.
//!
//! Reading only. It errs towards finding something: a backup superblock or one half of a partition table counts as much
//! as the whole. How much is read is for the caller to say. [`glance`] reads the first and the last MiB and the places of
//! the table beyond; [`contents`] also where ext and XFS keep backups, and a few samples; [`search()`] whatever it gets to
//! read in a given time. Only a device that was read whole is known to be blank: of a larger one, none of them can say
//! more than that nothing was found.

mod remnant;
mod search;
mod table;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::identify::uuid_text;
use super::{Errno, Error, Result, device};
use rustix::fs::Advice;

use table::{MAGICS, Magic};

/// Bytes looked at at the beginning and at the end of a device.
const EDGE: u64 = 1 << 20;
/// Bytes at the beginning that hold the superblock of every file system of the table, mirrors left out.
const SUPERBLOCKS: u64 = 128 << 10;
/// How many places between the edges have to read as zeros, evenly spread, and the length of each.
const SAMPLES: u64 = 16;
const SAMPLE: u64 = 4096;

/// What kind of thing a signature announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file system.
    Filesystem,
    /// A partition table or boot sector.
    PartitionTable,
    /// A part of something else: RAID, volume managers, encryption, swap, a cache.
    Member,
}

/// A signature that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it announces, by the name that mount(8) and blkid(8) use.
    pub name: &'static str,
    /// What kind of thing that is.
    pub kind: Kind,
    /// Where its magic number is, in bytes from the beginning of the device.
    pub offset: u64,
    /// The UUID beside it; for ext2/3/4, XFS, btrfs and others that keep one at a fixed distance.
    pub uuid: Option<String>,
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing was found.
    Blank,
    /// Nothing for who makes a file system on it ([`mark_erased`]); old blocks for who gets the device itself.
    Erased,
    /// What these announce; at least one.
    Signatures(Vec<Signature>),
    /// No signature, but a byte that is not zero, in the block at this offset.
    Data {
        /// Bytes from the beginning of the device.
        offset: u64,
    },
}

impl std::fmt::Display for Contents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blank => formatter.write_str("nothing"),
            Self::Erased => formatter.write_str("the old blocks of an erased file system"),
            Self::Signatures(found) => {
                let mut names: Vec<_> = found.iter().map(|signature| signature.name).collect();
                names.dedup();
                write!(formatter, "signatures of {}", names.join(", "))
            }
            Self::Data { offset } => write!(formatter, "data at byte {offset}"),
        }
    }
}

/// Every signature on an open device; `name` is for messages only.
pub fn find(device: &File, name: &Path) -> Result<Vec<Signature>> {
    let size = device::size(device, name)?;
    Ok(find_in(&Window::load(device, size).map_err(read_error(name))?))
}

/// The file system on an open device, by its primary superblock; absent where there is none of the table.
pub fn filesystem(device: &File, name: &Path) -> Result<Option<Signature>> {
    let size = device::size(device, name)?;
    let head = read(device, 0, SUPERBLOCKS.min(size)).map_err(read_error(name))?;
    let window = Window { size, parts: vec![(0, head)] };
    let primary = find_in(&window).into_iter();
    Ok(primary.into_iter().find(|signature| signature.kind == Kind::Filesystem))
}

/// What the beginning and the end of an open device hold, where whoever begins to use it writes; `name` is for messages
/// only.
pub fn glance(device: &File, name: &Path) -> Result<Contents> {
    let size = device::size(device, name)?;
    let window = Window::load(device, size).map_err(read_error(name))?;
    Ok(match find_in(&window) {
        found if found.is_empty() && window.is_erased() => Contents::Erased,
        found if found.is_empty() => window.data().unwrap_or(Contents::Blank),
        found => Contents::Signatures(found),
    })
}

/// What an open device holds; `name` is for messages only.
pub fn contents(device: &File, name: &Path) -> Result<Contents> {
    let size = device::size(device, name)?;
    contents_of(device, size).map_err(read_error(name))
}

/// What an erased device begins with. Whatever is written to the beginning of the device takes it away, as every mkfs
/// of the table does.
const ERASED: &[u8] =
    b"berth: this device was erased for a new file system; its blocks are the old ones\n";

/// Marks an open device as one that holds no file system any more, and whose blocks are the old ones nevertheless.
pub fn mark_erased(device: &File, name: &Path) -> Result<()> {
    device.write_all_at(ERASED, 0).map_err(Error::of_io("pwrite", name))
}

/// As [`contents`], and then as much of the device as can be read in `time`.
pub fn search(device: &File, name: &Path, time: Duration) -> Result<Contents> {
    let size = device::size(device, name)?;
    // Most of what is read is read once: it is not to take the place of what others read often.
    advise(device, Advice::Random, name)?;
    let found = search_of(device, size, time).map_err(read_error(name));
    advise(device, Advice::DontNeed, name)?;
    found
}

fn advise(device: &File, advice: Advice, name: &Path) -> Result<()> {
    rustix::fs::fadvise(device, 0, None, advice).map_err(Error::of("fadvise", name))
}

fn search_of(device: &impl FileExt, size: u64, time: Duration) -> std::io::Result<Contents> {
    Ok(match contents_of(device, size)? {
        Contents::Blank => search::data(device, size, time)?
            .map_or(Contents::Blank, |offset| Contents::Data { offset }),
        found => found,
    })
}

fn contents_of(device: &impl FileExt, size: u64) -> std::io::Result<Contents> {
    let window = Window::load(device, size)?;
    let mut found = find_in(&window);
    if found.is_empty() {
        // A file system that is whole may lie over what is left of an earlier one, which means nothing then.
        found = remnant::find(device, size)?;
    }
    if !found.is_empty() {
        return Ok(Contents::Signatures(found));
    }
    if window.is_erased() {
        return Ok(Contents::Erased);
    }
    if let Some(data) = window.data() {
        return Ok(data);
    }
    for sample in 1..=SAMPLES {
        let offset = size / (SAMPLES + 1) * sample / SAMPLE * SAMPLE;
        let bytes = read(device, offset, SAMPLE.min(size - offset))?;
        if let Some(index) = first_data(&bytes) {
            return Ok(Contents::Data { offset: offset + index });
        }
    }
    Ok(Contents::Blank)
}

fn first_data(bytes: &[u8]) -> Option<u64> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut start = 0;
    for part in bytes.chunks(ZEROS.len()) {
        if part != &ZEROS[..part.len()] {
            let index = part.iter().position(|byte| *byte != 0)?;
            return u64::try_from(start + index).ok();
        }
        start += part.len();
    }
    None
}

fn read_error(name: &Path) -> impl FnOnce(std::io::Error) -> Error {
    |error| Error::of("read", name)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn read(device: &impl FileExt, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    // Lengths are those of the constants above, far below what a usize holds.
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    device.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The parts of a device that were read, each with its offset.
struct Window {
    size: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Window {
    fn load(device: &impl FileExt, size: u64) -> std::io::Result<Self> {
        let head = EDGE.min(size);
        let tail = size.saturating_sub(EDGE).max(head);
        let mut window = Self { size, parts: vec![(0, read(device, 0, head)?)] };
        window.parts.push((tail, read(device, tail, size - tail)?));
        for magic in MAGICS {
            window.load_distant(device, magic)?;
        }
        Ok(window)
    }

    /// Reads what lies around a magic number beyond the edges: the mirrors of some formats.
    fn load_distant(&mut self, device: &impl FileExt, magic: &Magic) -> std::io::Result<()> {
        let Some(offset) = magic.at.offset(self.size) else { return Ok(()) };
        let block = offset / SAMPLE * SAMPLE;
        let covered = self.at(offset, magic.bytes.len()).is_some();
        if !covered && offset < self.size {
            let bytes = read(device, block, SAMPLE.min(self.size - block))?;
            self.parts.push((block, bytes));
        }
        Ok(())
    }

    /// The first byte that is not zero.
    fn data(&self) -> Option<Contents> {
        self.parts.iter().find_map(|(offset, bytes)| {
            Some(Contents::Data { offset: offset + first_data(bytes)? })
        })
    }

    fn at(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.parts.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(length)?)
        })
    }

    /// Whether the device has the mark of [`mark_erased`] and zeros around it.
    fn is_erased(&self) -> bool {
        self.parts.iter().all(|(offset, bytes)| match (offset, bytes.strip_prefix(ERASED)) {
            (0, Some(rest)) => first_data(rest).is_none(),
            (0, None) => false,
            _ => first_data(bytes).is_none(),
        })
    }

    fn number(&self, offset: u64) -> Option<u32> {
        let bytes = self.at(offset, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

fn find_in(window: &Window) -> Vec<Signature> {
    let mut found: Vec<_> = MAGICS.iter().filter_map(|magic| matched(window, magic)).collect();
    found.extend(zfs(window));
    found
}

fn matched(window: &Window, magic: &Magic) -> Option<Signature> {
    let offset = magic.at.offset(window.size)?;
    if window.at(offset, magic.bytes.len())? != magic.bytes {
        return None;
    }
    let name = if magic.name == "ext2" { ext_generation(window, 0x400) } else { magic.name };
    let uuid =
        magic.uuid.and_then(|distance| uuid_at(window, offset.checked_add_signed(distance)?));
    Some(Signature { name, kind: magic.kind, offset, uuid })
}

fn uuid_at(window: &Window, offset: u64) -> Option<String> {
    uuid_text(window.at(offset, 16)?)
}

/// Which of the ext file systems the superblock at `start` is, by its feature words (kernel documentation, ext4/super.rst): one with
/// a feature that ext3 does not know is ext4, else one with a journal is ext3.
fn ext_generation(window: &Window, start: u64) -> &'static str {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    const INCOMPATIBLE_OF_EXT3: u32 = 0x2 | 0x4 | 0x10;
    const READ_ONLY_COMPATIBLE_OF_EXT3: u32 = 0x1 | 0x2 | 0x4;
    let [compatible, incompatible, read_only] =
        [0x5C, 0x60, 0x64].map(|at| window.number(start + at).unwrap_or_default());
    match () {
        () if incompatible & JOURNAL_DEVICE != 0 => "jbd",
        () if incompatible & !INCOMPATIBLE_OF_EXT3 != 0 => "ext4",
        () if read_only & !READ_ONLY_COMPATIBLE_OF_EXT3 != 0 => "ext4",
        () if compatible & HAS_JOURNAL != 0 => "ext3",
        () => "ext2",
    }
}

/// ZFS keeps four labels of 256 KiB, two at each end, each with a ring of uberblocks in its second half, of which any
/// may be the newest (OpenZFS, `vdev_impl.h` and `uberblock_impl.h`).
fn zfs(window: &Window) -> Option<Signature> {
    const LABEL: u64 = 256 << 10;
    const MAGIC: u64 = 0x00BA_B10C;
    let end = window.size / LABEL * LABEL;
    let labels = [0, LABEL, end.saturating_sub(2 * LABEL), end.saturating_sub(LABEL)];
    let places = labels
        .into_iter()
        .flat_map(|label| (0..128_u64).map(move |slot| label + LABEL / 2 + slot * 1024));
    let is_uberblock = |offset: &u64| {
        window
            .at(*offset, 8)
            .is_some_and(|bytes| bytes == MAGIC.to_le_bytes() || bytes == MAGIC.to_be_bytes())
    };
    let offset = places.into_iter().find(is_uberblock)?;
    Some(Signature { name: "zfs_member", kind: Kind::Member, offset, uuid: None })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
