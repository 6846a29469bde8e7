//! System calls of a child between clone and exec, made without the C library.
//!
//! The C library keeps the error number in memory of the thread; a child that shares its parent's
//! memory would write over the parent's. So a call here gives its error number as a value, and
//! touches no memory but what it is given. Must not allocate, lock or panic.

use nix::fcntl::OFlag;
use nix::sys::socket::{SockaddrLike, UnixAddr};
use nix::sys::stat::Mode;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::os::fd::RawFd;

/// Whether calls here touch nothing of the C library's: there is code for this kind of processor.
pub(super) const IS_BARE: bool =
    cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"));

/// What a call gives, or its error number.
type Called<T> = Result<T, i32>;
/// The result of a step in the child: the error number when it failed.
pub(super) type Stepped = Called<()>;

/// The highest error number that a system call gives, as its negative.
const ERRNO_MAX: isize = 4095;

/// # Safety
/// What the call reads and writes must be as the kernel expects it, and must live through it.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
unsafe fn enter(number: isize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let result;
    // SAFETY: the caller's promise; the kernel changes rax, rcx and r11 (syscall(2)), and uses none
    // of this stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// # Safety
/// As above.
#[cfg(all(target_arch = "aarch64", target_pointer_width = "64"))]
unsafe fn enter(number: isize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let result;
    // SAFETY: the caller's promise; the kernel changes x0 alone (syscall(2)).
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack)
        );
    }
    result
}

/// # Safety
/// As above.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64"
)))]
unsafe fn enter(number: isize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
    match result {
        -1 => -(nix::errno::Errno::last_raw() as isize),
        other => other as isize,
    }
}

/// # Safety
/// As above.
unsafe fn call<const N: usize>(number: libc::c_long, args: [usize; N]) -> Called<usize> {
    let mut all = [0; 6];
    all.iter_mut().zip(args).for_each(|(place, arg)| *place = arg);
    // SAFETY: the caller's promise.
    match unsafe { enter(number as isize, all) } {
        error if (-ERRNO_MAX..0).contains(&error) => Err(error.unsigned_abs() as i32),
        result => Ok(result as usize),
    }
}

/// A call whose arguments are all numbers.
fn numbers<const N: usize>(number: libc::c_long, args: [usize; N]) -> Called<usize> {
    // SAFETY: used below for calls alone that read and write no memory of this process.
    unsafe { call(number, args) }
}

/// As the kernel takes a number that may be negative.
fn signed(number: c_int) -> usize {
    number as isize as usize
}

fn path(path: &CStr) -> usize {
    path.as_ptr() as usize
}

pub(super) fn open(at: &CStr, flags: OFlag, mode: Mode) -> Called<RawFd> {
    let (flags, mode) = (signed(flags.bits()), mode.bits() as usize);
    // SAFETY: a text with a NUL at its end that lives through the call.
    unsafe { call(libc::SYS_openat, [signed(libc::AT_FDCWD), path(at), flags, mode]) }
        .map(|fd| fd as RawFd)
}

pub(super) fn close(fd: RawFd) {
    let _ = numbers(libc::SYS_close, [signed(fd)]);
}

/// close_range(2).
pub(super) fn close_range(first: c_uint, last: c_uint) -> Stepped {
    numbers(libc::SYS_close_range, [first as usize, last as usize, 0]).map(drop)
}

/// Shares its table of descriptors with nobody any more, and has none from `first` on: they are not
/// even copied. close_range(2) with CLOSE_RANGE_UNSHARE, Linux 5.9.
pub(super) fn leave_files(first: c_uint) -> Stepped {
    let flags = libc::CLOSE_RANGE_UNSHARE as usize;
    numbers(libc::SYS_close_range, [first as usize, c_uint::MAX as usize, flags]).map(drop)
}

/// dup3(2); the same number twice is EINVAL.
pub(super) fn dup(fd: RawFd, target: RawFd, flags: OFlag) -> Stepped {
    numbers(libc::SYS_dup3, [signed(fd), signed(target), signed(flags.bits())]).map(drop)
}

/// A copy of `fd` with a number of at least `least`.
pub(super) fn dup_above(fd: RawFd, least: RawFd) -> Called<RawFd> {
    numbers(libc::SYS_fcntl, [signed(fd), signed(libc::F_DUPFD), signed(least)])
        .map(|copy| copy as RawFd)
}

