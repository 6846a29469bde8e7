//! A pipe between two processes that breaks as soon as the kernel begins to take one of them apart.
//!
//! A pidfd tells a death when the dead process has given back all that it had: with a thousand pidfds of
//! servers in its epoll that is 2 ms after its last instruction. What it has open is given back last first
//! (`task_work_add` and `fput` in the kernel, since Linux 4.3), so a pipe's end with the highest number
//! breaks first.
//!
//! Must not be taken for a death: a living process may close its end. `process::exits_on` says which.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The end to be handed to who watches, and the end of who is watched, with a number from `above` on
/// where so high a number is allowed.
///
/// # Errors
/// Those of pipe2(2).
pub fn make(above: RawFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, own) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let Ok(number) = fcntl(&own, FcntlArg::F_DUPFD_CLOEXEC(above)) else {
        return Ok((theirs, own));
    };
    // SAFETY: just made, and owned by nobody else.
    Ok((theirs, unsafe { OwnedFd::from_raw_fd(number) }))
}

#[cfg(test)]
#[path = "lifeline_tests.rs"]
mod tests;
