//! Every candidate of every pool, looked at side by side, each within a deadline: one bad entry stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;

use super::found::{Candidate, Depth, Found, Sight};
use super::identify::{self, Inside};
use super::list::{self, Entry};
use crate::health::{About, Attempts, Overdue};
use crate::host;
use crate::host::mountinfo::MountTable;
use crate::host::namespace::HostNamespace;
use crate::pool::Pools;
use crate::volume::{HealthReason, LocalVolume};

/// Why a host could not be scanned at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount table cannot be read.
    #[error("the mount table cannot be read, so no volume can be told from another")]
    MountTable(#[source] host::Error),
    /// The mount table was not given in time.
    #[error("the mount table was not given in time")]
    Overdue(#[source] Overdue),
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
    let about = About::path("/proc/thread-self/mountinfo").vital();
    let read = attempts.run(about, MountTable::read).await;
    read.map_err(Error::Overdue)?.map(Arc::new).map_err(Error::MountTable)
}

/// Reads the mount table of the host, where that is another than this thread's: what it shows of volumes beyond that one is
/// the administrator's.
async fn host_table(attempts: &Attempts, host: HostNamespace) -> Result<Option<MountTable>, Error> {
    let about = About::path("/proc/1/mountinfo").vital();
    let read = attempts.run(about, move || host.table()).await;
    read.map_err(Error::Overdue)?.map_err(Error::MountTable)
}

/// Scans `pools`, and the paths of the `recorded` volumes that no pool selects. `depths` says by the identities of
/// sources how closely their contents are looked at; any other is searched.
pub async fn scan(
    attempts: &Attempts,
    host: HostNamespace,
    pools: &Pools,
    recorded: &[LocalVolume],
    depths: &BTreeMap<Vec<u8>, Depth>,
) -> Result<Scan, Error> {
    let mounts = mount_table(attempts).await?;
    let mut found = Found::default();
    let entries = list::entries(attempts, pools, &mut found).await;
    found.candidates = look_at(attempts, entries, &mounts).await;
    let candidates: BTreeSet<_> =
        found.candidates.iter().map(|found| found.path.as_str()).collect();
    // Of what is in a directory that cannot be listed nothing is believed.
    let listed = recorded.iter().filter(|volume| !found.unreadable.contains_key(&volume.spec.pool));
    let paths = listed
        .map(|volume| &volume.status)
        .flat_map(|status| status.other_paths.iter().chain([&status.path]));
    let paths: BTreeSet<_> =
        paths.filter(|path| !candidates.contains(path.as_str())).cloned().collect();
    found.elsewhere = look_elsewhere(attempts, paths, &mounts).await;
    look_into(attempts, &mut found, depths, &mounts).await;
    note_host_mounts(&mut found, &host_table(attempts, host).await);
    Ok(Scan { found, mounts })
}

async fn look_at(
    attempts: &Attempts,
    entries: Vec<Entry>,
    mounts: &Arc<MountTable>,
) -> Vec<Candidate> {
    let looks = entries.into_iter().map(|entry| async move {
        let about = About::path(&entry.path).on(entry.device(mounts));
        let Entry { pool, name, path, directory, .. } = entry;
        let (at, table) = (PathBuf::from(&path), Arc::clone(mounts));
        let look = move || identify::at(&at, Some(&directory), &table);
        let sight = within_deadline(attempts, about, &path, look).await;
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
        let device = mounts.at(&at).map(|mount| mount.device);
        let about = About::path(&path).on(device);
        let look = move || identify::at(&at, None, &table);
        let sight = within_deadline(attempts, about, &path, look).await;
        (path, sight)
    });
    join_all(looks).await.into_iter().collect()
}

async fn within_deadline(
    attempts: &Attempts,
    about: About,
    path: &str,
    look: impl FnOnce() -> Sight + Send + 'static,
) -> Sight {
    attempts.run(about, look).await.unwrap_or_else(|overdue| hangs(path, overdue))
}

fn hangs(path: &str, overdue: Overdue) -> Sight {
    if overdue == Overdue::TooMany {
        return Sight::Untried;
    }
    let message = format!("{path}: {overdue}; check the device");
    Sight::Failed { reason: HealthReason::ProbeTimeout, message }
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
    let about = About::path(&path).on(Some(seen.facts.device));
    let look = move || identify::inside(&at, &seen.facts.fingerprint, depth, &table);
    attempts.run(about, look).await.unwrap_or_else(|overdue| Err(hangs(&path, overdue)))
}

/// Notes where on the host each source is mounted. Where that is not known, what is recorded of it stands.
fn note_host_mounts(found: &mut Found, host: &Result<Option<MountTable>, Error>) {
    for candidate in &mut found.candidates {
        let Sight::Source(seen) = &mut candidate.sight else { continue };
        seen.host_mounts = match host {
            Ok(Some(table)) => Some(identify::places(&seen.facts, table)),
            Ok(None) => Some(Vec::new()),
            Err(_) => None,
        };
    }
}

fn note(sight: &mut Sight, inside: &Result<Inside, Sight>) {
    match (sight, inside) {
        (Sight::Source(seen), Ok(inside)) => {
            seen.contents = Some(inside.contents.clone());
            seen.root.clone_from(&inside.root);
        }
        // What is within stays unknown; what it is has been seen.
        (Sight::Source(_), Err(Sight::Untried)) => {}
        (sight, Err(failed)) => *sight = failed.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
