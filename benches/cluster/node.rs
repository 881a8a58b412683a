//! A node's own mount namespace, as its administrator has it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::harness::Cluster;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that lives on a node.
pub struct Node(Sender<Job>);

impl Node {
    pub fn enter(cluster: &Cluster, name: &str) -> Self {
        let init = init(cluster, name);
        let namespace = OwnedFd::from(fs::File::open(format!("/proc/{init}/ns/mnt")).unwrap());
        let (jobs, waiting) = channel::<Job>();
        thread::spawn(move || {
            // A thread that shares its working directory cannot change its mount namespace.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&namespace, CloneFlags::CLONE_NEWNS).unwrap();
            for job in waiting {
                job();
            }
        });
        Self(jobs)
    }

    /// Does something on the node.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job = move || drop(answer.send(job()));
        self.0.send(Box::new(job)).unwrap();
        answered.recv().unwrap()
    }

    /// Mounts a file system of its own at `path`, of so many MiB.
    pub fn tmpfs(&self, path: &str, mebibytes: u64) {
        let (path, size) = (path.to_owned(), format!("size={mebibytes}M,mode=755"));
        self.run(move || {
            fs::create_dir_all(&path).unwrap();
            let size = std::ffi::CString::new(size).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", Path::new(&path), "tmpfs", flags, Some(size.as_c_str()))
                .unwrap();
        });
    }

    pub fn unmount(&self, path: &str) {
        let path = path.to_owned();
        // Detached: the agent may be looking at it.
        self.run(move || {
            rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
        });
    }
}

/// The id of the first process of a node.
pub fn init(cluster: &Cluster, name: &str) -> u32 {
    let outer = fs::read_to_string(cluster.state.join("pids").join(name)).unwrap();
    let outer = outer.trim();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}
