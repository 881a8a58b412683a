//! One mount asked of the kernel (statmount(2)) by a descriptor on it: what its line in the mount table says, in a time that
//! does not depend on how many mounts there are.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::libc;
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::{DeviceNumber, Errno, Mount};

/// `STATX_MNT_ID_UNIQUE` (linux/stat.h, since Linux 6.8): asks statx(2) for an id that no later mount gets, in place of the
/// one that is given out again.
pub(in crate::host) const UNIQUE_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What is asked for, and what an answer has at least (linux/mount.h). `STATMOUNT_SB_SOURCE` is the newest of them, since
/// Linux 6.13.
mod mask {
    pub(super) const SUPERBLOCK: u64 = 1;
    pub(super) const MOUNT: u64 = 1 << 1;
    pub(super) const PROPAGATE_FROM: u64 = 1 << 2;
    pub(super) const ROOT: u64 = 1 << 3;
    pub(super) const POINT: u64 = 1 << 4;
    pub(super) const FS_TYPE: u64 = 1 << 5;
    pub(super) const OPTIONS: u64 = 1 << 7;
    pub(super) const SUBTYPE: u64 = 1 << 8;
    pub(super) const SOURCE: u64 = 1 << 9;
    pub(super) const NEEDED: u64 = SUPERBLOCK | MOUNT | ROOT | POINT | FS_TYPE | SOURCE;
    pub(super) const ASKED: u64 = NEEDED | PROPAGATE_FROM | OPTIONS | SUBTYPE;
}

/// Names of flags, in the order in which the mount table has them.
type Flags = &'static [(u64, &'static str)];

/// `MOUNT_ATTR_*`; access times and what is read-only apart.
const ATTRIBUTES: [Flags; 2] = [
    &[(0x2, ",nosuid"), (0x4, ",nodev"), (0x8, ",noexec")],
    &[(0x80, ",nodiratime"), (0x0020_0000, ",nosymfollow"), (0x0010_0000, ",idmapped")],
];
const READ_ONLY: u64 = 1;
/// Access times are one field with three values, of which the strict one has no name.
const ATIME: u64 = 0x70;
const RELATIVE_ATIME: u64 = 0;
const NO_ATIME: u64 = 0x10;
/// `SB_*`.
const SUPERBLOCK: Flags =
    &[(1 << 4, ",sync"), (1 << 7, ",dirsync"), (1 << 6, ",mand"), (1 << 25, ",lazytime")];

/// Bytes of `struct statmount` before its text.
const HEAD: usize = 512;
/// Bytes that answers take at first; options may need more.
const ROOM: usize = 4096;
/// More than any mount has to say.
const MOST: usize = 1 << 20;

/// The mount that `file` was reached through. Absent where the kernel cannot say all of it: before Linux 6.13, or where
/// the mount is out of reach of this namespace or root directory.
pub(super) fn mount_of(file: BorrowedFd<'_>) -> Option<Mount> {
    // Nothing that a file system would have to be asked for.
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = statx(file, c"", flags, UNIQUE_ID).ok()?;
    let has_id = StatxFlags::from_bits_retain(stat.stx_mask).contains(UNIQUE_ID);
    let answer = if has_id { ask(stat.stx_mnt_id)? } else { return None };
    Answer(&answer).mount()
}

/// The bytes of a `struct statmount`.
fn ask(id: u64) -> Option<Vec<u8>> {
    let mut answer = vec![0; ROOM];
    loop {
        match statmount(id, &mut answer) {
            Ok(()) => return Some(answer),
            Err(Errno::OVERFLOW) if answer.len() < MOST => answer.resize(answer.len() * 4, 0),
            Err(_) => return None,
        }
    }
}

/// `struct mnt_id_req`, its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    id: u64,
    mask: u64,
}

