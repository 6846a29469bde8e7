//! The active lacks something for a while: descriptors, its run directory. Clients are answered, and
//! what the machine lacks is not counted as a server's failure.
//!
//! Must not need root: a limit is lowered, and the directory is the test's own.

mod support;
mod tools;

use nix::sys::resource::Resource;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::counted::{counted, started, starts};
use support::{Pair, SIGKILL, has_tool, signal, wait_until};
use tools::{control, has, twins};

fn limits_of(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("open files");
    let mut words = line.split_whitespace().skip(3).filter_map(|word| word.parse().ok());
    (words.next().expect("soft"), words.next().expect("hard"))
}

fn set_soft(pid: i32, soft: u64) {
    let (_, hard) = limits_of(pid);
    let words = [format!("--pid={pid}"), format!("--nofile={soft}:{hard}")];
    let status = Command::new("prlimit").args(words).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit");
    let _ = Resource::RLIMIT_NOFILE;
}

/// With this limit a process gets no descriptor any more.
fn leave_none(pid: i32) -> u64 {
    let before = limits_of(pid).0;
    let dir = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let open: Vec<u64> = dir.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let next = (0..).find(|number| !open.contains(number)).expect("a free number");
    set_soft(pid, next);
    before
}

const SLOW_BEATS: &str = "heartbeatInterval = \"100ms\"\nheartbeatTimeout = \"5s\"";

#[test]
fn an_active_without_a_free_descriptor_answers_one_request_after_the_other() {
    if !has_tool("prlimit") {
        return;
    }
    let pair = Pair::new(SLOW_BEATS, &[counted("a", "", ""), counted("b", "", "")].concat());
    pair.start();
    let before = twins(&pair);
    let pids = started(&pair, 2);
    leave_none(before.0);
    let mut commands: Vec<_> = (0..5)
        .map(|_| {
            let mut command = pair.command(&["status", "--json", "--timeout", "20s"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a command")
        })
        .collect();
    for command in &mut commands {
        assert!(command.wait().expect("its end").success());
    }
    // Who waits long does not keep out the others.
    let mut waits = pair.command(&["wait", "--down", "a", "--timeout", "60s"]);
    let mut waits = waits.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a command");
    pair.ok(&["status", "--timeout", "20s"]);
    pair.ok(&["stop", "a", "--timeout", "20s"]);
    assert!(waits.wait().expect("its end").success(), "the wait was not answered");
    has(&pair.log(false), &["[NodeManager-0135] no descriptor is left"]);
    let status = pair.status();
    assert_eq!((&status["active"]["pid"], &status["takeovers"]), (&before.0.into(), &0.into()));
    assert_eq!(pair.pids()["b"], pids["b"]);
}

#[test]
fn who_came_while_no_descriptor_was_left_is_served_without_another_client() {
    if !has_tool("prlimit") {
        return;
    }
    let pair = Pair::new(SLOW_BEATS, &counted("a", "", ""));
    pair.start();
    let (active, _) = twins(&pair);
    let soft = leave_none(active);
    // These say nothing, and the first of them has the spare place.
    let mut crowd: Vec<_> = (0..5).map(|_| control(&pair)).collect();
    set_soft(active, soft);
    for stream in &mut crowd {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        stream.write_all(b"GET /v1/ping HTTP/1.1\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        has(&answer, &["HTTP/1.1 200"]);
    }
}

#[test]
fn a_standby_gets_through_a_crowd_of_strangers_although_no_descriptor_is_left() {
    if !has_tool("prlimit") {
        return;
    }
    let pair = Pair::new(SLOW_BEATS, &counted("a", "", ""));
    pair.start();
    let (active, standby) = twins(&pair);
    let soft = leave_none(active);
    let crowd: Vec<_> = (0..10)
        .map(|_| TcpStream::connect(("127.0.0.1", pair.port)).expect("a stranger"))
        .collect();
    pair.ok(&["status", "--timeout", "20s"]);
    set_soft(active, soft);
    signal(standby, SIGKILL);
    wait_until("another standby", || {
        let status = pair.status();
        status["pair"] == "ok" && status["standby"]["pid"] != standby
    });
    assert_eq!(pair.status()["takeovers"], 0);
    drop(crowd);
}

#[test]
fn a_server_that_is_started_right_after_the_run_directory_was_removed_is_not_blamed() {
    // The next heartbeat, which would see it, is far away.
    let node = "heartbeatInterval = \"20s\"\nheartbeatTimeout = \"60s\"";
    let keys = "restart = { tries = 1, window = \"1m\", delay = \"10ms\", then = \"fail\" }";
    let pair = Pair::new(node, &[counted("a", "", keys), counted("b", "", keys)].concat());
    pair.start();
    let active = pair.pid_of("active");
    let pids = started(&pair, 2);
    fs::remove_dir_all(pair.home.join("run")).expect("the run directory");
    signal(pids["a"], SIGKILL);
    wait_until("its next start", || starts(&pair, "a").len() == 2);
    wait_until("the socket to be back", || pair.home.join("run/control.sock").exists());
    let server = pair.wait_state("a", "RUNNING");
    assert_eq!((&server["failCount"], &server["restarts"]), (&1.into(), &1.into()), "{server}");
    assert_eq!(server["lastExit"]["signal"], "SIGKILL", "{server}");
    assert_eq!((pair.pid_of("active"), pair.pids()["b"]), (active, pids["b"]));
    assert_eq!(starts(&pair, "b"), [pids["b"]]);
}
