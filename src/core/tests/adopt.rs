//! A server after a takeover: the record held against what is there.

use super::*;
use crate::core::record::Why;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A server of which a new active has read that it was in this phase.
fn adopted(was: Phase) -> (Server, Steps) {
    let mut server = server_in(was);
    let steps = steps_of(&mut server, |s, steps| s.adopt(NOW, steps));
    (server, steps)
}

fn found(server: &mut Server, found: Found) -> Steps {
    steps_of(server, |s, steps| s.on_verified(NOW, process(9), found, steps))
}

fn look() -> Step {
    let server = ServerId(0);
    Step::Do(Action::Verify { server, process: process(9), start_number: 4 })
}

#[test]
fn a_running_server_is_looked_at_and_goes_on_untouched() {
    let (mut server, steps) = adopted(up(9));
    assert_eq!(steps, [look()], "a look, and nothing else");
    let steps = found(&mut server, Found::Alive);
    assert_eq!(steps, [Step::Do(Action::Note(Note::Adopted(ServerId(0))))]);
    assert_eq!((server.rec.phase, server.rec.adopted), (up(9), true));
}

#[test]
fn a_server_that_settles_goes_on_settling() {
    let settling = Phase::Settling { process: process(9), until: NOW.after(20) };
    let (mut server, _) = adopted(settling.clone());
    found(&mut server, Found::Alive);
    assert_eq!(server.rec.phase, settling);
}

#[test]
fn a_child_that_passed_its_gate_unseen_settles_from_now_on() {
    for was in [
        Phase::AtGate { process: process(9), until: NOW },
        Phase::Execing { process: process(9), until: NOW },
        Phase::Locking { process: process(9), until: NOW },
    ] {
        let (mut server, _) = adopted(was);
        found(&mut server, Found::Alive);
        assert_eq!(server.rec.phase, Phase::Settling { process: process(9), until: NOW.after(50) });
    }
}

#[test]
fn a_child_still_at_its_gate_is_killed_alone_and_the_start_begins_anew() {
    let (mut server, _) = adopted(Phase::AtGate { process: process(9), until: NOW });
    let steps = found(&mut server, Found::AtGate);
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGKILL, Scope::Leader)]));
    let exit = None;
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), exit, steps));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    let spawn = Action::Spawn { server: ServerId(0), start_number: 5 };
    assert_eq!(steps, [Step::Do(spawn)]);
    assert_eq!(server.rec.failures_in_row, 0);
}

#[test]
fn a_child_that_waited_for_a_lock_died_with_its_parent_and_the_start_begins_anew() {
    let (mut server, _) = adopted(Phase::Locking { process: process(9), until: NOW });
    found(&mut server, Found::Gone);
    let exit = Exit::Signal(SIGKILL);
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), exit, steps));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    let spawn = Action::Spawn { server: ServerId(0), start_number: 5 };
    assert_eq!(steps, [Step::Do(spawn)]);
    assert_eq!((server.rec.failures_in_row, server.rec.last_exit), (0, None));
}

#[test]
fn a_server_that_died_meanwhile_waits_for_its_status() {
    let (mut server, _) = adopted(up(9));
    found(&mut server, Found::Gone);
    assert!(matches!(server.rec.phase, Phase::Reaping { at_gate: false, .. }));
    assert_eq!(server.rec.last_exit, None, "nothing is made up");
}

#[test]
fn a_status_that_comes_before_the_look_is_not_lost() {
    let (mut server, _) = adopted(up(9));
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), Exit::Code(3), steps));
    assert_eq!(server.rec.last_exit, ended(9, Exit::Code(3)));
    assert_eq!(found(&mut server, Found::Gone), [], "the look says nothing new");
}

#[test]
fn a_status_of_a_child_that_ended_at_its_gate_counts_for_nothing() {
    let (mut server, _) = adopted(Phase::AtGate { process: process(9), until: NOW });
    let exit = Exit::Signal(SIGKILL);
    steps_of(&mut server, |s, steps| s.on_status(NOW, process(9), exit, steps));
    assert!(matches!(server.rec.phase, Phase::Stopping { why: Why::NeverRan, .. }));
}

#[test]
fn what_can_not_be_told_is_left_alone_reported_and_looked_at_again() {
    let (mut server, _) = adopted(up(9));
    assert_eq!(found(&mut server, Found::Unclear("no permission".to_string())), []);
    assert!(matches!(server.rec.phase, Phase::Verifying { .. }));
    assert!(server.rec.reason.as_ref().is_some_and(|reason| reason.contains("no permission")));
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(NOW, steps));
    assert_eq!(steps, [look()]);
}

#[test]
fn a_stop_that_may_not_have_been_sent_is_sent_again() {
    for (killed, wanted_signal) in [(false, SIGTERM), (true, SIGKILL)] {
        let (process, until) = (process(9), NOW.after(700));
        let was = Phase::Stopping { process, why: Why::Asked, leader_dead: false, killed, until };
        let (mut server, _) = adopted(was.clone());
        server.rec.wanted = Wanted::Down;
        let steps = found(&mut server, Found::Alive);
        assert!(steps.contains(&signal(9, wanted_signal, Scope::Group)));
        assert_eq!(server.rec.phase, was, "its grace does not begin anew");
    }
}

#[test]
fn a_group_without_its_leader_is_counted_again() {
    let (process, until) = (process(9), NOW);
    let (why, killed) = (Why::Ended, false);
    let (_, steps) = adopted(Phase::Stopping { process, why, leader_dead: true, killed, until });
    assert_eq!(steps, [Step::Do(Action::ProbeGroup { server: ServerId(0), process })]);
}

#[test]
fn a_server_that_is_not_wanted_any_more_is_stopped_once_it_is_known() {
    let (mut server, steps) = {
        let mut server = server_in(up(9));
        server.rec.wanted = Wanted::Down;
        let steps = steps_of(&mut server, |s, steps| s.adopt(NOW, steps));
        (server, steps)
    };
    assert_eq!(steps, [look()]);
    let steps = found(&mut server, Found::Alive);
    assert!(in_order(&steps, &[Step::Save, signal(9, SIGTERM, Scope::Group)]));
}

#[test]
fn a_start_that_was_never_on_record_begins_anew() {
    let (server, steps) = adopted(Phase::Spawning { until: NOW });
    assert_eq!(steps, [Step::Do(Action::Spawn { server: ServerId(0), start_number: 5 })]);
    assert!(matches!(server.rec.phase, Phase::Spawning { .. }));
}

#[test]
fn who_waits_for_a_try_or_was_given_up_stays_as_it_is() {
    for phase in [Phase::Backoff { until: NOW.after(9) }, Phase::Failed, Phase::Exited] {
        let (server, steps) = adopted(phase.clone());
        assert_eq!((server.rec.phase, steps), (phase, Steps::new()));
    }
}
