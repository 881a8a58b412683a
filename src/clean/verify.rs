//! Reads back: whether a volume is what a wipe has to leave.

use std::fs::File;
use std::path::Path;

use super::{Error, delete};
use crate::host::attributes::Attributes;
use crate::host::beneath::{Directory, LOST_AND_FOUND};
use crate::host::{self, Errno, attributes, device, wipe};

/// Bytes read at each place of a device.
const SAMPLE: u64 = 1 << 20;
/// Places between the first and the last, one in each of so many equal parts.
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

/// Makes sure that samples of a device, its first and last mebibyte among them, read as zeros from the device itself. The
/// others lie elsewhere each time, so that what one look misses is not missed by all.
pub(super) fn device(device: &File, path: &Path) -> Result<(), Error> {
    wipe::settle(device, path)?;
    let size = device::size(device, path)?;
    let length = SAMPLE.min(size);
    let last = size - length;
    let mut chance = wipe::Noise::new()?;
    let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
    for offset in places(last, || chance.number()) {
        if !wipe::reads_zero(device, path, offset, &mut buffer)? {
            let found = format!("data in the mebibyte at byte {offset}");
            return Err(Error::Verify { found });
        }
    }
    Ok(())
}

/// Where samples begin: at 0, at `last`, and between them once in each of equal parts.
fn places(last: u64, mut chance: impl FnMut() -> u64) -> impl Iterator<Item = u64> {
    let part = last / SAMPLES;
    let between = (0..SAMPLES).map(move |number| number * part + chance() % part.max(1));
    std::iter::once(0).chain(between).chain([last])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_one_in_each_part_and_at_both_ends_whatever_chance_says() {
        for last in [0, 1, 63, 64, 10_000] {
            for chance in [0, 1, 7, u64::MAX] {
                let all: Vec<_> = places(last, || chance).collect();
                assert_eq!((all[0], all[all.len() - 1]), (0, last));
                assert!(all.is_sorted(), "{all:?}");
                assert_eq!(all.len() as u64, SAMPLES + 2);
            }
        }
        let (low, high) = (places(6400, || 0), places(6400, || 99));
        assert!(low.zip(high).skip(1).take(64).all(|(low, high)| low + 99 == high));
    }
}
