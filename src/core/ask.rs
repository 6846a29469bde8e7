//! Requests of clients: done once however often they are asked, answered when they are through.
//!
//! Must not act on processes (`orders.rs` does). A request leaves a mark in the record of every
//! server it touches, in the same save as its effect; who asks again with the same id after a
//! takeover only waits for the result.

use super::plan::Kind;
use super::record::{Mark, Phase, TaskKind, Wanted};
use super::server::{Server, exit_text};
use super::{ClientId, ServerId};

/// How many requests a server remembers.
pub const MARKS_MAX: usize = 8;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Start,
    Stop,
    Kill,
    Restart,
    Reset,
    Signal(i32),
    /// The signal or command that makes it read its configuration again.
    Reload,
    /// A stop, once it has no work left.
    Drain,
    /// Answers what became of it: `Event::Disabled` came before.
    Enable,
    /// As `Enable`.
    Disable,
    /// Only waits until its process exists.
    WaitUp,
    /// Only waits until it is RUNNING.
    WaitReady,
    /// Only waits until its group is gone.
    WaitDown,
    /// Ends the pair; names no servers.
    Shutdown {
        stop_servers: bool,
        force: bool,
    },
    /// The other twin is to be the active; names no servers.
    Switch,
    /// Nothing is to be restarted by itself from now on, or it is again; names no servers.
    Maintenance {
        is_on: bool,
    },
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub client: ClientId,
    pub id: String,
    pub verb: Verb,
    pub servers: Vec<ServerId>,
    /// Answer when it is done; else as soon as it is on record.
    pub wait: bool,
    /// For a stop or a restart: what of those that need the servers?
    pub reach: Reach,
}

/// What a stop or a restart does with those that need the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It is refused when there are any that run and are not asked for too.
    #[default]
    Refuse,
    /// They are asked for too.
    Dependants,
    /// They are left as they are.
    Only,
}

/// What became of a request at one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    pub server: ServerId,
    pub result: Ended,
    pub text: String,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    Well,
    Badly,
    /// It may or may not have been done; nobody can know.
    MaybeSent,
    /// Not now: ask again.
    Later,
}

/// A client that waits for one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Goal {
    pub verb: Verb,
    /// The server's start number when it was asked for.
    pub since: u64,
    /// The request's id.
    pub id: String,
}

impl Server {
    /// The mark that a request with this id left.
    pub fn mark(&self, id: &str) -> Option<&Mark> {
        self.rec.marks.iter().find(|mark| mark.id == id)
    }

    /// Remembers a request; the oldest one is forgotten.
    pub fn add_mark(&mut self, id: &str, done: bool) {
        if self.rec.marks.len() >= MARKS_MAX {
            self.rec.marks.remove(0);
        }
        // A child that was asked for and is not there yet already fulfils a start or a restart.
        let is_owed = matches!(self.rec.phase, Phase::Spawning { .. });
        let start_number = self.rec.start_number - u64::from(is_owed);
        let failed = None;
        self.rec.marks.push(Mark { id: id.to_string(), start_number, done, failed });
    }

    /// The outcome of a goal, once there is one.
    pub fn outcome(&self, goal: &Goal) -> Option<Outcome> {
        match goal.verb {
            Verb::Start | Verb::Restart => self.outcome_of_start(goal),
            Verb::Stop | Verb::Kill => self.outcome_of_stop(),
            Verb::Drain => self.outcome_of_drain(),
            Verb::Reload if self.runs(TaskKind::Reload) => None,
            Verb::Reload => Some(self.outcome_of_reload(&goal.id)),
            Verb::Reset
            | Verb::Signal(_)
            | Verb::Enable
            | Verb::Disable
            | Verb::Shutdown { .. }
            | Verb::Switch
            | Verb::Maintenance { .. } => Some(self.well("done")),
            Verb::WaitUp => match &self.rec.phase {
                Phase::Settling { process, .. }
                | Phase::Unready { process, .. }
                | Phase::Draining { process, .. }
                | Phase::Up { process } => Some(self.well(&format!("PID {}", process.pid))),
                Phase::Failed => Some(self.badly(&self.failed_text())),
                _ => None,
            },
            Verb::WaitReady => match &self.rec.phase {
                Phase::Up { process } => Some(self.well(&format!("RUNNING, PID {}", process.pid))),
                // A oneshot is through when it has ended well.
                Phase::Exited if self.plan.kind == Kind::Oneshot => {
                    Some(self.well(&self.failed_text()))
                }
                Phase::Failed => Some(self.badly(&self.failed_text())),
                _ => None,
            },
            Verb::WaitDown => self.rec.phase.is_gone().then(|| self.well("down")),
        }
    }

