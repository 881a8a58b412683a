//! The static provisioner's configuration, taken as it stands: its classes become pools, and of each key it is said what
//! it becomes.
//!
//! The file is the provisioner's ConfigMap, its `data`, or the `storageClassMap` alone. Strict, as `pools.yaml` is: the
//! provisioner overlooks what it does not know, and this refuses it. What the provisioner knows and Berth does in another
//! way is a warning by name. [`raw`] has the shapes of the file, [`class`] what a class becomes, [`cleaner`] what its
//! cleaner does, [`global`] the keys beside the classes.

mod class;
mod cleaner;
mod global;
mod raw;

use std::fmt;
use std::path::Path;

use super::Pools;
use super::config::{ConfigError, Problem, value};

/// What a file of the static provisioner becomes.
#[derive(Debug)]
pub struct Migration {
    /// Its classes, as pools.
    pub pools: Pools,
    /// What each key becomes, in the order of a person's reading.
    pub report: Vec<Line>,
}

/// What one key becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The key, for example `storageClassMap.fast-disks.hostDir`.
    pub key: String,
    /// What becomes of it; where a key of `pools.yaml` stands for it, that key.
    pub text: String,
    /// Whether a person should read it: something is not as it was.
    pub is_warning: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.is_warning { "WARNING: " } else { "" };
        write!(formatter, "{}: {warning}{}", self.key, self.text)
    }
}

/// Reads what `text` configures; `file` is named in errors.
pub fn parse(text: &str, file: &Path) -> Result<Migration, ConfigError> {
    migrated(text).map_err(|mut problems| {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        ConfigError::Invalid { file: file.to_owned(), problems }
    })
}

fn migrated(text: &str) -> Result<Migration, Vec<Problem>> {
    let raw::File { origin, classes, globals } =
        raw::read(text).map_err(|problem| vec![problem])?;
    let mut notes = Notes { origin: &origin, problems: Vec::new(), report: Vec::new() };
    if classes.is_empty() {
        notes.problem((1, 1), "", "there is no class, and so no pool; name at least one");
    }
    let places: Vec<_> =
        classes.iter().map(|(name, class)| (name.clone(), raw::place(class))).collect();
    let pools: Vec<_> = (classes.iter())
        .filter_map(|(name, class)| class::Reader::new(name, &mut notes).pool(class))
        .collect();
    for (name, message) in value::overlapping(&pools.iter().collect::<Vec<_>>()) {
        let place = places.iter().find(|(class, _)| class == name.as_str());
        let place = place.map(|(_, place)| *place).unwrap_or_default();
        notes.problem(place, &format!("{name}.hostDir"), message);
    }
    let Notes { mut problems, mut report, .. } = notes;
    for global in &globals {
        match global::line(global) {
            Ok(line) => report.push(line),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        Ok(Migration { pools, report })
    } else {
        Err(problems)
    }
}

/// What is found while classes are read.
struct Notes<'a> {
    origin: &'a raw::Origin,
    problems: Vec<Problem>,
    report: Vec<Line>,
}

impl Notes<'_> {
    fn problem(&mut self, place: (u64, u64), key: &str, message: impl Into<String>) {
        self.problems.push(self.origin.problem(place, key, message.into()));
    }

    fn line(&mut self, key: &str, is_warning: bool, text: String) {
        self.report.push(Line { key: self.origin.key(key), text, is_warning });
    }
}

#[cfg(test)]
mod tests;
