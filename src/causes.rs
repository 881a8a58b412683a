//! An error in one sentence, with what caused it.
//!
//! A log line that is given an error as a value keeps the causes in text and drops them in JSON; a line that is given this
//! says the same in both. Any module may use it.

use std::error::Error;

/// `error`, then what lies beneath it, to the bottom. A cause that its effect has told already is not told again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    for cause in causes.map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk was not read")]
    struct NotRead(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no answer: {0}")]
    struct NoAnswer(#[source] NotRead);

    #[test]
    fn an_error_is_told_with_every_cause_and_each_of_them_once() {
        let error = NoAnswer(NotRead(io::Error::other("it hangs")));

        assert_eq!(chain(&error), "no answer: the disk was not read: it hangs");
    }

    #[test]
    fn no_line_of_the_log_is_given_an_error_as_a_value_whose_causes_json_would_drop() {
        let given = concat!("as &dyn std::error::", "Error");
        let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    assert!(!text.contains(given), "{}: say causes::chain", path.display());
                }
            }
        }
    }
}
