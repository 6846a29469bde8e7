//! `maintenance on|off`.

use super::support::{Pair, SIGKILL, both, signal, wait_until};

const CRASHING: &str = "[[server]]\nname = \"a\"\ncommand = [\"sleep\", \"1000\"]\nsettleTime = \"100ms\"\n\
                        restart = { delay = \"1ms\", tries = 100 }\n";

#[test]
fn nothing_is_restarted_by_itself_until_it_is_over_whoever_is_the_active() {
    let pair = Pair::new("", CRASHING);
    pair.start();
    assert!(pair.ok(&["maintenance", "on"]).contains("maintenance is ON"));
    signal(pair.pids()["a"], SIGKILL);
    let row = pair.wait_state("a", "BACKOFF");
    assert_eq!(row["detail"], "killed by SIGKILL; not restarted: maintenance is on");
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    let status = pair.status();
    assert_eq!(
        (status["maintenance"].as_bool(), status["takeovers"].as_u64()),
        (Some(true), Some(1))
    );
    assert!(pair.ok(&["switchover"]).contains("is the active now"));
    assert_eq!(pair.server("a")["state"], "BACKOFF");
    let shown = String::from_utf8_lossy(&pair.run(&["status"]).stdout).into_owned();
    assert!(shown.lines().next().is_some_and(|line| line.ends_with("maintenance ON")), "{shown}");
    assert_eq!(pair.ok(&["maintenance", "off"]), "maintenance is OFF\n");
    pair.wait_state("a", "RUNNING");
    assert_eq!(pair.ok(&["maintenance", "off"]), "maintenance was OFF already\n");
}

#[test]
fn what_is_asked_for_is_done_meanwhile() {
    let pair = Pair::new("", CRASHING);
    pair.start();
    pair.ok(&["maintenance", "on"]);
    let before = pair.pids()["a"];
    pair.ok(&["restart", "a"]);
    assert_ne!(pair.pids()["a"], before);
    signal(pair.pids()["a"], SIGKILL);
    pair.wait_state("a", "BACKOFF");
    assert!(pair.ok(&["start", "a"]).contains("RUNNING"));
    pair.ok(&["stop", "a"]);
    pair.ok(&["start", "a"]);
}

#[test]
fn it_is_over_in_the_next_life() {
    let pair = Pair::new("", CRASHING);
    pair.start();
    pair.ok(&["maintenance", "on"]);
    pair.ok(&["shutdown"]);
    pair.start();
    assert_eq!(pair.status()["maintenance"], true, "its servers lived on, and so does it");
    pair.ok(&["shutdown", "--stop-servers"]);
    pair.start();
    assert_eq!(pair.status()["maintenance"], false);
    let wrong = pair.run(&["maintenance", "perhaps"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", both(&wrong));
    wait_until("a", || pair.server("a")["state"] == "RUNNING");
}
