//! A disk that fails: nothing that was acknowledged is lost, and no answer is more certain than the truth.

use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::super::file::{Backing, on};
use super::*;

/// A file whose syncs fail while it is told to.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) file: FileBackend,
    pub(super) fails: Arc<AtomicBool>,
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
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// A store in `state`, with one volume, whose syncs fail while the returned flag is set. A file that is made while
/// `anew` is unset is on a healthy disk.
async fn failing(state: &TempDir, anew: bool) -> (Embedded, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&fails);
    let backing: Backing = Box::new(move |file| {
        let healthy = !anew && shared.load(Ordering::SeqCst);
        let fails = if healthy { Arc::default() } else { Arc::clone(&shared) };
        on(Failing { file: FileBackend::new(file)?, fails })
    });
    let store = Embedded::open_on(Disk::with_backing(state.path(), backing).unwrap()).unwrap();
    store.add(volume(0)).await.unwrap();
    (store, fails)
}

#[tokio::test]
async fn a_write_that_failed_is_known_not_to_be_there_once_the_file_is_written_anew() {
    let state = tempfile::tempdir().unwrap();
    let (store, fails) = failing(&state, false).await;

    fails.store(true, Ordering::SeqCst);
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
    let (store, fails) = failing(&state, true).await;
    let before = store.list().await.unwrap();

    fails.store(true, Ordering::SeqCst);
    let half_way = store.add(volume(1)).await;
    let later = store.add(volume(2)).await;

    assert!(matches!(half_way, Err(Error::OutcomeUnknown { .. })), "{half_way:?}");
    assert!(matches!(later, Err(Error::NotWritten { .. })), "{later:?}");
    assert_eq!(store.list().await.unwrap(), before);

    fails.store(false, Ordering::SeqCst);
    store.add(volume(2)).await.unwrap();
    let there = store.list().await.unwrap();
    assert_eq!(there.len(), 2);
    store.close().await;
    assert_eq!(Embedded::open(state.path()).unwrap().list().await.unwrap(), there);
}

#[tokio::test]
async fn a_watcher_is_told_nothing_that_was_not_written() {
    let state = tempfile::tempdir().unwrap();
    let (store, fails) = failing(&state, true).await;
    let mut events = store.watch();
    events.next().await.unwrap();

    fails.store(true, Ordering::SeqCst);
    store.add(volume(1)).await.unwrap_err();
    fails.store(false, Ordering::SeqCst);
    let added = store.add(volume(2)).await.unwrap();

    assert_eq!(events.next().await, Some(Event::Applied(Box::new(added))));
}
