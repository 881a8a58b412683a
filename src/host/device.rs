//! Block devices: opening them (for oneself where asked), their size and read-only state, and what sysfs says they are.
//!
//! An exclusive open (`O_EXCL`, open(2)) is refused with `EBUSY` while the device, or the disk or a partition around
//! it, is mounted, held by another exclusive opener, or part of a mapping: the one reliable sign that nobody uses it.

pub mod sysfs;
pub mod traffic;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{DeviceNumber, Errno, Error, Result};

mod ioctl {
    use std::ffi::c_int;

    // The number was defined with the size of a pointer, the value is always 64 bits (linux/fs.h).
    nix::ioctl_read_bad!(
        block_get_size,
        nix::request_code_read!(0x12, 114, size_of::<usize>()),
        u64
    );
    nix::ioctl_read_bad!(block_get_read_only, 0x125E, c_int);
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, super::LoopInfo64);
    nix::ioctl_write_ptr_bad!(
        block_partition,
        nix::request_code_none!(0x12, 105),
        super::Partition
    );
}

/// How a device is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading, beside whoever uses it.
    Read,
    /// For reading, by nobody else who asks for exclusive use; `EBUSY` while it is in use.
    ReadExclusive,
    /// For reading and writing, beside whoever uses it.
    Write,
    /// For reading and writing, by nobody else who asks for exclusive use; `EBUSY` while it is in use.
    WriteExclusive,
}

impl Access {
    fn options(self) -> OpenOptions {
        let write = matches!(self, Self::Write | Self::WriteExclusive);
        let exclusive = matches!(self, Self::ReadExclusive | Self::WriteExclusive);
        let flags = if exclusive { OFlags::EXCL } else { OFlags::empty() };
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(flags.bits().cast_signed());
        options
    }
}

/// Opens the block device at `path`; `ENOTBLK` where something else is there.
pub fn open(path: &Path, access: Access) -> Result<File> {
    open_as(path, path, &access.options())
}

/// Opens the block device that `descriptor` (which may be `O_PATH`) stands for, whatever its path leads to by now;
/// `name` is for messages only.
pub fn reopen(descriptor: BorrowedFd<'_>, name: &Path, access: Access) -> Result<File> {
    open_as(&magic_link(descriptor), name, &access.options())
}

/// The path by which this process reaches what `descriptor` stands for (proc_pid_fd(5)).
pub(super) fn magic_link(descriptor: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn open_as(path: &Path, name: &Path, options: &OpenOptions) -> Result<File> {
    // Asked first, since opening a FIFO would wait for a writer.
    let metadata =
        std::fs::metadata(path).map_err(|e| errno(&e)).map_err(Error::of("stat", name))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::of("open", name)(Errno::NOTBLK));
    }
    let file = options.open(path).map_err(|e| errno(&e)).map_err(Error::of("open", name))?;
    let opened = file.metadata().map_err(|e| errno(&e)).map_err(Error::of("fstat", name))?;
    if opened.rdev() != metadata.rdev() || !opened.file_type().is_block_device() {
        return Err(Error::of("open", name)(Errno::STALE));
    }
    Ok(file)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn from_nix(errno: nix::Error) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

/// The size of an open device in bytes (`BLKGETSIZE64`); `name` is for messages only.
pub fn size(device: &File, name: &Path) -> Result<u64> {
    let mut size = 0;
    // SAFETY: the descriptor is open and `size` is the 64-bit integer that the request fills.
    let done = unsafe { ioctl::block_get_size(device.as_raw_fd(), &raw mut size) };
    done.map_err(from_nix).map_err(Error::of("ioctl(BLKGETSIZE64)", name))?;
    Ok(size)
}

/// Whether the kernel refuses writes to an open device (`BLKROGET`); `name` is for messages only.
pub fn is_read_only(device: &File, name: &Path) -> Result<bool> {
    let mut read_only = 0;
    // SAFETY: the descriptor is open and `read_only` is the integer that the request fills.
    let done = unsafe { ioctl::block_get_read_only(device.as_raw_fd(), &raw mut read_only) };
    done.map_err(from_nix).map_err(Error::of("ioctl(BLKROGET)", name))?;
    Ok(read_only != 0)
}

/// The number of the device behind a device node.
pub fn number(node: impl AsFd, name: &Path) -> Result<DeviceNumber> {
    let stat = rustix::fs::fstat(node).map_err(Error::of("fstat", name))?;
    Ok(DeviceNumber::from_raw(stat.st_rdev))
}

