use std::os::unix::fs::FileExt;

use super::*;
use crate::host::mount::fixture::{Disk, mount, scratch};
use crate::host::namespace::isolated;

const UUID: &str = "5f3c9a12-0000-4000-8000-0123456789ab";

#[test]
fn ext4_is_made_with_the_uuid_that_it_is_given() {
    let disk = Disk::blank(16);

    make(&disk.open(), disk.path(), "ext4", Some(UUID)).unwrap();

    // The superblock is at 1024; its magic number at 56 and its UUID at 104 (ext4(5), kernel documentation).
    let mut block = [0; 1024];
    disk.open().read_exact_at(&mut block, 1024).unwrap();
    assert_eq!(block[56..58], [0x53, 0xef]);
    assert_eq!(block[104..108], [0x5f, 0x3c, 0x9a, 0x12]);
}

#[test]
fn xfs_is_made_over_what_was_there_with_the_uuid_that_it_is_given() {
    let disk = Disk::blank(320);
    make(&disk.open(), disk.path(), "ext4", None).unwrap();

    make(&disk.open(), disk.path(), "xfs", Some(UUID)).unwrap();

    let mut block = [0; 48];
    disk.open().read_exact_at(&mut block, 0).unwrap();
    assert_eq!(&block[..4], b"XFSB");
    assert_eq!(block[32..36], [0x5f, 0x3c, 0x9a, 0x12]);
}

#[test]
fn a_device_in_use_is_not_formatted() {
    isolated(|| {
        let (_guard, base) = scratch();
        let disk = Disk::formatted("ext4", 16);
        mount("ext4", disk.path(), &base.join("target"));

        for fs_type in ["ext4", "xfs"] {
            let error = make(&disk.open(), disk.path(), fs_type, None).unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{error}");
        }
    });
}

#[test]
fn what_the_program_says_is_told_on_one_line() {
    let disk = Disk::blank(1);

    let error = make(&disk.open(), disk.path(), "xfs", None).unwrap_err();

    let Error::Failed { complaint, program, .. } = &error else { panic!("{error}") };
    assert_eq!(*program, "mkfs.xfs");
    assert!(!complaint.is_empty() && !complaint.contains('\n'), "{complaint:?}");
    assert!(error.to_string().contains(disk.path().to_str().unwrap()));
}

#[test]
fn a_type_that_is_not_made_is_refused_before_anything_is_written() {
    let disk = Disk::blank(1);

    let error = make(&disk.open(), disk.path(), "vfat", None).unwrap_err();

    assert!(matches!(error, Error::Type { .. }));
}

#[test]
fn of_a_flood_of_complaints_the_end_is_kept() {
    let mut flood: Vec<u8> = std::iter::repeat_n(b'a', 100_000).collect();
    flood.extend_from_slice(b"the end");

    let mut kept = Vec::new();
    keep_end(&mut flood.as_slice(), &mut kept);

    assert_eq!(kept.len(), COMPLAINT_MAX);
    assert!(kept.ends_with(b"the end"));
}

#[test]
fn a_program_that_is_not_installed_is_not_found() {
    assert!(find("mkfs.berth-knows-no-such-type").is_none());
    assert!(find("mkfs.ext4").is_some());
}

#[test]
fn a_file_system_is_made_again_with_its_label() {
    for (fs_type, mib) in [("ext4", 16), ("xfs", 320)] {
        let disk = Disk::blank(mib);
        let device = disk.open();
        let names = Names { uuid: Some(UUID), label: Some("data-1") };
        make(&device, disk.path(), fs_type, None).unwrap();
        assert_eq!(label(&device, disk.path(), fs_type).unwrap(), None);

        make_again(&device, disk.path(), fs_type, names, &|| false).unwrap();

        let found = label(&disk.open(), disk.path(), fs_type).unwrap();
        assert_eq!(found.as_deref(), Some("data-1"));
    }
}

#[test]
fn a_program_that_is_told_to_stop_is_killed() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo begun >&2; exec sleep 600"]).stderr(Stdio::piped());

    let (status, complaint) = run(command, &|| true).unwrap();

    assert!(!status.success());
    assert_eq!(complaint, "begun");
}
