//! What the values of `pools.yaml` mean, and which of them mean nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use globset::{GlobSet, GlobSetBuilder};
use serde_saphyr::Spanned;

use super::Problem;
use super::raw::{RawFile, RawKind, RawPool, RawQuantity};
use super::value::{directory, every_entry, glob, overlapping};
use crate::pool::{Accept, FsType, Pool, Pools};
use crate::volume::{Bytes, Mode, PoolName};

/// Options that every mount of a pool's volumes may get.
const MOUNT_OPTIONS: [&str; 3] = ["nosuid", "nodev", "noexec"];

/// The pools of a file, or everything that is wrong with them.
pub(super) fn pools(file: RawFile) -> Result<Pools, Vec<Problem>> {
    let mut problems = Problems::default();
    if file.pools.value.is_empty() {
        problems.add(&file.pools, "pools", "there is no pool; name at least one");
    }
    let places: BTreeMap<_, _> = file
        .pools
        .value
        .iter()
        .map(|(name, pool)| (name.clone(), place(&pool.value.path)))
        .collect();
    let pools: Vec<Pool> = (file.pools.value.into_iter())
        .filter_map(|(name, pool)| Checker { name: &name, problems: &mut problems }.pool(pool))
        .collect();
    overlaps(&pools, &places, &mut problems);
    if problems.0.is_empty() {
        Ok(pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect())
    } else {
        Err(problems.0)
    }
}

/// Line and column of a value.
fn place<T>(value: &Spanned<T>) -> (u64, u64) {
    (value.referenced.line(), value.referenced.column())
}

#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add<T>(&mut self, value: &Spanned<T>, key: &str, message: impl Into<String>) {
        self.at(place(value), key.to_owned(), message.into());
    }

    fn at(&mut self, (line, column): (u64, u64), key: String, message: String) {
        self.0.push(Problem { line: Some(line), column, key, message });
    }
}

/// Two pools over one directory are refused where the later one is.
fn overlaps(pools: &[Pool], places: &BTreeMap<String, (u64, u64)>, problems: &mut Problems) {
    for (name, message) in overlapping(&pools.iter().collect::<Vec<_>>()) {
        let place = places.get(name.as_str()).copied().unwrap_or_default();
        problems.at(place, format!("pools.{name}.path"), message);
    }
}

