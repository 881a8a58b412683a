use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::host::loopback::LoopDevice;
use crate::host::mount::fixture::scratch;
use crate::host::namespace::isolated;
use crate::volume::{DeviceIdentity, fixture};

/// A program of the system, which must succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

fn mount(arguments: &[&str], at: &Path) {
    fs::create_dir_all(at).unwrap();
    run("mount", &[arguments, &[at.to_str().unwrap()]].concat());
}

fn unmount(at: &Path) {
    run("umount", &[at.to_str().unwrap()]);
}

fn tmpfs(at: &Path) {
    mount(&["-t", "tmpfs", "-o", "size=8m", "none"], at);
}

/// A loop device of `megabytes` with a new file system of `fs_type` on it.
fn formatted(directory: &Path, fs_type: &str, megabytes: u64) -> (fs::File, LoopDevice) {
    let (file, device) = device(directory, megabytes);
    run(&format!("mkfs.{fs_type}"), &["-q", device.path().to_str().unwrap()]);
    (file, device)
}

fn device(directory: &Path, megabytes: u64) -> (fs::File, LoopDevice) {
    let file = tempfile::tempfile_in(directory).unwrap();
    file.set_len(megabytes << 20).unwrap();
    let device = LoopDevice::attach(&file).unwrap();
    (file, device)
}

fn recorded(path: &Path) -> LocalVolume {
    let mut volume = fixture::available();
    volume.status.path = path.to_str().unwrap().into();
    volume.status.fingerprint = Source::look(path).unwrap().facts().fingerprint.clone();
    volume
}

#[test]
fn a_plain_directory_is_told_by_its_inode_birth_and_place_on_its_file_system() {
    isolated(|| {
        let (base, _) = scratch();
        let path = base.path().join("a/b");
        fs::create_dir_all(&path).unwrap();

        let source = Source::look(&path).unwrap();

        let facts = source.facts();
        assert_eq!(facts.root, Path::new("/a/b"));
        assert_eq!((facts.is_mount, facts.fs_type.as_deref()), (false, Some("tmpfs")));
        let Fingerprint::Directory { born, .. } = &facts.fingerprint else { panic!() };
        assert!(born.is_some());
    });
}

#[test]
fn a_file_system_is_the_same_after_it_was_unmounted_and_mounted_again() {
    for fs_type in ["ext4", "xfs"] {
        isolated(|| {
            let (base, _) = scratch();
            let (_file, device) = formatted(base.path(), fs_type, 320);
            let path = base.path().join("v1");
            mount(&[device.path().to_str().unwrap()], &path);
            let volume = recorded(&path);
            assert_eq!(Source::open(&volume).unwrap().facts().root, Path::new("/"));

            unmount(&path);
            let beneath = Source::open(&volume).unwrap_err();
            mount(&[device.path().to_str().unwrap()], &path);

            assert!(matches!(beneath, Error::Replaced { .. }), "{beneath:?}");
            let source = Source::open(&volume).unwrap();
            assert!(source.facts().fingerprint.is_strong());
            assert_eq!(source.facts().fs_type.as_deref(), Some(fs_type));
            drop(source);
            unmount(&path);
        });
    }
}

#[test]
fn another_tmpfs_at_the_same_path_is_another_source() {
    isolated(|| {
        let (base, _) = scratch();
        let path = base.path().join("v1");
        tmpfs(&path);
        let volume = recorded(&path);
        unmount(&path);
        tmpfs(&path);

        assert!(matches!(Source::open(&volume), Err(Error::Replaced { .. })));
    });
}

#[test]
fn a_bind_mount_and_a_symlink_lead_to_the_one_directory() {
    isolated(|| {
        let (base, _) = scratch();
        let (real, bound, link) =
            (base.path().join("real"), base.path().join("bound"), base.path().join("link"));
        fs::create_dir(&real).unwrap();
        mount(&["--bind", real.to_str().unwrap()], &bound);
        symlink(&bound, &link).unwrap();

        let [real, bound, link] = [real, bound, link].map(|path| Source::look(&path).unwrap());

        assert_eq!(real.facts().fingerprint.identity(), bound.facts().fingerprint.identity());
        assert_eq!(real.facts().fingerprint, link.facts().fingerprint);
        assert_eq!((real.facts().is_mount, bound.facts().is_mount), (false, true));
        for source in [real, bound, link] {
            assert_eq!(source.facts().root, Path::new("/real"));
        }
    });
}

#[test]
fn a_mount_that_is_younger_than_the_table_is_found() {
    isolated(|| {
        let (_base, path) = scratch();
        let old = MountTable::read().unwrap();
        tmpfs(&path.join("v1"));

        assert!(Source::look_in(&path.join("v1"), &old).unwrap().facts().is_mount);
    });
}

#[test]
fn a_loop_device_is_told_by_its_file_and_names_the_file_system_on_it() {
    let base = tempfile::tempdir().unwrap();
    let (_file, device) = formatted(base.path(), "ext4", 16);
    let link = base.path().join("disk");
    symlink(device.path(), &link).unwrap();

    let source = Source::look(&link).unwrap();

    assert!(source.is_device());
    assert_eq!(source.facts().size, Bytes(16 << 20));
    assert_eq!(source.facts().fs_type.as_deref(), Some("ext4"));
    let Fingerprint::Device { device, .. } = &source.facts().fingerprint else { panic!() };
    assert!(matches!(device, DeviceIdentity::LoopFile(_)), "{device:?}");
}

