//! Signals to keeper, active and standby.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

#[test]
fn sigterm_to_the_keeper_ends_pair_and_servers() {
    ends_with_its_servers("keeper");
}

#[test]
fn sigterm_to_the_active_ends_pair_and_servers() {
    ends_with_its_servers("active");
}

#[test]
fn a_second_sigterm_to_the_keeper_kills_a_deaf_server_at_once() {
    second_sigterm_kills("keeper");
}

#[test]
fn a_second_sigterm_to_the_active_kills_a_deaf_server_at_once() {
    second_sigterm_kills("active");
}

#[test]
fn sigterm_to_the_standby_ends_nothing() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    signal(before.1, SIGTERM);
    wait_until("the standby to say so", || pair.log(true).contains("-0214]"));
    assert_undisturbed(&pair, before);
}

#[test]
fn a_hang_up_a_stop_key_and_a_quit_key_do_not_disturb() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let (before, keeper, servers) = (twins(&pair), pair.pid_of("keeper"), pair.pids());
    for number in [libc::SIGHUP, libc::SIGTSTP, libc::SIGQUIT] {
        signal(keeper, number);
    }
    wait_until("SIGHUP to be passed on", || pair.log(false).contains("-0122]"));
    signal(before.0, libc::SIGHUP);
    signal(before.1, libc::SIGHUP);
    wait_until("SIGHUP to be read", || pair.log(true).contains("-0214]"));
    assert_undisturbed(&pair, before);
    assert_eq!((pair.pid_of("keeper"), pair.pids()), (keeper, servers));
}

#[test]
fn the_keys_of_a_terminal_and_its_hang_up_leave_the_pair_alone_but_ctrl_c_ends_it() {
    if !has_tool("setsid") {
        return;
    }
    let pair = Pair::new("", SLEEPER);
    let (mut terminal, mut child) = in_a_terminal(&pair);
    let before = twins(&pair);
    pair.wait_state("a", "RUNNING");
    terminal.write_all(b"\x1a\x1c").unwrap();
    // Read back as an echo, so they were taken as keys.
    let mut echo = [0; 64];
    assert!(terminal.read(&mut echo).unwrap() > 0);
    assert_undisturbed(&pair, before);
    terminal.write_all(b"\x03").unwrap();
    wait_until("the pair to end", || pair.processes().is_empty());
    assert!(child.0.wait().unwrap().success());

    let (terminal, _child) = in_a_terminal(&pair);
    let before = twins(&pair);
    let servers = pair.pids();
    drop(terminal);
    wait_until("the hang-up to be noticed", || pair.log(false).contains("-0122]"));
    assert_undisturbed(&pair, before);
    assert_eq!(pair.pids(), servers);
}
