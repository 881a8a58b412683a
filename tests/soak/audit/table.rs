//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), read by a parser of the auditor's own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points of a process, in the order in which they were made; nothing where it has ended.
pub fn points(process: &Path) -> Option<Vec<PathBuf>> {
    let text = fs::read(process.join("mountinfo")).ok()?;
    Some(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(point).collect())
}

/// The fifth field of a line.
fn point(line: &[u8]) -> PathBuf {
    let field = line.split(|byte| *byte == b' ').nth(4).unwrap();
    OsString::from_vec(unescaped(field)).into()
}

/// `\040` and its like are bytes.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[test]
fn a_mount_point_with_a_space_and_a_backslash_is_read_as_it_is() {
    let line = br"36 35 98:0 / /mnt/a\040b\134c rw - ext4 /dev/sda rw";

    assert_eq!(point(line), Path::new(r"/mnt/a b\c"));
}
