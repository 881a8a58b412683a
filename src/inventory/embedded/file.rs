//! The inventory on the disk: a redb file with one row for each volume and each wipe that is remembered, and the lock of its
//! directory.
//!
//! A row is JSON, so that a person with a copy of the file can read it and a later release can add a field without a
//! migration; the schema's number changes only when an older release would misread or lose something. The file appears
//! under its name only whole: it is written beside it, synced, and renamed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};
use serde::{Deserialize, Serialize};

use super::super::{Recorded, Version};
use super::OpenError;
use super::history::{History, Row as Wiped};
use super::memory::{Memory, Volumes};
use super::writer::Index;
use crate::volume::{LocalVolume, VolumeName, WipeRecord};

/// What this release reads and writes.
const SCHEMA: u64 = 1;
/// Row key in [`NUMBERS`]: the schema.
const SCHEMA_KEY: &str = "schema";
/// Row key in [`NUMBERS`]: the greatest version given so far, that of a removal included.
const VERSION_KEY: &str = "version";

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("berth");
const VOLUMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("volumes");
/// Wipes by number. A file of an earlier release has none.
const WIPES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("wipes");

/// Memory for pages of the file. All reads are served from [`Memory`], so that more would be wasted.
const CACHE: usize = 4 << 20;

/// Makes a database of an open file; a test makes one whose disk fails.
pub(super) type Backing = Box<dyn Fn(fs::File) -> Result<Database, DatabaseError> + Send + 'static>;

/// The state directory, locked for this process as long as this lives.
pub(super) struct Disk {
    path: PathBuf,
    backing: Backing,
    directory: fs::File,
}

/// The open file. Dropping it closes it.
pub(super) struct File {
    database: Database,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    volumes: Volumes,
    wipes: History,
    index: Index,
}

/// One row of [`VOLUMES`].
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    version: u64,
    volume: std::borrow::Cow<'a, LocalVolume>,
}

/// Why a change is not known to be on the disk.
pub(super) enum Failure {
    /// The commit was not begun.
    NotWritten(redb::Error),
    /// The commit failed half-way.
    Unknown(redb::Error),
}

/// What no release of Berth writes.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is empty")]
    Empty,
    #[error("it has no table {0:?}")]
    Lacks(&'static str),
    #[error("row {row:?} cannot be read")]
    Row { row: String, source: serde_json::Error },
    #[error("row {row:?} is of volume {volume}")]
    Misplaced { row: String, volume: VolumeName },
    #[error("volume {volume} is of version {version} and the newest version is {newest}")]
    Version { volume: VolumeName, version: u64, newest: u64 },
    #[error("wipe {number} cannot be read")]
    Wipe { number: u64, source: serde_json::Error },
    #[error("volumes {0} and {1} are held by one claim")]
    HeldTwice(VolumeName, VolumeName),
}

impl Disk {
    /// Makes `directory` where it is missing, for its owner alone, and locks it.
    pub(super) fn new(directory: &Path) -> Result<Self, OpenError> {
        Self::with_backing(directory, Box::new(|file| on(FileBackend::new(file)?)))
    }

    pub(super) fn with_backing(directory: &Path, backing: Backing) -> Result<Self, OpenError> {
        let io = |source| OpenError::io(directory, source);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let path = directory.join("inventory.redb");
        let directory = fs::File::open(directory).map_err(io)?;
        // Who made it may have made it for all: the kubelet does, of a host path.
        let mut permissions = directory.metadata().map_err(io)?.permissions();
        if permissions.mode() & 0o077 != 0 {
            permissions.set_mode(0o700);
            directory.set_permissions(permissions).map_err(io)?;
        }
        match directory.try_lock() {
            Ok(()) => Ok(Self { path, backing, directory }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { file: path }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new file with these records into the place of whatever is there.
    pub(super) fn write_anew(
        &self,
        version: u64,
        volumes: &[Arc<Recorded>],
        wipes: &History,
    ) -> Result<File, OpenError> {
        let draft = self.path.with_extension("redb.new");
        let io = |source| OpenError::io(&draft, source);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {} // What a crash left of an earlier draft was never the inventory.
        }
        let handle = options().create_new(true).open(&draft).map_err(io)?;
        let synced = handle.try_clone().map_err(io)?;
        let file = File { database: self.database(handle)? };
        let rows = volumes.iter().map(|recorded| (&recorded.volume.name, Some(recorded)));
        let committed = file.commit(version, rows, &wipes.rows());
        match committed.and_then(|()| file.repeat(version)) {
            Ok(()) => {}
            Err(Failure::NotWritten(error) | Failure::Unknown(error)) => {
                return Err(OpenError::Io { path: draft, source: Box::new(error) });
            }
        }
        // The commit has synced the data; the length and the name are the file system's.
        synced.sync_all().map_err(io)?;
        fs::rename(&draft, &self.path).map_err(io)?;
        self.directory.sync_all().map_err(io)?;
        Ok(file)
    }

    fn database(&self, file: fs::File) -> Result<Database, OpenError> {
        (self.backing)(file).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: impl Into<redb::Error>) -> OpenError {
        let file = self.path.clone();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                OpenError::InUse { file }
            }
            error @ redb::Error::UpgradeRequired(_) => {
                OpenError::Foreign { file, source: Box::new(error) }
            }
            redb::Error::Io(source) => match source.kind() {
                io::ErrorKind::InvalidData => OpenError::Foreign { file, source: Box::new(source) },
                io::ErrorKind::UnexpectedEof => {
                    OpenError::Damaged { file, source: Box::new(source) }
                }
                _ => OpenError::io(&self.path, source),
            },
            error => OpenError::Damaged { file, source: Box::new(error) },
        }
    }

