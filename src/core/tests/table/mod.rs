//! Every phase against every event and order: what must hold whatever comes when.

mod tasks;

use self::tasks::*;
use super::*;
use crate::core::checks::{Check, Told};
use crate::core::plan::{Health, Ready};
use crate::core::record::{TaskKind, Why};
use crate::core::task::TaskEnd;

type Work = Box<dyn Fn(&mut Server, &mut Steps)>;

const OWN: i32 = 9;
const OTHER: i32 = 8;

fn phases() -> Vec<Phase> {
    let (process, until) = (process(OWN), NOW);
    let mut all = vec![
        Phase::Down,
        Phase::Spawning { until },
        Phase::AtGate { process, until },
        Phase::Execing { process, until },
        Phase::Locking { process, until },
        Phase::Settling { process, until },
        Phase::Unready { process, until },
        Phase::Seeking { starter: process.into(), again: until, until: Ms(NOW.0 + 60_000) },
        Phase::Seeking { starter: process.into(), again: until, until },
        Phase::Queued,
        Phase::Up { process },
        Phase::Reaping { process, until, at_gate: true },
        Phase::Reaping { process, until, at_gate: false },
        Phase::Waiting { until, pid: 77 },
        Phase::Backoff { until },
        Phase::Failed,
        Phase::Exited,
    ];
    for why in [
        Why::Asked,
        Why::Restart,
        Why::Ended,
        Why::Clearing,
        Why::NeverRan,
        Why::Failing,
        Why::Need,
    ] {
        for (leader_dead, killed) in [(false, false), (false, true), (true, false), (true, true)] {
            all.push(Phase::Stopping { process, why, leader_dead, killed, until });
        }
    }
    for (quiesced, keeps) in [(false, false), (false, true), (true, false), (true, true)] {
        for why in [Why::Asked, Why::Restart] {
            all.push(Phase::Draining { process, until, why, quiesced, keeps });
        }
    }
    let seen_again: Vec<Phase> = all.iter().filter(|p| p.process().is_some()).cloned().collect();
    for was in seen_again {
        all.push(Phase::Verifying { was: Box::new(was), until });
    }
    all
}

fn told() -> Told {
    let status = Some("loading".to_string());
    Told { ready: true, stopping: true, status, extend_ms: Some(9_000), ..Told::default() }
}

/// Events about the process with this PID and the start with this number.
fn news(pid: i32, number: u64) -> Vec<(String, Work)> {
    let process = process(pid);
    let mut all: Vec<(&str, Work)> = vec![
        ("spawned", Box::new(move |s, out| s.on_spawned(NOW, number, process, out))),
        ("spawn failed", Box::new(move |s, out| s.on_spawn_failed(NOW, number, "x".into(), out))),
        ("child failed", Box::new(move |s, out| s.on_child_failed(NOW, number, "x".into(), out))),
        ("child refused", Box::new(move |s, out| s.on_child_refused(NOW, number, "x".into(), out))),
        ("recorded", Box::new(move |s, out| s.on_recorded(NOW, number, out))),
        ("not recorded", Box::new(move |s, _| s.on_not_recorded(number, "x"))),
        ("child waits", Box::new(move |s, out| s.on_child_waits(NOW, number, "x".into(), 5, out))),
        ("executed", Box::new(move |s, out| s.on_executed(NOW, number, out))),
        ("told", Box::new(move |s, out| s.on_told(NOW, number, told(), out))),
        ("group left", Box::new(move |s, out| s.on_group(NOW, process, Some(10), out))),
        ("group empty", Box::new(move |s, out| s.on_group(NOW, process, None, out))),
    ];
    let exits = [Exit::Code(0), Exit::Code(1), Exit::Signal(9)];
    for exit in exits {
        let died = move |s: &mut Server, out: &mut Steps| s.on_died(NOW, process, Some(exit), out);
        all.push(("died", Box::new(died)));
        let status = move |s: &mut Server, out: &mut Steps| s.on_status(NOW, process, exit, out);
        all.push(("status", Box::new(status)));
    }
    all.push(("died", Box::new(move |s, out| s.on_died(NOW, process, None, out))));
    // The first task of a server has the number 1.
    let task = number - 3;
    let its = super::process(pid + 11);
    all.push(("task spawned", Box::new(move |s, out| s.on_task_spawned(NOW, task, its, out))));
    all.push(("task recorded", Box::new(move |s, out| s.on_task_recorded(task, out))));
    let ends = exits.into_iter().chain([Exit::Unknown]).map(TaskEnd::Exited);
    for end in ends.chain([TaskEnd::NotBegun("no such file".to_string())]) {
        let ended =
            move |s: &mut Server, out: &mut Steps| s.on_task_ended(NOW, task, end.clone(), out);
        all.push(("task ended", Box::new(ended)));
    }
    for check in [Check::Ready, Check::Health(0), Check::Drain] {
        for answer in [Ok(()), Err("refused".to_string())] {
            let probed = move |s: &mut Server, out: &mut Steps| {
                s.on_probed(NOW, number, check, answer.clone(), out);
            };
            all.push(("probed", Box::new(probed)));
        }
    }
    for found in [Found::Alive, Found::AtGate, Found::Gone, Found::Unclear("x".into())] {
        let verified =
            move |s: &mut Server, out: &mut Steps| s.on_verified(NOW, process, found.clone(), out);
        all.push(("verified", Box::new(verified)));
    }
    all.into_iter().map(|(name, work)| (name.to_string(), work)).collect()
}

