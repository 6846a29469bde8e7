//! What holds after every fault, whatever the pair was at.
//!
//! Must not trust `status` alone: processes are counted in /proc, starts in the servers' own files.

use crate::scenarios::{LINES, Scenario};
use crate::support::counted::starts;
use crate::support::{Pair, both, is_alive, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// The pair and its servers before a point.
pub struct Before {
    pids: BTreeMap<String, i32>,
    starts: BTreeMap<String, usize>,
    counts: BTreeMap<String, (i64, i64)>,
    wanted: BTreeMap<String, Value>,
}

fn rows(status: &Value) -> Vec<(String, &Value)> {
    let rows = status["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| Some((row["name"].as_str()?.to_string(), row))).collect()
}

fn counts(status: &Value) -> BTreeMap<String, (i64, i64)> {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    rows(status)
        .into_iter()
        .map(|(name, row)| (name, (number(&row["restarts"]), number(&row["failCount"]))))
        .collect()
}

impl Before {
    pub fn look(pair: &Pair, scenario: &Scenario) -> Before {
        // A server is up before it has reported its start; a daemon's start is that of its starter.
        let has_reported = |(name, pid): (&String, &i32)| {
            starts(pair, name).contains(pid) || (scenario.is_forking() && name == "t")
        };
        wait_until("every start to be reported", || pair.pids().iter().all(has_reported));
        let status = pair.status();
        let pids = pair.pids();
        let starts = rows(&status).into_iter().map(|(n, _)| (n.clone(), starts(pair, &n).len()));
        Before {
            starts: starts.collect(),
            counts: counts(&status),
            wanted: rows(&status).into_iter().map(|(n, r)| (n, r["wanted"].clone())).collect(),
            pids,
        }
    }
}

/// Brings the pair back as its users would, where that is theirs to do; else waits for it.
pub fn recover(pair: &Pair, may_need_run: bool) {
    wait_until("the pair to be whole again", || {
        let output = pair.run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if status["pair"] == "ok" {
            return true;
        }
        if may_need_run && status["keeper"].is_null() {
            // The keeper that is there may be about to end; then this is said, and tried again.
            let output = pair.run(&["run", "--detach"]);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1 | 75 | 124)), "{}", both(&output));
        }
        false
    });
}

/// Everything that must hold once the pair is whole again.
pub fn check(pair: &Pair, before: &Before, scenario: &Scenario) {
    let is_touched = |name: &str| {
        scenario.touched.contains(&name) || (scenario.touched.contains(&"*") && name != "steady")
    };
    wait_until("every server that is wanted up to be up", || {
        let status = pair.status();
        let rows = rows(&status);
        !rows.is_empty() && rows.iter().all(|(_, row)| is_as_wanted(row))
    });
    let status = pair.status();
    assert_eq!(status["pair"], "ok", "{status}");
    for (name, row) in rows(&status) {
        if !is_touched(&name) {
            let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            assert_eq!(pid.as_ref(), before.pids.get(&name), "{name} was touched: {row}");
            assert_eq!(starts(pair, &name).len(), before.starts[&name], "{name} was started");
            assert_eq!(row["wanted"], before.wanted[&name], "the wish for {name} was lost");
        }
    }
    for (name, (restarts, fails)) in counts(&status) {
        // One that is new had none.
        let (restarts_before, fails_before) = before.counts.get(&name).copied().unwrap_or((0, 0));
        // A pair that was ended and begins anew counts anew.
        let is_new_life = scenario.ends_the_pair() || scenario.starts_the_pair();
        assert!(restarts >= restarts_before || is_new_life, "{name}: restarts went back");
        assert!(is_touched(&name) || fails == fails_before || is_new_life, "{name}: {fails} fails");
    }
    only_these(pair);
    no_command_is_left(pair);
    no_zombie(pair);
    no_fifo_is_read_twice(pair);
    logs_are_whole(pair, scenario);
}

fn is_as_wanted(row: &Value) -> bool {
    let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    match row["wanted"].as_str() {
        Some("up") => row["state"] == "RUNNING" && pid.is_some_and(is_alive),
        _ => row["state"] == "STOPPED" && pid.is_none(),
    }
}

