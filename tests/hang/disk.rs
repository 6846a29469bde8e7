//! A slow disk under the log, the journal and the servers' output: strace delays the system calls.

use crate::support::{Pair, SIGTERM, has_tool, signal, wait_until};
use crate::tools::status_field;
use crate::{Calm, during, pause, scale};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Delays system calls of running processes as long as it lives.
struct Slow(Child);

impl Slow {
    /// `None` where strace is missing or may not attach.
    fn new(pids: &[i32], calls: &str, delay_ms: u64, more: &[&str]) -> Option<Slow> {
        if !has_tool("strace") {
            return None;
        }
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:delay_enter={}", delay_ms * 1_000)]);
        command.args(more).args(pids.iter().flat_map(|pid| ["-p".to_string(), pid.to_string()]));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
        let mut slow = Slow(child);
        let is_traced = |pid: &i32| status_field(*pid, "TracerPid").parse() != Ok(0);
        let mut has_ended = false;
        wait_until("strace to attach", || {
            has_ended = slow.0.try_wait().is_ok_and(|ended| ended.is_some());
            has_ended || pids.iter().all(is_traced)
        });
        if has_ended {
            println!("skipped: strace may not attach");
        }
        (!has_ended).then_some(slow)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // On SIGTERM it lets the processes go.
        if let Ok(pid) = i32::try_from(self.0.id()) {
            signal(pid, SIGTERM);
        }
        let _ = self.0.wait();
    }
}

const DISK: &str = "write,pwrite64,fdatasync,openat,rename,renameat";

#[test]
fn a_disk_that_is_slow_at_every_call_but_quicker_than_the_timeout_causes_no_takeover() {
    let scale = scale();
    let calm = Calm::new(&scale, 3);
    let Some(slow) = Slow::new(&[calm.active], DISK, scale.timeout_ms * 3 / 10, &[]) else {
        return;
    };
    // Each writes journal and log many times: together far longer than the timeout.
    for _ in 0..scale.times.min(3) {
        calm.pair.ok(&["signal", "SIGCONT", "all"]);
        calm.pair.ok(&["stop", "s2", "--timeout", "60s"]);
        calm.pair.ok(&["start", "s2", "--timeout", "60s"]);
    }
    drop(slow);
    let mut calm = calm;
    calm.pids.remove("s2");
    let status = calm.pair.status();
    assert_eq!((&status["takeovers"], &status["active"]["pid"]), (&0.into(), &calm.active.into()));
    assert_eq!(status["standby"]["pid"], calm.standby, "{status}");
    assert_eq!((calm.lines_with("0205"), calm.lines_with("0023")), (0, 0));
}

#[test]
fn a_slow_disk_under_the_output_of_many_servers_is_no_hang() {
    let scale = scale();
    let many = 30;
    let table = |number: usize| {
        format!(
            "[[server]]\nname = \"s{number}\"\nsettleTime = \"20ms\"\n\
             command = [\"sh\", \"-c\", \"while :; do echo x; sleep 0.5; done\"]\n"
        )
    };
    let tables: Vec<String> = (0..many).map(table).collect();
    let node = format!(
        "heartbeatInterval = \"{}ms\"\nheartbeatTimeout = \"{}ms\"",
        scale.interval_ms, scale.timeout_ms
    );
    let pair = Pair::new(&node, &tables.concat());
    pair.start();
    pair.wait_whole();
    let before = ["keeper", "active", "standby"].map(|role| pair.pid_of(role));
    let pids = pair.pids();
    // One round of all of them takes twice the timeout.
    let delay_ms = scale.timeout_ms * 2 / many as u64;
    let Some(slow) = Slow::new(&[before[1]], "splice", delay_ms, &[]) else { return };
    during(scale.timeout_ms * 5, || pause(scale.timeout_ms));
    drop(slow);
    pair.wait_whole();
    assert_eq!(["keeper", "active", "standby"].map(|role| pair.pid_of(role)), before);
    assert_eq!((pair.pids(), &pair.status()["takeovers"]), (pids, &0.into()));
}

#[test]
fn a_disk_that_hangs_stops_every_active_in_turn_ever_later_and_an_alert_is_logged() {
    const TIMEOUT_MS: u64 = 400;
    /// Beyond the first timeouts; the third that a standby has is longer.
    const DELAY_MS: u64 = 1_500;
    /// As the keeper has it.
    const KEEPER_TIMEOUTS: u64 = 3;
    let calm = Calm::with("heartbeatInterval = \"50ms\"\nheartbeatTimeout = \"400ms\"", 3);
    let journals = ["journal.a", "journal.b"].map(|name| calm.pair.home.join("run").join(name));
    let journals = journals.map(|path| path.display().to_string());
    let only = ["-f", "-P", &journals[0], "-P", &journals[1]];
    // Whoever becomes active is a child of one of these two, or of the keeper.
    let calls = "write,pwrite64,fdatasync";
    let Some(slow) = Slow::new(&calm.all(), calls, DELAY_MS, &only) else { return };
    let begun = Instant::now();
    // Whoever serves has something to write.
    during(TIMEOUT_MS * 40, || {
        let mut restart = calm.pair.command(&["restart", "s0", "--no-wait", "--timeout", "500ms"]);
        let _ = restart.stdout(Stdio::null()).stderr(Stdio::null()).status();
    });
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (hangs, kills) = (calm.lines_with("0205"), calm.lines_with("0023"));
    println!("{elapsed_ms} ms: {hangs} hangs seen by a standby, {kills} by the keeper");
    assert!(hangs + kills >= 2, "the disk was not slow enough: it proves nothing");
    for (times, first_ms) in [(hangs, TIMEOUT_MS), (kills, TIMEOUT_MS * KEEPER_TIMEOUTS)] {
        let least_ms = first_ms * ((1 << times) - 1);
        assert!(least_ms <= elapsed_ms, "a storm: {times} in {elapsed_ms} ms");
    }
    if hangs > 1 || kills > 1 {
        assert!(calm.lines_with("0129") + calm.lines_with("0028") > 0, "no alert");
    }
    drop(slow);
    calm.pair.wait_whole();
    let mut calm = calm;
    calm.pids.remove("s0");
    for (name, pid) in &calm.pids {
        assert_eq!(crate::support::counted::starts(&calm.pair, name), [*pid], "{name}");
    }
}
