//! Whatever is killed or stopped, and whenever: somebody serves again, the servers keep their
//! processes, and none is started a second time.
//!
//! Must not believe `status` about starts: the servers report them themselves.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use support::counted::{assert_untouched, counted, reported, started, starts};
use support::{Pair, SIGCONT, SIGKILL, SIGSTOP, is_alive, signal, wait_for, wait_until};

/// Hangs are noticed soon; still long enough for a busy machine.
const SHORT: &str = "heartbeatInterval = \"50ms\"\nheartbeatTimeout = \"400ms\"";

/// A whole pair with so many servers that report their starts.
fn pair_with(node: &str, servers: usize) -> (Pair, BTreeMap<String, i32>) {
    let tables: Vec<String> =
        (0..servers).map(|number| counted(&format!("s{number}"), "", "")).collect();
    let pair = Pair::new(node, &tables.concat());
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, servers);
    (pair, pids)
}

/// What the last takeover took, and why it was.
fn last_takeover(status: &Value) -> (u64, String) {
    let last = &status["lastTakeover"];
    let cause = last["cause"].as_str().unwrap_or_default().to_string();
    (last["ms"].as_u64().expect("a takeover"), cause)
}

/// Kills processes at one instant: first all are stopped, so that none acts on another's death.
fn kill_at_once(pids: &[i32]) {
    for number in [SIGSTOP, SIGKILL] {
        pids.iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("the killed to end", || !pids.iter().any(|pid| is_alive(*pid)));
}

/// Waits until `ended` processes are gone and a whole pair of other processes serves.
fn wait_for_another(pair: &Pair, ended: &[i32]) {
    wait_until("the old processes to end", || !ended.iter().any(|pid| is_alive(*pid)));
    pair.wait_whole();
    for role in ["active", "standby", "keeper"] {
        assert!(!ended.contains(&pair.pid_of(role)), "the {role} is a process that ended");
    }
}

/// The pipes that a process has an end of, by their inodes, each with the number of that end.
fn pipes(pid: i32) -> BTreeMap<String, u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let named = entries.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_str()?.to_string();
        Some((target, entry.file_name().to_str()?.parse().ok()?))
    });
    named.filter(|(target, _)| target.starts_with("pipe:")).collect()
}

#[test]
fn a_standby_has_the_other_end_of_what_its_active_gives_back_first_when_it_ends() {
    // Each has more descriptors than a server has as a rule.
    let sockets: Vec<String> = (0..64)
        .map(|number| format!("{{ name = \"n{number}\", listen = \"unix:NAME{number}\" }}"))
        .collect();
    let sockets = format!("socket = [{}]\n", sockets.join(", "));
    let tables =
        ["a", "b", "c", "d", "e"].map(|name| counted(name, "", &sockets.replace("NAME", name)));
    let pair = Pair::new("", &tables.concat());
    pair.start();
    for _ in 0..3 {
        pair.wait_whole();
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        let theirs = pipes(standby);
        let shared: Vec<u32> = pipes(active)
            .into_iter()
            .filter_map(|(pipe, number)| theirs.contains_key(&pipe).then_some(number))
            .collect();
        let [lifeline] = shared[..] else { panic!("one pipe between them, not {shared:?}") };
        let numbers = std::fs::read_dir(format!("/proc/{active}/fd")).expect("its descriptors");
        let numbers =
            numbers.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        assert_eq!(Some(lifeline), numbers.max(), "the kernel begins with the highest number");
        signal(active, SIGKILL);
        wait_until("the standby to serve", || pair.twin("active") == Some(standby));
    }
}

#[test]
fn a_restart_asked_for_in_the_middle_of_a_takeover_is_done_and_not_refused() {
    let (pair, _) = pair_with("", 60);
    for _ in 0..5 {
        pair.wait_whole();
        let before = pair.server("s59")["pid"].clone();
        signal(pair.pid_of("active"), SIGKILL);
        // The last of those that a new active looks at.
        pair.ok(&["restart", "s59"]);
        assert_ne!(pair.server("s59")["pid"], before);
    }
}

