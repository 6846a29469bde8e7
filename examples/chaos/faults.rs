//! Faults that last over several acts: full disk, few descriptors, stopped processes, a moved
//! clock; and the starved processor.
//!
//! Must not leave one behind: each knows until which act it lasts, and how it is undone. The real
//! clock is never set.

use crate::Held;
use crate::machine::{
    ask_status, has_own_mounts, is_root, next_descriptor, pid_in, rows, signal, stat, wait_for,
};
use crate::world::World;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Torn lines of the time of the full disk may reach a log a little later.
const LOSS_LATER: Duration = Duration::from_secs(3);
const TMPFS: [(&str, &str); 2] = [("run", "8m"), ("logs", "96m")];

/// A process that something was done to.
#[derive(Clone, Debug)]
struct Victim {
    until: u64,
    pid: i32,
    start_ticks: u64,
    /// Its soft limit of descriptors from before.
    soft: String,
}

impl Victim {
    fn lives(&self) -> bool {
        stat(self.pid).is_some_and(|now| now.start_ticks == self.start_ticks)
    }
}

/// What is wrong now.
#[derive(Debug, Default)]
pub struct Faults {
    has_tmpfs: bool,
    /// Until which act, and which of the two.
    disk: Option<(u64, Vec<&'static str>)>,
    descriptors: Option<Victim>,
    keeper: Option<Victim>,
    servers: Vec<Victim>,
    /// libfaketime, when it is installed.
    faketime: Option<PathBuf>,
    /// What libfaketime reads.
    clock: PathBuf,
    loss_until: Option<Instant>,
}

impl Faults {
    /// The pair must be whole in time.
    pub fn is_calm(&self) -> bool {
        self.disk.is_none() && self.descriptors.is_none() && self.keeper.is_none()
    }

    pub fn few_descriptors(&self) -> bool {
        self.descriptors.is_some()
    }

    /// Two children that libfaketime is loaded into at the same moment make one semaphore, and it
    /// ends one of them with exit status 1. A standby is started again; who asked for another
    /// process is told that it failed.
    pub fn ends_helpers(&self) -> bool {
        self.faketime.is_some()
    }

    /// Whether output may have been dropped since this was asked last, because a log could not be
    /// written: an act may take longer than what reaches a log later.
    pub fn take_loss(&mut self) -> bool {
        if self.disk.as_ref().is_some_and(|(_, of)| of.contains(&"logs")) || self.few_descriptors()
        {
            self.loss_until = Some(Instant::now() + LOSS_LATER);
        }
        let may_lose = self.loss_until.is_some();
        self.loss_until.take_if(|until| *until <= Instant::now());
        may_lose
    }

    /// Lets a command see the moved clock.
    pub fn add_clock(&self, command: &mut Command) {
        if let Some(library) = &self.faketime {
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", &self.clock);
            command.env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command.env("FAKETIME_DISABLE_SHM", "1");
            command.env("NO_FAKE_STAT", "1");
        }
    }
}

impl World {
    /// What the faults need, before the pair starts.
    pub fn prepare_faults(&mut self) -> Held {
        self.faults.clock = self.home.join("clock");
        fs::write(&self.faults.clock, "+0\n").map_err(|error| error.to_string())?;
        self.faults.faketime = find_faketime();
        if self.faults.faketime.is_none() {
            self.report.skip("clock: libfaketime is not installed (Debian: faketime)");
        }
        if !has_own_mounts() {
            self.report.skip("disk: needs root, unshare and mount");
            return Ok(());
        }
        for (name, size) in TMPFS {
            let options = format!("size={size},mode=755");
            let words = ["-t", "tmpfs", "-o", &options, "chaos"];
            let status = Command::new("mount").args(words).arg(self.home.join(name)).status();
            if !status.is_ok_and(|status| status.success()) {
                self.report.skip("disk: cannot mount a tmpfs");
                return Ok(());
            }
        }
        self.faults.has_tmpfs = true;
        Ok(())
    }

    pub fn unmount(&mut self) {
        for (name, _) in TMPFS.iter().filter(|_| has_own_mounts()) {
            let path = self.home.join(name);
            let _ = Command::new("umount").arg("-l").arg(path).stderr(Stdio::null()).status();
        }
    }

