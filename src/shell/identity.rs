//! From a server's identity to what its child sets, and to variables of its environment.
//!
//! Must not ask anybody who may take long: names were looked up when the configuration was read,
//! and files of variables are read only if they are regular and small.

use super::bequest::Originals;
use crate::config::env_file;
use crate::config::identity::{Identity, UNLIMITED};
use crate::sys::process;
use crate::sys::rights::{Capability, Credentials, Rights, has_capability, resource};
use nix::sys::resource::{RLIM_INFINITY, Resource};
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};

/// The variables that say who somebody is.
const LOGIN: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];

/// What the child sets for itself.
pub fn rights(identity: &Identity, originals: &Originals) -> Rights {
    let credentials = credentials(identity);
    let uid = credentials.as_ref().map(|credentials| credentials.uid);
    Rights {
        limits: limits(identity, originals),
        nice: identity.nice,
        oom_score_adj: oom_score_adj(identity, originals),
        // Without the capability the FIFO could not be opened again by its path, by us.
        output_owner: uid.filter(|_| has_capability(Capability::DacOverride) == Some(true)),
        credentials,
        no_new_privileges: identity.no_new_privileges,
    }
}

/// Only root can change them; for others it was made sure that there is nothing to change.
fn credentials(identity: &Identity) -> Option<Credentials> {
    let account = identity.account.as_ref().filter(|_| geteuid().is_root())?;
    let groups = account.groups.clone();
    Some(Credentials { uid: account.uid, gid: account.gid, groups })
}

/// Those that are asked for, and the number of descriptors that the node manager was started with.
fn limits(identity: &Identity, originals: &Originals) -> Vec<(Resource, u64, u64)> {
    let kernels = |limit: u64| if limit == UNLIMITED { RLIM_INFINITY } else { limit };
    let (soft, hard) = originals.nofile;
    let asked = identity.limits.iter().filter_map(|limit| {
        Some((resource(&limit.name)?, kernels(limit.soft), kernels(limit.hard)))
    });
    let mut all: Vec<_> = asked.collect();
    if !all.iter().any(|(resource, ..)| *resource == Resource::RLIMIT_NOFILE) {
        all.push((Resource::RLIMIT_NOFILE, soft, hard));
    }
    all
}

/// Somebody can protect a twin, or offer it first, while it runs: that is not for its servers.
fn oom_score_adj(identity: &Identity, originals: &Originals) -> Option<CString> {
    let own = process::oom_score_adj();
    let original =
        originals.oom_score_adj.filter(|original| own.is_some_and(|own| own != *original));
    CString::new(identity.oom_score_adjust.or(original)?.to_string()).ok()
}

/// The variables of its files.
///
/// # Errors
/// A file can't be read, or is wrong; the text names it, and the line.
pub fn variables(identity: &Identity) -> Result<Vec<(String, String)>, String> {
    let files = identity.env_files.iter().map(env_file::read);
    Ok(files.collect::<Result<Vec<_>, _>>()?.concat())
}

/// HOME and the like of the server's user in place of the node manager's, as systemd sets them:
/// what the user does not have is not set.
pub fn add_login(identity: &Identity, env: &mut BTreeMap<OsString, OsString>) {
    let Some(account) = identity.account.as_ref().filter(|account| account.is_login) else {
        return;
    };
    let name = account.name.as_deref();
    let values = [Some(account.home.as_str()), name, name, account.shell.as_deref()];
    for (variable, value) in LOGIN.iter().zip(values) {
        match value {
            Some(value) => env.insert(variable.into(), value.into()),
            None => env.remove(std::ffi::OsStr::new(variable)),
        };
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
