//! The start of one server: from the free place among the starts to RUNNING.
//!
//! Must not decide whether it is to be started: `orders.rs` and `end.rs` queue it, the node admits it.
//! Only a record that is safe opens a gate.

use super::record::{Held, Identity, Phase, TaskKind, Wanted, Why};
use super::server::{
    EXEC_SLOW_MS, FORK_RETRY_MS, GATE_RETRY_MS, KILL_AGAIN_MS, SPAWN_TIMEOUT_MS, Server, Step,
    Steps,
};
use super::time::{Moment, Ms};
use super::{Action, Note, Scope};

const SIGKILL: i32 = 9;

impl Server {
    /// The child is there, at its gate.
    pub fn on_spawned(&mut self, now: Ms, start_number: u64, process: Identity, steps: &mut Steps) {
        let is_expected = matches!(self.rec.phase, Phase::Spawning { .. })
            && self.rec.start_number == start_number;
        if is_expected && self.rec.wanted == Wanted::Up {
            self.rec.started_at = now.into();
            self.rec.prepared = false;
            self.rec.phase = Phase::AtGate { process, until: now.after(GATE_RETRY_MS) };
            steps.push(Step::SaveForGate);
            steps.push(Step::Do(Action::Note(Note::Server(self.id))));
            return;
        }
        // Nobody wants it any more, or it was given up: without its gate it never was a server.
        steps.push(Step::Do(Action::Discard { server: self.id, start_number }));
        if is_expected {
            self.enter(Phase::Down, steps);
        }
    }

    /// No child came to be. The machine refused, so it does not count as the server's failure.
    pub fn on_spawn_failed(&mut self, now: Ms, number: u64, error: String, steps: &mut Steps) {
        if self.rec.start_number != number || !matches!(self.rec.phase, Phase::Spawning { .. }) {
            return;
        }
        self.rec.reason = Some(error.into());
        match self.rec.wanted {
            Wanted::Up => self.enter(Phase::Backoff { until: now.after(FORK_RETRY_MS) }, steps),
            Wanted::Down => self.enter(Phase::Down, steps),
        }
    }

    /// A step of the child failed. It ends by itself; its death decides what follows.
    pub fn on_child_failed(&mut self, now: Ms, number: u64, error: String, steps: &mut Steps) {
        if self.rec.start_number != number {
            return;
        }
        if let Some(process) = self.child_before_exec() {
            self.rec.reason = Some(error.into());
            let until = now.after(KILL_AGAIN_MS);
            let why = Why::Ended;
            let phase = Phase::Stopping { process, why, leader_dead: false, killed: true, until };
            self.enter(phase, steps);
        }
    }

    /// The machine kept the child from getting ready, so it does not count as the server's failure:
    /// once the child is dead, the next one is started.
    pub fn on_child_refused(&mut self, now: Ms, number: u64, error: String, steps: &mut Steps) {
        if self.rec.start_number != number {
            return;
        }
        if let Some(process) = self.child_before_exec() {
            self.rec.reason = Some(error.into());
            let until = now.after(KILL_AGAIN_MS);
            let why = Why::NeverRan;
            let phase = Phase::Stopping { process, why, leader_dead: false, killed: true, until };
            self.enter(phase, steps);
        }
    }

    /// The child that has not said yet that it is a server.
    fn child_before_exec(&self) -> Option<Identity> {
        match self.rec.phase {
            Phase::AtGate { process, .. }
            | Phase::Execing { process, .. }
            | Phase::Locking { process, .. } => Some(process),
            _ => None,
        }
    }

    /// The child has passed its gate and waits for what `text` names, before its exec.
    pub fn on_child_waits(
        &mut self,
        now: Ms,
        number: u64,
        text: String,
        timeout_ms: u64,
        steps: &mut Steps,
    ) {
        if self.rec.start_number != number {
            return;
        }
        if let Phase::Execing { process, .. } = self.rec.phase {
            self.rec.reason = Some(text.into());
            self.enter(Phase::Locking { process, until: now.after(timeout_ms) }, steps);
        }
    }

    /// Then its policy decides. Without grace: one that gets its lock at this very moment must not
    /// end well by a stop signal, and count as EXITED.
    pub(super) fn lock_was_not_free(&mut self, now: Ms, process: Identity, steps: &mut Steps) {
        let waited_s = self.rec.started_at.get().map_or(0, |at| now.since(at) / 1000);
        let what = self.rec.reason.take().unwrap_or_default();
        self.rec.reason = Some(format!("waited {waited_s} s in vain for {what}").into());
        let (why, until) = (Why::Ended, now.after(KILL_AGAIN_MS));
        let phase = Phase::Stopping { process, why, leader_dead: false, killed: true, until };
        self.enter(phase, steps);
        self.signal(process, SIGKILL, Scope::Group, steps);
    }