fn everything() -> Vec<(String, Work)> {
    let mut all = news(OWN, 4);
    let more: Vec<(&str, Work)> = vec![
        ("deadline", Box::new(|s, out| s.on_deadline(NOW, out))),
        ("task deadline", Box::new(|s, out| s.on_task_deadline(NOW, out))),
        ("drain", Box::new(|s, out| s.drain(NOW, out))),
        ("disable", Box::new(|s, out| s.disable(NOW, out))),
        ("check due", Box::new(|s, out| s.on_check_due(NOW, out))),
        ("need lost", Box::new(|s, out| s.lose_need(NOW, "db ended".into(), out))),
        ("strays", Box::new(|s, out| s.on_strays(Some(78), out))),
        ("no strays", Box::new(|s, out| s.on_strays(None, out))),
        ("adopt", Box::new(|s, out| s.adopt(NOW, out))),
        ("start", Box::new(|s, out| s.start(out))),
        ("stop", Box::new(|s, out| s.stop(NOW, out))),
        ("kill", Box::new(|s, out| s.kill(NOW, out))),
        ("restart", Box::new(|s, out| s.restart(NOW, out))),
        ("reset", Box::new(|s, out| s.reset(out))),
    ];
    all.extend(more.into_iter().map(|(name, work)| (name.to_string(), work)));
    all
}

/// One transition: what was, what came, what is, and what is to be done.
struct Case {
    before: Server,
    event: String,
    after: Server,
    steps: Steps,
}

/// With and without checks; with them, an answer is owed to the first one.
fn servers_in(phase: &Phase) -> Vec<Server> {
    let plain = server_in(phase.clone());
    let mut checked = plain.clone();
    let (interval_ms, timeout_ms) = (100, 100);
    checked.plan.ready = Some(Ready::Asked { interval_ms, timeout_ms });
    checked.plan.health = vec![Health::Asked { interval_ms, timeout_ms, failures: 1, for_ms: 0 }];
    checked.begin_checks_again(NOW, &mut Steps::new());
    checked.on_check_due(NOW, &mut Steps::new());
    let mut told = plain.clone();
    told.plan.ready = Some(Ready::Told);
    told.begin_checks_again(NOW, &mut Steps::new());
    vec![plain, checked, told]
}

fn cases() -> Vec<Case> {
    let mut all = cases_with_tasks();
    for phase in phases() {
        // A stop leads out of these at once.
        let is_wanted =
            matches!(phase, Phase::Queued | Phase::Backoff { .. } | Phase::Failed | Phase::Exited);
        for wanted in [Wanted::Up, Wanted::Down] {
            if is_wanted && wanted == Wanted::Down {
                continue;
            }
            for when in [When::Always, When::OnFailure, When::Never] {
                for server in servers_in(&phase) {
                    for (event, work) in everything() {
                        let mut before = server.clone();
                        (before.rec.wanted, before.plan.policy.when) = (wanted, when);
                        let mut after = before.clone();
                        let steps = steps_of(&mut after, |server, steps| work(server, steps));
                        all.push(Case { before, event, after, steps });
                    }
                }
            }
        }
    }
    all
}

impl Case {
    /// A command is asked for, waits at its gate, or runs, and this process looks after it.
    fn has_task(&self) -> bool {
        self.before.task_deadline().is_some()
    }

