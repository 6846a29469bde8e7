//! The traps that were met on a real kernel, each with the real program; docs/TRAPS.md says which
//! precaution each test holds.

mod journal;
mod output;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nodemanager::sys::lock;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use support::{
    Pair, SIGCONT, SIGKILL, SIGSTOP, binary, has_tool, is_alive, signal, wait_for, wait_until,
};
use tools::{
    EndedPid, exits, finish, freeze, has, is_root, pid_in, state_letter, status_field, twins,
};

fn sleeper(name: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"sleep 1000\"\nsettleTime = \"50ms\"\n{more}\n"
    )
}

fn program(name: &str, command: &[&str], more: &str) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("'''{word}'''")).collect();
    let command = words.join(", ");
    format!("[[server]]\nname = \"{name}\"\ncommand = [{command}]\nsettleTime = \"50ms\"\n{more}\n")
}

fn shell(name: &str, script: &str, more: &str) -> String {
    program(name, &["sh", "-c", script], more)
}

/// Numbered lines as fast as a shell can, for a test that looks for holes and doubles.
const NUMBERS: &str = "n=0; while :; do n=$((n+1)); echo $n; done";

/// All lines are 1, 2, 3, ...; gives how many.
fn assert_in_sequence(text: &str) -> usize {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for (at, line) in whole.lines().enumerate() {
        assert_eq!(line, (at + 1).to_string(), "line {} is torn, lost or doubled", at + 1);
    }
    whole.lines().count()
}

/// Kills the active; gives the PID of the one that follows, once the pair is whole again.
fn take_over(pair: &Pair) -> i32 {
    let before = twins(pair);
    signal(before.0, SIGKILL);
    wait_until("the takeover", || pair.twin("active") == Some(before.1));
    pair.wait_whole();
    before.1
}

// ---- 1: locks

#[test]
fn a_dead_actives_lock_is_the_next_ones_although_it_forked_all_the_time() {
    let restart = "restart = { when = \"always\", tries = 1000, delay = \"0ms\" }";
    let servers: String =
        (0..8).map(|n| program(&format!("s{n}"), &["true"], restart)).collect::<String>();
    let pair = Pair::new("", &servers);
    // They never stay up, so the start says that not all is well.
    let _ = finish(pair.command(&["run", "--detach", "--timeout", "2s"]), "run");
    for _ in 0..6 {
        take_over(&pair);
    }
    let holder = lock::holder(&pair.home.join("run/nodemanager.lock")).unwrap();
    assert_eq!(holder, pair.twin("active"));
}

// ---- 2: the run directory and the journal

#[test]
fn a_removed_run_directory_is_rebuilt_under_the_pair_and_nobody_else_gets_in() {
    let pair = Pair::new(
        "",
        &(sleeper("a", "") + &shell("talks", "while :; do echo x; sleep 0.05; done", "")),
    );
    pair.start();
    let (active, keeper, before) = (twins(&pair).0, pair.pid_of("keeper"), pair.pids());
    let run = pair.home.join("run");
    // Moved first: who removes file by file meets those that are being made again.
    let lost = pair.home.join("lost");
    fs::rename(&run, &lost).unwrap();
    fs::remove_dir_all(lost).unwrap();
    wait_until("the socket to be back", || run.join("control.sock").exists());
    pair.wait_whole();
    assert_eq!(
        (pair.pid_of("active"), pair.pid_of("keeper"), pair.pids()),
        (active, keeper, before)
    );
    has(&exits(&pair, &["run"], 75).1, &["already runs"]);
    exits(&pair, &["restart", "a"], 0);
    // The log goes on, from the FIFO of the old directory and from a new one.
    fs::write(pair.home.join("logs/talks.out"), "").unwrap();
    wait_until("output of the running server", || pair.output_of("talks").contains('x'));
    exits(&pair, &["restart", "talks"], 0);
    fs::write(pair.home.join("logs/talks.out"), "").unwrap();
    wait_until("output of the new server", || pair.output_of("talks").contains('x'));
    // It is as good as the first one: a takeover finds all it needs.
    let before = pair.pids();
    take_over(&pair);
    assert_eq!(pair.pids(), before);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    wait_until("no process to be left", || pair.processes().is_empty());
}

