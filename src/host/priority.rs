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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_became_idle_is_of_the_idle_class_and_no_other_thread_is() {
        // SAFETY: the call takes two integers and touches no memory.
        let class = || unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) >> 13 };
        let before = class();

        let idle = std::thread::spawn(move || {
            become_idle();
            // Whoever helps it has its class.
            [class(), std::thread::spawn(class).join().unwrap()]
        });

        assert_eq!(idle.join().unwrap(), [3, 3]);
        assert_eq!(class(), before);
    }
}
