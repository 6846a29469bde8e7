//! Memory that is no longer needed goes back to the system.
//!
//! Must not be used while somebody waits: a part of it comes back as it is used. Only glibc keeps what was
//! freed; with other C libraries there is nothing in the heap to give back.

use super::program_pages::ProgramPages;
use std::ffi::c_void;

/// Larger blocks are mappings of their own, and go back when they are freed. Left alone, glibc raises
/// this border with the first large block that is freed (mallopt(3), M_MMAP_THRESHOLD): after one
/// configuration or journal was read, all later ones stay in the heap.
#[cfg(target_env = "gnu")]
const BORDER_BYTES: libc::c_int = 64 << 10;

/// So far below the present end of the stack something may have been used; the kernel has nothing else
/// there (at least 128 MB are kept free below it: `mmap_base` in arch/x86/mm/mmap.c).
const STACK_BYTES: usize = 512 << 10;
/// What the functions below the one that gives it back may use until they return.
const STACK_KEPT_BYTES: usize = 4 << 10;

/// For a process that lives long; to be called once, at its beginning.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and changes settings of malloc alone; this process has one
    // thread, so nobody allocates meanwhile.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BORDER_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, BORDER_BYTES);
    }
}

/// What a process has that lives long and rests most of the time.
#[derive(Debug, Default)]
pub struct Memory {
    program: ProgramPages,
}

impl Memory {
    /// Gives back what a start or a takeover needed and rest does not: free pages of the heap, also in its
    /// middle, the stack below the present function, and the program's own code and constants, which come
    /// again from the page cache as they are used. Takes about a millisecond for ten thousand servers: for
    /// a moment when nobody waits.
    pub fn give_back(&mut self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim touches free memory alone (malloc_trim(3)); there is one thread.
        unsafe {
            libc::malloc_trim(0);
        }
        give_back_stack();
        self.program.give_back();
    }

    /// There is work: much of the program will be needed soon.
    pub fn expect_work(&mut self) {
        self.program.come_together();
    }
}

/// Of the main thread alone: below the stack of another there may be something else.
#[inline(never)]
fn give_back_stack() {
    // SAFETY: both only return a number.
    if unsafe { libc::syscall(libc::SYS_gettid) } != i64::from(unsafe { libc::getpid() }) {
        return;
    }
    let here = 0_u8;
    let end = page_below((&raw const here).addr().saturating_sub(STACK_KEPT_BYTES));
    forget(end.saturating_sub(STACK_BYTES), end);
}

/// What is between these addresses is zero, or as it is in its file, when it is looked at again.
pub(super) fn forget(start: usize, end: usize) {
    let place = std::ptr::without_provenance_mut::<c_void>(start);
    // SAFETY: both callers name memory whose content nobody needs, or that the kernel reads from its file
    // again: the unused part of the stack of the only thread (no signal handler runs meanwhile whose frame
    // could be there), and parts of the program that can't be written. Where a part is not mapped,
    // madvise(2) says ENOMEM and does the rest.
    unsafe {
        libc::madvise(place, end.saturating_sub(start), libc::MADV_DONTNEED);
    }
}

/// The address of the page that this one is in.
pub(super) fn page_below(address: usize) -> usize {
    address - address % page_bytes()
}

pub(super) fn page_bytes() -> usize {
    // SAFETY: it only returns a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(65_536)
}
