//! Forking, and what a child may do between fork and exec.
//!
//! Everything here that runs in a child is async-signal-safe: it must not allocate, lock,
//! panic or touch what other threads of the parent may have left half-done, nor the C library's
//! error number, which may be the parent's too (`room`). So texts are prepared before the fork, and
//! errors are plain numbers.

use super::pidfd;
use super::raw;
pub(super) use super::raw::Stepped;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The last signal number of Linux on the machines that this program runs on.
const SIGNAL_MAX: libc::c_int = 64;
/// As many descriptors as are closed one by one where close_range(2) is refused.
const CLOSE_MAX: u64 = 1 << 20;

/// A null-terminated array of pointers, as execve(2) wants it.
pub(super) struct Pointers {
    pointers: Vec<*const c_char>,
    /// What most of the pointers point to.
    texts: Vec<CString>,
    /// `NAME=` with room for a number; the last pointers before the null are for them.
    pids: Vec<Vec<u8>>,
}

/// Digits of the largest PID, and a NUL.
const PID_ROOM: usize = 11;

impl Pointers {
    pub(super) fn new(texts: Vec<CString>) -> Pointers {
        let ends = std::iter::once(std::ptr::null());
        Pointers {
            pointers: texts.iter().map(|text| text.as_ptr()).chain(ends).collect(),
            texts,
            pids: Vec::new(),
        }
    }

    /// Also entries `NAME=PID` with the child's own number, which it writes itself.
    pub(super) fn with_pids(texts: Vec<CString>, names: &[&'static str]) -> Pointers {
        let mut all = Pointers::new(texts);
        let room = |name: &&str| [name.as_bytes(), b"=", &[0; PID_ROOM]].concat();
        all.pids = names.iter().map(room).collect();
        // Null until the child has written them.
        all.pointers.extend(names.iter().map(|_| std::ptr::null::<c_char>()));
        all
    }

    /// In the child: without it the entries with its number are not there.
    pub(super) fn write_pids(&mut self) {
        let pid = raw::pid().unsigned_abs();
        let first = self.texts.len();
        let places = self.pointers.iter_mut().skip(first);
        for (place, text) in places.zip(&mut self.pids) {
            let start = text.len().saturating_sub(PID_ROOM);
            write_number(text.iter_mut().skip(start), pid);
            *place = text.as_ptr().cast();
        }
    }
}

fn write_number<'a>(room: impl Iterator<Item = &'a mut u8>, number: u32) {
    let mut digits = [0; 10];
    let (mut rest, mut count) = (number, 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
        if rest == 0 {
            break;
        }
    }
    let shown = digits.iter().skip(digits.len() - count);
    room.zip(shown).for_each(|(place, digit)| *place = *digit);
}

/// Makes a child that runs `code`, and gives its number and its pidfd.
///
/// Signals are blocked in the child (its handlers are still the parent's) until `code` calls
/// `reset_signals`.
///
/// # Errors
/// Those of clone3(2), EAGAIN and EMFILE above all; no child is left behind then.
///
/// # Safety
/// `code` must be async-signal-safe: other threads' locks, the allocator's too, may be held for
/// ever in the child.
pub(super) unsafe fn fork(code: impl FnOnce() -> Infallible) -> io::Result<(i32, OwnedFd)> {
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the caller's promise about `code`; the copy of this stack that the child has is
    // its own, so returning into this function is sound there.
    let forked = match unsafe { clone_with_pidfd() } {
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => {
            // A filter of system calls (a container's) can forbid clone3; where CLONE_PIDFD is
            // unknown it is EINVAL.
            // SAFETY: as above.
            unsafe { fork_then_open() }
        }
        other => other,
    };
    if let Ok(None) = forked {
        code();
    }
    // Can't fail: the arguments are valid.
    let _ = mask.thread_set_mask();
    forked?.ok_or_else(|| io::Error::from(Errno::EINVAL))
}

