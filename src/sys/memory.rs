//! Memory that is no longer needed goes back to the system.
//!
//! Must not allocate. Only glibc keeps what was freed; with other C libraries nothing is to be done.

/// Larger blocks are mappings of their own, and go back when they are freed. Left alone, glibc raises
/// this border with the first large block that is freed (mallopt(3), M_MMAP_THRESHOLD): after one
/// configuration or journal was read, all later ones stay in the heap.
#[cfg(target_env = "gnu")]
const BORDER_BYTES: libc::c_int = 64 << 10;

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

/// Gives back whole free pages, also in the middle of the heap. Takes about a millisecond for ten
/// thousand servers: for a moment when nobody waits.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory alone (malloc_trim(3)); there is one thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
