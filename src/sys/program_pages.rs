//! Which pages of the program and its libraries are mapped.
//!
//! A fault maps the page that is needed and 15 around it. That is quick where much is used, and a waste at
//! rest, which needs a little in many places: 0.4 of 2.5 MB of the active's code. Memory that a userfaultfd
//! watches for writing is mapped page by page (`uffd_disable_fault_around` in the kernel's
//! userfaultfd_k.h), and where these faults are resolved by the kernel alone (UFFD_FEATURE_WP_ASYNC, Linux
//! 6.7) nobody is ever asked or told anything. Where there is no such thing (an older kernel, a filter of
//! system calls) all comes as before.
//!
//! Must not touch what can be written: it is in no file.

use super::memory::{forget, page_below, page_bytes};
use nix::errno::Errno;
use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

// linux/userfaultfd.h
const USER_MODE_ONLY: c_int = 1;
const API: u64 = 0xAA;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const MODE_WP: u64 = 1 << 1;
const IOCTL_API: c_ulong = 0xC018_AA3F;
const IOCTL_REGISTER: c_ulong = 0xC020_AA00;
const IOCTL_UNREGISTER: c_ulong = 0x8010_AA01;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`; `struct uffdio_range` is its beginning.
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// How the pages of this process's program come.
#[derive(Debug, Default)]
pub(super) struct ProgramPages {
    /// While it is watched, page by page.
    watch: Option<OwnedFd>,
}

impl ProgramPages {
    /// None is mapped any more; from now on those that are used are.
    pub(super) fn give_back(&mut self) {
        let parts = parts();
        if self.watch.is_none() {
            self.watch = watch(&parts).ok();
        }
        for part in parts {
            forget(part.start, part.end);
        }
    }

    /// From now on they come together with those around them.
    pub(super) fn come_together(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        // A child on its way to its exec may have a copy of the descriptor: to close it is not enough.
        for part in parts() {
            let _ = control(&watch, IOCTL_UNREGISTER, &mut registration(&part));
        }
    }
}

fn watch(parts: &[Range<usize>]) -> Result<OwnedFd, Errno> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
    // SAFETY: it takes flags and returns a number.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: just made, and owned by nobody else.
    let watch = unsafe { OwnedFd::from_raw_fd(number) };
    control(&watch, IOCTL_API, &mut Api { api: API, features: FEATURE_WP_ASYNC, ioctls: 0 })?;
    for part in parts {
        // One that can't be watched comes as before.
        let _ = control(&watch, IOCTL_REGISTER, &mut registration(part));
    }
    Ok(watch)
}

fn registration(part: &Range<usize>) -> Register {
    let [start, len] = [part.start, part.len()].map(|number| number as u64);
    Register { start, len, mode: MODE_WP, ioctls: 0 }
}

/// `T` is what this request is documented to take.
fn control<T>(watch: &OwnedFd, request: c_ulong, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: the argument has the layout of the request's structure, and lives during the call. The memory
    // that is named in it is part of the program and stays what it is: with UFFD_FEATURE_WP_ASYNC faults are
    // resolved by the kernel, and no protection is ever asked for.
    let result =
        unsafe { libc::ioctl(watch.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
    Errno::result(result).map(drop)
}

/// What is mapped of files and can't be written, in whole pages.
fn parts() -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::with_capacity(16);
    // SAFETY: the function is called with what dl_iterate_phdr(3) promises, and with this vector, during
    // the call.
    unsafe {
        libc::dl_iterate_phdr(Some(add_unwritten), (&raw mut parts).cast());
    }
    parts
}

/// Called for each object: the program, whose name is empty, its libraries, and what the kernel has put there.
unsafe extern "C" fn add_unwritten(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    parts: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr(3) gives a valid object for the time of the call, with so many headers; the
    // caller gave it a vector that nobody else uses.
    let (info, headers, parts) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info, headers, &mut *parts.cast::<Vec<Range<usize>>>())
    };
    // SAFETY: a name is a C string, or missing.
    let name = (!info.dlpi_name.is_null()).then(|| unsafe { CStr::from_ptr(info.dlpi_name) });
    let is_file = name.is_none_or(|name| name.is_empty() || name.to_bytes().starts_with(b"/"));
    for header in headers.iter().filter(|_| is_file) {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = info.dlpi_addr.saturating_add(header.p_vaddr);
            let end = start.saturating_add(header.p_memsz);
            if let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) {
                // It was mapped in whole pages, so nothing else is in its first and its last one.
                parts.push(page_below(start)..page_above(end));
            }
        }
    }
    0
}

fn page_above(address: usize) -> usize {
    page_below(address.saturating_add(page_bytes() - 1))
}

#[cfg(test)]
#[path = "program_pages_tests.rs"]
mod tests;
