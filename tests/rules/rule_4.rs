//! What more is tried to lead a wipe elsewhere is in `tests/hostile.rs`.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::*;

/// Directories of the volume, and files in each: enough for a wipe to be stopped in their middle.
const TREE: (usize, usize) = (300, 100);

/// Stops every thread of the server where it is.
fn freeze(berth: &Berth) {
    berth.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", berth.pid().as_raw_nonzero());
    berth.wait_for("the server to stand still", |_| {
        let mut threads = fs::read_dir(&threads).unwrap();
        let stands = |stat: &str| stat.rsplit_once(") ").unwrap().1.starts_with('T');
        threads
            .all(|thread| {
                let stat = thread.unwrap().path().join("stat");
                // A thread may end while it is looked at.
                fs::read_to_string(stat).map_or(true, |stat| stands(&stat))
            })
            .then_some(())
    });
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_wipe_removes_the_links_that_a_tenant_left_and_nothing_that_they_lead_to() {
    let (host, berth, source) = one_volume();
    let outside = host.path("outside");
    fs::write(outside.join("kept"), "another's").unwrap();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    symlink(&outside, source.join("directory")).unwrap();
    symlink(outside.join("kept"), source.join("file")).unwrap();
    symlink("../../../outside", source.join("relative")).unwrap();

    berth.delete(&id).unwrap();
    berth.wait_phase("v1", Phase::Available);

    assert_eq!(entries(&source), [""; 0].map(PathBuf::from));
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "another's");
}

/// Before a wipe begins no mount may be in the volume. One that is made later is met by the walk itself: the kernel
/// removes no mount point, and `Directory::enter` enters none.
#[test]
fn a_mount_that_is_made_while_a_wipe_walks_is_not_entered() {
    let (host, berth, source) = one_volume();
    let outside = host.path("outside");
    fs::write(outside.join("kept"), "another's").unwrap();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    for directory in 0..TREE.0 {
        let directory = source.join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        for file in 0..TREE.1 {
            fs::write(directory.join(file.to_string()), "").unwrap();
        }
    }
    berth.delete(&id).unwrap();
    berth.wait_for("the walk to begin", |_| (entries(&source).len() < TREE.0).then_some(()));
    freeze(&berth);
    let whole = entries(&source).into_iter().find(|at| entries(at).len() == TREE.1);
    let ahead = whole.expect("the walk was over before it could be stopped");
    support::mount(&["--bind", outside.to_str().unwrap()], &ahead);

    berth.signal(Signal::CONT);
    let said = berth.wait_for("the mount to be met", |berth| {
        let message = berth.volume("v1")?.status.conditions.clean.message;
        message.contains(ahead.to_str().unwrap()).then_some(message)
    });

    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "another's", "{said}");
    support::unmount(&ahead);
    berth.wait_phase("v1", Phase::Available);
    assert_eq!(entries(&source), [""; 0].map(PathBuf::from));
}
