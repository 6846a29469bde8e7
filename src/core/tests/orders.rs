//! start, stop, kill, restart and reset, by phase.

use super::*;
use crate::core::record::Why;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn spawn() -> Step {
    Step::Do(Action::Spawn { server: ServerId(0), start_number: 5 })
}

#[test]
fn a_start_begins_only_where_nothing_of_the_server_is_left() {
    for phase in [Phase::Down, Phase::Exited, Phase::Failed, Phase::Backoff { until: NOW }] {
        let mut server = server_in(phase.clone());
        server.rec.failures_in_row = 3;
        let steps = steps_of(&mut server, |s, steps| s.start(steps));
        assert_eq!(steps, [Step::Save, spawn()], "{phase:?}");
        assert_eq!(server.rec.failures_in_row, 0, "the counts begin anew");
    }
}

#[test]
fn a_start_of_what_runs_changes_nothing() {
    let mut server = server_in(up(9));
    let steps = steps_of(&mut server, |s, steps| s.start(steps));
    assert_eq!((server.rec.phase, steps), (up(9), vec![Step::Save]));
}

#[test]
fn a_stop_is_on_record_before_its_signal_and_kills_after_the_grace() {
    let mut server = server_in(up(9));
    let steps = steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGTERM, Scope::Group)]));
    assert_eq!(server.deadline(), Some(NOW.after(5_000)));
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW.after(5_000), steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGKILL, Scope::Group)]));
}

#[test]
fn a_stop_ends_when_the_group_is_gone_and_not_with_its_leader() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let exit = Some(Exit::Signal(SIGTERM));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    assert!(!server.rec.phase.is_gone());
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), Some(10), steps));
    assert!(!server.rec.phase.is_gone());
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(server.rec.phase, Phase::Down);
    assert_eq!(server.rec.last_exit, ended(9, Exit::Signal(SIGTERM)));
}

#[test]
fn a_second_stop_does_not_lengthen_the_grace() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let steps = steps_of(&mut server, |s, steps| s.stop(NOW.after(4_000), steps));
    assert_eq!(server.deadline(), Some(NOW.after(5_000)));
    assert!(!steps.iter().any(|step| matches!(step, Step::Do(Action::Signal { .. }))));
}

#[test]
fn a_kill_shortens_a_stop_that_is_under_way() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let steps = steps_of(&mut server, |s, steps| s.kill(NOW, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGKILL, Scope::Group)]));
}

#[test]
fn a_stop_keeps_a_waiting_server_down_and_a_start_takes_it_back() {
    let mut server = server_in(Phase::Backoff { until: NOW });
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    assert_eq!((server.rec.phase.clone(), server.deadline()), (Phase::Down, None));
    let steps = steps_of(&mut server, |s, steps| s.start(steps));
    assert_eq!(steps, [Step::Save, spawn()]);
}

#[test]
fn a_start_during_a_stop_begins_when_the_stop_has_ended() {
    let mut server = server_in(up(9));
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let steps = steps_of(&mut server, |s, steps| s.start(steps));
    assert_eq!(steps, [Step::Save]);
    let exit = Some(Exit::Code(0));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!(steps, [spawn()]);
}

#[test]
fn a_restart_starts_at_once_when_the_old_copy_is_gone_and_counts_no_failure() {
    let mut server = server_in(up(9));
    server.plan.policy.when = When::Never;
    let steps = steps_of(&mut server, |s, steps| s.restart(NOW, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGTERM, Scope::Group)]));
    assert!(matches!(server.rec.phase, Phase::Stopping { why: Why::Restart, .. }));
    let exit = Some(Exit::Code(1));
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!((steps, server.rec.failures.len()), (vec![spawn()], 0));
}

#[test]
fn a_stop_while_the_child_is_owed_discards_it() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let steps = steps_of(&mut server, |s, steps| s.on_spawned(NOW, 4, process(9), steps));
    assert_eq!(steps[0], Step::Do(Action::Discard { server: ServerId(0), start_number: 4 }));
    assert_eq!(server.rec.phase, Phase::Down);
}

#[test]
fn a_reset_tries_again_what_is_wanted_up_and_starts_nothing_else() {
    let mut server = server_in(Phase::Failed);
    let steps = steps_of(&mut server, |s, steps| s.reset(steps));
    assert_eq!(steps, [Step::Save, spawn()]);
    let mut server = server_in(Phase::Down);
    server.rec.wanted = Wanted::Down;
    assert_eq!(steps_of(&mut server, |s, steps| s.reset(steps)), [Step::Save]);
}

#[test]
fn a_stop_does_not_wait_for_a_status() {
    let mut server = server_in(Phase::Reaping { process: process(9), until: NOW, at_gate: false });
    let steps = steps_of(&mut server, |s, steps| s.stop(NOW, steps));
    let (server_id, process) = (ServerId(0), process(9));
    let reap = Step::Do(Action::Reap { server: server_id, process });
    assert!(in_order(&steps, &[Step::Save, reap]));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Unknown));
}

#[test]
fn a_restart_that_waits_is_fulfilled_by_a_start_that_comes_first() {
    let mut server = server_in(Phase::Backoff { until: NOW });
    server.hold(record::Held::Restart, &mut Steps::new());
    steps_of(&mut server, |server, steps| server.on_deadline(NOW, steps));
    assert!(matches!(server.rec.phase, Phase::Spawning { .. }));
    assert_eq!(server.rec.held, None, "the child is newer than the order");
}
