//! The life of one server, event by event.

use super::*;
use crate::core::record::Why;
use crate::core::server::{
    EXEC_SLOW_MS, FORK_RETRY_MS, GATE_RETRY_MS, KILL_AGAIN_MS, SPAWN_TIMEOUT_MS, STATUS_WAIT_MS,
};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn at_gate(pid: i32) -> Phase {
    Phase::AtGate { process: process(pid), until: NOW.after(GATE_RETRY_MS) }
}

fn stopping(pid: i32, why: Why, leader_dead: bool, killed: bool) -> Phase {
    let until = NOW.after(KILL_AGAIN_MS);
    Phase::Stopping { process: process(pid), why, leader_dead, killed, until }
}

fn spawn(start_number: u64) -> Step {
    Step::Do(Action::Spawn { server: ServerId(0), start_number })
}

#[test]
fn a_child_at_its_gate_is_put_on_record_and_nothing_is_opened() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    let steps = steps_of(&mut server, |s, steps| s.on_spawned(NOW, 4, process(9), steps));
    assert_eq!(server.rec.phase, at_gate(9));
    assert!(steps.contains(&Step::SaveForGate));
    assert!(!steps.iter().any(|step| matches!(step, Step::Do(Action::OpenGate { .. }))));
}

#[test]
fn the_record_opens_the_gate_and_exec_settles_the_server() {
    let mut server = server_in(at_gate(9));
    let steps = steps_of(&mut server, |s, steps| s.on_recorded(NOW, 4, steps));
    assert_eq!(steps, [Step::Do(Action::OpenGate { server: ServerId(0), start_number: 4 })]);
    steps_of(&mut server, |s, steps| s.on_executed(NOW, 4, steps));
    assert_eq!(server.rec.phase, Phase::Settling { process: process(9), until: NOW.after(50) });
    steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(server.rec.phase, up(9));
    assert_eq!(server.rec.ready_at.get(), Some(NOW));
}

#[test]
fn a_record_that_was_not_taken_is_tried_again_and_the_gate_stays_shut() {
    let mut server = server_in(at_gate(9));
    server.on_not_recorded(4, "no space left");
    assert_eq!(server.rec.phase, at_gate(9));
    assert!(server.rec.reason.as_ref().is_some_and(|reason| reason.contains("no space left")));
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(steps, [Step::SaveForGate]);
}

#[test]
fn a_child_that_nobody_wants_any_more_is_discarded_at_its_gate() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    server.rec.wanted = Wanted::Down;
    let steps = steps_of(&mut server, |s, steps| s.on_spawned(NOW, 4, process(9), steps));
    assert_eq!(steps[0], Step::Do(Action::Discard { server: ServerId(0), start_number: 4 }));
    assert_eq!(server.rec.phase, Phase::Down);
}

#[test]
fn a_fork_without_an_answer_is_asked_for_again_and_the_late_child_is_discarded() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(steps, [spawn(5)]);
    assert_eq!(server.rec.phase, Phase::Spawning { until: NOW.after(SPAWN_TIMEOUT_MS) });
    let steps = steps_of(&mut server, |s, steps| s.on_spawned(NOW, 4, process(9), steps));
    assert_eq!(steps, [Step::Do(Action::Discard { server: ServerId(0), start_number: 4 })]);
    assert_eq!(server.rec.phase, Phase::Spawning { until: NOW.after(SPAWN_TIMEOUT_MS) });
}

#[test]
fn a_refused_fork_is_tried_again_and_is_no_failure_of_the_server() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    steps_of(&mut server, |s, steps| s.on_spawn_failed(NOW, 4, "no memory".to_string(), steps));
    assert_eq!(server.rec.phase, Phase::Backoff { until: NOW.after(FORK_RETRY_MS) });
    assert_eq!((server.rec.failures.len(), server.rec.failures_in_row), (0, 0));
    assert_eq!(server.rec.reason.as_deref(), Some("no memory"));
}

#[test]
fn an_exec_that_fails_is_a_failure_once_its_child_is_dead() {
    let mut server = server_in(Phase::Execing { process: process(9), until: NOW });
    let error = "cannot execute /srv/web: no such file".to_string();
    steps_of(&mut server, |s, steps| s.on_child_failed(NOW, 4, error.clone(), steps));
    assert_eq!(server.rec.phase, stopping(9, Why::Ended, false, true));
    let exit = Some(Exit::Code(70));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Backoff { until: NOW.after(100) });
    assert_eq!(server.rec.reason.as_deref(), Some(&*error), "status says why");
}

