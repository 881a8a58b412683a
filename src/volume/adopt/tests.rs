use super::*;
use crate::volume::fixture::{available, claimed_by, named};
use crate::volume::{
    AccessMode, Bytes, CleanMethod, Cleaning, DeviceIdentity, Format, Remount, Tenancy,
};

fn premises() -> Premises {
    Premises {
        node: "node-a".parse().unwrap(),
        pools: [("fast".parse().unwrap(), "/mnt/fast".into())].into(),
        tenants: vec!["/var/lib/kubelet".into()],
    }
}

fn published(path: &str) -> Published {
    Published {
        path: path.into(),
        staging: false,
        read_only: false,
        access: AccessMode::SingleNodeWriter,
        flags: None,
    }
}

#[test]
fn what_an_agent_wrote_itself_is_believed() {
    let mut volume = claimed_by("pvc-1");
    volume.status.published = vec![published("/var/lib/kubelet/pods/1/mount")];
    volume.status.own_mounts = vec!["/mnt/fast/v1".into(), "/data/v1".into()];
    let format = Format { tenancy: Tenancy(1), fs_type: "ext4".into(), done: true };
    volume.status.format = Some(format.into());

    assert_eq!(premises().adopted(&volume), volume);
}

#[test]
fn a_path_that_is_no_entry_of_the_pool_is_not_believed() {
    for (path, becomes) in [
        ("/", None),
        ("/etc", Some("etc")),
        ("/mnt/fast/../../etc", None),
        ("../../etc", None),
        ("", None),
        ("/mnt/fast/v1/inner", Some("inner")),
        ("/mnt/fast/v1/", Some("v1")),
    ] {
        let mut volume = available();
        volume.status.path = path.into();

        let adopted = premises().adopted(&volume);

        let becomes = becomes.unwrap_or(volume.name.as_str());
        assert_eq!(adopted.status.path, format!("/mnt/fast/{becomes}"), "{path:?}");
    }
}

#[test]
fn a_volume_of_a_pool_that_is_not_configured_is_nowhere() {
    let elsewhere = Premises { pools: BTreeMap::new(), ..premises() };

    assert_eq!(elsewhere.adopted(&available()).status.path, "/dev/null/v1");
}

#[test]
fn a_fingerprint_that_the_name_was_not_made_of_is_that_of_nothing() {
    let other = named("v2", Bytes(1)).status.fingerprint;
    let disk = DeviceIdentity::Serial("sda".into());
    let device = Fingerprint::Device { device: disk, size: Bytes(1 << 40) };

    for print in [other, device] {
        let mut volume = available();
        volume.status.fingerprint = print.clone();
        let believed = premises().adopted(&volume).status.fingerprint;
        assert!(!believed.is_same_source(&print) && believed == nothing());
    }
    let mut moved = available();
    moved.spec.node = "node-b".parse().unwrap();
    let on_b = Premises { node: "node-b".parse().unwrap(), ..premises() };
    assert_eq!(on_b.adopted(&moved).status.fingerprint, nothing());
}

#[test]
fn an_xfs_that_a_wipe_made_anew_is_still_the_volume() {
    let xfs = |inode| {
        let (fs_type, uuid) = ("xfs".to_owned(), Some("u".into()));
        let fs_type = fs_type.into();
        let filesystem = FilesystemIdentity { fs_type, uuid, device_number: None };
        Fingerprint::Directory { filesystem, inode, born: None }
    };
    let mut volume = available();
    let (node, pool) = (&volume.spec.node, &volume.spec.pool);
    volume.name = VolumeName::compose(node, pool, "v1", &xfs(96).identity());
    volume.status.fingerprint = xfs(128);

    assert_eq!(premises().adopted(&volume).status.fingerprint, xfs(128));
}

#[test]
fn no_wipe_or_format_that_a_record_says_was_begun_is_gone_on_with() {
    let mut volume = claimed_by("pvc-1");
    let remount = Remount {
        source: "/dev/sda".into(),
        device: Fingerprint::Device {
            device: DeviceIdentity::Serial("sda".into()),
            size: Bytes(1),
        },
        fs_type: "ext4".into(),
        uuid: "u".into(),
        label: None,
        options: "rw,suid,dev".into(),
    };
    volume.status.cleaning = Some(Box::new(Cleaning {
        tenancy: Tenancy(1),
        method: CleanMethod::Reformat,
        started: jiff::Timestamp::UNIX_EPOCH,
        entries: u64::MAX,
        bytes: Bytes(u64::MAX),
        remount: Some(remount),
    }));
    volume.status.format =
        Some(Format { tenancy: Tenancy(1), fs_type: "ext4".into(), done: false }.into());

    let status = premises().adopted(&volume).status;

    assert!(status.cleaning.is_none() && status.format.is_none());
}

#[test]
fn a_tenants_mount_is_never_the_administrators_nor_the_administrators_a_tenants() {
    let mut volume = claimed_by("pvc-1");
    let tenants = "/var/lib/kubelet/pods/1/mount";
    let own: Vec<String> = vec!["/data/v1".into(), tenants.into(), "/var/lib/kubelet/x".into()];
    volume.status.own_mounts.clone_from(&own);
    volume.status.host_mounts = own;
    let places = ["/", "/home", tenants, "/var/lib/kubelet/../../home", "relative", ""];
    volume.status.published = places.map(published).into();

    let status = premises().adopted(&volume).status;

    assert_eq!(
        (&*status.own_mounts, &*status.host_mounts),
        (&["/data/v1".to_owned()][..], &["/data/v1".to_owned()][..])
    );
    assert_eq!(status.published, [published(tenants)]);
}