    fn tell(&self) -> String {
        let (from, to) = (&self.before.rec, &self.after.rec);
        format!(
            "{:?} ({:?}, {:?}) --{}--> {:?} ({:?}, {:?}): {:#?}",
            from.phase,
            from.wanted,
            from.task,
            self.event,
            to.phase,
            to.wanted,
            to.task,
            self.steps
        )
    }

    fn place(&self, is_it: impl Fn(&Action) -> bool) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step, Step::Do(action) if is_it(action)))
    }

    fn first_save(&self) -> usize {
        let saves =
            |step: &Step| matches!(step, Step::Save | Step::SaveForGate | Step::SaveForTask(_));
        self.steps.iter().position(saves).unwrap_or(usize::MAX)
    }
}

#[test]
fn whoever_waits_has_a_deadline_that_is_still_to_come() {
    for case in cases() {
        let after = &case.after;
        let rests = matches!(
            after.rec.phase,
            Phase::Up { .. } | Phase::Down | Phase::Queued | Phase::Failed | Phase::Exited
        );
        let waits_for_task = matches!(after.rec.phase, Phase::Preparing | Phase::Closing { .. });
        let deadline = match waits_for_task {
            true => after.task_deadline().or(after.status_due.get()),
            false => after.deadline(),
        };
        assert!(rests || deadline.is_some(), "{}", case.tell());
        assert!(deadline.is_none_or(|at| at >= NOW), "{}", case.tell());
        assert!(after.task_deadline().is_none_or(|at| at >= NOW), "{}", case.tell());
    }
}

#[test]
fn nothing_is_started_while_the_copy_before_it_may_live() {
    for case in cases() {
        if case.place(|action| matches!(action, Action::Spawn { .. })).is_none() {
            continue;
        }
        let is_proven = match (&case.before.rec.phase, case.event.as_str()) {
            (phase, _) if phase.is_gone() => true,
            (Phase::Spawning { .. }, "deadline" | "adopt") => true,
            (Phase::Stopping { leader_dead: true, .. }, "group empty") => true,
            (Phase::Waiting { .. }, "no strays") => true,
            (Phase::Preparing, "task ended") => true,
            _ => false,
        };
        assert!(is_proven, "{}", case.tell());
        assert_eq!(case.after.rec.wanted, Wanted::Up, "{}", case.tell());
        assert_eq!(case.after.rec.start_number, 5, "{}", case.tell());
        assert!(matches!(case.after.rec.phase, Phase::Spawning { .. }), "{}", case.tell());
    }
}

#[test]
fn a_start_number_rises_with_a_start_and_never_else() {
    for case in cases() {
        let starts = case.place(|action| matches!(action, Action::Spawn { .. })).is_some();
        let rise = case.after.rec.start_number - case.before.rec.start_number;
        assert_eq!(rise, u64::from(starts), "{}", case.tell());
    }
}

#[test]
fn only_a_record_opens_a_gate() {
    for case in cases() {
        if case.place(|action| matches!(action, Action::OpenTaskGate { .. })).is_some() {
            assert_eq!(case.event, "task recorded", "{}", case.tell());
            let process = case.before.rec.task.as_ref().and_then(|task| task.process);
            assert_eq!(process, Some(process_of_task()), "{}", case.tell());
        }
        if case.place(|action| matches!(action, Action::OpenGate { .. })).is_some() {
            assert_eq!(case.event, "recorded", "{}", case.tell());
            assert!(matches!(case.before.rec.phase, Phase::AtGate { .. }), "{}", case.tell());
        }
    }
}

#[test]
fn an_end_is_saved_before_it_is_reaped() {
    for case in cases() {
        if let Some(reap) = case.place(|action| matches!(action, Action::Reap { .. })) {
            assert!(case.first_save() < reap, "{}", case.tell());
            // A child that never ran has no end that anybody is told of.
            let never_ran =
                matches!(case.after.rec.phase, Phase::Stopping { why: Why::NeverRan, .. });
            let last = case.after.rec.last_exit.as_ref().map(|last| last.process);
            assert_eq!(last, (!never_ran).then_some(process(OWN)), "{}", case.tell());
        }
    }
}

