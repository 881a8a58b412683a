//! A disk that fails: nothing that was acknowledged is lost, and no answer is more certain than the truth.

use std::sync::atomic::{AtomicUsize, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::super::file::{Backing, on};
use super::*;

/// Syncs that a disk takes which never fails.
pub(super) const HEALTHY: usize = usize::MAX;

/// A file of which so many more syncs succeed.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) file: FileBackend,
    pub(super) left: Arc<AtomicUsize>,
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => self.file.sync_data(),
            Err(_) => Err(io::Error::other("the disk is gone")),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// A store in `state`, with one volume, on a disk that takes so many more syncs as is set. A file that is made when it takes
/// none is on a healthy one, unless `anew` is set.
async fn failing(state: &TempDir, anew: bool) -> (Embedded, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(HEALTHY));
    let store = Embedded::open_on(disk(state, &left, anew)).unwrap();
    store.add(volume(0)).await.unwrap();
    until_twice(&store).await;
    (store, left)
}

/// The disk of [`failing`].
pub(super) fn disk(state: &TempDir, left: &Arc<AtomicUsize>, anew: bool) -> Disk {
    let shared = Arc::clone(left);
    let backing: Backing = Box::new(move |file| {
        let healthy = !anew && shared.load(Ordering::SeqCst) == 0;
        let left = if healthy { Arc::new(AtomicUsize::new(HEALTHY)) } else { Arc::clone(&shared) };
        on(Failing { file: FileBackend::new(file)?, left })
    });
    Disk::with_backing(state.path(), backing).unwrap()
}

#[tokio::test]
async fn a_write_that_failed_is_known_not_to_be_there_once_the_file_is_written_anew() {
    let state = tempfile::tempdir().unwrap();
    let (store, left) = failing(&state, false).await;

    left.store(0, Ordering::SeqCst);
    let refused = store.add(volume(1)).await;

    assert!(matches!(refused, Err(Error::NotWritten { .. })), "{refused:?}");
    let second = store.add(volume(2)).await.unwrap();
    let there = store.list().await.unwrap();
    assert_eq!(there.len(), 2);
    assert!(there.contains(&second));
    store.close().await;
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap(), there);
}

#[tokio::test]
async fn while_the_disk_fails_reads_are_answered_and_writes_refused_and_both_work_once_it_is_back()
{
    let state = tempfile::tempdir().unwrap();
    let (store, left) = failing(&state, true).await;
    let before = store.list().await.unwrap();

    left.store(0, Ordering::SeqCst);
    let half_way = store.add(volume(1)).await;
    let later = store.add(volume(2)).await;

    assert!(matches!(half_way, Err(Error::OutcomeUnknown { .. })), "{half_way:?}");
    assert!(matches!(later, Err(Error::NotWritten { .. })), "{later:?}");
    assert_eq!(store.list().await.unwrap(), before);

    left.store(HEALTHY, Ordering::SeqCst);
    store.add(volume(2)).await.unwrap();
    let there = store.list().await.unwrap();
    assert_eq!(there.len(), 2);
    store.close().await;
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap(), there);
}

#[tokio::test]
async fn a_watcher_is_told_nothing_that_was_not_written() {
    let state = tempfile::tempdir().unwrap();
    let (store, left) = failing(&state, true).await;
    let mut events = store.watch();
    events.next().await.unwrap();

    left.store(0, Ordering::SeqCst);
    store.add(volume(1)).await.unwrap_err();
    left.store(HEALTHY, Ordering::SeqCst);
    let added = store.add(volume(2)).await.unwrap();

    assert_eq!(events.next().await, Some(Event::Applied(Box::new(added))));
}

#[tokio::test]
async fn whichever_sync_fails_all_that_was_acknowledged_is_there_and_nothing_that_was_refused() {
    let mut refusals = 0;
    for syncs in 0..12 {
        let state = tempfile::tempdir().unwrap();
        let (store, left) = failing(&state, false).await;
        let mut acknowledged = store.list().await.unwrap();
        left.store(syncs, Ordering::SeqCst);
        for number in 1..5 {
            match store.add(volume(number)).await {
                Ok(added) => acknowledged.push(added),
                Err(Error::NotWritten { .. }) => refusals += 1,
                Err(error) => panic!("after {syncs} syncs: {error:?}"),
            }
            // Else a later change might be what fails in place of the second write of this one.
            until_twice(&store).await;
        }
        assert_eq!(store.list().await.unwrap(), acknowledged, "after {syncs} syncs");
        store.close().await;
        let again = Embedded::open(state.path()).unwrap();
        assert_eq!(again.list().await.unwrap(), acknowledged, "after {syncs} syncs");
    }
    // Of two syncs of a change one is before its answer.
    assert_eq!(refusals, 4);
}
