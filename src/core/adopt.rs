//! One server after a takeover: what the record says, held against what is there.
//!
//! Must not start anything before the process on record was told apart from strangers: what can't
//! be told apart is left alone and reported, never started a second time.

use super::record::{Identity, Phase, Task, TaskKind, Wanted, Why};
use super::server::{KILL_AGAIN_MS, Server, Step, Steps, VERIFY_AGAIN_MS};
use super::time::Ms;
use super::{Action, Found, Note, Scope};

const SIGKILL: i32 = 9;
/// A server whose time to become ready ran out while nobody was active has so long to be heard.
const HEAR_FIRST_MS: u64 = 2_000;

impl Server {
    /// A new active has this record: what is true of it?
    pub fn adopt(&mut self, now: Ms, steps: &mut Steps) {
        if self.rec.phase.process().is_none() {
            self.adopt_task(now, steps);
        }
        match self.rec.phase.clone() {
            Phase::Preparing if self.rec.wanted == Wanted::Down || self.plan.left_over => {
                self.cancel_task(steps);
                self.rec.wanted = Wanted::Down;
                self.enter(Phase::Down, steps);
            }
            Phase::Preparing if self.rec.task.is_some() => {}
            Phase::Preparing => self.begin_start(),
            Phase::Closing { .. } if self.running_task().is_some() => {}
            Phase::Closing { why } => self.gone(now, why, steps),
            Phase::Down | Phase::Queued if self.rec.wanted == Wanted::Up => self.begin_start(),
            Phase::Queued => self.enter(Phase::Down, steps),
            Phase::Down | Phase::Failed | Phase::Exited | Phase::Backoff { .. } => {}
            // The child of the dead active never was on record, so it never passed its gate.
            Phase::Spawning { .. } if self.rec.wanted == Wanted::Up => self.begin_start(),
            Phase::Spawning { .. } => self.enter(Phase::Down, steps),
            Phase::Reaping { .. } => {}
            Phase::Seeking { starter, .. } => self.seek(*starter, steps),
            Phase::Stopping { process, leader_dead: true, killed, why, .. } => {
                if !killed && why != Why::Ended {
                    self.signal_who_left(process, steps);
                }
                self.probe_group(process, steps);
            }
            Phase::Waiting { .. } => {
                steps.push(Step::Do(Action::ProbeStrays { server: self.id }));
            }
            Phase::Verifying { was, .. } => self.verify(now, *was, steps),
            was @ (Phase::AtGate { .. }
            | Phase::Execing { .. }
            | Phase::Locking { .. }
            | Phase::Settling { .. }
            | Phase::Unready { .. }
            | Phase::Up { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { leader_dead: false, .. }) => self.verify(now, was, steps),
        }
    }

    pub(super) fn verify(&mut self, now: Ms, was: Phase, steps: &mut Steps) {
        let Some(process) = was.process() else { return };
        let until = now.after(VERIFY_AGAIN_MS);
        self.rec.phase = Phase::Verifying { was: Box::new(was), until };
        let start_number = self.rec.start_number;
        steps.push(Step::Do(Action::Verify { server: self.id, process, start_number }));
    }

    /// The process on record was looked at.
    pub fn on_verified(&mut self, now: Ms, process: Identity, found: Found, steps: &mut Steps) {
        let Phase::Verifying { was, until } = self.rec.phase.clone() else { return };
        if was.process() != Some(process) {
            return;
        }
        if !matches!(found, Found::Unclear(_)) {
            self.adopt_task(now, steps);
        }
        match found {
            Found::Alive => self.go_on(now, *was, steps),
            Found::AtGate => {
                let (why, until) = (Why::NeverRan, now.after(KILL_AGAIN_MS));
                let leader_dead = false;
                self.cancel_task(steps);
                self.enter(
                    Phase::Stopping { process, why, leader_dead, killed: true, until },
                    steps,
                );
                self.signal(process, SIGKILL, Scope::Leader, steps);
            }
            Found::Gone => {
                self.rec.phase = *was;
                self.on_died(now, process, None, steps);
            }
            // Left alone, reported, and above all not started a second time.
            Found::Unclear(error) => {
                let pid = process.pid;
                self.rec.reason =
                    Some(format!("cannot tell whether PID {pid} is ours: {error}").into());
                self.rec.phase = Phase::Verifying { was, until };
            }
        }
    }

    /// It lives: the life goes on where the dead active left it.
    fn go_on(&mut self, now: Ms, was: Phase, steps: &mut Steps) {
        self.rec.adopted = true;
        steps.push(Step::Do(Action::Note(Note::Adopted(self.id))));
        match was {
            Phase::AtGate { process, .. }
            | Phase::Execing { process, .. }
            | Phase::Locking { process, .. } => {
                self.rec.reason = None;
                self.settle(now, process, steps);
            }
            Phase::Stopping { process, killed, .. } => {
                self.rec.phase = was;
                // Its stop command has told it, or will.
                let is_told = matches!(
                    self.rec.task.as_deref(),
                    Some(Task { kind: TaskKind::PreStop | TaskKind::Stop, .. })
                );
                if is_told && !killed {
                    return self.make_room_for_task();
                }
                // The signal may have been sent or not: the record comes before it.
                let signal = if killed { SIGKILL } else { self.stop_signal() };
                self.signal(process, signal, Scope::Group, steps);
                return;
            }
            // What it said while nobody listened is heard first.
            Phase::Unready { process, until } => {
                let until = until.max(now.after(HEAR_FIRST_MS));
                self.rec.phase = Phase::Unready { process, until };
                self.make_room_for_task();
                self.begin_checks_again(now, steps);
            }
            other => {
                self.rec.phase = other;
                self.begin_checks_again(now, steps);
            }
        }
        let drains = matches!(self.rec.phase, Phase::Draining { .. });
        if self.rec.wanted == Wanted::Down && self.rec.held.is_none() && !drains {
            self.stop(now, steps);
        }
    }

    /// What was found of a server's mark outside any group we know.
    pub fn on_strays(&mut self, pid: Option<i32>, steps: &mut Steps) {
        let Phase::Waiting { until, .. } = self.rec.phase else { return };
        match (pid, self.rec.wanted) {
            (Some(pid), _) => self.rec.phase = Phase::Waiting { until, pid },
            (None, Wanted::Up) => {
                self.rec.reason = None;
                self.begin_start();
            }
            (None, Wanted::Down) => self.enter(Phase::Down, steps),
        }
    }
}
