//! What the kernel announces of devices.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::Interest;

use super::super::{DeviceNumber, Errno, Error, Result};
use super::{Changes, owner};

/// The kernel's announcements of devices, readable when one came (netlink(7), `NETLINK_KOBJECT_UEVENT`).
#[derive(Debug)]
pub struct DeviceChanges(OwnedFd);

impl DeviceChanges {
    /// Begins to listen. A network namespace of a user namespace hears nothing.
    pub fn open() -> Result<Self> {
        const KERNEL: u32 = 1;
        let name = Path::new("netlink(KOBJECT_UEVENT)");
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
        let socket = rustix::net::socket_with(family, kind, flags, Some(KOBJECT_UEVENT))
            .map_err(Error::of("socket", name))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL))
            .map_err(Error::of("bind", name))?;
        Ok(Self(socket))
    }

    /// Takes every announcement that has come; whether one about a block device concerns whoever asks, or some were lost.
    pub fn drain(&self, concerns: impl Fn(Announcement) -> bool) -> bool {
        let mut buffer = vec![0; 16 << 10];
        let mut any = false;
        loop {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((read, _)) => any |= Announcement::read(&buffer[..read]).is_some_and(&concerns),
                Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

impl AsRawFd for DeviceChanges {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl owner::Owner for DeviceChanges {}

impl Changes for DeviceChanges {
    const INTEREST: Interest = Interest::READABLE;
}

/// What is announced of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// Its number, where it is told.
    pub number: Option<DeviceNumber>,
    /// Whether it was there before and is after it.
    pub is_change: bool,
    /// Whether it is a loop device, or a partition of one: a file that somebody attaches or detaches.
    pub is_loop: bool,
}

impl Announcement {
    /// An announcement is a header and then `KEY=VALUE`, each ended by a NUL. Absent where it is about something else than
    /// a block device.
    pub(in super::super) fn read(announcement: &[u8]) -> Option<Self> {
        let pairs = || announcement.split(|byte| *byte == 0);
        let value = |key: &[u8]| pairs().find_map(|pair| pair.strip_prefix(key));
        let number = |key| std::str::from_utf8(value(key)?).ok()?.parse().ok();
        let major_minor =
            || Some(DeviceNumber { major: number(b"MAJOR=")?, minor: number(b"MINOR=")? });
        pairs().any(|pair| pair == b"SUBSYSTEM=block").then(|| Self {
            number: major_minor(),
            is_change: value(b"ACTION=") == Some(b"change"),
            is_loop: value(b"DEVNAME=").is_some_and(|name| name.starts_with(b"loop")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use rustix::event::PollFlags;

    use super::super::super::loopback::LoopDevice;
    use super::super::tests::wait;
    use super::*;

    #[test]
    fn a_device_that_changes_is_told_with_its_number() {
        let changes = DeviceChanges::open().unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();

        let device = LoopDevice::attach(&file).unwrap();

        let number = super::super::super::device::number(
            fs::File::open(device.path()).unwrap(),
            device.path(),
        );
        let is_it = |told: Announcement| {
            told.number == number.clone().ok() && told.is_change && told.is_loop
        };
        loop {
            wait(&changes, PollFlags::IN);
            if changes.drain(is_it) {
                break;
            }
        }
    }

    #[test]
    fn announcements_that_were_lost_may_have_been_about_a_block_device() {
        let changes = DeviceChanges::open().unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&changes.0, 1).unwrap();
        for _ in 0..1000 {
            fs::write("/sys/class/mem/null/uevent", "change").unwrap();
        }

        assert!(changes.drain(|_| false));
    }

    #[test]
    fn an_announcement_is_read_and_one_of_another_subsystem_is_not() {
        let read = |text: &str| Announcement::read(text.as_bytes());
        let disk = DeviceNumber { major: 8, minor: 16 };

        assert_eq!(
            read("add@/devices/x\0ACTION=add\0SUBSYSTEM=block\0MAJOR=8\0MINOR=16\0DEVNAME=sdb\0"),
            Some(Announcement { number: Some(disk), is_change: false, is_loop: false })
        );
        assert_eq!(
            read("change@/x\0ACTION=change\0SUBSYSTEM=block\0MAJOR=7\0MINOR=x\0DEVNAME=loop0\0"),
            Some(Announcement { number: None, is_change: true, is_loop: true })
        );
        assert_eq!(read("add@/devices/x\0SUBSYSTEM=net\0INTERFACE=block\0"), None);
    }

    proptest! {
        #[test]
        fn an_announcement_is_about_a_block_device_exactly_when_it_says_so(
            before in proptest::collection::vec(any::<u8>(), 0..60),
            after in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let pair = b"SUBSYSTEM=block".as_slice();
            let said = |parts: &[&[u8]]| Announcement::read(&parts.concat()).is_some();

            prop_assert!(said(&[&before, b"\0", pair, b"\0", &after]));
            // Within another pair the bytes say nothing.
            let others = said(&[&before]) || said(&[&after]);
            for (left, right) in [(b"x", b"\0"), (b"\0", b"x")] {
                prop_assert_eq!(said(&[&before, left, pair, right, &after]), others);
            }
        }
    }
}