pub(super) fn write(fd: RawFd, bytes: &[u8]) -> Called<usize> {
    // SAFETY: the kernel reads so many bytes of a slice that lives through the call.
    unsafe { call(libc::SYS_write, [signed(fd), bytes.as_ptr() as usize, bytes.len()]) }
}

/// getdents64(2): entries of a directory.
pub(super) fn read_entries(fd: RawFd, buffer: &mut [u8]) -> Called<usize> {
    // SAFETY: the kernel writes at most so many bytes to a slice that lives through the call.
    unsafe { call(libc::SYS_getdents64, [signed(fd), buffer.as_mut_ptr() as usize, buffer.len()]) }
}

pub(super) fn socket(domain: c_int, kind: c_int) -> Called<RawFd> {
    numbers(libc::SYS_socket, [signed(domain), signed(kind), 0]).map(|fd| fd as RawFd)
}

pub(super) fn connect(fd: RawFd, address: &UnixAddr) -> Stepped {
    let (at, length) = (address.as_ptr() as usize, address.len() as usize);
    // SAFETY: the kernel reads so many bytes of an address that lives through the call.
    unsafe { call(libc::SYS_connect, [signed(fd), at, length]) }.map(drop)
}

/// Sends without a signal where nobody reads.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> Called<usize> {
    let (at, flags) = (bytes.as_ptr() as usize, signed(libc::MSG_NOSIGNAL));
    // SAFETY: the kernel reads so many bytes of a slice that lives through the call; no address.
    unsafe { call(libc::SYS_sendto, [signed(fd), at, bytes.len(), flags, 0, 0]) }
}

pub(super) fn receive(fd: RawFd, buffer: &mut [u8]) -> Called<usize> {
    let (at, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: the kernel writes at most so many bytes to a slice that lives through the call; the
    // sender's address is not asked for.
    unsafe { call(libc::SYS_recvfrom, [signed(fd), at, length, 0, 0, 0]) }
}

/// Device and inode of an open file.
pub(super) fn file_of(fd: RawFd) -> Called<(u64, u64)> {
    inode(fd, c"", libc::AT_EMPTY_PATH)
}

/// Device and inode of the file at a path.
pub(super) fn file_at(at: &CStr) -> Called<(u64, u64)> {
    inode(libc::AT_FDCWD, at, 0)
}

fn inode(fd: RawFd, at: &CStr, flags: c_int) -> Called<(u64, u64)> {
    // SAFETY: stat consists of integers; all zeroes is a valid value of it.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    look(fd, at, &mut found, flags)?;
    #[allow(clippy::unnecessary_cast)] // the types differ between processors
    Ok((found.st_dev as u64, found.st_ino as u64))
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
fn look(fd: RawFd, at: &CStr, found: &mut libc::stat, flags: c_int) -> Stepped {
    let place = std::ptr::from_mut(found) as usize;
    // SAFETY: a text with a NUL at its end and a stat, which is the kernel's own on these
    // processors; both live through the call.
    unsafe { call(libc::SYS_newfstatat, [signed(fd), path(at), place, signed(flags)]) }.map(drop)
}

#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64"
)))]
fn look(fd: RawFd, at: &CStr, found: &mut libc::stat, flags: c_int) -> Stepped {
    // SAFETY: as above; the C library knows what the kernel writes.
    match unsafe { libc::fstatat(fd, at.as_ptr(), found, flags) } {
        0 => Ok(()),
        _ => Err(nix::errno::Errno::last_raw()),
    }
}

pub(super) fn flock(fd: RawFd, operation: c_int) -> Stepped {
    numbers(libc::SYS_flock, [signed(fd), signed(operation)]).map(drop)
}

/// Gives the file behind `fd` to this user; its group stays.
pub(super) fn give_to(fd: RawFd, uid: u32) -> Stepped {
    numbers(libc::SYS_fchown, [signed(fd), uid as usize, u32::MAX as usize]).map(drop)
}

pub(super) fn chdir(to: &CStr) -> Stepped {
    // SAFETY: a text with a NUL at its end that lives through the call.
    unsafe { call(libc::SYS_chdir, [path(to)]) }.map(drop)
}

pub(super) fn umask(mask: u32) {
    let _ = numbers(libc::SYS_umask, [mask as usize]);
}

