//! Making a file system on a block device with `mkfs.ext4` or `mkfs.xfs`.
//!
//! It decides nothing: whoever calls it has proved that the device holds nobody's data and that nobody uses it. The
//! program gets the device as an open descriptor, so that what was proved is what is written to; no shell is involved.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::host::{self, process};

/// Bytes of the program's standard error that are kept.
const COMPLAINT_MAX: usize = 2048;
/// How often it is looked whether the program is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Where programs for administrators are, whether or not they are in PATH.
const SBIN: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// Why there is no new file system. The device may have been written to unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Berth does not make that type. Nothing was written.
    #[error("a file system of type {fs_type} is not made on {}: ext4 and xfs are", path.display())]
    Type {
        /// The type.
        fs_type: String,
        /// The device.
        path: PathBuf,
    },
    /// The program is not installed. Nothing was written.
    #[error("{program} is needed to format {} and is not in PATH or /usr/sbin: install {package}", path.display())]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The package that has it in most distributions.
        package: &'static str,
        /// The device.
        path: PathBuf,
    },
    /// The program could not be run. Nothing was written.
    #[error("{program} could not be run for {}", path.display())]
    Run {
        /// The program.
        program: &'static str,
        /// The device.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program failed.
    #[error("{program} failed on {} ({status}): {complaint}", path.display())]
    Failed {
        /// The program.
        program: &'static str,
        /// The device.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error, on one line.
        complaint: String,
    },
}

impl Error {
    /// Whether it is certain that nothing was written to the device.
    pub fn wrote_nothing(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

/// A program that makes a file system.
struct Program {
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
}

/// The programs, by the type that they make. Each overwrites what is there without asking: the caller has.
fn program(fs_type: &str) -> Option<Program> {
    match fs_type {
        // All of the volume is the tenant's: no blocks reserved for root.
        "ext4" => Some(Program {
            name: "mkfs.ext4",
            package: "e2fsprogs",
            arguments: &["-F", "-q", "-m", "0"],
        }),
        "xfs" => Some(Program { name: "mkfs.xfs", package: "xfsprogs", arguments: &["-f", "-q"] }),
        _ => None,
    }
}

/// Makes sure that [`make`] could begin: that the type is one that is made and its program is installed.
pub fn check(path: &Path, fs_type: &str) -> Result<(), Error> {
    located(path, fs_type).map(drop)
}

/// The program that makes `fs_type`, and where it is.
fn located(path: &Path, fs_type: &str) -> Result<(Program, PathBuf), Error> {
    let unknown = || Error::Type { fs_type: fs_type.to_owned(), path: path.to_owned() };
    let program = program(fs_type).ok_or_else(unknown)?;
    let not_installed = || Error::NotInstalled {
        program: program.name,
        package: program.package,
        path: path.to_owned(),
    };
    let executable = find(program.name).ok_or_else(not_installed)?;
    Ok((program, executable))
}

/// Makes a file system of type `fs_type` on `device`, open for reading and writing and not exclusively (the program
/// itself opens it so, and fails where it is in use), with `uuid` or one of its own. `path` is for messages. Blocks until
/// the program ends, which takes minutes on a large disk.
pub fn make(device: &File, path: &Path, fs_type: &str, uuid: Option<&str>) -> Result<(), Error> {
    make_again(device, path, fs_type, Names { uuid, label: None }, &|| false)
}

/// What a file system is called.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names<'a> {
    /// Its UUID.
    pub uuid: Option<&'a str>,
    /// Its label, by which it may be mounted as well.
    pub label: Option<&'a str>,
}

/// As [`make`], by the names of the file system that was there before. The program is killed once `is_stopped`: what it
/// leaves is none, or half of one.
pub fn make_again(
    device: &File,
    path: &Path,
    fs_type: &str,
    names: Names<'_>,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let (program, executable) = located(path, fs_type)?;
    let cannot_run = |source| Error::Run { program: program.name, path: path.to_owned(), source };
    let mut command = command(&executable, &program, names);
    command.stdin(device.try_clone().map_err(cannot_run)?);
    let (status, complaint) = run(command, is_stopped).map_err(cannot_run)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { program: program.name, path: path.to_owned(), status, complaint })
}

/// The label of the file system of type `fs_type` on an open device, where it has one and that is text.
pub fn label(device: &File, path: &Path, fs_type: &str) -> host::Result<Option<String>> {
    // `s_volume_name` (kernel documentation, ext4/super.rst); `sb_fname` (XFS algorithms and data structures).
    let (offset, length) = match fs_type {
        "ext4" => (1024 + 0x78, 16),
        "xfs" => (108, 12),
        _ => return Ok(None),
    };
    let mut label = vec![0; length];
    device.read_exact_at(&mut label, offset).map_err(host::Error::of_io("read", path))?;
    label.truncate(label.iter().position(|byte| *byte == 0).unwrap_or(length));
    Ok(String::from_utf8(label).ok().filter(|label| !label.is_empty()))
}

fn command(executable: &Path, program: &Program, names: Names<'_>) -> Command {
    let mut command = Command::new(executable);
    command.env_clear().env("LC_ALL", "C").env("PATH", SBIN.join(":")).args(program.arguments);
    if let Some(label) = names.label {
        command.args(["-L", label]);
    }
    match (program.name, names.uuid) {
        (_, None) => {}
        ("mkfs.xfs", Some(uuid)) => {
            command.arg("-m").arg(format!("uuid={uuid}"));
        }
        (_, Some(uuid)) => {
            command.args(["-U", uuid]);
        }
    }
    // The device is the program's standard input, and it opens that very device again through this link.
    command.arg("/proc/self/fd/0");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the program, which does not outlive this thread: half a file system that is finished later, by a program that
/// nobody waits for, would be made over whatever came meanwhile.
fn run(command: Command, is_stopped: &dyn Fn() -> bool) -> std::io::Result<(ExitStatus, String)> {
    let mut child = process::spawn_bound(command, None)?;
    let stderr = child.stderr.take();
    let (sender, complaint) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stderr) = stderr {
            keep_end(&mut stderr, &mut kept);
        }
        // Whoever runs the program waits for this.
        let _ = sender.send(kept);
    });
    let kept = loop {
        match complaint.recv_timeout(LOOK) {
            Ok(kept) => break kept,
            Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            // The output ends with the program, and so does this.
            Err(RecvTimeoutError::Timeout) if is_stopped() => child.kill()?,
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&kept);
    Ok((status, text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Reads `stream` to its end, so that its writer never blocks, and keeps the last [`COMPLAINT_MAX`] bytes.
fn keep_end(stream: &mut impl Read, kept: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(COMPLAINT_MAX));
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SBIN.iter().map(PathBuf::from));
    // A relative entry of PATH would run what lies in whatever directory the process is in.
    let absolute = directories.filter(|directory| directory.is_absolute());
    absolute.map(|directory| directory.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
