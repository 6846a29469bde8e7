//! What is seen of the machine from outside: processes, the pulse, the lock, an answer.
//!
//! Must not ask the node manager's own functions about servers: /proc is read here once more.

use crate::{Held, has_tool, say};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use nodemanager::sys::pulse::{Pulse, Role, Slot};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Long, because the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Set when the program has its own mounts already.
const HAS_MOUNTS: &str = "NM_CHAOS_HAS_MOUNTS";

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    pub start_ticks: u64,
    pub is_zombie: bool,
    /// The server whose mark it carries.
    pub server: Option<String>,
    /// The node manager's command that it runs with this configuration: `run`, `active` ...
    pub role: Option<String>,
}

/// As root, runs this program again with mounts of its own, so that none can be left behind. None:
/// go on.
pub fn in_own_mounts() -> Option<ExitCode> {
    if std::env::var_os(HAS_MOUNTS).is_some() || !is_root() || !has_tool("unshare") {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "--"]).arg(own).args(std::env::args().skip(1));
    let error = command.env(HAS_MOUNTS, "1").exec();
    say(&format!("cannot run unshare: {error}"));
    Some(ExitCode::FAILURE)
}

/// Whether a tmpfs can be mounted without harm to others.
pub fn has_own_mounts() -> bool {
    std::env::var_os(HAS_MOUNTS).is_some()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Waits until `holds` gives something.
pub fn wait_for<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> Held<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = holds() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: Signal) {
    if pid > 1 {
        // One that is gone is what many acts want.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Whether a process lives (a zombie does not).
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|seen| !seen.is_zombie)
}

/// Parent, session, start and state of a process.
pub fn stat(pid: i32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        server: None,
        role: None,
    })
}

/// All processes of the pair: those with a mark, those with its configuration, and every zombie.
pub fn processes(node: &str, config: &Path) -> Vec<Process> {
    let mark = format!("NM_SERVER={node}/");
    let entries = fs::read_dir("/proc").map(|dir| dir.flatten().collect::<Vec<_>>());
    let pids = entries.unwrap_or_default().into_iter();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| seen(pid, &mark, config))
        .collect()
}

fn seen(pid: i32, mark: &str, config: &Path) -> Option<Process> {
    let mut process = stat(pid)?;
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let environ = String::from_utf8_lossy(&read("environ")).into_owned();
    let server = environ.split('\0').find_map(|entry| entry.strip_prefix(mark));
    process.server = server.and_then(|rest| Some(rest.rsplit_once('/')?.0.to_string()));
    if process.server.is_none() {
        let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let words: Vec<&str> = words.split('\0').collect();
        let config = config.to_str()?;
        let is_twin = words.contains(&config) && words[0].contains("nodemanager");
        process.role = is_twin.then(|| words.get(1).copied().unwrap_or_default().to_string());
    }
    (process.is_zombie || process.server.is_some() || process.role.is_some()).then_some(process)
}

/// Reaps the zombies among the orphans that landed here. Called while no command runs.
pub fn reap(processes: &[Process]) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for process in processes.iter().filter(|one| one.is_zombie && one.parent == own) {
        let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// The processes that say in the pulse that they serve, and live.
pub fn serving(pair: &[Process]) -> Vec<i32> {
    let mut all = Vec::new();
    for pulse in pair.iter().filter(|one| one.role.is_some()).filter_map(|one| pulse_of(one.pid)) {
        let seen = [Slot::TwinA, Slot::TwinB].map(|slot| pulse.read(slot));
        let lives =
            |pid, ticks| stat(pid).is_some_and(|one| !one.is_zombie && one.start_ticks == ticks);
        let serving = seen.iter().filter(|one| one.role == Role::Serving);
        all.extend(serving.filter(|one| lives(one.pid, one.start_ticks)).map(|one| one.pid));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn pulse_of(pid: i32) -> Option<Pulse> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let is_pulse = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("nodemanager-pulse"))
    };
    let path = fds.flatten().map(|entry| entry.path()).find(is_pulse)?;
    let file = File::options().read(true).write(true).open(path).ok()?;
    Pulse::from_fd(file.into()).ok()
}

/// The number that a process's next descriptor would get: with a limit that low it gets none.
pub fn next_descriptor(pid: i32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let open: Vec<u64> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !open.contains(number))
}

/// One `GET /v1/status`, asked once, with this limit on every step.
pub fn ask_status(home: &Path, limit: Duration) -> Option<Value> {
    let mut stream = UnixStream::connect(home.join("run/control.sock")).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let head = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
}

/// The PID of a role in a status.
pub fn pid_in(status: &Value, role: &str) -> Option<i32> {
    status[role]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

/// The rows of a status by name.
pub fn rows(status: &Value) -> BTreeMap<String, Value> {
    let rows = status["servers"].as_array().cloned().unwrap_or_default();
    rows.into_iter().filter_map(|row| Some((row["name"].as_str()?.to_string(), row))).collect()
}