#[test]
fn an_active_killed_a_hundred_times_costs_no_server_its_process_and_status_always_answers() {
    let (pair, pids) = pair_with("", 20);
    let mut worst_ms = 0;
    for _ in 0..100 {
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        signal(active, SIGKILL);
        let status = pair.status();
        assert_eq!(status["active"]["pid"], standby, "who else should serve: {status}");
        assert_eq!(pair.pids(), pids);
        let (took_ms, cause) = last_takeover(&status);
        assert_eq!(cause, "death");
        worst_ms = worst_ms.max(took_ms);
        pair.wait_whole();
    }
    assert_untouched(&pair, &pids);
    assert_eq!(pair.status()["takeovers"], 100);
    println!("100 kills, 100 takeovers, the slowest took {worst_ms} ms");
}

#[test]
fn an_active_that_hangs_again_and_again_is_killed_and_replaced_by_the_standby_alone() {
    let (pair, pids) = pair_with(SHORT, 5);
    let keeper = pair.pid_of("keeper");
    // The standby's timeout doubles each time; at the third hang it is longer than the keeper's
    // patience with a pair that nobody watches.
    for times in 1..=3 {
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        signal(active, SIGSTOP);
        wait_until("the hung active to be killed", || !is_alive(active));
        let status = pair.status();
        assert_eq!(status["active"]["pid"], standby, "the standby did not take over: {status}");
        assert_eq!(last_takeover(&status).1, "hang");
        assert_eq!(status["takeovers"], times);
        pair.wait_whole();
        assert_untouched(&pair, &pids);
    }
    assert_eq!(pair.pid_of("keeper"), keeper);
}

#[test]
fn a_standby_that_is_killed_again_and_again_is_replaced_and_the_active_stays() {
    let (pair, pids) = pair_with("", 5);
    let active = pair.pid_of("active");
    for _ in 0..5 {
        let standby = pair.pid_of("standby");
        signal(standby, SIGKILL);
        wait_for_another(&pair, &[standby]);
    }
    assert_eq!(pair.pid_of("active"), active);
    assert_eq!(pair.status()["takeovers"], 0);
    assert_untouched(&pair, &pids);
}

#[test]
fn a_standby_that_hangs_is_killed_and_replaced_and_the_active_stays() {
    let (pair, pids) = pair_with(SHORT, 2);
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(standby, SIGSTOP);
    wait_for_another(&pair, &[standby]);
    assert_eq!(pair.pid_of("active"), active);
    assert_untouched(&pair, &pids);
}

#[test]
fn when_both_twins_are_killed_the_keeper_brings_the_pair_back() {
    let (pair, pids) = pair_with(SHORT, 10);
    let keeper = pair.pid_of("keeper");
    for turn in 0..10 {
        let twins = [pair.pid_of("active"), pair.pid_of("standby")];
        match turn % 3 {
            0 => kill_at_once(&twins),
            first => [first - 1, 2 - first].iter().for_each(|at| signal(twins[*at], SIGKILL)),
        }
        wait_for_another(&pair, &twins);
        assert_untouched(&pair, &pids);
    }
    assert_eq!(pair.pid_of("keeper"), keeper);
}

#[test]
fn when_all_three_are_killed_a_new_start_finds_every_server_again() {
    let (pair, pids) = pair_with("", 10);
    for _ in 0..5 {
        let all = ["keeper", "active", "standby"].map(|role| pair.pid_of(role));
        kill_at_once(&all);
        assert_eq!(pair.server("s3")["state"], "UNMANAGED");
        pair.start();
        wait_for_another(&pair, &all);
        assert_untouched(&pair, &pids);
    }
}

#[test]
fn a_killed_keeper_touches_nobody_and_a_new_run_joins_the_pair() {
    let (pair, pids) = pair_with(SHORT, 3);
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    let keeper = pair.pid_of("keeper");
    signal(keeper, SIGKILL);
    wait_until("status to miss the keeper", || {
        let status = pair.status();
        status["keeper"].is_null() && status["pair"] == "degraded"
    });
    pair.start();
    pair.wait_whole();
    assert_ne!(pair.pid_of("keeper"), keeper);
    assert_eq!(pair.status()["keeper"]["joined"], true);
    assert_eq!([pair.pid_of("active"), pair.pid_of("standby")], [active, standby]);

    // It is a keeper like any other: it brings the pair back.
    kill_at_once(&[active, standby]);
    wait_for_another(&pair, &[active, standby]);
    assert_untouched(&pair, &pids);
}

