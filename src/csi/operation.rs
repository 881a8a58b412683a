//! One operation at a time: a second call about the same volume, or the same name, is told that the first has not ended.
//!
//! For what is decided. What is mounted has turns of its own ([`crate::publish`]), which last as long as the work and not
//! as long as the call; between the two the inventory decides, as it has to where they are in two processes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The operations under way. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    held: Arc<Mutex<HashSet<String>>>,
}

/// Another operation has the key. `ABORTED`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an operation on {0} is under way: ask again when it has ended")]
pub(super) struct Busy(String);

/// The turn to work on a key; given up when it is dropped, whatever became of the call.
#[derive(Debug)]
pub(super) struct Operation {
    key: String,
    held: Arc<Mutex<HashSet<String>>>,
}

impl Operations {
    /// Takes the turn on `key`: a volume's or a claim's name, told apart by `kind`.
    pub(super) fn begin(&self, kind: &'static str, key: &impl ToString) -> Result<Operation, Busy> {
        about(kind, key);
        let key = format!("{kind} {}", key.to_string());
        // A panic while the set was locked leaves it whole: every change of it is one call.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.insert(key.clone()) {
            return Err(Busy(key));
        }
        Ok(Operation { key, held: Arc::clone(&self.held) })
    }
}

/// Says whose call it is, for the one line that is logged of it.
pub(super) fn about(kind: &'static str, key: &impl ToString) {
    tracing::Span::current().record(kind, key.to_string());
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_operation_waits_for_the_first_to_end_and_another_volume_does_not() {
        let operations = Operations::default();
        let first = operations.begin("volume", &"v1").unwrap();

        assert_eq!(operations.begin("volume", &"v1").unwrap_err(), Busy("volume v1".into()));
        assert!(operations.begin("volume", &"v2").is_ok());
        assert!(operations.begin("claim", &"v1").is_ok());
        drop(first);
        assert!(operations.begin("volume", &"v1").is_ok());
    }
}
