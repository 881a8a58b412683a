//! Every candidate of every pool, looked at side by side, each within a deadline: one bad entry stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;

use super::found::{Candidate, Defect, Depth, Found, Problem, Sight};
use super::identify::{self, Inside};
use crate::health::Attempts;
use crate::host;
use crate::host::mountinfo::MountTable;
use crate::pool::{Pool, Pools};
use crate::volume::{HealthReason, LocalVolume, PoolName};

/// Why a host could not be scanned at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount table cannot be read.
    #[error("the mount table cannot be read, so no volume can be told from another")]
    MountTable(#[source] host::Error),
    /// The mount table was not given in time.
    #[error("the mount table was not given in time")]
    Overdue(#[source] crate::health::Overdue),
}

/// One scan.
#[derive(Debug)]
pub struct Scan {
    /// What it found.
    pub found: Found,
    /// The mount table that it went by.
    pub mounts: Arc<MountTable>,
}

/// Reads the mount table.
async fn mount_table(attempts: &Attempts) -> Result<Arc<MountTable>, Error> {
    let read = attempts.run(Path::new("/proc/thread-self/mountinfo"), MountTable::read).await;
    read.map_err(Error::Overdue)?.map(Arc::new).map_err(Error::MountTable)
}

/// Scans `pools`, and the paths of the `recorded` volumes that no pool selects. `depths` says by the identities of
/// sources how closely their contents are looked at; any other is searched.
pub async fn scan(
    attempts: &Attempts,
    pools: &Pools,
    recorded: &[LocalVolume],
    depths: &BTreeMap<Vec<u8>, Depth>,
) -> Result<Scan, Error> {
    let mounts = mount_table(attempts).await?;
    let mut found = Found::default();
    let mut entries = Vec::new();
    for pool in pools.values() {
        entries.extend(list(attempts, pool, &mut found).await);
    }
    found.candidates = look_at(attempts, entries, &mounts).await;
    let candidates: BTreeSet<_> =
        found.candidates.iter().map(|found| found.path.as_str()).collect();
    let paths = recorded.iter().map(|volume| &volume.status);
    let paths = paths.flat_map(|status| status.other_paths.iter().chain([&status.path]));
    let paths: BTreeSet<_> =
        paths.filter(|path| !candidates.contains(path.as_str())).cloned().collect();
    found.elsewhere = look_elsewhere(attempts, paths, &mounts).await;
    look_into(attempts, &mut found, depths, &mounts).await;
    Ok(Scan { found, mounts })
}

/// An entry that a pool selects.
struct Entry {
    pool: PoolName,
    name: String,
    path: String,
    /// The pool's directory, resolved.
    directory: Arc<PathBuf>,
}

/// The entries that `pool` selects; what is wrong with its directory goes to `found`.
async fn list(attempts: &Attempts, pool: &Pool, found: &mut Found) -> Vec<Entry> {
    let path = pool.path.clone();
    let problem = |defect| Problem {
        pool: pool.name.clone(),
        path: pool.path.to_string_lossy().into_owned(),
        defect,
    };
    let why = match attempts.run(&pool.path, move || read_directory(&path)).await {
        Ok(Ok((directory, names))) => return select(pool, directory, names, found),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            found.problems.push(problem(Defect::NoDirectory));
            return Vec::new();
        }
        Ok(Err(error)) => error.to_string(),
        Err(overdue) => overdue.to_string(),
    };
    found.problems.push(problem(Defect::Unreadable(why.clone())));
    found.unreadable.insert(pool.name.clone(), why);
    Vec::new()
}

fn read_directory(path: &Path) -> io::Result<(PathBuf, Vec<OsString>)> {
    let directory = std::fs::canonicalize(path)?;
    let entries = std::fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name()));
    Ok((directory, entries.collect::<io::Result<_>>()?))
}

