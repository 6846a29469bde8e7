//! What only this project has: the active is killed, or stands still, and the standby takes over.
//!
//! Must measure from outside: a client of the control socket, and the marks of servers.

use super::client::{ask, poll_for};
use super::marks::{ms_between, now_ns};
use super::measure::victim;
use super::peers::{Kind, Wanted};
use super::place::{self, Root};
use super::running::Running;
use super::support::LIMIT;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What is done to the active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// SIGKILL, with servers whose output goes nowhere, as in all other measurements.
    Kill,
    /// SIGKILL, with servers whose output goes to log files, as it does by default.
    KillPiped,
    /// SIGSTOP, with a heartbeatTimeout of 500 ms.
    Hang,
}

impl Case {
    pub fn name(self) -> &'static str {
        match self {
            Case::Kill => "SIGKILL",
            Case::KillPiped => "SIGKILL, `output.to = \"pipe\"`",
            Case::Hang => "SIGSTOP, with heartbeatTimeout = 500 ms, each in another pair",
        }
    }
}

/// Times in milliseconds, from the signal to the active.
pub struct Takeovers {
    pub servers: usize,
    pub case: Case,
    /// Until a request was answered.
    pub answered: Vec<f64>,
    /// Until the first act of the successor of a server that was killed at the same time.
    pub restarted: Vec<f64>,
    /// Servers that died without having been killed by the bench, over all rounds.
    pub harmed: usize,
    /// Of the three processes, at rest after the last takeover.
    pub pss_kib: u64,
}

/// `rest`: how long nothing happens before memory is looked at.
///
/// # Errors
/// The pair does not start, or one of the conditions did not come true within the limit.
pub fn takeovers(
    root: &Root,
    servers: usize,
    case: Case,
    (rounds, rest): (usize, Duration),
) -> io::Result<Takeovers> {
    if case != Case::Hang {
        return of_one_pair(root, servers, case, (rounds, rest));
    }
    // Each hang within ten minutes doubles the time after which the next one is concluded.
    let mut all = of_one_pair(root, servers, case, (1, rest))?;
    for _ in 1..rounds {
        let next = of_one_pair(root, servers, case, (1, rest))?;
        all.answered.extend(next.answered);
        all.restarted.extend(next.restarted);
        all.harmed += next.harmed;
        all.pss_kib = all.pss_kib.max(next.pss_kib);
    }
    Ok(all)
}

fn of_one_pair(
    root: &Root,
    servers: usize,
    case: Case,
    (rounds, rest): (usize, Duration),
) -> io::Result<Takeovers> {
    let (piped, is_hang) = (case == Case::KillPiped, case == Case::Hang);
    let wanted = Wanted { servers, lines: false, piped, short_heartbeat: is_hang };
    let mut running = Running::start(Kind::Own, root, wanted)?;
    let socket = running.dir.join("run/control.sock");
    let (mut answered, mut restarted) = (Vec::new(), Vec::new());
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let number = if is_hang { Signal::SIGSTOP } else { Signal::SIGKILL };
    for _ in 0..rounds {
        let active = active_of_a_whole_pair(&socket)?;
        // What a fresh standby leaves to do is done by then.
        std::thread::sleep(Duration::from_millis(200));
        let at = victim(&running.up, &mut random);
        let begun_ns = now_ns();
        place::send(active, number);
        place::send(running.up[at].pid, Signal::SIGKILL);
        poll_for("an answer", Duration::ZERO, || ask(&socket, "/v1/ping").ok())?;
        answered.push(ms_between(begun_ns, now_ns()));
        let Some(mark) = running.marks.wait(1, LIMIT).first().copied() else {
            return Err(io::Error::other("the server that was killed did not come back"));
        };
        running.up[at] = mark;
        restarted.push(ms_between(begun_ns, mark.at_ns));
    }
    active_of_a_whole_pair(&socket)?;
    let alive = running.servers();
    let harmed = running.up.iter().filter(|mark| !alive.contains(&mark.pid)).count();
    std::thread::sleep(rest);
    let pss_kib = place::pss_kib(&running.supervisors());
    Ok(Takeovers { servers, case, answered, restarted, harmed, pss_kib })
}

/// Waits until active, WATCHING standby and keeper are there.
fn active_of_a_whole_pair(socket: &Path) -> io::Result<i32> {
    poll_for("a whole pair", Duration::from_millis(20), || {
        let text = ask(socket, "/v1/status").ok()?;
        let status: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1)?).ok()?;
        let pid = status["active"]["pid"].as_i64().filter(|_| status["pair"] == "ok")?;
        i32::try_from(pid).ok()
    })
}
