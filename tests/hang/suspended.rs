//! Processes that are stopped and go on: a suspended machine, or somebody with a debugger.

use crate::support::{SIGCONT, is_alive, signal, wait_until};
use crate::tools::freeze;
use crate::{calm, pause};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn keeper_and_twins_that_were_suspended_go_on_whatever_wakes_first() {
    let (scale, calm) = calm(2);
    for order in ORDERS {
        // In one moment, and one after the other.
        for between_ms in [0, scale.timeout_ms / 5] {
            calm.all().iter().for_each(|pid| freeze(*pid));
            pause(scale.suspended_ms);
            for at in order {
                signal(calm.all()[at], SIGCONT);
                pause(between_ms);
            }
            pause(scale.timeout_ms / 2);
            calm.assert_undisturbed(&format!("{order:?}, {between_ms} ms between"));
        }
    }
}

#[test]
fn twins_that_were_suspended_for_less_than_the_keeper_bears_go_on() {
    let (scale, calm) = calm(2);
    let twins = [calm.active, calm.standby];
    for order in [[0, 1], [1, 0]] {
        for between_ms in [0, scale.timeout_ms / 5] {
            twins.iter().for_each(|pid| freeze(*pid));
            pause(scale.timeout_ms * 2);
            for at in order {
                signal(twins[at], SIGCONT);
                pause(between_ms);
            }
            calm.assert_undisturbed(&format!("{order:?}, {between_ms} ms between"));
        }
    }
}

#[test]
fn twins_that_are_suspended_beyond_what_the_keeper_bears_are_replaced_once() {
    let (scale, calm) = calm(2);
    let twins = [calm.active, calm.standby];
    twins.iter().for_each(|pid| freeze(*pid));
    wait_until("the keeper to end them", || !twins.iter().any(|pid| is_alive(*pid)));
    calm.pair.wait_whole();
    pause(scale.timeout_ms * 2);
    assert_eq!(calm.lines_with("0023"), 1, "killed more than once");
    assert_eq!(calm.pair.pid_of("keeper"), calm.keeper);
    calm.assert_servers_untouched();
}

#[test]
fn a_keeper_that_was_late_itself_gives_the_twins_their_time_when_it_wakes() {
    let (scale, calm) = calm(2);
    for _ in 0..2 {
        calm.all().iter().for_each(|pid| freeze(*pid));
        // Nobody served for longer than it bears; but it did not look.
        pause(scale.timeout_ms * 4);
        signal(calm.keeper, SIGCONT);
        pause(scale.timeout_ms * 2);
        [calm.active, calm.standby].iter().for_each(|pid| signal(*pid, SIGCONT));
        calm.assert_undisturbed("the keeper woke first");
    }
}

#[test]
fn an_active_that_is_stopped_again_and_again_for_less_than_the_timeout_stays() {
    let (scale, calm) = calm(2);
    for _ in 0..scale.times {
        freeze(calm.active);
        pause(scale.timeout_ms * 2 / 5);
        signal(calm.active, SIGCONT);
        pause(scale.interval_ms * 2);
    }
    calm.assert_undisturbed("the active was stopped again and again");
}

#[test]
fn a_standby_that_sleeps_for_less_than_the_timeout_stays() {
    let (scale, calm) = calm(2);
    for _ in 0..scale.times {
        freeze(calm.standby);
        pause(scale.timeout_ms * 2 / 5);
        signal(calm.standby, SIGCONT);
        pause(scale.interval_ms * 2);
    }
    calm.assert_undisturbed("the standby slept again and again");
}

#[test]
fn a_standby_that_sleeps_too_long_is_replaced_and_the_active_is_not_harmed() {
    let (_, calm) = calm(2);
    let mut sleeper = calm.standby;
    for _ in 0..3 {
        freeze(sleeper);
        wait_until("the sleeper to be killed", || !is_alive(sleeper));
        calm.assert_active_undisturbed("the standby slept");
        sleeper = calm.pair.pid_of("standby");
    }
}

#[test]
fn a_standby_that_wakes_while_the_active_sleeps_a_little_does_not_take_over() {
    let (scale, calm) = calm(2);
    for _ in 0..scale.times {
        // The active sleeps all the time that the standby is awake; together longer than the timeout.
        freeze(calm.active);
        freeze(calm.standby);
        pause(scale.timeout_ms);
        signal(calm.standby, SIGCONT);
        pause(scale.timeout_ms / 2);
        signal(calm.active, SIGCONT);
        pause(scale.timeout_ms / 2);
    }
    calm.assert_undisturbed("both slept, the standby woke first");
}