/// fork(2) by clone3(2) (Linux 5.3), with the pidfd made at the same moment. `None`: the child.
///
/// # Safety
/// As for `fork`.
unsafe fn clone_with_pidfd() -> nix::Result<Option<(i32, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args consists of integers; all zeroes is a valid value of it.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: `args` and `pidfd` live through the call and have the sizes that clone3 expects.
    // Without CLONE_VM and a stack the child goes on with a copy of this memory, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    match Errno::result(pid)? {
        0 => Ok(None),
        // SAFETY: clone3 succeeded in the parent, so it has put a new descriptor, owned by
        // nobody else, into `pidfd`.
        pid => Ok(Some((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// fork(2), then pidfd_open(2). `None`: the child.
///
/// # Safety
/// As for `fork`.
unsafe fn fork_then_open() -> nix::Result<Option<(i32, OwnedFd)>> {
    // SAFETY: the caller promises that the child does only what is async-signal-safe.
    let pid = Errno::result(unsafe { libc::fork() })?;
    if pid == 0 {
        return Ok(None);
    }
    match pidfd::open(pid) {
        Ok(pidfd) => Ok(Some((pid, pidfd))),
        Err(e) => {
            // SAFETY: `pid` is an unreaped child of this process, so the number is its own; the
            // null pointer says that its status is not wanted. A child ends at once by SIGKILL.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
            Err(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE)))
        }
    }
}

/// Ends the child without running anything of the parent's.
pub(super) fn exit_now(code: i32) -> ! {
    raw::exit(code)
}

/// Ends the child as if by `kill -9`.
pub(super) fn kill_self() -> ! {
    raw::kill_self(libc::SIGKILL);
    exit_now(127)
}

/// Closes the descriptors from `first` to `last`, in the child, which uses none of them afterwards.
pub(super) fn close_all(first: libc::c_uint, last: libc::c_uint) {
    if raw::close_range(first, last).is_ok() {
        return;
    }
    // Refused (a filter of system calls).
    if first == last || close_listed(first, last).is_none() {
        close_one_by_one(first, last);
    }
}

/// Closes those that /proc shows: with a limit of a million, trying each number takes longer than
/// the rest of a start. `None`: it can't be told what is open.
fn close_listed(first: libc::c_uint, last: libc::c_uint) -> Option<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = raw::open(c"/proc/self/fd", flags, Mode::empty()).ok()?;
    let mut buffer = Entries([0; ENTRIES_BYTES]);
    let closed = loop {
        match raw::read_entries(own, &mut buffer.0) {
            Ok(0) => break Some(()),
            Ok(read) => {
                if close_entries(buffer.0.get(..read)?, own, first, last).is_none() {
                    break None;
                }
            }
            Err(_) => break None,
        }
    };
    raw::close(own);
    closed
}

fn close_entries(
    mut rest: &[u8],
    own: RawFd,
    first: libc::c_uint,
    last: libc::c_uint,
) -> Option<()> {
    // Of each entry: inode and offset (8 bytes each), its length (2), type (1), name, NUL.
    while let Some([low, high]) = rest.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let entry = rest.get(..length.max(1))?;
        if let Some(fd) = number_in(entry.get(19..)?)
            && fd as RawFd != own
            && (first..=last).contains(&fd)
        {
            raw::close(fd as RawFd);
        }
        rest = rest.get(length.max(1)..)?;
    }
    Some(())
}

/// As many bytes of a directory as are read at once.
const ENTRIES_BYTES: usize = 4096;

/// Entries of a directory as the kernel writes them.
#[repr(align(8))]
struct Entries([u8; ENTRIES_BYTES]);

/// The number that a name is, up to its NUL.
fn number_in(name: &[u8]) -> Option<libc::c_uint> {
    let mut number: Option<libc::c_uint> = None;
    for byte in name.iter().take_while(|byte| **byte != 0) {
        let digit = libc::c_uint::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
    }
    number
}

fn close_one_by_one(first: libc::c_uint, last: libc::c_uint) {
    // The parent can't have opened one beyond its limit.
    let limit = raw::hard_limit(Resource::RLIMIT_NOFILE as u32).unwrap_or(CLOSE_MAX);
    let end = limit.min(CLOSE_MAX) as libc::c_uint;
    for fd in first..=last.min(end) {
        raw::close(fd as RawFd);
    }
}

