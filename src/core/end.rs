//! The end of one server: its leader's death, its exit status, what is left of its group, and what
//! the policy makes of it.
//!
//! Must not start anything before the group of the dead leader is empty: everything that follows an
//! end goes through `gone`.

use super::plan::Kind;
use super::record::{Exit, Held, Identity, LastExit, Phase, TaskKind, Wanted, Why};
use super::restart::{Verdict, When};
use super::server::{
    KILL_AGAIN_MS, STATUS_WAIT_MS, STOP_STATUS_WAIT_MS, Server, Step, Steps, exit_text,
};
use super::time::{Moment, Ms};
use super::{Action, Note, Scope};

const SIGKILL: i32 = 9;

impl Server {
    /// The leader is dead.
    pub fn on_died(&mut self, now: Ms, process: Identity, exit: Option<Exit>, steps: &mut Steps) {
        match self.rec.phase.clone() {
            Phase::AtGate { process: own, .. }
            | Phase::Execing { process: own, .. }
            | Phase::Locking { process: own, .. }
                if own == process =>
            {
                self.leader_died(now, process, exit, exit.is_none(), steps);
            }
            Phase::Settling { process: own, .. }
            | Phase::Unready { process: own, .. }
            | Phase::Up { process: own }
                if own == process =>
            {
                self.leader_died(now, process, exit, false, steps);
            }
            Phase::Stopping { process: own, why, killed, until, leader_dead: false }
                if own == process =>
            {
                if why != Why::NeverRan {
                    self.status_due = exit.is_none().then(|| now.after(STOP_STATUS_WAIT_MS)).into();
                    self.note_exit(now, process, exit.unwrap_or(Exit::Unknown));
                }
                let phase = Phase::Stopping { process, why, leader_dead: true, killed, until };
                self.enter(phase, steps);
                if !killed {
                    self.signal_who_left(process, steps);
                }
                self.reap_and_probe(process, steps);
            }
            // It is stopped already, and what is left of its group is told now.
            Phase::Draining { process: own, why, .. } if own == process => {
                self.cancel_task(steps);
                self.status_due = exit.is_none().then(|| now.after(STOP_STATUS_WAIT_MS)).into();
                self.note_exit(now, process, exit.unwrap_or(Exit::Unknown));
                self.rec.reason = None;
                let (leader_dead, killed) = (true, false);
                let until = now.after(self.stop_timeout_ms());
                self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
                self.signal(process, self.stop_signal(), Scope::Group, steps);
                self.reap_and_probe(process, steps);
            }
            Phase::Verifying { was, .. } if was.process() == Some(process) => {
                if was.is_before_exec() {
                    // A child of the dead active: it may have ended at its gate, with its parent.
                    return self.leader_died(now, process, exit, true, steps);
                }
                self.rec.phase = *was;
                self.adopt_task(now, steps);
                self.on_died(now, process, exit, steps);
            }
            // Not the process we have: news of an earlier one.
            _ => {}
        }
    }

    /// `at_gate`: it may never have passed its gate.
    fn leader_died(
        &mut self,
        now: Ms,
        process: Identity,
        exit: Option<Exit>,
        at_gate: bool,
        steps: &mut Steps,
    ) {
        // Whether it is started again may depend on the status, which comes a moment later when
        // it was not our child. Where nothing depends on it, nothing waits.
        let depends = self.tells_its_end()
            || self.rec.wanted == Wanted::Up && (at_gate || self.plan.policy.depends_on_status());
        if !self.runs_a_stop() {
            self.cancel_task(steps);
        }
        match exit {
            Some(exit) => self.ended(now, process, exit, at_gate, steps),
            None if depends => {
                let until = now.after(STATUS_WAIT_MS);
                self.enter(Phase::Reaping { process, until, at_gate }, steps);
            }
            None => self.ended(now, process, Exit::Unknown, at_gate, steps),
        }
    }

