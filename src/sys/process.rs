//! What /proc and the clocks say about processes and about this boot.
//!
//! Must not signal anybody, and must not take the state letter for the truth: a process whose
//! main thread ended shows `Z` and runs on. Where /proc is mounted with `hidepid`, an
//! unprivileged caller sees only its own user's processes.

use super::mark::{Owner, mark_in};
use super::pidfd;
use crate::core::{Identity, Ms};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// As much of an environment as is searched for the mark.
const ENVIRON_MAX_BYTES: u64 = 256 * 1024;
/// As many threads as are asked for the environment of a process whose main thread ended.
const THREADS_MAX: usize = 16;
/// More than the kernel ever writes into a stat file.
const STAT_MAX_BYTES: usize = 4096;
/// More than a number of the kernel's has.
const NUMBER_MAX_BYTES: usize = 32;
/// Being taken apart by the kernel (PF_EXITING of include/linux/sched.h, which proc_pid_stat(5) names for its
/// field 9): set before anything is given back, never taken back.
const EXITING: u64 = 4;

/// A living process that carries the mark of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The server's name.
    pub name: String,
    /// Which start of the server it belongs to; 0 when it can't be known.
    pub start_number: u64,
    pub identity: Identity,
    /// It leads its session, as the first process of a server does.
    pub session_leader: bool,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads, in user and kernel mode.
    pub cpu_ms: u64,
    /// Memory that is not swapped out.
    pub rss_bytes: u64,
}

/// The fields of /proc/PID/stat that are used (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, without control characters.
    pub comm: String,
    /// A letter; see the head of this file.
    pub state: u8,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// PF_* of include/linux/sched.h.
    pub flags: u64,
    /// User and kernel mode together.
    pub cpu_ticks: u64,
    pub threads: u64,
    /// Since the boot.
    pub start_ticks: u64,
    pub rss_pages: u64,
    /// Where it runs, or ran last; `u64::MAX` where that is not told.
    pub processor: u64,
}

/// The id of this boot, new with each one.
///
/// # Errors
/// When /proc can't be read.
pub fn boot_id() -> io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// The inode of this process's PID namespace: process numbers mean nothing in another one.
///
/// # Errors
/// When /proc can't be read.
pub fn pid_namespace_inode() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino())
}

/// When the process was started, in clock ticks since the boot.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start_ticks)
}

/// The processor on which what it still has is being given back, if it has carried out its last instruction
/// and no other thread of it is left. `None` also for one that is reaped, and where that can't be read.
pub fn exits_on(process: &Identity) -> Option<u64> {
    let is_exiting = |stat: &Stat| {
        stat.start_ticks == process.start_ticks && stat.flags & EXITING != 0 && stat.threads <= 1
    };
    stat(process.pid).ok().filter(is_exiting).map(|stat| stat.processor)
}

/// Whether it is the first process of its session.
///
/// # Errors
/// NotFound or ESRCH when there is no such process.
pub(super) fn leads_session(pid: i32) -> io::Result<bool> {
    Ok(stat(pid)?.session == pid)
}

/// Clock ticks since the boot as milliseconds of CLOCK_BOOTTIME (suspended time included).
pub fn ticks_to_boot_ms(ticks: u64) -> u64 {
    let per_second = match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(per_second)) => u64::try_from(per_second).unwrap_or(100).max(1),
        _ => 100,
    };
    ticks.saturating_mul(1000) / per_second
}

/// How gladly the kernel ends this process when memory is short; `None`: it can't be read.
pub fn oom_score_adj() -> Option<i32> {
    let mut text = [0; NUMBER_MAX_BYTES];
    let length = File::open("/proc/self/oom_score_adj").ok()?.read(&mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

/// The name of the process's program, at most 15 bytes, without control characters.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn comm(pid: i32) -> io::Result<String> {
    Ok(stat(pid)?.comm)
}

/// The session that the process is in.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn session(pid: i32) -> io::Result<i32> {
    Ok(stat(pid)?.session)
}

/// The parent of the process.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn parent(pid: i32) -> io::Result<i32> {
    Ok(stat(pid)?.parent)
}

/// The process group that the process is in.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn group(pid: i32) -> io::Result<i32> {
    Ok(stat(pid)?.group)
}

/// The user whose the process is; root for one that may not be looked into.
///
/// # Errors
/// NotFound when there is none.
pub fn uid(pid: i32) -> io::Result<u32> {
    Ok(std::fs::metadata(format!("/proc/{pid}"))?.uid())
}

