//! Checks of configuration; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use std::path::{Component, Path};

use globset::GlobSetBuilder;

use super::config::{self, ConfigError, value};
use super::{Pools, storage_class_map as migration};
use crate::volume::{Bytes, CleanMethod, CleanPolicy};

const FILE: &str = "pools.yaml";

/// `pools.yaml`: what is taken has no pool that could be another directory than it says, and what is not is said why.
pub fn pools(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, Path::new(FILE)) {
        Ok(pools) => sound(&pools),
        Err(error) => told(&error, text),
    }
}

/// The static provisioner's configuration, the same.
pub fn storage_class_map(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match migration::parse(text, Path::new(FILE)) {
        Ok(migrated) => {
            sound(&migrated.pools);
            assert!(migrated.report.iter().all(|line| !line.to_string().is_empty()));
        }
        Err(error) => told(&error, text),
    }
}

/// A glob on names, and after a line feed the name of an entry: what is taken can be matched with.
pub fn globs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (written, name) = text.split_once('\n').unwrap_or((text, "v1"));
    let Ok(glob) = value::glob(written) else { return };
    assert!(!written.contains('/'));
    match GlobSetBuilder::new().add(glob).build() {
        Ok(set) => drop(set.is_match(name)),
        Err(error) => panic!("{written:?} is taken and cannot be used: {error}"),
    }
}

fn sound(pools: &Pools) {
    assert!(!pools.is_empty());
    for (name, pool) in pools {
        assert_eq!(*name, pool.name);
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        assert!(pool.path.is_absolute() && pool.path.components().all(plain));
        assert!(pool.path.file_name().is_some(), "the root directory is a pool");
        assert!(pool.accept.mount || pool.accept.directory || pool.accept.device);
        assert!(pool.capacity != Some(Bytes(0)));
        assert!(
            pool.mount_options.iter().all(|o| ["nosuid", "nodev", "noexec"].contains(&o.as_str()))
        );
        wipes(&pool.clean);
        pool.clean_devices.iter().for_each(wipes);
        let others = pools.values().filter(|other| other.name != *name);
        assert!(others.map(|other| &other.path).all(|other| !other.starts_with(&pool.path)));
    }
}

fn wipes(policy: &CleanPolicy) {
    match &policy.method {
        CleanMethod::Shred { passes } => assert!((1..=32).contains(passes)),
        CleanMethod::Command { command, timeout } => {
            assert!(!command.is_empty() && (1..=30 * 24 * 3600).contains(timeout));
            assert!(
                command.iter().all(|word| !word.contains('\0')),
                "a NUL ends no program's word"
            );
        }
        _ => {}
    }
}

fn told(error: &ConfigError, text: &str) {
    let ConfigError::Invalid { problems, .. } = error else { panic!("{error}") };
    assert!(!problems.is_empty());
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64;
    for problem in problems {
        assert!(problem.line.is_none_or(|line| line <= lines + 1), "{problem} of {lines} lines");
        assert!(!problem.message.is_empty());
    }
    assert!(error.to_string().starts_with(FILE));
}
