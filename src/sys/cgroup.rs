//! cgroup v2: where a process is, groups below a directory, who lives in them and what they use.
//!
//! Must not decide who gets a group, nor wait for one to become empty. A cgroup is named by its
//! directory. Every look at what a group holds has a limit, and what a pidfd says is alive is alive.
//! See cgroups(7) and the kernel's admin-guide/cgroup-v2; all that is used is in Linux 4.15, but for
//! `cgroup.kill` (5.14).

use super::{pidfd, process};
use crate::sys::process::Usage;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file through which a process enters a group.
pub const PROCS: &str = "cgroup.procs";
/// Groups that are looked at below one.
const GROUPS_MAX: usize = 1_000;
/// Members that are looked at in one pass.
const MEMBERS_MAX: usize = 10_000;
/// As much of a file as is read.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// How often the members of a group are killed in one call where the kernel can't do it at once.
const KILL_PASSES: usize = 8;

/// Who lives in a group.
#[derive(Debug)]
pub enum Living {
    /// Nobody.
    Empty,
    /// This process, and perhaps others.
    Member(i32, OwnedFd),
    /// Somebody who can't be seen: of another PID namespace, or just on its way out.
    Unseen,
}

/// The directory of this process's own group; `None`: no cgroup v2 is mounted where it shows.
pub fn own() -> Option<PathBuf> {
    dir_of(&path_of("self")?)
}

/// The directory of the group that a process is in, if the group has this name. A new active asks
/// for each server, and mountinfo takes long to read: it is looked at for the right name alone.
pub fn of_named(pid: i32, name: &str) -> Option<PathBuf> {
    let path = path_of(&pid.to_string())?;
    (Path::new(&path).file_name()? == name).then(|| dir_of(&path)).flatten()
}

/// The path of a process's group, as this process's namespace sees it.
fn path_of(process: &str) -> Option<String> {
    path_in(&read(Path::new(&format!("/proc/{process}/cgroup"))).ok()?)
}

fn dir_of(path: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let found = mounts.lines().filter_map(mount).filter_map(|(root, point)| {
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(if below.as_os_str().is_empty() { point } else { point.join(below) })
    });
    found.into_iter().find(|dir| dir.join(PROCS).exists())
}

/// The path of the group in /proc/PID/cgroup, as this process's namespace sees it.
fn path_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// What a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)) mounts of a cgroup v2, and where.
fn mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (fields, kind) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (kind.split(' ').next() == Some("cgroup2")).then(|| (unescaped(root), unescaped(point)))
}

/// Space, tab, newline and backslash are written as octal numbers there.
fn unescaped(path: &str) -> PathBuf {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(pairs.iter().fold(path.to_owned(), |path, (code, c)| path.replace(code, c)))
}

/// Is this directory one of a cgroup v2 file system?
pub fn is_group(dir: &Path) -> bool {
    let kind = nix::sys::statfs::statfs(dir).map(|found| found.filesystem_type());
    kind == Ok(nix::sys::statfs::CGROUP2_SUPER_MAGIC) && dir.join(PROCS).exists()
}

/// Did whoever manages the cgroups of this machine mark it as handed over? systemd writes
/// `trusted.delegate` (readable for root only) and, since version 251, `user.delegate`.
pub fn is_marked_as_delegated(dir: &Path) -> bool {
    let is_set = |name: &CStr| attribute(dir, name).is_some_and(|value| value == b"1");
    is_set(c"user.delegate") || is_set(c"trusted.delegate")
}

/// Does the directory belong to this process's user?
pub fn is_owned(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw())
}

fn attribute(dir: &Path, name: &CStr) -> Option<Vec<u8>> {
    let dir = CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut value = [0_u8; 16];
    // SAFETY: both texts end with a NUL and live through the call, which writes at most the bytes
    // of `value`.
    let length = unsafe {
        libc::getxattr(dir.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    value.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec)
}

/// Makes the group; one that is there is taken.
///
/// # Errors
/// EACCES, EPERM, EROFS, ENOENT (nothing above it), EAGAIN (`cgroup.max.*` of one above).
pub fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes one file of a group, in one call.
///
/// # Errors
/// ENOENT: its controller is not there; EINVAL, ERANGE: the kernel does not take the value; EACCES.
pub fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut opened = fs::OpenOptions::new().write(true).open(dir.join(file))?;
    opened.write_all(value.as_bytes())
}

/// The controllers that groups below it could have.
///
/// # Errors
/// Those of reading a file.
pub fn controllers(dir: &Path) -> io::Result<Vec<String>> {
    Ok(read(&dir.join("cgroup.controllers"))?.split_whitespace().map(str::to_owned).collect())
}

/// Gives the groups below it this controller.
///
/// # Errors
/// EBUSY: processes live in the group itself; ENOENT, EINVAL: it is not in `controllers`.
pub fn enable(dir: &Path, controller: &str) -> io::Result<()> {
    let file = "cgroup.subtree_control";
    if read(&dir.join(file))?.split_whitespace().any(|one| one == controller) {
        return Ok(());
    }
    write(dir, file, &format!("+{controller}"))
}

/// Moves a process, with all of its threads; 0 is this one.
///
/// # Errors
/// ESRCH: it is gone; EACCES; EBUSY: the group's controllers are given to groups below it.
pub fn enter(dir: &Path, pid: i32) -> io::Result<()> {
    write(dir, PROCS, &pid.to_string())
}

/// The numbers of the processes that are in the group itself.
///
/// # Errors
/// Those of reading a file.
pub fn pids(dir: &Path) -> io::Result<Vec<i32>> {
    let text = read(&dir.join(PROCS))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).take(MEMBERS_MAX).collect())
}