pub(super) fn new_session() -> Stepped {
    numbers(libc::SYS_setsid, []).map(drop)
}

pub(super) fn pid() -> i32 {
    numbers(libc::SYS_getpid, []).map_or(0, |pid| pid as i32)
}

pub(super) fn parent() -> i32 {
    numbers(libc::SYS_getppid, []).map_or(0, |pid| pid as i32)
}

/// The name of this process, of at most 15 bytes.
pub(super) fn set_name(name: &CStr) -> Stepped {
    // SAFETY: a text with a NUL at its end that lives through the call.
    unsafe { call(libc::SYS_prctl, [signed(libc::PR_SET_NAME), path(name)]) }.map(drop)
}

/// The signal that it gets when its parent dies; 0: none.
pub(super) fn set_death_signal(signal: c_int) -> Stepped {
    numbers(libc::SYS_prctl, [signed(libc::PR_SET_PDEATHSIG), signed(signal)]).map(drop)
}

pub(super) fn keep_from_new_privileges() -> Stepped {
    numbers(libc::SYS_prctl, [signed(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0]).map(drop)
}

pub(super) fn set_limit(resource: u32, soft: u64, hard: u64) -> Stepped {
    let limit = [soft, hard];
    // SAFETY: two numbers of 64 bits are the kernel's rlimit64, and live through the call; the null
    // pointer says that the old one is not wanted.
    unsafe { call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0]) }
        .map(drop)
}

/// The hard limit of a resource.
pub(super) fn hard_limit(resource: u32) -> Called<u64> {
    let mut limit = [0_u64; 2];
    // SAFETY: as above, but for the direction.
    unsafe { call(libc::SYS_prlimit64, [0, resource as usize, 0, limit.as_mut_ptr() as usize]) }?;
    Ok(limit[1])
}

pub(super) fn set_nice(nice: i32) -> Stepped {
    // 0 as a kind is PRIO_PROCESS, 0 as who is this process.
    numbers(libc::SYS_setpriority, [0, 0, signed(nice)]).map(drop)
}

pub(super) fn set_groups(groups: &[u32]) -> Stepped {
    // SAFETY: the kernel reads so many numbers of a slice that lives through the call.
    unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize]) }.map(drop)
}

pub(super) fn set_group(gid: u32) -> Stepped {
    numbers(libc::SYS_setresgid, [gid as usize; 3]).map(drop)
}

pub(super) fn set_user(uid: u32) -> Stepped {
    numbers(libc::SYS_setresuid, [uid as usize; 3]).map(drop)
}

/// Gives a signal its default disposition.
pub(super) fn default_signal(number: c_int) -> Stepped {
    // The kernel's sigaction (handler, flags, restorer, mask): all zeroes is SIG_DFL.
    let default = [0_u64; 4];
    let args = [signed(number), default.as_ptr() as usize, 0, size_of::<u64>()];
    // SAFETY: `default` is as large as the kernel's sigaction and lives through the call; the null
    // pointer says that the old one is not wanted.
    unsafe { call(libc::SYS_rt_sigaction, args) }.map(drop)
}

/// Blocks no signal.
pub(super) fn unblock_signals() -> Stepped {
    let none = 0_u64;
    let args = [signed(libc::SIG_SETMASK), &raw const none as usize, 0, size_of_val(&none)];
    // SAFETY: `none` is a kernel signal set that lives through the call.
    unsafe { call(libc::SYS_rt_sigprocmask, args) }.map(drop)
}

/// Sends a signal to this process.
pub(super) fn kill_self(signal: c_int) {
    let _ = numbers(libc::SYS_kill, [signed(pid()), signed(signal)]);
}

/// Ends this process.
pub(super) fn exit(code: c_int) -> ! {
    loop {
        let _ = numbers(libc::SYS_exit_group, [signed(code)]);
    }
}

/// Becomes `program`; returns only to say why that failed.
///
/// # Safety
/// Both lists end with a null pointer; all others are of texts with a NUL at their end.
pub(super) unsafe fn exec(
    program: &CStr,
    argv: *const *const c_char,
    env: *const *const c_char,
) -> i32 {
    // SAFETY: the caller's promise, and a text with a NUL that lives through the call.
    let failed = unsafe { call(libc::SYS_execve, [path(program), argv as usize, env as usize]) };
    failed.err().unwrap_or(libc::EINVAL)
}
