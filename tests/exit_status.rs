//! How a server ended is told as it was, or as `unknown`: also when it ended while nobody looked.
//!
//! Must not accept a number that the server did not return. The moment between two actives is made
//! with SIGSTOP, not waited for.

mod support;

use serde_json::Value;
use std::process::Stdio;
use support::counted::{counted, reported, started, starts};
use support::{Pair, SIGCONT, SIGKILL, SIGSTOP, example, is_alive, signal, wait_until};

const SIGUSR1: i32 = 10;

/// Nobody is taken for hung while a test holds it with SIGSTOP.
const PATIENT: &str = "heartbeatTimeout = \"30s\"";

/// A server that returns 37 on SIGUSR1, and is up again at once.
fn returns_37() -> String {
    counted("s", "--usr1-exits 37", "restart = { delay = \"0s\" }")
}

fn gone(pid: i32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// The server ends between the death of its active and the takeover.
fn end_between_two_actives(pair: &Pair, server: i32, number: i32) {
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(standby, SIGSTOP);
    signal(active, SIGKILL);
    wait_until("the active to be gone", || gone(active));
    signal(server, number);
    wait_until("the server to be gone", || !is_alive(server));
    signal(standby, SIGCONT);
    wait_until("the standby to serve", || pair.pid_of("active") == standby);
}

/// Waits until the server runs again; gives its row.
fn wait_for_restart(pair: &Pair, before: i32) -> Value {
    wait_until("the server to be started again", || {
        let row = pair.server("s");
        row["state"] == "RUNNING" && row["pid"] != before
    });
    reported(pair, "s", 2);
    pair.server("s")
}

fn assert_code_37(pair: &Pair) {
    wait_until("the exit status to be known", || {
        let row = pair.server("s");
        let last = &row["lastExit"];
        assert!(
            last["kind"] == "unknown" || last["code"] == 37,
            "an exit status was made up: {last}"
        );
        last["kind"] == "code"
    });
}

/// Linux 6.15 and later tell a pidfd's holder how a process ended that somebody else reaped.
fn kernel_tells_exit_statuses() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[test]
fn a_server_that_ends_between_two_actives_is_reported_with_its_own_code() {
    let pair = Pair::new(PATIENT, &returns_37());
    pair.start();
    let server = started(&pair, 1)["s"];
    end_between_two_actives(&pair, server, SIGUSR1);
    let row = wait_for_restart(&pair, server);
    assert_eq!((row["restarts"].as_u64(), row["failCount"].as_u64()), (Some(1), Some(1)), "{row}");
    assert_code_37(&pair);
}

#[test]
fn a_server_that_is_killed_between_two_actives_is_reported_with_the_signal() {
    let pair = Pair::new(PATIENT, &returns_37());
    pair.start();
    let server = started(&pair, 1)["s"];
    end_between_two_actives(&pair, server, SIGKILL);
    wait_for_restart(&pair, server);
    wait_until("the signal to be known", || pair.server("s")["lastExit"]["signal"] == "SIGKILL");
}

#[test]
fn without_a_keeper_the_code_comes_from_the_kernel_or_is_unknown() {
    let pair = Pair::new(PATIENT, &returns_37());
    // Orphans are reaped at once: only then does the kernel tell how they ended.
    let mut reaper = std::process::Command::new(example("reaper"))
        .arg(support::binary())
        .args(["run", "--detach", "-c"])
        .arg(pair.config())
        .stdout(Stdio::null())
        .spawn()
        .expect("the reaper runs");
    pair.wait_whole();
    let server = started(&pair, 1)["s"];
    let keeper = pair.pid_of("keeper");
    signal(keeper, SIGKILL);
    wait_until("the keeper to be gone", || gone(keeper));
    end_between_two_actives(&pair, server, SIGUSR1);
    wait_for_restart(&pair, server);
    match kernel_tells_exit_statuses() {
        true => assert_code_37(&pair),
        false => assert_eq!(pair.server("s")["lastExit"]["kind"], "unknown"),
    }
    drop(pair);
    reaper.wait().expect("the reaper ends with the last of its orphans");
}

#[test]
fn a_server_that_ends_while_both_twins_are_dead_is_reported_with_its_own_code() {
    let pair = Pair::new(PATIENT, &returns_37());
    pair.start();
    pair.wait_whole();
    let server = started(&pair, 1)["s"];
    let twins = [pair.pid_of("active"), pair.pid_of("standby")];
    let keeper = pair.pid_of("keeper");
    signal(keeper, SIGSTOP);
    for number in [SIGSTOP, SIGKILL] {
        twins.iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("both twins to be dead", || !twins.iter().any(|pid| is_alive(*pid)));
    signal(server, SIGUSR1);
    wait_until("the server to be dead", || !is_alive(server));
    signal(keeper, SIGCONT);
    let row = wait_for_restart(&pair, server);
    assert_eq!(row["restarts"], 1, "{row}");
    assert_code_37(&pair);
}

#[test]
fn a_server_that_ends_while_nobody_at_all_is_there_has_an_unknown_end() {
    let pair = Pair::new("", &returns_37());
    pair.start();
    pair.wait_whole();
    let server = started(&pair, 1)["s"];
    let all = ["keeper", "active", "standby"].map(|role| pair.pid_of(role));
    for number in [SIGSTOP, SIGKILL] {
        all.iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("all three to be dead", || !all.iter().any(|pid| is_alive(*pid)));
    signal(server, SIGUSR1);
    wait_until("the server to be gone", || !is_alive(server));
    pair.start();
    let row = wait_for_restart(&pair, server);
    assert_eq!(row["lastExit"]["kind"], "unknown", "nobody can know it: {row}");
    assert_eq!((row["lastExit"]["code"].is_null(), &row["restarts"]), (true, &1.into()), "{row}");
}

#[test]
fn counts_and_the_last_exit_outlive_every_twin() {
    let options = "--die-first 3 --die-after 30 --code 5";
    let keys = "restart = { delay = \"10ms\", tries = 9, window = \"10m\" }";
    let pair = Pair::new("", &counted("s", options, keys));
    // It may say that not every server is up yet.
    pair.run(&["run", "--detach"]);
    wait_until("the fourth start to stay", || {
        starts(&pair, "s").len() == 4 && pair.server("s")["state"] == "RUNNING"
    });
    let counts = |row: &Value| {
        let last = &row["lastExit"];
        let fields = ["pid", "restarts", "failCount", "state", "wanted"];
        let fields: Vec<Value> = fields.iter().map(|key| row[*key].clone()).collect();
        (fields, last["code"].clone(), last["ranMs"].clone())
    };
    let row = pair.server("s");
    assert_eq!((&row["restarts"], &row["failCount"]), (&3.into(), &3.into()), "{row}");
    assert_eq!(row["lastExit"]["code"], 5, "{row}");
    let before = counts(&row);

    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    assert_eq!(counts(&pair.server("s")), before, "after a takeover");

    for roles in [vec!["active", "standby"], vec!["keeper", "active", "standby"]] {
        pair.wait_whole();
        let pids: Vec<i32> = roles.iter().map(|role| pair.pid_of(role)).collect();
        for number in [SIGSTOP, SIGKILL] {
            pids.iter().for_each(|pid| signal(*pid, number));
        }
        wait_until("them to be dead", || !pids.iter().any(|pid| is_alive(*pid)));
        if roles.len() == 3 {
            assert_eq!(counts(&pair.server("s")).1, before.1, "in the journal");
            pair.start();
        }
        pair.wait_whole();
        assert_eq!(counts(&pair.server("s")), before, "after the death of {roles:?}");
    }
    assert_eq!(starts(&pair, "s").len(), 4);
}
