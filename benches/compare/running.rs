//! One supervisor with its servers: start, who is up, deaths, the end.
//!
//! Must take nobody's word for a start or a death: starts are marks that the servers write, deaths
//! are what pidfds say.

use super::marks::{Mark, Marks, now_ns};
use super::peers::{Kind, Wanted};
use super::place::{self, Root};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nodemanager::sys::pidfd;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(1);

pub struct Running<'a> {
    pub kind: Kind,
    pub root: &'a Root,
    pub dir: PathBuf,
    pub marks: Marks,
    pub child: Child,
    /// When the supervisor was started (CLOCK_MONOTONIC, nanoseconds).
    pub started_ns: u64,
    /// The last mark of each server that is up.
    pub up: Vec<Mark>,
    /// What is not reached in this time gets no figure.
    pub limit: Duration,
    wanted: Wanted,
}

impl<'a> Running<'a> {
    /// Starts it and waits until all servers are up.
    ///
    /// # Errors
    /// It says how far the supervisor came within the limit, and what it said last.
    pub fn start(kind: Kind, root: &'a Root, wanted: Wanted) -> io::Result<Running<'a>> {
        // Not the kind's name alone: several may run at the same time.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = root.dir.join(format!("{}-{number}", kind.name()));
        let mut command = kind.prepare(root, &dir, wanted)?;
        let marks = Marks::new(&dir)?;
        let started_ns = now_ns();
        let child = spawn(&mut command)?;
        let (up, limit) = (Vec::new(), root.limit);
        let mut running = Running { kind, root, dir, marks, child, started_ns, up, limit, wanted };
        running.up = running.marks.wait(wanted.servers, limit);
        match running.up.len() {
            all if all == wanted.servers => Ok(running),
            0 => Err(io::Error::other(format!("none started: {}", running.said()))),
            fewer => {
                Err(io::Error::other(format!("{fewer} up after {} s", running.limit.as_secs())))
            }
        }
    }

    /// Starts the main process once more, as its init would.
    pub fn start_again(&mut self) -> io::Result<()> {
        let mut command = self.kind.prepare(self.root, &self.dir, self.wanted)?;
        let _ = self.child.wait();
        self.child = spawn(&mut command)?;
        Ok(())
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(self.dir.join("said")).unwrap_or_default();
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing").chars().take(200).collect()
    }

    pub fn main_pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// All processes of the supervisor.
    pub fn supervisors(&self) -> Vec<i32> {
        let server = self.root.server();
        let all = place::processes(&self.dir).into_iter();
        all.filter(|pid| !place::is_server(*pid, &server)).collect()
    }

    /// All processes of servers.
    pub fn servers(&self) -> Vec<i32> {
        let server = self.root.server();
        let all = place::processes(&self.dir).into_iter();
        all.filter(|pid| place::is_server(*pid, &server)).collect()
    }

    /// Time from the command until the last server is dead: milliseconds, or how many are up.
    pub fn stop(&mut self) -> Result<f64, String> {
        let deaths: Vec<OwnedFd> =
            self.up.iter().filter_map(|mark| pidfd::open(mark.pid).ok()).collect();
        let asked_ns = now_ns();
        let mut stopping = None;
        match (self.kind.stop_command(self.root, &self.dir), self.kind) {
            (Some(mut command), _) => stopping = command.spawn().ok(),
            (None, Kind::Runit) => place::send(self.main_pid(), Signal::SIGHUP),
            (None, _) => place::send(self.main_pid(), Signal::SIGTERM),
        }
        let end = Instant::now() + self.limit;
        let mut alive = 0;
        for death in &deaths {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(death.as_fd(), PollFlags::POLLIN)];
            alive += usize::from(poll(&mut polled, left) != Ok(1));
        }
        let took = super::marks::ms_between(asked_ns, now_ns());
        if let Some(mut stopping) = stopping {
            let _ = stopping.kill();
            let _ = stopping.wait();
        }
        match alive {
            0 => Ok(took),
            _ => Err(format!("{alive} up after {} s", self.limit.as_secs())),
        }
    }
}

/// In a process group of its own: Ctrl-C at the terminal is the bench's alone.
fn spawn(command: &mut Command) -> io::Result<Child> {
    command.process_group(0).spawn()
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        place::clean(&self.dir);
        let _ = self.child.wait();
    }
}