impl DeviceNumber {
    /// Splits a device number as stat(2) has it.
    pub fn from_raw(number: u64) -> Self {
        Self { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
    }
}

/// Reads the first and the last 4 KiB of the block device that `descriptor` stands for, past the page cache where the
/// device allows it, so that what answers is the device itself. `name` is for messages only.
pub fn read_edges(descriptor: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match reopen_direct(descriptor, name).and_then(|device| read_edges_of(&device, name)) {
        Err(Error { errno: Errno::INVAL, .. }) => {
            read_edges_of(&reopen(descriptor, name, Access::Read)?, name)
        }
        result => result,
    }
}

/// As [`read_edges`], of the block device with this number. It is not asked where this process has no node of it, or may
/// not read it.
pub fn read_edges_by_number(wanted: DeviceNumber) -> Result<()> {
    let described = match sysfs::describe(wanted) {
        Err(Error { errno: Errno::NODEV, .. }) => return Ok(()),
        described => described?,
    };
    // In the kernel's names of devices a `!` stands for a `/`.
    let path = Path::new("/dev").join(described.name.replace('!', "/"));
    let Ok(node) = super::identify::open(&path) else { return Ok(()) };
    if number(&node, &path)? != wanted {
        return Ok(());
    }
    match read_edges(node.as_fd(), &path) {
        Err(Error { errno: Errno::ACCESS | Errno::PERM | Errno::NOTBLK, .. }) => Ok(()),
        result => result,
    }
}

fn reopen_direct(descriptor: BorrowedFd<'_>, name: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    open_as(&magic_link(descriptor), name, &options)
}

fn read_edges_of(device: &File, name: &Path) -> Result<()> {
    const EDGE: u64 = 4096;
    const LENGTH: usize = 4096;
    let size = size(device, name)?;
    // Direct reads need a buffer aligned to the device's blocks, of which none is larger than a page.
    let mut buffer = vec![0; 2 * LENGTH];
    let start = buffer.as_ptr().align_offset(LENGTH).min(LENGTH);
    let buffer = &mut buffer[start..start + LENGTH];
    for offset in [0, size.saturating_sub(EDGE) / EDGE * EDGE] {
        let expected = usize::try_from((size - offset).min(EDGE)).unwrap_or(LENGTH);
        let read = device.read_at(buffer, offset).map_err(|e| errno(&e));
        if read.map_err(Error::of("read", name))? < expected {
            return Err(Error::of("read", name)(Errno::IO));
        }
    }
    Ok(())
}

/// Makes the kernel forget the partitions of an open disk, as it has to when what described them is wiped (`BLKPG`).
/// `EBUSY` while somebody has one open, in whatever way.
pub fn forget_partitions(disk: &File, name: &Path) -> Result<()> {
    for (number, _) in sysfs::partitions(self::number(disk, name)?) {
        let part = PartitionNumber::of(number);
        let request = Partition {
            operation: 2, // BLKPG_DEL_PARTITION
            flags: 0,
            length: i32::try_from(size_of::<PartitionNumber>()).unwrap_or_default(),
            data: &raw const part,
        };
        // SAFETY: the request reads a `struct blkpg_ioctl_arg` and the `struct blkpg_partition` that it leads to, whose
        // layouts these have; both outlive the call, and the descriptor is open.
        let gone = unsafe { ioctl::block_partition(disk.as_raw_fd(), &raw const request) };
        match gone {
            // Somebody else was first.
            Ok(_) | Err(nix::Error::ENXIO) => {}
            Err(errno) => return Err(Error::of("ioctl(BLKPG)", name)(from_nix(errno))),
        }
    }
    Ok(())
}

/// `struct blkpg_ioctl_arg` (linux/blkpg.h).
#[repr(C)]
struct Partition {
    operation: i32,
    flags: i32,
    length: i32,
    data: *const PartitionNumber,
}

/// `struct blkpg_partition` (linux/blkpg.h).
#[repr(C)]
struct PartitionNumber {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

impl PartitionNumber {
    fn of(number: u32) -> Self {
        let number = i32::try_from(number).unwrap_or_default();
        Self { start: 0, length: 0, number, names: [0; 128] }
    }
}

/// The file behind a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopFile {
    /// The file system that it lies on.
    pub device: DeviceNumber,
    /// Its inode number there.
    pub inode: u64,
    /// Bytes at its beginning that the device does not show.
    pub offset: u64,
    /// Which block device it is, where it is one.
    pub of: Option<DeviceNumber>,
}

/// The file behind an open loop device (`LOOP_GET_STATUS64`); `ENXIO` where nothing is attached.
pub fn loop_file(device: &File, name: &Path) -> Result<LoopFile> {
    let mut info = LoopInfo64::default();
    // SAFETY: the descriptor is open and `info` has the layout of `struct loop_info64`, which the request fills.
    let done = unsafe { ioctl::loop_get_status64(device.as_raw_fd(), &raw mut info) };
    done.map_err(from_nix).map_err(Error::of("ioctl(LOOP_GET_STATUS64)", name))?;
    Ok(LoopFile {
        device: DeviceNumber::from_kernel(info.device),
        inode: info.inode,
        offset: info.offset,
        of: (info.rdevice != 0).then(|| DeviceNumber::from_kernel(info.rdevice)),
    })
}

impl DeviceNumber {
    /// Splits a number in the kernel's own user-space encoding (`huge_encode_dev`): 12 bits of major between 8 low and
    /// 12 high bits of minor.
    fn from_kernel(number: u64) -> Self {
        let major = (number >> 8) & 0xFFF;
        let minor = (number & 0xFF) | ((number >> 12) & 0xF_FF00);
        // Both are masked to fewer than 32 bits.
        Self {
            major: u32::try_from(major).unwrap_or_default(),
            minor: u32::try_from(minor).unwrap_or_default(),
        }
    }
}

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Default for LoopInfo64 {
    fn default() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::loopback::LoopDevice;
    use super::*;

    fn loop_device(size: u64) -> (File, LoopDevice) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let device = LoopDevice::attach(&file).unwrap();
        (file, device)
    }

