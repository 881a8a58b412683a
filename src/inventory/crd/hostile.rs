//! Checks of objects that anybody may have edited; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use std::path::{Component, Path};

use jiff::Timestamp;

use super::{LocalVolumeStatus, Object};
use crate::volume::{LocalVolume, Premises};

/// An object of the API: a volume survives being one, and of one that no ledger knows nothing is believed by which an agent
/// would touch anything but that volume.
pub fn objects(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Object>(data) else { return };
    let Ok(Some(volume)) = object.volume() else { return };
    let mut again = Object::incomplete(&volume);
    again.status = Some(LocalVolumeStatus::from(&volume));
    let Ok(printed) = serde_json::to_vec(&again) else { panic!("{volume:?} is not printed") };
    let read = serde_json::from_slice::<Object>(&printed).ok().and_then(|read| read.volume().ok());
    assert_eq!(read.flatten().as_ref(), Some(&volume), "another volume is read back");
    lived(&volume);
    believed(&volume);
}

/// Every question about it has an answer.
fn lived(volume: &LocalVolume) {
    let now = Timestamp::UNIX_EPOCH;
    let claimable = volume.is_claimable();
    assert!(!claimable || volume.spec.claim.is_none() && !volume.needs_cleaning());
    let _ = (volume.phase().to_string(), volume.began_clean(), volume.may_be_forgotten().is_ok());
    let _ = (volume.status.fingerprint.to_string(), volume.status.fingerprint.identity());
    if let Some(status) = volume.node_gone(now) {
        let gone = LocalVolume { status, ..volume.clone() };
        assert!(gone.is_node_gone() && !gone.is_claimable());
    }
    if let Some(policy) = &volume.spec.clean {
        let _ = (policy.method.timeout(), volume.is_due(volume.spec.tenancy, policy));
    }
    assert_eq!(volume.id().is_some(), volume.spec.claim.is_some());
}

fn believed(volume: &LocalVolume) {
    let directory = Path::new("/mnt/fast");
    let kubelet = Path::new("/var/lib/kubelet");
    let premises = Premises {
        node: volume.spec.node.clone(),
        pools: "fast".parse().map(|pool| (pool, directory.to_owned())).into_iter().collect(),
        tenants: vec![kubelet.to_owned()],
    };
    let adopted = premises.adopted(volume);
    assert_eq!(adopted.spec, volume.spec, "what was decided is not the agent's to change");
    assert_eq!(premises.adopted(&adopted), adopted, "what was believed is believed again");
    let status = &adopted.status;
    let path = Path::new(&status.path);
    assert!(path.components().all(|part| part != Component::ParentDir));
    assert!(
        path.parent() == Some(directory) || path.parent() == Some(Path::new("/dev/null")),
        "{}",
        path.display()
    );
    let told = adopted.name.is_of(&adopted.spec.node, &status.fingerprint.identity());
    // No directory has the inode 0.
    let is_nothing = status.fingerprint.to_string().ends_with("inode 0");
    assert!(told || is_nothing || is_xfs(volume), "a source that its name was not made of");
    assert!(status.cleaning.is_none() && status.format.as_ref().is_none_or(|format| format.done));
    for place in &status.published {
        let path = Path::new(&place.path);
        let plain = path.components().all(|part| part != Component::ParentDir);
        assert!(plain && path.starts_with(kubelet), "{} is a tenant's", path.display());
    }
    let own = status.own_mounts.iter().chain(&status.host_mounts);
    assert!(
        own.map(Path::new).all(|path| !path.starts_with(kubelet)),
        "a tenant's mount is the administrator's"
    );
}

fn is_xfs(volume: &LocalVolume) -> bool {
    volume.status.fingerprint.to_string().starts_with("xfs ")
}
