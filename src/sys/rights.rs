//! What a server may use, and as whom: limits, priority, user and groups, set in its child.
//!
//! By bare system calls: the C library's functions for users and groups tell every thread of the
//! process, and a forked child has lists of threads that it does not have. See also `child`.

use super::child::{Stepped, write_to};
use super::raw;
use nix::sys::resource::Resource;
use std::ffi::CString;

/// To be looked up before the fork; what is `None` or empty stays the node manager's.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Resource, soft and hard limit.
    pub limits: Vec<(Resource, u64, u64)>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// The text for /proc/self/oom_score_adj.
    pub oom_score_adj: Option<CString>,
    pub credentials: Option<Credentials>,
    /// Who owns the FIFO of its output.
    pub output_owner: Option<u32>,
    pub no_new_privileges: bool,
}

/// As whom a server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// Why a step failed, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub errno: i32,
    pub detail: usize,
}

impl From<i32> for Trouble {
    fn from(errno: i32) -> Trouble {
        Trouble { errno, detail: 0 }
    }
}

/// The resource of a name as limits.conf(5) has it.
pub fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// A capability of capabilities(7), by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    DacOverride = 1,
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    SysPtrace = 19,
    SysAdmin = 21,
    PerfMon = 38,
}

/// Whether this process has the capability in effect; `None`: /proc does not tell.
pub fn has_capability(capability: Capability) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let set = u64::from_str_radix(set.trim(), 16).ok()?;
    Some(set & (1_u64 << capability as u32) != 0)
}

/// All of these run in the child.
impl Rights {
    pub(super) fn set_limits(&self) -> Result<(), Trouble> {
        for (detail, (resource, soft, hard)) in self.limits.iter().enumerate() {
            let set = raw::set_limit(*resource as u32, *soft, *hard);
            set.map_err(|errno| Trouble { errno, detail })?;
        }
        Ok(())
    }

    pub(super) fn set_nice(&self) -> Stepped {
        self.nice.map_or(Ok(()), raw::set_nice)
    }

    pub(super) fn set_oom_score(&self) -> Stepped {
        let Some(score) = &self.oom_score_adj else { return Ok(()) };
        write_to(c"/proc/self/oom_score_adj", score.as_bytes())
    }

    pub(super) fn set_groups(&self) -> Stepped {
        let Some(Credentials { groups, .. }) = &self.credentials else { return Ok(()) };
        raw::set_groups(groups)
    }

    pub(super) fn set_group(&self) -> Stepped {
        let Some(Credentials { gid, .. }) = &self.credentials else { return Ok(()) };
        raw::set_group(*gid)
    }

    pub(super) fn set_user(&self) -> Stepped {
        let Some(Credentials { uid, .. }) = &self.credentials else { return Ok(()) };
        raw::set_user(*uid)
    }

    pub(super) fn keep_from_new_privileges(&self) -> Stepped {
        if self.no_new_privileges { raw::keep_from_new_privileges() } else { Ok(()) }
    }
}
