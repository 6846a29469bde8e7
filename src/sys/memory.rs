//! Memory that is no longer needed goes back to the system.
//!
//! Must not allocate. Only glibc keeps what was freed; with other C libraries there is nothing in the heap to
//! give back.

use std::ffi::c_void;

/// Larger blocks are mappings of their own, and go back when they are freed. Left alone, glibc raises
/// this border with the first large block that is freed (mallopt(3), M_MMAP_THRESHOLD): after one
/// configuration or journal was read, all later ones stay in the heap.
#[cfg(target_env = "gnu")]
const BORDER_BYTES: libc::c_int = 64 << 10;

/// So far below the present end of the stack something may have been used; the kernel has nothing else
/// there (at least 128 MB are kept free below it: `mmap_base` in arch/x86/mm/mmap.c).
const STACK_BYTES: usize = 512 << 10;
/// What the functions that are running may use, the signal handlers among them.
const STACK_KEPT_BYTES: usize = 32 << 10;

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

/// Gives back what a start or a takeover needed and rest does not: free pages of the heap, also in its
/// middle, the stack below the present function, and the program's own code and constants, which are
/// mapped again, from the page cache, as they are used. Takes about a millisecond for ten thousand
/// servers: for a moment when nobody waits.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory alone (malloc_trim(3)); there is one thread.
    unsafe {
        libc::malloc_trim(0);
    }
    give_back_stack();
    give_back_program();
}

/// Of the main thread alone: below the stack of another there may be something else.
fn give_back_stack() {
    // SAFETY: both only return a number.
    if unsafe { libc::syscall(libc::SYS_gettid) } != i64::from(unsafe { libc::getpid() }) {
        return;
    }
    let here = 0_u8;
    let end = page_below((&raw const here).addr().saturating_sub(STACK_KEPT_BYTES));
    let start = end.saturating_sub(STACK_BYTES);
    forget(start, end);
}

/// The parts that nobody writes: they are in the file as they are here.
fn give_back_program() {
    // SAFETY: the function below is called with what dl_iterate_phdr(3) promises, and keeps nothing.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_unwritten), std::ptr::null_mut());
    }
}

/// Called for each object, the program first; it ends the walk there.
unsafe extern "C" fn forget_unwritten(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) gives a valid object for the time of the call, with so many headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = base.saturating_add(header.p_vaddr);
            let end = start.saturating_add(header.p_memsz);
            if let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) {
                forget(page_below(start), end);
            }
        }
    }
    1
}

fn forget(start: usize, end: usize) {
    let place = std::ptr::without_provenance_mut::<c_void>(start);
    // SAFETY: both callers name memory whose content nobody needs, or that the kernel reads from its file
    // again: the unused part of the stack of the only thread, and parts of the program that can't be
    // written. Where a part is not mapped, madvise(2) says ENOMEM and does the rest.
    unsafe {
        libc::madvise(place, end.saturating_sub(start), libc::MADV_DONTNEED);
    }
}

fn page_below(address: usize) -> usize {
    // SAFETY: it only returns a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(65_536);
    address - address % page
}
