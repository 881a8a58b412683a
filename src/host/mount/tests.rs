use std::fs;
use std::os::unix::fs::symlink;

use super::fixture::{Disk, bind, mount, scratch, share, tmpfs, unmount};
use super::*;
use crate::host::mountinfo::MountTable;
use crate::host::namespace::isolated;

/// Attaches a clone of `source` with `attributes` at `target`, a new directory.
fn clone_to(source: &Path, target: &Path, attributes: &[Attribute]) {
    let source = Seen::at(source).unwrap();
    let mount = Detached::clone_of(source.as_fd(), target).unwrap();
    mount.restrict(attributes.iter().copied().collect()).unwrap();
    let spot = Spot::open(target, None).unwrap();
    spot.make_directory().unwrap();
    mount.attach(&spot.look().unwrap().unwrap(), target).unwrap();
}

#[test]
fn a_clone_shows_its_source_and_not_what_is_mounted_beneath_it() {
    isolated(|| {
        let (_guard, base) = scratch();
        let source = base.join("source");
        fs::create_dir_all(source.join("nested")).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        tmpfs(&source.join("nested"));
        fs::write(source.join("nested/secret"), "x").unwrap();

        clone_to(&source, &base.join("target"), &[]);

        assert!(base.join("target/file").exists());
        assert!(!base.join("target/nested/secret").exists());
    });
}

#[test]
fn a_restricted_clone_leaves_its_source_as_it_is() {
    isolated(|| {
        let (_guard, base) = scratch();
        let (source, target) = (base.join("source"), base.join("target"));
        fs::create_dir(&source).unwrap();

        clone_to(&source, &target, &[Attribute::ReadOnly, Attribute::NoExec, Attribute::NoAtime]);

        let error = fs::write(target.join("file"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        fs::write(source.join("file"), "x").unwrap();
        let seen = Seen::at(&target).unwrap().attributes;
        assert!(seen.has(Attribute::NoAtime) && seen.has(Attribute::NoExec));
        assert!(!seen.has(Attribute::RelAtime) && !seen.has(Attribute::NoSuid));
    });
}

#[test]
fn each_attribute_that_is_set_is_read_back() {
    isolated(|| {
        let (_guard, base) = scratch();
        let source = base.join("source");
        fs::create_dir(&source).unwrap();
        let attributes = [
            Attribute::ReadOnly,
            Attribute::NoSuid,
            Attribute::NoDev,
            Attribute::NoExec,
            Attribute::NoDirAtime,
            Attribute::NoAtime,
            Attribute::StrictAtime,
            Attribute::RelAtime,
        ];

        for (number, attribute) in attributes.into_iter().enumerate() {
            let target = base.join(format!("target-{number}"));
            clone_to(&source, &target, &[attribute]);
            assert!(Seen::at(&target).unwrap().attributes.has(attribute), "{attribute:?}");
        }
    });
}

#[test]
fn what_the_source_forbids_its_clone_forbids() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir(base.join("source")).unwrap();
        clone_to(&base.join("source"), &base.join("first"), &[Attribute::NoSuid]);

        clone_to(&base.join("first"), &base.join("second"), &[Attribute::NoDev]);

        let seen = Seen::at(&base.join("second")).unwrap().attributes;
        assert!(seen.has(Attribute::NoSuid) && seen.has(Attribute::NoDev));
    });
}

#[test]
fn a_mount_made_at_the_target_later_does_not_appear_at_the_source() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir_all(base.join("source/inner")).unwrap();
        clone_to(&base.join("source"), &base.join("target"), &[]);

        tmpfs(&base.join("target/inner"));

        assert!(Seen::at(&base.join("target/inner")).unwrap().is_mount);
        assert!(!Seen::at(&base.join("source/inner")).unwrap().is_mount);
    });
}

#[test]
fn a_clone_in_a_shared_directory_is_shared_there_and_not_with_its_source() {
    isolated(|| {
        let (_guard, base) = scratch();
        share(&base);
        fs::create_dir(base.join("kubelet")).unwrap();
        tmpfs(&base.join("source"));
        let peers = |path: &Path| {
            MountTable::read().unwrap().at(path).unwrap().propagation.to_str().unwrap().to_owned()
        };

        clone_to(&base.join("source"), &base.join("kubelet/target"), &[]);

        let target = peers(&base.join("kubelet/target"));
        assert!(target.starts_with("shared:"), "{target}");
        assert_ne!(target, peers(&base.join("source")));
    });
}

