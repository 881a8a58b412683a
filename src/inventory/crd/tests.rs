use std::path::Path;

use super::*;
use crate::volume::fixture::{available, claim, claimed_by, holds};
use crate::volume::{
    AccessMode, CapacityRange, CleanMethod, HealthReason, PersistentVolumeClaim, Remount,
    RootFlags, Verified, Wipe, WipeResult,
};

/// The object as the API server gives it back.
fn object(volume: &LocalVolume) -> Object {
    let mut object = Object::incomplete(volume);
    object.status = Some(LocalVolumeStatus::from(volume));
    serde_json::from_str(&serde_json::to_string(&object).unwrap()).unwrap()
}

/// A volume of which everything is known that can be.
fn full() -> LocalVolume {
    let mut volume = claimed_by("pvc-1");
    volume.spec.claim = Some(Box::new(Claim {
        pvc: Some(PersistentVolumeClaim { namespace: "db".into(), name: "data-0".into() }),
        range: CapacityRange { required: Some(Bytes(1)), limit: Some(Bytes(1 << 40)) },
        at: "2026-11-24T10:00:00.123456789Z".parse().unwrap(),
        ..claim("pvc-1")
    }));
    volume.spec.clean =
        Some(CleanPolicy { method: CleanMethod::Shred { passes: 3 }, verify: true });
    let status = &mut volume.status;
    status.conditions.healthy = holds(false, HealthReason::ReadOnly);
    status.cleaning = Some(Box::new(Cleaning {
        tenancy: Tenancy(7),
        method: CleanMethod::Command { command: vec!["wipe".into(), "-f".into()], timeout: 60 },
        started: Timestamp::UNIX_EPOCH,
        entries: 12,
        bytes: Bytes(4096),
        remount: Some(Remount {
            source: "/dev/sdb".into(),
            device: status.fingerprint.clone(),
            fs_type: "ext4".into(),
            uuid: "5f3c".into(),
            label: Some("data".into()),
            options: "rw,noatime".into(),
        }),
    }));
    status.last_wipe = Some(Box::new(Wipe {
        result: WipeResult::VerifyFailed,
        duration_millis: Some(1),
        verified: Verified::Samples,
        asked: Some(Timestamp::UNIX_EPOCH),
        ..Wipe::begun(Tenancy(6), &CleanMethod::Zero, Timestamp::UNIX_EPOCH).because("data")
    }));
    status.published = vec![Published {
        path: "/var/lib/kubelet/x".into(),
        staging: true,
        read_only: true,
        access: AccessMode::SingleNodeWriter,
        flags: Some(vec!["noatime".into()]),
    }];
    status.own_mounts = vec!["/mnt/fast/v1".into()];
    status.host_mounts = vec!["/mnt/backing/v1".into()];
    status.root = Some(Arc::new(RootAttributes {
        uid: u32::MAX,
        gid: 0,
        mode: 0o2775,
        xattrs: [("user.x".to_owned(), "AA==".to_owned())].into(),
        flags: Some(RootFlags { inode: 1 << 23, project: u32::MAX, ..RootFlags::default() }),
    }));
    status.format = Some(Format { tenancy: Tenancy(7), fs_type: "xfs".into(), done: false }.into());
    status.accepted = true;
    status.other_paths = ["/mnt/fast/v2".to_owned()].into();
    status.place = Some(Place {
        on: ["filesystem u".to_owned()].into(),
        root: "/".into(),
        disk: ["disk s".to_owned()].into(),
        attached: true,
    });
    status.node_uid = Some("uid-1".into());
    volume
}

#[test]
fn the_definition_in_deploy_is_what_the_code_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crd.yaml");

    let written = std::fs::read_to_string(file).unwrap();

    assert!(written == yaml().unwrap(), "run: cargo run -- crd > deploy/crd.yaml");
}

#[test]
fn a_volume_survives_being_an_object() {
    for volume in [available(), claimed_by("pvc-1"), full()] {
        assert_eq!(object(&volume).volume().unwrap(), Some(volume));
    }
}

#[test]
fn an_object_says_for_people_what_is_derived() {
    let status = object(&available()).status.unwrap();

    assert_eq!(status.phase.as_deref(), Some("Available"));
    assert_eq!(status.size.as_deref(), Some("1Gi"));
    let conditions: Vec<_> =
        status.conditions.iter().map(|c| (&*c.kind, c.status, &*c.reason)).collect();
    let healthy = ("Healthy", ConditionStatus::True, "Present");
    assert_eq!(conditions, [healthy, ("Clean", ConditionStatus::True, "FoundEmpty")]);
}

#[test]
fn an_object_without_a_status_is_no_volume_yet() {
    assert_eq!(Object::incomplete(&available()).volume().unwrap(), None);
}

#[test]
fn an_object_of_a_release_to_come_is_unreadable_rather_than_guessed_at() {
    let mut unknown = object(&available());
    unknown.status.as_mut().unwrap().conditions[0].reason = "Glowing".into();
    let mut lacking = object(&available());
    lacking.status.as_mut().unwrap().conditions.pop();

    let unknown = unknown.volume().unwrap_err();
    let lacking = lacking.volume().unwrap_err();

    assert!(matches!(unknown, Unreadable::Reason { kind: "Healthy", .. }), "{unknown}");
    assert!(matches!(lacking, Unreadable::NoCondition("Clean")), "{lacking}");
}