#[test]
fn a_signal_is_for_the_own_process_and_is_on_record_before_it_is_sent() {
    for case in cases() {
        let Some(sent) = case.place(|action| matches!(action, Action::Signal { .. })) else {
            continue;
        };
        // A stop that was on record already is carried out again after a takeover.
        let was_on_record = matches!(&case.before.rec.phase, Phase::Verifying { was, .. }
            if matches!(**was, Phase::Stopping { .. }));
        assert!(was_on_record || case.first_save() < sent, "{}", case.tell());
        let Step::Do(Action::Signal { process: target, .. }) = &case.steps[sent] else {
            unreachable!("it was found by its kind");
        };
        assert_eq!(*target, process(OWN), "{}", case.tell());
        let has_process = case.before.rec.phase.process().is_some()
            || matches!(case.before.rec.phase, Phase::Stopping { .. } | Phase::Seeking { .. });
        assert!(has_process, "{}", case.tell());
    }
}

#[test]
fn what_can_not_be_told_apart_is_not_touched() {
    for case in cases() {
        let is_unclear = matches!(case.before.rec.phase, Phase::Verifying { .. })
            && !matches!(case.event.as_str(), "verified" | "died" | "status" | "task spawned");
        let is_act = |action: &Action| {
            matches!(
                action,
                Action::Signal { .. }
                    | Action::Spawn { .. }
                    | Action::Reap { .. }
                    | Action::SpawnTask { .. }
                    | Action::KillTask { .. }
            )
        };
        assert!(!is_unclear || case.place(is_act).is_none(), "{}", case.tell());
    }
}

#[test]
fn only_orders_change_what_is_wanted() {
    for case in cases() {
        let is_order =
            matches!(case.event.as_str(), "start" | "stop" | "kill" | "restart" | "drain");
        // What is disabled and does not run, or waits only to be started, is not wanted any more.
        let is_disabled = case.after.rec.disabled && case.after.rec.wanted == Wanted::Down;
        // What was not drained in time may go on running.
        let goes_on = matches!(case.before.rec.phase, Phase::Draining { keeps: true, .. })
            && matches!(case.after.rec.phase, Phase::Up { .. });
        if is_disabled || goes_on {
            continue;
        }
        let is_same = case.before.rec.wanted == case.after.rec.wanted;
        assert!(is_order || is_same, "{}", case.tell());
        if is_order {
            let is_saved = case.first_save() != usize::MAX;
            assert!(is_saved, "an order is on record: {}", case.tell());
        }
    }
}

#[test]
fn a_phase_that_a_takeover_must_know_is_saved() {
    for case in cases() {
        let (from, to) = (&case.before.rec.phase, &case.after.rec.phase);
        // Before its gate nothing has happened; a look at a process changes nothing; what was
        // found alive is as the record says.
        let needs_none =
            matches!(to, Phase::Spawning { .. } | Phase::Execing { .. } | Phase::Verifying { .. })
                || matches!(from, Phase::Verifying { was, .. }
                    if std::mem::discriminant(&**was) == std::mem::discriminant(to));
        let has_changed = std::mem::discriminant(from) != std::mem::discriminant(to);
        let is_saved = case.first_save() != usize::MAX;
        assert!(needs_none || !has_changed || is_saved, "{}", case.tell());
    }
}

#[test]
fn a_known_exit_is_never_made_up() {
    for case in cases() {
        let Some(last) = &case.after.rec.last_exit else { continue };
        let is_told = matches!(case.event.as_str(), "died" | "status");
        assert!(is_told || last.exit == Exit::Unknown, "{}", case.tell());
    }
}

#[test]
fn old_news_changes_nothing() {
    let of_others = [news(OTHER, 3), news(OTHER, 5)].into_iter().flatten();
    for (event, work) in of_others {
        // What is queued is admitted in the same step, whatever came.
        let phases = phases().into_iter().chain(phases_of_tasks());
        let with = phases.filter(|phase| *phase != Phase::Queued);
        for before in with.flat_map(|phase| {
            let plain = server_in(phase.clone());
            std::iter::once(plain).chain(servers_with_tasks(&phase))
        }) {
            let mut after = before.clone();
            let steps = steps_of(&mut after, |server, steps| work(server, steps));
            assert_eq!(after, before, "{event}");
            let discards = |step: &Step| {
                matches!(step, Step::Do(Action::Discard { .. } | Action::KillTask { .. }))
            };
            assert!(steps.iter().all(discards), "{event}: {steps:?}");
        }
    }
}
