//! Checks of the machine: kernel, clock, limits, directories, cgroups.
//!
//! Must not ask the pair.

use super::Finding;
use crate::config::{Config, ServerConfig};
use crate::launch;
use crate::shell;
use crate::sys::{self, kernel};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access, geteuid};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Less room than this will soon be none.
const LITTLE_BYTES: u64 = 64 << 20;
/// The journal, and a log of the least size.
const LEAST_BYTES: u64 = 1 << 20;
const LITTLE_FILES: u64 = 1_000;
const LEAST_FILES: u64 = 32;
/// A pipe of 64 KiB, in pages.
const PIPE_PAGES: u64 = 16;
/// Clocks of different machines differ a bit.
const CLOCK_SLACK: Duration = Duration::from_secs(120);

/// What this kernel lacks.
pub fn kernel() -> Finding {
    let (check, release) = ("kernel", kernel::release());
    let missing = kernel::missing();
    let name = |one: &kernel::Missing| {
        let (name, since) = one.feature.name();
        match one.feature.instead() {
            Some(instead) => format!("{name} (Linux {since}): {instead}"),
            None => format!("{name} (Linux {since})"),
        }
    };
    let (soft, hard): (Vec<_>, Vec<_>) =
        missing.iter().partition(|one| one.feature.instead().is_some());
    let list =
        |all: &[&kernel::Missing]| all.iter().map(|one| name(one)).collect::<Vec<_>>().join(", ");
    if !hard.is_empty() {
        let todo = "use Linux 5.10 or later, or allow the call in the container's seccomp profile";
        return Finding::fail(check, format!("Linux {release} lacks {}", list(&hard)), todo);
    }
    if !soft.is_empty() {
        let text = format!("Linux {release} lacks, and does instead: {}", list(&soft));
        return Finding::warn(check, text, "nothing has to be done");
    }
    Finding::ok(check, format!("Linux {release} has all that is used"))
}

/// Is the time of day possible? The program was written to disk before, and so was `newest`.
pub fn clock(newest: Option<(PathBuf, SystemTime)>) -> Option<Finding> {
    let own = std::fs::metadata("/proc/self/exe").and_then(|found| found.modified()).ok();
    let own = own.map(|at| (PathBuf::from("the program itself"), at));
    let is_first = newest.is_none();
    let (path, at) = newest.or(own)?;
    let now = SystemTime::now();
    if now + CLOCK_SLACK < at {
        let ahead = at.duration_since(now).unwrap_or_default().as_secs();
        let text = format!("the clock is wrong: {} was written {ahead} s from now", path.display());
        let todo =
            "set it (timedatectl, chronyc makestep): time stamps of logs are wrong until then";
        return Some(Finding::fail("clock", text, todo));
    }
    is_first.then(|| Finding::ok("clock", "the time of day is possible"))
}

/// What was written last in the run directory: the journal, a socket.
pub fn newest(dir: &Path) -> Option<(PathBuf, SystemTime)> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let written =
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)));
    written.max_by_key(|(_, at)| *at)
}

/// Descriptors and pipes.
pub fn limits(config: &Config) -> Vec<Finding> {
    let check = "limits";
    let hard = sys::nofile().map_or(0, |(_, hard)| hard);
    let mut findings = vec![match launch::check_fits(config) {
        Ok(()) => Finding::ok(check, format!("{hard} open files are enough")),
        Err(text) => Finding::fail(check, text, ""),
    }];
    let number = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok();
    let allowed: u64 = number.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let piped = config.servers.iter().flat_map(ServerConfig::piped).count() as u64;
    if !geteuid().is_root() && allowed > 0 && piped * PIPE_PAGES > allowed {
        let text = format!(
            "{piped} outputs go through pipes, and this user has {allowed} pages for them \
             (fs.pipe-user-pages-soft): later ones hold 8 KiB instead of 64"
        );
        let todo = "raise it by sysctl, or give some servers output.to = \"direct\"";
        findings.push(Finding::warn(check, text, todo));
    }
    findings
}

/// Each of the three: who may write, how much room.
pub fn directories(config: &Config) -> Vec<Finding> {
    let node = &config.node;
    let all = [("runDir", &node.run_dir), ("stateDir", &node.state_dir), ("logDir", &node.log_dir)];
    let mut findings = Vec::new();
    for (key, dir) in all {
        let bad: Vec<Finding> = [rights(key, dir), room(key, dir)].into_iter().flatten().collect();
        match bad.is_empty() {
            true => findings
                .push(Finding::ok(key, format!("{} has room, and can be written", dir.display()))),
            false => findings.extend(bad),
        }
    }
    findings
}

/// The directory itself, or where it will be made.
fn nearest(dir: &Path) -> &Path {
    dir.ancestors().find(|one| one.exists()).unwrap_or(Path::new("/"))
}

fn rights(key: &'static str, dir: &Path) -> Option<Finding> {
    let there = nearest(dir);
    let shown = there.display();
    if !there.is_dir() {
        return Some(Finding::fail(
            key,
            format!("{shown} is no directory"),
            format!("choose another {key}"),
        ));
    }
    if let Err(error) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let text = format!("cannot write {shown}: {}", error.desc());
        let user = geteuid();
        let todo = format!("give it to the user {user} (chown), or choose another {key}");
        return Some(Finding::fail(key, text, todo));
    }
    let found = std::fs::metadata(dir).ok()?;
    let mode = found.permissions().mode();
    if mode & 0o002 != 0 {
        let text = format!("everybody may write {}", dir.display());
        return Some(Finding::warn(key, text, format!("chmod o-w {}", dir.display())));
    }
    let owner = found.uid();
    (owner != geteuid().as_raw() && owner != 0).then(|| {
        let text = format!("{} belongs to the user {owner}", dir.display());
        Finding::warn(key, text, "give it to the user that the pair runs as")
    })
}

fn room(key: &'static str, dir: &Path) -> Option<Finding> {
    let found = statvfs(nearest(dir)).ok()?;
    let bytes = found.blocks_available().saturating_mul(found.fragment_size());
    // A file system without a table of files says 0 of 0.
    let files = if found.files() == 0 { u64::MAX } else { found.files_available() };
    let todo = format!("make room, or choose another {key}");
    let shown = dir.display();
    if bytes < LEAST_BYTES {
        return Some(Finding::fail(
            key,
            format!("no room for {shown}: {} KiB are left", bytes >> 10),
            todo,
        ));
    }
    if files < LEAST_FILES {
        return Some(Finding::fail(
            key,
            format!("no room for {shown}: {files} inodes are left"),
            todo,
        ));
    }
    if bytes < LITTLE_BYTES {
        return Some(Finding::warn(
            key,
            format!("little room for {shown}: {} MiB are left", bytes >> 20),
            todo,
        ));
    }
    let text = format!("little room for {shown}: {files} inodes are left");
    (files < LITTLE_FILES).then(|| Finding::warn(key, text, todo))
}

/// Whether servers can have one each. Limits that can't be had are warnings of the configuration.
pub fn cgroups(config: &Config) -> Finding {
    match shell::cgroups::root(&config.node) {
        Ok(root) => Finding::ok("cgroups", format!("servers have theirs below {}", root.display())),
        Err(why) => Finding::ok("cgroups", format!("not used: {why}")),
    }
}
