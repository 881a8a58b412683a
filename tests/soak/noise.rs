//! Mounts that come and go beside the volumes, as an administrator, a backup or another driver makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::dice::Dice;
use crate::facts::{Fact, Facts};
use crate::server::{until, wait_for};
use crate::site::{Kind, Site};

/// Mounts of the noise at a time.
const AT_ONCE: usize = 12;

/// One that makes noise until it is told to stop, and then leaves nothing.
pub struct Noise<'a> {
    pub host: &'a Path,
    pub sites: &'a [Site],
    pub facts: &'a Facts,
    pub dice: &'a mut Dice,
}

/// What was mounted, or taken away, and how it is undone.
enum Made {
    /// A mount on a directory of its own.
    Mount(PathBuf),
    /// A volume's own bind mount that was taken away.
    Unbound(Site),
}

impl Noise<'_> {
    pub fn make(mut self, stop: &AtomicBool) {
        let mut made = Vec::new();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            if made.len() < AT_ONCE && self.dice.chance(55) {
                number += 1;
                made.extend(self.another(number));
            } else if !made.is_empty() {
                undo(made.swap_remove(self.dice.index(made.len())));
            }
            let (began, rest) = (Instant::now(), Duration::from_millis(1 + self.dice.roll(60)));
            until(|| began.elapsed() >= rest);
        }
        made.into_iter().for_each(undo);
    }

    fn another(&mut self, number: u32) -> Option<Made> {
        let site = self.dice.pick(self.sites).clone();
        match self.dice.roll(10) {
            // Beside volumes, by a name that no pool selects.
            0..3 => Some(self.tmpfs(&site.path.with_file_name(format!("noise-{number}")))),
            3..5 => Some(self.tmpfs(&self.host.join(format!("outside/noise-{number}")))),
            5 => {
                let source = self.host.join("outside");
                Some(self.bind(&source, &site.path.with_file_name(format!("noise-{number}"))))
            }
            // A volume that is seen elsewhere for a while.
            6..8 if !matches!(site.kind, Kind::Raw | Kind::Device | Kind::Ext4) => {
                let source = site.path;
                Some(self.bind(&source, &self.host.join(format!("outside/noise-{number}"))))
            }
            8.. if site.kind == Kind::Bind => unbind(&site.path).then(|| {
                self.facts.count(Fact::Unbinds);
                Made::Unbound(site)
            }),
            _ => None,
        }
    }

    fn tmpfs(&self, at: &Path) -> Made {
        fs::create_dir(at).unwrap();
        let none = None::<&Path>;
        mount(none, at, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        fs::write(at.join("noise"), "of nobody").unwrap();
        self.facts.count(Fact::Mounts);
        Made::Mount(at.to_owned())
    }

    fn bind(&self, source: &Path, at: &Path) -> Made {
        fs::create_dir(at).unwrap();
        bind(source, at);
        self.facts.count(Fact::Mounts);
        Made::Mount(at.to_owned())
    }
}

fn bind(source: &Path, at: &Path) {
    let none = None::<&Path>;
    mount(Some(source), at, none, MsFlags::MS_BIND, none).unwrap();
}

fn undo(made: Made) {
    match made {
        Made::Mount(at) => take_away(&at),
        Made::Unbound(site) => bind(&site.source, &site.path),
    }
}

/// Unmounts `at`, also while the server happens to look at it, and removes the directory.
pub fn take_away(at: &Path) {
    wait_for("a mount to be let go", || {
        umount2(at, MntFlags::UMOUNT_NOFOLLOW).map_err(|error| format!("{}: {error}", at.display()))
    });
    fs::remove_dir(at).unwrap();
}

/// Takes a volume's own mount away, if nobody uses it.
fn unbind(at: &Path) -> bool {
    umount2(at, MntFlags::UMOUNT_NOFOLLOW).is_ok()
}
