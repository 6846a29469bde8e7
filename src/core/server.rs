//! The life of one server.
//!
//! Must not know about the pair or other servers. Where it is (`Phase`) and what is wanted
//! (`Wanted`) are two fields; the process is inside the phase, and every phase that waits has a
//! deadline. The way of a server:
//!
//! * Down, Backoff, Exited, Failed -> Queued -> Spawning: only from these, for only in these is
//!   the previous copy proven gone (its leader dead, its group without a living member). The node
//!   admits who is queued, in the same step when nothing is in its way.
//! * Spawning -> AtGate: the child is there; its identity goes on record.
//!   With a preStart hook there is Preparing in between, without a process.
//! * AtGate -> Execing: the record is safe, the gate opens. Never the other way round.
//! * Execing -> Settling or Unready -> Up: exec succeeded; it did not end early, or showed that it
//!   is ready.
//! * Execing -> Locking -> Settling or Unready: before its exec the child had to wait for a lock.
//! * Up -> Draining -> Stopping: it is stopped once it has no work left.
//! * any of these -> Stopping: asked for, or the leader is dead and what it left is cleared away.
//!   `Reaping` comes first when the status of a leader that was not our child is still unknown.
//! * Stopping -> Down, Queued, Backoff, Exited or Failed: the group is empty. With a hook that belongs
//!   to its end there is Closing in between.
//! * Verifying: a new active looks at the process on record before anything else is done to it.

use super::checks::Checks;
use super::rare::Rare;
use super::record::{Exit, Identity, Phase, ServerRecord, TaskKind, Wanted};
use super::task::TaskRun;
use super::time::{Moment, Ms};
use super::{Action, Name, Note, Scope, ServerId, ServerPlan};

/// A fork that gave no answer for so long is asked for again; a late child is discarded.
pub const SPAWN_TIMEOUT_MS: u64 = 10_000;
/// How often a record that could not be written is tried again while the child waits.
pub const GATE_RETRY_MS: u64 = 1_000;
/// An exec that takes longer (a dead file server) is reported, and waited for.
pub const EXEC_SLOW_MS: u64 = 10_000;
/// How long a restart that depends on the exit status waits for it.
pub const STATUS_WAIT_MS: u64 = 500;
/// How often what SIGKILL has not ended yet is killed and counted again.
pub const KILL_AGAIN_MS: u64 = 1_000;
/// How often a process that could not be told apart is looked at again.
pub const VERIFY_AGAIN_MS: u64 = 1_000;
/// How often strays are looked for again.
pub const STRAYS_AGAIN_MS: u64 = 1_000;
/// So long the answer to a stop waits for an exit status that comes on another way.
pub const STOP_STATUS_WAIT_MS: u64 = 500;
/// A fork that was refused is tried again after this.
pub const FORK_RETRY_MS: u64 = 1_000;

const SIGKILL: i32 = 9;

/// One server: its plan and its record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub id: ServerId,
    pub plan: ServerPlan,
    pub rec: Box<ServerRecord>,
    /// Not on record.
    pub checks: Rare<Checks>,
    /// How it ended is still asked for; a stop is answered without it then. Not on record.
    pub status_due: Moment,
    /// Not on record.
    pub task_run: Rare<TaskRun>,
    /// Nothing is done by itself; the pair's record says so.
    pub maintenance: bool,
}

/// What a server wants done. `Save` is turned into an entry with its number by the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Do(Action),
    Save,
    /// Save, and tell the gate.
    SaveForGate,
    /// Save, and tell the gate of the task with this number.
    SaveForTask(u64),
}

/// The steps of one server, in order.
pub type Steps = Vec<Step>;

