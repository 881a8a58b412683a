//! `pools.yaml`: text to pools, or every problem with its file, line, column and key.
//!
//! Strict: an unknown key, a wrong type, a value that means nothing or two pools over one directory are refused. A
//! configuration that is half understood would offer, or wipe, what its author did not mean. The rules of values
//! stand in [`check`], [`clean`] and [`value`]; the shape of the file in [`raw`].

mod check;
mod clean;
pub(super) mod raw;
pub(super) mod value;
pub(super) mod wording;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::Pools;

/// A file of pools that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any file of pools.
    #[error("{} is larger than 1 MiB and so is no file of pools", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file does not say what pools there are.
    #[error("{}", lines(file, problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a file of pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; absent where the problem has no place.
    pub line: Option<u64>,
    /// The column, from 1.
    pub column: u64,
    /// The key, for example `pools.fast-disks.clean.method`; empty where it has none.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "{line}:{}: ", self.column)?;
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

fn lines(file: &Path, problems: &[Problem]) -> String {
    let line = |problem| format!("{}:{problem}", file.display());
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes that a file of pools may have: what fits a Kubernetes ConfigMap. More is another file, or a device.
const SIZE_MAX: u64 = 1 << 20;

/// Reads the pools that the file at `path` configures.
pub fn load(path: &Path) -> Result<Pools, ConfigError> {
    parse(&read(path)?, path)
}

/// The text of the file at `path`.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(SIZE_MAX + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(ConfigError::TooLarge { file: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::Invalid {
        file: path.to_owned(),
        problems: vec![not_utf8(&error)],
    })
}

fn not_utf8(error: &FromUtf8Error) -> Problem {
    let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
    let lines: Vec<_> = good.split(|byte| *byte == b'\n').collect();
    let before = lines.last().map_or(0, |line| String::from_utf8_lossy(line).chars().count());
    Problem {
        line: Some(lines.len() as u64),
        column: before as u64 + 1,
        key: String::new(),
        message: format!(
            "the byte {:#04x} is no UTF-8; save the file as UTF-8",
            bad.first().copied().unwrap_or_default()
        ),
    }
}

/// Reads the pools that `text` configures; `file` is named in errors.
pub fn parse(text: &str, file: &Path) -> Result<Pools, ConfigError> {
    let pools = raw::read(text).and_then(check::pools);
    pools.map_err(|mut problems| {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        ConfigError::Invalid { file: file.to_owned(), problems }
    })
}

#[cfg(test)]
mod tests;
