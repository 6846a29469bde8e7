//! The active's view of its standby.

use super::*;
use crate::core::standby::{
    KILL_AGAIN_MS, RETRY_MAX_MS, RETRY_MS, STABLE_MS, START_TIMEOUTS, Standby, State,
};

fn out_of(work: impl FnOnce(&mut Vec<Action>)) -> Vec<Action> {
    let mut out = Vec::new();
    work(&mut out);
    out.retain(|action| !matches!(action, Action::Note(_)));
    out
}

/// One that watches, with this PID.
fn watching(pid: i32) -> Standby {
    let mut standby = Standby::new(&pair_plan());
    standby.start(&mut Vec::new());
    standby.on_spawned(NOW, process(pid), &pair_plan());
    standby.on_watching(NOW, &mut Vec::new());
    assert!(standby.is_watching());
    standby
}

fn pulse(standby: &mut Standby, now: Ms, counter: u64, late: bool) -> Vec<Action> {
    out_of(|out| standby.on_pulse(now, counter, late, &pair_plan(), out))
}

#[test]
fn without_a_port_there_is_no_standby() {
    let plan = PairPlan { has_standby: false, ..pair_plan() };
    let mut standby = Standby::new(&plan);
    assert_eq!(out_of(|out| standby.start(out)), []);
    assert!(standby.is_gone());
}

#[test]
fn it_is_asked_for_once() {
    let mut standby = Standby::new(&pair_plan());
    assert_eq!(out_of(|out| standby.start(out)), [Action::SpawnStandby]);
    assert_eq!(out_of(|out| standby.start(out)), []);
}

#[test]
fn one_that_does_not_come_to_watch_in_time_is_killed_and_its_death_waited_for() {
    let mut standby = Standby::new(&pair_plan());
    standby.start(&mut Vec::new());
    standby.on_spawned(NOW, process(2), &pair_plan());
    let late = NOW.after(1_000 * START_TIMEOUTS);
    assert_eq!(standby.deadline(), Some(late));
    let kill = Action::KillStandby { process: process(2) };
    assert_eq!(
        out_of(|out| standby.on_deadline(late, &pair_plan(), out)),
        std::slice::from_ref(&kill)
    );
    assert_eq!(
        standby.state,
        State::Dying { process: process(2), again: late.after(KILL_AGAIN_MS) }
    );
    assert_eq!(out_of(|out| standby.start(out)), [], "none beside it");
    assert_eq!(out_of(|out| standby.on_deadline(late, &pair_plan(), out)), [kill]);
    standby.on_died(late, process(2), &mut Vec::new());
    assert_eq!(out_of(|out| standby.on_deadline(late, &pair_plan(), out)), [Action::SpawnStandby]);
}

#[test]
fn one_whose_pulse_moves_is_not_killed_however_long_the_link_is_cut() {
    let mut standby = watching(2);
    standby.on_link_lost(NOW, &pair_plan(), &mut Vec::new());
    let mut now = NOW;
    for counter in 1..100 {
        now = now.after(500);
        assert_eq!(pulse(&mut standby, now, counter, false), []);
        if standby.deadline().is_some_and(|at| at <= now) {
            assert_eq!(out_of(|out| standby.on_deadline(now, &pair_plan(), out)), []);
        }
    }
    assert!(standby.deadline().is_some(), "it is looked at again");
}

#[test]
fn one_that_hangs_is_killed_and_replaced_only_after_its_death() {
    let mut standby = watching(2);
    pulse(&mut standby, NOW, 1, false);
    let killed = pulse(&mut standby, NOW.after(1_000), 1, false);
    assert_eq!(killed, [Action::KillStandby { process: process(2) }]);
    assert!(matches!(standby.state, State::Dying { .. }));
    standby.on_died(NOW, process(2), &mut Vec::new());
    assert!(matches!(standby.state, State::Down { retry: Some(_) }));
}

#[test]
fn a_silent_link_beside_a_moving_pulse_is_rebuilt_and_nobody_is_killed() {
    let mut standby = watching(2);
    pulse(&mut standby, NOW, 1, false);
    let rebuilt = pulse(&mut standby, NOW.after(1_000), 2, false);
    assert_eq!(rebuilt, [Action::DropStandbyLink]);
    assert!(matches!(standby.state, State::Starting { .. }), "it has to come back in time");
}

#[test]
fn an_active_that_was_late_itself_does_not_judge() {
    let mut standby = watching(2);
    pulse(&mut standby, NOW, 1, false);
    assert_eq!(pulse(&mut standby, NOW.after(60_000), 1, true), []);
    assert_eq!(pulse(&mut standby, NOW.after(60_999), 1, false), []);
    assert_ne!(pulse(&mut standby, NOW.after(61_000), 1, false), []);
}

#[test]
fn the_first_replacement_comes_at_once_and_the_later_ones_ever_later() {
    let mut standby = watching(2);
    let mut delays = Vec::new();
    for pid in 2..20 {
        standby.on_died(NOW, process(pid), &mut Vec::new());
        delays.push(standby.deadline().map(|at| at.since(NOW)));
        standby.on_deadline(NOW, &pair_plan(), &mut Vec::new());
        standby.on_spawned(NOW, process(pid + 1), &pair_plan());
    }
    assert_eq!(delays[..4], [0, RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS].map(Some));
    assert_eq!(delays.last(), Some(&Some(RETRY_MAX_MS)));
}

#[test]
fn one_that_watched_long_enough_is_replaced_at_once_again() {
    let mut standby = watching(2);
    standby.failures = 7;
    standby.on_died(NOW.after(STABLE_MS), process(2), &mut Vec::new());
    assert_eq!(standby.deadline(), Some(NOW.after(STABLE_MS)));
}

#[test]
fn a_standby_that_could_not_be_started_is_tried_again() {
    let mut standby = Standby::new(&pair_plan());
    standby.start(&mut Vec::new());
    standby.on_spawn_failed(NOW, "no memory".to_string(), &mut Vec::new());
    assert_eq!(standby.deadline(), Some(NOW));
    assert!(standby.reason.as_ref().is_some_and(|reason| reason.contains("no memory")));
}

#[test]
fn the_death_of_an_earlier_standby_is_old_news() {
    let mut standby = watching(3);
    standby.on_died(NOW, process(2), &mut Vec::new());
    assert!(standby.is_watching());
}

#[test]
fn a_standby_that_was_told_to_stop_is_not_replaced() {
    let mut standby = watching(2);
    let told = out_of(|out| standby.stop(NOW, &pair_plan(), out));
    assert_eq!(told, [Action::TellStandbyToStop]);
    standby.on_died(NOW, process(2), &mut Vec::new());
    assert!(standby.is_gone());
    assert_eq!(standby.deadline(), None);
}

#[test]
fn a_standby_that_does_not_stop_in_time_is_killed_until_it_is_dead() {
    let mut standby = watching(2);
    standby.stop(NOW, &pair_plan(), &mut Vec::new());
    assert_eq!(standby.deadline(), Some(NOW.after(1_000)));
    for _ in 0..2 {
        let killed = out_of(|out| standby.on_deadline(NOW, &pair_plan(), out));
        assert_eq!(killed, [Action::KillStandby { process: process(2) }]);
        assert!(standby.deadline().is_some());
    }
}
