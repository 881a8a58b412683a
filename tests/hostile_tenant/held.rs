//! A tenant that is still there after its volume was taken away: what it has open of the root directory would show it the
//! next tenant's files.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use berth::volume::CleanReason;
use rustix::fs::{FlockOperation, flock};

use crate::world::World;

/// A process in a mount namespace of its own, as a container's is.
pub(crate) struct Container {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Container {
    /// Starts one that does what `script` says, and waits until it says that it is ready.
    pub(crate) fn that(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "/bin/bash", "-ec"]);
        command.arg(format!("{script}\nwhile echo ready && read -r line; do eval \"$line\"; done"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut container = Self { child, said };
        container.wait_ready();
        container
    }

    /// Has it do something more.
    pub(crate) fn go_on(&mut self, script: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{script}").unwrap();
        self.wait_ready();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Waits for a holder, lets it do what it can, and then go.
fn waited_for(world: &World, container: &mut Container) {
    world.release();

    let process = format!("process {}", container.id());
    let said = world.wait_said(CleanReason::StillInUse, &process);
    assert!(said.contains("which has it open"), "{said}");
    // It goes on making files, and the volume is given to nobody.
    container.go_on(
        "for n in 1 2 3; do echo mine > /proc/self/fd/3/$n || echo mine > $n; done 2>/dev/null",
    );
    assert!(!world.volume().is_claimable());
}

#[test]
fn whoever_still_has_the_root_open_is_waited_for_and_named() {
    for keep in ["exec 3< {}", "cd {}; exec 3< ."] {
        let world = World::of_directories("tmpfs", "{method: delete}");
        let target = world.target.display().to_string();
        // Its mount is gone from every mount table.
        let keep = keep.replace("{}", &target);
        let mut container = Container::that(&format!("{keep}; umount -l {target}"));

        waited_for(&world, &mut container);

        drop(container);
        world.require_clean();
    }
}

#[test]
fn whoever_still_works_in_the_root_or_has_it_for_a_root_directory_is_waited_for() {
    let world = World::of_directories("ext4", "{method: delete}");
    let target = world.target.display().to_string();
    let mut container = Container::that(&format!("cd {target}; umount -l {target}"));

    waited_for(&world, &mut container);

    drop(container);
    world.require_clean();
}

#[test]
fn whoever_still_has_lost_and_found_open_is_waited_for() {
    let world = World::of_mounts("ext4", "{method: delete}");
    let target = world.target.display().to_string();
    let mut container =
        Container::that(&format!("exec 3< {target}/lost+found; umount -l {target}"));

    waited_for(&world, &mut container);

    drop(container);
    world.require_clean();
}

#[test]
fn a_thread_with_descriptors_of_its_own_is_seen() {
    let world = World::of_directories("tmpfs", "{method: delete}");
    let source = &world.source;
    let (there, is_there) = std::sync::mpsc::channel::<()>();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The other threads of the process do not have what this one opens from now on.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            let _root = File::open(source).unwrap();
            there.send(()).unwrap();
            ended.recv().unwrap();
        });
        is_there.recv().unwrap();

        world.release();

        world.wait_said(CleanReason::StillInUse, &format!("process {}", std::process::id()));
        end.send(()).unwrap();
    });
    world.require_clean();
}

/// Locks and leases are of files, and files go.
#[test]
fn a_lock_of_a_file_is_not_waited_for() {
    let world = World::of_directories("tmpfs", "{method: delete}");
    let file = File::create(world.source.join("locked")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();

    world.release();

    world.require_clean();
}