#[test]
fn a_device_and_what_is_mounted_from_it_share_a_name_and_so_do_a_directory_and_its_file_system() {
    isolated(|| {
        let (_scratch, base) = scratch();
        let (_file, device) = formatted(&base, "ext4", 16);
        let (path, other) = (base.join("v1"), base.join("v2"));
        mount(&[device.path().to_str().unwrap()], &path);
        tmpfs(&other);
        let part = path.join("part");
        fs::create_dir(&part).unwrap();

        let [device, whole, part, other] =
            [device.path(), &path, &part, &other].map(|path| Source::look(path).unwrap().facts);

        // By its UUID and by its number: either may be all that is left to tell by.
        assert_eq!(
            device.place.on.iter().filter(|name| whole.place.on.contains(name)).count(),
            2,
            "{device:?} {whole:?}"
        );
        assert_eq!(whole.place.on, part.place.on);
        assert!(!whole.place.on.iter().any(|name| other.place.on.contains(name)));
        assert_eq!((whole.place.root.as_str(), part.place.root.as_str()), ("/", "/part"));
        assert!(whole.place.attached && device.place.attached && !part.place.attached);
        unmount(&path);
    });
}

#[test]
fn a_loop_device_is_told_by_the_uuid_of_the_file_system_that_its_file_lies_on() {
    isolated(|| {
        let (_scratch, base) = scratch();
        let (_file, holding) = formatted(&base, "ext4", 32);
        let (path, passing) = (base.join("disk"), base.join("passing"));
        mount(&[holding.path().to_str().unwrap()], &path);
        tmpfs(&passing);
        let identity = |directory: &Path| {
            let (file, device) = device(directory, 4);
            let fingerprint = Source::look(device.path()).unwrap().facts.fingerprint;
            drop((device, file));
            fingerprint
        };
        let uuid = Source::look(&path).unwrap().facts.fingerprint.to_string();
        let uuid = uuid.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned();

        let (lasting, weak) = (identity(&path), identity(&passing));

        assert!(lasting.to_string().starts_with(&format!("loop-file {uuid}:")), "{lasting}");
        assert!(lasting.is_strong());
        assert!(!weak.is_strong(), "{weak}");
        unmount(&path);
    });
}

#[test]
fn a_file_system_without_a_uuid_is_told_with_the_boot_in_which_its_number_is_good() {
    isolated(|| {
        let (_scratch, base) = scratch();

        let fingerprint = Source::look(&base).unwrap().facts.fingerprint;

        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let Fingerprint::Directory { filesystem, .. } = &fingerprint else { panic!() };
        assert!(filesystem.device_number.as_ref().unwrap().starts_with(boot.trim()));
        assert!(!fingerprint.is_strong());
    });
}

#[test]
fn a_device_that_grew_is_the_same_and_one_with_another_file_is_not() {
    let base = tempfile::tempdir().unwrap();
    let (file, first) = device(base.path(), 4);
    let (_other, second) = device(base.path(), 4);
    let link = base.path().join("disk");
    symlink(first.path(), &link).unwrap();
    let volume = recorded(&link);

    file.set_len(8 << 20).unwrap();
    first.grow().unwrap();
    assert_eq!(Source::open(&volume).unwrap().facts().size, Bytes(8 << 20));
    fs::remove_file(&link).unwrap();
    symlink(second.path(), &link).unwrap();

    assert!(matches!(Source::open(&volume), Err(Error::Replaced { .. })));
}

#[test]
fn nothing_a_file_and_a_dangling_symlink_are_no_sources() {
    let base = tempfile::tempdir().unwrap();
    let (file, link) = (base.path().join("file"), base.path().join("link"));
    fs::write(&file, "x").unwrap();
    symlink(base.path().join("nowhere"), &link).unwrap();

    assert!(matches!(Source::look(&file), Err(Error::Unsuitable { .. })));
    assert!(matches!(Source::look(&link), Err(Error::Missing { .. })));
    assert!(matches!(Source::look(&file.join("x")), Err(Error::Missing { .. })));
}

#[test]
fn a_mount_is_not_taken_for_one_that_is_gone_and_had_its_number() {
    isolated(|| {
        let (_guard, base) = scratch();
        let (before, after) = (base.join("before"), base.join("after"));
        let number = |table: &MountTable, at: &Path| table.at(at).map(|mount| mount.id);
        let (_file, device) = formatted(&std::env::temp_dir(), "ext4", 16);
        let device = device.path().to_str().unwrap();
        // Others on this machine are given numbers too.
        let old = loop {
            tmpfs(&before);
            let old = MountTable::read().unwrap();
            unmount(&before);
            mount(&["-t", "ext4", device], &after);
            if number(&MountTable::read().unwrap(), &after) == number(&old, &before) {
                break old;
            }
            unmount(&after);
        };

        let source = Source::look_in(&after, &old).unwrap();

        assert_eq!(source.facts(), Source::look(&after).unwrap().facts());
        assert_eq!(source.facts().fs_type.as_deref(), Some("ext4"));
    });
}
