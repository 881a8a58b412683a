//! The shape of `pools.yaml`, as it is written: types and known keys, no meaning yet.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;
use crate::volume::{Mode, NewVolumes};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) pools: Spanned<BTreeMap<String, Spanned<RawPool>>>,
}

/// One pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawPool {
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) mode: Option<Mode>,
    #[serde(default, rename = "match")]
    pub(super) globs: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) accept: Option<Spanned<Vec<RawKind>>>,
    #[serde(default)]
    pub(super) new_volumes: NewVolumes,
    #[serde(default)]
    pub(super) clean: Option<Spanned<RawClean>>,
    #[serde(default)]
    pub(super) capacity: Option<Spanned<RawQuantity>>,
    #[serde(default)]
    pub(super) fs_type: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) mount_options: Vec<Spanned<String>>,
}

/// A kind of candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawKind {
    Mount,
    Directory,
    Device,
}

/// How a volume is wiped.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawClean {
    pub(super) method: Spanned<RawMethod>,
    #[serde(default)]
    pub(super) verify: bool,
    #[serde(default)]
    pub(super) passes: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) timeout: Option<Spanned<String>>,
}

/// A way to wipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawMethod {
    Delete,
    Reformat,
    None,
    Discard,
    Zero,
    Shred,
    Command,
}

/// A quantity: a bare number of bytes, or one with a unit.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawQuantity {
    Number(u64),
    Text(String),
}

/// Reads the shape of a file.
pub(super) fn read(text: &str) -> Result<RawFile, Vec<Problem>> {
    let mut key = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            key = written(error.path());
            error.into_inner()
        })
    });
    read.map_err(|error| vec![problem(&error, &key)])
}

/// The path of a key as it is written in the file: each [`Spanned`] adds a step `value`, which is no key.
fn written(path: &serde_path_to_error::Path) -> String {
    let mut keys: Vec<String> = Vec::new();
    let mut after_key = false;
    for step in path {
        let step = step.to_string();
        after_key = !(after_key && step == "value");
        if after_key {
            keys.push(step);
        }
    }
    keys.join(".")
}

fn problem(error: &serde_saphyr::Error, key: &str) -> Problem {
    let plain = error.without_snippet();
    let mut message = plain.render_with_options(serde_saphyr::render_options! {
        snippets: serde_saphyr::SnippetMode::Off,
    });
    // The place is told once, in front.
    if let Some(at) = message.rfind(" at line ").filter(|_| error.location().is_some()) {
        message.truncate(at);
    }
    let location = error.location();
    Problem {
        line: location.map(|location| location.line()),
        column: location.map_or(0, |location| location.column()),
        key: key.to_owned(),
        message,
    }
}