#[test]
fn a_zombie_in_the_group_whose_parent_is_stopped_does_not_hold_up_a_stop() {
    if !has_tool("perl") {
        return;
    }
    // The helper leaves the group, lets its child there end, and never reaps it. The kernel hangs
    // up and wakes a stopped group when its session is orphaned, so it stops itself again.
    let script = "perl -e '
        $child = fork; exit 0 unless $child; setpgrp(0, 0);
        open F, \">{home}/child\"; print F \"$child\\n\"; close F;
        open F, \">{home}/helper\"; print F \"$$$$\\n\"; close F;
        $SIG{HUP} = IGNORE; while (1) { kill STOP, $$$$ }' & exec sleep 1000";
    let pair = Pair::new("", &shell("a", script, ""));
    pair.start();
    let child = pid_in(&pair.home.join("child"));
    let helper = pid_in(&pair.home.join("helper"));
    let _ended = EndedPid(helper);
    wait_until("the zombie", || {
        state_letter(child) == Some('Z') && state_letter(helper) == Some('T')
    });
    exits(&pair, &["stop", "a"], 0);
    assert_eq!(state_letter(child), Some('Z'), "the test lost its zombie");
    // It was woken by the end of its session, and may be on its way back.
    wait_until("the helper to be stopped again", || state_letter(helper) == Some('T'));
}

#[test]
fn a_stop_right_after_a_start_leaves_nothing() {
    let pair = Pair::new("", &sleeper("a", "autoStart = false"));
    pair.start();
    for _ in 0..30 {
        exits(&pair, &["start", "a", "--no-wait"], 0);
        let pid = pair.pids().get("a").copied();
        exits(&pair, &["stop", "a"], 0);
        assert!(pid.is_none_or(|pid| !is_alive(pid)));
        assert_eq!(pair.server("a")["state"], "STOPPED");
    }
    let marked = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains("NM_SERVER=")
    };
    wait_until("no server to be left", || !pair.processes().iter().any(marked));
}

// ---- 7: nobody acts

#[test]
fn the_keeper_brings_back_a_pair_whose_twins_are_both_stopped_and_keep_the_port() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let (before, keeper, servers) = (twins(&pair), pair.pid_of("keeper"), pair.pids());
    freeze(before.1);
    freeze(before.0);
    wait_until("the stopped twins to be killed", || !is_alive(before.0) && !is_alive(before.1));
    pair.wait_whole();
    assert_eq!((pair.pid_of("keeper"), pair.pids()), (keeper, servers));
    exits(&pair, &["restart", "a"], 0);
}

// ---- 9: the death signal

#[test]
fn servers_outlive_whoever_started_them_also_those_started_after_a_takeover() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    pair.start();
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    let before = pair.pids();
    take_over(&pair);
    // All at once: nobody is left who could have held it back.
    let all = [pair.pid_of("keeper"), pair.pid_of("active"), pair.pid_of("standby")];
    all.iter().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("the whole pair to be dead", || all.iter().all(|pid| !is_alive(*pid)));
    assert!(before.values().all(|pid| is_alive(*pid)));
    pair.start();
    assert_eq!(pair.pids(), before);
}

// ---- 10, 11, 12: output

