//! The checks that the fuzz targets run, and the tests on their corpus: one for each kind of input that others write. Not
//! in a build of Berth: only tests and `cfg(fuzzing)` have it.
//!
//! A check takes any bytes and panics where something is not as it must be. None of them touches the host.
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use crate::csi::Endpoint;
use crate::publish::MountFlags;
use crate::volume::{Bytes, ClaimName, NodeName, PoolName, VolumeId, VolumeName};

pub use crate::csi::hostile::requests;
pub use crate::host::hostile::devices;
pub use crate::host::mountinfo::hostile::mountinfo;
pub use crate::host::signature::hostile::signatures;
pub use crate::inventory::crd::hostile::objects;
pub use crate::inventory::embedded::hostile::records;
pub use crate::kubelet::hostile::registration;
pub use crate::pool::hostile::{globs, pools, storage_class_map};

/// A check.
pub type Check = fn(&[u8]);

/// Every check, by the name of its fuzz target.
pub const CHECKS: [(&str, Check); 11] = [
    ("devices", devices),
    ("globs", globs),
    ("mountinfo", mountinfo),
    ("names", names),
    ("objects", objects),
    ("pools", pools),
    ("records", records),
    ("registration", registration),
    ("requests", requests),
    ("signatures", signatures),
    ("storage_class_map", storage_class_map),
];

/// Names, ids, sizes, flags and endpoints: what is taken is printed as it was, and is none of what a path is made of.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<VolumeId>() {
        assert_eq!(id.to_string(), text, "an id has one spelling");
        assert!(id.volume.as_str().parse::<VolumeName>().is_ok());
        assert!(text.len() <= 128 && id.tenancy.0 > 0);
        assert!(!text.contains(['/', '\0', '%']) && !text.contains(".."), "{text:?} is a path");
    }
    for (is, bound) in [
        (text.parse::<VolumeName>().is_ok_and(|name| name.as_str() == text), 100),
        (text.parse::<PoolName>().is_ok_and(|name| name.as_str() == text), 63),
        (text.parse::<NodeName>().is_ok_and(|name| name.as_str() == text), 253),
    ] {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        assert!(!is || text.len() <= bound && text.bytes().all(is_legal), "{text:?} is a name");
        assert!(!is || !text.contains(".."), "{text:?} is a name");
    }
    if let (Ok(node), Ok(pool)) = (text.parse::<NodeName>(), "fast".parse()) {
        let name = VolumeName::compose(&node, &pool, text, data);
        assert!(node.topology_value().len() <= 63);
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert!(name.is_of(&node, data) && !name.is_of(&node, &[data, b"x"].concat()));
    }
    if let Ok(claim) = text.parse::<ClaimName>() {
        assert!(claim.as_str() == text && text.len() <= 128);
    }
    if let Ok(bytes) = text.parse::<Bytes>() {
        assert_eq!(bytes.0.to_string().parse(), Ok(bytes));
        assert!(!bytes.to_string().is_empty());
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
        assert!(endpoint.path().is_absolute() && endpoint.path().as_os_str().len() < 108);
    }
    flags(text);
}

fn flags(text: &str) {
    let words: Vec<_> = text.split('\n').map(str::to_owned).collect();
    match MountFlags::parse(&words) {
        Ok(flags) => {
            let whole = flags.filesystem();
            assert_eq!(flags.check(false).is_ok(), whole.is_empty());
            assert!(whole.iter().all(|flag| text.contains(flag)));
        }
        // What is refused is not repeated, beside words that everybody knows.
        Err(refused) => assert!(refused.to_string().len() < 400, "{refused}"),
    }
}

#[cfg(test)]
mod tests;