    /// Ends the faults that lasted long enough. An active that has no descriptor for one more
    /// connection was looked at from outside; acts need an answer.
    pub fn undo_expired(&mut self) -> Held {
        let is_mute = || {
            self.faults.few_descriptors()
                && ask_status(&self.home, Duration::from_secs(2)).is_none()
        };
        if is_mute()
            && let Some(victim) = &mut self.faults.descriptors
        {
            victim.until = 0;
        }
        self.undo(self.act)
    }

    /// Ends all faults.
    pub fn undo_all(&mut self) -> Held {
        if self.faults.faketime.is_some() {
            fs::write(&self.faults.clock, "+0\n").map_err(|error| error.to_string())?;
        }
        self.undo(u64::MAX)
    }

    fn undo(&mut self, now: u64) -> Held {
        if let Some((_, of)) = self.faults.disk.take_if(|(until, _)| *until <= now) {
            if of.contains(&"logs") {
                self.faults.loss_until = Some(Instant::now() + LOSS_LATER);
            }
            for name in of {
                let path = self.home.join(name).join("filler");
                fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let faults = &mut self.faults;
        if let Some(victim) = faults.descriptors.take_if(|victim| victim.until <= now) {
            faults.loss_until = Some(Instant::now() + LOSS_LATER);
            if victim.lives() {
                set_soft_limit(victim.pid, &victim.soft);
            }
        }
        let keeper = faults.keeper.take_if(|victim| victim.until <= now);
        let (over, rest) = faults.servers.drain(..).partition(|victim| victim.until <= now);
        faults.servers = rest;
        let over: Vec<Victim> = over;
        for victim in over.into_iter().chain(keeper).filter(Victim::lives) {
            signal(victim.pid, SIGCONT);
        }
        Ok(())
    }

    /// For acts that need the keeper.
    pub fn resume_keeper(&mut self) {
        if let Some(victim) = self.faults.keeper.take().filter(Victim::lives) {
            signal(victim.pid, SIGCONT);
        }
    }

    fn victim(&mut self, pid: i32, soft: String) -> Option<Victim> {
        let until = self.act + self.rng.range(1, 4);
        let start_ticks = stat(pid)?.start_ticks;
        Some(Victim { until, pid, start_ticks, soft })
    }
}

fn find_faketime() -> Option<PathBuf> {
    let dirs = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let inside = |dir: PathBuf| dir.join("faketime/libfaketime.so.1");
    dirs.chain([PathBuf::from("/usr/lib")]).map(inside).find(|path| path.exists())
}

/// Fills the tmpfs of `run/`, of `logs/`, or both, to the last byte.
pub fn fill_disk(world: &mut World) -> Held {
    if !world.faults.has_tmpfs || world.faults.disk.is_some() {
        return Ok(());
    }
    let of = world.rng.pick(&[&["run"] as &[&'static str], &["logs"], &["run", "logs"]]);
    for name in of {
        fill(&world.home.join(name).join("filler"))?;
    }
    world.say(&format!("  full: {of:?}"));
    let until = world.act + world.rng.range(1, 5);
    world.faults.disk = Some((until, of.to_vec()));
    Ok(())
}

fn fill(path: &Path) -> Held {
    let mut file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let block = vec![0; 1 << 20];
    for size in [block.len(), 4096, 1] {
        while file.write_all(block.get(..size).unwrap_or_default()).is_ok() {}
    }
    Ok(())
}

/// Somebody empties `run/` under the pair: it must build it again, and nobody else may get in.
pub fn empty_run_dir(world: &mut World) -> Held {
    world.undo_all()?;
    let entries = fs::read_dir(world.home.join("run")).map_err(|error| error.to_string())?;
    for path in entries.flatten().map(|entry| entry.path()) {
        // What was made again meanwhile may stay.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
    Ok(())
}

/// Lowers the active's limit of descriptors to about what it has.
pub fn take_descriptors(world: &mut World) -> Held {
    if world.faults.descriptors.is_some() {
        return Ok(());
    }
    let active = world.pid_of("active")?;
    let Some(next) = next_descriptor(active) else { return Ok(()) };
    let Some((soft, _)) = limits(active) else { return Ok(()) };
    let few = next + world.rng.below(6);
    if !set_soft_limit(active, &few.to_string()) {
        world.report.skip("descriptors: prlimit does not work");
        return Ok(());
    }
    world.say(&format!("  {few} for PID {active}"));
    world.faults.descriptors = world.victim(active, soft);
    Ok(())
}

/// Soft and hard limit of open files.
fn limits(pid: i32) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    let mut words = line.split_whitespace().skip(3).map(str::to_string);
    Some((words.next()?, words.next()?))
}

fn set_soft_limit(pid: i32, soft: &str) -> bool {
    let Some((_, hard)) = limits(pid) else { return false };
    let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={soft}:{hard}"));
    let status = Command::new("prlimit").args([pid, limit]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Another offset of the wall clock, as the pair sees it.
pub fn move_clock(world: &mut World) -> Held {
    if world.faults.faketime.is_none() {
        return Ok(());
    }
    let offset = world.rng.pick(&["+3600", "-3600", "+86400", "-86400", "-700000000", "+0", "-2"]);
    world.say(&format!("  by {offset} s"));
    // In one step: a reader must not find an empty file.
    let path = world.faults.clock.with_extension("new");
    fs::write(&path, format!("{offset}\n"))
        .and_then(|()| fs::rename(&path, &world.faults.clock))
        .map_err(|error| error.to_string())
}

/// Stops some servers' leaders; they go on later.
pub fn stop_servers(world: &mut World) -> Held {
    let rows = rows(&world.status()?);
    for _ in 0..world.rng.range(1, 4) {
        let at = world.rng.below(world.servers.len() as u64) as usize;
        let pid = rows.get(&world.servers[at].name).and_then(|row| row["pid"].as_i64());
        let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) else { continue };
        if let Some(victim) = world.victim(pid, String::new()) {
            signal(pid, SIGSTOP);
            world.faults.servers.push(victim);
        }
    }
    Ok(())
}

pub fn stop_keeper(world: &mut World) -> Held {
    if world.faults.keeper.is_some() {
        return Ok(());
    }
    let Some(keeper) = pid_in(&world.status()?, "keeper") else { return Ok(()) };
    let victim = world.victim(keeper, String::new());
    signal(keeper, SIGSTOP);
    world.faults.keeper = victim;
    Ok(())
}

/// The pair gets next to no processor time for a while.
pub fn starve(world: &mut World) -> Held {
    let pause = Duration::from_millis(world.rng.range(500, 3_000));
    let status = world.status()?;
    let pids: Vec<i32> =
        ["active", "standby", "keeper"].iter().filter_map(|role| pid_in(&status, role)).collect();
    match Quota::new(&world.node) {
        Some(quota) => {
            pids.iter().for_each(|pid| quota.add(*pid));
            std::thread::sleep(pause);
            quota.end()
        }
        None => {
            world.report.skip("processor: no cgroup v1 quota; busy threads instead");
            let end = Instant::now() + pause;
            let busy = || while Instant::now() < end {};
            std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(busy))));
            Ok(())
        }
    }
}

/// A cgroup v1 with a small quota.
struct Quota {
    dir: PathBuf,
    above: PathBuf,
}

impl Quota {
    fn new(name: &str) -> Option<Quota> {
        if !is_root() {
            return None;
        }
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let of = |line: &str| {
            let (head, path) = line.rsplit_once(':')?;
            let has_cpu = head.split([':', ',']).any(|controller| controller == "cpu");
            has_cpu.then(|| path.trim_start_matches('/').to_string())
        };
        let above = Path::new("/sys/fs/cgroup/cpu").join(own.lines().find_map(of)?);
        let dir = above.join(name);
        fs::create_dir_all(&dir).ok()?;
        let quota = Quota { dir, above };
        let is_set = fs::write(quota.dir.join("cpu.cfs_quota_us"), "2000").is_ok();
        if !is_set {
            let _ = quota.end();
            return None;
        }
        Some(quota)
    }

    fn add(&self, pid: i32) {
        // One that died meanwhile is not starved.
        let _ = fs::write(self.dir.join("cgroup.procs"), pid.to_string());
    }

    /// Moves everybody back, also those that were started meanwhile.
    fn end(&self) -> Held {
        let _ = fs::write(self.dir.join("cpu.cfs_quota_us"), "-1");
        wait_for("an empty cgroup", || {
            let pids = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let _ = fs::write(self.above.join("cgroup.procs"), pid);
            }
            fs::remove_dir(&self.dir).ok()
        })
    }
}
