//! Checks of the ledger's rows; see [`crate::hostile`].

use super::file;

/// A row of the ledger's file: what is taken is written as it was, and a row never stands for another volume.
pub fn records(data: &[u8]) {
    file::hostile(data);
}