/// Does anybody live in the group or below it? One that is not there has nobody.
///
/// # Errors
/// Those of reading a file, EMFILE above all.
pub fn is_populated(dir: &Path) -> io::Result<bool> {
    match read(&dir.join("cgroup.events")) {
        Ok(text) => Ok(value_in(&text, "populated") != Some(0)),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the group, or its file, was removed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// One who lives in the group or below it.
///
/// # Errors
/// What keeps from telling: somebody may live there.
pub fn living(dir: &Path) -> io::Result<Living> {
    if !is_populated(dir)? {
        return Ok(Living::Empty);
    }
    let found = members(dir)?.into_iter().find(|(_, fd)| !pidfd::is_dead(fd));
    Ok(match found {
        Some((pid, fd)) => Living::Member(pid, fd),
        None if is_populated(dir)? => Living::Unseen,
        None => Living::Empty,
    })
}

/// The processes of the group and of those below it, each with a pidfd that was open while the
/// process was surely one of them.
///
/// # Errors
/// What keeps from telling, EMFILE above all.
pub fn members(dir: &Path) -> io::Result<Vec<(i32, OwnedFd)>> {
    let mut members = Vec::new();
    for group in tree(dir) {
        let listed = pids_or_none(&group)?;
        let mut opened = Vec::new();
        for pid in listed.into_iter().filter(|pid| *pid > 0) {
            match pidfd::open(pid) {
                Ok(fd) => opened.push((pid, fd)),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    return Err(error);
                }
                // It is gone.
                Err(_) => {}
            }
            if members.len() + opened.len() >= MEMBERS_MAX {
                break;
            }
        }
        // A number can be a stranger's by now. Listed once more, it is a member's, and the pidfd is
        // that member's or dead.
        let still = pids_or_none(&group)?;
        members.extend(opened.into_iter().filter(|(pid, _)| still.contains(pid)));
    }
    Ok(members)
}

fn pids_or_none(dir: &Path) -> io::Result<Vec<i32>> {
    match pids(dir) {
        // EOPNOTSUPP: a group of threads; their processes are listed above it.
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The group and those below it, each before the ones below it.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(group) = found.get(next) {
        next += 1;
        let inner: Vec<PathBuf> = fs::read_dir(group)
            .map(|entries| entries.flatten().collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(inner);
        found.truncate(GROUPS_MAX);
    }
    found
}

/// SIGKILL to all of the group and of those below it. Before Linux 5.14 one by one, again while new
/// ones show up, and at most a few times: the caller asks again.
///
/// # Errors
/// EACCES and the like.
pub fn kill(dir: &Path) -> io::Result<()> {
    match write(dir, "cgroup.kill", "1") {
        Err(error) if is_gone(&error) && dir.exists() => kill_one_by_one(dir),
        Err(error) if is_gone(&error) => Ok(()),
        other => other,
    }
}

fn kill_one_by_one(dir: &Path) -> io::Result<()> {
    for _ in 0..KILL_PASSES {
        let members = members(dir)?;
        let mut killed = 0;
        for (_, fd) in members.iter().filter(|(_, fd)| !pidfd::is_dead(fd)) {
            match pidfd::signal(fd, libc::SIGKILL) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => killed += 1,
            }
        }
        if killed == 0 {
            break;
        }
    }
    Ok(())
}

/// Sends a signal to the members that are in no process group of that number.
///
/// # Errors
/// The first one that was no "gone": EPERM.
pub fn signal_outside(dir: &Path, group: i32, signal: i32) -> io::Result<()> {
    let mut result = Ok(());
    for (pid, fd) in members(dir)? {
        // Asked behind the open pidfd: were it another process's by now, the signal finds nobody.
        if process::group(pid).is_ok_and(|own| own == group) {
            continue;
        }
        if let Err(error) = pidfd::signal(&fd, signal)
            && error.raw_os_error() != Some(libc::ESRCH)
            && result.is_ok()
        {
            result = Err(error);
        }
    }
    result
}

/// Removes the group and those below it, where nobody lives in them.
///
/// # Errors
/// EBUSY: somebody does.
pub fn remove(dir: &Path) -> io::Result<()> {
    for group in tree(dir).iter().rev() {
        match fs::remove_dir(group) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What the group uses: the processor time of all that ever were in it; its memory where it has
/// that controller, else the memory that its processes have not swapped out. `None`: nobody is in it.
pub fn usage(dir: &Path) -> Option<Usage> {
    if !is_populated(dir).unwrap_or(false) {
        return None;
    }
    let cpu_us = value_in(&read(&dir.join("cpu.stat")).ok()?, "usage_usec")?;
    let memory = read(&dir.join("memory.current")).ok();
    let rss_bytes = memory.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| {
        let pids = tree(dir).into_iter().flat_map(|group| pids(&group).unwrap_or_default());
        let sizes = pids.take(MEMBERS_MAX).filter_map(|pid| process::usage(pid).ok());
        sizes.fold(0, |sum: u64, one| sum.saturating_add(one.rss_bytes))
    });
    Some(Usage { cpu_ms: cpu_us / 1_000, rss_bytes })
}

/// How many of its processes the kernel killed because the group, or one above it, was at its limit
/// of memory. `None` without the controller.
pub fn oom_kills(dir: &Path) -> Option<u64> {
    value_in(&read(&dir.join("memory.events")).ok()?, "oom_kill")
}

/// The number of a key in a flat keyed file.
fn value_in(text: &str, key: &str) -> Option<u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.into_iter().find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    match fs::File::open(path)?.take(FILE_MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error),
    }
}

/// Does this error say that the machine lacks something for the moment?
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
