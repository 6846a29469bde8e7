//! What becomes of the servers when their supervisor gets SIGKILL, tried for each of them.
//!
//! Must not judge: it tells what it saw, in the same words for everybody.

use super::peers::{Kind, Wanted};
use super::place::{self, Root};
use super::running::Running;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

const SERVERS: usize = 3;
/// Long enough for every throttle and poll interval.
const WAIT: Duration = Duration::from_secs(4);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The process that was started first.
    Main,
    /// The process over one server, for supervisors that have one each.
    OfOneServer,
    /// The active.
    Active,
    /// Keeper, active and standby at the same moment.
    All,
}

/// One row: who was killed, and what was seen.
pub struct Seen {
    pub who: String,
    pub cells: Vec<String>,
}

pub const COLUMNS: [&str; 6] = [
    "servers alive 4 s after the kill",
    "supervisor back by itself",
    "main process started again by the bench",
    "processes of the 3 servers after that",
    "output of the first 3",
    "one of the first 3 gets kill -9 then",
];

pub fn victims(kind: Kind) -> &'static [Victim] {
    match kind {
        Kind::Bare => &[],
        Kind::Own => &[Victim::Active, Victim::Main, Victim::All],
        Kind::Runit | Kind::S6 => &[Victim::Main, Victim::OfOneServer],
        _ => &[Victim::Main],
    }
}

pub fn look(kind: Kind, victim: Victim, root: &Root) -> Seen {
    let who = match (kind, victim) {
        (Kind::Own, Victim::Main) => "nodemanager: keeper".to_owned(),
        (Kind::Own, Victim::Active) => "nodemanager: active".to_owned(),
        (_, Victim::All) => "nodemanager: keeper, active and standby at once".to_owned(),
        (Kind::Runit, Victim::Main) => "runit: runsvdir".to_owned(),
        (Kind::Runit, _) => "runit: runsv of one server".to_owned(),
        (Kind::S6, Victim::Main) => "s6: s6-svscan".to_owned(),
        (Kind::S6, _) => "s6: s6-supervise of one server".to_owned(),
        _ => kind.name().to_owned(),
    };
    let cells = match kind.path(root) {
        None => Err(io::Error::other("not installed (`-- --install`)")),
        Some(_) => seen(kind, victim, root),
    };
    Seen { who, cells: cells.unwrap_or_else(|error| vec![error.to_string()]) }
}

fn seen(kind: Kind, victim: Victim, root: &Root) -> io::Result<Vec<String>> {
    let wanted = Wanted { servers: SERVERS, lines: true, piped: true, short_heartbeat: false };
    let mut running = Running::start(kind, root, wanted)?;
    // Older than every throttle.
    std::thread::sleep(WAIT / 2);
    let first: Vec<i32> = running.up.iter().map(|mark| mark.pid).collect();
    let killed = pids_of(&running, victim);
    let before = running.supervisors().len();
    killed.iter().for_each(|pid| place::send(*pid, Signal::SIGKILL));
    std::thread::sleep(WAIT);
    let alive = alive_of(&running, &first);
    let is_main_dead = killed.contains(&running.main_pid());
    let is_back = running.supervisors().len() >= before;
    let is_started_again = is_main_dead && !is_back;
    if is_started_again {
        running.start_again()?;
    }
    std::thread::sleep(WAIT);
    let servers = after(&mut running, &first);
    let output = output(kind, &running.dir.join("out"), &first, alive_of(&running, &first));
    Ok(vec![
        format!("{alive} of {SERVERS}"),
        yes(is_back),
        yes(is_started_again),
        servers,
        output,
        killed_later(&mut running, &first),
    ])
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn alive_of(running: &Running, first: &[i32]) -> usize {
    let alive = running.servers();
    first.iter().filter(|pid| alive.contains(pid)).count()
}

fn pids_of(running: &Running, victim: Victim) -> Vec<i32> {
    let main = running.main_pid();
    let first = running.up.first().map(|mark| mark.pid).unwrap_or_default();
    match victim {
        Victim::Main => vec![main],
        // The servers' parent.
        Victim::OfOneServer | Victim::Active => vec![place::parent(first)],
        Victim::All => running.supervisors(),
    }
}

/// How many processes the servers have now.
fn after(running: &mut Running, first: &[i32]) -> String {
    let new = running.marks.take().len();
    let (now, old) = (running.servers().len(), alive_of(running, first));
    format!("{now} ({old} of the first, {new} starts since)")
}

/// Is a server that outlived the supervisor still looked after?
fn killed_later(running: &mut Running, first: &[i32]) -> String {
    let servers = running.servers();
    let Some(old) = first.iter().find(|pid| servers.contains(pid)) else {
        return "none is left".to_owned();
    };
    place::send(*old, Signal::SIGKILL);
    match running.marks.wait(1, WAIT).len() {
        0 => "not restarted".to_owned(),
        _ => "restarted".to_owned(),
    }
}

/// Whether the lines of the first servers still come to the files, and whether some are missing.
fn output(kind: Kind, out: &Path, first: &[i32], alive: usize) -> String {
    if kind == Kind::Monit {
        return "not its matter".to_owned();
    }
    let before = lines(out);
    std::thread::sleep(WAIT / 4);
    let now = lines(out);
    let last = |lines: &BTreeMap<i32, Vec<u64>>, pid: &i32| {
        lines.get(pid).and_then(|numbers| numbers.iter().max().copied()).unwrap_or_default()
    };
    let arrives = first.iter().filter(|pid| last(&now, pid) > last(&before, pid)).count();
    let missing: u64 = first
        .iter()
        .map(|pid| {
            let count = now.get(pid).map_or(0, Vec::len) as u64;
            let next = last(&now, pid) + u64::from(count > 0);
            next.saturating_sub(count)
        })
        .sum();
    format!("arrives from {arrives} of {alive} alive; {missing} lines missing between")
}

/// The numbers of the lines of each PID in all files below.
fn lines(out: &Path) -> BTreeMap<i32, Vec<u64>> {
    let mut found: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = fs::read(entry.path()).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                let mut words = line.split(' ').map(str::parse::<u64>);
                if let (Some(Ok(pid)), Some(Ok(number)), None) =
                    (words.next(), words.next(), words.next())
                {
                    let pid = i32::try_from(pid).unwrap_or_default();
                    found.entry(pid).or_default().push(number);
                }
            }
        }
    }
    found
}
