//! How one server is brought down: hooks, stop command or stop signal, grace, SIGKILL.
//!
//! Must not decide that it is: `orders.rs`, `checks.rs` and `drain.rs` do.

use super::Scope;
use super::record::{Exit, Identity, Phase, TaskKind, Wanted, Why};
use super::server::{KILL_AGAIN_MS, SPAWN_TIMEOUT_MS, Server, Step, Steps};
use super::time::Ms;

const SIGKILL: i32 = 9;

impl Server {
    /// As far as the phase allows it. Orders that change nothing in a phase are written out with the
    /// reason.
    pub(super) fn bring_down(&mut self, now: Ms, new_why: Why, kill: bool, steps: &mut Steps) {
        match self.rec.phase.clone() {
            // Nothing is there to bring down; `restart` never comes here for these.
            Phase::Down => steps.push(Step::Save),
            Phase::Queued | Phase::Exited | Phase::Failed | Phase::Backoff { .. } => {
                self.rec.reason = None;
                self.enter(Phase::Down, steps);
            }
            // Strays are not ours to end, and are not forgotten: a later start waits for them. The
            // child is discarded when it comes; a look at the process comes before its end.
            Phase::Waiting { .. } | Phase::Spawning { .. } | Phase::Verifying { .. } => {
                steps.push(Step::Save);
            }
            // What it was to be started after goes on, unless it is not to be started.
            Phase::Preparing if self.rec.wanted == Wanted::Up => steps.push(Step::Save),
            Phase::Preparing => {
                self.cancel_task(steps);
                self.rec.reason = None;
                self.enter(Phase::Down, steps);
            }
            Phase::AtGate { process, .. } => self.end(now, process, true, new_why, steps),
            // With grace: it may get its lock, and be a server, at this very moment.
            Phase::Execing { process, .. } | Phase::Locking { process, .. } => {
                self.end(now, process, kill, new_why, steps);
            }
            Phase::Settling { process, .. }
            | Phase::Unready { process, .. }
            | Phase::Up { process }
            | Phase::Draining { process, .. } => {
                self.bring_runner_down(now, process, new_why, kill, steps);
            }
            Phase::Closing { why } => self.bring_close_down(now, why, new_why, kill, steps),
            // What is there to stop is found in a moment, or is what carries its mark.
            Phase::Seeking { starter, again, until } if !kill => {
                let until = until.min(now.after(self.stop_timeout_ms()));
                self.rec.phase = Phase::Seeking { starter, again: again.min(until), until };
                steps.push(Step::Save);
            }
            Phase::Seeking { starter, .. } => {
                let process = *starter;
                let (why, until) = (new_why, now.after(KILL_AGAIN_MS));
                let (leader_dead, killed) = (true, true);
                self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
                self.signal(process, SIGKILL, Scope::Group, steps);
                self.probe_group(process, steps);
            }
            Phase::Reaping { process, .. } => {
                self.note_exit(now, process, Exit::Unknown);
                let (why, until) = (new_why, now.after(KILL_AGAIN_MS));
                let (leader_dead, killed) = (true, false);
                self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
                self.reap_and_probe(process, steps);
            }
            Phase::Stopping { process, leader_dead, killed, until, .. } => {
                let escalate = kill && !killed;
                let until = if escalate { now.after(KILL_AGAIN_MS) } else { until };
                let killed = killed || kill;
                if kill {
                    self.cancel_task(steps);
                }
                self.enter(
                    Phase::Stopping { process, why: new_why, leader_dead, killed, until },
                    steps,
                );
                if escalate {
                    self.signal(process, SIGKILL, Scope::Group, steps);
                }
            }
        }
    }

    /// It runs: drained first where that is wanted, then stopped.
    fn bring_runner_down(
        &mut self,
        now: Ms,
        process: Identity,
        why: Why,
        kill: bool,
        steps: &mut Steps,
    ) {
        match self.rec.phase {
            _ if kill => self.end(now, process, kill, why, steps),
            Phase::Draining { until, quiesced, .. } if self.drains_for(why) => {
                let keeps = false;
                self.enter(Phase::Draining { process, until, why, quiesced, keeps }, steps);
            }
            _ if self.drains_for(why) => self.begin_drain(now, process, why, false, steps),
            _ => {
                self.rec.reason = None;
                self.bring_to_stop(now, process, why, steps);
            }
        }
    }

    /// What it does at its end is waited for, or killed.
    fn bring_close_down(&mut self, now: Ms, why: Why, new_why: Why, kill: bool, steps: &mut Steps) {
        // A restart does not ask its policy any more.
        let why = if self.rec.wanted == Wanted::Up { new_why } else { why };
        self.rec.phase = Phase::Closing { why };
        match (kill, self.running_task().copied()) {
            (true, Some(task)) => {
                self.cancel_task(steps);
                match task.kind {
                    TaskKind::PreStop | TaskKind::Stop => self.gone(now, why, steps),
                    _ => self.settle_end(now, why, steps),
                }
            }
            _ => steps.push(Step::Save),
        }
    }

    /// Without hooks.
    fn end(&mut self, now: Ms, process: Identity, kill: bool, why: Why, steps: &mut Steps) {
        self.cancel_task(steps);
        let grace_ms = if kill { KILL_AGAIN_MS } else { self.stop_timeout_ms() };
        let (leader_dead, killed, until) = (false, kill, now.after(grace_ms));
        self.rec.reason = None;
        self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
        let signal = if kill { SIGKILL } else { self.stop_signal() };
        self.signal(process, signal, Scope::Group, steps);
    }

    /// preStop hook, then stop command or stop signal, then grace.
    pub(super) fn bring_to_stop(
        &mut self,
        now: Ms,
        process: Identity,
        why: Why,
        steps: &mut Steps,
    ) {
        self.cancel_task(steps);
        if !self.begin_task(now, TaskKind::PreStop, steps) {
            return self.send_stop(now, process, why, steps);
        }
        let (leader_dead, killed) = (false, false);
        let task_until = self.rec.task.as_ref().map_or(now, |task| task.until);
        let until = task_until.after(SPAWN_TIMEOUT_MS);
        self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
    }

    /// Stop command or stop signal, then grace.
    pub(super) fn send_stop(&mut self, now: Ms, process: Identity, why: Why, steps: &mut Steps) {
        let (leader_dead, killed) = (false, false);
        let until = now.after(self.stop_timeout_ms());
        let by_command = self.stops_by_command() && self.begin_task(now, TaskKind::Stop, steps);
        self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
        if !by_command {
            self.signal(process, self.stop_signal(), Scope::Group, steps);
        }
    }
}
