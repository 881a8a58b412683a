//! Checks of what devices and the kernel say; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use super::device::sysfs;
use super::wake::Announcement;

/// What a device says of itself, and the kernel of devices that come and go. A disk's vendor, or whoever made a USB stick,
/// writes serial numbers and names.
pub fn devices(data: &[u8]) {
    sysfs::hostile(data);
    let pairs = data.split(|byte| *byte == 0);
    let says =
        pairs.filter(|pair| pair.starts_with(b"SUBSYSTEM=")).any(|pair| &pair[10..] == b"block");
    assert_eq!(Announcement::read(data).is_some(), says);
}
