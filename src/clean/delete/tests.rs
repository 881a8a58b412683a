use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::host::attributes;
use crate::host::mount::fixture::{scratch, tmpfs, unmount};
use crate::host::namespace::isolated;

fn open(path: &Path) -> Directory {
    Directory::open(fs::File::open(path).unwrap().as_fd(), path).unwrap()
}

fn emptied(path: &Path) -> Result<(), Error> {
    empty(&open(path), false, 2, &Progress::default())
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn everything_beneath_goes_whatever_it_is_and_the_root_stays() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "x").unwrap();
    symlink("/etc", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    for arguments in
        [["fifo", "p"].as_slice(), &["null", "c", "1", "3"], &["disk", "b", "7", "250"]]
    {
        let status = std::process::Command::new("mknod").current_dir(root).args(arguments).status();
        assert!(status.unwrap().success());
    }
    for name in [&[0xFF; 255][..], b" \n\t\\", b"-rf", b"*"] {
        fs::write(root.join(OsStr::from_bytes(name)), "").unwrap();
        fs::create_dir(root.join("a").join(OsStr::from_bytes(name))).unwrap();
    }
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/file"), "").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();

    emptied(root).unwrap();

    assert_eq!(count(root), 0);
}

#[test]
fn a_file_that_has_another_name_elsewhere_keeps_its_contents_there() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("volume");
    fs::create_dir(&root).unwrap();
    fs::write(place.path().join("elsewhere"), "another's").unwrap();
    fs::hard_link(place.path().join("elsewhere"), root.join("link")).unwrap();

    emptied(&root).unwrap();

    assert_eq!(fs::read_to_string(place.path().join("elsewhere")).unwrap(), "another's");
}

#[test]
fn immutable_and_append_only_files_and_directories_go() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("locked/inner")).unwrap();
    for file in ["locked/inner/file", "append", "immutable"] {
        fs::write(root.join(file), "").unwrap();
    }
    for (flag, path) in [
        ("+i", "locked/inner/file"),
        ("+a", "append"),
        ("+i", "immutable"),
        ("+i", "locked/inner"),
        ("+a", "locked"),
    ] {
        let status = std::process::Command::new("chattr").arg(flag).arg(root.join(path)).status();
        assert!(status.unwrap().success());
    }

    emptied(root).unwrap();

    assert_eq!(count(root), 0);
    assert!(!attributes::allow_changes(open(root), root).unwrap());
}

#[test]
fn a_tree_of_ten_thousand_levels_goes_with_few_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let root = open(place.path());
    // Built from the inside out: a path of that length could not be named.
    for level in 0..10_000 {
        let (outer, inner) = (place.path().join("outer"), place.path().join("deep"));
        fs::create_dir(&outer).unwrap();
        fs::write(outer.join("file"), "").unwrap();
        if level > 0 {
            fs::rename(&inner, outer.join("deep")).unwrap();
        }
        fs::rename(&outer, &inner).unwrap();
    }
    let progress = Progress::default();

    empty(&root, false, 2, &progress).unwrap();

    assert_eq!(count(place.path()), 0);
    assert!(progress.so_far().0 >= 20_000);
}

#[test]
fn many_entries_in_one_directory_go_batch_by_batch() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..20_000 {
        fs::write(place.path().join(format!("{number:0100}")), "").unwrap();
    }

    emptied(place.path()).unwrap();

    assert_eq!(count(place.path()), 0);
}

#[test]
fn a_wipe_that_is_told_to_stop_stops_and_can_be_begun_again() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..10 {
        fs::write(place.path().join(number.to_string()), "").unwrap();
    }
    let progress = Progress::default();
    progress.stop();

    assert!(matches!(empty(&open(place.path()), false, 2, &progress), Err(Error::Interrupted)));
    assert_eq!(count(place.path()), 10);
    emptied(place.path()).unwrap();
}

#[test]
fn nothing_outside_changes_while_another_process_swaps_directories_for_symlinks() {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("volume"), place.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir_all(outside.join("deep")).unwrap();
    for number in 0..50 {
        fs::write(outside.join(number.to_string()), "kept").unwrap();
        fs::write(outside.join("deep").join(number.to_string()), "kept").unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = fs::create_dir(root.join("swap"));
                let _ = fs::write(root.join("swap/file"), "");
                let _ = fs::rename(root.join("swap"), root.join("aside"));
                let _ = symlink(&outside, root.join("swap"));
                let _ = fs::remove_file(root.join("swap"));
                let _ = fs::rename(root.join("aside"), root.join("swap"));
            }
        });
        for _ in 0..300 {
            // Whether it ends empty is the other's doing; that nothing else happens is ours.
            match emptied(&root) {
                Ok(()) | Err(Error::Refilled { .. }) => {}
                Err(error) => {
                    over.store(true, Ordering::Relaxed);
                    panic!("{}", error.sentence());
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });

    assert_eq!((count(&outside), count(&outside.join("deep"))), (51, 50));
    emptied(&root).unwrap();
}

/// Two threads meet the same directories above, and each moves some to the root while the other does.
#[test]
fn many_trees_beyond_the_deepest_go_that_two_threads_meet_at_once() {
    let place = tempfile::tempdir().unwrap();
    let levels = "d/".repeat(3 * DEEPEST);
    for tree in 0..40 {
        let deep = place.path().join(tree.to_string()).join(&levels);
        fs::create_dir_all(&deep).unwrap();
        for file in 0..40 {
            fs::write(deep.join(file.to_string()), "").unwrap();
        }
    }
    let progress = Progress::default();

    empty(&open(place.path()), false, 2, &progress).unwrap();

    assert_eq!(count(place.path()), 0);
    assert_eq!(progress.so_far().0, 40 * (1 + 3 * DEEPEST as u64 + 40));
}

#[test]
fn a_mount_that_one_of_two_threads_meets_ends_the_work_of_both_and_is_said() {
    isolated(|| {
        let (_base, base) = scratch();
        let root = base.join("volume");
        for number in 0..100 {
            fs::create_dir_all(root.join(format!("{number}/within"))).unwrap();
        }
        let mounted = root.join("57/within/mounted");
        tmpfs(&mounted);
        fs::write(mounted.join("kept"), "another's").unwrap();

        let refused = emptied(&root).unwrap_err();

        assert!(
            matches!(&refused, Error::InUse { by } if by[0].contains("57/within")),
            "{refused}"
        );
        assert_eq!(count(&mounted), 1);
        unmount(&mounted);
        emptied(&root).unwrap();
        assert_eq!(count(&root), 0);
    });
}
