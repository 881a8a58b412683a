//! Volumes in the states that tests start from. Each function's name is the state.
#![allow(clippy::unwrap_used, reason = "only tests and checks have it")]
#![cfg_attr(fuzzing, allow(dead_code, reason = "the checks need some of it"))]

use jiff::Timestamp;

use super::*;

/// A clean, healthy, free directory volume `v1` of pool `fast` on `node-a`, 1 GiB.
pub(crate) fn available() -> LocalVolume {
    named("v1", Bytes(1 << 30))
}

/// A clean, healthy, free directory volume of pool `fast` on `node-a`.
pub(crate) fn named(entry: &str, capacity: Bytes) -> LocalVolume {
    on("node-a", "fast", entry, capacity)
}

/// A clean, healthy, free directory volume of `pool` on `node`.
pub(crate) fn on(node: &str, pool: &str, entry: &str, capacity: Bytes) -> LocalVolume {
    let fingerprint = Fingerprint::Directory {
        filesystem: FilesystemIdentity {
            fs_type: "ext4".into(),
            uuid: Some(format!("uuid-of-{entry}").into()),
            device_number: None,
        },
        inode: 2,
        born: None,
    };
    let node: NodeName = node.parse().unwrap();
    let pool: PoolName = pool.parse().unwrap();
    LocalVolume {
        name: VolumeName::compose(&node, &pool, entry, &fingerprint.identity()),
        spec: Spec {
            node,
            pool,
            mode: Mode::Filesystem,
            tenancy: Tenancy(0),
            claim: None,
            clean: None,
            clean_asked: None,
            cordoned: false,
        },
        status: Status {
            path: format!("/mnt/fast/{entry}").into(),
            fingerprint,
            place: None,
            other_paths: BTreeSet::new(),
            capacity,
            fs_type: Some("ext4".into()),
            clean_for: Some(Tenancy(0)),
            accepted: false,
            conditions: Conditions {
                healthy: holds(true, HealthReason::Present),
                clean: holds(true, CleanReason::FoundEmpty),
            },
            cleaning: None,
            last_wipe: None,
            published: Vec::new(),
            own_mounts: Vec::new(),
            host_mounts: Vec::new(),
            root: None,
            format: None,
            node_uid: None,
        },
    }
}

/// [`available`], held by `claim`.
pub(crate) fn claimed_by(name: &str) -> LocalVolume {
    let volume = available();
    let spec = volume.claimed(claim(name), delete()).unwrap();
    LocalVolume { spec, ..volume }
}

/// [`available`], after its first tenancy and before its wipe.
pub(crate) fn released() -> LocalVolume {
    let volume = claimed_by("pvc-1");
    let spec = volume.released(Tenancy(1)).unwrap();
    LocalVolume { spec, ..volume }
}

/// A claim of any size.
pub(crate) fn claim(name: &str) -> Claim {
    Claim {
        name: name.parse().unwrap(),
        pvc: None,
        range: CapacityRange::default(),
        at: Timestamp::UNIX_EPOCH,
    }
}

/// The default policy.
pub(crate) fn delete() -> CleanPolicy {
    CleanPolicy { method: CleanMethod::Delete, verify: false }
}

/// A condition of the given status and reason.
pub(crate) fn holds<R>(status: bool, reason: R) -> Condition<R> {
    Condition { status, reason, message: "a sentence".into(), since: Timestamp::UNIX_EPOCH }
}
