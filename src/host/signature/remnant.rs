//! What is left of a file system whose beginning was overwritten: the backups that ext2, ext3, ext4 and XFS keep all over
//! the device.
//!
//! Where they are follows from sizes that only the lost superblock knew, so that all usual ones are tried. Sources: the
//! kernel's documentation of ext4 (block groups, `sparse_super`), xfsprogs (`calc_default_ag_geometry`) and
//! `xfs_format.h`.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use super::{Kind, SAMPLE, Signature, Window, ext_generation, read, uuid_at};

/// The backups of ext and XFS superblocks that are on a device of `size` bytes.
pub(super) fn find(device: &impl FileExt, size: u64) -> std::io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for (places, look) in
        [(ext_places(size), ext as fn(&Window, u64) -> Option<Signature>), (xfs_places(size), xfs)]
    {
        for offset in places {
            let bytes = read(device, offset, SAMPLE.min(size - offset))?;
            let window = Window { size, parts: vec![(offset, bytes)] };
            found.extend(look(&window, offset));
        }
    }
    Ok(found)
}

/// Where backups of an ext superblock are: at the beginning of block groups 1, of the powers of 3, 5 and 7, and of the
/// last one, whose size follows from the block's.
fn ext_places(size: u64) -> BTreeSet<u64> {
    let mut places = BTreeSet::new();
    for block in (10..=16).map(|bits| 1_u64 << bits) {
        // A group is what one block of bits can tell of.
        let group = 8 * block * block;
        let groups = size.div_ceil(group);
        let powers = [3, 5, 7].into_iter().flat_map(|base: u64| {
            std::iter::successors(Some(1), move |power: &u64| power.checked_mul(base))
                .take_while(|power| *power < groups)
        });
        // Blocks of 1 KiB leave the first one to the boot sector.
        let first = if block == 1024 { 1024 } else { 0 };
        let starts = powers.chain(groups.checked_sub(1)).map(|number| number * group + first);
        places.extend(starts.filter(|offset| (group..size).contains(offset)));
    }
    places
}

fn ext(window: &Window, offset: u64) -> Option<Signature> {
    let is_magic = window.at(offset + 0x38, 2)? == b"\x53\xef";
    is_magic.then(|| Signature {
        name: ext_generation(window, offset),
        kind: Kind::Filesystem,
        offset,
        uuid: uuid_at(window, offset + 0x68),
    })
}

/// Where allocation groups of an XFS begin: a device is divided into equal parts, by default into 4, else mostly into
/// powers of two or one a processor; none is larger than 1 TiB.
fn xfs_places(size: u64) -> BTreeSet<u64> {
    const BLOCK: u64 = 4096;
    const MOST: u64 = 64;
    const LARGEST: u64 = (1 << 40) - BLOCK;
    let divided = (2..=MOST).map(|count| (size / BLOCK).div_ceil(count) * BLOCK);
    let mut places = BTreeSet::new();
    for group in divided.chain([LARGEST]) {
        places.extend([1, 2, 3].map(|number| number * group).into_iter().filter(|at| *at < size));
    }
    places.remove(&0);
    places
}

/// The superblock's copy at the beginning of a group, or the headers that follow it: one a sector of 512 bytes.
fn xfs(window: &Window, offset: u64) -> Option<Signature> {
    let headers: [(u64, &[u8]); 4] =
        [(0, b"XFSB"), (512, b"XAGF"), (1024, b"XAGI"), (1536, b"XAFL")];
    let is_there = |(at, magic): &(u64, &[u8])| window.at(offset + at, 4) == Some(*magic);
    headers.iter().find(|header| is_there(header)).map(|(at, _)| Signature {
        name: "xfs",
        kind: Kind::Filesystem,
        offset: offset + at,
        uuid: (*at == 0).then(|| uuid_at(window, offset + 0x20)).flatten(),
    })
}
