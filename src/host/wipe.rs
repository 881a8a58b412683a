//! Discard, zero and overwrite ranges of a block device.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::libc;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use super::{Errno, Error, Result};

mod ioctl {
    nix::ioctl_none!(blkflsbuf, 0x12, 97);
    nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
}

/// Tells an open device that a range is unused, where the device then reads zeros there; says whether it does.
///
/// fallocate(2) on a block device unmaps by "write zeroes", for which the kernel takes only what is certain to read back
/// as zeros, unlike a plain discard, which a device may ignore.
pub fn discard(device: &File, name: &Path, offset: u64, length: u64) -> Result<bool> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(device, how, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::INVAL) => {
            hint(device, offset, length);
            Ok(false)
        }
        Err(errno) => Err(Error::of("fallocate", name)(errno)),
    }
}

/// A plain discard: worth its while for a flash device that promises nothing, and nothing to rely on.
fn hint(device: &File, offset: u64, length: u64) {
    let range = [offset, length];
    // SAFETY: the request reads two 64-bit numbers, which `range` has; the descriptor is open.
    let _ = unsafe { ioctl::blkdiscard(device.as_raw_fd(), &raw const range) };
}

/// Makes a range of an open device read as zeros (`BLKZEROOUT`): by the device's own command where it has one, else the
/// kernel writes zeros.
pub fn zero(device: &File, name: &Path, offset: u64, length: u64) -> Result<()> {
    let range = [offset, length];
    // SAFETY: the request reads two 64-bit numbers, which `range` has; the descriptor is open.
    let zeroed = unsafe { ioctl::blkzeroout(device.as_raw_fd(), &raw const range) };
    zeroed.map(drop).map_err(Error::of_nix("ioctl(BLKZEROOUT)", name))
}

/// Writes `bytes` to an open device at `offset` and has the kernel begin to move them there, without waiting for that:
/// meanwhile the next ones can be made. [`wait`] waits, and [`settle`] makes them durable.
pub fn overwrite(device: &File, name: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    device.write_all_at(bytes, offset).map_err(Error::of_io("pwrite", name))?;
    let length = u64::try_from(bytes.len()).unwrap_or_default();
    sync_range(device, name, (offset, length), libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until a range that was overwritten has been moved to the device, and has the kernel keep none of it in memory,
/// where it would take the place of what others read.
pub fn wait(device: &File, name: &Path, offset: u64, length: u64) -> Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(device, name, (offset, length), all)?;
    // No more than advice.
    let _ = fadvise(device, offset, NonZeroU64::new(length), Advice::DontNeed);
    Ok(())
}

/// sync_file_range(2): of data only, and no word to the device to make it durable.
fn sync_range(
    device: &File,
    name: &Path,
    (offset, length): (u64, u64),
    how: libc::c_uint,
) -> Result<()> {
    let [offset, length] = [offset, length].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    // SAFETY: the call takes integers only; the descriptor is open.
    match unsafe { libc::sync_file_range(device.as_raw_fd(), offset, length, how) } {
        0 => Ok(()),
        _ => Err(Error::of_io("sync_file_range", name)(std::io::Error::last_os_error())),
    }
}

/// Makes everything that was written durable, and forgets what the kernel keeps of the device in memory, so that
/// reading asks the device itself (`BLKFLSBUF`).
pub fn settle(device: &File, name: &Path) -> Result<()> {
    device.sync_all().map_err(Error::of_io("fsync", name))?;
    // SAFETY: the request takes no argument; the descriptor is open.
    let flushed = unsafe { ioctl::blkflsbuf(device.as_raw_fd()) };
    flushed.map(drop).map_err(Error::of_nix("ioctl(BLKFLSBUF)", name))
}

/// Reads a range of an open device and says whether it is all zeros.
pub fn reads_zero(device: &File, name: &Path, offset: u64, buffer: &mut [u8]) -> Result<bool> {
    device.read_exact_at(buffer, offset).map_err(Error::of_io("pread", name))?;
    Ok(is_zero(buffer))
}

/// Compared in blocks, which the C library does many bytes at a time.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|block| *block == ZEROS[..block.len()])
}

/// Random bytes, without end: xoshiro256++ seeded by the kernel. Not for keys; to overwrite, what matters is that the
/// device can neither compress nor guess them.
#[derive(Debug)]
pub struct Noise([u64; 4]);

impl Noise {
    /// Noise from a fresh seed.
    pub fn new() -> Result<Self> {
        let mut seed = [0_u8; 32];
        let path = Path::new("/dev/urandom");
        // SAFETY: the call writes at most as many bytes as the buffer has.
        let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        if usize::try_from(got) != Ok(seed.len()) {
            return Err(Error::of("getrandom", path)(Errno::IO));
        }
        let (words, _) = seed.as_chunks::<8>();
        let mut state = [1; 4];
        for (state, word) in state.iter_mut().zip(words) {
            *state = u64::from_ne_bytes(*word);
        }
        Ok(Self(state))
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let (words, rest) = buffer.as_chunks_mut::<8>();
        for word in words {
            *word = self.number().to_ne_bytes();
        }
        let word = self.number().to_ne_bytes();
        rest.copy_from_slice(&word[..rest.len()]);
    }

    /// A number.
    pub fn number(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        let (b, a) = (b ^ c, a ^ d);
        let c = c ^ (self.0[1] << 17);
        self.0 = [a, b, c, d.rotate_left(45)];
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_is_not_zero_is_found_wherever_it_is() {
        for length in [1, 7, 4095, 4096, 4097, 10_000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes), "{length}");
            for place in [0, length / 2, length - 1] {
                bytes[place] = 1;
                assert!(!is_zero(&bytes), "{place} of {length}");
                bytes[place] = 0;
            }
        }
        assert!(is_zero(&[]));
    }

    #[test]
    fn noise_reaches_the_last_byte_whatever_the_length() {
        let mut noise = Noise::new().unwrap();
        for length in [1_usize, 7, 8, 9, 4095] {
            let is_written = (0..64).any(|_| {
                let mut bytes = vec![0; length];
                noise.fill(&mut bytes);
                bytes[length - 1] != 0
            });
            assert!(is_written, "{length}");
        }
    }

    #[test]
    fn a_device_that_cannot_promise_zeros_says_so_and_is_no_error() {
        let none = std::fs::File::options().write(true).open("/dev/null").unwrap();

        assert_eq!(discard(&none, Path::new("/dev/null"), 0, 4096), Ok(false));
    }
}
