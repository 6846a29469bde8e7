//! Deaths, orphans, delays and wishes of servers.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

#[test]
fn signals_to_servers_that_just_died_end_nobody() {
    let restart = "restart = { when = \"always\", delay = \"0s\", tries = 1000 }";
    let pair = Pair::new("", &counted("s", "--die-after 3", restart));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    let before = twins(&pair);
    for round in 0..40 {
        let words: &[&str] = match round % 4 {
            0 => &["signal", "SIGTERM", "s"],
            1 => &["kill", "s"],
            2 => &["restart", "s", "--no-wait"],
            _ => &["start", "s", "--no-wait"],
        };
        pair.run(words);
    }
    assert_undisturbed(&pair, before);
}

#[test]
fn a_death_is_seen_although_a_grandchild_holds_the_output() {
    // The grandchild has a session and an environment of its own, and the server's output.
    let script = "if [ -e {home}/pid ]; then echo second; exec sleep 1000; fi
        env -i setsid sh -c 'echo $$$$ > {home}/pid; exec sleep 1000' &
        while ! [ -s {home}/pid ]; do sleep 0.01; done; exit 3";
    let pair = Pair::new("", &shell("s", script, "restart = { delay = \"0s\" }"));
    pair.run(&["run", "--detach"]);
    let grandchild = EndedPid(pid_in(&pair.home.join("pid")));
    wait_until("the second start", || pair.output_of("s").contains("second"));
    let row = pair.wait_state("s", "RUNNING");
    assert_eq!((&row["lastExit"]["code"], &row["restarts"]), (&3.into(), &1.into()), "{row}");
    assert!(is_alive(grandchild.0));
}

// ---- 19: orphans and zombies

/// Leaves orphans behind that end soon, each in a session of its own.
const ORPHANS: &str =
    "i=0; while [ $i -lt 50 ]; do i=$((i+1)); (setsid sh -c 'sleep 0.05; exit 9' &); done
    echo done; exec sleep 1000";

fn zombies_of(parent: i32) -> usize {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| state_letter(*pid) == Some('Z')).count()
}

#[test]
fn orphans_are_reaped_and_nobody_says_a_word_about_them() {
    let pair = Pair::new("", &shell("s", ORPHANS, ""));
    pair.start();
    let before = twins(&pair);
    wait_until("the orphans", || pair.output_of("s").contains("done"));
    let is_left = || {
        let is_it = |pid: &i32| *pid != pair.pids()["s"];
        let marked = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains("NM_SERVER=")
        };
        pair.processes().iter().filter(|pid| is_it(pid) && marked(pid)).count()
    };
    wait_until("the orphans to end", || is_left() == 0);
    wait_until("no zombie to be left", || zombies_of(pair.pid_of("keeper")) == 0);
    assert_undisturbed(&pair, before);
    let log = pair.log(false);
    assert!(!log.contains("unknown") && !log.contains("reap"), "{log}");
}

#[test]
fn as_the_first_process_of_a_container_the_keeper_reaps_everything_and_brings_the_pair_back() {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let pair = Pair::new("", &(shell("s", ORPHANS, "") + &counted("a", "", "")));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary());
    command.args(["run", "-c"]).arg(pair.config()).stdout(Stdio::null());
    let mut inside = Ended(command.spawn().unwrap());
    let count = |text: &str| pair.log(false).matches(text).count();
    wait_until("the pair", || count("is WATCHING") == 1 && count("RUNNING, PID") == 2);
    let named = |comm: &str| named(&pair, comm);
    let keeper = named("nm-keeper")[0];
    wait_until("the orphans", || pair.output_of("s").contains("done"));
    reported(&pair, "a", 1);
    let both_twins = [named("nm-active"), named("nm-standby")].concat();
    kill_at_once(&both_twins);
    wait_until("the pair again", || count("is WATCHING") == 2);
    wait_until("no zombie to be left", || zombies_of(keeper) == 0);
    reported(&pair, "a", 1);
    signal(keeper, SIGTERM);
    wait_until("the end", || inside.0.try_wait().unwrap().is_some());
    wait_until("no process to be left", || pair.processes().is_empty());
}

