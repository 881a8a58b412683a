//! The bare system calls: what no driver can do without.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::samples::Samples;

/// How often each.
const TIMES: usize = 300;

/// A target: made and bound to `source`; unmounted and removed.
pub fn bind_and_unmount(source: &Path, target: &Path) -> (Samples, Samples) {
    let (mut bind, mut unmount) = (Samples::default(), Samples::default());
    for _ in 0..TIMES {
        bind.time(|| {
            fs::create_dir(target).unwrap();
            rustix::mount::mount_bind(source, target).unwrap();
        });
        unmount.time(|| {
            rustix::mount::unmount(target, rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
            fs::remove_dir(target).unwrap();
        });
    }
    (bind, unmount)
}

/// How full a file system is.
pub fn statfs(path: &Path) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        samples.time(|| rustix::fs::statfs(path).unwrap());
    }
    samples
}

/// A page that is written in place and durable.
pub fn durable_write(directory: &Path) -> Samples {
    let path = directory.join("raw");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut samples = Samples::default();
    for number in 0..TIMES as u64 {
        samples.time(|| {
            file.write_all_at(&[1; 4096], number % 256 * 4096).unwrap();
            file.sync_data().unwrap();
        });
    }
    fs::remove_file(path).unwrap();
    samples
}

/// One commit of the store that the inventory is kept in, by itself: a row of the size of a volume's record.
pub fn store_commit(directory: &Path) -> Samples {
    const ROWS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("rows");
    let path = directory.join("raw.redb");
    let database = redb::Database::create(&path).unwrap();
    let mut samples = Samples::default();
    for number in 0..TIMES as u64 {
        samples.time(|| {
            let transaction = database.begin_write().unwrap();
            let mut rows = transaction.open_table(ROWS).unwrap();
            rows.insert(number % 16, [1; 1536].as_slice()).unwrap();
            drop(rows);
            transaction.commit().unwrap();
        });
    }
    drop(database);
    fs::remove_file(path).unwrap();
    samples
}
