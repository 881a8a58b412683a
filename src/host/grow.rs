//! Growing a mounted file system to the size of its device: ext4 and XFS, by ioctl on a descriptor of its root.
//!
//! Both are safe to repeat: a file system that fills its device already stays as it is. Neither shrinks anything. XFS
//! asks for `CAP_SYS_ADMIN`, ext4 for `CAP_SYS_RESOURCE` (else `EPERM`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatvfs, openat};

use super::{Errno, Error, Result};

/// Blocks that the smallest allocation group has (`xfs/libxfs/xfs_fs.h`).
const XFS_MIN_AG_BLOCKS: u64 = 64;

mod ioctl {
    /// `struct xfs_fsop_geom_v1` of `xfs/libxfs/xfs_fs.h`; only some of it is read.
    #[repr(C)]
    #[derive(Debug, Default)]
    pub(super) struct Geometry {
        pub(super) block_size: u32,
        pub(super) rt_extent_size: u32,
        pub(super) ag_blocks: u32,
        pub(super) ag_count: u32,
        pub(super) log_blocks: u32,
        pub(super) sector_size: u32,
        pub(super) inode_size: u32,
        pub(super) inodes_max_percent: u32,
        pub(super) data_blocks: u64,
        pub(super) rt_blocks: u64,
        pub(super) rt_extents: u64,
        pub(super) log_start: u64,
        pub(super) uuid: [u8; 16],
        pub(super) stripe_unit: u32,
        pub(super) stripe_width: u32,
        pub(super) version: i32,
        pub(super) flags: u32,
        pub(super) log_sector_size: u32,
        pub(super) rt_sector_size: u32,
        pub(super) dir_block_size: u32,
    }

    /// `struct xfs_growfs_data`.
    #[repr(C)]
    #[derive(Debug)]
    pub(super) struct Growth {
        pub(super) new_blocks: u64,
        pub(super) inodes_max_percent: u32,
    }

    nix::ioctl_write_ptr!(ext4_resize_fs, b'f', 16, u64);
    nix::ioctl_read!(xfs_geometry, b'X', 100, Geometry);
    nix::ioctl_write_ptr!(xfs_grow, b'X', 110, Growth);
}

/// Grows the file system of type `fs_type` whose root directory is `root` (`O_PATH` will do, mounted writable) to
/// `device_size` bytes. `EOPNOTSUPP` for a type that Berth does not make. `path` is for messages.
pub fn to_device(fs_type: &str, root: BorrowedFd<'_>, path: &Path, device_size: u64) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(root, c".", flags, Mode::empty()).map_err(Error::of("openat", path))?;
    match fs_type {
        "ext4" => {
            grow_ext4(&root, device_size).map_err(Error::of("ioctl(EXT4_IOC_RESIZE_FS)", path))
        }
        "xfs" => {
            grow_xfs(&root, device_size).map_err(Error::of("ioctl(XFS_IOC_FSGROWFSDATA)", path))
        }
        _ => Err(Error { call: "grow", path: path.to_owned(), errno: Errno::OPNOTSUPP }),
    }
}

fn grow_ext4(root: &OwnedFd, device_size: u64) -> std::result::Result<(), Errno> {
    let block_size = fstatvfs(root)?.f_frsize;
    let blocks = device_size.checked_div(block_size).ok_or(Errno::INVAL)?;
    // SAFETY: the request reads one u64, which outlives the call; the descriptor is open.
    unsafe { ioctl::ext4_resize_fs(root.as_fd().as_raw_fd(), &raw const blocks) }.map_err(errno)?;
    Ok(())
}

fn grow_xfs(root: &OwnedFd, device_size: u64) -> std::result::Result<(), Errno> {
    let root = root.as_fd().as_raw_fd();
    let mut geometry = ioctl::Geometry::default();
    // SAFETY: the request writes one `xfs_fsop_geom_v1`, which `Geometry` lays out as C does; the descriptor is open.
    unsafe { ioctl::xfs_geometry(root, &raw mut geometry) }.map_err(errno)?;
    let blocks = device_size.checked_div(geometry.block_size.into()).ok_or(Errno::INVAL)?;
    if blocks <= geometry.data_blocks {
        return Ok(());
    }
    let growth =
        ioctl::Growth { new_blocks: blocks, inodes_max_percent: geometry.inodes_max_percent };
    // SAFETY: the request reads one `xfs_growfs_data`, which `Growth` lays out as C does; the descriptor is open.
    match unsafe { ioctl::xfs_grow(root, &raw const growth) } {
        // What is left over at the end of the device is too little for an allocation group: there is nothing to grow.
        Err(nix::Error::EINVAL) if blocks - geometry.data_blocks < XFS_MIN_AG_BLOCKS => Ok(()),
        result => result.map(drop).map_err(errno),
    }
}

fn errno(errno: nix::Error) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

#[cfg(test)]
mod tests;
