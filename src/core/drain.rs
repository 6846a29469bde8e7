//! How one server is drained: it takes no new work, and is stopped once none is left.
//!
//! Must not ask anything itself (the shell does). It is wanted down from the beginning, so that
//! whoever takes over goes on draining.

use super::checks::Progress;
use super::plan::Drain;
use super::record::{Held, Identity, Phase, TaskKind, Wanted, Why};
use super::server::{Server, Step, Steps};
use super::time::Ms;
use super::{Action, Note};

impl Server {
    /// As a stop, once no work is left.
    pub fn drain(&mut self, now: Ms, steps: &mut Steps) {
        self.rec.wanted = Wanted::Down;
        self.rec.held = None;
        match (self.rec.phase.clone(), self.plan.drain) {
            (
                Phase::Settling { process, .. }
                | Phase::Unready { process, .. }
                | Phase::Up { process },
                Some(drain),
            ) => self.begin_drain(now, process, Why::Asked, drain.keeps, steps),
            (Phase::Draining { process, until, quiesced, keeps, .. }, _) => {
                let why = Why::Asked;
                self.enter(Phase::Draining { process, until, why, quiesced, keeps }, steps);
            }
            // Told apart first: else the look would end in a stop.
            (Phase::Verifying { .. }, Some(_)) => self.hold(Held::Drain, steps),
            _ => self.stop(now, steps),
        }
    }

    /// A stop or a restart drains it first.
    pub(super) fn drains_for(&self, why: Why) -> bool {
        match (why, self.plan.drain) {
            (Why::Asked, Some(drain)) => drain.on_stop,
            (Why::Restart, Some(drain)) => drain.on_restart,
            _ => false,
        }
    }

    pub(super) fn begin_drain(
        &mut self,
        now: Ms,
        process: Identity,
        why: Why,
        keeps: bool,
        steps: &mut Steps,
    ) {
        let Some(Drain { timeout_ms, .. }) = self.plan.drain else { return };
        self.cancel_task(steps);
        self.rec.reason = None;
        let (until, quiesced) =
            (now.after(timeout_ms), !self.begin_task(now, TaskKind::Drain, steps));
        self.enter(Phase::Draining { process, until, why, quiesced, keeps }, steps);
        if quiesced {
            self.begin_drain_checks(now, steps);
        }
    }

    /// It takes no new work any more.
    pub(super) fn is_quiesced(&mut self, now: Ms, steps: &mut Steps) {
        if let Phase::Draining { process, until, why, keeps, .. } = self.rec.phase {
            let quiesced = true;
            self.enter(Phase::Draining { process, until, why, quiesced, keeps }, steps);
            self.begin_drain_checks(now, steps);
        }
    }

    /// From now on it is asked whether work is left.
    pub(super) fn begin_drain_checks(&mut self, now: Ms, steps: &mut Steps) {
        match self.plan.drain {
            Some(Drain { has_check: true, .. }) => {
                self.checks.drain = Progress { due: Some(now), ..Progress::default() };
            }
            _ => self.is_drained(now, steps),
        }
    }

    /// No work is left.
    pub(super) fn is_drained(&mut self, now: Ms, steps: &mut Steps) {
        if let Phase::Draining { process, why, .. } = self.rec.phase {
            self.rec.reason = None;
            let note = Note::Drained { server: self.id, failed: None };
            steps.push(Step::Do(Action::Note(note)));
            self.bring_to_stop(now, process, why, steps);
        }
    }

    /// The time is over.
    pub(super) fn on_drain_timeout(&mut self, now: Ms, steps: &mut Steps) {
        let seconds = self.plan.drain.map_or(0, |drain| drain.timeout_ms.div_ceil(1_000));
        let last = match &self.checks.drain.last {
            Some(Err(text)) => format!(" (last answer: {text})"),
            _ => String::new(),
        };
        self.drain_failed(now, format!("not drained after {seconds} s{last}"), steps);
    }

    /// It is stopped as it is, or goes on as before.
    pub(super) fn drain_failed(&mut self, now: Ms, reason: String, steps: &mut Steps) {
        let Phase::Draining { process, why, keeps, .. } = self.rec.phase else { return };
        self.cancel_task(steps);
        let failed = Some(reason.clone());
        let note = Note::Drained { server: self.id, failed };
        steps.push(Step::Do(Action::Note(note)));
        if keeps {
            self.rec.wanted = Wanted::Up;
            self.rec.reason = Some(reason.into());
            self.rec.ready_at = self.rec.ready_at.get().unwrap_or(now).into();
            self.begin_health(now);
            self.enter(Phase::Up { process }, steps);
        } else {
            self.bring_to_stop(now, process, why, steps);
            self.rec.reason = Some(reason.into());
        }
    }

    /// The order that leads here once nobody that needs it is in the way.
    pub(super) fn release(&mut self, now: Ms, steps: &mut Steps) {
        match self.rec.held.take() {
            Some(Held::Stop) => self.stop(now, steps),
            Some(Held::Drain) => self.drain(now, steps),
            Some(Held::Restart) => self.restart(now, steps),
            None => {}
        }
    }
}