#[test]
fn a_device_node_is_mounted_on_a_file_and_taken_away_again() {
    isolated(|| {
        let (_guard, base) = scratch();
        let disk = Disk::blank(1);
        let node = Seen::at(disk.path()).unwrap();
        let spot = Spot::open(&base.join("device"), None).unwrap();
        spot.make_file().unwrap();

        let mount = Detached::clone_of(node.as_fd(), disk.path()).unwrap();
        mount.restrict(Attributes::default()).unwrap();
        mount.attach(&spot.look().unwrap().unwrap(), spot.path()).unwrap();

        let seen = spot.look().unwrap().unwrap();
        assert!(seen.is_mount && seen.kind == node.kind);
        drop(seen); // It would keep the mount busy.
        assert_eq!(fs::read(base.join("device")).unwrap().len(), 1 << 20);
        spot.unmount().unwrap();
        assert_eq!(spot.look().unwrap().unwrap().kind, Kind::File(0));
        spot.remove_file().unwrap();
        assert!(spot.look().unwrap().is_none());
    });
}

#[test]
fn a_mounted_file_system_bears_the_number_of_its_device_and_vanishes_unless_attached() {
    isolated(|| {
        let (_guard, base) = scratch();
        let disk = Disk::formatted("ext4", 8);
        let Kind::BlockDevice(number) = Seen::at(disk.path()).unwrap().kind else { panic!() };

        let detached = Detached::filesystem("ext4", disk.path(), &["lazytime"]).unwrap();
        assert_eq!(detached.look().unwrap().id.device, number);
        drop(detached);
        assert!(MountTable::read().unwrap().iter().all(|mount| mount.device != number));

        mount("ext4", disk.path(), &base.join("target"));
        let table = MountTable::read().unwrap();
        let found = table.at(&base.join("target")).unwrap();
        assert_eq!((found.device, found.source.to_str()), (number, disk.path().to_str()));
    });
}

#[test]
fn an_option_that_the_file_system_does_not_know_is_an_error() {
    let error = Detached::filesystem("tmpfs", Path::new("tmpfs"), &["berth"]).unwrap_err();

    assert_eq!((error.call, error.errno), ("fsconfig(option)", Errno::INVAL));
}

#[test]
fn a_symlink_at_the_target_is_seen_as_one_and_never_followed() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir(base.join("elsewhere")).unwrap();
        symlink(base.join("elsewhere"), base.join("target")).unwrap();
        tmpfs(&base.join("elsewhere"));

        let spot = Spot::open(&base.join("target"), None).unwrap();

        assert_eq!(spot.look().unwrap().unwrap().kind, Kind::Symlink);
        assert_eq!(spot.make_directory().unwrap_err().errno, Errno::EXIST);
        assert_eq!(spot.unmount().unwrap_err().errno, Errno::INVAL);
        assert!(Seen::at(&base.join("elsewhere")).unwrap().is_mount);
    });
}

#[test]
fn a_symlink_on_the_way_may_not_lead_out_of_the_root() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir_all(base.join("root/pods")).unwrap();
        fs::create_dir(base.join("outside")).unwrap();
        symlink("../outside", base.join("root/escape")).unwrap();
        let root = base.join("root");

        assert!(Spot::open(&base.join("root/pods/target"), Some(&root)).is_ok());
        assert!(Spot::open(&base.join("root/target"), Some(&root)).is_ok());
        for wrong in ["root/escape/target", "outside/target", "root2/target"] {
            assert!(Spot::open(&base.join(wrong), Some(&root)).is_err(), "{wrong}");
        }
    });
}

#[test]
fn a_place_is_spelt_as_the_mount_table_spells_it() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir(base.join("real")).unwrap();
        symlink("real", base.join("alias")).unwrap();
        tmpfs(&base.join("real/target"));

        let spot = Spot::open(&base.join("alias/target"), None).unwrap();

        assert_eq!(spot.path(), base.join("real/target"));
        assert!(MountTable::read().unwrap().at(spot.path()).is_some());
    });
}

#[test]
fn a_path_that_names_no_place_is_refused() {
    for path in ["relative/target", "/", "/tmp/../target", ""] {
        assert_eq!(Spot::open(Path::new(path), None).unwrap_err().errno, Errno::INVAL, "{path}");
    }
}

#[test]
fn a_directory_with_something_in_it_is_not_removed() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir(base.join("target")).unwrap();
        fs::write(base.join("target/file"), "x").unwrap();
        let spot = Spot::open(&base.join("target"), None).unwrap();

        assert_eq!(spot.remove_directory().unwrap_err().errno, Errno::NOTEMPTY);
        assert!(base.join("target/file").exists());
    });
}

#[test]
fn a_mount_in_use_is_not_taken_away() {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir(base.join("source")).unwrap();
        bind(&base.join("source"), &base.join("target"));
        let user = fs::File::create(base.join("target/file")).unwrap();

        let spot = Spot::open(&base.join("target"), None).unwrap();
        assert_eq!(spot.unmount().unwrap_err().errno, Errno::BUSY);

        drop(user);
        unmount(&base.join("target"));
        assert!(!spot.look().unwrap().unwrap().is_mount);
    });
}
