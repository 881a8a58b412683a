//! Wipes a block device: discard, zero, shred, and the quick way for one that will be formatted.
//!
//! Everything is on one exclusively opened descriptor (rule 5). A wipe that was interrupted begins again from the
//! start: nothing says what became of the device in between, and half a guess is no wipe.

use std::fs::File;
use std::path::Path;

use super::Error;
use super::pace::Pace;
use super::progress::Progress;
use crate::host::device::traffic::Disks;
use crate::host::signature::{self, Contents};
use crate::host::{device, wipe};
use crate::volume::VolumeName;

/// Bytes wiped between two looks at whether to stop.
const STEP: u64 = 64 << 20;
/// Bytes of random data written at once.
const NOISE: usize = 4 << 20;
/// Bytes at the beginning and at the end of a device that [`Target::erase`] zeroes whatever they hold.
const EDGE: u64 = 1 << 20;
/// How many signatures and strays [`Target::erase`] takes off before it gives up.
const STRAYS: usize = 256;

/// An open device and what is being done with it.
pub(super) struct Target<'a> {
    pub(super) device: &'a File,
    pub(super) path: &'a Path,
    pub(super) volume: &'a VolumeName,
    pub(super) progress: &'a Progress,
}

impl Target<'_> {
    /// Discards every block where the device then reads zeros, and zeroes the others.
    pub(super) fn discard(&self) -> Result<(), Error> {
        self.each_step(|pace, offset, length| {
            pace.keep()?;
            if !wipe::discard(self.device, self.path, offset, length)? {
                wipe::zero(self.device, self.path, offset, length)?;
            }
            Ok(())
        })
    }

    /// Overwrites every block with zeros.
    pub(super) fn zero(&self) -> Result<(), Error> {
        self.each_step(|pace, offset, length| {
            pace.keep()?;
            Ok(wipe::zero(self.device, self.path, offset, length)?)
        })
    }

    /// Overwrites every block with random data `passes` times, then with zeros. While the device writes one piece, the next
    /// is made.
    pub(super) fn shred(&self, passes: u32) -> Result<(), Error> {
        let mut noise = wipe::Noise::new()?;
        let mut buffer = vec![0; NOISE];
        for _ in 0..passes {
            let mut behind = (0, 0);
            self.each_step(|pace, offset, length| {
                let mut written = 0;
                while written < length {
                    self.progress.check()?;
                    if pace.is_due() {
                        let (before, bytes) = std::mem::take(&mut behind);
                        wipe::wait(self.device, self.path, before, bytes)?;
                        pace.rest()?;
                    }
                    // The remainder is at most the buffer's length, which a usize holds.
                    let most = usize::try_from(length - written).unwrap_or(NOISE).min(NOISE);
                    noise.fill(&mut buffer[..most]);
                    let at = offset + written;
                    wipe::overwrite(self.device, self.path, at, &buffer[..most])?;
                    let most = u64::try_from(most).unwrap_or(length);
                    let (before, bytes) = std::mem::replace(&mut behind, (at, most));
                    if bytes > 0 {
                        wipe::wait(self.device, self.path, before, bytes)?;
                    }
                    written += most;
                }
                Ok(())
            })?;
        }
        self.zero()
    }

    /// Takes everything off the device that announces something, without writing all of it: for one that is formatted
    /// before its next tenant sees it, and never shows its blocks. A mark on it tells whoever would hand it out raw.
    pub(super) fn erase(&self) -> Result<(), Error> {
        let size = device::size(self.device, self.path)?;
        let edge = EDGE.min(size);
        self.clear(0, edge)?;
        self.clear(size - edge, edge)?;
        signature::mark_erased(self.device, self.path)?;
        for _ in 0..STRAYS {
            self.progress.check()?;
            wipe::settle(self.device, self.path)?;
            match signature::contents(self.device, self.path)? {
                Contents::Erased => return Ok(()),
                // Something else writes here.
                found @ (Contents::Blank | Contents::Data { .. }) => {
                    return Err(Error::Verify { found: found.to_string() });
                }
                Contents::Signatures(all) => {
                    for found in all {
                        self.clear_around(found.offset, size)?;
                    }
                    signature::mark_erased(self.device, self.path)?;
                }
            }
        }
        let found = signature::contents(self.device, self.path)?.to_string();
        Err(Error::Verify { found })
    }

    fn clear_around(&self, offset: u64, size: u64) -> Result<(), Error> {
        const BLOCK: u64 = 4096;
        let start = offset.min(size) / BLOCK * BLOCK;
        self.clear(start, (2 * BLOCK).min(size - start))
    }

    fn clear(&self, offset: u64, length: u64) -> Result<(), Error> {
        wipe::zero(self.device, self.path, offset, length)?;
        self.progress.wiped(length);
        Ok(())
    }

    /// Does something with every range of the device, at a pace that leaves its disk to others, and makes it durable.
    fn each_step(
        &self,
        mut act: impl FnMut(&Pace<'_>, u64, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let size = device::size(self.device, self.path)?;
        let disks = Disks::beneath(self.device, self.path)?;
        let served = || disks.served();
        let pace = Pace::of(disks.paths(), served, self.volume, self.progress)?;
        let mut offset = 0;
        while offset < size {
            self.progress.check()?;
            let length = STEP.min(size - offset);
            act(&pace, offset, length)?;
            self.progress.wiped(length);
            offset += length;
        }
        Ok(wipe::settle(self.device, self.path)?)
    }
}
