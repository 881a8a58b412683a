//! The kernel: every system call that Berth makes on mounts, directories and devices, wrapped once.
//!
//! A leaf: it knows no other module, decides nothing, and is the only place with `unsafe`. Everything acts on open
//! descriptors where the kernel allows it, so that what was checked is what is used. The calls block; callers keep them
//! off the async threads.
#![expect(unsafe_code, reason = "the one place where system calls without a safe wrapper are made")]

pub mod attributes;
pub mod beneath;
pub mod device;
pub mod format;
#[cfg(test)]
pub(crate) mod fuse;
pub mod glimpse;
pub mod grow;
#[cfg(test)]
pub(crate) mod hanging;
pub mod holder;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
pub mod identify;
pub mod loopback;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod priority;
pub mod process;
pub mod signature;
pub mod socket;
pub mod wake;
pub mod wipe;

use std::fmt;
use std::path::{Path, PathBuf};

pub use rustix::io::Errno;

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} on {} failed: {errno}", path.display())]
pub struct Error {
    /// The call, as its man page is named.
    pub call: &'static str,
    /// What it was called on.
    pub path: PathBuf,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Error {
    /// The failure of `call` on `path`; fits `map_err`.
    pub fn of<E: Into<Errno>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |errno| Self { call, path, errno: errno.into() }
    }

    /// As [`Error::of`], for what the standard library gives.
    pub fn of_io(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Self { call, path, errno }
        }
    }

    /// As [`Error::of`], for what nix gives.
    pub fn of_nix(call: &'static str, path: &Path) -> impl FnOnce(nix::Error) -> Self {
        let path = path.to_owned();
        move |errno| Self { call, path, errno: Errno::from_raw_os_error(errno as i32) }
    }
}

/// What a call on the host gives.
pub type Result<T> = std::result::Result<T, Error>;

/// The number of a device: `MAJOR:MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which device of it.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}
