//! What this kernel, or the container's filter of system calls, lacks of what the program uses.
//!
//! Must not wait, make a process, or change anything: each probe is a call that fails, or that does
//! nothing, where the feature is there. A probe that can't tell says "there": the use tells then.

use super::{pidfd, pulse};
use nix::errno::Errno;
use std::io;
use std::os::fd::OwnedFd;

/// What is used and not everywhere. docs/KERNELS.md has the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    PidfdOpen,
    PidfdSendSignal,
    WaitidPidfd,
    MemfdSeals,
    Clone3,
    CloseRange,
    GroupSignal,
    PidfdInode,
    ExitInfo,
    Splice,
    Subreaper,
}

const FEATURES: [Feature; 11] = [
    Feature::PidfdOpen,
    Feature::PidfdSendSignal,
    Feature::WaitidPidfd,
    Feature::MemfdSeals,
    Feature::Clone3,
    Feature::CloseRange,
    Feature::GroupSignal,
    Feature::PidfdInode,
    Feature::ExitInfo,
    Feature::Splice,
    Feature::Subreaper,
];

impl Feature {
    /// Its name, and the Linux version that brought it.
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Feature::PidfdOpen => ("pidfd_open", "5.3"),
            Feature::PidfdSendSignal => ("pidfd_send_signal", "5.1"),
            Feature::WaitidPidfd => ("waitid(P_PIDFD)", "5.4"),
            Feature::MemfdSeals => ("memfd_create with seals", "3.17"),
            Feature::Clone3 => ("clone3", "5.3"),
            Feature::CloseRange => ("close_range", "5.9"),
            Feature::GroupSignal => ("PIDFD_SIGNAL_PROCESS_GROUP", "6.9"),
            Feature::PidfdInode => ("a pidfd's inode", "6.9"),
            Feature::ExitInfo => ("PIDFD_GET_INFO with the exit status", "6.15"),
            Feature::Splice => ("splice", "2.6.17"),
            Feature::Subreaper => ("PR_SET_CHILD_SUBREAPER", "3.4"),
        }
    }

    /// What is done without it; `None` when nothing works then.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Feature::PidfdOpen
            | Feature::PidfdSendSignal
            | Feature::WaitidPidfd
            | Feature::MemfdSeals => None,
            Feature::Clone3 => Some("fork, then pidfd_open"),
            Feature::CloseRange => Some("a child closes what /proc/self/fd shows"),
            Feature::GroupSignal => {
                Some("once a leader is gone, its group is signalled member by member")
            }
            Feature::PidfdInode => Some("a process is known by PID and start time"),
            Feature::ExitInfo => {
                Some("an orphan's exit status comes from the keeper, or is unknown")
            }
            Feature::Splice => Some("output is copied; a copy cut short may be in the log twice"),
            Feature::Subreaper => {
                Some("orphans land elsewhere, and their exit status may be unknown")
            }
        }
    }
}

/// A feature that is not there, and the error that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub feature: Feature,
    pub errno: Errno,
}

/// The version that the kernel gives of itself.
pub fn release() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(|_| "?".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

/// All that is missing here.
pub fn missing() -> Vec<Missing> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let own = pidfd::open(own);
    let look = |feature: Feature| {
        let errno = probe(feature, &own).err()?;
        Some(Missing { feature, errno })
    };
    FEATURES.into_iter().filter_map(look).collect()
}

/// `Err`: it is not there.
fn probe(feature: Feature, own: &io::Result<OwnedFd>) -> Result<(), Errno> {
    let result = match (feature, own) {
        (Feature::PidfdOpen, Err(error)) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        (Feature::MemfdSeals, _) => pulse::Pulse::create().map(drop).map_err(errno_of),
        (Feature::Clone3, _) => no_such_call(libc::SYS_clone3, [0, 0, 0]),
        // From 1 to 0.
        (Feature::CloseRange, _) => no_such_call(libc::SYS_close_range, [1, 0, 0]),
        // No descriptor.
        (Feature::Splice, _) => no_such_call(libc::SYS_splice, [-1, 0, -1]),
        (Feature::Subreaper, _) => nix::sys::prctl::get_child_subreaper().map(drop),
        (_, Ok(own)) => probe_pidfd(feature, own),
        (_, Err(_)) => Ok(()),
    };
    result.or_else(|errno| match errno {
        Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOTTY => Err(errno),
        Errno::EOPNOTSUPP => Err(errno),
        // No descriptor or no memory, say: it says nothing of the kernel.
        _ => Ok(()),
    })
}

/// Those that are asked of a pidfd, which is this process's own.
fn probe_pidfd(feature: Feature, own: &OwnedFd) -> Result<(), Errno> {
    match feature {
        // Signal 0 only asks.
        Feature::PidfdSendSignal => pidfd::signal(own, 0).map_err(errno_of),
        Feature::GroupSignal => pidfd::signal_group_by_flag(own, 0).map_err(errno_of),
        // It is no child: ECHILD.
        Feature::WaitidPidfd => pidfd::exit_of_child(own).map(drop).map_err(errno_of),
        Feature::PidfdInode => match pidfd::inode(own) {
            0 => Err(Errno::EOPNOTSUPP),
            _ => Ok(()),
        },
        Feature::ExitInfo => match pidfd::get_info(own) {
            // 6.13 and 6.14 answer, and know no exit status; a living process can't show that.
            Ok(_) if is_before(&release(), (6, 15)) => Err(Errno::EOPNOTSUPP),
            other => other.map(drop),
        },
        _ => Ok(()),
    }
}

/// Makes a call whose arguments are wrong: any other error than "there is none" and "not allowed"
/// says that it is there.
fn no_such_call(number: libc::c_long, arguments: [libc::c_long; 3]) -> Result<(), Errno> {
    let [first, second, third] = arguments;
    let zero: libc::c_long = 0;
    // SAFETY: the callers' arguments are refused before anything is done: clone3 with no
    // arguments' size, close_range from 1 to 0, splice between no descriptors. All pointers are
    // null.
    let result = unsafe { libc::syscall(number, first, second, third, zero, zero, zero) };
    match Errno::result(result) {
        Err(errno @ (Errno::ENOSYS | Errno::EPERM | Errno::EACCES)) => Err(errno),
        _ => Ok(()),
    }
}

fn errno_of(error: io::Error) -> Errno {
    // What is no error of the kernel says nothing of the kernel.
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn is_before(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_finds_what_this_kernel_has_by_its_version() {
        let release = release();
        let missing: Vec<Feature> = missing().iter().map(|one| one.feature).collect();
        for feature in FEATURES {
            let mut since = feature.name().1.split('.').map(|number| number.parse().unwrap());
            let since = (since.next().unwrap(), since.next().unwrap());
            // A filter can take away what is there, but nothing gives what came later.
            let is_missing = missing.contains(&feature);
            assert!(is_missing || !is_before(&release, since), "{feature:?} on Linux {release}");
        }
    }

    #[test]
    fn a_version_is_read_whatever_follows_it() {
        assert!(is_before("5.10.0-28-amd64", (6, 9)) && is_before("6.8", (6, 9)));
        assert!(!is_before("6.9-rc1", (6, 9)) && !is_before("10.0.1", (6, 15)));
        assert!(!is_before("unknown", (6, 9)));
    }
}
