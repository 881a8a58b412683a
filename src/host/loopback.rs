//! Loop devices (loop(4)): a file as a block device, for the demonstration and for tests.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::{Errno, Error, Result};

mod ioctl {
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
    nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);
    nix::ioctl_write_int_bad!(loop_set_fd, 0x4C00);
    nix::ioctl_write_int_bad!(loop_set_block_size, 0x4C09);
}

/// A loop device over a file. Dropping it detaches the device, once its last user is gone. It is not held open meanwhile.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches a free loop device to `file`, which must be open for reading and writing. Needs `CAP_SYS_ADMIN`.
    pub fn attach(file: &File) -> Result<Self> {
        let control = open(Path::new("/dev/loop-control"))?;
        loop {
            // SAFETY: the request takes no argument; the descriptor is open.
            let free = unsafe { ioctl::loop_ctl_get_free(control.as_raw_fd()) };
            let number = free
                .map_err(errno)
                .map_err(Error::of("ioctl(LOOP_CTL_GET_FREE)", Path::new("/dev/loop-control")))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path)?;
            // SAFETY: the request takes a descriptor as an integer; both descriptors are open.
            match unsafe { ioctl::loop_set_fd(device.as_raw_fd(), file.as_raw_fd()) } {
                // Another process took the same free device first.
                Err(nix::Error::EBUSY) => {}
                result => {
                    result.map_err(errno).map_err(Error::of("ioctl(LOOP_SET_FD)", &path))?;
                    return Ok(Self { path });
                }
            }
        }
    }

    /// The device's path, for example `/dev/loop0`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the device sectors of `bytes`, a power of two from 512 to 4096.
    pub fn set_sector(&self, bytes: i32) -> Result<()> {
        let device = open(&self.path)?;
        // SAFETY: the request takes an integer; the descriptor is open.
        let set = unsafe { ioctl::loop_set_block_size(device.as_raw_fd(), bytes) };
        set.map(drop).map_err(errno).map_err(Error::of("ioctl(LOOP_SET_BLOCK_SIZE)", &self.path))
    }

    /// Makes the device as large as its file has become.
    pub fn grow(&self) -> Result<()> {
        let device = open(&self.path)?;
        // SAFETY: the request takes no argument; the descriptor is open.
        let grown = unsafe { ioctl::loop_set_capacity(device.as_raw_fd()) };
        grown.map(drop).map_err(errno).map_err(Error::of("ioctl(LOOP_SET_CAPACITY)", &self.path))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let Ok(device) = open(&self.path) else { return };
        // SAFETY: the request takes no argument; the descriptor is open. A device in use is detached when its last
        // user closes it (loop(4)), so there is nothing to do about an error.
        let _ = unsafe { ioctl::loop_clr_fd(device.as_raw_fd()) };
    }
}

fn errno(errno: nix::Error) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .map_err(Error::of("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_block_device_while_it_is_attached_and_grows_with_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();

        let device = LoopDevice::attach(&file).unwrap();
        let sectors = format!(
            "/sys/class/block/{}/size",
            device.path().file_name().unwrap().to_str().unwrap()
        );
        assert_eq!(std::fs::read_to_string(&sectors).unwrap().trim(), "2048");

        file.set_len(2 << 20).unwrap();
        device.grow().unwrap();
        assert_eq!(std::fs::read_to_string(&sectors).unwrap().trim(), "4096");
    }
}
