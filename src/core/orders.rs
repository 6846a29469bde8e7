//! What people ask of one server: start, stop, kill, restart, reset.
//!
//! Must not wait or answer (`ask.rs` does): an order changes what is wanted, and the phase where
//! the phase allows it. Orders that change nothing in a phase are written out with the reason.

use super::record::{Held, Phase, Wanted, Why};
use super::server::{Server, Step, Steps};
use super::time::Ms;

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
        self.forget_failures();
        // The process that is to be stopped is not known yet.
        if matches!(self.rec.phase, Phase::Seeking { .. }) {
            return self.hold(Held::Restart, steps);
        }
        self.rec.wanted = Wanted::Up;
        self.rec.held = None;
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
        if is_running && self.rec.wanted == Wanted::Up && !self.maintenance {
            self.bring_down(now, Why::Need, false, steps);
            self.rec.reason = Some(reason.into());
            steps.push(Step::Save);
        }
    }

    fn forget_failures(&mut self) {
        self.rec.failures.clear();
        self.rec.failures_in_row = 0;
    }
}