    #[test]
    fn a_device_tells_its_size_and_that_it_can_be_written() {
        let (_file, device) = loop_device(3 << 20);

        let open = open(device.path(), Access::Read).unwrap();

        assert_eq!(size(&open, device.path()), Ok(3 << 20));
        assert_eq!(is_read_only(&open, device.path()), Ok(false));
    }

    #[test]
    fn of_two_who_want_a_device_for_themselves_the_second_is_told_that_it_is_busy() {
        let (_file, device) = loop_device(1 << 20);
        let first = open(device.path(), Access::WriteExclusive).unwrap();

        let second = open(device.path(), Access::ReadExclusive).unwrap_err();

        assert_eq!(second.errno, Errno::BUSY);
        assert!(open(device.path(), Access::Read).is_ok());
        drop(first);
        assert!(open(device.path(), Access::ReadExclusive).is_ok());
    }

    #[test]
    fn a_loop_device_names_the_file_behind_it() {
        let (file, device) = loop_device(1 << 20);
        let open = open(device.path(), Access::Read).unwrap();

        let behind = loop_file(&open, device.path()).unwrap();

        let metadata = file.metadata().unwrap();
        assert_eq!(behind.inode, metadata.ino());
        assert_eq!(behind.device, DeviceNumber::from_raw(metadata.dev()));
    }

    #[test]
    fn both_edges_of_a_device_are_read_whatever_its_size() {
        for size in [512, 4096, 4096 + 512, 1 << 20] {
            let (_file, device) = loop_device(size);
            let node = File::open(device.path()).unwrap();
            assert_eq!(read_edges(node.as_fd(), device.path()), Ok(()), "{size}");
        }
    }

    #[test]
    fn a_device_that_lost_its_end_fails_to_be_read() {
        let (file, device) = loop_device(4 << 20);
        file.set_len(1 << 20).unwrap();
        let node = File::open(device.path()).unwrap();

        assert_eq!(read_edges(node.as_fd(), device.path()).unwrap_err().errno, Errno::IO);
    }

    #[test]
    fn what_is_not_a_block_device_is_not_opened_as_one() {
        for path in ["/dev/null", "/tmp", "/proc/self/mountinfo"] {
            assert_eq!(open(Path::new(path), Access::Read).unwrap_err().errno, Errno::NOTBLK);
        }
    }

    #[test]
    fn the_kernels_encoding_of_a_number_is_undone_for_large_minors() {
        for (major, minor) in [(7, 0), (253, 300), (4095, 0xF_FFFF)] {
            let encoded = (minor & 0xFF) | (major << 8) | ((minor & !0xFF) << 12);
            let number = DeviceNumber::from_kernel(encoded);
            assert_eq!((u64::from(number.major), u64::from(number.minor)), (major, minor));
        }
    }
}