    fn damaged(&self, fault: Fault) -> OpenError {
        OpenError::Damaged { file: self.path.clone(), source: Box::new(fault) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Closing would do, but for a program that another thread is just starting: until it runs it has a copy of
        // every descriptor, and a lock goes with the last copy unless it is taken off.
        let _ = self.directory.unlock();
    }
}

/// A database on `backend`. The whole file is checked: one that was altered is refused, not trusted.
pub(super) fn on(backend: impl redb::StorageBackend) -> Result<Database, DatabaseError> {
    Database::builder()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl File {
    /// Opens the directory's file, or makes an empty one.
    pub(super) fn open(disk: &Disk) -> Result<(Self, Contents), OpenError> {
        let handle = match options().open(&disk.path) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((disk.write_anew(0, &[], &History::default())?, Contents::default()));
            }
            Err(error) => return Err(OpenError::io(&disk.path, error)),
        };
        // An empty file would be taken for a new database, and so every claim forgotten.
        let length = handle.metadata().map_err(|error| OpenError::io(&disk.path, error))?.len();
        if length == 0 {
            return Err(disk.damaged(Fault::Empty));
        }
        let file = Self { database: disk.database(handle)? };
        let contents = file.read(disk)?;
        Ok((file, contents))
    }

    /// Records `version` and these rows, durably: all of them or none.
    ///
    /// The file keeps its two newest commits, and where the newest one is damaged redb takes the one before it for the
    /// last that was completed; see [`File::repeat`].
    pub(super) fn commit<'a>(
        &self,
        version: u64,
        rows: impl Iterator<Item = (&'a VolumeName, Option<&'a Arc<Recorded>>)>,
        wipes: &[Wiped],
    ) -> Result<(), Failure> {
        let transaction = self.write(version, rows, wipes).map_err(Failure::NotWritten)?;
        transaction.commit().map_err(|error| match error {
            redb::CommitError::TransactionPoisoned => Failure::NotWritten(error.into()),
            _ => Failure::Unknown(error.into()),
        })
    }

    /// Commits once more what the last commit said, so that either of the two that the file keeps has it. Otherwise damage
    /// to the newest one would have a claim forgotten that was answered, and its volume offered.
    pub(super) fn repeat(&self, version: u64) -> Result<(), Failure> {
        self.commit(version, std::iter::empty(), &[])
    }

    fn write<'a>(
        &self,
        version: u64,
        rows: impl Iterator<Item = (&'a VolumeName, Option<&'a Arc<Recorded>>)>,
        wipes: &[Wiped],
    ) -> Result<redb::WriteTransaction, redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(SCHEMA_KEY, SCHEMA)?;
            numbers.insert(VERSION_KEY, version)?;
            let mut volumes = transaction.open_table(VOLUMES)?;
            for (name, recorded) in rows {
                match recorded {
                    Some(recorded) => {
                        volumes.insert(name.as_str(), encoded(recorded)?.as_slice())?
                    }
                    None => volumes.remove(name.as_str())?,
                };
            }
            let mut remembered = transaction.open_table(WIPES)?;
            for (number, wipe) in wipes {
                match wipe {
                    Some(wipe) => remembered.insert(number, json(&**wipe)?.as_slice())?,
                    None => remembered.remove(number)?,
                };
            }
        }
        Ok(transaction)
    }

    fn read(&self, disk: &Disk) -> Result<Contents, OpenError> {
        let transaction = self.database.begin_read().map_err(|error| disk.refused(error))?;
        let lacks = |error, table| match error {
            TableError::Storage(error) => disk.refused(error),
            _ => OpenError::Foreign {
                file: disk.path.clone(),
                source: Box::new(Fault::Lacks(table)),
            },
        };
        let numbers = transaction.open_table(NUMBERS).map_err(|error| lacks(error, "berth"))?;
        let number = |key| match numbers.get(key) {
            Ok(number) => Ok(number.map_or(0, |number| number.value())),
            Err(error) => Err(disk.refused(error)),
        };
        let found = number(SCHEMA_KEY)?;
        if found != SCHEMA {
            return Err(OpenError::Schema { file: disk.path.clone(), found, known: SCHEMA });
        }
        let rows = transaction.open_table(VOLUMES).map_err(|error| lacks(error, "volumes"))?;
        let mut contents = Contents::at(number(VERSION_KEY)?);
        for row in rows.iter().map_err(|error| disk.refused(error))? {
            let (name, value) = row.map_err(|error| disk.refused(error))?;
            contents.take(name.value(), value.value()).map_err(|fault| disk.damaged(fault))?;
        }
        let rows = match transaction.open_table(WIPES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(contents),
            rows => rows.map_err(|error| lacks(error, "wipes"))?,
        };
        for row in rows.iter().map_err(|error| disk.refused(error))? {
            let (number, value) = row.map_err(|error| disk.refused(error))?;
            let remembered = contents.remember(number.value(), value.value());
            remembered.map_err(|fault| disk.damaged(fault))?;
        }
        Ok(contents)
    }
}

