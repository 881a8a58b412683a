//! Owner, mode, extended attributes and inode flags of an open file.

mod flags;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    Gid, IFlags, Mode, Timespec, Timestamps, UTIME_NOW, Uid, XattrFlags, fchmod, fchown,
    fremovexattr, fsetxattr, fstat, futimens, ioctl_getflags, ioctl_setflags,
};

pub use flags::{Flags, allow_moves_into, make_writable};

use super::{Errno, Error, Result, identify};

/// What a file looks like beside its contents. ACLs are extended attributes (`system.posix_acl_access`, `…_default`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky: 12 bits.
    pub mode: u32,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Its inode flags and project; absent where its file system has none, or where they are not known.
    pub flags: Option<Flags>,
}

impl Attributes {
    /// Whether a file that looks like this looks as `wanted` says, labels of security modules aside.
    pub fn agree_with(&self, wanted: &Self) -> bool {
        let own = |all: &BTreeMap<OsString, Vec<u8>>| -> BTreeMap<_, _> {
            let own = all.iter().filter(|(name, _)| is_own(name.as_bytes()));
            own.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let flags = self.flags.zip(wanted.flags).is_none_or(|(flags, wanted)| flags == wanted);
        let (one, other) = ((self.uid, self.gid, self.mode), (wanted.uid, wanted.gid, wanted.mode));
        flags && one == other && own(&self.xattrs) == own(&wanted.xattrs)
    }
}

/// Reads the attributes of an open file (not `O_PATH`); `name` is for messages only.
pub fn read(file: impl AsFd, name: &Path) -> Result<Attributes> {
    let file = file.as_fd();
    let facts = fstat(file).map_err(Error::of::<Errno>("fstat", name))?;
    Ok(Attributes {
        uid: facts.st_uid,
        gid: facts.st_gid,
        mode: facts.st_mode & 0o7777,
        xattrs: identify::extended_attributes(file, name)?,
        flags: Flags::of(file, name)?,
    })
}

/// Gives an open file the attributes that it had: what was added is removed, what was changed is put back, and its times
/// are now, since they can say something too.
pub fn restore(file: impl AsFd, attributes: &Attributes, name: &Path) -> Result<()> {
    let file = file.as_fd();
    allow_changes(file, name)?;
    let now = read(file, name)?;
    for added in now.xattrs.keys().filter(|added| !attributes.xattrs.contains_key(*added)) {
        match fremovexattr(file, added.as_bytes()) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(Error::of("fremovexattr", name)(errno)),
        }
    }
    if (now.uid, now.gid) != (attributes.uid, attributes.gid) {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        fchown(file, Some(uid), Some(gid)).map_err(Error::of::<Errno>("fchown", name))?;
    }
    for (xattr, value) in &attributes.xattrs {
        // An earlier release recorded some that are not the file's own.
        if is_own(xattr.as_bytes()) && now.xattrs.get(xattr) != Some(value) {
            fsetxattr(file, xattr.as_bytes(), value, XattrFlags::empty()).map_err(Error::of::<
                Errno,
            >(
                "fsetxattr",
                name,
            ))?;
        }
    }
    // After these: a change of owner clears bits of the mode, and an ACL changes them.
    fchmod(file, Mode::from_raw_mode(attributes.mode))
        .map_err(Error::of::<Errno>("fchmod", name))?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(file, &Timestamps { last_access: now, last_modification: now })
        .map_err(Error::of::<Errno>("futimens", name))?;
    // Last: they may forbid all of it.
    attributes.flags.map_or(Ok(()), |flags| flags.restore(file, name))
}

/// Takes the immutable and append-only flags off an open file, which keep even root from removing it (chattr(1)).
///
/// A file system without such flags needs nothing. Says whether one was taken off.
pub fn allow_changes(file: impl AsFd, name: &Path) -> Result<bool> {
    let flags = match ioctl_getflags(&file) {
        Ok(flags) => flags,
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
        Err(errno) => return Err(Error::of("ioctl(FS_IOC_GETFLAGS)", name)(errno)),
    };
    let locked = IFlags::IMMUTABLE | IFlags::APPEND;
    if !flags.intersects(locked) {
        return Ok(false);
    }
    let free = flags.difference(locked);
    ioctl_setflags(file, free).map_err(Error::of::<Errno>("ioctl(FS_IOC_SETFLAGS)", name))?;
    Ok(true)
}

/// Whether an attribute is the file's own: what a security module labels by its policy is not ours to copy back, since
/// the policy may have changed, and it may refuse what it gave itself.
pub(super) fn is_own(xattr: &[u8]) -> bool {
    const LABELS: [&[u8]; 5] = [
        b"security.selinux",
        b"security.SMACK64",
        b"security.apparmor",
        b"security.ima",
        b"security.evm",
    ];
    !LABELS.iter().any(|label| xattr.starts_with(label))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_a_tenant_changed_is_put_back_and_what_it_added_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let file = File::open(path).unwrap();
        let set = |xattr: &str, value: &[u8]| {
            fsetxattr(&file, xattr, value, XattrFlags::empty()).unwrap();
        };
        set("user.kept", b"as it was");
        fchown(&file, Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).unwrap();
        fchmod(&file, Mode::from_raw_mode(0o3751)).unwrap();
        let before = read(&file, path).unwrap();

        set("user.kept", b"changed");
        set("user.added", b"by a tenant");
        fchown(&file, Some(Uid::from_raw(1000)), Some(Gid::from_raw(1000))).unwrap();
        fchmod(&file, Mode::from_raw_mode(0o777)).unwrap();
        ioctl_setflags(&file, ioctl_getflags(&file).unwrap() | IFlags::IMMUTABLE).unwrap();
        restore(&file, &before, path).unwrap();

        assert_eq!(read(&file, path).unwrap(), before);
        assert_eq!((before.uid, before.gid, before.mode), (7, 8, 0o3751));
    }
    #[test]
    fn a_label_of_a_security_module_is_neither_read_nor_set_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let file = File::open(path).unwrap();
        let label = "security.SMACK64";
        fsetxattr(&file, label, b"of today's policy", XattrFlags::empty()).unwrap();
        let mut before = read(&file, path).unwrap();
        assert!(!before.xattrs.contains_key(std::ffi::OsStr::new(label)));
        before.xattrs.insert(label.into(), b"of an old policy".to_vec());

        restore(&file, &before, path).unwrap();

        let mut value = [0; 64];
        let length = rustix::fs::fgetxattr(&file, label, &mut value).unwrap();
        assert_eq!(&value[..length], b"of today's policy");
    }
}
