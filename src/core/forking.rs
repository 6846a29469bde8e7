//! Servers whose first process is not the one that stays: daemons that fork, and those that say
//! MAINPID.
//!
//! Must not look for a process itself (the shell does, and proves that it belongs to the server). From
//! the moment a main process is on record it is the server's process, as if it had been started.

use super::plan::Kind;
use super::record::{Exit, Identity, Phase, Wanted, Why};
use super::server::{Server, Step, Steps};
use super::time::Ms;
use super::{Action, Note, Scope};

/// How often the main process is looked for: many daemons write their number a moment later.
const SEEK_AGAIN_MS: u64 = 50;

impl Server {
    /// Its process is the one that starts it, and will end.
    pub(super) fn awaits_main(&self) -> bool {
        self.plan.kind == Kind::Forking && self.rec.main_group.is_none()
    }

    /// The starter has ended. Well, or nobody knows how: then there is a daemon, or will be.
    pub(super) fn seeks_main_after(&self, exit: Exit, at_gate: bool) -> bool {
        let is_well = matches!(exit, Exit::Code(0)) || exit == Exit::Unknown && !at_gate;
        self.awaits_main() && is_well && self.rec.wanted == Wanted::Up
    }

    pub(super) fn begin_seek(&mut self, now: Ms, starter: Identity, steps: &mut Steps) {
        let began = self.rec.started_at.get().unwrap_or(now);
        let until = began.after(self.plan.start_timeout_ms).max(now.after(SEEK_AGAIN_MS));
        let again = now.after(SEEK_AGAIN_MS);
        self.enter(Phase::Seeking { starter: starter.into(), again, until }, steps);
        // After the save: once reaped, the kernel has forgotten it.
        steps.push(Step::Do(Action::Reap { server: self.id, process: starter }));
        self.seek(starter, steps);
    }

    pub(super) fn seek(&self, starter: Identity, steps: &mut Steps) {
        let start_number = self.rec.start_number;
        steps.push(Step::Do(Action::FindMain { server: self.id, start_number, starter }));
    }

    /// Not found yet.
    pub(super) fn seek_again(&mut self, now: Ms, steps: &mut Steps) {
        let Phase::Seeking { starter, until, .. } = &self.rec.phase else { return };
        let (starter, until) = (**starter, *until);
        if until > now {
            let again = now.after(SEEK_AGAIN_MS).min(until);
            self.rec.phase = Phase::Seeking { starter: starter.into(), again, until };
            return self.seek(starter, steps);
        }
        let what = self.rec.reason.take().unwrap_or_else(|| "no answer".into());
        self.rec.reason =
            Some(format!("its starter has ended, and pidFile names nobody: {what}").into());
        let (why, leader_dead, killed) = (Why::Failing, true, false);
        let until = now.after(self.stop_timeout_ms());
        self.enter(Phase::Stopping { process: starter, why, leader_dead, killed, until }, steps);
        // It may be at work already, with a pidFile that is wrong.
        self.signal(starter, self.stop_signal(), Scope::Group, steps);
        self.signal_who_left(starter, steps);
        self.probe_group(starter, steps);
    }

    /// No process that is proven to be its own; asked again in a moment.
    pub fn on_main_missing(&mut self, start_number: u64, text: String) {
        if self.rec.start_number == start_number && matches!(self.rec.phase, Phase::Seeking { .. })
        {
            self.rec.reason = Some(text.into());
        }
    }

    /// This process is the server from now on; `group` is its process group.
    pub fn on_main_found(
        &mut self,
        now: Ms,
        start_number: u64,
        process: Identity,
        group: i32,
        steps: &mut Steps,
    ) {
        if self.rec.start_number != start_number {
            return;
        }
        let phase = match self.rec.phase.clone() {
            Phase::Seeking { until, .. } => {
                self.rec.main_group = Some(group);
                self.rec.reason = None;
                // An order that waits for others is carried out when they are through.
                if self.rec.wanted == Wanted::Down && self.rec.held.is_none() {
                    return self.bring_to_stop(now, process, Why::Asked, steps);
                }
                match self.plan.ready {
                    None => return self.become_up(now, process, steps),
                    Some(_) => {
                        let until = until.max(now.after(SEEK_AGAIN_MS));
                        self.begin_readiness(now);
                        return self.enter(Phase::Unready { process, until }, steps);
                    }
                }
            }
            Phase::Settling { until, .. } => Phase::Settling { process, until },
            Phase::Unready { until, .. } if !self.awaits_main() => {
                Phase::Unready { process, until }
            }
            Phase::Up { .. } => Phase::Up { process },
            Phase::Draining { until, why, quiesced, keeps, .. } => {
                Phase::Draining { process, until, why, quiesced, keeps }
            }
            _ => return,
        };
        self.rec.main_group = Some(group);
        self.rec.phase = phase;
        steps.push(Step::Save);
        steps.push(Step::Do(Action::Note(Note::MainFound(self.id))));
    }
}
