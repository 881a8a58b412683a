//! Reads as much of a device as a given time allows, spread ever more densely, until something is not zero.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::{first_data, read};

/// Bytes read at a place: as much as a disk reads in the time that it takes to go there.
const CHUNK: u64 = 64 << 10;
/// Places that are read however long that takes.
const LEAST: u64 = 256;

/// Where something other than zero is on a device of `size` bytes. A device that can be read within `time`, and one of
/// at most 16 MiB, is read to the last byte; of another, every part is read as densely as any other.
pub(super) fn data(
    device: &impl FileExt,
    size: u64,
    time: Duration,
) -> std::io::Result<Option<u64>> {
    let began = Instant::now();
    let chunks = size.div_ceil(CHUNK);
    let mut stride = chunks.div_ceil(LEAST).next_power_of_two();
    let mut first = 0;
    let mut step = stride;
    loop {
        let mut chunk = first;
        while chunk < chunks {
            let offset = chunk * CHUNK;
            let bytes = read(device, offset, CHUNK.min(size - offset))?;
            if let Some(index) = first_data(&bytes) {
                return Ok(Some(offset + index));
            }
            if first > 0 && began.elapsed() > time {
                return Ok(None);
            }
            chunk += step;
        }
        if stride == 1 {
            return Ok(None);
        }
        // The places in the middle between those that were read.
        (first, step) = (stride / 2, stride);
        stride /= 2;
    }
}
