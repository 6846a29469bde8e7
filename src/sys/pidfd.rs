//! Pidfds: who a process is, whether it is dead, signals that can't hit a stranger, and exit
//! statuses.
//!
//! Must not act on a bare process number where a pidfd can do it: numbers are used again.

use super::{process, wait};
use crate::core::{Exit, Identity};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// The magic number of pidfs (linux/magic.h, Linux 6.9).
const PID_FS_MAGIC: i64 = 0x5049_4446;

/// What became of a process on record.
#[derive(Debug)]
pub enum Verified {
    /// It lives, and this pidfd is its own.
    Alive(OwnedFd),
    /// It is dead (a zombie too), or its number belongs to somebody else by now.
    Gone,
}

/// A pidfd of the process that has the number `pid` now (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// ESRCH when there is none; EINVAL or ENOENT when the number is a thread's, or only that of a
/// group whose leader was reaped; EMFILE, ENFILE, ENOMEM.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call just returned this descriptor, so it is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Who the process behind `pidfd`, with the number `pid`, is.
///
/// # Errors
/// ESRCH when it was reaped meanwhile: what /proc said could then be a stranger's.
pub fn identify(pid: i32, pidfd: &impl AsFd) -> io::Result<Identity> {
    let start_ticks = process::start_ticks(pid)?;
    // Not reaped even now, so the number was its own when /proc was read.
    if !has_number(pidfd) {
        return Err(Errno::ESRCH.into());
    }
    Ok(Identity { pid, start_ticks, inode: inode(pidfd) })
}

/// Finds the process on record again.
///
/// # Errors
/// Whatever keeps from telling (EMFILE, ENFILE, ENOMEM, an unreadable /proc): the process may
/// live, so it must be neither started again nor signalled.
pub fn open_verified(identity: &Identity) -> Result<Verified, io::Error> {
    if identity.pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let pidfd = match open(identity.pid) {
        Ok(pidfd) => pidfd,
        // EINVAL and ENOENT: the number is a thread's now, or that of a group without leader.
        Err(e) => match e.raw_os_error() {
            Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => return Ok(Verified::Gone),
            _ => return Err(e),
        },
    };
    let found = inode(&pidfd);
    let comparable = identity.inode != 0 && found != 0;
    let same = match process::start_ticks(identity.pid) {
        Ok(ticks) => ticks == identity.start_ticks && (!comparable || found == identity.inode),
        Err(_) if is_dead(&pidfd) => false,
        // Hidden by a `hidepid` mount: the inode alone tells, where the kernel has it.
        Err(_) if comparable => found == identity.inode,
        Err(e) => return Err(e),
    };
    // Asked last: alive after the comparison means that /proc spoke of this process.
    if !same || is_dead(&pidfd) {
        return Ok(Verified::Gone);
    }
    Ok(Verified::Alive(pidfd))
}

/// The process has ended (it may be an unreaped zombie). A failure to ask reads as "no".
///
/// Where that can't be told it counts as alive: see `has_died`.
pub fn is_dead(fd: &impl AsFd) -> bool {
    has_died(fd).unwrap_or(false)
}

/// Is the process dead? For who is told of a death once, and has to ask again when it can't be told.
///
/// # Errors
/// Those of poll(2), ENOMEM above all.
pub fn has_died(fd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let end = PollFlags::POLLIN | PollFlags::POLLHUP;
    Ok(fds[0].revents().is_some_and(|events| events.intersects(end)))
}

/// Sends `sig` to the process; 0 only asks whether it is there (a zombie is).
///
/// # Errors
/// ESRCH when it was reaped, EPERM, EINVAL for a number that is no signal.
pub fn signal(fd: &impl AsFd, sig: i32) -> io::Result<()> {
    send(fd, sig, 0)
}

/// Sends `sig` to the group that the process behind `fd`, with the number `pid`, leads.
///
/// `leader_may_be_unreaped`: the caller is the leader's parent and has not reaped it, so that
/// its number is its own although it is dead. Only asked before Linux 6.9. With `sig` 0, ESRCH
/// says that the group is empty; `Ok` that it has members, of which all may be zombies.
///
/// # Errors
/// ESRCH when the group has no member, EPERM when no member may be signalled.
pub fn signal_group(
    fd: &impl AsFd,
    pid: i32,
    sig: i32,
    leader_may_be_unreaped: bool,
) -> io::Result<()> {
    match signal_group_by_flag(fd, sig) {
        // EINVAL: the flag is unknown before Linux 6.9. A filter of system calls can say the
        // others. Where it is the signal, or not allowed indeed, the calls below say so again.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)) => {}
        other => return other,
    }
    signal_group_without_flag(fd, pid, sig, leader_may_be_unreaped)
}

/// By PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9).
pub(super) fn signal_group_by_flag(fd: &impl AsFd, sig: i32) -> io::Result<()> {
    send(fd, sig, libc::PIDFD_SIGNAL_PROCESS_GROUP)
}

