//! The memory of this process: its heaps, and what is mapped of its program.

use nix::libc;

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
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Gives back what only the start needed: free pages of the heaps (malloc_trim(3)), and the pages of the program.
///
/// Reading arguments and configuration takes code that is not run again, and of a program the kernel maps sixteen pages
/// around each one that is used; all of it would count as resident as long as the process lives. What is used again is
/// mapped again, from the page cache.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes an integer; only pages that hold nothing allocated are given back.
    unsafe {
        libc::malloc_trim(0);
    }
    let (begin, length) = program();
    // SAFETY: these pages are of the program's file and mapped without a right to write, so that each is read again as it
    // was (madvise(2), MADV_DONTNEED).
    let _ = unsafe { libc::madvise(begin as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Where the program's code begins, at a page, and its length in bytes: what the linker puts before `etext` is never
/// written (ld(1)).
fn program() -> (usize, usize) {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let (begin, end) = (&raw const __executable_start, &raw const etext);
    (begin.addr(), end.addr() - begin.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages of `length` bytes at `begin` are mapped by now (proc_pid_pagemap(5), bit 63).
    fn mapped(begin: usize, length: usize) -> usize {
        use std::os::unix::fs::FileExt;
        let mut entries = vec![0; length / 4096 * 8];
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        pagemap.read_exact_at(&mut entries, (begin / 4096 * 8) as u64).unwrap();
        entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    #[test]
    fn code_that_has_run_is_no_longer_mapped_once_it_is_given_back() {
        let (begin, length) = program();
        for page in (begin..begin + length).step_by(4096) {
            // SAFETY: the address is within the program, which may be read.
            unsafe { std::ptr::read_volatile(page as *const u8) };
        }
        let before = mapped(begin, length);

        give_back();

        let after = mapped(begin, length);
        assert!(after < before / 2, "{after} of {before} pages");
    }
}
