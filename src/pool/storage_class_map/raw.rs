//! The shapes that the file may have, as they are written: types and known keys, no meaning yet.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::global;
use crate::pool::config::wording::Advice;
use crate::pool::config::{Problem, raw};

/// What a file has, whatever its shape.
pub(super) struct File {
    /// Where the classes are written.
    pub(super) origin: Origin,
    pub(super) classes: Classes,
    /// The keys beside the classes.
    pub(super) globals: Vec<Global>,
}

pub(super) type Classes = BTreeMap<String, Spanned<RawClass>>;

/// One key beside the classes, with its value as the text that a ConfigMap has.
pub(super) struct Global {
    pub(super) key: String,
    pub(super) value: Spanned<String>,
}

/// One class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawClass {
    pub(super) host_dir: Spanned<String>,
    #[serde(default)]
    pub(super) mount_dir: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) volume_mode: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) fs_type: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) name_pattern: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) block_cleaner_command: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) access_mode: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) selector: Option<Spanned<IgnoredAny>>,
}

/// A whole ConfigMap.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Manifest {
    #[serde(default, rename = "apiVersion")]
    _api_version: IgnoredAny,
    kind: Spanned<String>,
    #[serde(default, rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(default, rename = "immutable")]
    _immutable: IgnoredAny,
    data: Spanned<Data>,
}

type Data = BTreeMap<String, Spanned<String>>;

/// The keys of a map, whatever their values.
struct Keys(BTreeSet<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?;
        Ok(Self(map.into_keys().collect()))
    }
}

/// The key of the classes.
const CLASSES: &str = "storageClassMap";

/// Line and column of a value.
pub(super) fn place<T>(value: &Spanned<T>) -> (u64, u64) {
    (value.referenced.line(), value.referenced.column())
}

/// Reads a file of any of its shapes.
pub(super) fn read(text: &str) -> Result<File, Problem> {
    let Keys(keys) = yaml(text)?;
    if keys.contains("kind") && keys.contains("data") {
        let Manifest { kind, data, .. } = yaml(text)?;
        if kind.value != "ConfigMap" {
            let message = format!("{:?} is no ConfigMap", kind.value);
            return Err(problem(place(&kind), "kind".to_owned(), message));
        }
        let at = place(&data);
        file(text, data.value, at)
    } else if keys.contains(CLASSES) || keys.iter().any(|key| global::is_known(key)) {
        file(text, yaml(text)?, (1, 1))
    } else {
        Ok(File { origin: Origin::itself(), classes: yaml(text)?, globals: Vec::new() })
    }
}

/// Takes the `data` of a ConfigMap apart. The classes are a YAML document in a string.
fn file(text: &str, mut data: Data, at: (u64, u64)) -> Result<File, Problem> {
    let embedded = data
        .remove(CLASSES)
        .ok_or_else(|| problem(at, CLASSES.to_owned(), "it is missing".to_owned()))?;
    let origin = Origin::of(&embedded, text);
    let classes = yaml(&embedded.value).map_err(|inner| {
        origin.problem((inner.line.unwrap_or(1), inner.column), &inner.key, inner.message)
    })?;
    let globals = data.into_iter().map(|(key, value)| Global { key, value }).collect();
    Ok(File { origin, classes, globals })
}

/// What to write instead of what has another shape.
const ADVICE: Advice = Advice {
    keys: &[
        ("", "write for example fast: {hostDir: /mnt/fast}"),
        // A map where a ConfigMap can only have a string is a frequent slip.
        (
            CLASSES,
            "write `storageClassMap: |` and the classes beneath it, or give the classes alone",
        ),
        ("data", "write storageClassMap beneath it"),
    ],
    pool: "write for example {hostDir: /mnt/fast}",
    list: "write it in brackets, for example [/scripts/shred.sh, \"3\"]",
};

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    raw::yaml(text, &ADVICE)
}

pub(super) fn problem((line, column): (u64, u64), key: String, message: String) -> Problem {
    Problem { line: Some(line), column, key, message }
}

/// Where a document is written in the file, so that its lines can be told as the file's.
pub(super) struct Origin {
    /// What its keys stand under.
    parent: &'static str,
    shift: Shift,
}

enum Shift {
    /// So many lines and columns are before it.
    By(u64, u64),
    /// It is written in a way that has no lines of its own: here.
    At(u64, u64),
}

impl Origin {
    /// The document is the file.
    fn itself() -> Self {
        Self { parent: "", shift: Shift::By(0, 0) }
    }

    /// The document is the text of `embedded`, a string in `file`.
    fn of(embedded: &Spanned<String>, file: &str) -> Self {
        let (line, column) = place(embedded);
        // In a literal block (`|`) each line stands in the file as it is, indented; otherwise escapes and folding are
        // between.
        let number = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut written = file.lines().skip(number(line));
        let is_literal = embedded.value.lines().all(|inner| {
            let outer = written.next().unwrap_or_default();
            inner.is_empty() || outer.get(number(column)..) == Some(inner)
        });
        let by = Shift::By(line.saturating_sub(1), column.saturating_sub(1));
        Self { parent: CLASSES, shift: if is_literal { by } else { Shift::At(line, column) } }
    }

    /// A key of the document, as a key of the file.
    pub(super) fn key(&self, key: &str) -> String {
        let dot = if self.parent.is_empty() || key.is_empty() { "" } else { "." };
        format!("{}{dot}{key}", self.parent)
    }

    /// A problem at a place in the document.
    pub(super) fn problem(
        &self,
        (line, column): (u64, u64),
        key: &str,
        message: String,
    ) -> Problem {
        let place = match self.shift {
            Shift::By(lines, columns) => (line + lines, column + columns),
            Shift::At(line, column) => (line, column),
        };
        problem(place, self.key(key), message)
    }
}
