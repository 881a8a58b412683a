//! The heaps of this process.

/// How many heaps the threads share: one for those that answer and one to get out of their way.
#[cfg(target_env = "gnu")]
const HEAPS: std::ffi::c_int = 2;

/// Has all threads share a few heaps (mallopt(3), `M_ARENA_MAX`).
///
/// By default glibc gives each thread that blocks a heap of its own, up to eight for each processor, and each keeps what
/// its busiest moment took: the more processors a host has, the more memory a server that does nothing would keep. Nothing
/// here allocates so much that threads would wait for each other. To be called early; heaps that there are already stay.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two integers; what is allocated already stays where it is.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, HEAPS);
    }
}
