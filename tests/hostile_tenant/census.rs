//! What is in a tree, by code of its own that shares nothing with the product's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Every entry beneath `path`, and `path` itself, one line each: inode, mode, owner, links, size, both times to the
/// nanosecond, extended attributes, and a checksum of the contents. Equal exactly when nothing was changed, or looked at by
/// writing.
pub(crate) fn census(path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let contents = if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if facts.is_symlink() {
            format!("{}", fs::read_link(&path).unwrap().display())
        } else if facts.is_file() {
            format!("{:x?}", &Sha256::digest(fs::read(&path).unwrap())[..])
        } else {
            format!("{}", facts.rdev())
        };
        lines.push(format!(
            "{} {} {:o} {}:{} {} {} {}.{:09} {}.{:09} {:?} {contents}",
            path.display(),
            facts.ino(),
            facts.mode(),
            facts.uid(),
            facts.gid(),
            facts.nlink(),
            facts.size(),
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
            xattrs(&path),
        ));
    }
    lines.sort();
    lines
}

/// Extended attributes of what is at a path, with their values.
pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 1 << 16];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]);
        value.truncate(length.unwrap_or_default());
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    names.map(value).collect()
}

/// Fails unless there is nothing in a directory; `lost+found` may be in the root of ext4, empty and as mkfs makes it.
pub(crate) fn require_empty(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let facts = fs::symlink_metadata(entry.path()).unwrap();
        let kept = entry.file_name() == "lost+found" && facts.is_dir();
        let within = kept && fs::read_dir(entry.path()).unwrap().next().is_none();
        let looks = (facts.mode() & 0o7777, facts.uid(), facts.gid());
        let plain = looks == (0o700, 0, 0) && xattrs(&entry.path()).is_empty();
        assert!(within && plain, "{} is left: {facts:?}", entry.path().display());
    }
}

/// How a directory looks: mode, owner, extended attributes, and what lsattr(1) says of its flags and its project.
pub(crate) fn looks(path: &Path) -> String {
    let facts = fs::symlink_metadata(path).unwrap();
    let flags = std::process::Command::new("lsattr").arg("-dp").arg(path).output().unwrap();
    let plain = std::process::Command::new("lsattr").arg("-d").arg(path).output().unwrap();
    let first = |output: &[u8]| {
        let text = String::from_utf8_lossy(output).into_owned();
        let words = text.split_whitespace().filter(|word| !word.contains('/'));
        words.collect::<Vec<_>>().join(" ")
    };
    // ext4 says by a flag of its own that a directory has been large.
    let flags = first(if flags.status.success() { &flags.stdout } else { &plain.stdout });
    let flags = flags.replace('I', "-");
    let owner = (facts.uid(), facts.gid());
    format!("{:o} {owner:?} {flags} {:?}", facts.mode(), xattrs(path))
}
