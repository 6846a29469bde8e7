//! One line on a terminal that says how far a long action is, rewritten once a second.
//!
//! Must not change what a command does or waits for: it asks for the status beside it, and silence
//! shows nothing.

use super::client::{Client, Patience};
use super::control::{Action, parse};
use super::printable;
use super::status::{narrow, text};
use crate::api::{Goal, STATUS_PATH, ServerStatus, State, Status};
use crate::core::Wanted;
use crate::sys::terminal_columns;
use jiff::Timestamp;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Before the first line, and between two.
const EVERY: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `starting`.
    pub what: &'static str,
    /// As they were given; empty: all.
    pub names: Vec<String>,
    pub goal: Reached,
}

/// When a server is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It runs, or ended well.
    Up,
    /// As that, by a process that was started since then.
    UpSince(Timestamp),
    /// It has a process.
    Alive,
    /// It has none.
    Down,
    /// Up or down, as it is wanted.
    AsWanted,
}

impl Plan {
    /// Of something that concerns every server.
    pub fn of_all(what: &'static str, goal: Reached) -> Plan {
        Plan { what, names: Vec::new(), goal }
    }

    /// Of a command; none for those that are done at once.
    pub fn of(action: &Action, names: &[String]) -> Option<Plan> {
        let (what, goal) = match action {
            Action::Start => ("starting", Reached::Up),
            Action::Restart => ("restarting", Reached::UpSince(Timestamp::now())),
            Action::Stop | Action::Kill => ("stopping", Reached::Down),
            Action::Drain => ("draining", Reached::Down),
            Action::Wait(Goal::Ready) => ("waiting", Reached::Up),
            Action::Wait(Goal::Up) => ("waiting", Reached::Alive),
            Action::Wait(Goal::Down) => ("waiting", Reached::Down),
            Action::Signal(_)
            | Action::Reset
            | Action::Reload
            | Action::Enable
            | Action::Disable => return None,
        };
        Some(Plan { what, names: names.to_vec(), goal })
    }

    /// `starting: 12 of 40; waits for web@2`.
    fn line(&self, status: &Status) -> String {
        let (done, left): (Vec<_>, Vec<_>) =
            status.servers.iter().partition(|one| self.is_through(one));
        let mut line = format!("{}: {} of {}", self.what, done.len(), status.servers.len());
        // What is on its way says more than what waits for it.
        let is_moving = |one: &&&ServerStatus| {
            matches!(one.state, State::Starting | State::Stopping | State::Draining)
        };
        if let Some(first) = left.iter().find(is_moving).or(left.first()) {
            line += &format!("; waits for {} ({})", printable(&first.name), first.state);
        }
        line
    }

    fn is_through(&self, server: &ServerStatus) -> bool {
        let is_up = matches!(server.state, State::Running | State::Exited);
        let started = || server.started_at.as_ref()?.parse::<Timestamp>().ok();
        match self.goal {
            Reached::Up => is_up,
            Reached::UpSince(since) => is_up && started().is_none_or(|at| at >= since),
            Reached::Alive => server.pid.is_some(),
            Reached::Down => server.pid.is_none(),
            Reached::AsWanted => match server.wanted {
                Wanted::Up => is_up || !server.enabled,
                Wanted::Down => server.pid.is_none(),
            },
        }
    }
}

/// Does `work`, and shows the progress of `plan` on standard error meanwhile.
pub fn during<T>(client: &Client, plan: Option<Plan>, work: impl FnOnce() -> T) -> T {
    let Some(plan) = plan else { return work() };
    let (done, is_done) = channel::<()>();
    let shown = Arc::new(Mutex::new(Shown::Nothing));
    let (of_thread, client) = (Arc::clone(&shown), client.clone().telling(|_| {}));
    // It ends with `done`, or a question later; the process does not wait for it.
    thread::spawn(move || show(&client, &plan, &is_done, &of_thread));
    let result = work();
    drop(done);
    let mut shown = locked(&shown);
    if *shown == Shown::Line {
        write_line("");
    }
    *shown = Shown::Over;
    result
}

/// What is on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Line,
    /// The result follows: nothing may come in between.
    Over,
}

fn locked(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn show(client: &Client, plan: &Plan, is_done: &Receiver<()>, shown: &Mutex<Shown>) {
    while is_done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let patience = Patience::Until(Instant::now() + EVERY);
        let Ok(response) = client.call("GET", STATUS_PATH, None, patience) else { continue };
        let Ok(mut status) = parse::<Status>(&response) else { continue };
        if narrow(&mut status, &plan.names).is_err() {
            return;
        }
        let mut shown = locked(shown);
        if *shown == Shown::Over {
            return;
        }
        let columns = terminal_columns().map(|columns| columns.saturating_sub(1));
        write_line(&text::cut(&plan.line(&status), Some(columns.unwrap_or(79))));
        *shown = Shown::Line;
    }
}

/// The cursor stays at the line's start, so that whatever comes next writes over it.
fn write_line(line: &str) {
    let mut err = io::stderr().lock();
    // Nobody needs it.
    let _ = write!(err, "\r\x1b[K{line}\r").and_then(|()| err.flush());
}

#[cfg(test)]
mod tests;