    /// A status came on another way than from our own child. It may be the first news of an end.
    pub fn on_status(&mut self, now: Ms, process: Identity, exit: Exit, steps: &mut Steps) {
        let (phase, at_gate) = match self.rec.phase.clone() {
            Phase::Verifying { was, .. } => {
                let at_gate = was.is_before_exec();
                (*was, at_gate)
            }
            phase => (phase, false),
        };
        if phase.process() == Some(process) {
            let is_stopping = matches!(phase, Phase::Stopping { .. } | Phase::Draining { .. });
            if matches!(self.rec.phase, Phase::Verifying { .. }) {
                self.rec.phase = phase.clone();
                self.adopt_task(now, steps);
            }
            self.rec.phase = phase;
            if !is_stopping {
                self.cancel_task(steps);
            }
            return match is_stopping {
                true => self.on_died(now, process, Some(exit), steps),
                false => self.ended(now, process, exit, at_gate, steps),
            };
        }
        if let Phase::Reaping { process: own, at_gate, .. } = self.rec.phase
            && own == process
        {
            return self.ended(now, process, exit, at_gate, steps);
        }
        let Some(last) = &mut self.rec.last_exit else { return };
        if last.process != process || last.exit != Exit::Unknown {
            return;
        }
        last.exit = exit;
        self.rec.exits.learn(exit);
        steps.push(Step::Save);
        steps.push(Step::Do(Action::Note(Note::ExitLearned(self.id))));
        self.on_status_settled(now, steps);
        // It had been taken for a failure, and was none. (A wait without a failure is for a fork
        // that was refused; one with another reason is for a check that failed. Whether a server with
        // a readiness check was ready is forgotten by now: then it stays a failure.)
        let policy = &self.plan.policy;
        let waits_unknown = matches!(self.rec.phase, Phase::Backoff { .. })
            && self.rec.reason.as_deref() == Some(exit_text(Exit::Unknown).as_str());
        if waits_unknown && policy.forbids_restart(exit) {
            self.forbid_restart(exit, steps);
        } else if waits_unknown
            && self.plan.ready.is_none()
            && policy.is_success(exit)
            && policy.when == When::OnFailure
        {
            self.rec.failures.pop();
            self.rec.failures_in_row = self.rec.failures_in_row.saturating_sub(1);
            self.rec.reason = None;
            self.enter(Phase::Exited, steps);
        }
    }

    fn forbid_restart(&mut self, exit: Exit, steps: &mut Steps) {
        let text = exit_text(exit);
        self.rec.reason = Some(format!("{text}; not restarted: restart.noRestartCodes").into());
        self.enter(Phase::Failed, steps);
    }

    pub(super) fn ended(
        &mut self,
        now: Ms,
        process: Identity,
        exit: Exit,
        at_gate: bool,
        steps: &mut Steps,
    ) {
        if self.seeks_main_after(exit, at_gate) {
            return self.begin_seek(now, process, steps);
        }
        // Without exec it ends by SIGKILL only: from its gate's end-of-file, or with its parent.
        let never_ran = at_gate && matches!(exit, Exit::Unknown | Exit::Signal(SIGKILL));
        if !never_ran {
            self.note_exit(now, process, exit);
            self.rec.reason = Some(exit_text(exit).into());
            let is_done = self.plan.kind == Kind::Oneshot && self.plan.policy.is_success(exit);
            self.rec.lost = self.rec.wanted == Wanted::Up && !is_done;
        }
        let why = if never_ran { Why::NeverRan } else { Why::Ended };
        let until = now.after(KILL_AGAIN_MS);
        let phase = Phase::Stopping { process, why, leader_dead: true, killed: false, until };
        self.enter(phase, steps);
        self.reap_and_probe(process, steps);
    }

    pub(super) fn note_exit(&mut self, now: Ms, process: Identity, exit: Exit) {
        let ran_ms = self.rec.started_at.get().map_or(0, |at| now.since(at));
        match self.rec.last_exit.as_ref().is_some_and(|last| last.process == process) {
            // The same end, told again by somebody who knows more.
            true => self.rec.exits.learn(exit),
            false => self.rec.exits.note(exit),
        }
        self.rec.last_exit = Some(LastExit { process, exit, at: now, ran_ms }.into());
    }