/// The way before Linux 6.9.
fn signal_group_without_flag(
    fd: &impl AsFd,
    pid: i32,
    sig: i32,
    leader_may_be_unreaped: bool,
) -> io::Result<()> {
    if pid <= 1 {
        return Err(Errno::EINVAL.into());
    }
    if !is_dead(fd) || (leader_may_be_unreaped && has_number(fd)) {
        // SAFETY: takes two integers and touches no memory of this process.
        return Ok(Errno::result(unsafe { libc::kill(-pid, sig) }).map(drop)?);
    }
    // A number stays taken while a group has it, so a living process with the number of a
    // reaped leader shows that the group is a stranger's.
    if !has_number(fd) && open(pid).is_ok() {
        return Err(Errno::ESRCH.into());
    }
    let mut result = Err(Errno::ESRCH.into());
    for (_, member) in process::live_group_members(pid)? {
        match signal(&member, sig) {
            Ok(()) => result = Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(e) if result.is_err() => result = Err(e),
            Err(_) => {}
        }
    }
    result
}

/// How the child ended, which stays unreaped; `None` while it lives (P_PIDFD, Linux 5.4).
///
/// # Errors
/// ECHILD when it is no child of this process, or is reaped.
pub fn exit_of_child(fd: &impl AsFd) -> io::Result<Option<Exit>> {
    wait_pidfd(fd, libc::WEXITED | libc::WNOWAIT)
}

/// Reaps the child if it has ended: from then on its number can be somebody else's.
///
/// # Errors
/// ECHILD when it is no child of this process, or is reaped.
pub fn reap(fd: &impl AsFd) -> io::Result<Option<Exit>> {
    wait_pidfd(fd, libc::WEXITED)
}

/// How a process ended that need not be a child, by PIDFD_GET_INFO (linux/pidfd.h, with the
/// exit status since Linux 6.15).
///
/// `None`: not known yet (it is known once whoever is its parent has reaped it, and for a short
/// time the kernel may say ESRCH), or the kernel can't say, or a filter keeps it from saying. `fd`
/// must have been opened before the death. Ask again for a few seconds.
pub fn exit_info(fd: &impl AsFd) -> Option<Exit> {
    let info = get_info(fd).ok()?;
    let is_told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    is_told.then(|| wait::exit_of_status(info.exit_code))
}

/// What the kernel says of a process, its exit status above all (Linux 6.13).
pub(super) fn get_info(fd: &impl AsFd) -> nix::Result<libc::pidfd_info> {
    // SAFETY: pidfd_info consists of integers; all zeroes is a valid value of it.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the request carries the size of pidfd_info, `info` is one that lives through the
    // call, and the kernel writes no more than that size.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, &mut info) };
    Errno::result(result).map(|_| info)
}

/// Which of these processes are dead, by one call for all. `None`, and those that can't be asked, are
/// not.
pub fn dead_among<'a>(fds: impl Iterator<Item = Option<&'a OwnedFd>>) -> Vec<bool> {
    let fds: Vec<Option<&OwnedFd>> = fds.collect();
    let asked = fds.iter().flatten();
    let mut asked: Vec<_> = asked.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    let is_known = poll(&mut asked, PollTimeout::ZERO).is_ok();
    let mut answers = asked.iter().map(|fd| is_known && fd.any().unwrap_or(false));
    // As many answers as there are descriptors, in their order.
    fds.iter().map(|fd| fd.is_some() && answers.next().unwrap_or(false)).collect()
}

/// The inode of a pidfd where it is unique in a boot, else 0 (also where that can't be asked).
pub(super) fn inode(fd: &impl AsFd) -> u64 {
    let is_unique = || is_in_pid_fs(fd).unwrap_or(false);
    fstat(fd).ok().filter(|_| is_unique()).map_or(0, |found| found.st_ino)
}

/// Whether pidfds are files of a file system of their own here, with inodes of their own: the
/// same for all, so only the first one is asked.
fn is_in_pid_fs(fd: &impl AsFd) -> Option<bool> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Some(*known);
    }
    let found = fstatfs(fd).ok()?;
    #[allow(clippy::unnecessary_cast)] // the type differs between libcs
    let magic = found.filesystem_type().0 as i64;
    Some(*KNOWN.get_or_init(|| magic == PID_FS_MAGIC))
}

/// The process is not reaped: its number is its own. EPERM also says so.
fn has_number(fd: &impl AsFd) -> bool {
    match signal(fd, 0) {
        Ok(()) => true,
        Err(e) => e.raw_os_error() == Some(libc::EPERM),
    }
}

fn send(fd: &impl AsFd, sig: i32, flags: libc::c_uint) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo_t is allowed (pidfd_send_signal(2)); the rest are integers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, sig, no_info, flags) };
    Ok(Errno::result(result).map(drop)?)
}

fn wait_pidfd(fd: &impl AsFd, flags: libc::c_int) -> io::Result<Option<Exit>> {
    let id = libc::id_t::try_from(fd.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    Ok(wait::waitid(libc::P_PIDFD, id, flags)?.map(|(_, exit)| exit))
}

#[cfg(test)]
#[path = "pidfd_tests.rs"]
mod tests;