/// Keeper, active, standby and one process of each server: nobody else is left.
fn only_these(pair: &Pair) {
    let mut last = String::new();
    let end = std::time::Instant::now() + crate::support::LIMIT;
    loop {
        let wanted: BTreeSet<i32> = ["keeper", "active", "standby"]
            .iter()
            .filter_map(|role| pair.twin(role))
            .chain(pair.pids().into_values())
            .collect();
        let found: BTreeSet<i32> = pair.processes().into_iter().collect();
        if wanted == found {
            return;
        }
        let strangers: Vec<String> = found.difference(&wanted).map(|pid| describe(*pid)).collect();
        last = format!("{strangers:?} beside {wanted:?}, before {last}");
        last.truncate(2000);
        assert!(std::time::Instant::now() < end, "somebody is there too: {last}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Of what runs beside a server; it names its file.
fn no_command_is_left(pair: &Pair) {
    let file = pair.home.join(crate::commands::RAN).display().to_string();
    wait_until("no command of a server to run", || {
        let entries = fs::read_dir("/proc").map(|dir| dir.flatten().collect::<Vec<_>>());
        !entries.unwrap_or_default().iter().any(|entry| {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&file)
        })
    });
}

fn describe(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " "))
}

/// Whoever is dead is reaped by its parent in the pair.
fn no_zombie(pair: &Pair) {
    let parents: Vec<i32> =
        ["keeper", "active", "standby"].iter().filter_map(|role| pair.twin(role)).collect();
    wait_until("every zombie to be reaped", || {
        let entries = fs::read_dir("/proc").map(|dir| dir.flatten().collect::<Vec<_>>());
        !entries.unwrap_or_default().iter().any(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let is_zombie = words.next() == Some("Z");
            is_zombie
                && words
                    .next()
                    .is_some_and(|parent| parents.iter().any(|p| p.to_string() == parent))
        })
    });
}

/// Two descriptors of one FIFO in the active would be two drains that take turns.
fn no_fifo_is_read_twice(pair: &Pair) {
    let dir = format!("/proc/{}/fd", pair.pid_of("active"));
    let entries = fs::read_dir(dir).expect("the active's descriptors").flatten();
    let paths = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut seen = BTreeSet::new();
    for fifo in paths.filter(|path| path.starts_with(pair.home.join("run/out"))) {
        assert!(seen.insert(fifo.clone()), "{} is open twice", fifo.display());
    }
}

/// No panic, no torn line, and the log knows every process that is there.
fn logs_are_whole(pair: &Pair, scenario: &Scenario) {
    let (log, standby_log) = (pair.log(false), pair.log(true));
    let active = pair.twin("active");
    // One line alone tells of a daemon, and it is among the writes that fail.
    let told_once = |name: &str| name == "t" && scenario.is_forking();
    let servers = pair.pids().into_iter().filter(|(name, _)| !told_once(name));
    for pid in servers.map(|(_, pid)| pid).chain(active) {
        let text = format!("PID {pid}");
        let is_told = log.contains(&text) || standby_log.contains(&text);
        assert!(is_told, "no log says anything of PID {pid}");
    }
    for is_standby in [false, true] {
        for line in pair.log(is_standby).lines() {
            assert!(line.starts_with('['), "a torn line in the log: {line:?}");
            assert!(!line.contains("panicked"), "{line}");
        }
    }
}

/// The log of `w` with its rotated files, oldest first.
fn files(pair: &Pair) -> Vec<PathBuf> {
    let logs = pair.home.join("logs");
    let entries = fs::read_dir(&logs).expect("the log directory");
    let number = |name: &str| name.strip_prefix("w.out.")?.parse::<u64>().ok();
    let mut rotated: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    rotated.sort();
    rotated.into_iter().map(|(_, path)| path).chain([logs.join("w.out")]).collect()
}

/// All that `w` wrote.
fn written(pair: &Pair) -> Vec<u8> {
    files(pair).iter().flat_map(|path| fs::read(path).unwrap_or_default()).collect()
}

/// Waits until everything that `w` wrote in so many lives is in its logs, once and in order, and
/// removes it.
pub fn wait_lines(pair: &Pair, lives: u64) {
    let whole = |number: u64| format!("line {number:>33} \n");
    let last = whole(LINES);
    // A life that was cut short by a stop may lack its end, not its middle.
    wait_until("the last line", || written(pair).ends_with(last.as_bytes()));
    let text = String::from_utf8_lossy(&written(pair)).into_owned();
    let mut next = 1;
    let mut begun = 0;
    for line in text.lines() {
        let number: u64 = line[4..].trim().parse().unwrap_or_else(|_| panic!("torn: {line:?}"));
        if number == 1 {
            (begun, next) = (begun + 1, 1);
        }
        assert_eq!(number, next, "a line is lost or doubled");
        next += 1;
    }
    assert!(begun >= lives, "{lives} lives, and the lines of {begun}");
    for path in files(pair) {
        let _ = fs::remove_file(path);
    }
}