#[test]
fn a_child_that_the_machine_refused_is_started_again_and_does_not_count() {
    for phase in [
        Phase::AtGate { process: process(9), until: NOW },
        Phase::Execing { process: process(9), until: NOW },
    ] {
        let mut server = server_in(phase);
        let error = "cannot open its output".to_string();
        steps_of(&mut server, |s, steps| s.on_child_refused(NOW, 4, error, steps));
        assert_eq!(server.rec.phase, stopping(9, Why::NeverRan, false, true));
        let exit = Some(Exit::Code(127));
        steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
        let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
        let next = Action::Spawn { server: ServerId(0), start_number: 5 };
        assert!(steps.contains(&Step::Do(next)), "{steps:?}");
        assert_eq!((server.rec.failures_in_row, server.rec.last_exit), (0, None));
    }
}

#[test]
fn a_child_that_waits_for_a_lock_says_so_and_settles_when_it_has_it() {
    let mut server = server_in(Phase::Execing { process: process(9), until: NOW });
    let what = "lock /run/lock/web, held by PID 412 (cron)".to_string();
    let steps = steps_of(&mut server, |s, steps| {
        s.on_child_waits(NOW, 4, what.clone(), 60_000, steps);
    });
    assert!(in_order(&steps, &[Step::Save, Step::Do(Action::Note(Note::Server(ServerId(0))))]));
    let until = NOW.after(60_000);
    assert_eq!(server.rec.phase, Phase::Locking { process: process(9), until });
    assert_eq!(server.rec.reason.as_deref(), Some(&*what));
    steps_of(&mut server, |s, steps| s.on_executed(NOW, 4, steps));
    assert_eq!(server.rec.phase, Phase::Settling { process: process(9), until: NOW.after(50) });
    assert_eq!(server.rec.reason, None);
}

#[test]
fn a_lock_that_is_not_free_in_time_is_a_failure_and_the_text_says_who_held_it() {
    let mut server = server_in(Phase::Locking { process: process(9), until: NOW });
    server.rec.reason = Some("lock /l, held by PID 412 (cron)".into());
    server.rec.started_at = Ms(NOW.0 - 60_000).into();
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGKILL, Scope::Group)]));
    let exit = Some(Exit::Signal(SIGKILL));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Backoff { until: NOW.after(100) });
    let told = "waited 60 s in vain for lock /l, held by PID 412 (cron)";
    assert_eq!(server.rec.reason.as_deref(), Some(told));
    assert_eq!(server.rec.failures_in_row, 1);
}

#[test]
fn an_exec_that_takes_long_is_reported_and_waited_for() {
    let mut server = server_in(Phase::Execing { process: process(9), until: NOW });
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    let until = NOW.after(EXEC_SLOW_MS);
    assert_eq!(server.rec.phase, Phase::Execing { process: process(9), until });
    assert_eq!(server.rec.reason.as_deref(), Some("exec takes long"));
    assert!(!steps.iter().any(|step| matches!(step, Step::Do(Action::Signal { .. }))));
}

#[test]
fn an_end_is_on_record_before_the_zombie_is_reaped() {
    let mut server = server_in(up(9));
    let exit = Some(Exit::Code(3));
    let steps = steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Code(3)));
    let (server, process) = (ServerId(0), process(9));
    let reap = Step::Do(Action::Reap { server, process });
    assert!(in_order(
        &steps,
        &[Step::Save, reap, Step::Do(Action::ProbeGroup { server, process })]
    ));
}

#[test]
fn nothing_follows_an_end_before_the_group_is_empty() {
    let mut server = server_in(stopping(9, Why::Ended, true, false));
    server.rec.last_exit = ended(9, Exit::Code(3));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), Some(10), steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGTERM, Scope::Group)]));
    let until = NOW.after(5_000);
    let (process_9, why) = (process(9), Why::Clearing);
    let phase =
        Phase::Stopping { process: process_9, why, leader_dead: true, killed: false, until };
    assert_eq!(server.rec.phase, phase, "what is left gets the same grace as in a stop");
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(until, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGKILL, Scope::Group)]));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Backoff { until: NOW.after(100) });
}

