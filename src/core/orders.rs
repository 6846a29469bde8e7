//! What people ask of one server: start, stop, kill, restart, reset.
//!
//! Must not wait or answer (`ask.rs` does): an order changes what is wanted, and the phase where
//! the phase allows it. Orders that change nothing in a phase are written out with the reason.

use super::record::{Exit, Held, Identity, LastExit, Phase, TaskKind, Wanted, Why};
use super::server::{KILL_AGAIN_MS, SPAWN_TIMEOUT_MS, Server, Step, Steps};
use super::time::Ms;
use super::{Action, Scope};

const SIGKILL: i32 = 9;

impl Server {
    /// Wanted up from now on; the counts begin anew.
    pub fn start(&mut self, steps: &mut Steps) {
        self.rec.wanted = Wanted::Up;
        self.rec.held = None;
        self.forget_failures();
        match self.rec.phase.clone() {
            Phase::Down | Phase::Exited | Phase::Failed | Phase::Backoff { .. } => {
                self.rec.reason = None;
                self.begin_start();
            }
            // It is stopped, and comes again.
            Phase::Draining { process, until, quiesced, .. } => {
                let (why, keeps) = (Why::Restart, false);
                self.rec.phase = Phase::Draining { process, until, why, quiesced, keeps };
            }
            Phase::Closing { why: Why::Ended | Why::Clearing | Why::Failing } => {
                self.rec.phase = Phase::Closing { why: Why::Restart };
            }
            // It is cleared away first, then it starts at once instead of asking its policy.
            Phase::Stopping {
                process,
                why: Why::Ended | Why::Clearing | Why::Failing,
                leader_dead,
                killed,
                until,
            } => {
                let why = Why::Restart;
                self.rec.phase = Phase::Stopping { process, why, leader_dead, killed, until };
            }
            // On its way up already, or up.
            Phase::Queued
            | Phase::Preparing
            | Phase::Spawning { .. }
            | Phase::AtGate { .. }
            | Phase::Execing { .. }
            | Phase::Locking { .. }
            | Phase::Settling { .. }
            | Phase::Unready { .. }
            | Phase::Seeking { .. }
            | Phase::Up { .. } => {}
            // The wish alone decides what follows these.
            Phase::Reaping { .. }
            | Phase::Stopping { .. }
            | Phase::Closing { .. }
            | Phase::Waiting { .. }
            | Phase::Verifying { .. } => {}
        }
        steps.push(Step::Save);
    }

    /// Wanted down from now on: stop signal, grace, SIGKILL, until its group is empty.
    pub fn stop(&mut self, now: Ms, steps: &mut Steps) {
        self.rec.wanted = Wanted::Down;
        self.rec.held = None;
        self.bring_down(now, Why::Asked, false, steps);
    }

    /// As `stop`, without grace.
    pub fn kill(&mut self, now: Ms, steps: &mut Steps) {
        self.rec.wanted = Wanted::Down;
        self.rec.held = None;
        self.bring_down(now, Why::Asked, true, steps);
    }

    /// Down and up again; a server that is down is started.
    pub fn restart(&mut self, now: Ms, steps: &mut Steps) {
        if self.rec.phase.is_gone() {
            return self.start(steps);
        }
        self.rec.wanted = Wanted::Up;
        self.rec.held = None;
        self.forget_failures();
        self.bring_down(now, Why::Restart, false, steps);
    }

    /// The counts are cleared; a server that waits for a try or was given up is tried now.
    pub fn reset(&mut self, steps: &mut Steps) {
        self.forget_failures();
        let waits = matches!(self.rec.phase, Phase::Failed | Phase::Backoff { .. });
        if waits && self.rec.wanted == Wanted::Up {
            self.rec.reason = None;
            self.begin_start();
        }
        steps.push(Step::Save);
    }

