//! The commands that run beside one server: its hooks, and its stop, reload and drain commands.
//!
//! Must not run anything itself (the shell does). One runs at a time, behind a gate as a server does:
//! its process is on record before it may begin, so that whoever takes over goes on waiting for it
//! instead of running it a second time. Only when nobody can know whether it ran is it run again. A
//! task that takes too long, or that nobody waits for any more, gets SIGKILL and is forgotten: the
//! signal is sent before the record says so, and no command does anything after it.

use super::rare::{Blank, Text};
use super::record::{Exit, Identity, Phase, Task, TaskKind, Wanted, Why};
use super::server::{SPAWN_TIMEOUT_MS, Server, Step, Steps, exit_text};
use super::time::Ms;
use super::{Action, Note};

const SIGKILL: i32 = 9;
/// How often a record that could not be written is tried again while the child waits.
const GATE_RETRY_MS: u64 = 1_000;

/// How the child of a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TaskEnd {
    Exited(Exit),
    /// It could not begin, and why.
    NotBegun(String),
}

/// What this process knows of the task on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskRun {
    /// Rises with every task, so that news of an older one is told apart.
    number: u64,
    stage: Stage,
}

impl Blank for TaskRun {
    const BLANK: &'static TaskRun = &TaskRun { number: 0, stage: Stage::None };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    None,
    /// A child was asked for; the answer is owed until then.
    Forking { until: Ms },
    /// It waits at its gate while its identity goes on record; tried again then.
    AtGate { again: Ms },
    /// `is_adopted`: an earlier active started it, and perhaps never opened its gate.
    Running { is_adopted: bool },
}

impl Server {
    /// Asks for the child of a task. Not saved: without a record it can't pass its gate. False: the
    /// server has no such task.
    pub(super) fn begin_task(&mut self, now: Ms, kind: TaskKind, steps: &mut Steps) -> bool {
        let Some(timeout_ms) = self.plan.task_timeout_ms(kind) else { return false };
        self.cancel_task(steps);
        self.task_run.number += 1;
        self.task_run.stage = Stage::Forking { until: now.after(SPAWN_TIMEOUT_MS) };
        let until = now.after(timeout_ms);
        self.rec.task = Some(Task { kind, process: None, until, is_over: false }.into());
        let number = self.task_run.number;
        steps.push(Step::Do(Action::SpawnTask { server: self.id, number, kind }));
        true
    }

    /// Nobody waits for it any more. Saved by the caller, after the signal.
    pub(super) fn cancel_task(&mut self, steps: &mut Steps) {
        if let Some(task) = self.rec.task.take().filter(|task| !task.is_over) {
            let number = self.task_run.number;
            steps.push(Step::Do(Action::KillTask { server: self.id, number }));
            if task.kind == TaskKind::Reload {
                self.note_reload(Some(
                    "reload command: ended, because the server ends".to_string(),
                ));
            }
        }
        self.rest();
    }

    /// No task is on its way.
    fn rest(&mut self) {
        if self.task_run.stage != Stage::None {
            self.task_run.stage = Stage::None;
        }
    }

    /// The task that runs, or is about to.
    pub fn running_task(&self) -> Option<&Task> {
        self.rec.task.as_deref().filter(|task| !task.is_over)
    }

    /// What its task with this number is, as long as it is waited for.
    pub fn waits_for(&self, number: u64) -> Option<TaskKind> {
        let task = self.running_task().filter(|_| self.task_run.number == number)?;
        (self.task_run.stage != Stage::None).then_some(task.kind)
    }

    pub(super) fn runs(&self, kind: TaskKind) -> bool {
        self.running_task().is_some_and(|task| task.kind == kind)
    }

    /// What is done to stop it runs: its end is waited for, also when the server is gone before.
    pub(super) fn runs_a_stop(&self) -> bool {
        self.runs(TaskKind::PreStop) || self.runs(TaskKind::Stop)
    }

    /// When `on_task_deadline` is due.
    pub fn task_deadline(&self) -> Option<Ms> {
        let task = self.running_task()?;
        match self.task_run.stage {
            Stage::None => None,
            Stage::Forking { until } => Some(until),
            Stage::AtGate { again } => Some(again),
            Stage::Running { .. } => Some(task.until),
        }
    }

    /// The child is there, at its gate.
    pub fn on_task_spawned(&mut self, now: Ms, number: u64, process: Identity, steps: &mut Steps) {
        let is_owed = matches!(self.task_run.stage, Stage::Forking { .. });
        match &mut self.rec.task {
            Some(task) if is_owed && self.task_run.number == number => {
                task.process = Some(process);
                self.task_run.stage = Stage::AtGate { again: now.after(GATE_RETRY_MS) };
                steps.push(Step::SaveForTask(number));
            }
            _ => steps.push(Step::Do(Action::KillTask { server: self.id, number })),
        }
    }