#[test]
fn what_sigkill_has_not_ended_is_killed_and_counted_again() {
    let mut server = server_in(stopping(9, Why::Asked, true, true));
    for _ in 0..3 {
        let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
        let probe = Action::ProbeGroup { server: ServerId(0), process: process(9) };
        assert!(in_order(&steps, &[signal(9, SIGKILL, Scope::Group), Step::Do(probe)]));
        assert_eq!(server.rec.phase, stopping(9, Why::Asked, true, true));
    }
}

#[test]
fn a_good_end_is_final_under_on_failure_and_any_end_under_never() {
    for (when, exit, phase) in [
        (When::OnFailure, Exit::Code(0), Phase::Exited),
        (When::Never, Exit::Code(0), Phase::Exited),
        (When::Never, Exit::Code(1), Phase::Failed),
        (When::OnFailure, Exit::Unknown, Phase::Backoff { until: NOW.after(100) }),
        (When::Always, Exit::Code(0), Phase::Backoff { until: NOW.after(100) }),
    ] {
        let mut server = server_in(stopping(9, Why::Ended, true, false));
        server.plan.policy.when = when;
        server.rec.last_exit = ended(9, exit);
        steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
        assert_eq!(server.rec.phase, phase, "{when:?} after {exit:?}");
    }
}

#[test]
fn a_server_whose_tries_are_used_up_is_given_up_with_a_reason() {
    let mut server = server_in(stopping(9, Why::Ended, true, false));
    server.rec.last_exit = ended(9, Exit::Code(1));
    server.rec.failures = vec![NOW, NOW].into();
    server.rec.reason = Some("exit 1".into());
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Failed);
    let reason = server.rec.reason.unwrap_or_default();
    assert!(reason.starts_with("exit 1; gave up after 2 restarts in 60 s"), "{reason}");
}

#[test]
fn a_server_that_stays_up_long_enough_forgets_its_failures() {
    let mut server = server_in(up(9));
    (server.rec.failures, server.rec.failures_in_row) = (vec![NOW].into(), 1);
    server.rec.ready_at = NOW.into();
    assert_eq!(server.deadline(), Some(NOW.after(10_000)));
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW.after(10_000), steps));
    assert_eq!((server.rec.failures.len(), server.rec.failures_in_row), (0, 0));
    assert_eq!((steps, server.deadline()), (vec![Step::Save], None));
}

#[test]
fn a_next_try_counts_as_a_restart() {
    let mut server = server_in(Phase::Backoff { until: NOW });
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!((steps, server.rec.restarts), (vec![spawn(5)], 1));
}

#[test]
fn a_restart_waits_for_a_status_only_where_it_depends_on_it() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), None, steps));
    let until = NOW.after(STATUS_WAIT_MS);
    assert_eq!(server.rec.phase, Phase::Reaping { process: process(9), until, at_gate: false });
    let mut server = server_in(up(9));
    server.plan.policy.when = When::Always;
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, stopping(9, Why::Ended, true, false));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Unknown));
}

#[test]
fn a_status_that_never_comes_is_unknown() {
    let mut server = server_in(Phase::Reaping { process: process(9), until: NOW, at_gate: false });
    steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Unknown));
    assert_eq!(server.rec.phase, stopping(9, Why::Ended, true, false));
}

#[test]
fn a_status_that_comes_in_time_is_the_one_that_counts() {
    let mut server = server_in(Phase::Reaping { process: process(9), until: NOW, at_gate: false });
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(0), steps));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Code(0)));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Exited);
}

#[test]
fn a_status_that_is_the_first_news_of_an_end_is_not_lost() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(0), steps));
    assert_eq!(server.rec.phase, stopping(9, Why::Ended, true, false));
    let steps = steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), None, steps));
    assert_eq!(steps, [], "the pidfd says nothing new");
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!((server.rec.phase, server.rec.last_exit), (Phase::Exited, ended(9, Exit::Code(0))));
}

