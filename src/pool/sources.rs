//! The files that say what pools there are: `pools.yaml`, the static provisioner's classes, or both.

use std::fmt;
use std::path::PathBuf;

use super::config::{self, ConfigError, Problem, value};
use super::storage_class_map::{self, Line};
use super::{Pool, Pools};

/// Where the pools are configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--storage-class-map`.
    pub storage_class_map: Option<PathBuf>,
}

/// What the files say, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    config: Option<Text>,
    storage_class_map: Option<Text>,
}

/// A file and what it says.
type Text = (PathBuf, String);

/// The pools of all files.
#[derive(Debug)]
pub struct Loaded {
    /// The pools.
    pub pools: Pools,
    /// What each key of the static provisioner became.
    pub report: Vec<Line>,
}

impl fmt::Display for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = [&self.config, &self.storage_class_map].into_iter().flatten();
        let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
        formatter.write_str(&files.join(" and "))
    }
}

impl Sources {
    /// Reads the files.
    pub fn read(&self) -> Result<Texts, ConfigError> {
        let read = |file: &Option<PathBuf>| -> Result<Option<Text>, ConfigError> {
            file.as_ref().map(|file| Ok((file.clone(), config::read(file)?))).transpose()
        };
        Ok(Texts { config: read(&self.config)?, storage_class_map: read(&self.storage_class_map)? })
    }

    /// Reads the pools.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        self.read()?.parse()
    }
}

impl Texts {
    /// The pools that the files configure.
    pub fn parse(&self) -> Result<Loaded, ConfigError> {
        let pools = match &self.config {
            Some((file, text)) => config::parse(text, file)?,
            None => Pools::new(),
        };
        let Some((file, text)) = &self.storage_class_map else {
            return Ok(Loaded { pools, report: Vec::new() });
        };
        let migration = storage_class_map::parse(text, file)?;
        let problems = conflicts(&pools, &migration.pools);
        if problems.is_empty() {
            let pools = pools.into_iter().chain(migration.pools).collect();
            Ok(Loaded { pools, report: migration.report })
        } else {
            Err(ConfigError::Invalid { file: file.clone(), problems })
        }
    }
}

/// What stands against having both: names and directories that are in both.
fn conflicts(pools: &Pools, classes: &Pools) -> Vec<Problem> {
    let problem = |name: &dyn ToString, message: String| Problem {
        line: None,
        column: 0,
        key: name.to_string(),
        message,
    };
    let doubled = classes.keys().filter(|name| pools.contains_key(*name));
    let doubled: Vec<_> = doubled
        .map(|name| problem(name, "there is such a pool in the other file (--config), too".into()))
        .collect();
    if !doubled.is_empty() {
        return doubled;
    }
    let all: Vec<&Pool> = pools.values().chain(classes.values()).collect();
    let overlaps = value::overlapping(&all).into_iter();
    overlaps.map(|(name, message)| problem(name, message)).collect()
}

#[cfg(test)]
mod tests;
