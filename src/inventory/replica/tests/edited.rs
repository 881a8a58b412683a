//! Records of the remote store that somebody has edited, or made by hand.

use super::*;
use crate::volume::{
    AccessMode, Cleaning, DeviceIdentity, Fingerprint, Mode, Premises, Published, Remount,
};

fn premises() -> Premises {
    Premises {
        node: "node-a".parse().unwrap(),
        pools: [("fast".parse().unwrap(), "/mnt/fast".into())].into(),
        tenants: vec!["/var/lib/kubelet".into()],
    }
}

/// Every field of what was seen, set to what would hurt most.
fn edited(mut volume: LocalVolume) -> LocalVolume {
    let disk = Fingerprint::Device { device: DeviceIdentity::Serial("sda".into()), size: Bytes(1) };
    let status = &mut volume.status;
    status.path = "/".into();
    status.fingerprint = disk.clone();
    status.capacity = Bytes(u64::MAX);
    status.other_paths = ["/etc".to_owned()].into();
    status.own_mounts = vec!["/var/lib/kubelet/pods/1/mount".into()];
    status.host_mounts.clone_from(&status.own_mounts);
    status.published = vec![Published {
        path: "/".into(),
        staging: true,
        read_only: false,
        access: AccessMode::SingleNodeWriter,
        flags: Some(vec!["suid".into()]),
    }];
    status.cleaning = Some(Box::new(Cleaning {
        tenancy: volume.spec.tenancy,
        method: delete().method,
        started: jiff::Timestamp::UNIX_EPOCH,
        entries: u64::MAX,
        bytes: Bytes(u64::MAX),
        remount: Some(Remount {
            source: "/dev/sda".into(),
            device: disk,
            fs_type: "ext4".into(),
            uuid: "u".into(),
            label: None,
            options: "rw,suid".into(),
        }),
    }));
    volume
}

/// A replica whose remote store has `volume` and whose ledger has nothing.
async fn replica_of(directories: &Directories, volume: LocalVolume) -> Replica<Remote> {
    let ledger = Embedded::open(directories.ledger.path()).unwrap();
    let remote = Remote::open(&directories.remote);
    remote.add(volume).await.unwrap();
    let replica = Replica::new(ledger, remote).believing(premises());
    let (running, cancel) = (replica.clone(), directories.running.child_token());
    tokio::spawn(async move { running.run(cancel).await });
    replica.ready().await;
    replica
}

#[tokio::test]
async fn of_an_edited_object_that_no_ledger_knows_the_claim_is_taken_and_nothing_to_act_on() {
    let directories = Directories::new();
    let volume = claimed_by("pvc-1");

    let replica = replica_of(&directories, edited(volume.clone())).await;

    let taken = replica.get(&volume.name).await.unwrap().volume;
    assert_eq!(taken.spec, volume.spec);
    let status = &taken.status;
    assert!(status.path.starts_with("/mnt/fast/") && status.cleaning.is_none());
    assert!(status.published.is_empty() && status.own_mounts.is_empty());
    assert!(!status.fingerprint.is_same_source(&edited(volume).status.fingerprint));
    // What is believed is told back, so that people see it.
    assert_eq!(equal(&replica).await, [LocalVolume::clone(&taken)]);
}

#[tokio::test]
async fn what_somebody_writes_over_what_an_agent_saw_is_overwritten_and_never_learnt() {
    let directories = Directories::new();
    let volume = claimed_by("pvc-1");
    let replica = replica_of(&directories, volume.clone()).await;

    let overwrite = |volume: &LocalVolume| Some(edited(volume.clone()).status);
    replica.remote.store.modify_status(&volume.name, overwrite).await.unwrap();

    assert_eq!(equal(&replica).await, [volume]);
}

#[tokio::test]
async fn an_object_that_was_made_anew_as_another_volume_becomes_what_the_agent_found() {
    let directories = Directories::new();
    let volume = available();
    let replica = replica_of(&directories, volume.clone()).await;
    let mut other = volume.clone();
    (other.spec.mode, other.spec.cordoned) = (Mode::Block, true);
    let store = &replica.remote.store;

    store.modify_spec(&volume.name, |_| Ok::<_, Error>(other.spec.clone())).await.unwrap();

    let both = equal(&replica).await;
    let cordoned = LocalVolume { spec: volume.cordoned(true), ..volume };
    assert_eq!(both, [cordoned], "a decision stands, and what it is about does not change");
}
