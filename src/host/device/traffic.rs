//! How much a disk is used, by whoever it is: the counters that the kernel keeps of it (Documentation/block/stat.rst).

use std::fs::{self, File};
use std::iter;
use std::path::{Path, PathBuf};

use super::super::{DeviceNumber, Result};
use super::sysfs::Attributes;
use super::{loop_file, number};

/// How many devices may lie on each other.
const DEEPEST: usize = 16;

/// The disks beneath a block device: of a partition its disk, of a mapping or an array what that lies on, of a loop device
/// what its file lies on.
#[derive(Debug)]
pub struct Disks(Vec<Attributes>);

impl Disks {
    /// Those beneath an open device; none where sysfs does not say, as of a file system that is on no one device.
    pub fn beneath(device: &File, name: &Path) -> Result<Self> {
        let lies_on = match loop_file(device, name) {
            Ok(file) => file.of.unwrap_or(file.device),
            Err(_) => number(device, name)?,
        };
        Ok(Self::beneath_in(Path::new("/sys"), lies_on))
    }

    /// Those beneath the device with this number, from the sysfs mounted at `root`.
    pub fn beneath_in(root: &Path, device: DeviceNumber) -> Self {
        let mut disks = Vec::new();
        collect(&root.join("dev/block").join(device.to_string()), DEEPEST, &mut disks);
        disks.sort_by(|one, other| one.0.cmp(&other.0));
        disks.dedup_by(|one, other| one.0 == other.0);
        Self(disks)
    }

    /// Their directories in sysfs.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|disk| disk.0.clone()).collect()
    }

    /// How many reads, writes, discards and flushes they have ended since they came.
    pub fn served(&self) -> u64 {
        self.0.iter().filter_map(|disk| disk.text("stat")).map(|stat| ended(&stat)).sum()
    }
}

/// Adds the disks beneath a directory of sysfs.
fn collect(directory: &Path, depth: usize, disks: &mut Vec<Attributes>) {
    let Ok(mut directory) = fs::canonicalize(directory) else { return };
    if directory.join("partition").exists() {
        directory.pop();
    }
    let beneath = fs::read_dir(directory.join("slaves")).into_iter().flatten().flatten();
    let beneath: Vec<PathBuf> = beneath.map(|entry| entry.path()).collect();
    if beneath.is_empty() || depth == 0 {
        return disks.push(Attributes(directory));
    }
    for one in beneath {
        collect(&one, depth - 1, disks);
    }
}

/// The ends of I/O in a line of counters: reads, writes and, on newer kernels, discards and flushes.
fn ended(stat: &str) -> u64 {
    let counters: Vec<u64> = stat.split_whitespace().map_while(|text| text.parse().ok()).collect();
    iter::chain([0, 4], [11, 15]).filter_map(|index| counters.get(index)).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::mount::fixture::Disk;

    /// A sysfs with these devices, each `NAME MAJOR:MINOR`, and files.
    fn sysfs(devices: &[(&str, &str)], files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        for (name, number) in devices {
            let directory = root.path().join("devices").join(name);
            fs::create_dir_all(&directory).unwrap();
            symlink(directory, root.path().join("dev/block").join(number)).unwrap();
        }
        for (name, content) in files {
            let path = root.path().join("devices").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const STAT: &str = "   1 0 0 0  20 0 0 0 5 0 0 300 0 0 0 4000 0\n";

    fn number(text: &str) -> DeviceNumber {
        let (major, minor) = text.split_once(':').unwrap();
        DeviceNumber { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
    }

    #[test]
    fn every_kind_of_io_is_counted_and_what_is_on_its_way_is_not() {
        assert_eq!(ended(STAT), 4321);
        // Linux before 4.18 and 5.5.
        assert_eq!(ended("1 0 0 0 20 0 0 0 5 0 0"), 21);
        assert_eq!(ended("1 0 x"), 1);
        assert_eq!(ended(""), 0);
    }

    #[test]
    fn a_partition_is_as_busy_as_its_whole_disk() {
        let root = sysfs(
            &[("sda", "8:0"), ("sda/sda1", "8:1")],
            &[("sda/stat", STAT), ("sda/sda1/stat", "7 0"), ("sda/sda1/partition", "1\n")],
        );

        assert_eq!(Disks::beneath_in(root.path(), number("8:1")).served(), 4321);
    }

    #[test]
    fn a_mapping_is_as_busy_as_the_disks_beneath_it_each_counted_once() {
        let root = sysfs(
            &[
                ("sda", "8:0"),
                ("sda/sda1", "8:1"),
                ("sda/sda2", "8:2"),
                ("sdb", "8:16"),
                ("dm-0", "253:0"),
            ],
            &[
                ("sda/stat", STAT),
                ("sda/sda1/partition", "1\n"),
                ("sda/sda2/partition", "2\n"),
                ("sdb/stat", STAT),
                ("dm-0/stat", "7 0"),
            ],
        );
        let slaves = root.path().join("devices/dm-0/slaves");
        fs::create_dir(&slaves).unwrap();
        for (name, target) in [("sda1", "sda/sda1"), ("sda2", "sda/sda2"), ("sdb", "sdb")] {
            symlink(root.path().join("devices").join(target), slaves.join(name)).unwrap();
        }

        assert_eq!(Disks::beneath_in(root.path(), number("253:0")).served(), 2 * 4321);
    }

    #[test]
    fn a_loop_device_is_as_busy_as_the_disk_of_its_file() {
        let disk = Disk::blank(1);
        let device = disk.open();
        let behind = loop_file(&device, disk.path()).unwrap();

        let disks = Disks::beneath(&device, disk.path()).unwrap();

        let expected = Disks::beneath_in(Path::new("/sys"), behind.device);
        assert_eq!(disks.paths(), expected.paths());
    }

    #[test]
    fn of_a_device_that_is_not_there_nothing_is_counted() {
        let root = sysfs(&[], &[]);

        assert_eq!(Disks::beneath_in(root.path(), number("9:9")).served(), 0);
    }
}
