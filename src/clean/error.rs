//! Why a volume is not clean yet.

use std::path::PathBuf;
use std::process::ExitStatus;

use crate::host::{self, DeviceNumber, format};
use crate::volume::{CleanReason, PoolName};
use crate::{inventory, source};

/// Why a wipe did not end with a clean volume. Every sentence follows the volume's path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process is ending; what was begun is resumed by the next one.
    #[error("stopped, and resumed when the agent is back")]
    Interrupted,
    /// Something still uses it.
    #[error("still in use, and wiped when that has ended: {}", by.join(", "))]
    InUse {
        /// By what: mount points, or what holds the device.
        by: Vec<String>,
    },
    /// Its source is missing, another one, or not readable.
    #[error("not wiped")]
    Source(#[from] source::Error),
    /// The kernel refused.
    #[error("not wiped to the end")]
    Host(#[from] host::Error),
    /// A file cannot be removed though nothing of its own forbids it.
    #[error(
        "still in use, and wiped when that has ended: the system swaps to {}, or a program forbids its removal again and \
         again (swapoff, chattr)",
        path.display()
    )]
    Kept {
        /// The file.
        path: PathBuf,
    },
    /// Somebody fills the directory as fast as it is emptied.
    #[error("not empty however often it is emptied ({left}): end whatever writes there")]
    Refilled {
        /// An entry that is there.
        left: PathBuf,
    },
    /// The root directory cannot be given its looks back.
    #[error(
        "emptied and not offered: {} has more extended attributes than the kernel lists, so they stay; make a new file \
         system (a pool's method `reformat`, then `berth clean`)",
        path.display()
    )]
    Unlisted {
        /// The directory.
        path: PathBuf,
    },
    /// The way to wipe is none for what the volume is.
    #[error(
        "not wiped: {method} needs {needs}; order another way with `berth clean` after changing its pool"
    )]
    Unsuitable {
        /// The method.
        method: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// The name by which the volume's device was mounted leads to another device by now.
    #[error(
        "not reformatted: {} is device {found} by now and the volume is on device {expected}; mount it by a name that \
         lasts, as in /dev/disk/by-id",
        path.display()
    )]
    WrongDevice {
        /// The name.
        path: PathBuf,
        /// The device that the volume is on.
        expected: DeviceNumber,
        /// The device that the name leads to.
        found: DeviceNumber,
    },
    /// The device holds another file system than the volume.
    #[error(
        "not reformatted: the file system on {} has the UUID {found} and the volume has {expected}; mount the right disk",
        path.display()
    )]
    WrongFilesystem {
        /// The device.
        path: PathBuf,
        /// The UUID of the volume's file system.
        expected: String,
        /// The UUID that was found.
        found: String,
    },
    /// No new file system was made.
    #[error("not reformatted")]
    Format(#[from] format::Error),
    /// The order names a program, and this node's configuration has none for the pool.
    #[error(
        "not wiped: a program is to wipe it, and pool {pool} has none in this node's configuration: put it back, or order \
         another way with `berth clean`"
    )]
    NoProgram {
        /// The pool.
        pool: PoolName,
    },
    /// The administrator's program could not be started.
    #[error("not wiped: {program} could not be started")]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The administrator's program failed.
    #[error("not wiped: {program} ended with {status}; the end of its output: {output:?}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it wrote.
        output: String,
    },
    /// The administrator's program took too long and was ended.
    #[error(
        "not wiped: {program} did not end within {seconds} s and was killed; the end of its output: {output:?}"
    )]
    TimedOut {
        /// The program.
        program: String,
        /// How long it had.
        seconds: u64,
        /// The last of what it wrote.
        output: String,
    },
    /// The administrator's program ended and something that it started did not.
    #[error(
        "not wiped: {program} left a process behind that still runs and may still wipe: have it wait for all that it starts"
    )]
    LeftBehind {
        /// The program.
        program: String,
    },
    /// The file that keeps two wipes of the volume apart could not be used.
    #[error("not wiped, as {} could not be locked", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Reading back found something.
    #[error(
        "not clean after the wipe: {found} was read back; look for a failing disk, then `berth clean`"
    )]
    Verify {
        /// What, and where.
        found: String,
    },
    /// What was begun could not be recorded.
    #[error("not wiped, as that could not be recorded")]
    Inventory(#[from] inventory::Error),
}

impl Error {
    /// What the condition of the volume says.
    pub fn reason(&self) -> CleanReason {
        match self {
            Self::Interrupted => CleanReason::Cleaning,
            Self::InUse { .. } | Self::Kept { .. } => CleanReason::StillInUse,
            Self::Verify { .. } => CleanReason::VerifyFailed,
            Self::Source(_)
            | Self::Host(_)
            | Self::Refilled { .. }
            | Self::Unlisted { .. }
            | Self::Unsuitable { .. }
            | Self::WrongDevice { .. }
            | Self::WrongFilesystem { .. }
            | Self::Format(_)
            | Self::NoProgram { .. }
            | Self::NotStarted { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::LeftBehind { .. }
            | Self::Lock { .. }
            | Self::Inventory(_) => CleanReason::WipeFailed,
        }
    }

    /// The error and what lies beneath it, in one sentence.
    pub fn sentence(&self) -> String {
        crate::causes::chain(self)
    }
}
