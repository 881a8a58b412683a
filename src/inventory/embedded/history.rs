//! The wipes that are remembered, beyond the latest of each volume: written in the transaction that makes a wipe a
//! volume's latest, kept when the volume's record is gone, and bounded, the oldest going first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::volume::{VolumeName, WipeRecord};

/// How many wipes of one volume are kept.
pub(super) const OF_VOLUME: usize = 32;
/// How many are kept in all.
pub(super) const IN_ALL: usize = 4096;

/// Wipes by their number: a later one has a greater number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History(BTreeMap<u64, Arc<WipeRecord>>);

/// What becomes of a number: a wipe has it, or none has it any more.
pub(super) type Row = (u64, Option<Arc<WipeRecord>>);

impl History {
    /// What changes when these have ended, in this order.
    pub(super) fn after(&self, ended: Vec<WipeRecord>) -> Vec<Row> {
        let mut next = self.clone();
        let mut rows = BTreeMap::new();
        for wipe in ended {
            next.take(wipe, &mut rows);
        }
        rows.into_iter().collect()
    }

    /// Takes changes that are durable.
    pub(super) fn apply(&mut self, rows: Vec<Row>) {
        for (number, wipe) in rows {
            match wipe {
                Some(wipe) => self.0.insert(number, wipe),
                None => self.0.remove(&number),
            };
        }
    }

    /// All of them, the oldest first.
    pub(super) fn wipes(&self) -> Vec<Arc<WipeRecord>> {
        self.0.values().cloned().collect()
    }

    /// All of them, as they are written into a new file.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.0.iter().map(|(number, wipe)| (*number, Some(Arc::clone(wipe)))).collect()
    }

    fn take(&mut self, wipe: WipeRecord, rows: &mut BTreeMap<u64, Option<Arc<WipeRecord>>>) {
        let before = self.of(&wipe.volume).next_back();
        if before.is_some_and(|(_, before)| **before == wipe) {
            return;
        }
        let repeated = before.filter(|(_, before)| wipe.wipe.repeats(&before.wipe));
        let mut gone: Vec<u64> = repeated.map(|(number, _)| *number).into_iter().collect();
        let number = self.0.last_key_value().map_or(1, |(last, _)| last + 1);
        let kept = self.of(&wipe.volume).count() - gone.len();
        if kept == OF_VOLUME {
            gone.extend(self.of(&wipe.volume).next().map(|(number, _)| *number));
        } else if self.0.len() - gone.len() == IN_ALL {
            gone.extend(self.0.first_key_value().map(|(number, _)| *number));
        }
        for number in gone {
            self.0.remove(&number);
            rows.insert(number, None);
        }
        let wipe = Arc::new(wipe);
        self.0.insert(number, Arc::clone(&wipe));
        rows.insert(number, Some(wipe));
    }

    fn of(&self, volume: &VolumeName) -> impl DoubleEndedIterator<Item = (&u64, &Arc<WipeRecord>)> {
        self.0.iter().filter(move |(_, wipe)| wipe.volume == *volume)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::volume::fixture::named;
    use crate::volume::{Bytes, CleanMethod, Tenancy, Wipe, WipeResult};

    fn wipe(entry: &str, tenancy: u64, result: WipeResult) -> WipeRecord {
        let begun = Wipe::begun(Tenancy(tenancy), &CleanMethod::Delete, Timestamp::UNIX_EPOCH);
        named(entry, Bytes(1)).record_of(Wipe { result, ..begun })
    }

    fn after(history: &mut History, wipe: WipeRecord) -> Vec<Row> {
        let rows = history.after(vec![wipe]);
        history.apply(rows.clone());
        rows
    }

    fn tenancies(history: &History) -> Vec<u64> {
        history.wipes().iter().map(|wipe| wipe.wipe.tenancy.0).collect()
    }

    #[test]
    fn of_each_volume_the_latest_are_kept_and_of_all_the_latest() {
        let mut history = History::default();
        after(&mut history, wipe("other", 1000, WipeResult::Wiped));
        for tenancy in 0..OF_VOLUME as u64 + 5 {
            after(&mut history, wipe("v1", tenancy, WipeResult::Wiped));
        }
        assert_eq!(tenancies(&history)[..3], [1000, 5, 6]);
        assert_eq!(history.wipes().len(), OF_VOLUME + 1);

        for number in 0..IN_ALL {
            after(&mut history, wipe(&format!("n{number}"), 7, WipeResult::Wiped));
        }

        assert_eq!(history.wipes().len(), IN_ALL);
        assert!(tenancies(&history).iter().all(|tenancy| *tenancy == 7));
    }

    #[test]
    fn a_failure_alike_takes_the_place_of_the_one_before_and_nothing_is_told_twice() {
        let mut history = History::default();
        after(&mut history, wipe("v1", 1, WipeResult::Wiped));
        after(&mut history, wipe("v1", 2, WipeResult::Failed));

        let mut again = wipe("v1", 2, WipeResult::Failed);
        again.wipe.times = 2;
        assert_eq!(after(&mut history, again.clone()).len(), 2);
        assert_eq!(after(&mut history, again), []);

        let kept: Vec<_> = history.wipes().iter().map(|wipe| wipe.wipe.times).collect();
        assert_eq!((tenancies(&history), kept), (vec![1, 2], vec![1, 2]));
    }
}
