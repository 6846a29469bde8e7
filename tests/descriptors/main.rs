//! Descriptors that outlive the active: what servers say by sd_notify and by a newline, and the
//! sockets that they are handed.
//!
//! `NM_RESTARTS` and `NM_TAKEOVERS` make the test of the client that sees no error longer; 100 and
//! 20 take a few seconds.

mod notify;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use support::{Pair, SIGKILL, example, signal, wait_until};

/// A test server with these options and keys.
fn server(name: &str, options: &str, keys: &str) -> String {
    let program = example("test_server");
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"{} {options}\"\nsettleTime = \"1ms\"\n{keys}\n",
        program.display()
    )
}

/// A pair that is whole, although its servers may not be ready.
fn begin(pair: &Pair) {
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    pair.wait_whole();
}

fn pid(pair: &Pair, name: &str, state: &str) -> i32 {
    let row = pair.wait_state(name, state);
    row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a PID")
}

fn take_over(pair: &Pair) {
    pair.wait_whole();
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(active, SIGKILL);
    wait_until("the takeover", || pair.twin("active") == Some(standby));
}

/// Both twins at once; the keeper starts the pair again.
fn lose_both(pair: &Pair) {
    pair.wait_whole();
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    // Neither sees the other one die.
    signal(standby, support::SIGSTOP);
    signal(active, SIGKILL);
    signal(standby, SIGKILL);
    wait_until("a new active", || {
        pair.twin("active").is_some_and(|pid| pid != active && pid != standby)
    });
    pair.wait_whole();
}

/// The environment of a process.
fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let start = format!("{name}=");
    let mut all = environ.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text));
    all.find_map(|text| text.strip_prefix(&start).map(str::to_owned))
}

/// Where the descriptors of a process from 3 on lead.
fn descriptors(pid: i32) -> Vec<(i32, PathBuf)> {
    let listed = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let mut all: Vec<(i32, PathBuf)> = listed
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .filter(|(number, _)| *number > 2)
        .collect();
    all.sort();
    all
}

/// Waits until a process has these alone: its loader opens and closes others first.
fn wait_descriptors(pid: i32, wanted: &[(i32, PathBuf)]) {
    wait_until(&format!("{wanted:?}, not {:?}", descriptors(pid)), || descriptors(pid) == wanted);
}
