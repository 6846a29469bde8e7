//! `switchover`: the other twin is the active, and nothing else changes.

use super::SLEEPERS;
use super::support::{Pair, SIGKILL, both, is_alive, signal, wait_until};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_switchover_touches_no_server_and_is_no_takeover() {
    let pair = Pair::new("", SLEEPERS);
    pair.start();
    let (servers, active, standby) = (pair.pids(), pair.pid_of("active"), pair.pid_of("standby"));
    let keeper = pair.pid_of("keeper");
    let said = pair.ok(&["switchover"]);
    assert!(
        said.starts_with(&format!("PID {standby} is the active now, after PID {active} (")),
        "{said}"
    );
    let status = pair.status();
    assert_eq!(status["pair"], "ok", "it is answered when the pair is whole again: {status}");
    assert_eq!(status["active"]["pid"], standby);
    assert_eq!((pair.pids(), pair.pid_of("keeper")), (servers, keeper));
    assert_eq!((status["switchovers"].as_u64(), status["takeovers"].as_u64()), (Some(1), Some(0)));
    assert_eq!(status["lastSwitchover"]["cause"], "asked");
    assert!(!is_alive(active));
    let (log, standby_log) = (pair.log(false), pair.log(true));
    for code in ["0160] this process, PID", "0208] switchover from PID"] {
        assert!(log.contains(code), "{code} is not in {log}");
    }
    assert!(standby_log.contains("0209] the active, PID"), "{standby_log}");
    for log in [log, standby_log] {
        // What was meant is nothing to be woken up for.
        assert!(!log.contains("][ERROR]"), "{log}");
        assert!(!log.contains("0204]") && !log.contains("0207]"), "{log}");
    }
}

#[test]
fn requests_are_answered_and_done_once_while_the_role_moves() {
    let pair = Pair::new("", SLEEPERS);
    pair.start();
    let a = pair.pids()["a"];
    for round in 1..=10 {
        let mut restart = pair.command(&["restart", "b"]).stdout(Stdio::piped()).spawn().unwrap();
        let said = pair.run(&["failover"]);
        assert!(said.status.success(), "{round}: {}", both(&said));
        assert!(restart.wait().unwrap().success(), "{round}");
    }
    let status = pair.status();
    assert_eq!((status["switchovers"].as_u64(), status["takeovers"].as_u64()), (Some(10), Some(0)));
    assert_eq!(pair.pids()["a"], a);
    let starts = pair.log(false).matches("b: its process has started").count();
    let started = pair.log(false).matches("b: RUNNING").count();
    assert!(starts <= 11 && started <= 11, "{starts} {started}");
}

#[test]
fn without_a_standby_that_watches_it_is_refused_and_nothing_changes() {
    let pair = Pair::new("none-standbyPort", SLEEPERS);
    pair.run(&["run", "--detach"]);
    let (active, servers) = (pair.pid_of("active"), pair.pids());
    let said = pair.run(&["switchover"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(both(&said).contains("set standbyPort in [nodeManager]"), "{}", both(&said));
    assert_eq!((pair.pid_of("active"), pair.pids()), (active, servers));
}

#[test]
fn whoever_dies_in_the_middle_of_it_one_active_has_every_server() {
    let pair = Pair::new("", SLEEPERS);
    pair.start();
    let servers = pair.pids();
    for round in 0..12_u64 {
        pair.wait_whole();
        let twins = [pair.pid_of("active"), pair.pid_of("standby")];
        let mut switch = pair.command(&["switchover"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 4));
        match round % 3 {
            0 => signal(twins[0], SIGKILL),
            1 => signal(twins[1], SIGKILL),
            _ => twins.into_iter().for_each(|pid| signal(pid, SIGKILL)),
        }
        let code = switch.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 1 | 75)), "{round}: {code:?}");
        pair.wait_whole();
        assert_eq!(pair.pids(), servers, "{round}");
    }
    wait_until("just keeper, twins and servers", || pair.processes().len() == 3 + 2);
}