    /// Nothing starts it any more. What runs as a server runs on, and is not started again when it
    /// ends; so without a process it is not wanted up.
    pub fn disable(&mut self, now: Ms, steps: &mut Steps) {
        let was_disabled = std::mem::replace(&mut self.rec.disabled, true);
        match self.rec.phase {
            // What follows their end is decided when it comes.
            Phase::Execing { .. }
            | Phase::Settling { .. }
            | Phase::Unready { .. }
            | Phase::Up { .. }
            | Phase::Seeking { .. }
            | Phase::Draining { .. }
            | Phase::Reaping { .. }
            | Phase::Stopping { .. }
            | Phase::Closing { .. }
            | Phase::Verifying { .. } => {
                if !was_disabled {
                    steps.push(Step::Save);
                }
            }
            Phase::Down if was_disabled && self.rec.wanted == Wanted::Down => {}
            Phase::Down
            | Phase::Queued
            | Phase::Preparing
            | Phase::Spawning { .. }
            | Phase::AtGate { .. }
            | Phase::Locking { .. }
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Failed
            | Phase::Exited => self.stop(now, steps),
        }
    }

    /// It may be started again, which is for somebody to ask, or for the next life.
    pub fn enable(&mut self, steps: &mut Steps) {
        if std::mem::replace(&mut self.rec.disabled, false) {
            steps.push(Step::Save);
        }
    }

    /// Down for good, or down and up again, once nobody that goes down too needs it any more.
    pub fn hold(&mut self, order: Held, steps: &mut Steps) {
        self.rec.wanted = match order {
            Held::Stop | Held::Drain => Wanted::Down,
            Held::Restart => Wanted::Up,
        };
        self.rec.held = Some(order);
        steps.push(Step::Save);
    }

    /// A server that it needs has ended, or came back: it is stopped until that is ready.
    pub(super) fn lose_need(&mut self, now: Ms, reason: String, steps: &mut Steps) {
        let is_running = matches!(
            self.rec.phase,
            Phase::Execing { .. }
                | Phase::Settling { .. }
                | Phase::Unready { .. }
                | Phase::Up { .. }
        );
        if is_running && self.rec.wanted == Wanted::Up {
            self.bring_down(now, Why::Need, false, steps);
            self.rec.reason = Some(reason);
            steps.push(Step::Save);
        }
    }

    fn forget_failures(&mut self) {
        self.rec.failures.clear();
        self.rec.failures_in_row = 0;
    }

    fn bring_down(&mut self, now: Ms, new_why: Why, kill: bool, steps: &mut Steps) {
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
                if !kill && self.drains_for(new_why) =>
            {
                self.begin_drain(now, process, new_why, false, steps);
            }
            Phase::Draining { process, until, quiesced, .. }
                if !kill && self.drains_for(new_why) =>
            {
                let (why, keeps) = (new_why, false);
                self.enter(Phase::Draining { process, until, why, quiesced, keeps }, steps);
            }
            Phase::Settling { process, .. }
            | Phase::Unready { process, .. }
            | Phase::Up { process }
            | Phase::Draining { process, .. } => match kill {
                true => self.end(now, process, kill, new_why, steps),
                false => {
                    self.rec.reason = None;
                    self.bring_to_stop(now, process, new_why, steps);
                }
            },
            Phase::Closing { why } => self.bring_close_down(now, why, new_why, kill, steps),
            // What is there to stop is found in a moment.
            Phase::Seeking { .. } if !kill => {
                steps.push(Step::Save);
            }
            Phase::Seeking { starter: process, .. } => {
                let (why, until) = (new_why, now.after(KILL_AGAIN_MS));
                let (leader_dead, killed) = (true, true);
                self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
                self.signal(process, SIGKILL, Scope::Group, steps);
                self.probe_group(process, steps);
            }
            Phase::Reaping { process, .. } => {
                let ran_ms = self.rec.started_at.map_or(0, |at| now.since(at));
                let exit = Exit::Unknown;
                self.rec.last_exit = Some(LastExit { process, exit, at: now, ran_ms });
                let until = now.after(KILL_AGAIN_MS);
                let (leader_dead, killed) = (true, false);
                self.enter(
                    Phase::Stopping { process, why: new_why, leader_dead, killed, until },
                    steps,
                );
                steps.push(Step::Do(Action::Reap { server: self.id, process }));
                steps.push(Step::Do(Action::ProbeGroup { server: self.id, process }));
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
        let task_until = self.rec.task.map_or(now, |task| task.until);
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
