use std::os::unix::fs::symlink;

use super::*;
use crate::host::mount::fixture::{bind, scratch, tmpfs};
use crate::host::namespace::isolated;

fn open(path: &Path) -> Directory {
    Directory::open(std::fs::File::open(path).unwrap().as_fd(), path).unwrap()
}

#[test]
fn a_symlink_to_a_directory_is_not_entered() {
    let place = tempfile::tempdir().unwrap();
    symlink("/etc", place.path().join("link")).unwrap();

    let refused = open(place.path()).enter(c"link").unwrap_err();

    assert!(matches!(refused.errno, Errno::LOOP | Errno::NOTDIR), "{refused}");
}

/// A bind mount has the device number of what is around it: only the kernel tells them apart.
#[test]
fn what_is_mounted_here_is_neither_entered_nor_removed() {
    isolated(|| {
        let (_base, base) = scratch();
        let (volume, outside) = (base.join("volume"), base.join("outside"));
        std::fs::create_dir_all(volume.join("bound")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        bind(&outside, &volume.join("bound"));
        tmpfs(&volume.join("mounted"));
        let volume = open(&volume);

        for name in [c"bound", c"mounted"] {
            assert_eq!(volume.enter(name).unwrap_err().errno, Errno::XDEV, "{name:?}");
            assert_eq!(volume.remove_directory(name).unwrap_err().errno, Errno::BUSY);
        }
    });
}

#[test]
fn a_name_never_leads_out_of_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let directory = open(place.path());

    for name in [c"..", c"/", c"/etc", c"a/../.."] {
        assert!(directory.enter(name).is_err(), "{name:?}");
    }
}

#[test]
fn removing_a_symlink_leaves_what_it_leads_to() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("kept"), "data").unwrap();
    symlink("kept", place.path().join("link")).unwrap();

    open(place.path()).remove_file(c"link").unwrap();

    assert_eq!(std::fs::read_to_string(place.path().join("kept")).unwrap(), "data");
}

#[test]
fn every_entry_is_listed_once_in_many_batches_though_they_are_removed_meanwhile() {
    let place = tempfile::tempdir().unwrap();
    let directory = open(place.path());
    let mut listing = directory.list().unwrap();
    assert!(listing.next_batch().unwrap().is_empty());
    for number in 0..5000 {
        std::fs::write(place.path().join(format!("{number}-{}", "x".repeat(200))), "").unwrap();
    }

    for remove in [false, true] {
        listing.rewind().unwrap();
        let (mut names, mut batches) = (std::collections::BTreeSet::new(), 0);
        loop {
            let batch = listing.next_batch().unwrap();
            if batch.is_empty() {
                break;
            }
            batches += 1;
            for entry in batch {
                if remove {
                    directory.remove_file(&entry.name).unwrap();
                }
                assert!(names.insert(entry.name));
            }
        }
        assert_eq!((names.len(), batches > 5), (5000, true));
    }
    assert_eq!(directory.held(false).unwrap(), None);
}

#[test]
fn lost_and_found_is_nothing_only_as_an_empty_directory() {
    let place = tempfile::tempdir().unwrap();
    let (directory, kept) = (open(place.path()), place.path().join("lost+found"));
    std::fs::create_dir(&kept).unwrap();

    assert_eq!(directory.held(true).unwrap(), None);
    assert_eq!(directory.held(false).unwrap(), Some(kept.clone()));
    std::fs::write(kept.join("file"), "").unwrap();
    assert_eq!(directory.held(true).unwrap(), Some(kept.join("file")));
}

#[test]
fn a_path_leads_to_a_directory_only_while_it_is_there_and_by_no_symlink_or_mount() {
    isolated(|| {
        let (_base, base) = scratch();
        let (volume, outside) = (base.join("volume"), base.join("outside"));
        std::fs::create_dir_all(volume.join("a/b/c")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let (root, deep) = (open(&volume), open(&volume.join("a/b/c")));
        let leads = |path: &str| root.leads_to(Path::new(path), &deep);
        assert!(leads("a/b/c"));
        assert!(!leads("a/b") && !leads("a/b/d") && !leads("../volume/a/b/c"));

        std::fs::rename(volume.join("a/b"), outside.join("b")).unwrap();
        assert!(!leads("a/b/c"));
        symlink(outside.join("b"), volume.join("a/b")).unwrap();
        assert!(!leads("a/b/c"));
        std::fs::remove_file(volume.join("a/b")).unwrap();
        std::fs::create_dir(volume.join("a/b")).unwrap();
        bind(&outside.join("b"), &volume.join("a/b"));
        assert!(!leads("a/b/c"));
    });
}
