//! What was told of a server, and what its record adds to that.
//!
//! Pure. One step of the core can take a server through several phases, and an active can die
//! between a fact and its event: so events come from what differs between the record and what was
//! told, and not from single steps. What was told is read from the history after a takeover.

use crate::config::units::signal_name;
use crate::core::record::{LastExit, Why};
use crate::core::restart::Policy;
use crate::core::server::exit_text;
use crate::core::time::Moment;
use crate::core::{Exit, Identity, Ms, Phase, ServerRecord, Wanted};
use crate::events::{Draft, Kind, Record};
use std::mem;

/// A process: its number and its start time; none has the number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Who {
    pid: i32,
    start_ticks: u64,
}

/// No process.
const NOBODY: Who = Who { pid: 0, start_ticks: 0 };

/// Where it is, as far as events tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Down,
    /// On its way up or down, or up.
    Between,
    Backoff,
    Failed,
    Exited,
}

/// What was told of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    stage: Stage,
    running: Who,
    ended: Who,
    unhealthy: Who,
    /// Its stop was told, and nothing has begun since.
    is_stopped: bool,
    failed: bool,
    failing: bool,
    /// Up until then, what was failing has recovered.
    pub recovers_at: Moment,
}

fn who(process: Identity) -> Who {
    Who { pid: process.pid, start_ticks: process.start_ticks }
}

fn stage(phase: &Phase) -> Stage {
    match phase {
        Phase::Down => Stage::Down,
        Phase::Backoff { .. } => Stage::Backoff,
        Phase::Failed => Stage::Failed,
        Phase::Exited => Stage::Exited,
        Phase::Queued
        | Phase::Preparing
        | Phase::Spawning { .. }
        | Phase::AtGate { .. }
        | Phase::Execing { .. }
        | Phase::Locking { .. }
        | Phase::Settling { .. }
        | Phase::Unready { .. }
        | Phase::Seeking { .. }
        | Phase::Up { .. }
        | Phase::Reaping { .. }
        | Phase::Stopping { .. }
        | Phase::Draining { .. }
        | Phase::Closing { .. }
        | Phase::Waiting { .. }
        | Phase::Verifying { .. } => Stage::Between,
    }
}

impl Seen {
    /// All that the record says counts as told.
    pub fn of(rec: &ServerRecord) -> Seen {
        Seen {
            stage: stage(&rec.phase),
            running: up(&rec.phase).map_or(NOBODY, who),
            ended: rec.last_exit.as_ref().map_or(NOBODY, |last| who(last.process)),
            is_stopped: rec.phase == Phase::Down,
            failed: rec.phase == Phase::Failed,
            ..Seen::default()
        }
    }

    /// Only that it has failed is remembered: it is a new life.
    pub fn in_new_life(self, rec: &ServerRecord) -> Seen {
        let ended = Seen::of(rec).ended;
        Seen { failed: self.failed, failing: self.failing, ended, ..Seen::default() }
    }

    /// The history says this of it, after all that it said before.
    pub fn learn(&mut self, record: &Record) {
        let process = || {
            let pid = record.number("pid").and_then(|pid| i32::try_from(pid).ok())?;
            Some(Who { pid, start_ticks: record.number("startTicks")? })
        };
        let is = |kind| record.is(kind);
        if is(Kind::ServerRunning) {
            // Its end comes later, or was not told.
            if Some(self.ended) == process() {
                self.ended = NOBODY;
            }
            let process = process().unwrap_or(NOBODY);
            (self.running, self.stage, self.is_stopped) = (process, Stage::Between, false);
        } else if is(Kind::ServerEnded) {
            (self.ended, self.stage) = (process().unwrap_or(NOBODY), Stage::Between);
        } else if is(Kind::ServerStopped) {
            self.ended = process().unwrap_or(self.ended);
            (self.stage, self.is_stopped) = (Stage::Down, true);
        } else if is(Kind::ServerUnhealthy) {
            self.unhealthy = process().unwrap_or(NOBODY);
        } else if is(Kind::ServerBackoff) {
            (self.stage, self.is_stopped) = (Stage::Backoff, false);
        } else if is(Kind::ServerFailing) {
            self.failing = true;
        } else if is(Kind::ServerFailed) {
            (self.stage, self.failed, self.is_stopped) = (Stage::Failed, true, false);
        } else if is(Kind::ServerExited) {
            (self.stage, self.is_stopped) = (Stage::Exited, false);
        } else if is(Kind::ServerRecovered) {
            (self.failed, self.failing) = (false, false);
        }
    }

    /// What the record says and was not told.
    pub fn compare(&mut self, rec: &ServerRecord, policy: &Policy, now: Ms) -> Vec<Draft> {
        let mut drafts = Vec::new();
        self.compare_health(rec, &mut drafts);
        self.compare_end(rec, &mut drafts);
        self.compare_up(rec, policy, &mut drafts);
        self.compare_stage(rec, policy, now, &mut drafts);
        drafts.into_iter().map(|draft| draft.of(&rec.name)).collect()
    }

    fn compare_health(&mut self, rec: &ServerRecord, drafts: &mut Vec<Draft>) {
        let Phase::Stopping { process, why: Why::Failing, .. } = rec.phase else { return };
        if mem::replace(&mut self.unhealthy, who(process)) == who(process) {
            return;
        }
        let reason = rec.reason_text();
        let draft = Draft::new(Kind::ServerUnhealthy, format!("not well, and ended: {reason}"));
        drafts.push(of_process(draft, process).with("reason", reason));
    }

