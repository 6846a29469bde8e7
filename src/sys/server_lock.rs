//! The lock that a server holds while it runs: flock(2), taken by its child before the exec.
//!
//! It belongs to the open file description, so it outlives the exec and a takeover, and ends when
//! the server, and whatever inherited the descriptor from it, has ended. All of this runs in the
//! child, as the server's user: see the head of `child`.

use super::child::Stepped;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, stat};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

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
        let file = open_file(path)?;
        let own = fstat(file.as_fd()).map_err(|e| e as i32)?;
        if !try_lock(&file, libc::LOCK_EX | libc::LOCK_NB)? {
            if let Some(waits) = waits.take() {
                waits(own.st_dev, own.st_ino);
            }
            try_lock(&file, libc::LOCK_EX)?;
        }
        // A lock on a file that nobody else can find proves nothing.
        if stat(path).is_ok_and(|now| (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino)) {
            // Its number is the server's from here on.
            let _ = file.into_raw_fd();
            return Ok(());
        }
    }
    Err(libc::ESTALE)
}

/// For writing where that is allowed (NFS wants it for an exclusive lock), else for reading.
/// O_CREAT comes last: in a directory such as /run/lock it is refused for a file that is there
/// and another user's (fs.protected_regular).
fn open_file(path: &CStr) -> Result<OwnedFd, i32> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let make = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    let mode = Mode::from_bits_truncate(0o644);
    let mut tries = 0;
    loop {
        let opened = match open(path, flags | OFlag::O_RDWR, Mode::empty()) {
            Err(Errno::EACCES | Errno::EROFS) => open(path, flags | OFlag::O_RDONLY, Mode::empty()),
            Err(Errno::ENOENT) => open(path, flags | make, mode),
            other => other,
        };
        tries += 1;
        match opened {
            // Somebody else was quicker to make it, or to remove it.
            Err(Errno::EEXIST | Errno::ENOENT) if tries < TRIES => {}
            other => return other.map_err(|e| e as i32),
        }
    }
}

/// Whether it is had; `false` only where `operation` does not wait.
fn try_lock(file: &OwnedFd, operation: libc::c_int) -> Result<bool, i32> {
    loop {
        // SAFETY: integers only; `file` is open.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(true);
        }
        match Errno::last() {
            Errno::EWOULDBLOCK => return Ok(false),
            Errno::EINTR => {}
            error => return Err(error as i32),
        }
    }
}
