//! The system call layer: processes, locks, shared memory, FIFOs, and what a process sets for
//! itself.
//!
//! The only place with `unsafe`. Must not decide anything, keep state of its own, log, or block.

mod child;
pub mod fifo;
pub mod lock;
pub mod pidfd;
pub mod ports;
pub mod process;
pub mod pulse;
pub mod spawn;
#[cfg(test)]
mod testing;
mod twin;
mod wait;

pub use wait::{reap_pid, waitid_any_nowait};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::ffi::CString;
use std::io;

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