    fn compare_end(&mut self, rec: &ServerRecord, drafts: &mut Vec<Draft>) {
        let Some(last) = &rec.last_exit else { return };
        if mem::replace(&mut self.ended, who(last.process)) == who(last.process) {
            return;
        }
        let exit = exit_text(last.exit);
        let (kind, why, text) = match why(rec) {
            Some(Why::Restart) => (Kind::ServerStopped, "restart", "stopped for a restart"),
            Some(Why::Need) => (Kind::ServerStopped, "need", "stopped: a server it needs ended"),
            Some(Why::Asked) => (Kind::ServerStopped, "asked", "stopped as asked"),
            Some(Why::Failing) => (Kind::ServerEnded, "unhealthy", "ended: it was not well"),
            _ => (Kind::ServerEnded, "itself", "ended by itself"),
        };
        self.is_stopped = kind == Kind::ServerStopped;
        let draft = Draft::new(kind, format!("{text}: {exit}")).with("why", why);
        drafts.push(of_exit(draft, last).with("ranMs", last.ran_ms));
    }

    fn compare_up(&mut self, rec: &ServerRecord, policy: &Policy, drafts: &mut Vec<Draft>) {
        let Some(process) = up(&rec.phase) else {
            self.recovers_at = Moment::NONE;
            return;
        };
        if self.failing {
            let since = rec.ready_at.get().or(rec.started_at.get()).unwrap_or(Ms(0));
            self.recovers_at = since.after(policy.reset_after_ms).into();
        }
        if mem::replace(&mut self.running, who(process)) == who(process) {
            return;
        }
        self.is_stopped = false;
        let draft = Draft::new(Kind::ServerRunning, format!("RUNNING, PID {}", process.pid));
        let draft = of_process(draft, process).with("startNumber", rec.start_number);
        drafts.push(draft.with("restarts", rec.restarts));
        if mem::take(&mut self.failed) && !self.failing {
            drafts.push(recovered("RUNNING again after it had been given up"));
        }
    }

    fn compare_stage(
        &mut self,
        rec: &ServerRecord,
        policy: &Policy,
        now: Ms,
        drafts: &mut Vec<Draft>,
    ) {
        let before = mem::replace(&mut self.stage, stage(&rec.phase));
        if before == self.stage {
            return;
        }
        if matches!(self.stage, Stage::Backoff | Stage::Failed | Stage::Exited) {
            self.is_stopped = false;
        }
        let reason = rec.reason_text();
        let failures = rec.failures.len();
        match &rec.phase {
            Phase::Backoff { until } => {
                let wait_ms = until.since(now);
                let text = format!("{reason}; the next try in {wait_ms} ms");
                let draft = Draft::new(Kind::ServerBackoff, text).with("reason", reason.as_str());
                drafts.push(draft.with("failCount", failures).with("nextTryMs", wait_ms));
                if failures > policy.tries as usize && !mem::replace(&mut self.failing, true) {
                    let tries = policy.tries;
                    let text =
                        format!("{reason}; {tries} tries are used up, it is tried on slowly");
                    let draft = Draft::new(Kind::ServerFailing, text).with("reason", reason);
                    drafts.push(draft.with("failCount", failures).with("tries", tries));
                }
            }
            Phase::Failed => {
                self.failed = true;
                let draft = Draft::new(Kind::ServerFailed, format!("FAILED: {reason}"));
                drafts.push(draft.with("reason", reason).with("failCount", failures));
            }
            Phase::Exited => {
                drafts.push(Draft::new(Kind::ServerExited, format!("EXITED: {reason}")));
                if mem::take(&mut self.failed) | mem::take(&mut self.failing) {
                    drafts.push(recovered("ended well after failures"));
                }
            }
            Phase::Down if !mem::replace(&mut self.is_stopped, true) => {
                let draft = Draft::new(Kind::ServerStopped, "STOPPED; no process of it was left");
                drafts.push(draft.with("why", "asked"));
            }
            _ => {}
        }
    }

    /// It has been up long enough, if it still is.
    pub fn recover(&mut self, rec: &ServerRecord, now: Ms) -> Option<Draft> {
        let at = self.recovers_at.get().filter(|at| *at <= now)?;
        self.recovers_at = Moment::NONE;
        up(&rec.phase)?;
        (self.failed, self.failing) = (false, false);
        let up_ms = now.since(rec.ready_at.get().unwrap_or(at));
        Some(recovered("stays up after failures").with("upMs", up_ms).of(&rec.name))
    }
}

fn recovered(text: &str) -> Draft {
    Draft::new(Kind::ServerRecovered, text)
}

fn up(phase: &Phase) -> Option<Identity> {
    match phase {
        Phase::Up { process } | Phase::Draining { process, .. } => Some(*process),
        _ => None,
    }
}

/// Why its process was ended.
fn why(rec: &ServerRecord) -> Option<Why> {
    match &rec.phase {
        Phase::Stopping { why, .. } | Phase::Closing { why } => Some(*why),
        Phase::Down if rec.wanted == Wanted::Down => Some(Why::Asked),
        _ => None,
    }
}

fn of_process(draft: Draft, process: Identity) -> Draft {
    draft.with("pid", process.pid).with("startTicks", process.start_ticks)
}

/// With how a process ended.
pub fn of_exit(draft: Draft, last: &LastExit) -> Draft {
    let draft = of_process(draft, last.process);
    match last.exit {
        Exit::Code(code) => draft.with("exit", "code").with("code", code),
        Exit::Signal(signal) => draft.with("exit", "signal").with("signal", signal_name(signal)),
        Exit::Unknown => draft.with("exit", "unknown"),
    }
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
