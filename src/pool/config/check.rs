//! What the values of `pools.yaml` mean, and which of them mean nothing.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde_saphyr::Spanned;

use super::Problem;
use super::raw::{RawClean, RawFile, RawKind, RawMethod, RawPool, RawQuantity};
use crate::pool::{Accept, FsType, Pool, Pools};
use crate::volume::{Bytes, CleanMethod, CleanPolicy, Mode, NewVolumes, PoolName};

/// Seconds that an administrator's program may take where nothing else is said.
const COMMAND_TIMEOUT: u64 = 600;
/// The most that can be said.
const COMMAND_TIMEOUT_MOST: u64 = 30 * 24 * 3600;
/// Passes of `shred` where nothing else is said.
const SHRED_PASSES: u32 = 3;
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

/// Two pools over one directory, or one inside another, would find the same volumes twice.
fn overlaps(pools: &[Pool], places: &BTreeMap<String, (u64, u64)>, problems: &mut Problems) {
    for (position, one) in pools.iter().enumerate() {
        for other in &pools[position + 1..] {
            if one.path.starts_with(&other.path) || other.path.starts_with(&one.path) {
                let place = places.get(other.name.as_str()).copied().unwrap_or_default();
                let message = format!(
                    "{} and {} of pool {} overlap; give each pool a directory of its own",
                    other.path.display(),
                    one.path.display(),
                    one.name
                );
                problems.at(place, format!("pools.{}.path", other.name), message);
            }
        }
    }
}