fn select(pool: &Pool, directory: PathBuf, names: Vec<OsString>, found: &mut Found) -> Vec<Entry> {
    let directory = Arc::new(directory);
    let mut entries = Vec::new();
    for name in names {
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

async fn look_at(
    attempts: &Attempts,
    entries: Vec<Entry>,
    mounts: &Arc<MountTable>,
) -> Vec<Candidate> {
    let looks = entries.into_iter().map(|entry| async move {
        let Entry { pool, name, path, directory } = entry;
        let (at, table) = (PathBuf::from(&path), Arc::clone(mounts));
        let look = move || identify::at(&at, Some(&directory), &table);
        let sight = within_deadline(attempts, &path, look).await;
        Candidate { pool, entry: name, path, sight }
    });
    let mut candidates: Vec<_> = join_all(looks).await;
    candidates.sort_by(|one, other| (&one.path, &one.pool).cmp(&(&other.path, &other.pool)));
    candidates
}

async fn look_elsewhere(
    attempts: &Attempts,
    paths: BTreeSet<String>,
    mounts: &Arc<MountTable>,
) -> BTreeMap<String, Sight> {
    let looks = paths.into_iter().map(|path| async move {
        let (at, table) = (PathBuf::from(&path), Arc::clone(mounts));
        let sight = within_deadline(attempts, &path, move || identify::at(&at, None, &table)).await;
        (path, sight)
    });
    join_all(looks).await.into_iter().collect()
}

async fn within_deadline(
    attempts: &Attempts,
    path: &str,
    look: impl FnOnce() -> Sight + Send + 'static,
) -> Sight {
    attempts.run(Path::new(path), look).await.unwrap_or_else(|overdue| Sight::Failed {
        reason: HealthReason::ProbeTimeout,
        message: format!("{path}: {overdue}; check the device"),
    })
}

/// Looks into each source that is not settled, once however many paths lead to it: a device is opened for oneself, so
/// that two looks at a time would take each other for its users.
async fn look_into(
    attempts: &Attempts,
    found: &mut Found,
    depths: &BTreeMap<Vec<u8>, Depth>,
    mounts: &Arc<MountTable>,
) {
    let depth = |identity: &[u8]| depths.get(identity).copied().unwrap_or(Depth::Search);
    let mut paths: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in found.candidates.iter().enumerate() {
        if let Sight::Source(seen) = &candidate.sight {
            let identity = seen.facts.fingerprint.identity();
            if depth(&identity) != Depth::None && !seen.holds_its_pool {
                paths.entry(identity).or_default().push(index);
            }
        }
    }
    let looks = paths.into_iter().map(|(identity, indices)| {
        let first = indices.first().map(|index| found.candidates[*index].clone());
        let depth = depth(&identity);
        async move { (indices, look_into_one(attempts, first, depth, mounts).await) }
    });
    let looks: Vec<_> = join_all(looks).await;
    for (indices, inside) in looks {
        for index in indices {
            note(&mut found.candidates[index].sight, &inside);
        }
    }
}

async fn look_into_one(
    attempts: &Attempts,
    candidate: Option<Candidate>,
    depth: Depth,
    mounts: &Arc<MountTable>,
) -> Result<Inside, Sight> {
    let Some(Candidate { path, sight: Sight::Source(seen), .. }) = candidate else {
        return Err(Sight::Nothing);
    };
    let (at, table) = (PathBuf::from(&path), Arc::clone(mounts));
    let look = move || identify::inside(&at, &seen.facts.fingerprint, depth, &table);
    attempts.run(Path::new(&path), look).await.unwrap_or_else(|overdue| {
        let message = format!("{path}: {overdue}; check the device");
        Err(Sight::Failed { reason: HealthReason::ProbeTimeout, message })
    })
}

fn note(sight: &mut Sight, inside: &Result<Inside, Sight>) {
    match (sight, inside) {
        (Sight::Source(seen), Ok(inside)) => {
            seen.contents = Some(inside.contents.clone());
            seen.root.clone_from(&inside.root);
        }
        (sight, Err(failed)) => *sight = failed.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
