//! What block devices are called: the strongest fact that tells one from every other, and every name that it shares
//! with what lies on it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::Mounts;
use super::facts::identity_of;
use crate::host::device::sysfs::{self, Description};
use crate::host::device::{self, LoopFile};
use crate::host::identify;
use crate::host::mountinfo::MountTable;
use crate::host::{self, DeviceNumber, Errno};
use crate::volume::DeviceIdentity;

/// What a device is called.
#[derive(Debug)]
pub(super) struct Named {
    /// What tells it from every other.
    pub(super) identity: DeviceIdentity,
    /// All its names.
    pub(super) names: BTreeSet<String>,
    /// The names of the whole disk, where it is a partition.
    pub(super) disk: BTreeSet<String>,
}

impl Default for Named {
    /// No device at all.
    fn default() -> Self {
        let identity = DeviceIdentity::DeviceNumber(String::new());
        Self { identity, names: BTreeSet::new(), disk: BTreeSet::new() }
    }
}

/// What sysfs calls the device `number`; nothing is opened for that.
pub(super) fn device(number: DeviceNumber) -> host::Result<Named> {
    named(&described(number)?, None, number)
}

/// As [`device()`] for one that is open, so that the file behind a loop device is asked for too.
pub(super) fn open_device(
    device: &File,
    path: &Path,
    number: DeviceNumber,
    mounts: Mounts<'_>,
) -> host::Result<Named> {
    let described = described(number)?;
    let file = match device::loop_file(device, path) {
        Ok(file) if described.is_loop => Some(match mounts {
            Mounts::Read(table) => loop_file(&file, table)?,
            Mounts::Asked => loop_file(&file, &MountTable::read()?)?,
        }),
        _ => None,
    };
    named(&described, file, number)
}

fn described(number: DeviceNumber) -> host::Result<Description> {
    match sysfs::describe(number) {
        Err(host::Error { errno: Errno::NODEV, .. }) => Ok(Description::default()),
        described => described,
    }
}

fn named(
    described: &Description,
    file: Option<DeviceIdentity>,
    number: DeviceNumber,
) -> host::Result<Named> {
    let weak = numbered(described, number)?;
    let identity = device_identity(described, file, &weak);
    let disk = match described.disk {
        Some(disk) => device(disk)?.names,
        None => BTreeSet::new(),
    };
    Ok(Named { names: [identity.to_string(), weak.to_string()].into(), identity, disk })
}

/// What the kernel counts, and the boot for which that is so: numbers are given out in the order in which devices are
/// found, and another boot finds them in another.
fn numbered(described: &Description, number: DeviceNumber) -> host::Result<DeviceIdentity> {
    // The kernel's count of disks tells one that was unplugged from the next one at its number.
    let sequence = described.sequence.map(|count| format!(" #{count}")).unwrap_or_default();
    Ok(DeviceIdentity::DeviceNumber(format!("{} {number}{sequence}", identify::boot()?)))
}

/// The strongest fact that tells this device from every other.
fn device_identity(
    described: &Description,
    file: Option<DeviceIdentity>,
    weak: &DeviceIdentity,
) -> DeviceIdentity {
    // A table that is written anew gives its numbers to other partitions, and its UUIDs to none.
    let part = match (&described.partition_uuid, described.partition) {
        (Some(uuid), Some(_)) => format!("-partuuid-{uuid}"),
        (_, Some(number)) => format!("-part{number}"),
        (_, None) => String::new(),
    };
    let serial = described.serial.as_ref().map(|serial| {
        let model = described.model.as_deref().unwrap_or("-");
        DeviceIdentity::Serial(format!("{model} {serial}{part}"))
    });
    let wwn = described.wwn.as_ref().map(|wwn| DeviceIdentity::Wwn(format!("{wwn}{part}")));
    let mapper =
        described.mapper.as_ref().map(|uuid| DeviceIdentity::Mapper(format!("{uuid}{part}")));
    let file = file.map(|file| match file {
        DeviceIdentity::LoopFile(id) => DeviceIdentity::LoopFile(format!("{id}{part}")),
        DeviceIdentity::DeviceNumber(id) => DeviceIdentity::DeviceNumber(format!("{id}{part}")),
        other => other,
    });
    let partition = described.partition_uuid.clone().map(DeviceIdentity::PartitionUuid);
    let strong = wwn.or(serial).or(mapper).or(file).or(partition);
    strong.unwrap_or_else(|| weak.clone())
}