    /// After the save: once reaped, the kernel has forgotten the status.
    pub(super) fn reap_and_probe(&mut self, process: Identity, steps: &mut Steps) {
        steps.push(Step::Do(Action::Reap { server: self.id, process }));
        self.probe_group(process, steps);
    }

    pub(super) fn probe_group(&mut self, process: Identity, steps: &mut Steps) {
        steps.push(Step::Do(Action::ProbeGroup { server: self.id, process }));
    }

    /// What is left of the group of the dead leader.
    pub fn on_group(&mut self, now: Ms, of: Identity, living: Option<i32>, steps: &mut Steps) {
        let Phase::Stopping { process, why, leader_dead: true, killed, until } = self.rec.phase
        else {
            return;
        };
        if process != of {
            return;
        }
        let Some(pid) = living else { return self.gone(now, why, steps) };
        if why == Why::Ended && !killed {
            // The leader went by itself and left others behind: they get the same grace as in a
            // stop. `Restart` and `Asked` had their signal already.
            let reason = self.rec.reason.take().unwrap_or_default();
            self.rec.reason = Some(format!("{reason}; PID {pid} of its group still lives").into());
            let until = now.after(self.stop_timeout_ms());
            let why = Why::Clearing;
            self.enter(
                Phase::Stopping { process, why, leader_dead: true, killed: false, until },
                steps,
            );
            self.signal(process, self.stop_signal(), Scope::Group, steps);
            self.signal_who_left(process, steps);
        } else if until <= now {
            self.on_deadline(now, steps);
        }
    }

    /// Told before the answer about its group: the decision behind that saves the reason.
    pub fn on_oom_killed(&mut self, of: Identity, kills: u64) {
        let Phase::Stopping { process, why: Why::Ended, .. } = self.rec.phase else { return };
        let exit = self.rec.last_exit.as_ref().map_or(Exit::Unknown, |last| last.exit);
        if process == of && matches!(exit, Exit::Unknown | Exit::Signal(SIGKILL)) {
            let text = exit_text(exit);
            let text = format!("{text}; its cgroup ran out of memory (processes killed: {kills})");
            self.rec.reason = Some(text.into());
        }
    }

    /// Its leader is dead and its group empty: only now may anything follow, once the commands that
    /// stop it are through.
    pub(super) fn gone(&mut self, now: Ms, why: Why, steps: &mut Steps) {
        if self.runs_a_stop() {
            return self.enter(Phase::Closing { why }, steps);
        }
        self.rec.task = None;
        if self.status_due.is_some() && self.tells_its_end() {
            // Its hooks are told how it ended, which is known in a moment: see `on_status_settled`.
            return self.enter(Phase::Closing { why }, steps);
        }
        if why != Why::NeverRan && self.begin_task(now, TaskKind::PostStop, steps) {
            return self.enter(Phase::Closing { why }, steps);
        }
        self.conclude(now, why, steps);
    }

    /// A hook is told how it ended.
    fn tells_its_end(&self) -> bool {
        let has = |kind| self.plan.task_timeout_ms(kind).is_some();
        has(TaskKind::PostStop) || has(TaskKind::OnFailure)
    }

    /// How it ended is known, or was asked for long enough.
    pub(super) fn on_status_settled(&mut self, now: Ms, steps: &mut Steps) {
        self.status_due = Moment::NONE;
        if let (Phase::Closing { why }, None) = (&self.rec.phase, self.running_task()) {
            self.gone(now, *why, steps);
        }
    }

    /// Nothing of it is left: was it a failure?
    pub(super) fn conclude(&mut self, now: Ms, why: Why, steps: &mut Steps) {
        let is_failure = matches!(why, Why::Ended | Why::Clearing | Why::Failing)
            && self.rec.wanted == Wanted::Up
            && !self.is_well(why);
        if is_failure && self.begin_task(now, TaskKind::OnFailure, steps) {
            self.explain(why);
            return self.enter(Phase::Closing { why }, steps);
        }
        self.settle_end(now, why, steps);
    }

