//! The table for servers with commands: every task in every state.

use super::*;
use crate::core::record::Task;

/// Those without a process, in which a command runs.
pub fn phases_of_tasks() -> Vec<Phase> {
    let whys = [
        Why::Asked,
        Why::Restart,
        Why::Ended,
        Why::Clearing,
        Why::NeverRan,
        Why::Failing,
        Why::Need,
    ];
    let closing = whys.map(|why| Phase::Closing { why });
    std::iter::once(Phase::Preparing).chain(closing).collect()
}

/// The tasks that a server in this phase may have.
fn kinds_in(phase: &Phase) -> Vec<TaskKind> {
    use crate::core::record::TaskKind::*;
    match phase {
        Phase::Preparing => vec![PreStart],
        Phase::Unready { .. } => vec![PostStart],
        Phase::Up { .. } => vec![Reload],
        Phase::Draining { quiesced: false, .. } => vec![Drain],
        Phase::Stopping { why: Why::NeverRan, .. } => vec![],
        Phase::Stopping { killed: false, .. } => vec![PreStop, Stop],
        Phase::Stopping { killed: true, .. } => vec![Stop],
        Phase::Closing { .. } => vec![PreStop, Stop, PostStop, OnFailure],
        Phase::Verifying { was, .. } => kinds_in(was),
        _ => Vec::new(),
    }
}

/// With every task that fits, in every state that it may be in.
pub fn servers_with_tasks(phase: &Phase) -> Vec<Server> {
    let mut bare = server_in(phase.clone());
    bare.plan = plan_with_tasks();
    let mut all = Vec::new();
    if !matches!(phase, Phase::Preparing | Phase::Closing { .. }) {
        all.push(bare.clone());
    }
    for kind in kinds_in(phase) {
        let until = NOW.after(3_000);
        for process in [None, Some(process(20))] {
            let mut on_record = bare.clone();
            on_record.rec.task = Some(Task { kind, process, until, is_over: false }.into());
            if !matches!(phase, Phase::Verifying { .. }) {
                // Asked for, or watched after a takeover.
                on_record.adopt_task(NOW, &mut Steps::new());
            }
            all.push(on_record);
        }
        if matches!(phase, Phase::Verifying { .. }) {
            continue;
        }
        let mut at_gate = bare.clone();
        at_gate.begin_task(NOW, kind, &mut Steps::new());
        at_gate.on_task_spawned(NOW, 1, process(20), &mut Steps::new());
        let mut running = at_gate.clone();
        running.on_task_recorded(1, &mut Steps::new());
        all.extend([at_gate, running]);
    }
    if matches!(phase, Phase::Stopping { .. }) {
        let mut told = bare;
        told.rec.task =
            Some(Task { kind: TaskKind::Stop, process: None, until: NOW, is_over: true }.into());
        all.push(told);
    }
    all
}

pub fn cases_with_tasks() -> Vec<Case> {
    let mut all = Vec::new();
    let events = everything();
    for phase in phases().into_iter().chain(phases_of_tasks()) {
        for wanted in [Wanted::Up, Wanted::Down] {
            // A stop leads out of these at once.
            let is_wanted = matches!(
                phase,
                Phase::Queued
                    | Phase::Preparing
                    | Phase::Backoff { .. }
                    | Phase::Failed
                    | Phase::Exited
            );
            if is_wanted && wanted == Wanted::Down {
                continue;
            }
            for server in servers_with_tasks(&phase) {
                for (event, work) in &events {
                    let mut before = server.clone();
                    before.rec.wanted = wanted;
                    let mut after = before.clone();
                    let steps = steps_of(&mut after, |server, steps| work(server, steps));
                    all.push(Case { before, event: event.clone(), after, steps });
                }
            }
        }
    }
    all
}

pub fn process_of_task() -> Identity {
    process(20)
}

#[test]
fn a_command_that_runs_is_never_forgotten_without_a_kill_before_the_record() {
    for case in cases_with_tasks().into_iter().filter(Case::has_task) {
        let is_new = case.place(|action| matches!(action, Action::SpawnTask { .. })).is_some();
        let is_gone = case.after.running_task().is_none() || is_new;
        if !is_gone || matches!(case.event.as_str(), "task ended" | "adopt") {
            continue;
        }
        let kill = case.place(|action| matches!(action, Action::KillTask { number: 1, .. }));
        assert!(kill.is_some_and(|kill| kill < case.first_save()), "{}", case.tell());
    }
}

#[test]
fn one_command_runs_at_a_time_and_fits_the_phase() {
    for case in cases_with_tasks() {
        let is_over = matches!(case.event.as_str(), "task ended" | "adopt");
        let (mut runs, mut last) = (case.has_task() && !is_over, None);
        for step in &case.steps {
            match step {
                Step::Do(Action::SpawnTask { kind, .. }) => {
                    assert!(!runs, "{}", case.tell());
                    (runs, last) = (true, Some(*kind));
                }
                Step::Do(Action::KillTask { .. }) => (runs, last) = (false, None),
                Step::Do(Action::Spawn { .. }) => assert!(!runs, "{}", case.tell()),
                _ => {}
            }
        }
        let fits = last.is_none_or(|kind| kinds_in(&case.after.rec.phase).contains(&kind));
        assert!(fits, "{}", case.tell());
    }
}

#[test]
fn how_a_command_ended_is_on_record_whatever_follows() {
    for case in cases_with_tasks().into_iter().filter(Case::has_task) {
        let was_over = case.event == "task ended";
        let is_run_again =
            case.place(|action| matches!(action, Action::SpawnTask { .. })).is_some();
        assert!(!was_over || is_run_again || case.first_save() < usize::MAX, "{}", case.tell());
    }
}

#[test]
fn nothing_starts_while_a_command_of_the_end_runs() {
    for case in cases_with_tasks().into_iter().filter(Case::has_task) {
        let is_closing = matches!(case.before.rec.phase, Phase::Closing { .. });
        let is_over = matches!(case.event.as_str(), "task ended" | "task deadline" | "kill");
        let begins = |action: &Action| {
            matches!(
                action,
                Action::Spawn { .. } | Action::SpawnTask { kind: TaskKind::PreStart, .. }
            )
        };
        assert!(!is_closing || is_over || case.place(begins).is_none(), "{}", case.tell());
    }
}
