//! Exit statuses of children, by waitid(2); waiting for less than a millisecond.
//!
//! Must not block for longer than it is told. `nix` is not used for statuses because its conversion
//! fails for real-time signals.

use crate::core::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until the descriptor of a poll has an event, at most this long. A signal, or a lack of
/// memory, makes it shorter.
pub fn wait_briefly(poll: &impl AsRawFd, time: Duration) {
    // SAFETY: the descriptor is its owner's, who is borrowed until the end of this.
    let poll = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
    let _ = ppoll(&mut [PollFd::new(poll, PollFlags::POLLIN)], Some(time.into()), None);
}

/// waitid(2) without blocking: who ended and how, or `None` while nobody did.
pub(super) fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    flags: libc::c_int,
) -> io::Result<Option<(i32, Exit)>> {
    // SAFETY: siginfo_t is plain data (integers, pointers); all zeroes is a valid value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a siginfo_t that lives through the call, and the kernel only writes it.
    let result = unsafe { libc::waitid(kind, id, &mut info, flags | libc::WNOHANG) };
    Errno::result(result)?;
    // SAFETY: waitid succeeded, so the union holds the SIGCHLD fields, or the zeroes from above.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(status),
        libc::CLD_KILLED | libc::CLD_DUMPED => Exit::Signal(status),
        _ => Exit::Unknown,
    };
    Ok(Some((pid, exit)))
}

/// A wait status as waitpid(2) and PIDFD_GET_INFO give it.
pub(super) fn exit_of_status(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Unknown
    }
}

/// One child that ended, whoever it is, left unreaped so that its status can be handed on
/// before it is lost. `None`: no child has ended (or there is no child).
///
/// # Errors
/// Those of waitid(2) other than ECHILD.
pub fn waitid_any_nowait() -> io::Result<Option<(i32, Exit)>> {
    match waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT) {
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        other => other,
    }
}

/// Reaps the child `pid` if it has ended; its number is free from then on.
///
/// # Errors
/// ECHILD when it is no child (any more); EINVAL for a number that is no process number.
pub fn reap_pid(pid: i32) -> io::Result<Option<Exit>> {
    let id = libc::id_t::try_from(pid).map_err(|_| Errno::EINVAL)?;
    Ok(waitid(libc::P_PID, id, libc::WEXITED)?.map(|(_, exit)| exit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::probe;

    #[test]
    fn a_dead_child_is_seen_with_its_status_until_it_is_reaped_by_its_number() {
        // In a process of its own: here, children of other tests would be seen.
        let mut probe = probe("wait", "");
        assert_eq!(probe.line(), "Some(Code(5)) Some(Code(5)) None");
    }

    #[test]
    fn a_number_below_zero_reaps_nobody() {
        assert_eq!(reap_pid(-1).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