/// Checks one pool and notes what is wrong with it.
pub(super) struct Checker<'a> {
    name: &'a str,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    pub(super) fn wrong<T>(&mut self, value: &Spanned<T>, key: &str, message: impl Into<String>) {
        let dot = if key.is_empty() { "" } else { "." };
        self.problems.add(value, &format!("pools.{}{dot}{key}", self.name), message);
    }

    fn pool(mut self, raw: Spanned<RawPool>) -> Option<Pool> {
        let before = self.problems.0.len();
        let name: Option<PoolName> =
            self.name.parse().map_err(|error| self.wrong(&raw, "", format!("{error}"))).ok();
        let pool = raw.value;
        let mode = pool.mode.unwrap_or(Mode::Filesystem);
        let path = self.path(&pool.path);
        let (entries, globs) = self.globs(pool.globs.as_ref());
        let accept = self.accept(mode, pool.accept.as_ref());
        let (clean, clean_devices) = self.ways(mode, accept, &pool);
        let capacity = self.capacity(accept, mode, pool.capacity.as_ref());
        let fs_type = self.fs_type(accept, mode, pool.fs_type.as_ref());
        let mount_options = self.mount_options(mode, &pool.mount_options);
        (self.problems.0.len() == before).then_some(Pool {
            name: name?,
            path,
            mode,
            entries,
            globs,
            accept,
            new_volumes: pool.new_volumes,
            clean,
            clean_devices,
            capacity,
            fs_type,
            mount_options,
        })
    }

    fn path(&mut self, path: &Spanned<String>) -> PathBuf {
        directory(&path.value).unwrap_or_else(|message| {
            self.wrong(path, "path", message);
            PathBuf::new()
        })
    }

    fn globs(&mut self, globs: Option<&Spanned<Vec<Spanned<String>>>>) -> (GlobSet, Vec<String>) {
        let Some(globs) = globs else { return every_entry() };
        if globs.value.is_empty() {
            let message = "no entry can match an empty list; leave it out to match every entry";
            self.wrong(globs, "match", message);
        }
        let mut set = GlobSetBuilder::new();
        for written in &globs.value {
            match glob(&written.value) {
                Ok(pattern) => drop(set.add(pattern)),
                Err(message) => self.wrong(written, "match", message),
            }
        }
        let written = globs.value.iter().map(|glob| glob.value.clone()).collect();
        let set = set.build().unwrap_or_else(|error| {
            self.wrong(globs, "match", format!("they cannot be matched with: {}", error.kind()));
            GlobSet::default()
        });
        (set, written)
    }

    fn accept(&mut self, mode: Mode, kinds: Option<&Spanned<Vec<RawKind>>>) -> Accept {
        let default: &[RawKind] = match mode {
            Mode::Filesystem => &[RawKind::Mount],
            Mode::Block => &[RawKind::Device],
        };
        if let Some(kinds) = kinds {
            if kinds.value.is_empty() {
                self.wrong(
                    kinds,
                    "accept",
                    "nothing can be a volume of this pool; name mount, directory or device",
                );
            } else if mode == Mode::Block && kinds.value.iter().any(|kind| *kind != RawKind::Device)
            {
                self.wrong(
                    kinds,
                    "accept",
                    "a Block pool has only devices; accept [device] or leave it out",
                );
            }
        }
        if let Some(kinds) = kinds.filter(|kinds| has_twice(&kinds.value)) {
            self.wrong(kinds, "accept", "a kind is there twice; take one out");
        }
        let kinds = kinds.map_or(default, |kinds| &kinds.value);
        let has = |kind| kinds.contains(&kind);
        Accept {
            mount: has(RawKind::Mount),
            directory: has(RawKind::Directory),
            device: has(RawKind::Device),
        }
    }

    fn capacity(
        &mut self,
        accept: Accept,
        mode: Mode,
        raw: Option<&Spanned<RawQuantity>>,
    ) -> Option<Bytes> {
        let raw = raw?;
        if mode == Mode::Block || !(accept.mount || accept.directory) {
            self.wrong(
                raw,
                "capacity",
                "a device has the size that it has; only directories are given one",
            );
        }
        match raw.value.0.parse() {
            Ok(Bytes(0)) => self.wrong(raw, "capacity", "it must be more than nothing"),
            Ok(bytes) => return Some(bytes),
            Err(error) => self.wrong(raw, "capacity", error.to_string()),
        }
        None
    }

    fn fs_type(&mut self, accept: Accept, mode: Mode, raw: Option<&Spanned<String>>) -> FsType {
        let Some(raw) = raw else { return FsType::default() };
        if mode == Mode::Block || !accept.device {
            self.wrong(
                raw,
                "fsType",
                "file systems are made only on the devices of a Filesystem pool that accepts them",
            );
        }
        FsType::named(&raw.value).unwrap_or_else(|| {
            self.wrong(raw, "fsType", format!("{:?} is not ext4 or xfs", raw.value));
            FsType::default()
        })
    }

    fn mount_options(&mut self, mode: Mode, options: &[Spanned<String>]) -> Vec<String> {
        for option in options {
            if mode == Mode::Block {
                self.wrong(option, "mountOptions", "a raw device is not mounted");
            } else if !MOUNT_OPTIONS.contains(&option.value.as_str()) {
                self.wrong(
                    option,
                    "mountOptions",
                    format!("{:?} is not nosuid, nodev or noexec", option.value),
                );
            }
        }
        options.iter().map(|option| option.value.clone()).collect()
    }
}

fn has_twice(kinds: &[RawKind]) -> bool {
    kinds.iter().enumerate().any(|(index, kind)| kinds[..index].contains(kind))
}