fn encoded(recorded: &Recorded) -> Result<Vec<u8>, StorageError> {
    let row =
        Row { version: recorded.version.0, volume: std::borrow::Cow::Borrowed(&recorded.volume) };
    json(&row)
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(row).map_err(|error| StorageError::Io(error.into()))
}

impl Contents {
    fn at(version: u64) -> Self {
        Self { index: Index { version, claims: HashMap::new() }, ..Self::default() }
    }

    fn take(&mut self, row: &str, value: &[u8]) -> Result<(), Fault> {
        let Row { version, volume } = serde_json::from_slice(value)
            .map_err(|source| Fault::Row { row: row.to_owned(), source })?;
        let volume: LocalVolume = volume.into_owned();
        let name = volume.name.clone();
        if name.as_str() != row {
            return Err(Fault::Misplaced { row: row.to_owned(), volume: name });
        }
        let newest = self.index.version;
        if version > newest {
            return Err(Fault::Version { volume: name, version, newest });
        }
        if let Some(claim) = &volume.spec.claim {
            match self.index.claims.entry(claim.name.clone()) {
                Entry::Vacant(entry) => entry.insert(name.clone()),
                Entry::Occupied(entry) => {
                    return Err(Fault::HeldTwice(entry.get().clone(), name));
                }
            };
        }
        self.volumes.insert(name, Arc::new(Recorded::new(volume, Version(version))));
        Ok(())
    }

    fn remember(&mut self, number: u64, value: &[u8]) -> Result<(), Fault> {
        let wipe: WipeRecord =
            serde_json::from_slice(value).map_err(|source| Fault::Wipe { number, source })?;
        self.wipes.apply(vec![(number, Some(Arc::new(wipe)))]);
        Ok(())
    }

    pub(super) fn into_memory(self) -> (Memory, Index) {
        (Memory::new(self.volumes, self.wipes), self.index)
    }
}

/// Checks of rows; see [`crate::hostile`].
#[cfg(any(test, fuzzing))]
pub(super) fn hostile(data: &[u8]) {
    let Ok(Row { volume, .. }) = serde_json::from_slice(data) else { return };
    let (row, mut contents) = (volume.name.as_str(), Contents::at(u64::MAX));
    assert!(contents.take("/", data).is_err(), "a row stands for another volume");
    let Ok(()) = contents.take(row, data) else { return };
    let Some(recorded) = contents.volumes.get(&volume.name) else { panic!("{row} is not there") };
    let mut again = Contents::at(u64::MAX);
    let Ok(written) = encoded(recorded) else { panic!("{row} is not written") };
    assert!(again.take(row, &written).is_ok());
    assert_eq!(again.volumes, contents.volumes, "another record is read back");
    // One volume is one row, and one claim one volume.
    let held = again.index.claims.len();
    assert_eq!(held, usize::from(volume.spec.claim.is_some()));
}
