//! The figures of one supervisor with a number of servers.
//!
//! Must assert nothing about times: what was not reached within the limit is a text instead.

use super::marks::{Mark, ms_between, now_ns, quantile};
use super::peers::{Kind, Wanted};
use super::place::{self, Root};
use super::running::Running;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub crashes: usize,
    /// What the start leaves to do is done by then.
    pub rest: Duration,
    pub idle: Duration,
    /// Crashes end after that, however few there were.
    pub crashes_limit: Duration,
}

/// After a mark, so that nothing of the start is left to do.
const PAUSE: Duration = Duration::from_millis(30);
/// runsv and s6-supervise restart at once what was up for a second; a server that is killed is
/// older than that, where there are enough of them.
const AGE_NS: u64 = 1_200_000_000;

/// A time in milliseconds, or why there is none.
pub type Time = Result<f64, String>;

#[derive(Clone, Debug)]
pub struct Figures {
    pub kind: Kind,
    pub servers: usize,
    pub start: Time,
    pub restart_p50: Time,
    pub restart_p99: Time,
    /// How many crashes these two are of.
    pub crashes: usize,
    pub storm: Time,
    pub stop: Time,
    pub pss_kib: f64,
    /// Milliseconds of a processor in a second.
    pub idle_cpu: f64,
    /// In a second.
    pub wake_ups: f64,
}

impl Figures {
    fn none(kind: Kind, servers: usize, why: &str) -> Figures {
        let none = || Err(why.to_owned());
        let (restart_p50, restart_p99) = (Err(String::new()), Err(String::new()));
        let (pss_kib, idle_cpu, wake_ups) = (f64::NAN, f64::NAN, f64::NAN);
        let (storm, stop) = (Err(String::new()), Err(String::new()));
        Figures {
            kind,
            servers,
            start: none(),
            restart_p50,
            restart_p99,
            crashes: 0,
            storm,
            stop,
            pss_kib,
            idle_cpu,
            wake_ups,
        }
    }
}

pub fn measure(kind: Kind, root: &Root, servers: usize, effort: Effort) -> Figures {
    if kind.path(root).is_none() {
        return Figures::none(kind, servers, "not installed (`-- --install`)");
    }
    let wanted = Wanted { servers, lines: false, piped: false, short_heartbeat: false };
    let mut running = match Running::start(kind, root, wanted) {
        Ok(running) => running,
        Err(error) => return Figures::none(kind, servers, &error.to_string()),
    };
    let last = running.up.iter().map(|mark| mark.at_ns).max().unwrap_or_default();
    let mut figures = Figures::none(kind, servers, "");
    figures.start = Ok(ms_between(running.started_ns, last));
    std::thread::sleep(effort.rest);
    idle(&running, effort.idle, &mut figures);
    let times = crashes(&mut running, effort);
    figures.crashes = times.as_ref().map_or(0, Vec::len);
    figures.restart_p50 = times.as_ref().map(|times| quantile(times, 50)).map_err(String::clone);
    figures.restart_p99 = times.map(|times| quantile(&times, 99));
    if figures.restart_p50.is_ok() {
        figures.storm = storm(&mut running);
    }
    if figures.storm.is_ok() {
        wait_for_age(&running.up);
        figures.stop = running.stop();
    }
    figures
}

fn idle(running: &Running, time: Duration, figures: &mut Figures) {
    let pids = running.supervisors();
    figures.pss_kib = place::pss_kib(&pids) as f64;
    let (cpu_before, wakes_before) = place::used(&pids);
    let from = Instant::now();
    std::thread::sleep(time);
    let (cpu, wakes) = place::used(&pids);
    let seconds = from.elapsed().as_secs_f64();
    figures.idle_cpu = cpu.saturating_sub(cpu_before) as f64 / 1e6 / seconds;
    figures.wake_ups = wakes.saturating_sub(wakes_before) as f64 / seconds;
}

/// Kills servers at random, one after the other: SIGKILL until the first act of the next one.
fn crashes(running: &mut Running, effort: Effort) -> Result<Vec<f64>, String> {
    let mut random = 0x2545_f491_4f6c_dd1d;
    let (mut times, begun) = (Vec::new(), Instant::now());
    while times.len() < effort.crashes
        && (begun.elapsed() < effort.crashes_limit || times.is_empty())
    {
        std::thread::sleep(PAUSE);
        let at = victim(&running.up, &mut random);
        let killed_ns = now_ns();
        place::send(running.up[at].pid, Signal::SIGKILL);
        let Some(mark) = running.marks.wait(1, running.limit).first().copied() else {
            return Err(format!("no restart within {} s", running.limit.as_secs()));
        };
        running.up[at] = mark;
        times.push(ms_between(killed_ns, mark.at_ns));
    }
    Ok(times)
}

/// One at random that is up for long enough; the oldest, when none is.
pub fn victim(up: &[Mark], random: &mut u64) -> usize {
    let now = now_ns();
    let is_old = |at: &usize| now.saturating_sub(up[*at].at_ns) > AGE_NS;
    let old: Vec<usize> = (0..up.len()).filter(is_old).collect();
    // xorshift; the same servers in every run
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let any = usize::try_from(*random % (1 << 31)).unwrap_or_default();
    match old.len() {
        0 => (0..up.len()).min_by_key(|at| up[*at].at_ns).unwrap_or_default(),
        count => old[any % count],
    }
}

fn wait_for_age(up: &[Mark]) {
    let youngest = up.iter().map(|mark| mark.at_ns).max().unwrap_or_default();
    let left = (youngest + AGE_NS).saturating_sub(now_ns());
    std::thread::sleep(Duration::from_nanos(left));
}

/// All servers are killed at once, until the first act of the last one that is back.
fn storm(running: &mut Running) -> Time {
    wait_for_age(&running.up);
    let killed_ns = now_ns();
    running.up.iter().for_each(|mark| place::send(mark.pid, Signal::SIGKILL));
    let wanted = running.up.len();
    running.up = running.marks.wait(wanted, running.limit);
    match running.up.len() {
        all if all >= wanted => {
            let last = running.up.iter().map(|mark| mark.at_ns).max().unwrap_or_default();
            Ok(ms_between(killed_ns, last))
        }
        fewer => Err(format!("{fewer} back after {} s", running.limit.as_secs())),
    }
}