#[test]
fn when_both_twins_hang_the_keeper_ends_them_and_brings_the_pair_back() {
    let (pair, pids) = pair_with(SHORT, 3);
    let twins = [pair.pid_of("active"), pair.pid_of("standby")];
    twins.iter().for_each(|pid| signal(*pid, SIGSTOP));
    wait_for_another(&pair, &twins);
    assert_untouched(&pair, &pids);
}

#[test]
fn when_one_twin_is_dead_and_the_other_hangs_the_keeper_brings_the_pair_back() {
    let (pair, pids) = pair_with(SHORT, 3);
    for hung in ["active", "standby"] {
        let twins = [pair.pid_of("active"), pair.pid_of("standby")];
        let (hung, dead) = if hung == "active" { (0, 1) } else { (1, 0) };
        signal(twins[hung], SIGSTOP);
        signal(twins[dead], SIGKILL);
        wait_for_another(&pair, &twins);
        assert_untouched(&pair, &pids);
    }
}

#[test]
fn when_the_keeper_and_one_twin_are_dead_and_the_other_hangs_a_new_start_brings_the_pair_back() {
    let (pair, pids) = pair_with(SHORT, 3);
    for hung in ["active", "standby"] {
        let all = ["keeper", "active", "standby"].map(|role| (role, pair.pid_of(role)));
        for (role, pid) in all {
            signal(pid, SIGSTOP);
            if role != hung {
                signal(pid, SIGKILL);
            }
        }
        let all = all.map(|(_, pid)| pid);
        wait_until("two of them to end", || all.iter().filter(|pid| is_alive(**pid)).count() == 1);
        pair.start();
        wait_for_another(&pair, &all);
        assert_untouched(&pair, &pids);
    }
}

#[test]
fn twins_that_were_stopped_and_go_on_in_time_are_left_alone() {
    let (pair, pids) = pair_with("heartbeatTimeout = \"10s\"", 3);
    let twins = [pair.pid_of("active"), pair.pid_of("standby")];
    for stopped in [vec![twins[0]], vec![twins[1]], twins.to_vec()] {
        stopped.iter().for_each(|pid| signal(*pid, SIGSTOP));
        std::thread::sleep(Duration::from_millis(300));
        stopped.iter().for_each(|pid| signal(*pid, SIGCONT));
        pair.wait_whole();
    }
    assert_eq!(twins, [pair.pid_of("active"), pair.pid_of("standby")]);
    assert_untouched(&pair, &pids);
}

/// Sets the loopback interface up or down in the network namespace of a process.
fn set_loopback(pid: i32, state: &str) {
    let status = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "ip", "link", "set", "lo", state])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cannot set lo {state}");
}

#[test]
fn a_link_that_is_cut_is_rebuilt_and_neither_twin_is_killed() {
    let can = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return println!("skipped: cannot make a network namespace (needs root, unshare, ip)");
    }
    let pair = Pair::new(SHORT, &counted("s", "", ""));
    let script = "ip link set lo up && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", script, "sh", support::binary(), "run", "--detach", "-c"])
        .arg(pair.config())
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", support::both(&output));
    pair.wait_whole();
    let pids = started(&pair, 1);
    let twins = [pair.pid_of("active"), pair.pid_of("standby")];
    for times in 1..=3 {
        set_loopback(twins[0], "down");
        // Heartbeats come no more, and both see by the pulse that the other one works.
        wait_until("the cut to be noticed", || pair.status()["pair"] == "degraded");
        wait_until("the standby to notice it", || {
            pair.log(true).matches("the link is lost").count() >= times
        });
        set_loopback(twins[0], "up");
        pair.wait_whole();
        assert_eq!(twins, [pair.pid_of("active"), pair.pid_of("standby")], "one was replaced");
    }
    assert_eq!(pair.status()["takeovers"], 0);
    assert_untouched(&pair, &pids);

    // The link works again: the standby takes over with all that it was told since.
    pair.ok(&["restart", "s"]);
    let server = pair.pids()["s"];
    signal(twins[0], SIGKILL);
    assert_eq!(pair.pid_of("active"), twins[1]);
    assert_eq!(pair.pids()["s"], server);
}

