//! Reads back: whether a volume is what a wipe has to leave.

use std::fs::File;
use std::path::Path;

use super::{Error, delete};
use crate::host::attributes::Attributes;
use crate::host::beneath::{Directory, LOST_AND_FOUND};
use crate::host::{self, Errno, attributes, device, wipe};

/// Bytes read at each place of a device.
const SAMPLE: u64 = 1 << 20;
/// Places between the first and the last, evenly spread.
const SAMPLES: u64 = 64;

/// Makes sure that a directory holds nothing, `lost+found` aside where that stays.
pub(super) fn directory(root: &Directory, keep_lost_and_found: bool) -> Result<(), Error> {
    match root.held(keep_lost_and_found)? {
        Some(held) => Err(Error::Verify { found: held.display().to_string() }),
        None => Ok(()),
    }
}

/// Makes sure that `lost+found`, where there is one, looks as mkfs makes it.
pub(super) fn lost_and_found(root: &Directory) -> Result<(), Error> {
    let kept = match root.enter(LOST_AND_FOUND) {
        Err(host::Error { errno: Errno::NOENT, .. }) => return Ok(()),
        kept => kept?,
    };
    looks(&kept, &delete::lost_and_found())
}

/// Makes sure that a directory looks as `wanted` says.
pub(super) fn looks(directory: &Directory, wanted: &Attributes) -> Result<(), Error> {
    let path = directory.path();
    if attributes::read(directory, path)?.agree_with(wanted) {
        return Ok(());
    }
    let found = format!("another owner, mode, flag or attribute of {}", path.display());
    Err(Error::Verify { found })
}

/// Makes sure that samples of a device, its first and last mebibyte among them, read as zeros from the device itself.
pub(super) fn device(device: &File, path: &Path) -> Result<(), Error> {
    wipe::settle(device, path)?;
    let size = device::size(device, path)?;
    let length = SAMPLE.min(size);
    let last = size - length;
    let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
    for sample in 0..=SAMPLES + 1 {
        // The last sample ends with the device; the others begin at multiples of a part of it.
        let offset = last / (SAMPLES + 1) * sample;
        let offset = if sample == SAMPLES + 1 { last } else { offset };
        if !wipe::reads_zero(device, path, offset, &mut buffer)? {
            let found = format!("data in the mebibyte at byte {offset}");
            return Err(Error::Verify { found });
        }
    }
    Ok(())
}