#[test]
fn commands_return_in_time_although_hundreds_of_calls_were_never_answered() {
    let pair = Pair::new("none-standbyPort", &sleeper("a", ""));
    pair.start();
    assert_eq!(pair.status()["pair"], "single");
    let (active, keeper) = (pair.pid_of("active"), pair.pid_of("keeper"));
    // Without its keeper nobody revives a hung active that has no standby.
    signal(keeper, SIGKILL);
    wait_until("the keeper's death", || !is_alive(keeper));
    freeze(active);
    let address = UnixAddr::new(&pair.home.join("run/control.sock")).unwrap();
    let mut held = Vec::new();
    let is_full = loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let call = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        match connect(call.as_raw_fd(), &address) {
            Ok(()) => held.push(call),
            Err(nix::errno::Errno::EAGAIN) => break true,
            Err(error) => panic!("cannot connect: {error}"),
        }
        if held.len() > 6000 {
            break false;
        }
    };
    assert!(is_full && held.len() > 100, "the backlog took {} calls", held.len());
    for words in [
        &["status", "--timeout", "500ms"][..],
        &["stop", "a", "--timeout", "500ms"],
        &["shutdown", "--timeout", "500ms"],
        &["wait", "--down", "a", "--timeout", "500ms"],
    ] {
        has(&exits(&pair, words, 124).1, &["500ms", "again later"]);
    }
    drop(held);
    signal(active, SIGCONT);
    assert_eq!(pair.server("a")["state"], "RUNNING");
}

// ---- 15, 21: what a server inherits

/// Starts the pair from a shell that has done this before.
fn start_from_shell(pair: &Pair, before: &str) {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{before}; exec \"$@\"")).arg("bash").arg(binary());
    command.args(["run", "--detach", "-c"]).arg(pair.config());
    let output = finish(command, "run");
    assert!(output.status.success(), "{}", support::both(&output));
}

fn assert_clean(pid: i32) {
    let numbers = || {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let mut numbers: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        numbers.sort();
        numbers
    };
    // Its loader opens and closes others first.
    wait_until(&format!("three, not {:?}", numbers()), || numbers() == ["0", "1", "2"]);
    for field in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(status_field(pid, field), "0000000000000000", "{field}");
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Process group, session, terminal.
    assert_eq!(fields[2..5], [pid.to_string(), pid.to_string(), "0".to_string()]);
}

/// A run of hexadecimal digits as long as the secret is.
fn holds_a_secret(bytes: &[u8]) -> bool {
    bytes.split(|byte| !byte.is_ascii_hexdigit()).any(|run| run.len() >= 32)
}

#[test]
fn a_server_has_three_descriptors_default_signals_a_session_and_no_secret() {
    if !has_tool("bash") {
        return;
    }
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    start_from_shell(&pair, "exec 9</dev/null 33>/dev/null; trap '' PIPE HUP USR2 CHLD TERM INT");
    assert_clean(pair.pids()["a"]);
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    assert_clean(pair.pids()["b"]);
    // The secret goes through a pipe: nobody finds it in an environment or a command line.
    for pid in pair.processes() {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!holds_a_secret(&bytes), "PID {pid}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    exits(&pair, &["stop", "all"], 0);
}

#[test]
fn servers_get_the_limits_and_the_umask_that_the_pair_was_started_with() {
    if !has_tool("bash") {
        return;
    }
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    start_from_shell(&pair, "ulimit -Sn 333; umask 0037");
    let soft = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line =
            text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_string();
        line.split_whitespace().nth(3).unwrap().to_string()
    };
    let assert_original = |name: &str| {
        let pid = pair.pids()[name];
        assert_eq!((soft(pid), status_field(pid, "Umask")), ("333".into(), "0037".into()));
    };
    assert_original("a");
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    assert_original("b");
    // Also when the keeper brought the pair back.
    let both = twins(&pair);
    signal(both.1, SIGKILL);
    signal(both.0, SIGKILL);
    pair.wait_whole();
    exits(&pair, &["restart", "a"], 0);
    assert_original("a");
    // The pair itself has what it can get.
    assert_ne!(soft(pair.pid_of("active")), "333");
}

// ---- 16: ports

#[test]
fn check_warns_of_a_standby_port_that_the_kernel_may_give_away() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first = range.split_whitespace().next().unwrap();
    let pair = Pair::new(&format!("standbyPort = {first}"), &sleeper("a", ""));
    let (out, err) = exits(&pair, &["check"], 0);
    has(&err, &["warning", "standbyPort", first, "outgoing connections"]);
    assert!(!out.contains("warning"));
    let pair = Pair::new("", &sleeper("a", ""));
    assert_eq!(exits(&pair, &["check"], 0).1, "");
}

// ---- 19: identity