/// statmount(2), which no crate wraps. Its number is the same on every architecture.
fn statmount(id: u64, answer: &mut [u8]) -> std::result::Result<(), Errno> {
    const NUMBER: libc::c_long = 457;
    const SIZE: u32 = 24;
    const { assert!(size_of::<Request>() == SIZE as usize) };
    let request = Request { size: SIZE, spare: 0, id, mask: mask::ASKED };
    // SAFETY: the kernel reads `SIZE` bytes of a struct that has its layout and outlives the call, and writes at most as many
    // bytes as the buffer has, of which every value is valid.
    let result = unsafe {
        libc::syscall(NUMBER, &raw const request, answer.as_mut_ptr(), answer.len(), 0_u32)
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// An answer: fields at fixed places, and strings after [`HEAD`].
struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn mount(&self) -> Option<Mount> {
        if self.long(8)? & mask::NEEDED != mask::NEEDED {
            return None;
        }
        let mut fs_type = self.text(36)?;
        if let Some(subtype) = self.optional(mask::SUBTYPE, 120) {
            fs_type.push(b'.');
            fs_type.extend(subtype);
        }
        Some(Mount {
            id: self.word(56)?.into(),
            parent: self.word(60)?.into(),
            device: DeviceNumber { major: self.word(16)?, minor: self.word(20)? },
            root: PathBuf::from(OsString::from_vec(self.text(104)?)),
            mount_point: PathBuf::from(OsString::from_vec(self.text(108)?)),
            options: attributes(self.long(64)?).into(),
            propagation: self.propagation()?.into(),
            fs_type: OsString::from_vec(fs_type),
            source: OsString::from_vec(self.text(124)?),
            super_options: self.super_options()?,
        })
    }

    fn propagation(&self) -> Option<String> {
        const UNBINDABLE: u64 = 1 << 17;
        const SLAVE: u64 = 1 << 19;
        const SHARED: u64 = 1 << 20;
        let (kind, master) = (self.long(72)?, self.long(88)?);
        let mut tags = Vec::new();
        if kind & SHARED != 0 {
            tags.push(format!("shared:{}", self.long(80)?));
        }
        if kind & SLAVE != 0 {
            tags.push(format!("master:{master}"));
            let from = self.long(96)?;
            if self.long(8)? & mask::PROPAGATE_FROM != 0 && from != 0 && from != master {
                tags.push(format!("propagate_from:{from}"));
            }
        }
        if kind & UNBINDABLE != 0 {
            tags.push("unbindable".to_owned());
        }
        Some(tags.join(" "))
    }

    fn super_options(&self) -> Option<OsString> {
        let mut options = with_flags(self.word(32)?.into(), &[SUPERBLOCK]).into_bytes();
        if let Some(own) = self.optional(mask::OPTIONS, 4).filter(|own| !own.is_empty()) {
            options.push(b',');
            options.extend(own);
        }
        Some(OsString::from_vec(options))
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.0.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.0.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// The string whose place stands at `at`.
    fn text(&self, at: usize) -> Option<Vec<u8>> {
        let begin = HEAD + usize::try_from(self.word(at)?).ok()?;
        let text = self.0.get(begin..)?;
        Some(text[..text.iter().position(|byte| *byte == 0)?].to_vec())
    }

    fn optional(&self, mask: u64, at: usize) -> Option<Vec<u8>> {
        if self.long(8)? & mask == 0 { None } else { self.text(at) }
    }
}

fn attributes(flags: u64) -> String {
    let [first, last] = ATTRIBUTES;
    let atime = match flags & ATIME {
        RELATIVE_ATIME => ",relatime",
        NO_ATIME => ",noatime",
        _ => "",
    };
    // The table has `noatime` before `nodiratime` and `relatime` after it.
    let (before, after) = if atime == ",noatime" { (atime, "") } else { ("", atime) };
    let [directories, rest @ ..] = last else { return String::new() };
    let named = |of: Flags| with_names(flags, of);
    [
        beginning(flags).to_owned(),
        named(first),
        before.to_owned(),
        named(std::slice::from_ref(directories)),
        after.to_owned(),
        named(rest),
    ]
    .concat()
}

fn with_flags(flags: u64, all: &[Flags]) -> String {
    let named = all.iter().map(|some| with_names(flags, some));
    std::iter::once(beginning(flags).to_owned()).chain(named).collect()
}

fn beginning(flags: u64) -> &'static str {
    if flags & READ_ONLY == 0 { "rw" } else { "ro" }
}

fn with_names(flags: u64, names: Flags) -> String {
    names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::mount::{MountPropagationFlags, mount_change};

    use super::*;
    use crate::host::identify;
    use crate::host::mount::fixture::{Disk, bind, mount, scratch, tmpfs};
    use crate::host::mountinfo::MountTable;
    use crate::host::namespace::isolated;

    /// What the kernel says of the mount that the topmost at `path` is, and the line of the table.
    fn both(path: &Path) -> (Option<Mount>, Mount) {
        let file = identify::open(path).unwrap();
        let table = MountTable::read().unwrap();
        (mount_of(file.as_fd()), table.at(path).unwrap().clone())
    }

    #[test]
    fn what_the_kernel_says_of_one_mount_is_its_line_in_the_table() {
        isolated(|| {
            let (_guard, base) = scratch();
            let [one, two, odd] = ["one", "two", "with space\\\t\n"].map(|name| base.join(name));
            let disk = Disk::formatted("ext4", 8);
            tmpfs(&one);
            mount("ext4", disk.path(), &two);
            std::fs::create_dir(one.join("a b")).unwrap();
            bind(&one.join("a b"), &odd);
            mount_change(&odd, MountPropagationFlags::SHARED).unwrap();
            rustix::mount::mount_remount(&two, rustix::mount::MountFlags::RDONLY, c"").unwrap();
            let strict = rustix::mount::MountFlags::BIND
                | rustix::mount::MountFlags::NOSUID
                | rustix::mount::MountFlags::NOATIME
                | rustix::mount::MountFlags::NODIRATIME;
            rustix::mount::mount_remount(&odd, strict, c"").unwrap();

            for path in [&one, &two, &odd, Path::new("/"), Path::new("/proc")] {
                let (asked, listed) = both(path);
                // Kernels before 6.13 do not say.
                assert!(asked.is_none_or(|asked| asked == listed), "{}", path.display());
            }
        });
    }

    #[test]
    fn a_directory_that_was_removed_beneath_a_bind_mount_is_marked_as_in_the_table() {
        isolated(|| {
            let (_guard, base) = scratch();
            let (one, two) = (base.join("one"), base.join("two"));
            tmpfs(&one);
            std::fs::create_dir(one.join("gone")).unwrap();
            bind(&one.join("gone"), &two);
            std::fs::remove_dir(one.join("gone")).unwrap();

            let (asked, listed) = both(&two);

            assert!(listed.root.ends_with("gone//deleted"), "{listed:?}");
            assert!(asked.is_none_or(|asked| asked == listed));
        });
    }

    #[test]
    fn attributes_stand_in_the_order_of_the_table() {
        for (flags, text) in [
            (0, "rw,relatime"),
            (0x20, "rw"),
            (0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80, "ro,nosuid,nodev,noexec,noatime,nodiratime"),
            (0x80 | 0x0020_0000, "rw,nodiratime,relatime,nosymfollow"),
        ] {
            assert_eq!(attributes(flags), text);
        }
    }

    #[test]
    fn an_answer_that_lacks_something_or_ends_early_is_none() {
        let whole = {
            let mut answer = vec![0; HEAD + 1];
            answer[8..16].copy_from_slice(&mask::NEEDED.to_ne_bytes());
            answer
        };
        let mut lacking = whole.clone();
        lacking[8..16].copy_from_slice(&(mask::NEEDED & !mask::SOURCE).to_ne_bytes());

        assert!(Answer(&whole).mount().is_some());
        assert!(Answer(&lacking).mount().is_none());
        assert!((0..whole.len()).all(|length| Answer(&whole[..length]).mount().is_none()));
    }
}