/// The file behind a loop device: by what it lies on, where that has a name which lasts, and its inode there.
fn loop_file(file: &LoopFile, mounts: &MountTable) -> host::Result<DeviceIdentity> {
    let offset = if file.offset == 0 { String::new() } else { format!("+{}", file.offset) };
    let within = format!("{}{offset}", file.inode);
    if let Some(uuid) = filesystem_uuid(file.device, mounts)? {
        return Ok(DeviceIdentity::LoopFile(format!("{uuid}:{within}")));
    }
    let beneath = if file.device.major == 0 { Named::default() } else { device(file.device)? };
    Ok(match &beneath.identity {
        DeviceIdentity::DeviceNumber(_) => {
            let number = format!("{} file {}:{within}", identify::boot()?, file.device);
            DeviceIdentity::DeviceNumber(number)
        }
        disk => DeviceIdentity::LoopFile(format!("{disk}:{within}")),
    })
}

/// The UUID of the file system with this number, asked of a place where it is mounted. Absent where that is nowhere to
/// be seen from here, or where it has none that lasts.
fn filesystem_uuid(number: DeviceNumber, mounts: &MountTable) -> host::Result<Option<String>> {
    for mount in mounts.on(number) {
        let path = &mount.mount_point;
        let Ok(place) = identify::open(path) else { continue };
        let node = identify::node(place.as_fd(), path)?;
        // Something else may be mounted over it.
        if node.device != number || node.kind != identify::Kind::Directory {
            continue;
        }
        let filesystem = identify::filesystem(place.as_fd(), path)?;
        let uuid = identify::filesystem_uuid(place.as_fd(), mount, path)?;
        return Ok(identity_of(mount, &filesystem, uuid)?.whole().uuid.map(Into::into));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: DeviceNumber = DeviceNumber { major: 8, minor: 17 };

    fn partition() -> Description {
        Description {
            partition: Some(2),
            partition_uuid: Some("ab12-02".into()),
            ..Description::default()
        }
    }

    fn weak() -> DeviceIdentity {
        DeviceIdentity::DeviceNumber("boot 8:17".into())
    }

    #[test]
    fn a_device_is_told_by_the_strongest_fact_there_is() {
        let serial = Description {
            serial: Some("S".into()),
            model: Some("M".into()),
            ..Description::default()
        };
        let wwn = Description { wwn: Some("naa.5".into()), ..serial.clone() };
        let file = DeviceIdentity::LoopFile("uuid:9".into());

        for (described, file, expected) in [
            (wwn, None, DeviceIdentity::Wwn("naa.5".into())),
            (serial, None, DeviceIdentity::Serial("M S".into())),
            (Description::default(), Some(file.clone()), file),
            (partition(), None, DeviceIdentity::PartitionUuid("ab12-02".into())),
            (Description::default(), None, weak()),
        ] {
            assert_eq!(device_identity(&described, file, &weak()), expected);
        }
    }

    #[test]
    fn a_partition_at_the_number_of_an_earlier_one_on_the_same_disk_is_another() {
        let on = |described: Description| device_identity(&described, None, &weak());
        for disk in [
            Description { wwn: Some("naa.5".into()), ..partition() },
            Description { serial: Some("S".into()), ..partition() },
            Description { mapper: Some("md-uuid".into()), ..partition() },
        ] {
            let remade = Description { partition_uuid: Some("cd34-02".into()), ..disk.clone() };

            assert_ne!(on(disk.clone()), on(remade));
            let other = Description {
                wwn: disk.wwn.as_ref().map(|_| "naa.6".into()),
                serial: disk.serial.as_ref().map(|_| "T".into()),
                mapper: disk.mapper.as_ref().map(|_| "other".into()),
                ..disk.clone()
            };
            assert_ne!(on(disk), on(other), "a copy of the table on another disk");
        }
    }

    #[test]
    fn what_the_kernel_numbers_is_told_with_the_boot_for_which_that_is_so() {
        let described = Description { sequence: Some(7), ..Description::default() };

        let numbered = numbered(&described, NUMBER).unwrap();

        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(numbered, DeviceIdentity::DeviceNumber(format!("{} 8:17 #7", boot.trim())));
    }
}