impl Phase {
    /// The process that is, or may be, alive.
    pub fn process(&self) -> Option<Identity> {
        match self {
            Phase::AtGate { process, .. }
            | Phase::Execing { process, .. }
            | Phase::Locking { process, .. }
            | Phase::Settling { process, .. }
            | Phase::Unready { process, .. }
            | Phase::Up { process }
            | Phase::Draining { process, .. }
            | Phase::Stopping { process, leader_dead: false, .. } => Some(*process),
            Phase::Verifying { was, .. } => was.process(),
            Phase::Down
            | Phase::Queued
            | Phase::Preparing
            | Phase::Spawning { .. }
            | Phase::Seeking { .. }
            | Phase::Reaping { .. }
            | Phase::Stopping { leader_dead: true, .. }
            | Phase::Closing { .. }
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Failed
            | Phase::Exited => None,
        }
    }

    /// A takeover at this point may find a child that no server has come of.
    pub fn is_before_exec(&self) -> bool {
        matches!(self, Phase::AtGate { .. } | Phase::Execing { .. } | Phase::Locking { .. })
    }

    /// Nothing of it is left, or ever was: a start may begin, and a stop has ended.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Phase::Down | Phase::Queued | Phase::Backoff { .. } | Phase::Failed | Phase::Exited
        )
    }

    /// It holds a place among the starts.
    pub fn is_starting(&self) -> bool {
        matches!(
            self,
            Phase::Preparing
                | Phase::Spawning { .. }
                | Phase::AtGate { .. }
                | Phase::Execing { .. }
                | Phase::Unready { .. }
                | Phase::Seeking { .. }
        )
    }
}

impl ServerRecord {
    /// A server of which nothing is known.
    pub fn new(name: impl Into<Name>, wanted: Wanted) -> ServerRecord {
        ServerRecord {
            name: name.into(),
            wanted,
            phase: Phase::Down,
            start_number: 0,
            started_at: Moment::NONE,
            ready_at: Moment::NONE,
            adopted: false,
            restarts: 0,
            failures: Rare::NONE,
            failures_in_row: 0,
            last_exit: None,
            reason: None,
            marks: Rare::NONE,
            status_text: None,
            output_at: None,
            lost: false,
            held: None,
            disabled: false,
            revision: None,
            cgroup: None,
            stop_with: None,
            removed: false,
            task: None,
            main_group: None,
            prepared: false,
            exits: Rare::NONE,
        }
    }
}

impl ServerRecord {
    /// Why it is in the phase it is in; empty when there is nothing to say.
    pub fn reason_text(&self) -> String {
        self.reason.as_deref().unwrap_or_default().to_string()
    }
}

impl Server {
    /// The one deadline of this server; its meaning is the phase.
    pub fn deadline(&self) -> Option<Ms> {
        match &self.rec.phase {
            Phase::Spawning { until }
            | Phase::AtGate { until, .. }
            | Phase::Execing { until, .. }
            | Phase::Locking { until, .. }
            | Phase::Settling { until, .. }
            | Phase::Unready { until, .. }
            | Phase::Seeking { again: until, .. }
            | Phase::Reaping { until, .. }
            | Phase::Stopping { until, .. }
            | Phase::Draining { until, .. }
            | Phase::Waiting { until, .. }
            | Phase::Verifying { until, .. } => Some(*until),
            Phase::Backoff { until } => (!self.maintenance).then_some(*until),
            Phase::Up { .. } if self.rec.failures_in_row > 0 => {
                self.rec.ready_at.get().map(|at| at.after(self.plan.policy.reset_after_ms))
            }
            Phase::Up { .. } | Phase::Down | Phase::Queued | Phase::Failed | Phase::Exited => None,
            // Their task has one.
            Phase::Preparing | Phase::Closing { .. } => None,
        }
    }

