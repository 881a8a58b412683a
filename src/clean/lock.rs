//! One wipe of a volume at a time, those of an agent that was killed included.
//!
//! A program that wipes may outlive the agent that started it, and would go on removing when the volume has its next
//! tenant. So each wipe holds the lock of a file of its volume, the programs that it starts inherit it, and the kernel
//! keeps it until the last of them has ended. A process that closes what it inherits is known by its process group,
//! which is written into the file.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use crate::host::process;
use crate::volume::VolumeName;

/// How long a killed process has to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// The right to wipe a volume. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: Option<File>,
}

impl Lock {
    /// Takes the lock of `volume`, whose file is in `directory`; [`Error::InUse`] while an earlier wipe's program runs.
    pub(super) fn take(directory: &Path, volume: &VolumeName) -> Result<Self, Error> {
        let path = directory.join(volume.as_str());
        fs::create_dir_all(directory).map_err(failed(&path))?;
        let file = open(&path)?.ok_or_else(|| {
            let by = format!("a program that an earlier wipe started (fuser {})", path.display());
            Error::InUse { by: vec![by] }
        })?;
        let described = fs::read_to_string(&path).map_err(failed(&path))?;
        if let Some(group) = process::surviving_group(&described) {
            let by = format!("a program that an earlier wipe started (process group {group})");
            return Err(Error::InUse { by: vec![by] });
        }
        file.set_len(0).map_err(failed(&path))?;
        Ok(Self { path, file: Some(file) })
    }

    /// What a program has to inherit.
    pub(super) fn inherited(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Writes down which processes to look for, should this one be killed.
    pub(super) fn note_group(&self, leader: u32) -> Result<(), Error> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        let written = file.write_all(process::describe_group(leader).as_bytes());
        written.and_then(|()| file.sync_data()).map_err(failed(&self.path))
    }

    /// Makes sure that nothing that inherited the lock is left, once all of it was killed; says whether that is so.
    pub(super) fn is_alone(&mut self) -> Result<bool, Error> {
        let until = Instant::now() + PATIENCE;
        self.file = None;
        while self.file.is_none() && Instant::now() < until {
            self.file = open(&self.path)?;
            if self.file.is_none() {
                thread::park_timeout(LOOK);
            }
        }
        Ok(self.file.is_some())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where a process is left its lock has to be found by the next wipe. Nobody but this process opens the file, so
        // that nobody can wait for the lock of one that is gone.
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The locked file; nothing while another process has the lock.
fn open(path: &Path) -> Result<Option<File>, Error> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(failed(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Lock { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::volume::fixture::available;

    #[test]
    fn a_lock_that_a_process_inherited_is_not_taken_before_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let name = available().name;
        let mut lock = Lock::take(directory.path(), &name).unwrap();
        let mut command = Command::new("/bin/cat");
        command.stdin(Stdio::piped());
        let mut program = process::spawn_bound(command, lock.inherited()).unwrap();
        lock.file = None;
        drop(lock);

        let refused = Lock::take(directory.path(), &name).unwrap_err();

        assert!(refused.to_string().contains("earlier wipe"), "{refused}");
        program.kill().unwrap();
        program.wait().unwrap();
        drop(Lock::take(directory.path(), &name).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_group_that_was_noted_is_waited_for_though_it_holds_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let name = available().name;
        let lock = Lock::take(directory.path(), &name).unwrap();
        // As a program that closes what it inherited.
        let mut command = Command::new("/bin/cat");
        command.stdin(Stdio::piped()).process_group(0);
        let mut program = process::spawn_bound(command, None).unwrap();
        lock.note_group(program.id()).unwrap();
        let file = directory.path().join(name.as_str());
        let noted = fs::read_to_string(&file).unwrap();
        drop(lock);
        fs::write(file, noted).unwrap();

        let refused = Lock::take(directory.path(), &name).unwrap_err();

        assert!(refused.to_string().contains("process group"), "{refused}");
        program.kill().unwrap();
        program.wait().unwrap();
        drop(Lock::take(directory.path(), &name).unwrap());
    }
}