/// Checks one pool and notes what is wrong with it.
struct Checker<'a> {
    name: &'a str,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn wrong<T>(&mut self, value: &Spanned<T>, key: &str, message: impl Into<String>) {
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
        let clean = self.clean(mode, accept, pool.clean.as_ref());
        self.wipes_what_is_new(pool.new_volumes, pool.clean.as_ref());
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
            capacity,
            fs_type,
            mount_options,
        })
    }

    fn path(&mut self, path: &Spanned<String>) -> PathBuf {
        let plain = Path::new(&path.value);
        if !plain.is_absolute() {
            self.wrong(path, "path", format!("{:?} is not an absolute path", path.value));
        } else if plain.components().any(|part| part == Component::ParentDir) {
            self.wrong(path, "path", format!("{:?} has '..' in it", path.value));
        } else if path.value.contains('\0') {
            self.wrong(path, "path", format!("{:?} has a NUL character", path.value));
        } else if plain == Path::new("/") {
            self.wrong(path, "path", "the root directory cannot be a pool");
        }
        // Without `.`, doubled and trailing slashes, so that paths can be compared.
        plain.components().filter(|part| *part != Component::CurDir).collect()
    }

    fn globs(&mut self, globs: Option<&Spanned<Vec<Spanned<String>>>>) -> (GlobSet, Vec<String>) {
        let Some(globs) = globs else { return (every_entry(), vec!["*".to_owned()]) };
        if globs.value.is_empty() {
            let message = "no entry can match an empty list; leave it out to match every entry";
            self.wrong(globs, "match", message);
        }
        let mut set = GlobSetBuilder::new();
        for glob in &globs.value {
            match Glob::new(&glob.value) {
                _ if glob.value.contains('/') => {
                    let message = format!("{:?} has a '/', which no entry's name has", glob.value);
                    self.wrong(glob, "match", message);
                }
                Ok(pattern) => {
                    set.add(pattern);
                }
                Err(error) => {
                    let message = format!("{:?} is not a glob: {}", glob.value, error.kind());
                    self.wrong(glob, "match", message);
                }
            }
        }
        let written = globs.value.iter().map(|glob| glob.value.clone()).collect();
        (set.build().unwrap_or_default(), written)
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

    fn clean(
        &mut self,
        mode: Mode,
        accept: Accept,
        raw: Option<&Spanned<RawClean>>,
    ) -> CleanPolicy {
        let Some(raw) = raw else {
            let method = match mode {
                Mode::Filesystem => CleanMethod::Delete,
                Mode::Block => CleanMethod::Discard,
            };
            return CleanPolicy { method, verify: false };
        };
        let clean = &raw.value;
        self.allowed(mode, accept, &clean.method);
        self.stray_keys(clean);
        let method = match clean.method.value {
            RawMethod::Delete => CleanMethod::Delete,
            RawMethod::Reformat => CleanMethod::Reformat,
            RawMethod::None => CleanMethod::None,
            RawMethod::Discard => CleanMethod::Discard,
            RawMethod::Zero => CleanMethod::Zero,
            RawMethod::Shred => self.shred(clean),
            RawMethod::Command => self.command(raw),
        };
        CleanPolicy { method, verify: clean.verify }
    }

    fn allowed(&mut self, mode: Mode, accept: Accept, method: &Spanned<RawMethod>) {
        let only_devices = accept.device && !accept.mount && !accept.directory;
        let files = matches!(method.value, RawMethod::Delete | RawMethod::Reformat);
        let blocks =
            matches!(method.value, RawMethod::Discard | RawMethod::Zero | RawMethod::Shred);
        if mode == Mode::Block && files {
            self.wrong(
                method,
                "clean.method",
                "a Block pool is wiped by discard, zero, shred, command or none",
            );
        } else if mode == Mode::Filesystem && blocks && !only_devices {
            self.wrong(
                method,
                "clean.method",
                "directories are wiped by delete, reformat, command or none; discard, zero and shred need accept: [device]",
            );
        } else if method.value == RawMethod::Reformat && !accept.mount && !accept.device {
            self.wrong(
                method,
                "clean.method",
                "a plain directory has no file system of its own to make anew; use delete, command or none",
            );
        }
    }

    /// `newVolumes: clean` promises a wipe, and `none` would offer the data that was found.
    fn wipes_what_is_new(&mut self, new_volumes: NewVolumes, clean: Option<&Spanned<RawClean>>) {
        if let Some(clean) = clean
            && clean.value.method.value == RawMethod::None
            && new_volumes == NewVolumes::Clean
        {
            self.wrong(
                &clean.value.method,
                "clean.method",
                "newVolumes: clean needs a way to wipe; newVolumes: accept offers what volumes hold",
            );
        }
    }

    fn stray_keys(&mut self, clean: &RawClean) {
        let method = clean.method.value;
        if let Some(passes) = clean.passes.as_ref().filter(|_| method != RawMethod::Shred) {
            self.wrong(passes, "clean.passes", "only shred has passes");
        }
        if let Some(command) = clean.command.as_ref().filter(|_| method != RawMethod::Command) {
            self.wrong(command, "clean.command", "a command runs only with method: command");
        }
        if let Some(timeout) = clean.timeout.as_ref().filter(|_| method != RawMethod::Command) {
            self.wrong(timeout, "clean.timeout", "only a command has a timeout");
        }
    }

    fn shred(&mut self, clean: &RawClean) -> CleanMethod {
        let passes = clean.passes.as_ref().map_or(SHRED_PASSES, |passes| passes.value);
        if let Some(wrong) =
            clean.passes.as_ref().filter(|passes| !(1..=32).contains(&passes.value))
        {
            self.wrong(wrong, "clean.passes", format!("{passes} is not from 1 to 32"));
        }
        CleanMethod::Shred { passes }
    }

    fn command(&mut self, clean: &Spanned<RawClean>) -> CleanMethod {
        let raw = &clean.value;
        let command = raw.command.as_ref().map(|command| command.value.clone()).unwrap_or_default();
        match (&raw.command, command.first()) {
            (None, _) => {
                self.wrong(clean, "clean", "method: command needs command: [PROGRAM, ARGUMENT…]");
            }
            (Some(list), Some(program)) if Path::new(program).is_absolute() => {
                if command.iter().any(|word| word.contains('\0')) {
                    self.wrong(list, "clean.command", "it has a NUL character");
                }
            }
            (Some(list), _) => {
                self.wrong(
                    list,
                    "clean.command",
                    "it must start with the absolute path of a program; no shell is involved",
                );
            }
        }
        let timeout = match &raw.timeout {
            None => COMMAND_TIMEOUT,
            Some(text) => seconds(&text.value).unwrap_or_else(|| {
                self.wrong(
                    text,
                    "clean.timeout",
                    format!(
                        "{:?} is not a time of at most 30 days; write for example 30s, 10m or 2h",
                        text.value
                    ),
                );
                COMMAND_TIMEOUT
            }),
        };
        CleanMethod::Command { command, timeout }
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

/// The set that has every name.
fn every_entry() -> GlobSet {
    let set = Glob::new("*").and_then(|glob| GlobSetBuilder::new().add(glob).build());
    set.unwrap_or_default()
}

/// `30s`, `10m`, `2h` in seconds; nothing for anything else, for no time at all or for more than any wipe takes.
fn seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(unit).filter(|seconds| (1..=COMMAND_TIMEOUT_MOST).contains(seconds))
}
