//! The shortest stories of a pair: it starts, survives its active, and ends.

mod support;

use support::{Pair, SIGKILL, signal, wait_until};

const TWO_SLEEPERS: &str = r#"
[[server]]
name = "a"
command = "sleep 1000"
settleTime = "50ms"
[[server]]
name = "b"
command = "sleep 1000"
settleTime = "50ms"
"#;

#[test]
fn a_killed_active_is_replaced_and_its_servers_keep_their_pids() {
    let pair = Pair::new("", TWO_SLEEPERS);
    pair.start();
    let (before, active, standby) = (pair.pids(), pair.pid_of("active"), pair.pid_of("standby"));
    signal(active, SIGKILL);
    assert_eq!(pair.pid_of("active"), standby);
    assert_eq!(pair.pids(), before);
    pair.wait_whole();
    assert_eq!(pair.status()["takeovers"], 1);
}

#[test]
fn a_shutdown_that_stops_the_servers_leaves_no_process_behind() {
    let pair = Pair::new("", TWO_SLEEPERS);
    pair.start();
    pair.ok(&["shutdown", "--stop-servers"]);
    wait_until("no process to be left", || pair.processes().is_empty());
}

#[test]
fn a_standby_is_let_in_when_it_comes_for_the_first_time() {
    let pair = Pair::new("", TWO_SLEEPERS);
    pair.start();
    pair.wait_whole();
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    assert!(!pair.log(false).contains("refused a connection"), "{}", pair.log(false));
}
