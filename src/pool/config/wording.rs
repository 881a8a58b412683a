//! What is wrong with the shape of a file, in the words of whoever wrote it: what the YAML library says is for
//! programmers.

use serde_saphyr::{Error, UserMessageFormatter};

use super::Problem;

/// The problem behind `error`, which came up at `keys`.
pub(super) fn problem(error: &Error, mut keys: Vec<String>) -> Problem {
    let error = error.without_snippet();
    // A key that could not be read has no name.
    keys.retain(|key| key != "?");
    if let Error::DuplicateMappingKey { key: Some(key), .. } = error {
        keys.push(key.clone());
    }
    let message = plain(error, keys.last().map_or("", String::as_str));
    let location = error.location();
    Problem {
        line: location.map(|location| location.line()),
        column: location.map_or(0, |location| location.column()),
        key: keys.join("."),
        message: message.unwrap_or_else(|| other(error)),
    }
}

fn plain(error: &Error, key: &str) -> Option<String> {
    Some(match error {
        Error::Eof { .. } => {
            "the file ends here; write for example pools: {fast: {path: /mnt/fast}}".into()
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a file of pools has only one".into()
        }
        Error::DuplicateMappingKey { .. } => "it is there a second time; take one out".into(),
        Error::NullIntoString { .. } => "it has no value".into(),
        Error::Unexpected { expected: "mapping start", .. } => match key {
            "clean" | "cleanDevices" => {
                "it has keys of its own: write for example {method: delete}".into()
            }
            "pools" => {
                "it has a key for each pool: write for example {fast: {path: /mnt/fast}}".into()
            }
            _ => "it has keys of its own: write for example {path: /mnt/fast}".into(),
        },
        Error::Unexpected { expected: "sequence start", .. } => {
            "it is a list: write it in brackets, for example [mount, directory]".into()
        }
        Error::Unexpected { expected: "string scalar", .. } => {
            "it is text: write it without brackets or keys".into()
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
