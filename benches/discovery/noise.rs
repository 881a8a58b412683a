//! What happens on a host beside its volumes: mounts and devices of others. What each costs an agent that has to find out
//! that they are not its own.

use std::fs;
use std::time::{Duration, Instant};

use berth::host::loopback::LoopDevice;
use rustix::mount::{UnmountFlags, unmount};

use super::idle::ran;
use super::{Said, rest, tmpfs};
use crate::samples::shown;
use crate::site::Site;
use crate::support::{Berth, MIB};

/// Comings and goings, each two events or more.
const EVENTS: u32 = 200;
const EVERY: Duration = Duration::from_millis(50);

pub fn borne(site: &Site, berth: &Berth) -> Said {
    let path = site.host.directory("outside", "container");
    let file = tempfile::tempfile_in(site.host.path("disks")).unwrap();
    file.set_len(MIB).unwrap();
    let nothing = during(berth, || ());
    let mounts = during(berth, || {
        tmpfs(&path, c"size=1m");
        unmount(&path, UnmountFlags::NOFOLLOW).unwrap();
    });
    let devices = during(berth, || drop(LoopDevice::attach(&file).unwrap()));
    let said = |what: &str, (used, threads): (Duration, usize)| {
        let own = used.saturating_sub(nothing.0) / EVENTS;
        (
            format!("{what}, twenty a second: processor for each, threads at most"),
            format!("{}, {threads}", shown(own)),
        )
    };
    vec![
        said("a mount elsewhere, and its end", mounts),
        said("a loop device of no pool, and its end", devices),
    ]
}

/// What the server ran for, and how many threads it had at most, while `act` was done again and again.
fn during(berth: &Berth, mut act: impl FnMut()) -> (Duration, usize) {
    let tasks = format!("/proc/{}/task", berth.pid().as_raw_nonzero());
    let before = ran(berth);
    let mut threads = 0;
    let begun = Instant::now();
    for number in 1..=EVENTS {
        act();
        threads = threads.max(fs::read_dir(&tasks).unwrap().count());
        std::thread::park_timeout((EVERY * number).saturating_sub(begun.elapsed()));
    }
    rest();
    (ran(berth).saturating_sub(before), threads)
}
