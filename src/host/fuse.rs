//! A disk that the test plays itself, for what no real one does on demand: a file of a FUSE file system (fuse(4)), which a
//! loop device makes a block device of. It sees every write, and says of discarding what it is told to say.
//!
//! The protocol is `linux/fuse.h`, as far as one file that is its file system's root has need of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::mount::{MntFlags, MsFlags};

use super::loopback::LoopDevice;

/// What becomes of a request to make a range read as zeros without writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discards {
    /// It is not supported, and said not to be.
    Refused,
    /// It is said to be done, and nothing is.
    AreALie,
    /// It is said to be done, and is done as far as this byte.
    EndAt(usize),
}

/// What the disk holds, and what was asked of it.
#[derive(Debug)]
pub(crate) struct Medium {
    pub(crate) bytes: Vec<u8>,
    pub(crate) discards: Discards,
    /// How often a range was to be discarded or zeroed.
    pub(crate) asked: usize,
    /// For each 4 KiB how often something other than zeros was written there, and how often zeros were.
    pub(crate) written: Vec<[u32; 2]>,
}

/// The disk. Dropping it takes it off the machine.
pub(crate) struct PlayedDisk {
    device: Option<LoopDevice>,
    medium: Arc<Mutex<Medium>>,
    place: tempfile::NamedTempFile,
}

const BLOCK: usize = 4096;
const ENOSYS: i32 = 38;
/// The largest write.
const MOST: u32 = 1 << 20;

impl PlayedDisk {
    /// One of `size` zeros. To be used in a mount namespace of its own.
    pub(crate) fn new(size: usize, discards: Discards) -> Self {
        let written = vec![[0; 2]; size.div_ceil(BLOCK)];
        let medium = Medium { bytes: vec![0; size], discards, asked: 0, written };
        let medium = Arc::new(Mutex::new(medium));
        let place = tempfile::NamedTempFile::new().unwrap();
        let channel = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=100600,user_id=0,group_id=0", channel.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(Some("played"), place.path(), Some("fuse"), flags, Some(&*options))
            .unwrap();
        let shared = Arc::clone(&medium);
        std::thread::spawn(move || serve(channel, &shared));
        let file = File::options().read(true).write(true).open(place.path()).unwrap();
        let device = Some(LoopDevice::attach(&file).unwrap());
        Self { device, medium, place }
    }

    pub(crate) fn path(&self) -> &Path {
        self.device.as_ref().unwrap().path()
    }

    pub(crate) fn medium(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap()
    }
}

impl Drop for PlayedDisk {
    fn drop(&mut self) {
        self.device = None;
        let _ = nix::mount::umount2(self.place.path(), MntFlags::MNT_DETACH);
    }
}

/// Answers until the file system is gone.
fn serve(mut channel: File, medium: &Mutex<Medium>) {
    let mut buffer = vec![0; MOST as usize + 4096];
    while let Ok(length) = channel.read(&mut buffer) {
        let request = &buffer[..length];
        let (operation, unique) = (u32_at(request, 4), u64_at(request, 8));
        let Some(answer) = answer(operation, &request[40..], &mut medium.lock().unwrap()) else {
            continue;
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(error.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.extend(body);
        // One that was interrupted is waited for by nobody.
        let _ = channel.write_all(&message);
    }
}

/// The answer to a request: its body or an errno; none to one that wants none.
fn answer(operation: u32, body: &[u8], medium: &mut Medium) -> Option<Result<Vec<u8>, i32>> {
    Some(match operation {
        2 | 36 | 42 => return None, // FORGET, INTERRUPT, BATCH_FORGET
        3 | 4 => Ok(attributes(medium.bytes.len())), // GETATTR, SETATTR
        14 => Ok(vec![0; 16]),      // OPEN
        15 => {
            let (from, to) = range(body, u64::from(u32_at(body, 16)), medium);
            Ok(medium.bytes[from..to].to_vec())
        }
        16 => {
            let (from, to) = range(body, u64::from(u32_at(body, 16)), medium);
            medium.write(from, &body[40..40 + to - from]);
            let mut written = u32::try_from(to - from).unwrap().to_ne_bytes().to_vec();
            written.extend([0; 4]);
            Ok(written)
        }
        17 => Ok(statistics()),
        18 | 20 | 25 | 38 => Ok(Vec::new()), // RELEASE, FSYNC, FLUSH, DESTROY
        26 => Ok(begin()),
        43 => {
            let (from, to) = range(body, u64_at(body, 16), medium);
            medium.discard(from, to)
        }
        _ => Err(ENOSYS),
    })
}

impl Medium {
    fn write(&mut self, from: usize, bytes: &[u8]) {
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        for (number, block) in bytes.chunks(BLOCK).enumerate() {
            let zeros = block.iter().all(|byte| *byte == 0);
            self.written[from / BLOCK + number][usize::from(zeros)] += 1;
        }
    }

    fn discard(&mut self, from: usize, to: usize) -> Result<Vec<u8>, i32> {
        self.asked += 1;
        let end = match self.discards {
            Discards::Refused => return Err(ENOSYS),
            Discards::AreALie => from,
            Discards::EndAt(end) => end.clamp(from, to),
        };
        self.bytes[from..end].fill(0);
        Ok(Vec::new())
    }
}

/// The range that a request names by an offset, its second number, and `length`.
fn range(body: &[u8], length: u64, medium: &Medium) -> (usize, usize) {
    let from = usize::try_from(u64_at(body, 8)).unwrap().min(medium.bytes.len());
    let to = from.saturating_add(usize::try_from(length).unwrap()).min(medium.bytes.len());
    (from, to)
}

fn begin() -> Vec<u8> {
    // BIG_WRITES and MAX_PAGES.
    let words = [7_u32, 31, MOST, 1 << 5 | 1 << 22, 0, MOST, 1, 256, 0];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.resize(64, 0);
    body
}

fn attributes(size: usize) -> Vec<u8> {
    let long = [0, 0, 1, size as u64, (size / 512) as u64, 0, 0, 0];
    let short = [0_u32, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0];
    let long = long.iter().flat_map(|word| word.to_ne_bytes());
    long.chain(short.iter().flat_map(|word| word.to_ne_bytes())).collect()
}

fn statistics() -> Vec<u8> {
    let mut body = vec![0; 80];
    for offset in [40, 48] {
        body[offset..offset + 4].copy_from_slice(&4096_u32.to_ne_bytes());
    }
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