/// Processor time and memory of one process.
///
/// # Errors
/// NotFound or ESRCH when there is none.
pub fn usage(pid: i32) -> io::Result<Usage> {
    let stat = stat(pid)?;
    let page_bytes = match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(bytes)) => u64::try_from(bytes).unwrap_or(4096),
        _ => 4096,
    };
    Ok(Usage {
        cpu_ms: ticks_to_boot_ms(stat.cpu_ticks),
        rss_bytes: stat.rss_pages.saturating_mul(page_bytes),
    })
}

/// Processes of one tree that are looked at; more have no place in a status.
const TREE_MAX: usize = 4_096;

/// Processor time and memory of a process and all that descend from it.
///
/// # Errors
/// NotFound or ESRCH when there is no such process; a descendant that is gone is left out.
pub fn usage_of_tree(pid: i32) -> io::Result<Usage> {
    let mut sum = usage(pid)?;
    let mut ahead = children(pid);
    let mut seen = 0;
    while let Some(pid) = ahead.pop() {
        seen += 1;
        if seen > TREE_MAX {
            break;
        }
        if let Ok(one) = usage(pid) {
            sum.cpu_ms = sum.cpu_ms.saturating_add(one.cpu_ms);
            sum.rss_bytes = sum.rss_bytes.saturating_add(one.rss_bytes);
        }
        ahead.extend(children(pid));
    }
    Ok(sum)
}

/// The children of all threads of a process; none where the kernel does not list them
/// (CONFIG_PROC_CHILDREN).
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().take(TREE_MAX).filter_map(|thread| {
        let mut text = String::new();
        let file = File::open(thread.path().join("children")).ok()?;
        file.take(ENVIRON_MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    });
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// The living members of a process group, the leader included, each with a pidfd that was open
/// before its group was read.
///
/// A number whose group is empty can be another group's by now: ask `pidfd::signal_group` with
/// signal 0 first (ESRCH: empty), which is also cheaper. A member that forks during the look
/// may hide its child, so an empty answer is asked for again.
///
/// # Errors
/// What keeps from telling (EMFILE, an unreadable /proc): there may be members.
pub fn live_group_members(pgid: i32) -> io::Result<Vec<(i32, OwnedFd)>> {
    let mut members = Vec::new();
    for pid in pids()? {
        let is_member = || known(stat(pid)).map(|stat| stat.is_some_and(|s| s.group == pgid));
        if is_member()?
            && let Some(fd) = open_living(pid)?
            && is_member()?
            && !pidfd::is_dead(&fd)
        {
            members.push((pid, fd));
        }
    }
    Ok(members)
}

/// The value of NM_SERVER in the environment that the process was started with.
///
/// `None`: it has none, or has overwritten it (a program that changes its title in place, as
/// nginx does, wipes its environment).
///
/// # Errors
/// NotFound or ESRCH when there is no such process; PermissionDenied for another user's.
pub fn mark_of(pid: i32) -> io::Result<Option<String>> {
    Ok(marked_environ(pid)?.as_deref().and_then(mark_in))
}

/// The environment of a process, if there is a mark in it.
fn marked_environ(pid: i32) -> io::Result<Option<Vec<u8>>> {
    let is_marked = |environ: &Vec<u8>| mark_in(environ).is_some();
    let environ = environ(&format!("/proc/{pid}/environ"));
    // By kernel and user, a process whose main thread ended shows nothing, ESRCH or EACCES here,
    // and its environment at the threads that are left.
    if environ.as_ref().is_ok_and(|environ| !environ.is_empty()) || stat(pid)?.state != b'Z' {
        return Ok(Some(environ?).filter(is_marked));
    }
    for thread in numbers(&format!("/proc/{pid}/task"))?.take(THREADS_MAX) {
        let path = format!("/proc/{pid}/task/{thread}/environ");
        if let Some(environ) = known(self::environ(&path))?.filter(is_marked) {
            return Ok(Some(environ));
        }
    }
    Ok(None)
}

/// All living processes with a mark of this pair, wherever they are by now.
///
/// Processes whose environment this user may not read are not seen.
///
/// # Errors
/// What keeps from telling (EMFILE, an unreadable /proc): there may be survivors.
pub fn survivors(owner: &Owner) -> io::Result<Vec<Survivor>> {
    let mut found = Vec::new();
    for pid in pids()? {
        if read_mark(pid, owner)?.is_none() {
            continue;
        }
        let Some(fd) = open_living(pid)? else { continue };
        // Read again behind the pidfd: the number can have changed hands in between.
        let (Some((name, start_number)), Some(stat)) = (read_mark(pid, owner)?, known(stat(pid))?)
        else {
            continue;
        };
        let Some(identity) = known(pidfd::identify(pid, &fd))? else { continue };
        if !pidfd::is_dead(&fd) {
            let session_leader = stat.session == pid;
            found.push(Survivor { name, start_number, identity, session_leader });
        }
    }
    Ok(found)
}

/// Milliseconds of CLOCK_MONOTONIC, the time of the core.
pub fn monotonic_ms() -> Ms {
    Ms(clock_ms(ClockId::CLOCK_MONOTONIC))
}

/// Milliseconds since the boot, suspended time included (CLOCK_BOOTTIME).
pub fn boottime_ms() -> u64 {
    clock_ms(ClockId::CLOCK_BOOTTIME)
}

/// Whether it has a handler for this signal.
pub fn catches(pid: i32, signal: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

/// The file that this process was started with: as it was called where that can be told, so that a
/// symbolic link which leads elsewhere tomorrow is followed anew; else the file that it runs.
///
/// # Errors
/// /proc/self/exe can't be read.
pub fn own_program() -> io::Result<PathBuf> {
    let is_own = |path: &Path| {
        let own = fs::metadata("/proc/self/exe").ok()?;
        let found = fs::metadata(path).ok()?;
        ((own.dev(), own.ino()) == (found.dev(), found.ino())).then_some(())
    };
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates = match called.components().count() {
        1 => std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).map(|dir| dir.join(&called)).collect())
            .unwrap_or_default(),
        _ => vec![called],
    };
    let absolute = candidates.into_iter().filter_map(|path| std::path::absolute(path).ok());
    let found =
        absolute.into_iter().find(|path| !path.starts_with("/proc") && is_own(path).is_some());
    match found {
        Some(path) => Ok(path),
        None => fs::read_link("/proc/self/exe"),
    }
}

