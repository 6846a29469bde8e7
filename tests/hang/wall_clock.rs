//! A wall clock that jumps by hours, forth and back, as the pair sees it (libfaketime).

use crate::support::counted::{counted, starts};
use crate::support::{Pair, wait_until};
use crate::{pause, scale};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn library() -> Option<PathBuf> {
    let dirs = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let inside = |dir: PathBuf| dir.join("faketime/libfaketime.so.1");
    dirs.chain([PathBuf::from("/usr/lib")]).map(inside).find(|path| path.exists())
}

/// The clock that a command of the pair sees.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_CACHE_DURATION", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_DISABLE_SHM", "1");
        command.env("NO_FAKE_STAT", "1");
    }

    /// In one step: a reader must not find an empty file.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n")).expect("the clock's file");
        fs::rename(&new, &self.file).expect("the clock's file");
    }
}

/// `status` as text and as JSON, under the moved clock and under the true one.
fn assert_status_is_sane(pair: &Pair, clock: &Clock) {
    for is_moved in [false, true] {
        let ask = |words: &[&str]| {
            let mut command = pair.command(words);
            if is_moved {
                clock.apply(&mut command);
            }
            let output = command.output().expect("the node manager can be run");
            assert!(
                matches!(output.status.code(), Some(0 | 3)),
                "{}",
                crate::support::both(&output)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let text = ask(&["status"]);
        let is_negative = |word: &str| {
            word.strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(|one: char| one.is_ascii_digit()))
        };
        assert!(!text.split_whitespace().any(is_negative), "a negative number: {text}");
        let json: Value = serde_json::from_str(&ask(&["status", "--json"])).expect("JSON");
        assert_eq!(json["takeovers"], 0, "{json}");
        let age = json["standby"]["heartbeatAgeMs"].as_u64();
        assert!(age.is_some_and(|ms| ms < 600_000), "{json}");
    }
}

#[test]
fn a_wall_clock_that_jumps_by_hours_changes_nothing() {
    let Some(library) = library() else {
        return println!("skipped: libfaketime is not installed (Debian: faketime)");
    };
    let scale = scale();
    let node = format!(
        "heartbeatInterval = \"{}ms\"\nheartbeatTimeout = \"{}ms\"",
        scale.interval_ms, scale.timeout_ms
    );
    let restart = |delay: &str| {
        format!("restart = {{ tries = 1000, delay = \"{delay}\", delayMax = \"{delay}\" }}")
    };
    let fails = |name: &str, delay: &str| {
        format!(
            "[[server]]\nname = \"{name}\"\nsettleTime = \"20ms\"\n{}\n\
             command = [\"sh\", \"-c\", \"echo start $$$$ >>{{home}}/{name}.starts; exit 1\"]\n",
            restart(delay)
        )
    };
    let pair = Pair::new(
        &node,
        &[counted("a", "", ""), fails("soon", "200ms"), fails("late", "2h")].concat(),
    );
    let clock = Clock { library, file: pair.home.join("clock") };
    clock.set("+0");
    let mut run = pair.command(&["run", "--detach"]);
    clock.apply(&mut run);
    // One that waits two hours for its next try is reported as not up.
    let output = run.output().expect("the node manager can be run");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", crate::support::both(&output));
    pair.wait_whole();
    wait_until("the first tries", || !starts(&pair, "late").is_empty());
    let before = ["keeper", "active", "standby"].map(|role| pair.pid_of(role));
    let server = pair.pids()["a"];
    for offset in ["+10800", "-18000", "+0", "+86400", "-700000000", "-2", "+0"] {
        clock.set(offset);
        wait_until("the log's clock to jump", || is_logged(&pair, offset));
        pause(scale.timeout_ms);
        assert_status_is_sane(&pair, &clock);
        let tries = starts(&pair, "soon").len();
        wait_until("the next try of a server that fails", || starts(&pair, "soon").len() > tries);
        assert_eq!(starts(&pair, "late").len(), 1, "{offset}: two hours are not over");
        assert_eq!(
            ["keeper", "active", "standby"].map(|role| pair.pid_of(role)),
            before,
            "{offset}"
        );
        assert_eq!(pair.pids().get("a"), Some(&server), "{offset}");
    }
    assert_eq!(starts(&pair, "a").len(), 1);
}

/// The last line of the active's log has a time that is so many seconds from now.
fn is_logged(pair: &Pair, offset: &str) -> bool {
    let offset_s: i64 = offset.parse().expect("a number of seconds");
    let log = pair.log(false);
    let stamp = log.lines().last().and_then(|line| line.strip_prefix('[')?.split_once(']'));
    let Some((stamp, _)) = stamp else { return false };
    let at = jiff::Timestamp::strptime("%Y.%m.%d %H:%M:%S%.f %z", stamp).expect("a time");
    let apart_s = at.as_second() - jiff::Timestamp::now().as_second() - offset_s;
    // A server that fails writes a line every moment.
    (-1..=1).contains(&apart_s)
}
