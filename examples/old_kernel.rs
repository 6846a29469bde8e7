//! Runs a command as on an older kernel, or in a container: chosen system calls fail.
//!
//! A seccomp filter is passed on by fork and exec, so all that the command starts runs under it.
//! Must not be used for anything but tests: what it takes away can't be given back.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: old_kernel CALL=ERRNO... -- COMMAND [WORD]...
  CALL   clone3, close_range, pidfd_open, pidfd_send_signal, memfd_create, splice, tee, statx,
         fstatfs, waitid, getrandom, fallocate; or what a call is used for: group_signal, exit_info,
         waitid_pidfd, subreaper
         pidfd_open:PID fails for that process alone
  ERRNO  its number";

/// PR_SET_CHILD_SUBREAPER (linux/prctl.h).
const SUBREAPER: u64 = libc::PR_SET_CHILD_SUBREAPER as u64;
/// The kind and the number of PIDFD_GET_INFO, whatever the size of its structure.
const GET_INFO: u64 = (0xff << 8) | 11;

fn main() -> ExitCode {
    let error = match run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let _ = writeln!(io::stderr(), "old_kernel: {error}\n{USAGE}");
    ExitCode::from(64)
}

fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let at = words.iter().position(|word| word == "--").ok_or("no command")?;
    let (rules, command) = (&words[..at], &words[at + 1..]);
    // One filter has one error.
    let mut by_errno: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for word in rules {
        let (call, errno) = word.split_once('=').ok_or("a rule is CALL=ERRNO")?;
        let (number, conditions) = rule(call)?;
        let filter = by_errno.entry(errno.parse()?).or_default();
        filter.entry(number).or_default().extend(conditions);
    }
    for (errno, rules) in by_errno {
        let errno = u32::try_from(errno)?;
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let (other, denied) = (SeccompAction::Allow, SeccompAction::Errno(errno));
        let filter: BpfProgram = SeccompFilter::new(rules, other, denied, arch)?.try_into()?;
        apply_filter(&filter)?;
    }
    let (program, words) = command.split_first().ok_or("no command")?;
    Err(Command::new(program).args(words).exec().into())
}

const VM: u64 = libc::CLONE_VM as u64;
const SHARING: u64 = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_VFORK) as u64;

/// The call's number, and on which arguments it fails; none: always.
fn rule(call: &str) -> Result<(i64, Vec<SeccompRule>), Box<dyn Error>> {
    let on = |argument, length, operator, value| {
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        SeccompRule::new(vec![condition]).map(|rule| vec![rule])
    };
    let dword = SeccompCmpArgLen::Dword;
    if let Some(pid) = call.strip_prefix("pidfd_open:") {
        return Ok((libc::SYS_pidfd_open, on(0, dword, SeccompCmpOp::Eq, pid.parse()?)?));
    }
    Ok(match call {
        "clone3" => (libc::SYS_clone3, vec![]),
        "close_range" => (libc::SYS_close_range, vec![]),
        // Neither a thread nor a vfork.
        "shared_memory" => (libc::SYS_clone, on(0, dword, SeccompCmpOp::MaskedEq(SHARING), VM)?),
        "pidfd_open" => (libc::SYS_pidfd_open, vec![]),
        "pidfd_send_signal" => (libc::SYS_pidfd_send_signal, vec![]),
        "memfd_create" => (libc::SYS_memfd_create, vec![]),
        "splice" => (libc::SYS_splice, vec![]),
        "userfaultfd" => (libc::SYS_userfaultfd, vec![]),
        "tee" => (libc::SYS_tee, vec![]),
        "statx" => (libc::SYS_statx, vec![]),
        "fstatfs" => (libc::SYS_fstatfs, vec![]),
        "waitid" => (libc::SYS_waitid, vec![]),
        "getrandom" => (libc::SYS_getrandom, vec![]),
        "fallocate" => (libc::SYS_fallocate, vec![]),
        "group_signal" => (libc::SYS_pidfd_send_signal, on(3, dword, SeccompCmpOp::Ne, 0)?),
        "exit_info" => (libc::SYS_ioctl, on(1, dword, SeccompCmpOp::MaskedEq(0xffff), GET_INFO)?),
        "waitid_pidfd" => {
            (libc::SYS_waitid, on(0, dword, SeccompCmpOp::Eq, u64::from(libc::P_PIDFD))?)
        }
        "subreaper" => (libc::SYS_prctl, on(0, dword, SeccompCmpOp::Eq, SUBREAPER)?),
        _ => return Err(format!("unknown call {call}").into()),
    })
}
