//! What is wrong with the shape of a file, in the words of whoever wrote it: what the YAML library says is for
//! programmers.

use serde_saphyr::{Error, UserMessageFormatter};

use super::Problem;

/// What to write instead of what has another shape, in a kind of file.
pub(in crate::pool) struct Advice {
    /// For these keys; the file itself has an empty one.
    pub(in crate::pool) keys: &'static [(&'static str, &'static str)],
    /// For any other key that has keys of its own.
    pub(in crate::pool) pool: &'static str,
    /// For a list.
    pub(in crate::pool) list: &'static str,
}

/// For `pools.yaml`.
pub(super) const POOLS: Advice = Advice {
    keys: &[
        ("", "write for example pools: {fast: {path: /mnt/fast}}"),
        ("clean", "write for example {method: delete}"),
        ("cleanDevices", "write for example {method: discard}"),
        ("pools", "write for example {fast: {path: /mnt/fast}}"),
    ],
    pool: "write for example {path: /mnt/fast}",
    list: "write it in brackets, for example [mount, directory]",
};

impl Advice {
    fn on(&self, key: &str) -> Option<&'static str> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, advice)| *advice)
    }
}

/// The problem behind `error`, which came up at `keys`.
pub(super) fn problem(error: &Error, mut keys: Vec<String>, advice: &Advice) -> Problem {
    let error = error.without_snippet();
    // A key that could not be read has no name.
    keys.retain(|key| key != "?");
    if let Error::DuplicateMappingKey { key: Some(key), .. } = error {
        keys.push(key.clone());
    }
    let message = plain(error, keys.last().map_or("", String::as_str), advice);
    let location = error.location();
    Problem {
        line: location.map(|location| location.line()),
        column: location.map_or(0, |location| location.column()),
        key: keys.join("."),
        message: message.unwrap_or_else(|| other(error)),
    }
}

fn plain(error: &Error, key: &str, advice: &Advice) -> Option<String> {
    Some(match error {
        Error::Eof { .. } => {
            format!("the file ends here; {}", advice.on("").unwrap_or(advice.pool))
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a file of pools has only one".into()
        }
        Error::DuplicateMappingKey { .. } => "it is there a second time; take one out".into(),
        Error::NullIntoString { .. } => "it has no value".into(),
        Error::Unexpected { expected: "mapping start", .. } => {
            let has = if key == "pools" { "a key for each pool" } else { "keys of its own" };
            format!("it has {has}: {}", advice.on(key).unwrap_or(advice.pool))
        }
        Error::Unexpected { expected: "sequence start", .. } => {
            format!("it is a list: {}", advice.list)
        }
        Error::Unexpected { expected: "string scalar", .. } => {
            format!("it is text: {}", advice.on(key).unwrap_or("write it without brackets or keys"))
        }
        Error::InvalidScalar { ty: "boolean", .. } => "it is true or false".into(),
        Error::InvalidScalar { ty: "u32", .. } => "it is a whole number".into(),
        Error::SerdeInvalidType { expected, .. } => format!("it is {expected}"),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{variant:?} is none of {}", expected.join(", "))
        }
        Error::SerdeUnknownField { expected, .. } => {
            format!("there is no such key here; there are {}", expected.join(", "))
        }
        Error::SerdeMissingField { field, .. } => format!("the key {field} is missing"),
        _ => return None,
    })
}

fn other(error: &Error) -> String {
    let mut message = error.render_with_options(serde_saphyr::render_options! {
        formatter: &UserMessageFormatter,
        snippets: serde_saphyr::SnippetMode::Off,
    });
    // The place is told once, in front.
    if let Some(at) = message.rfind(" at line ").filter(|_| error.location().is_some()) {
        message.truncate(at);
    }
    message
}
