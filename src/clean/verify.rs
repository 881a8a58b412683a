//! Reads back: whether a volume is what a wipe has to leave.

use std::fs::File;
use std::path::Path;

use super::Error;
use crate::host::beneath::Directory;
use crate::host::{device, wipe};

/// Bytes read at each place of a device.
const SAMPLE: u64 = 1 << 20;
/// Places between the first and the last, evenly spread.
const SAMPLES: u64 = 64;

/// Makes sure that a directory holds nothing, `lost+found` aside where that stays.
pub(super) fn directory(root: &Directory, keep_lost_and_found: bool) -> Result<(), Error> {
    for entry in root.first_entries()? {
        let is_kept =
            keep_lost_and_found && entry.is_directory && entry.name.as_c_str() == c"lost+found";
        let held = if is_kept { root.enter(&entry.name)?.first_entries()? } else { vec![entry] };
        if let Some(found) = held.first() {
            let name = String::from_utf8_lossy(found.name.to_bytes());
            return Err(Error::Verify { found: format!("{name} in {}", root.path().display()) });
        }
    }
    Ok(())
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
