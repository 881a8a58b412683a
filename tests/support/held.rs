//! A call that is held in its middle, for as long as a test likes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Host, mount, run};

/// An `mkfs.ext4` that says that it has begun and then waits until it is let go. Whoever has a device formatted on this
/// host waits with it.
pub struct HeldMkfs {
    begun: PathBuf,
    gate: File,
}

impl HeldMkfs {
    /// Puts itself before the machine's own program, in the namespace of the host alone.
    pub fn new(host: &Host) -> Self {
        let place = host.path("held");
        fs::create_dir(&place).unwrap();
        let (begun, gate, script) =
            (place.join("begun"), place.join("gate"), place.join("mkfs.ext4.held"));
        let machines = machines_mkfs();
        // The program asks its own name which file system it is to make.
        let copy = place.join("mkfs.ext4");
        fs::copy(&machines, &copy).unwrap();
        run(Command::new("mkfifo").arg(&gate));
        let text = format!(
            "#!/bin/sh\n: > {}\nread -r _ < {}\nexec {} \"$@\"\n",
            begun.display(),
            gate.display(),
            copy.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        mount(&["--bind", script.to_str().unwrap()], &machines);
        // Open for both, neither this end nor the other waits when it is opened.
        let gate = File::options().read(true).write(true).open(gate).unwrap();
        Self { begun, gate }
    }

    /// Whether it was started.
    pub fn has_begun(&self) -> bool {
        self.begun.exists()
    }

    /// Lets it make its file system.
    pub fn let_go(&mut self) {
        self.gate.write_all(b"\n").unwrap();
    }
}

/// Where the server finds `mkfs.ext4`.
fn machines_mkfs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let files = directories.filter(|d| d.is_absolute()).map(|d| d.join("mkfs.ext4"));
    files.into_iter().find(|file| Path::exists(file)).unwrap()
}