    /// Its record is safe: this, and nothing else, opens its gate.
    pub fn on_task_recorded(&mut self, number: u64, steps: &mut Steps) {
        let waits = matches!(self.task_run.stage, Stage::AtGate { .. });
        if waits && self.task_run.number == number {
            self.task_run.stage = Stage::Running { is_adopted: false };
            steps.push(Step::Do(Action::OpenTaskGate { server: self.id, number }));
        }
    }

    /// Its child has ended, or there is none.
    pub fn on_task_ended(&mut self, now: Ms, number: u64, end: TaskEnd, steps: &mut Steps) {
        let Some(task) = self.running_task().copied() else { return };
        if self.waits_for(number).is_none() {
            return;
        }
        // Its gate may never have been opened: then nothing of it was done.
        let may_not_have_run = self.task_run.stage == Stage::Running { is_adopted: true }
            && matches!(end, TaskEnd::Exited(Exit::Unknown | Exit::Signal(SIGKILL)));
        if may_not_have_run {
            self.rec.task = None;
            if self.begin_task(now, task.kind, steps) {
                return self.make_room_for_task();
            }
        }
        let result = match end {
            TaskEnd::Exited(Exit::Code(0)) => Ok(()),
            TaskEnd::Exited(exit) => Err(exit_text(exit)),
            TaskEnd::NotBegun(text) => Err(text),
        };
        self.finish_task(now, task.kind, result, steps);
    }

    /// It takes too long, or its record could not be written.
    pub fn on_task_deadline(&mut self, now: Ms, steps: &mut Steps) {
        let Some(task) = self.running_task().copied() else { return };
        let result = match self.task_run.stage {
            Stage::None => return,
            Stage::Forking { .. } if self.plan.task_timeout_ms(task.kind).is_none() => {
                // A hook that is gone has nothing to do. What was asked for was not done.
                match task.kind {
                    TaskKind::Stop | TaskKind::Reload => {
                        Err("it is not configured any more".to_string())
                    }
                    _ => Ok(()),
                }
            }
            Stage::Forking { .. } => Err("there was no answer to the fork".to_string()),
            // A start waits for its record, as long as it takes.
            Stage::AtGate { .. } if now < task.until || task.kind == TaskKind::PreStart => {
                self.task_run.stage = Stage::AtGate { again: now.after(GATE_RETRY_MS) };
                return steps.push(Step::SaveForTask(self.task_run.number));
            }
            Stage::AtGate { .. } => Err("it could not be put on record".to_string()),
            Stage::Running { .. } => Err("took too long".to_string()),
        };
        let number = self.task_run.number;
        steps.push(Step::Do(Action::KillTask { server: self.id, number }));
        self.finish_task(now, task.kind, result, steps);
    }

    /// A new active has this record. What runs is waited for; what never passed its gate is run.
    pub(super) fn adopt_task(&mut self, now: Ms, steps: &mut Steps) {
        let Some(task) = self.rec.task.as_deref().copied() else { return };
        let is_stale = task.is_over && task.kind == TaskKind::PreStart;
        if task.is_over && !is_stale {
            return;
        }
        let phase = match &self.rec.phase {
            Phase::Verifying { was, .. } => was,
            phase => phase,
        };
        // The record may be older than what was found alive.
        let fits = fits(task.kind, phase);
        if let Some(process) = task.process {
            self.task_run.number += 1;
            self.task_run.stage = Stage::Running { is_adopted: true };
            let number = self.task_run.number;
            steps.push(Step::Do(Action::WatchTask { server: self.id, number, process }));
            if fits && !is_stale {
                return;
            }
            steps.push(Step::Do(Action::KillTask { server: self.id, number }));
        }
        self.rec.task = None;
        self.rest();
        if !fits {
            return steps.push(Step::Save);
        }
        if !self.begin_task(now, task.kind, steps) {
            // It is not configured any more: as if it were done, in the next step.
            self.rec.task = Some(Task { process: None, is_over: false, ..task }.into());
            self.task_run.stage = Stage::Forking { until: now };
        }
    }

    /// A task that is run again has its whole time.
    pub(super) fn make_room_for_task(&mut self) {
        let Some(task) = self.running_task() else { return };
        let room = match task.kind {
            TaskKind::PreStop | TaskKind::PostStart => task.until.after(SPAWN_TIMEOUT_MS),
            TaskKind::Stop => task.until,
            _ => return,
        };
        if let Phase::Unready { until, .. } | Phase::Stopping { until, killed: false, .. } =
            &mut self.rec.phase
        {
            *until = (*until).max(room);
        }
    }

