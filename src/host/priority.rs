//! The I/O priority of a thread.

use nix::libc;

/// Lets the calling thread's reads and writes wait for everybody else's (ioprio_set(2), class idle).
///
/// Best effort: a scheduler that knows no priorities ignores it, and a refusal changes nothing but speed.
pub fn become_idle() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3;
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: the call takes three integers and touches no memory; 0 stands for the calling thread.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE << CLASS_SHIFT);
    }
}