// ---- 20: a shutdown has an end

#[test]
fn the_delay_before_a_restart_grows_to_its_cap_and_a_reset_begins_again() {
    let restart =
        "autoStart = false\nrestart = { delay = \"20ms\", delayMax = \"100ms\", tries = 1000 }";
    let pair = Pair::new("", &counted("s", "--die-after 1 --code 4", restart));
    pair.start();
    pair.run(&["start", "s", "--no-wait"]);
    let delays = || -> Vec<u64> {
        let log = pair.log(false);
        let lines = log.lines().filter(|line| line.contains("-0309]"));
        let delay =
            |line: &str| line.rsplit_once("the next try in ")?.1.split(' ').next()?.parse().ok();
        lines.filter_map(delay).collect()
    };
    // What a line says is what is left of the delay when it is written, never more than that.
    let largest = || delays().into_iter().max().unwrap_or(0);
    wait_until("the delay to grow", || delays().len() >= 6 && largest() > 50);
    assert!(delays()[0] <= 20 && largest() <= 100, "{:?}", delays());
    let row = pair.server("s");
    assert!(row["failCount"].as_u64() >= Some(5) && row["restarts"].as_u64() >= Some(5), "{row}");
    exits(&pair, &["stop", "s"], 0);
    let before = delays().len();
    exits(&pair, &["reset", "s"], 0);
    assert_eq!(pair.server("s")["failCount"], 0);
    pair.run(&["start", "s", "--no-wait"]);
    wait_until("the next try", || delays().len() > before);
    assert!(delays()[before] <= 20, "{:?}", delays());
}

// ---- 24: what was wanted

#[test]
fn finished_work_is_not_done_again_by_another_active_or_a_fresh_pair() {
    let keys = "settleTime = \"0ms\"";
    let options = "--die-after 1 --code 0";
    let once = counted("once", options, keys).replace("settleTime = \"20ms\"\n", "");
    let pair = Pair::new("", &(once + &counted("s", "", "")));
    pair.run(&["run", "--detach"]);
    pair.wait_whole();
    pair.wait_state("once", "EXITED");
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    kill_at_once(&["active", "standby"].map(|role| pair.pid_of(role)));
    pair.wait_whole();
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    pair.start();
    assert_eq!(pair.server("once")["state"], "EXITED");
    assert_eq!(starts(&pair, "once").len(), 1, "finished work was done again");
}

#[test]
fn a_server_that_was_stopped_stays_so_whoever_takes_over_or_comes_back() {
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    pair.start();
    started(&pair, 2);
    exits(&pair, &["stop", "a"], 0);
    for roles in [&ROLES[1..2], &ROLES[1..], &ROLES[..]] {
        pair.wait_whole();
        let pids: Vec<i32> = roles.iter().map(|role| pair.pid_of(role)).collect();
        kill_at_once(&pids);
        if roles.len() == 3 {
            pair.start();
        }
        pair.wait_whole();
        assert_eq!(pair.server("a")["state"], "STOPPED", "after the death of {roles:?}");
    }
    assert_eq!(starts(&pair, "a").len(), 1);
}

// ---- near misses

#[test]
fn a_server_that_died_by_sigkill_is_started_again() {
    let pair = Pair::new("", &counted("s", "", "restart = { delay = \"0s\" }"));
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    signal(first, SIGKILL);
    wait_until("the next start", || starts(&pair, "s").len() == 2);
    let row = pair.wait_state("s", "RUNNING");
    assert_eq!((&row["lastExit"]["signal"], &row["restarts"]), (&"SIGKILL".into(), &1.into()));
    assert_undisturbed(&pair, before);
}

#[test]
fn a_restart_of_a_server_restarts_its_process_and_nobody_of_the_pair() {
    let pair = Pair::new("", &(counted("s", "--child 600000", "") + &counted("t", "", "")));
    pair.start();
    let (before, pids) = (twins(&pair), started(&pair, 2));
    exits(&pair, &["restart", "s"], 0);
    assert!(!is_alive(pids["s"]));
    reported(&pair, "s", 2);
    reported(&pair, "t", 1);
    assert_undisturbed(&pair, before);
}
