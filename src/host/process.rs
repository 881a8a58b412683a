//! Process groups: a program and everything that it started.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Asks every process of a group to end (SIGTERM). One that has ended is no error.
pub fn terminate_group(leader: u32) {
    signal(leader, Signal::SIGTERM);
}

/// Ends every process of a group (SIGKILL). One that has ended is no error.
pub fn kill_group(leader: u32) {
    signal(leader, Signal::SIGKILL);
}

fn signal(leader: u32, signal: Signal) {
    // 0 and 1 would mean this process's own group and everybody.
    if let Ok(leader @ 2..) = i32::try_from(leader) {
        let _ = killpg(Pid::from_raw(leader), signal);
    }
}