    /// It ended as it should.
    fn is_well(&self, why: Why) -> bool {
        let exit = self.last_exit();
        let ended_early = self.plan.ready.is_some() && self.rec.ready_at.is_none();
        self.plan.policy.is_success(exit) && why != Why::Failing && !ended_early
    }

    fn last_exit(&self) -> Exit {
        self.rec.last_exit.as_ref().map_or(Exit::Unknown, |last| last.exit)
    }

    /// Why it counts as it does.
    fn explain(&mut self, why: Why) {
        let exit = self.last_exit();
        let ended_early = self.plan.ready.is_some() && self.rec.ready_at.is_none();
        if why == Why::Clearing {
            // What was left of its group is gone; only its own end still matters.
            self.rec.reason = Some(exit_text(exit).into());
        }
        if self.plan.policy.is_success(exit) && ended_early && why != Why::Failing {
            self.rec.reason = Some(format!("{} before it was ready", exit_text(exit)).into());
        }
    }

    /// What follows its end.
    pub(super) fn settle_end(&mut self, now: Ms, why: Why, steps: &mut Steps) {
        if matches!(why, Why::Ended | Why::Clearing | Why::Failing) && self.rec.wanted == Wanted::Up
        {
            self.explain(why);
        }
        let is_well = self.is_well(why);
        self.rec.started_at = Moment::NONE;
        self.rec.ready_at = Moment::NONE;
        self.rec.status_text = None;
        let held = self.rec.held.take();
        match (self.rec.wanted, why) {
            (Wanted::Down, _) => {
                self.rec.reason = None;
                self.enter(Phase::Down, steps);
            }
            (Wanted::Up, _) if self.rec.disabled => {
                // How it ended is in the record beside it, and may become known only later.
                if why != Why::Failing {
                    self.rec.reason = None;
                }
                self.rec.wanted = Wanted::Down;
                self.enter(Phase::Down, steps);
            }
            (Wanted::Up, _) if held == Some(Held::Restart) => self.begin_start(),
            (Wanted::Up, Why::Asked | Why::Restart | Why::NeverRan) => self.begin_start(),
            (Wanted::Up, Why::Need) if self.maintenance => {
                self.enter(Phase::Backoff { until: now }, steps);
            }
            (Wanted::Up, Why::Need) => {
                self.begin_start();
                steps.push(Step::Save);
                steps.push(Step::Do(Action::Note(Note::Server(self.id))));
            }
            (Wanted::Up, Why::Ended | Why::Clearing | Why::Failing) => {
                self.decide(now, why, is_well, steps);
            }
        }
    }

    /// It ended by itself: what does its policy say?
    fn decide(&mut self, now: Ms, why: Why, is_well: bool, steps: &mut Steps) {
        let (exit, policy) = (self.last_exit(), &self.plan.policy);
        if why != Why::Failing && policy.forbids_restart(exit) {
            return self.forbid_restart(exit, steps);
        }
        match policy.when {
            When::OnFailure | When::Never if is_well => return self.enter(Phase::Exited, steps),
            When::Never => return self.enter(Phase::Failed, steps),
            When::OnFailure | When::Always => {}
        }
        self.plan.policy.count(&mut self.rec.failures, now);
        self.rec.failures_in_row = self.rec.failures_in_row.saturating_add(1);
        let (in_window, in_row) = (self.rec.failures.len(), self.rec.failures_in_row);
        let seed = self.rec.start_number ^ (self.id.0 as u64) << 32;
        match self.plan.policy.next_try(now, in_window, in_row, seed) {
            Verdict::At(at) if at <= now && !self.maintenance => {
                self.rec.restarts += 1;
                self.begin_start();
            }
            Verdict::At(until) => self.enter(Phase::Backoff { until }, steps),
            Verdict::GiveUp => {
                let reason = self.rec.reason.take().unwrap_or_default();
                let (tries, window_s) = (self.plan.policy.tries, self.plan.policy.window_ms / 1000);
                let restarts = if tries == 1 { "restart" } else { "restarts" };
                let text = format!("{reason}; gave up after {tries} {restarts} in {window_s} s");
                self.rec.reason = Some(text.into());
                self.enter(Phase::Failed, steps);
            }
        }
    }
}
