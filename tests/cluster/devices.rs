//! The nodes' devices: loop devices, which are the machine's and not a node's. `clear` takes them away, and so does
//! `tests/cluster/down`.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use crate::harness::{Cluster, success};

/// A loop device with its file, as the machine sees both.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) path: String,
    pub(crate) file: PathBuf,
}

impl Device {
    /// Makes the device larger.
    pub(crate) fn grow(&self, mebibytes: u64) {
        fs::File::options().write(true).open(&self.file).unwrap().set_len(mebibytes << 20).unwrap();
        success(Command::new("losetup").args(["--set-capacity", &self.path]));
    }
}

impl Cluster {
    /// Puts a device into a node, and a link to it into the directory of a pool.
    pub(crate) fn plug(&self, node: &str, pool: &str, name: &str, mebibytes: u64) -> Device {
        let directory = self.devices();
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("{node}-{pool}-{name}"));
        fs::File::create_new(&file).unwrap().set_len(mebibytes << 20).unwrap();
        let made = success(Command::new("losetup").args(["--find", "--show"]).arg(&file));
        let path = made.trim().to_owned();
        self.on_node(node, &["ln", "-s", &path, &format!("/mnt/{pool}/{name}")]);
        Device { path, file }
    }

    /// Takes all devices away.
    pub(crate) fn unplug_all(&self) {
        let files = match fs::read_dir(self.devices()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            listed => listed.unwrap(),
        };
        for file in files {
            let file = file.unwrap().path();
            let of_file = ["--noheadings", "--output", "NAME", "--associated"];
            for device in success(Command::new("losetup").args(of_file).arg(&file)).lines() {
                success(Command::new("losetup").args(["--detach", device.trim()]));
            }
            fs::remove_file(file).unwrap();
        }
    }

    fn devices(&self) -> PathBuf {
        self.state.join("devices")
    }
}
