//! What a tenant has on its volume: written through targets, known by checksums, read back from wherever it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::dice::Dice;
use crate::site::RAW;

/// Bytes that are written at a time to a device.
const BLOCK: usize = 4096;
/// The most files of a tenant.
const FILES: usize = 6;
/// The most bytes of a file.
const LARGEST: u64 = 48 << 10;

/// What is certainly on the volume, and nothing beside it.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Files at the root, by name.
    Files(BTreeMap<String, [u8; 32]>),
    /// Blocks of a device by offset; the rest is zero.
    Blocks(BTreeMap<u64, Vec<u8>>),
}

impl Payload {
    pub fn none(raw: bool) -> Self {
        if raw { Self::Blocks(BTreeMap::new()) } else { Self::Files(BTreeMap::new()) }
    }

    /// Writes, overwrites or deletes something through `target`.
    pub fn change(&mut self, target: &Path, tenant: &str, dice: &mut Dice) {
        match self {
            Self::Files(files) => {
                if dice.chance(5) {
                    // A tenant's root directory is his: the next one gets it as it was.
                    fs::set_permissions(target, fs::Permissions::from_mode(0o1777)).unwrap();
                    chown(target, Some(1000), Some(1000)).unwrap();
                }
                let name = format!("{tenant}.{}", dice.index(FILES));
                if files.contains_key(&name) && dice.chance(30) {
                    fs::remove_file(target.join(&name)).unwrap();
                    files.remove(&name);
                    return;
                }
                let len = usize::try_from(1 + dice.roll(LARGEST)).unwrap();
                let content = dice.bytes(len);
                fs::write(target.join(&name), &content).unwrap();
                files.insert(name, Sha256::digest(&content).into());
            }
            Self::Blocks(blocks) => {
                let offset = dice.roll(RAW / BLOCK as u64) * BLOCK as u64;
                let content = dice.bytes(BLOCK);
                let device = File::options().write(true).open(target).unwrap();
                device.write_all_at(&content, offset).unwrap();
                device.sync_data().unwrap();
                blocks.insert(offset, content);
            }
        }
    }

    /// What differs at `place` from what is certainly there.
    pub fn differences(&self, place: &Path) -> Vec<String> {
        match self {
            Self::Files(files) => files_differ(files, place),
            Self::Blocks(blocks) => blocks_differ(blocks, place),
        }
    }
}

fn files_differ(files: &BTreeMap<String, [u8; 32]>, place: &Path) -> Vec<String> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{}: {error}", place.display())],
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<_> = names.filter(|name| name != "lost+found").collect();
    there.sort();
    if !there.iter().eq(files.keys()) {
        let known: Vec<_> = files.keys().collect();
        return vec![format!("{} holds {there:?} and not {known:?}", place.display())];
    }
    let altered = files.iter().filter(|(name, sum)| {
        !fs::read(place.join(name)).is_ok_and(|content| Sha256::digest(content)[..] == sum[..])
    });
    altered.map(|(name, _)| format!("{}/{name} was altered", place.display())).collect()
}

fn blocks_differ(blocks: &BTreeMap<u64, Vec<u8>>, device: &Path) -> Vec<String> {
    let mut expected = vec![0; usize::try_from(RAW).unwrap()];
    for (offset, block) in blocks {
        let offset = usize::try_from(*offset).unwrap();
        expected[offset..offset + BLOCK].copy_from_slice(block);
    }
    let there = match fs::read(device) {
        Ok(there) => there,
        Err(error) => return vec![format!("{}: {error}", device.display())],
    };
    match expected.iter().zip(&there).position(|(expected, there)| expected != there) {
        Some(offset) => vec![format!("{} differs at byte {offset}", device.display())],
        None if expected.len() != there.len() => {
            vec![format!("{} has changed its size", device.display())]
        }
        None => Vec::new(),
    }
}
