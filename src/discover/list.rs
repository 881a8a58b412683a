//! The entries of the pools' directories, listed side by side: a directory that hangs keeps no other waiting.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;

use super::found::{Defect, Found, Problem};
use crate::health::{About, Attempts};
use crate::host::DeviceNumber;
use crate::host::mountinfo::MountTable;
use crate::pool::{Pool, Pools};
use crate::volume::PoolName;

/// An entry that a pool selects.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pool: PoolName,
    pub(super) name: String,
    pub(super) path: String,
    /// The pool's directory, resolved.
    pub(super) directory: Arc<PathBuf>,
    /// Whether it is a directory, and no symlink.
    pub(super) is_directory: bool,
}

impl Entry {
    /// The device of the file system that a look at it asks, where that can be told without looking: not where a symlink
    /// or a device node leads.
    pub(super) fn device(&self, mounts: &MountTable) -> Option<DeviceNumber> {
        let resolved = self.directory.join(&self.name);
        mounts.around(&resolved).filter(|_| self.is_directory).map(|mount| mount.device)
    }
}

/// Every entry that a pool selects; what is wrong with the directories goes to `found`.
pub(super) async fn entries(attempts: &Attempts, pools: &Pools, found: &mut Found) -> Vec<Entry> {
    let listings = pools.values().map(|pool| async move {
        let path = pool.path.clone();
        // There are as many as pools, and those that hang are not listed again.
        let about = About::path(&pool.path).vital();
        (pool, attempts.run(about, move || read_directory(&path)).await)
    });
    let mut entries = Vec::new();
    for (pool, listing) in join_all(listings).await {
        let why = match listing {
            Ok(Ok(listing)) => {
                entries.extend(select(pool, listing, found));
                continue;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(overdue) => Some(overdue.to_string()),
        };
        let defect = why.clone().map_or(Defect::NoDirectory, Defect::Unreadable);
        let path = pool.path.to_string_lossy().into_owned();
        found.problems.push(Problem { pool: pool.name.clone(), path, defect });
        found.unreadable.extend(why.map(|why| (pool.name.clone(), why)));
    }
    entries
}

/// A directory, resolved, and its entries, each with whether it is a directory and no symlink.
struct Listing {
    directory: PathBuf,
    names: Vec<(OsString, bool)>,
}

fn read_directory(path: &Path) -> io::Result<Listing> {
    let directory = std::fs::canonicalize(path)?;
    let entries = std::fs::read_dir(&directory)?.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
    });
    let names = entries.collect::<io::Result<_>>()?;
    Ok(Listing { directory, names })
}

fn select(pool: &Pool, listing: Listing, found: &mut Found) -> Vec<Entry> {
    let directory = Arc::new(listing.directory);
    let mut entries = Vec::new();
    for (name, is_directory) in listing.names {
        let is_hidden = name.as_bytes().starts_with(b".") || name == "lost+found";
        if is_hidden || !pool.entries.is_match(&name) {
            continue;
        }
        let path = pool.path.join(&name);
        match (name.into_string(), path.to_str()) {
            (Ok(name), Some(path)) => entries.push(Entry {
                pool: pool.name.clone(),
                name,
                path: path.to_owned(),
                directory: Arc::clone(&directory),
                is_directory,
            }),
            _ => found.problems.push(Problem {
                pool: pool.name.clone(),
                path: path.to_string_lossy().into_owned(),
                defect: Defect::NotUtf8,
            }),
        }
    }
    entries
}
