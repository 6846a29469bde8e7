//! The system call layer: processes, locks, shared memory, FIFOs, and what a process sets for
//! itself.
//!
//! The only place with `unsafe`. Must not decide anything, keep state of its own, log, or block.

pub mod cgroup;
mod child;
pub mod fifo;
pub mod journald;
pub mod kernel;
pub mod lifeline;
pub mod listening;
pub mod lock;
pub mod low;
pub mod mark;
pub mod memory;
pub mod notify;
pub mod output_mark;
pub mod pid_file;
pub mod pidfd;
pub mod ports;
pub mod process;
pub mod processor;
mod program_pages;
pub mod pulse;
mod raw;
pub mod rights;
mod room;
mod server_lock;
pub mod spawn;
#[cfg(test)]
mod testing;
mod twin;
mod wait;

pub use wait::{reap_pid, wait_briefly, waitid_any_nowait};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::stat::{Mode, umask};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that this process inherited under a fixed number. Servers never get it.
/// To be called once for each number, before anything else opens descriptors under it.
///
/// # Errors
/// EBADF: there is none; the process was not started by the node manager itself.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only asked for its flags below; when it is not open, fcntl says EBADF and nothing
    // else happens.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (the call above succeeded), it was handed to this process to own it, and
    // the callers take each number once, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Says whether an exec closes it.
///
/// # Errors
/// EBADF.
pub fn set_close_on_exec(fd: &impl AsFd, closes: bool) -> io::Result<()> {
    let flag = if closes { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flag))?;
    Ok(())
}

/// Leads standard error to /dev/null: whoever read it has the end of the file now.
pub fn silence_stderr() {
    let null = nix::fcntl::open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    if let Ok(null) = null {
        // Without it the old one stays, which harms nobody.
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Ignores signals that must not end or stop this process. Children get the default back.
///
/// # Errors
/// A number is no signal.
pub fn ignore_signals(numbers: &[i32]) -> io::Result<()> {
    for number in numbers {
        let signal = Signal::try_from(*number)?;
        // SAFETY: no handler is installed, so no code of ours runs in a signal's context.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// The width of the terminal behind standard output, in columns; `None` when it is none.
pub fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a winsize, which `size` has room for, and only on success.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The umask of this process, which can only be read by setting it.
pub fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

/// The limit of open descriptors, soft and hard.
///
/// # Errors
/// Those of getrlimit(2).
pub fn nofile() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Makes this process the one under which orphaned descendants land.
///
/// # Errors
/// Those of prctl(2).
pub fn set_child_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Sets the name that `ps` and `top` show for this thread; the kernel keeps 15 bytes of it.
///
/// # Errors
/// Those of prctl(2).
pub fn set_name(name: &str) -> io::Result<()> {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
    let name = CString::new(bytes).map_err(io::Error::other)?;
    Ok(prctl::set_name(&name)?)
}

/// Raises the soft limit of open descriptors to the hard one.
///
/// Returns the limits (soft, hard) from before: servers get these, not the raised ones.
///
/// # Errors
/// Those of getrlimit(2); a refused raise is no error, the limit then stays.
pub fn raise_nofile() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        // The old limit still works, and who runs out of descriptors later says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    Ok((soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_nul_or_too_long_is_cut_and_not_refused() {
        set_name("a\0very-long-name-of-a-thread").unwrap();
        assert_eq!(prctl::get_name().unwrap().to_bytes(), b"avery-long-name");
    }
}
