//! The lock that a server holds while it runs: flock(2), taken by its child before the exec.
//!
//! It belongs to the open file description, so it outlives the exec and a takeover, and ends when
//! the server, and whatever inherited the descriptor from it, has ended. All of this runs in the
//! child, as the server's user: see the head of `child`.

use super::raw::{self, Stepped};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::RawFd;

/// How often a file that is replaced all the time is opened anew.
const TRIES: usize = 8;

/// Waits for the lock on the file `path`, made with mode 0644 less the umask if it is not there,
/// and keeps it over the exec. `waits` is told the file's device and inode, once, before a wait.
///
/// Opened as the server's user, because a path may lead through places where others can put
/// links: nothing is opened that the server could not open itself.
pub(super) fn take(path: &CStr, waits: impl FnOnce(u64, u64)) -> Stepped {
    let mut waits = Some(waits);
    for _ in 0..TRIES {
        // Its number is the server's, once it has the lock.
        let file = open_file(path)?;
        match lock(file, path, &mut waits) {
            Ok(true) => return Ok(()),
            Ok(false) => raw::close(file),
            Err(errno) => return Err(errno),
        }
    }
    Err(libc::ESTALE)
}

/// Whether it has the lock, and others find it there.
fn lock(file: RawFd, path: &CStr, waits: &mut Option<impl FnOnce(u64, u64)>) -> Result<bool, i32> {
    let own = raw::file_of(file)?;
    if !try_lock(file, libc::LOCK_EX | libc::LOCK_NB)? {
        if let Some(waits) = waits.take() {
            waits(own.0, own.1);
        }
        try_lock(file, libc::LOCK_EX)?;
    }
    // A lock on a file that nobody else can find proves nothing.
    Ok(raw::file_at(path).is_ok_and(|now| now == own))
}

/// For writing where that is allowed (NFS wants it for an exclusive lock), else for reading.
/// O_CREAT comes last: in a directory such as /run/lock it is refused for a file that is there
/// and another user's (fs.protected_regular).
fn open_file(path: &CStr) -> Result<RawFd, i32> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let make = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    let open = |how, mode| raw::open(path, flags | how, mode);
    let mut tries = 0;
    loop {
        let opened = match open(OFlag::O_RDWR, Mode::empty()) {
            Err(libc::EACCES | libc::EROFS) => open(OFlag::O_RDONLY, Mode::empty()),
            Err(libc::ENOENT) => open(make, Mode::from_bits_truncate(0o644)),
            other => other,
        };
        tries += 1;
        match opened {
            // Somebody else was quicker to make it, or to remove it.
            Err(libc::EEXIST | libc::ENOENT) if tries < TRIES => {}
            other => return other,
        }
    }
}

/// Whether it is had; `false` only where `operation` does not wait.
fn try_lock(file: RawFd, operation: libc::c_int) -> Result<bool, i32> {
    loop {
        match raw::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(libc::EWOULDBLOCK) => return Ok(false),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
