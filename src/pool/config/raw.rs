//! The shape of `pools.yaml`, as it is written: types and known keys, no meaning yet.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Problem;
use super::wording::{Advice, POOLS, problem};
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
    pub(super) clean_devices: Option<Spanned<RawClean>>,
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
    pub(super) verify: Option<bool>,
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

/// A quantity as it is written: a number of bytes, or one with a unit.
#[derive(Debug)]
pub(super) struct RawQuantity(pub(super) String);

impl<'de> Deserialize<'de> for RawQuantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity)
    }
}

/// Takes any scalar, so that what is wrong with one is said where its meaning is known.
struct Quantity;

impl Visitor<'_> for Quantity {
    type Value = RawQuantity;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of bytes, for example 500Mi, 10Gi, 2T or 1073741824")
    }

    fn visit_u64<E>(self, number: u64) -> Result<RawQuantity, E> {
        Ok(RawQuantity(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawQuantity, E> {
        Ok(RawQuantity(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<RawQuantity, E> {
        Ok(RawQuantity(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawQuantity, E> {
        Ok(RawQuantity(text.to_owned()))
    }
}

/// Reads the shape of a file.
pub(super) fn read(text: &str) -> Result<RawFile, Vec<Problem>> {
    yaml(text, &POOLS).map_err(|problem| vec![problem])
}

/// Reads a document of YAML, or says where it has another shape.
pub(in crate::pool) fn yaml<T: DeserializeOwned>(
    text: &str,
    advice: &Advice,
) -> Result<T, Problem> {
    let mut keys = Vec::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            keys = written(error.path());
            error.into_inner()
        })
    });
    read.map_err(|error| problem(&error, keys, advice))
}

/// The path of a key as it is written in the file: each [`Spanned`] adds a step `value`, which is no key.
fn written(path: &serde_path_to_error::Path) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let mut after_key = false;
    for step in path {
        let step = step.to_string();
        after_key = !(after_key && step == "value");
        if after_key {
            keys.push(step);
        }
    }
    keys
}