/// Gives every signal its default disposition, and blocks none.
///
/// By system calls: libc hides two real-time signals, and what is ignored survives an exec.
pub(super) fn reset_signals() -> Stepped {
    for number in 1..=SIGNAL_MAX {
        match raw::default_signal(number) {
            Err(errno) if number != libc::SIGKILL && number != libc::SIGSTOP => return Err(errno),
            _ => {}
        }
    }
    raw::unblock_signals()
}

/// Makes the descriptor number `target` a copy of `fd`, to be kept at an exec.
pub(super) fn copy_to(fd: RawFd, target: RawFd) -> Stepped {
    if fd == target { Ok(()) } else { raw::dup(fd, target, OFlag::empty()) }
}

/// Moves `fd` to the number `target`, closed at an exec.
pub(super) fn move_to(fd: RawFd, target: RawFd) -> Stepped {
    // It is there already, and the parent opened it with O_CLOEXEC.
    if fd == target { Ok(()) } else { raw::dup(fd, target, OFlag::O_CLOEXEC) }
}

/// Opens `path` as the descriptor number `target`, to be kept at an exec.
pub(super) fn open_as(path: &CStr, flags: OFlag, mode: Mode, target: RawFd) -> Stepped {
    let fd = raw::open(path, flags | OFlag::O_NOCTTY, mode)?;
    keep_as(fd, target)
}

/// Makes `fd`, opened to be kept at an exec, the number `target`.
pub(super) fn keep_as(fd: RawFd, target: RawFd) -> Stepped {
    if fd == target {
        return Ok(());
    }
    let copied = copy_to(fd, target);
    raw::close(fd);
    copied
}

/// Writes to the file at `path`, in one call.
pub(super) fn write_to(path: &CStr, bytes: &[u8]) -> Stepped {
    let file = raw::open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let written = raw::write(file, bytes);
    raw::close(file);
    written.map(drop)
}

/// Becomes `program`; returns only to say why that failed.
pub(super) fn exec(program: &CStr, argv: &Pointers, env: &Pointers) -> i32 {
    // SAFETY: both arrays end with a null pointer, and own their texts.
    unsafe { raw::exec(program, argv.pointers.as_ptr(), env.pointers.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Exit;
    use crate::sys::testing::{reaped, wait_until};
    use std::os::fd::AsRawFd;

    #[test]
    fn where_clone3_is_forbidden_a_forked_child_has_a_pidfd_too() {
        // SAFETY: the child does nothing but end.
        let Some((pid, pidfd)) = (unsafe { fork_then_open() }).unwrap() else { exit_now(7) };
        assert!(pid > 0);
        wait_until("the child is dead", || pidfd::is_dead(&pidfd));
        assert_eq!(reaped(&pidfd), Exit::Code(7));
    }

    #[test]
    fn where_close_range_is_forbidden_descriptors_are_closed_all_the_same() {
        // More than one read of the directory shows.
        let copies: Vec<_> =
            (0..300).map(|_| nix::unistd::dup(std::io::stderr()).unwrap()).collect();
        let kept = copies[150].as_raw_fd() as libc::c_uint;
        type Way = fn(libc::c_uint, libc::c_uint);
        let listed: Way = |first, last| close_listed(first, last).unwrap_or(());
        for way in [listed, close_one_by_one] {
            // SAFETY: integers only; the call fails for a number that is not open.
            let is_open = |fd: RawFd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            let code = || -> Infallible {
                way(3, kept - 1);
                way(kept + 1, libc::c_uint::MAX);
                let open = copies.iter().filter(|copy| is_open(copy.as_raw_fd())).count();
                exit_now(if open == 1 && is_open(kept as RawFd) { 7 } else { 8 })
            };
            // SAFETY: `code` only makes system calls.
            let (_, pidfd) = unsafe { fork(code) }.unwrap();
            assert_eq!(reaped(&pidfd), Exit::Code(7));
        }
    }

    #[test]
    fn the_callers_signal_mask_is_the_same_after_a_fork() {
        let before = SigSet::thread_get_mask().unwrap();
        // SAFETY: the child does nothing but end.
        let (_, pidfd) = unsafe { fork(|| exit_now(0)) }.unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        reaped(&pidfd);
    }
}