/// Milliseconds since 1970, for showing only: this clock jumps. 0 before 1970.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The numbers of all processes that /proc shows.
pub(super) fn pids() -> io::Result<impl Iterator<Item = i32>> {
    numbers("/proc")
}

/// Turns "it is gone, or not ours to look at" into `None`.
pub(super) fn known<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(e),
        },
    }
}

fn numbers(directory: &str) -> io::Result<impl Iterator<Item = i32>> {
    let entries = std::fs::read_dir(directory)?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

fn clock_ms(clock: ClockId) -> u64 {
    // The two clocks exist on every kernel that this program runs on.
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

fn stat(pid: i32) -> io::Result<Stat> {
    let mut line = [0; STAT_MAX_BYTES];
    // The kernel gives the whole line at once to who has room for it: one read instead of the six
    // of a growing buffer, for each server at a takeover.
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut line)?;
    parse_stat(line.get(..length).unwrap_or_default()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("cannot read /proc/{pid}/stat"))
    })
}

/// The name stands in brackets and can hold any byte but NUL, brackets and blanks included, so
/// the fields are counted from the last closing bracket.
pub fn parse_stat(line: &[u8]) -> Option<Stat> {
    let start = line.iter().position(|byte| *byte == b'(')?;
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let name = String::from_utf8_lossy(line.get(start + 1..end)?);
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    // The first of them is field 3 of the manual page.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let count = |number: usize| field(number)?.parse::<u64>().ok();
    Some(Stat {
        comm: name.replace(char::is_control, "?"),
        state: *field(3)?.as_bytes().first()?,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        flags: count(9)?,
        cpu_ticks: count(14)?.saturating_add(count(15)?),
        threads: count(20)?,
        start_ticks: count(22)?,
        rss_pages: count(24)?,
        processor: count(39).unwrap_or(u64::MAX),
    })
}

/// A pidfd of `pid`, or `None` when it is dead, or its number a thread's.
pub(super) fn open_living(pid: i32) -> io::Result<Option<OwnedFd>> {
    match pidfd::open(pid) {
        Ok(fd) if pidfd::is_dead(&fd) => Ok(None),
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(None),
        Err(e) => known(Err(e)),
    }
}

fn read_mark(pid: i32, owner: &Owner) -> io::Result<Option<(String, u64)>> {
    let environ = known(marked_environ(pid))?.flatten();
    Ok(environ.and_then(|environ| owner.claims(&environ)))
}

fn environ(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ENVIRON_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