#[test]
fn a_server_that_died_before_a_takeover_is_started_again_only_when_its_child_is_gone() {
    // The child ignores nothing and belongs to the group; it lives as long as the test wants.
    let keys = "restart = { delay = \"0s\" }\nstop = { timeout = \"500ms\" }";
    let pair = Pair::new("", &counted("s", "--child 600000 --usr1-exits 3", keys));
    pair.start();
    pair.wait_whole();
    let server = started(&pair, 1)["s"];
    let children = || {
        let path = format!("/proc/{server}/task/{server}/children");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let child: i32 = wait_for("its child", || children().split_whitespace().next()?.parse().ok());
    // At the same time: nobody has seen the server's end when the active dies.
    let active = pair.pid_of("active");
    signal(active, SIGSTOP);
    signal(server, 10);
    signal(active, SIGKILL);
    wait_until("the server to run again", || {
        let row = pair.server("s");
        row["state"] == "RUNNING" && row["pid"] != server
    });
    assert!(!is_alive(child), "it was started beside a child of its last life");
    reported(&pair, "s", 2);
}

/// The delays after which the active is killed in the middle of something: from before the command
/// arrives until after it was answered.
fn delays() -> impl Iterator<Item = Duration> {
    (0..40).map(|step| Duration::from_micros(step * 1_500))
}

/// Runs a command while the active is killed so long after its start; gives what it printed. It
/// must succeed: the client asks the new active again.
fn ok_while_the_active_dies(pair: &Pair, words: &[&str], after: Duration) {
    let active = pair.pid_of("active");
    std::thread::scope(|scope| {
        let command = scope.spawn(|| pair.ok(words));
        std::thread::sleep(after);
        signal(active, SIGKILL);
        command.join().expect("the command succeeds");
    });
}

#[test]
fn an_active_killed_during_a_start_or_a_stop_leaves_it_done_once() {
    let pair = Pair::new("", &counted("s", "", "autoStart = false"));
    pair.start();
    for (turn, after) in delays().enumerate() {
        pair.wait_whole();
        ok_while_the_active_dies(&pair, &["start", "s"], after);
        let row = pair.wait_state("s", "RUNNING");
        let reported = wait_for("the start to be reported", || {
            Some(starts(&pair, "s")).filter(|starts| starts.len() > turn)
        });
        assert_eq!(reported.len(), turn + 1, "it was started twice: {row}");
        assert_eq!(row["pid"], reported[turn], "status shows another process");

        pair.wait_whole();
        ok_while_the_active_dies(&pair, &["stop", "s"], after);
        assert!(!is_alive(reported[turn]), "stop was answered, and it lives");
        let row = pair.server("s");
        assert_eq!((&row["state"], &row["wanted"]), (&"STOPPED".into(), &"down".into()), "{row}");
        assert_eq!(row["restarts"], 0, "a stop is no failure: {row}");
    }
    assert_eq!(starts(&pair, "s").len(), delays().count());
}

#[test]
fn a_start_that_is_being_answered_when_the_active_dies_is_answered_by_the_next_one() {
    let slow = counted("s", "", "autoStart = false").replace("20ms", "500ms");
    let pair = Pair::new("", &slow);
    pair.start();
    for turn in 1..=3 {
        let active = pair.pid_of("active");
        std::thread::scope(|scope| {
            let command = scope.spawn(|| pair.ok(&["start", "s"]));
            // The server runs and is being watched; the client waits for the answer.
            wait_until("the server to start", || starts(&pair, "s").len() == turn);
            signal(active, SIGKILL);
            command.join().expect("the command succeeds");
        });
        assert_eq!(pair.server("s")["state"], "RUNNING");
        assert_eq!(starts(&pair, "s").len(), turn, "it was started twice");
        pair.wait_whole();
        pair.ok(&["stop", "s"]);
    }
}

#[test]
fn a_stop_that_waits_for_a_deaf_server_goes_on_with_the_next_active() {
    let pair = Pair::new("", &counted("s", "--ignore-term yes", "stop = { timeout = \"700ms\" }"));
    pair.start();
    let pid = started(&pair, 1)["s"];
    let active = pair.pid_of("active");
    std::thread::scope(|scope| {
        let command = scope.spawn(|| pair.ok(&["stop", "s"]));
        wait_until("the stop to begin", || pair.server("s")["state"] == "STOPPING");
        signal(active, SIGKILL);
        command.join().expect("the command succeeds");
    });
    assert!(!is_alive(pid));
    assert_eq!(pair.server("s")["lastExit"]["signal"], "SIGKILL");
    assert_eq!(starts(&pair, "s").len(), 1);
}
