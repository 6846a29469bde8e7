//! An active that not even SIGKILL ends, because it is frozen: nobody takes its place while it
//! lives, everybody says what is waited for, and its death completes the takeover.
//!
//! Needs root and the freezer of cgroup v1; says so and passes where there is none. Must not leave
//! a cgroup behind, nor a frozen process.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use support::counted::{assert_untouched, counted, started};
use support::{Pair, SIGKILL, both, is_alive, signal, wait_for, wait_until};

/// A cgroup whose processes do not run while it is frozen. Dropped, they run on elsewhere.
struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    fn new(name: &str) -> Result<Freezer, String> {
        let root = Path::new("/sys/fs/cgroup/freezer");
        let dir = root.join(name);
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let freezer = Freezer { dir };
        match freezer.dir.join("freezer.state").exists() {
            true => Ok(freezer),
            false => Err(format!("{} is no freezer of cgroup v1", root.display())),
        }
    }

    fn freeze(&self, pid: i32) {
        fs::write(self.dir.join("tasks"), pid.to_string()).expect("the process moves");
        self.set("FROZEN");
    }

    /// Freezing takes a moment: FREEZING comes first.
    fn set(&self, state: &str) {
        let file = self.dir.join("freezer.state");
        fs::write(&file, state).expect("the state can be set");
        wait_until("the freezer's state", || {
            fs::read_to_string(&file).is_ok_and(|now| now.trim() == state)
        });
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("freezer.state"), "THAWED");
        let tasks = || fs::read_to_string(self.dir.join("tasks")).unwrap_or_default();
        for pid in tasks().lines() {
            let _ = fs::write("/sys/fs/cgroup/freezer/tasks", pid);
        }
        // The dead leave it when they are reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_frozen_active_is_waited_for_and_replaced_only_when_it_is_dead() {
    let pair = Pair::new(
        "heartbeatInterval = \"50ms\"\nheartbeatTimeout = \"300ms\"",
        &[counted("a", "", ""), counted("b", "", "")].concat(),
    );
    let freezer = match Freezer::new(pair.name()) {
        Ok(freezer) => freezer,
        Err(why) => return println!("skipped: no freezer ({why})"),
    };
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 2);
    let [keeper, active, standby] = ["keeper", "active", "standby"].map(|role| pair.pid_of(role));

    freezer.freeze(active);
    let waits_for = wait_for("pair.json to say what is waited for", || {
        let text = fs::read(pair.home.join("run/pair.json")).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        json["waitsFor"].as_str().map(str::to_string)
    });
    assert!(waits_for.contains(&format!("PID {active}")), "{waits_for}");

    // The commands end in their time and say the same.
    let start = ["start", "a", "--timeout", "1s"];
    for words in [&["status", "--timeout", "1s"] as &[&str], &start] {
        let output = pair.run(words);
        assert_eq!(output.status.code(), Some(75), "{}", both(&output));
        assert!(both(&output).contains("death of the old active"), "{}", both(&output));
    }
    assert!(pair.log(true).contains("waits for the death of the old active"));

    // SIGKILL again, and far beyond the time after which the keeper would end a hung pair.
    signal(active, SIGKILL);
    wait_until("some seconds of waiting", || {
        let text = fs::read_to_string(pair.home.join("run/pair.json")).unwrap_or_default();
        let ago = text.split("sent ").nth(1).and_then(|rest| rest.split(" s ago").next());
        ago.and_then(|seconds| seconds.parse::<u64>().ok()).is_some_and(|seconds| seconds >= 3)
    });
    for pid in [keeper, active, standby] {
        assert!(is_alive(pid), "PID {pid} of the pair is dead");
    }
    assert!(!pair.log(true).contains("takeover after"), "{}", pair.log(true));
    assert!(pids.values().all(|pid| is_alive(*pid)));

    freezer.set("THAWED");
    wait_until("the old active to die", || !is_alive(active));
    pair.wait_whole();
    assert_eq!([pair.pid_of("keeper"), pair.pid_of("active")], [keeper, standby]);
    assert_eq!(pair.status()["takeovers"], 1);
    assert_untouched(&pair, &pids);
}