    /// What follows the end of a task.
    fn finish_task(
        &mut self,
        now: Ms,
        kind: TaskKind,
        result: Result<(), String>,
        steps: &mut Steps,
    ) {
        self.rec.task = None;
        self.rest();
        let failed = result.clone().err();
        steps.push(Step::Do(Action::Note(Note::Task { server: self.id, kind, failed })));
        let reason = result.err().map(|text| format!("{}: {text}", kind.title()));
        let before = steps.len();
        self.go_on_after(now, kind, reason, steps);
        // How it ended is on record, whatever follows: it is not run again.
        if !steps[before..].iter().any(|step| matches!(step, Step::Save)) {
            steps.push(Step::Save);
        }
    }

    fn go_on_after(&mut self, now: Ms, kind: TaskKind, reason: Option<String>, steps: &mut Steps) {
        match (kind, self.rec.phase.clone()) {
            (TaskKind::PreStart, Phase::Preparing) => self.is_prepared(now, reason, steps),
            (TaskKind::PostStart, Phase::Unready { process, .. }) => match reason {
                None => self.is_up(now, process, steps),
                Some(reason) => self.fail(now, reason, steps),
            },
            (
                TaskKind::PreStop,
                Phase::Stopping { process, why, killed: false, leader_dead: false, .. },
            ) => {
                self.rec.reason = reason.map(Text::from).or(self.rec.reason.take());
                self.send_stop(now, process, why, steps);
            }
            (
                TaskKind::Stop,
                Phase::Stopping { process, killed: false, leader_dead: false, .. },
            ) => self.stop_command_is_over(now, process, reason, steps),
            // Its leader went while that ran; what is left of its group has not been told yet.
            (
                TaskKind::PreStop | TaskKind::Stop,
                Phase::Stopping { process, why, killed: false, leader_dead: true, .. },
            ) if kind == TaskKind::PreStop || reason.is_some() => {
                let (leader_dead, killed) = (true, false);
                let until = now.after(self.stop_timeout_ms());
                self.enter(Phase::Stopping { process, why, leader_dead, killed, until }, steps);
                self.signal(process, self.stop_signal(), super::Scope::Group, steps);
            }
            (TaskKind::PreStop | TaskKind::Stop, Phase::Closing { why }) => {
                self.gone(now, why, steps);
            }
            (TaskKind::PostStop, Phase::Closing { why }) => self.conclude(now, why, steps),
            (TaskKind::OnFailure, Phase::Closing { why }) => self.settle_end(now, why, steps),
            (TaskKind::Drain, Phase::Draining { .. }) => match reason {
                None => self.is_quiesced(now, steps),
                Some(reason) => self.drain_failed(now, reason, steps),
            },
            (TaskKind::Reload, _) => self.note_reload(reason),
            _ => {}
        }
    }

    fn is_prepared(&mut self, now: Ms, reason: Option<String>, steps: &mut Steps) {
        match (reason, self.rec.wanted) {
            (_, Wanted::Down) => {
                self.rec.reason = None;
                self.enter(Phase::Down, steps);
            }
            (None, Wanted::Up) => {
                self.rec.prepared = true;
                self.ask_for_child(now, steps);
            }
            (Some(reason), Wanted::Up) => {
                self.rec.reason = Some(reason.into());
                self.conclude(now, Why::Failing, steps);
            }
        }
    }

    /// It ended well: whatever it told the server, that is waited for. Else there is the signal.
    fn stop_command_is_over(
        &mut self,
        now: Ms,
        process: Identity,
        reason: Option<String>,
        steps: &mut Steps,
    ) {
        if let Some(reason) = reason {
            self.rec.reason = Some(reason.into());
            steps.push(Step::Save);
            let signal = self.stop_signal();
            return self.signal(process, signal, super::Scope::Group, steps);
        }
        let (kind, is_over) = (TaskKind::Stop, true);
        self.rec.task = Some(Task { kind, process: None, until: now, is_over }.into());
        steps.push(Step::Save);
    }

    fn note_reload(&mut self, failed: Option<String>) {
        if let Some(mark) = self.rec.marks.iter_mut().rev().find(|mark| !mark.done) {
            (mark.done, mark.failed) = (true, failed);
        }
    }
}

/// A server in this phase may have such a task.
fn fits(kind: TaskKind, phase: &Phase) -> bool {
    match kind {
        TaskKind::PreStart => matches!(phase, Phase::Preparing),
        TaskKind::PostStart => matches!(phase, Phase::Unready { .. }),
        TaskKind::PreStop | TaskKind::Stop => {
            matches!(phase, Phase::Stopping { .. } | Phase::Closing { .. })
        }
        TaskKind::PostStop | TaskKind::OnFailure => matches!(phase, Phase::Closing { .. }),
        TaskKind::Reload => matches!(phase, Phase::Up { .. }),
        TaskKind::Drain => matches!(phase, Phase::Draining { .. }),
    }
}
