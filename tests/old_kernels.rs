//! The whole pair on older kernels and in containers: a seccomp filter makes chosen system calls of
//! keeper, twins and servers fail, and everything must go on by the other way that
//! docs/KERNELS.md names.
//!
//! Must not accept a made-up exit status, nor a process of a server's group that outlives a stop.

mod support;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use support::counted::{counted, started, starts};
use support::{
    Pair, SIGKILL, SIGSTOP, binary, both, example, has_tool, is_alive, signal, wait_until,
};
use tools::stranger::assert_spared;
use tools::{assert_nothing_left, exits, finish, freeze, has, is_root, pid_in};
use tools::{state_letter, status_field};

const SIGUSR1: i32 = 10;
const EPERM: i32 = libc::EPERM;
const EINVAL: i32 = libc::EINVAL;
const ENOTTY: i32 = libc::ENOTTY;
const ENOSYS: i32 = libc::ENOSYS;

/// What is made to fail, and with which error: see examples/old_kernel.rs.
type Rules<'a> = &'a [(&'a str, i32)];

/// What Linux 5.10 does not know, with its errors. (Its pidfds are no files of pidfs; there it is
/// another answer of fstatfs that says so, which a filter can't give.)
const LINUX_5_10: Rules = &[("group_signal", EINVAL), ("exit_info", ENOTTY), ("fstatfs", ENOSYS)];

fn command(rules: Rules, words: &[&str]) -> Command {
    let mut command = Command::new(example("old_kernel"));
    command.args(rules.iter().map(|(call, errno)| format!("{call}={errno}")));
    command.arg("--").arg(binary()).args(words);
    command
}

fn start(pair: &Pair, rules: Rules) -> Output {
    let config = pair.config().display().to_string();
    finish(command(rules, &["run", "--detach", "-c", &config]), "a start")
}

/// Five servers: one that must never be touched, one that returns 37 on SIGUSR1, one whose child
/// does not end by SIGTERM, one that can't be executed, one that writes.
fn servers() -> String {
    let deaf = "sh -c 'trap \"\" TERM; echo $$$$ > {home}/child; exec sleep 1000' & wait";
    [
        counted("keep", "", ""),
        counted("s", "--usr1-exits 37", "restart = { delay = \"0s\" }"),
        format!(
            "[[server]]\nname = \"family\"\ncommand = [\"sh\", \"-c\", '''{deaf}''']\n\
             settleTime = \"20ms\"\nstop = {{ timeout = \"200ms\" }}\n"
        ),
        "[[server]]\nname = \"none\"\ncommand = \"/no/such/program\"\nautoStart = false\n".into(),
        counted("writer", "--numbers 20000", ""),
    ]
    .concat()
}

/// A stop takes the deaf child with it. Gives the leader's PID.
fn stop_family(pair: &Pair) {
    let child = pid_in(&pair.home.join("child"));
    assert!(is_alive(child));
    has(&exits(pair, &["stop", "family"], 0).0, &["family: STOPPED"]);
    assert!(!is_alive(child), "a member of the group outlived the stop");
    fs::remove_file(pair.home.join("child")).unwrap();
}

/// The story of a pair from start to stop, with every kind of death in it.
fn lives_through_everything(rules: Rules, named: &[&str]) {
    let pair = Pair::new("", &servers());
    let output = start(&pair, rules);
    assert!(output.status.success(), "{}", both(&output));
    pair.wait_whole();
    let pids = wait_started(&pair);
    let log = pair.log(false);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("-0027]")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    has(lines[0], named);
    for pid in [pair.pid_of("keeper"), pair.pid_of("active"), pair.pid_of("standby"), pids["keep"]]
    {
        assert_eq!(status_field(pid, "Seccomp"), "2", "PID {pid} runs without the filter");
    }
    has(&exits(&pair, &["start", "none"], 1).1, &["/no/such/program", "errno 2"]);
    exits(&pair, &["stop", "none"], 0);
    crash(&pair);
    stop_family(&pair);
    exits(&pair, &["start", "family"], 0);
    pid_in(&pair.home.join("child"));
    end_between_two_actives(&pair, !rules.iter().any(|(call, _)| *call == "subreaper"));
    pair.wait_whole();
    // Now the keeper reaps its leader, and another active than the one that started it asks.
    stop_family(&pair);
    hang_and_kill_both(&pair);
    assert_eq!(starts(&pair, "keep"), [pids["keep"]], "it was started again");
    assert_eq!(pair.pids()["keep"], pids["keep"]);
    wait_until("all lines", || pair.output_of("writer").lines().count() == 20_000);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert_nothing_left(&pair);
}

fn wait_started(pair: &Pair) -> BTreeMap<String, i32> {
    for name in ["keep", "s", "writer"] {
        wait_until("a start", || !starts(pair, name).is_empty());
    }
    wait_until("four servers", || pair.pids().len() == 4);
    pair.pids()
}

fn wait_for_another(pair: &Pair, before: i32) {
    wait_until("the server to run again", || {
        let row = pair.server("s");
        row["state"] == "RUNNING" && row["pid"] != before
    });
}

fn crash(pair: &Pair) {
    let before = pair.pids()["s"];
    signal(before, SIGKILL);
    wait_for_another(pair, before);
    assert_eq!(pair.server("s")["lastExit"]["signal"], "SIGKILL");
}

/// The server ends while its active is stopped, which is then killed.
fn end_between_two_actives(pair: &Pair, has_reports: bool) {
    let (active, server) = (pair.pid_of("active"), pair.pids()["s"]);
    wait_until("it to hear signals", || starts(pair, "s").last() == Some(&server));
    freeze(active);
    signal(server, SIGUSR1);
    // A standby that took the active for hung meanwhile may have had it reaped.
    wait_until("the server to be dead", || matches!(state_letter(server), None | Some('Z')));
    signal(active, SIGKILL);
    wait_for_another(pair, server);
    if has_reports {
        wait_until("its exit status", || pair.server("s")["lastExit"]["kind"] != "unknown");
    }
    let row = pair.server("s");
    let last = &row["lastExit"];
    assert!(last["code"] == 37 || (!has_reports && last["kind"] == "unknown"), "{row}");
    assert_eq!(row["restarts"], 2, "{row}");
}

fn hang_and_kill_both(pair: &Pair) {
    let (active, standby) = tools::twins(pair);
    signal(active, SIGSTOP);
    wait_until("the takeover", || !is_alive(active) && pair.twin("active") == Some(standby));
    let (active, standby) = tools::twins(pair);
    for number in [SIGSTOP, SIGKILL] {
        [active, standby].iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("both to be dead", || !is_alive(active) && !is_alive(standby));
    pair.wait_whole();
}

#[test]
fn as_on_linux_5_10_a_pair_lives_through_everything() {
    lives_through_everything(
        LINUX_5_10,
        &["PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9; EINVAL)", "a pidfd's inode", "ENOTTY"],
    );
}

#[test]
fn as_in_an_old_container_a_pair_lives_through_everything() {
    let rules: Rules = &[("clone3", EPERM), ("close_range", EPERM), ("statx", EPERM)];
    lives_through_everything(
        rules,
        &["clone3 (Linux 5.3; EPERM)", "close_range (Linux 5.9; EPERM)"],
    );
}

#[test]
fn as_in_a_container_on_linux_5_10_a_pair_lives_through_everything() {
    let container: Rules = &[("clone3", ENOSYS), ("close_range", EPERM)];
    lives_through_everything(&[LINUX_5_10, container].concat(), &["clone3", "close_range", "6.9"]);
}

#[test]
fn without_anything_that_can_be_done_without_a_pair_lives_through_everything() {
    let rest: Rules = &[
        ("clone3", ENOSYS),
        ("close_range", ENOSYS),
        ("statx", ENOSYS),
        ("splice", ENOSYS),
        ("subreaper", EINVAL),
        ("getrandom", ENOSYS),
        ("fallocate", libc::EOPNOTSUPP),
        ("userfaultfd", ENOSYS),
    ];
    lives_through_everything(&[LINUX_5_10, rest].concat(), &["splice", "PR_SET_CHILD_SUBREAPER"]);
}

#[test]
fn without_clone3_a_pair_lives_through_everything() {
    lives_through_everything(&[("clone3", ENOSYS)], &["clone3 (Linux 5.3; ENOSYS): fork"]);
}

#[test]
fn without_close_range_a_pair_lives_through_everything() {
    lives_through_everything(&[("close_range", ENOSYS)], &["close_range (Linux 5.9; ENOSYS)"]);
}

#[test]
fn where_children_may_not_share_memory_a_pair_lives_through_everything() {
    let rules = [("shared_memory", EPERM), ("close_range", ENOSYS)];
    lives_through_everything(&rules, &["close_range (Linux 5.9; ENOSYS)"]);
}

#[test]
fn without_signals_to_a_group_by_pidfd_a_pair_lives_through_everything() {
    lives_through_everything(&[("group_signal", EINVAL)], &["PIDFD_SIGNAL_PROCESS_GROUP"]);
    lives_through_everything(&[("group_signal", EPERM)], &["PIDFD_SIGNAL_PROCESS_GROUP"]);
}

#[test]
fn without_exit_statuses_by_pidfd_a_pair_lives_through_everything() {
    lives_through_everything(&[("exit_info", ENOTTY)], &["PIDFD_GET_INFO"]);
    lives_through_everything(&[("exit_info", EPERM)], &["PIDFD_GET_INFO"]);
}

#[test]
fn without_inodes_of_pidfds_a_pair_lives_through_everything() {
    lives_through_everything(&[("fstatfs", ENOSYS)], &["a pidfd's inode"]);
}

#[test]
fn without_a_subreaper_a_pair_lives_through_everything() {
    lives_through_everything(&[("subreaper", EPERM)], &["PR_SET_CHILD_SUBREAPER"]);
}

#[test]
fn without_splice_a_pair_lives_through_everything() {
    lives_through_everything(&[("splice", EPERM)], &["splice (Linux 2.6.17; EPERM)"]);
}

#[test]
fn where_nobody_may_have_a_userfaultfd_a_pair_lives_through_everything() {
    // Only its memory is larger.
    lives_through_everything(&[("userfaultfd", EPERM)], &["has all"]);
}

#[test]
fn without_statx_and_getrandom_a_pair_lives_through_everything() {
    // The standard library and the crates have other ways of their own.
    lives_through_everything(&[("statx", ENOSYS), ("getrandom", ENOSYS)], &["has all"]);
}

#[test]
fn without_a_keeper_and_the_kernels_word_an_exit_status_is_unknown_and_not_made_up() {
    let pair = Pair::new(
        "heartbeatTimeout = \"30s\"",
        &counted("s", "--usr1-exits 37", "restart = { delay = \"0s\" }"),
    );
    let output = start(&pair, LINUX_5_10);
    assert!(output.status.success(), "{}", both(&output));
    pair.wait_whole();
    let server = started(&pair, 1)["s"];
    let [keeper, active] = ["keeper", "active"].map(|role| pair.pid_of(role));
    signal(keeper, SIGKILL);
    wait_until("the keeper to be gone", || !is_alive(keeper));
    freeze(active);
    signal(server, SIGUSR1);
    wait_until("the server to be dead", || state_letter(server) == Some('Z'));
    signal(active, SIGKILL);
    wait_for_another(&pair, server);
    let last = pair.server("s")["lastExit"].clone();
    assert_eq!((&last["kind"], last["code"].is_null()), (&"unknown".into(), true), "{last}");
}

// ---- what nothing works without

#[test]
fn a_kernel_without_what_is_needed_is_refused_with_one_line_that_says_what_is_missing() {
    for (call, errno, parts) in [
        ("pidfd_open", ENOSYS, ["pidfd_open (since Linux 5.3", "ENOSYS"]),
        ("pidfd_open", EPERM, ["pidfd_open (since Linux 5.3", "EPERM"]),
        ("pidfd_send_signal", ENOSYS, ["pidfd_send_signal (since Linux 5.1", "ENOSYS"]),
        ("waitid_pidfd", EINVAL, ["waitid(P_PIDFD) (since Linux 5.4", "EINVAL"]),
        ("memfd_create", EPERM, ["memfd_create with seals (since Linux 3.17", "EPERM"]),
    ] {
        let pair = Pair::new("", &counted("s", "", ""));
        let config = pair.config().display().to_string();
        for words in [vec!["run", "-c", &config], vec!["run", "--detach", "-c", &config]] {
            let output = finish(command(&[(call, errno)], &words), "a start");
            assert_eq!(output.status.code(), Some(1), "{}", both(&output));
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            has(&err, &parts);
            has(&err, &["cannot start on Linux", "5.10 or later", "seccomp profile"]);
            assert_eq!(err.trim_end().lines().count(), 1, "{err}");
        }
        assert!(pair.processes().is_empty() && starts(&pair, "s").is_empty());
    }
}

#[test]
fn a_start_without_descriptors_to_spare_does_not_blame_the_kernel() {
    let pair = Pair::new("", "");
    let mut command = pair.command(&["run"]);
    // SAFETY is not needed: limits are set by a shell.
    let words: Vec<_> = command.get_args().map(|word| word.to_os_string()).collect();
    command = Command::new("sh");
    command.args(["-c", "ulimit -n 4; exec \"$@\"", "sh", binary()]).args(words);
    command.process_group(0);
    let output = finish(command, "a start with four descriptors");
    assert!(!output.status.success());
    assert!(!both(&output).contains("since Linux"), "{}", both(&output));
}

// ---- numbers that are used again (trap 6)

/// A pair as on such a kernel whose server was taken over, so that the keeper reaps it. While the
/// active is stopped the server ends.
const STOPPED: &str = r#"
    "$@" "$nm" run --detach -c "$config" || exit 1
    until_starts 1
    pid() { "$nm" pid "$1" -c "$config"; }
    role() { "$nm" status --json -c "$config" | tr -d ' \n' | sed "s/.*\"$1\":{[^}]*\"pid\":\([0-9]*\).*/\1/"; }
    first=$(role active); kill -9 "$first"
    until_true '[ "$(role active)" != "$first" ] && "$nm" status --pair -c "$config" >/dev/null'
    server=$(pid a); active=$(role active)
    kill -STOP "$active"
    until_true 'grep -q "^State:.T" /proc/$active/status'
    kill -9 "$server"
"#;

/// The active goes on, and starts the server again.
const AWAKE: &str = r#"
    kill -CONT "$active"
    until_true '[ -n "$(pid a)" ] && [ "$(pid a)" != "$server" ] && [ "$(pid a)" != 0 ]'
    until_starts 2
    "$nm" stop a -c "$config" || exit 1
"#;

fn stranger_is_spared(rules: Rules) {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let node = "heartbeatTimeout = \"30s\"";
    let more = "restart = { delay = \"0s\" }\nstop = { timeout = \"200ms\" }";
    let pair = Pair::new(node, &counted("a", "", more));
    let mut words = vec![example("old_kernel").display().to_string()];
    words.extend(rules.iter().map(|(call, errno)| format!("{call}={errno}")));
    words.push("--".to_string());
    assert_spared(&pair, STOPPED, AWAKE, &words);
    assert_eq!(starts(&pair, "a").len(), 2);
}

#[test]
fn a_stranger_with_the_number_of_a_dead_server_is_never_signalled() {
    stranger_is_spared(&[]);
}

#[test]
fn as_on_linux_5_10_a_stranger_with_the_number_of_a_dead_server_is_never_signalled() {
    stranger_is_spared(LINUX_5_10);
}
