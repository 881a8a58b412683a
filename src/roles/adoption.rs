//! A ledger that knows nothing learns everything from the API server before anything is decided by it; and so does one that
//! an agent had begun to fill when it ended. Which of the two it is says a file beside the ledger.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// That a ledger is being filled, until [`Adoption::end`]; over restarts too.
#[derive(Debug)]
pub(super) struct Adoption {
    file: PathBuf,
}

impl Adoption {
    /// Begins, or goes on with, the filling of the ledger in `state`; nothing if it `knows` and was whole before. To be called
    /// before the ledger learns anything.
    pub(super) fn begin(state: &Path, knows: bool) -> io::Result<Option<Self>> {
        let file = state.join("adopting");
        if knows && !file.exists() {
            return Ok(None);
        }
        File::create(&file)?.sync_all()?;
        File::open(state)?.sync_all()?;
        Ok(Some(Self { file }))
    }

    /// The ledger has all that the API server knew.
    pub(super) fn end(self) -> io::Result<()> {
        fs::remove_file(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_was_filled_half_when_its_agent_ended_is_filled_before_it_is_believed() {
        let state = tempfile::tempdir().unwrap();
        let is_needed = |knows| Adoption::begin(state.path(), knows).unwrap();

        let killed = is_needed(false);
        assert!(killed.is_some());
        drop(killed);
        let again = is_needed(true);
        assert!(again.is_some());
        again.unwrap().end().unwrap();

        assert!(is_needed(true).is_none());
    }
}