#[test]
fn a_good_status_that_comes_late_takes_the_failure_back() {
    let mut server = server_in(Phase::Backoff { until: NOW });
    server.rec.last_exit = ended(9, Exit::Unknown);
    (server.rec.failures, server.rec.failures_in_row) = (vec![NOW].into(), 1);
    server.rec.reason = Some("exit status unknown".into());
    let waiting = server.clone();
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(0), steps));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Code(0)));
    assert_eq!((server.rec.phase, server.rec.failures.len()), (Phase::Exited, 0));
    // Nor is one tried again whose late status says that this is of no use.
    let mut server = waiting.clone();
    server.plan.policy.no_restart_codes = vec![78];
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(78), steps));
    assert_eq!(server.rec.phase, Phase::Failed);
    // A check that failed stays a failure however the server ended then.
    let mut server = waiting;
    server.rec.reason = Some("health check 1: HTTP 500".into());
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(0), steps));
    assert!(matches!(server.rec.phase, Phase::Backoff { .. }));
}

#[test]
fn a_known_status_is_never_replaced() {
    let mut server = server_in(Phase::Backoff { until: NOW });
    server.rec.last_exit = ended(9, Exit::Code(3));
    let before = server.clone();
    let steps =
        steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(0), steps));
    assert_eq!((steps, server), (Steps::new(), before));
}

#[test]
fn a_child_killed_at_its_gate_counts_for_nothing() {
    let mut server = server_in(Phase::Reaping { process: process(9), until: NOW, at_gate: true });
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Signal(SIGKILL), steps));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(steps, [spawn(5)]);
    assert_eq!((server.rec.failures.len(), server.rec.restarts), (0, 0));
}

#[test]
fn a_server_is_not_started_beside_a_stray_of_its_own() {
    let mut server = server_in(Phase::Waiting { until: NOW, pid: 77 });
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(steps, [Step::Do(Action::ProbeStrays { server: ServerId(0) })]);
    assert_eq!(steps_of(&mut server, |s, steps| s.on_strays(Some(78), steps)), []);
    assert!(matches!(server.rec.phase, Phase::Waiting { pid: 78, .. }));
    assert_eq!(steps_of(&mut server, |s, steps| s.on_strays(None, steps)), [spawn(5)]);
}

#[test]
fn an_end_is_counted_once_however_late_it_becomes_known_and_a_new_life_counts_anew() {
    use crate::core::record::Exit;
    let mut server = server_in(stopping(9, Why::Asked, false, false));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), None, steps));
    assert!(server.rec.exits.is_open);
    for _ in 0..2 {
        let exit = Exit::Signal(SIGTERM);
        steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), exit, steps));
    }
    let exits = *server.rec.exits;
    assert_eq!((exits.success, exits.code, exits.signal, exits.unknown), (0, 0, 1, 0));
    let fresh = crate::core::promotion::new_life(*server.rec.clone(), true);
    assert_eq!(*fresh.exits, Default::default());
}

#[test]
fn a_server_costs_little_more_than_what_all_servers_have() {
    let sizes = [size_of::<ServerRecord>(), size_of::<Server>(), size_of::<ServerPlan>()];
    assert!(sizes.iter().zip([216, 88, 40]).all(|(size, most)| *size <= most), "{sizes:?}");
}

#[test]
fn a_record_is_written_with_what_it_has_and_without_what_it_has_not() {
    let record = ServerRecord::new("a", Wanted::Up);
    let bare = r#"{"name":"a","wanted":"up","phase":"down","startNumber":0,"adopted":false,"restarts":0,"failures":[],"failuresInRow":0,"marks":[]}"#;
    assert_eq!(serde_json::to_string(&record).unwrap(), bare);
    let all = r#"{"name":"a","wanted":"up","phase":"failed","startNumber":3,"startedAt":5,"readyAt":0,"adopted":false,"restarts":2,"failures":[1,2],"failuresInRow":2,"lastExit":{"process":{"pid":9,"startTicks":7,"inode":1},"exit":{"code":3},"at":6,"ranMs":1},"reason":"exit 3","marks":[{"id":"x","startNumber":3,"done":true,"failed":null}],"statusText":"","outputAt":{"device":1,"inode":2,"offset":3},"revision":0,"cgroup":"/c","stopWith":{"signal":15,"timeoutMs":1,"byCommand":false},"task":{"kind":"reload","process":null,"until":8,"isOver":false},"mainGroup":4,"exits":{"success":0,"code":1,"signal":0,"unknown":0,"isOpen":false}}"#;
    let read: ServerRecord = serde_json::from_str(all).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), all);
    assert_eq!(serde_json::from_str::<ServerRecord>(bare).unwrap(), record);
}
