use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use super::super::beneath::Directory;
use super::super::loopback::LoopDevice;
use super::*;

/// A shell that does what it is told, then waits for its end.
struct Other(Child);

impl Other {
    fn that(script: &str) -> Self {
        let script = format!("{script}; echo ready; read line");
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn holders(directory: &Path) -> Vec<String> {
    let open = Directory::open(File::open(directory).unwrap().as_fd(), directory).unwrap();
    of(Sought::Directories(&[open.id()]), &[]).unwrap()
}

fn disk() -> (File, LoopDevice, DeviceNumber) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let device = LoopDevice::attach(&file).unwrap();
    let number = device::number(File::open(device.path()).unwrap(), device.path()).unwrap();
    (file, device, number)
}

#[test]
fn who_has_a_directory_open_or_works_in_it_is_named_and_who_has_what_is_beneath_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().display();
    fs::create_dir(place.path().join("beneath")).unwrap();
    let _own = File::open(place.path()).unwrap();
    let _beneath = Other::that(&format!("cd {path}/beneath; exec 3< {path}/beneath"));
    assert_eq!(holders(place.path()), [""; 0]);

    for script in [format!("exec 3< {path}"), format!("cd {path}")] {
        let other = Other::that(&script);
        let expected = format!("process {} (bash), which has it open", other.0.id());
        assert_eq!(holders(place.path()), [expected], "{script}");
    }
    assert_eq!(holders(place.path()), [""; 0]);
}

#[test]
fn who_has_a_device_open_is_named_by_whatever_node() {
    let (_file, device, number) = disk();
    let place = tempfile::tempdir().unwrap();
    let node = place.path().join("node");
    let (major, minor) = (number.major.to_string(), number.minor.to_string());
    let made = Command::new("mknod").arg(&node).args(["b", &major, &minor]).status();
    assert!(made.unwrap().success());
    assert_eq!(of(Sought::Devices(&[number]), &[]).unwrap(), [""; 0]);

    for path in [device.path(), &node] {
        let other = Other::that(&format!("exec 3<> {}", path.display()));
        let found = of(Sought::Devices(&[number]), &[]).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("process {}", other.0.id())), "{found:?}");
    }
}

#[test]
fn a_loop_device_over_a_device_is_named() {
    let (_file, below, number) = disk();
    let above = LoopDevice::attach(
        &fs::OpenOptions::new().read(true).write(true).open(below.path()).unwrap(),
    )
    .unwrap();

    let found = of(Sought::Devices(&[number]), &[]).unwrap();

    assert_eq!(found, [format!("loop device {}", above.path().display())]);
}

#[test]
fn addresses_are_written_as_the_links_are_named() {
    assert_eq!(without_zeros("00400000-00452000"), "400000-452000");
    assert_eq!(without_zeros("00000000-00001000"), "0-1000");
}

#[test]
fn who_watches_a_directory_is_named() {
    let place = tempfile::tempdir().unwrap();
    let open = Directory::open(File::open(place.path()).unwrap().as_fd(), place.path()).unwrap();
    let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
    let ids = [open.id()];
    let sought = Sought::Directories(&ids);
    let own = Thread::open("/proc/thread-self".into()).unwrap().unwrap();
    let slow = Slow::among(&[]);
    drop(open);
    assert!(!own.has_open(sought, &slow).unwrap());

    let creations = rustix::fs::inotify::WatchFlags::CREATE;
    rustix::fs::inotify::add_watch(&watch, place.path(), creations).unwrap();

    assert!(own.has_open(sought, &slow).unwrap());
}

#[test]
fn a_device_that_is_mapped_is_found_though_its_descriptor_is_closed() {
    let (_file, device, number) = disk();
    let (numbers, slow) = ([number], Slow::among(&[]));
    let own = Path::new("/proc/self");
    let mut seen = BTreeSet::new();
    assert!(!maps(own, Sought::Devices(&numbers), &slow, &mut seen));
    let open = File::open(device.path()).unwrap();
    let length = 4096;

    // SAFETY: a new mapping, which nobody reads, and which is taken away before its length is forgotten.
    let mapped = unsafe {
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&open);
        libc::mmap(std::ptr::null_mut(), length, read, shared, descriptor, 0)
    };
    drop(open);
    let mut seen = BTreeSet::new();
    let found = maps(own, Sought::Devices(&numbers), &slow, &mut seen);
    // SAFETY: the mapping that was made above.
    unsafe { libc::munmap(mapped, length) };

    assert!(found);
}
