//! Every candidate of every pool, looked at side by side, each within a deadline: one bad entry stops no other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::found::{Candidate, Depth, Found, Sight};
use super::identify::{self, Look, Surroundings};
use super::list::{self, Entry};
use super::remember::Memory;
use crate::health::{About, Attempts, Overdue};
use crate::host;
use crate::host::mountinfo::MountTable;
use crate::host::namespace::HostNamespace;
use crate::pool::Pools;
use crate::volume::{Fingerprint, HealthReason, LocalVolume};

/// Why a host could not be scanned at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The mount table cannot be read.
    #[error("the mount table cannot be read, so no volume can be told from another")]
    MountTable(#[source] host::Error),
    /// The mount table was not given in time.
    #[error("the mount table was not given in time")]
    Overdue(#[source] Overdue),
}

/// One scan.
pub(super) struct Scan {
    /// What it found.
    pub(super) found: Found,
    /// The mount table that it went by.
    pub(super) mounts: Arc<MountTable>,
}

/// Reads the mount table.
async fn mount_table(attempts: &Attempts) -> Result<MountTable, Error> {
    let about = About::path("/proc/thread-self/mountinfo").vital();
    let read = attempts.run(about, MountTable::read).await;
    read.map_err(Error::Overdue)?.map_err(Error::MountTable)
}

/// Reads the mount table of the host, where that is another than this thread's: what it shows of volumes beyond that one is
/// the administrator's.
async fn host_table(attempts: &Attempts, host: HostNamespace) -> Result<Option<MountTable>, Error> {
    let about = About::path("/proc/1/mountinfo").vital();
    let read = attempts.run(about, move || host.table()).await;
    read.map_err(Error::Overdue)?.map_err(Error::MountTable)
}

/// What is known before a scan.
pub(super) struct Known<'a> {
    pub(super) host: HostNamespace,
    pub(super) pools: &'a Pools,
    pub(super) recorded: &'a [LocalVolume],
    /// How closely it is looked at what sources hold, by their identities; any other is searched.
    pub(super) depths: BTreeMap<Vec<u8>, Depth>,
}

/// Scans the pools, and the paths of the recorded volumes that no pool selects. Of what looks as it is remembered nothing
/// more is asked.
pub(super) async fn scan(
    attempts: &Attempts,
    known: Known<'_>,
    memory: &mut Memory,
) -> Result<Scan, Error> {
    let Known { host, pools, recorded, depths } = known;
    let mounts = Arc::new(mount_table(attempts).await?);
    let around = Arc::new(Surroundings { mounts: Arc::clone(&mounts), depths });
    let mut found = Found::default();
    let entries = list::entries(attempts, pools, &mut found).await;
    found.candidates = look_at(attempts, entries, &around, memory).await;
    let candidates: HashSet<_> = found.candidates.iter().map(|found| found.path.as_str()).collect();
    // Of what is in a directory that cannot be listed nothing is believed.
    let listed = recorded.iter().filter(|volume| !found.unreadable.contains_key(&volume.spec.pool));
    let paths = listed
        .map(|volume| &volume.status)
        .flat_map(|status| status.other_paths.iter().map(String::as_str).chain([&*status.path]));
    let paths: BTreeSet<_> =
        paths.filter(|path| !candidates.contains(path)).map(str::to_owned).collect();
    found.elsewhere = look_elsewhere(attempts, paths, &around).await;
    look_into_devices(attempts, &mut found, &around).await;
    note_host_mounts(&mut found, &host_table(attempts, host).await);
    Ok(Scan { found, mounts })
}

async fn look_at(
    attempts: &Attempts,
    entries: Vec<Entry>,
    around: &Arc<Surroundings>,
    memory: &mut Memory,
) -> Vec<Candidate> {
    let looks = entries.iter().map(|entry| {
        let look = Look {
            path: PathBuf::from(&entry.path),
            pool: Arc::clone(&entry.directory),
            is_directory: entry.is_directory,
            before: memory.of(&entry.path),
        };
        let around = Arc::clone(around);
        let about = About::path(&entry.path).on(entry.device(&around.mounts));
        (about, move || look.at(&around))
    });
    let looks = attempts.run_all(looks.collect()).await;
    let mut remembered = Vec::with_capacity(looks.len());
    let candidates = entries.into_iter().zip(looks).map(|(entry, look)| {
        let Entry { pool, name, path, .. } = entry;
        let (sight, known) = look.unwrap_or_else(|overdue| (hangs(&path, overdue), None));
        remembered.extend(known.map(|known| (path.clone(), known)));
        Candidate { pool, entry: name, path, sight }
    });
    let mut candidates: Vec<_> = candidates.collect();
    memory.keep(remembered.into_iter());
    candidates.sort_by(|one, other| (&one.path, &one.pool).cmp(&(&other.path, &other.pool)));
    candidates
}

async fn look_elsewhere(
    attempts: &Attempts,
    paths: BTreeSet<String>,
    around: &Arc<Surroundings>,
) -> BTreeMap<String, Sight> {
    let looks = paths.iter().map(|path| {
        let (at, around) = (PathBuf::from(path), Arc::clone(around));
        let device = around.mounts.at(&at).map(|mount| mount.device);
        (About::path(path).on(device), move || identify::at(&at, &around))
    });
    let looks = attempts.run_all(looks.collect()).await;
    let sights = paths.into_iter().zip(looks).map(|(path, look)| {
        let sight = look.unwrap_or_else(|overdue| hangs(&path, overdue));
        (path, sight)
    });
    sights.collect()
}

fn hangs(path: &str, overdue: Overdue) -> Sight {
    if overdue == Overdue::TooMany {
        return Sight::Untried;
    }
    let message = format!("{path}: {overdue}; check the device");
    Sight::Failed { reason: HealthReason::ProbeTimeout, message }
}

/// Looks into each device that is not settled, once however many paths lead to it: it is opened for oneself, so that two
/// looks at a time would take each other for its users.
async fn look_into_devices(attempts: &Attempts, found: &mut Found, around: &Arc<Surroundings>) {
    let mut same: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in found.candidates.iter().enumerate() {
        let Sight::Source(seen) = &candidate.sight else { continue };
        if matches!(seen.facts.fingerprint, Fingerprint::Device { .. }) {
            let identity = seen.facts.fingerprint.identity();
            if around.depth(&identity) != Depth::None {
                same.entry(identity).or_default().push(index);
            }
        }
    }
    let same: Vec<_> = same.into_values().collect();
    let looks = same.iter().filter_map(|indices| {
        let Candidate { path, sight, .. } = &found.candidates[*indices.first()?];
        let Sight::Source(seen) = sight else { return None };
        let (at, around) = (PathBuf::from(path), Arc::clone(around));
        let expected = seen.facts.fingerprint.clone();
        let about = About::path(path).on(Some(seen.facts.device));
        Some((about, move || identify::inside_device(&at, &expected, &around)))
    });
    let looks = attempts.run_all(looks.collect()).await;
    for (indices, look) in same.into_iter().zip(looks) {
        for index in indices {
            let Candidate { path, sight, .. } = &mut found.candidates[index];
            match look.clone().unwrap_or_else(|overdue| Err(hangs(path, overdue))) {
                // What is within stays unknown; what it is has been seen.
                Err(Sight::Untried) => {}
                Err(failed) => *sight = failed,
                Ok(contents) => {
                    if let Sight::Source(seen) = sight {
                        seen.contents = Some(contents);
                    }
                }
            }
        }
    }
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

#[cfg(test)]
mod tests;