    /// The record of the child is safe: this, and nothing else, opens the gate.
    pub fn on_recorded(&mut self, now: Ms, start_number: u64, steps: &mut Steps) {
        if self.rec.start_number != start_number {
            return;
        }
        if let Phase::AtGate { process, .. } = self.rec.phase {
            self.rec.phase = Phase::Execing { process, until: now.after(EXEC_SLOW_MS) };
            steps.push(Step::Do(Action::OpenGate { server: self.id, start_number }));
        }
    }

    /// Neither the disk nor the standby took the record: the gate stays shut.
    pub fn on_not_recorded(&mut self, start_number: u64, error: &str) {
        if self.rec.start_number == start_number && matches!(self.rec.phase, Phase::AtGate { .. }) {
            self.rec.reason = Some(format!("cannot record its start, so it waits: {error}").into());
        }
    }

    /// exec succeeded.
    pub fn on_executed(&mut self, now: Ms, start_number: u64, steps: &mut Steps) {
        if self.rec.start_number != start_number {
            return;
        }
        if let Phase::Execing { process, .. } | Phase::Locking { process, .. } = self.rec.phase {
            self.rec.reason = None;
            self.settle(now, process, steps);
        }
    }

    pub(super) fn settle(&mut self, now: Ms, process: Identity, steps: &mut Steps) {
        if self.has_readiness() {
            self.begin_readiness(now);
            let until = now.after(self.plan.start_timeout_ms);
            self.enter(Phase::Unready { process, until }, steps);
        } else if self.plan.settle_ms == 0 {
            self.become_up(now, process, steps);
        } else {
            self.enter(Phase::Settling { process, until: now.after(self.plan.settle_ms) }, steps);
        }
    }

    /// It is ready: its postStart hook comes first.
    pub(super) fn become_up(&mut self, now: Ms, process: Identity, steps: &mut Steps) {
        if self.runs(TaskKind::PostStart) || self.awaits_main() {
            return;
        }
        if !self.begin_task(now, TaskKind::PostStart, steps) {
            return self.is_up(now, process, steps);
        }
        self.checks.clear();
        self.rec.reason = None;
        let task_until = self.rec.task.as_ref().map_or(now, |task| task.until);
        let until = task_until.after(SPAWN_TIMEOUT_MS);
        self.enter(Phase::Unready { process, until }, steps);
    }

    pub(super) fn is_up(&mut self, now: Ms, process: Identity, steps: &mut Steps) {
        self.rec.ready_at = now.into();
        self.rec.reason = None;
        self.rec.lost = false;
        self.begin_health(now);
        self.enter(Phase::Up { process }, steps);
    }

    /// It may start when the node admits it. Not saved: what is on record leads here again.
    pub(super) fn begin_start(&mut self) {
        self.rec.phase = Phase::Queued;
    }

    /// Nothing is in its way.
    pub(super) fn admit(&mut self, now: Ms, steps: &mut Steps) {
        if self.rec.phase != Phase::Queued {
            return;
        }
        if self.rec.disabled || self.plan.left_over {
            self.rec.wanted = Wanted::Down;
            return self.enter(Phase::Down, steps);
        }
        if self.rec.prepared {
            return self.ask_for_child(now, steps);
        }
        match self.begin_task(now, TaskKind::PreStart, steps) {
            true => self.enter(Phase::Preparing, steps),
            false => self.ask_for_child(now, steps),
        }
    }

    /// Not saved: a child that is not on record can't pass its gate, so there is nothing to know.
    pub(super) fn ask_for_child(&mut self, now: Ms, steps: &mut Steps) {
        self.rec.start_number += 1;
        self.rec.adopted = false;
        self.rec.started_at = Moment::NONE;
        self.rec.ready_at = Moment::NONE;
        self.rec.status_text = None;
        self.rec.output_at = None;
        self.rec.main_group = None;
        // A restart that waits is fulfilled by this child.
        self.rec.held = self.rec.held.filter(|order| *order != Held::Restart);
        self.note_revision();
        self.rec.phase = Phase::Spawning { until: now.after(SPAWN_TIMEOUT_MS) };
        let start_number = self.rec.start_number;
        steps.push(Step::Do(Action::Spawn { server: self.id, start_number }));
    }
}
