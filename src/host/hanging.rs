//! A file system that answers nothing, for tests: FUSE with nobody behind it. For use in a private mount namespace.

use std::fs::{File, OpenOptions, create_dir_all};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// A file system on which every call hangs until this is dropped.
#[derive(Debug)]
pub(crate) struct Hanging {
    _connection: File,
}

impl Hanging {
    /// Mounts one at `path`, a directory that is made if need be.
    pub(crate) fn mount(path: &Path) -> Self {
        create_dir_all(path).unwrap();
        let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", connection.as_raw_fd());
        let (source, fs_type) = (Some("none"), Some("fuse"));
        mount(source, path, fs_type, MsFlags::empty(), Some(options.as_str())).unwrap();
        Self { _connection: connection }
    }

    /// Bind-mounts the one at `source` at `path`, where there is a directory, without asking it anything.
    pub(crate) fn bind(source: &Path, path: &Path) {
        let none: Option<&str> = None;
        mount(Some(source), path, none, MsFlags::MS_BIND, none).unwrap();
    }
}
