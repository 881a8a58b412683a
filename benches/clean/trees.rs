//! What tenants leave behind.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::{MIB, run};

/// What there is of one.
#[derive(Debug, Clone, Copy)]
pub enum Tree {
    /// Small files, 200 to a directory.
    Small(usize),
    /// Small files in one directory.
    Huge(usize),
    /// Chains of directories, each with a file.
    Deep { chains: usize, levels: usize },
    /// Files of a gibibyte each.
    Large(usize),
}

/// Files of a directory of [`Tree::Small`].
const FILES: usize = 200;
const SMALL: &[u8] = &[b'x'; 100];

impl Tree {
    /// Makes it in a directory, and has it on the disk.
    pub fn grow(self, at: &Path) {
        fs::create_dir(at).unwrap();
        match self {
            Self::Small(count) => {
                for number in 0..count.div_ceil(FILES) {
                    let directory = at.join(format!("directory-{number}"));
                    fs::create_dir(&directory).unwrap();
                    small(&directory, FILES.min(count - number * FILES));
                }
            }
            Self::Huge(count) => small(at, count),
            Self::Deep { chains, levels } => {
                for chain in 0..chains {
                    let mut directory = at.join(chain.to_string());
                    for _ in 0..levels {
                        fs::create_dir(&directory).unwrap();
                        small(&directory, 1);
                        directory.push("d");
                    }
                }
            }
            Self::Large(count) => {
                let bytes = vec![1; 4 << 20];
                for number in 0..count {
                    let mut file = File::create(at.join(number.to_string())).unwrap();
                    (0..256).for_each(|_| file.write_all(&bytes).unwrap());
                }
            }
        }
        settle(at);
    }

    /// Bytes of a disk that has room for it, with an inode for each file as mkfs.ext4 gives them out.
    pub fn room(self) -> u64 {
        match self {
            Self::Small(count) | Self::Huge(count) => (8 << 30).max(count as u64 * 17 * 1024),
            Self::Deep { .. } => 8 << 30,
            Self::Large(count) => (count as u64 + 2) * 1024 * MIB,
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(count) => write!(formatter, "{count} small files"),
            Self::Huge(count) => write!(formatter, "{count} in one directory"),
            Self::Deep { chains, levels } => write!(formatter, "{chains} × {levels} levels"),
            Self::Large(count) => write!(formatter, "{count} files of 1 GiB"),
        }
    }
}

fn small(directory: &Path, count: usize) {
    for number in 0..count {
        let spread = number.wrapping_mul(2_654_435_761) & 0xFFFF_FFFF;
        fs::write(directory.join(format!("file-{spread:08x}-{number}")), SMALL).unwrap();
    }
}

/// Has everything on the disk that a file system was given.
pub fn settle(at: &Path) {
    run(Command::new("sync").arg("-f").arg(at));
}

/// Forgets what memory has of files (kernel documentation, admin-guide/sysctl/vm.rst).
pub fn forget() {
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}