    /// The deadline has come.
    pub fn on_deadline(&mut self, now: Ms, steps: &mut Steps) {
        match self.rec.phase.clone() {
            Phase::Spawning { .. } if self.rec.wanted == Wanted::Up => self.begin_start(),
            Phase::Spawning { .. } => self.enter(Phase::Down, steps),
            Phase::AtGate { process, .. } => {
                self.rec.phase = Phase::AtGate { process, until: now.after(GATE_RETRY_MS) };
                steps.push(Step::SaveForGate);
            }
            Phase::Execing { process, .. } => {
                self.rec.reason = Some("exec takes long".into());
                self.enter(Phase::Execing { process, until: now.after(EXEC_SLOW_MS) }, steps);
            }
            Phase::Locking { process, .. } => self.lock_was_not_free(now, process, steps),
            Phase::Settling { process, .. } => self.become_up(now, process, steps),
            Phase::Unready { .. } => self.on_start_timeout(now, steps),
            Phase::Seeking { .. } => self.seek_again(now, steps),
            Phase::Up { .. } => {
                self.rec.failures.clear();
                self.rec.failures_in_row = 0;
                steps.push(Step::Save);
            }
            Phase::Reaping { process, at_gate, .. } => {
                self.ended(now, process, Exit::Unknown, at_gate, steps);
            }
            Phase::Stopping { process, why, leader_dead: false, .. }
                if self.runs(TaskKind::PreStop) =>
            {
                self.cancel_task(steps);
                self.send_stop(now, process, why, steps);
            }
            Phase::Draining { .. } => self.on_drain_timeout(now, steps),
            Phase::Stopping { process, why, leader_dead, .. } => {
                let until = now.after(KILL_AGAIN_MS);
                self.enter(
                    Phase::Stopping { process, why, leader_dead, killed: true, until },
                    steps,
                );
                self.signal(process, SIGKILL, Scope::Group, steps);
                if leader_dead {
                    self.probe_group(process, steps);
                }
            }
            Phase::Waiting { pid, .. } => {
                self.rec.phase = Phase::Waiting { until: now.after(STRAYS_AGAIN_MS), pid };
                steps.push(Step::Do(Action::ProbeStrays { server: self.id }));
            }
            Phase::Backoff { .. } => {
                self.rec.restarts += 1;
                self.begin_start();
            }
            Phase::Verifying { was, .. } => self.verify(now, *was, steps),
            Phase::Down
            | Phase::Queued
            | Phase::Preparing
            | Phase::Closing { .. }
            | Phase::Failed
            | Phase::Exited => {}
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, steps: &mut Steps) {
        self.rec.phase = phase;
        self.rec.prepared = false;
        steps.push(Step::Save);
        steps.push(Step::Do(Action::Note(Note::Server(self.id))));
    }

    /// Its cgroup, saved with its identity.
    pub fn on_cgroup_at(&mut self, start_number: u64, dir: Option<String>) {
        let is_owed = matches!(self.rec.phase, Phase::Spawning { .. } | Phase::Verifying { .. });
        if is_owed && self.rec.start_number == start_number {
            self.rec.cgroup = dir.map(Into::into);
        }
    }

    /// The leader is dead, and who left its process group had no stop signal yet.
    pub(super) fn signal_who_left(&mut self, process: Identity, steps: &mut Steps) {
        if self.rec.cgroup.is_some() {
            self.signal(process, self.stop_signal(), Scope::LeftGroup, steps);
        }
    }

    pub(super) fn signal(
        &mut self,
        process: Identity,
        signal: i32,
        scope: Scope,
        steps: &mut Steps,
    ) {
        steps.push(Step::Do(Action::Signal { server: self.id, process, signal, scope }));
    }
}

/// The signals that end processes, by the numbers that all architectures of Linux share (signal(7)).
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// A signal as people know it: `SIGHUP`, `signal 40`.
pub fn signal_text(signal: i32) -> String {
    signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_string)
}

/// How an end reads: `exit 1`, `killed by SIGKILL`, `exit status unknown`.
pub fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => format!("killed by {}", signal_text(signal)),
        Exit::Unknown => "exit status unknown".to_string(),
    }
}