    fn outcome_of_start(&self, goal: &Goal) -> Option<Outcome> {
        match &self.rec.phase {
            Phase::Up { process } if goal.verb == Verb::Start && self.rec.start_number == goal.since => {
                Some(self.well(&format!("already RUNNING, PID {}", process.pid)))
            }
            Phase::Up { process } if self.rec.start_number > goal.since => {
                Some(self.well(&format!("RUNNING, PID {}", process.pid)))
            }
            Phase::Exited => Some(self.well(&self.failed_text())),
            Phase::Failed | Phase::Backoff { .. } => Some(self.badly(&self.failed_text())),
            Phase::Down if self.rec.disabled => Some(self.badly(&self.disabled_text())),
            Phase::Down if self.rec.wanted == Wanted::Down => {
                Some(self.badly("stopped by another request"))
            }
            Phase::Waiting { pid, .. } => Some(self.badly(&format!(
                "not started: PID {pid} carries its mark and still lives; it is started when that ends"
            ))),
            // On its way.
            Phase::Down
            | Phase::Queued
            | Phase::Preparing
            | Phase::Up { .. }
            | Phase::Draining { .. }
            | Phase::Closing { .. }
            | Phase::Spawning { .. }
            | Phase::AtGate { .. }
            | Phase::Execing { .. }
            | Phase::Locking { .. }
            | Phase::Settling { .. }
            | Phase::Unready { .. }
            | Phase::Seeking { .. }
            | Phase::Reaping { .. }
            | Phase::Stopping { .. }
            | Phase::Verifying { .. } => None,
        }
    }

    fn outcome_of_stop(&self) -> Option<Outcome> {
        if self.rec.wanted == Wanted::Up {
            return Some(self.badly("started again by another request"));
        }
        if let Phase::Waiting { pid, .. } = self.rec.phase {
            let text = format!("not started, but PID {pid} carries its mark and still lives");
            return Some(self.badly(&text));
        }
        // Who reaped it tells a moment later how it ended.
        if self.status_due.is_some() {
            return None;
        }
        self.rec.phase.is_gone().then(|| match &self.rec.last_exit {
            Some(last) => self.well(&format!("STOPPED ({})", exit_text(last.exit))),
            None => self.well("STOPPED"),
        })
    }

    fn outcome_of_drain(&self) -> Option<Outcome> {
        match (&self.rec.phase, &self.rec.reason) {
            (Phase::Up { .. }, Some(reason)) if self.rec.wanted == Wanted::Up => {
                Some(self.badly(&format!("{reason}; it goes on running")))
            }
            _ => self.outcome_of_stop(),
        }
    }

    /// What became of a reload command that runs no more.
    pub fn outcome_of_reload(&self, id: &str) -> Outcome {
        match self.mark(id) {
            Some(Mark { failed: Some(failed), .. }) => self.badly(failed),
            Some(Mark { done: true, .. }) => self.well("its reload command ended well"),
            _ => {
                let text = "may have been run: the active died in between";
                self.outcome_now(Ended::MaybeSent, text)
            }
        }
    }

    /// What a start of a disabled server is told.
    pub fn disabled_text(&self) -> String {
        format!("disabled, so nothing starts it; `nodemanager enable --now {}`", self.rec.name)
    }

    /// What a request to enable or disable it is told.
    pub fn outcome_of_enabling(&self, is_enabled: bool) -> Outcome {
        if self.rec.disabled == is_enabled {
            let text =
                "the list of disabled servers was changed by somebody else at once; see the log";
            return self.badly(text);
        }
        match (is_enabled, self.rec.phase.process()) {
            (true, _) => self.well("enabled"),
            (false, None) => self.well("disabled"),
            (false, Some(process)) => {
                self.well(&format!("disabled; PID {} runs on until it ends", process.pid))
            }
        }
    }

    fn failed_text(&self) -> String {
        let ran = self.rec.last_exit.as_ref().map(|last| format!(" after {} ms", last.ran_ms));
        let reason = self.rec.reason.as_deref().unwrap_or("no reason on record");
        format!("{reason}{}", ran.unwrap_or_default())
    }

    /// An outcome that is none of the waiting kind.
    pub fn outcome_now(&self, result: Ended, text: &str) -> Outcome {
        Outcome { server: self.id, result, text: text.to_string() }
    }

    fn well(&self, text: &str) -> Outcome {
        self.outcome_now(Ended::Well, text)
    }

    fn badly(&self, text: &str) -> Outcome {
        self.outcome_now(Ended::Badly, text)
    }
}
