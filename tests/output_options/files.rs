//! Logs that are files: separate standard error, age, compression, time stamps.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::counted::{assert_untouched, counted, started};
use crate::support::{Pair, SIGKILL, signal, wait_until};
use crate::tools::{exits, has};
use crate::*;
use std::os::unix::fs::MetadataExt;

/// Numbered lines to both, as fast as it can, some thousand.
const BOTH: &str = "for n in {1..60000}; do echo out $n; echo err $n >&2; done; exec sleep 1000";

#[test]
fn separate_standard_error_has_its_own_log_and_limits_and_loses_nothing_over_takeovers() {
    let output = "stderr = \"separate\", maxSize = \"100KiB\", maxFiles = 1000";
    let pair = Pair::new("", &shell("w", BOTH, output));
    pair.start();
    pair.wait_whole();
    let (out, err) = (log(&pair, "w.out"), log(&pair, "w.err"));
    let is_done = || whole(&err).ends_with("err 60000\n");
    let kills = take_over_until(&pair, "all of standard error", is_done);
    wait_until("all of standard output", || whole(&out).ends_with("out 60000\n"));
    for (log, prefix) in [(out, "out "), (err, "err ")] {
        let text = whole(&log);
        let found = numbers(&text, prefix);
        assert_all(&found, prefix);
        assert_eq!((found.len(), text.lines().count()), (60_000, 60_000));
        assert!(files_of(&log).len() > 5);
    }
    println!("{kills} actives killed on the way");
    assert!(kills > 0);
}

#[test]
fn standard_error_goes_where_it_is_told_to_and_logs_shows_both_or_one() {
    let script = "echo to-out; echo to-err >&2; exec sleep 1000";
    let servers = shell("merged", script, "stderr = \"merge\"")
        + &shell("apart", script, "stderr = \"separate\"")
        + &shell("direct", script, "to = \"direct\", stderr = \"separate\"")
        + &shell("deaf", script, "stderr = \"null\"")
        + &shell("none", script, "to = \"null\"");
    let pair = Pair::new("", &servers);
    pair.start();
    let text = |name: &str| whole(&log(&pair, name));
    wait_until("the output", || text("merged.out") == "to-out\nto-err\n");
    for name in ["apart", "direct"] {
        wait_until("both", || text(&format!("{name}.out")) == "to-out\n");
        wait_until("both", || text(&format!("{name}.err")) == "to-err\n");
    }
    wait_until("the output", || text("deaf.out") == "to-out\n");
    assert!(!log(&pair, "deaf.err").exists() && !log(&pair, "merged.err").exists());
    let shown = |words: &[&str]| exits(&pair, words, 0).0;
    assert_eq!(shown(&["logs", "apart"]), "[apart] to-out\n[apart.err] to-err\n");
    assert_eq!(shown(&["logs", "--stderr", "apart"]), "to-err\n");
    assert_eq!(shown(&["logs", "--stdout", "apart"]), "to-out\n");
    assert_eq!(shown(&["logs", "de*", "--stdout"]), "to-out\n");
    has(&exits(&pair, &["logs", "--stderr", "merged"], 1).1, &["no log of its own"]);
    has(&exits(&pair, &["logs", "none"], 1).1, &["none: its output goes nowhere"]);
}

#[test]
fn a_log_is_rotated_by_age_although_no_active_lives_that_long() {
    let script = "n=0; while sleep 0.05; do n=$((n+1)); echo line $n; done";
    let output = "maxAge = \"2s\", maxFiles = 1000";
    let pair = Pair::new("", &shell("w", script, output));
    pair.start();
    let log = log(&pair, "w.out");
    // Each active is killed before it is as old as a log may be.
    take_over_until(&pair, "three rotations", || files_of(&log).len() >= 4);
    exits(&pair, &["stop", "w"], 0);
    let found = numbers(&whole(&log), "line ");
    assert_all(&found, "the lines");
    let files = files_of(&log);
    let complete = &files[..files.len() - 1];
    assert!(complete.iter().all(|path| bytes_of(path).ends_with(b"\n")));
    println!("{} files, {} takeovers", files.len(), pair.status()["takeovers"]);
    assert!(pair.status()["takeovers"].as_u64() > Some(1));
}

#[test]
fn an_old_log_is_rotated_while_its_server_is_silent_and_an_empty_one_is_not() {
    let servers = shell("once", "echo one; exec sleep 1000", "maxAge = \"1s\"")
        + &shell("never", "exec sleep 1000", "maxAge = \"1s\"");
    let pair = Pair::new("", &servers);
    pair.start();
    let log_once = log(&pair, "once.out");
    wait_until("a rotation", || files_of(&log_once).len() == 2);
    assert_eq!(bytes_of(&files_of(&log_once)[0]), b"one\n");
    assert_eq!(files_of(&log(&pair, "never.out")).len(), 1);
}

#[test]
fn rotated_files_are_compressed_and_nothing_is_lost_when_both_who_ask_and_who_do_it_are_killed() {
    const LINES: u64 = 1_200_000;
    let output = "output = { maxSize = \"2MiB\", maxFiles = 1000, compress = true }";
    let pair = Pair::new("", &counted("w", &format!("--numbers {LINES} --burst 2000"), output));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let path = log(&pair, "w.out");
    let is_compressing = || {
        let entries = fs::read_dir(pair.home.join("logs")).expect("the logs").flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".gz.tmp"))
    };
    for kills_compressor in [false, true, false, true] {
        wait_until("a file to be compressed", is_compressing);
        if kills_compressor {
            for pid in pair.processes() {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if name.trim_end() == "nm-compressor" {
                    signal(pid, SIGKILL);
                }
            }
        }
        take_over(&pair);
    }
    let size = || files_of(&path).last().and_then(|path| fs::metadata(path).ok()).map(|s| s.len());
    wait_until("the last line", || {
        let text = bytes_of(&path);
        let tail = &text[text.len().saturating_sub(40)..];
        String::from_utf8_lossy(tail).contains(&format!(" {LINES} "))
    });
    let before = size();
    let rotated = || nodemanager::output::rotate::rotated_files(&path);
    let is_gzip = |path: &Path| path.extension().is_some_and(|ending| ending == "gz");
    wait_until("all to be compressed", || {
        !is_compressing() && rotated().iter().all(|(_, path)| is_gzip(path))
    });
    assert_eq!(size(), before);
    let numbered = rotated();
    assert!(numbered.len() > 20, "only {} rotations", numbered.len());
    assert!(numbered.iter().enumerate().all(|(at, (number, _))| *number == at as u64 + 1));
    assert_all(&numbers(&whole(&path), "line "), "the lines");
    assert_eq!(numbers(&whole(&path), "line ").len() as u64, LINES);
    assert_untouched(&pair, &pids);
    // What is asked for reaches back into compressed files.
    let last = pair.ok(&["logs", "-n", "300000", "w"]);
    assert_eq!(numbers(&last, "line ").first(), Some(&(LINES - 299_999)));
    assert_eq!(last.lines().count(), 300_000);
    let mode = fs::metadata(&numbered[0].1).expect("a gzip file").mode() & 0o777;
    assert_eq!(mode, 0o640);
}

/// The line without its time stamp.
fn unstamped(line: &str) -> &str {
    let (stamp, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no stamp: {line}"));
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "no stamp: {line}");
    rest
}

#[test]
fn each_line_has_one_time_stamp_although_takeovers_come_in_the_middle_of_lines() {
    // Every line comes in two parts, and most takeovers happen between them; some lines are longer
    // than a FIFO.
    let script = "long=$(printf %0200000d 0); for n in {1..60}; do printf 'line '; sleep 0.04; \
                  echo $n; echo $long; for m in {1..200}; do echo quick; done; done; echo end; \
                  exec sleep 1000";
    let output = "timestamps = true, maxSize = \"1MiB\", maxFiles = 1000";
    let pair = Pair::new("", &shell("w", script, output));
    pair.start();
    let log = log(&pair, "w.out");
    let kills = take_over_until(&pair, "the last line", || whole(&log).ends_with("end\n"));
    let text = whole(&log);
    let lines: Vec<&str> = text.lines().map(unstamped).collect();
    assert_eq!(lines.len(), 60 * 202 + 1);
    assert_all(&numbers(&lines.join("\n"), "line "), "the lines");
    assert_eq!(lines.iter().filter(|line| line.len() == 200_000).count(), 60);
    assert_eq!(lines.iter().filter(|line| **line == "quick").count(), 60 * 200);
    println!("{kills} takeovers");
    assert!(kills > 2, "too quick to prove anything");
    // The stamps are what --since goes by.
    let middle = text.lines().nth(6_000).and_then(|line| line.split(' ').next()).expect("a stamp");
    let since = pair.ok(&["logs", "--since", middle, "w"]);
    let time = |line: &str| line.split(' ').next().map(|stamp| stamp.parse::<jiff::Timestamp>());
    let wanted = middle.parse::<jiff::Timestamp>().expect("a time");
    let is_since = |line: &&str| time(line).is_some_and(|time| time.is_ok_and(|at| at >= wanted));
    assert_eq!(since.lines().count(), text.lines().filter(is_since).count());
}

#[test]
fn stamped_lines_as_fast_as_they_come_are_whole_over_takeovers() {
    const LINES: u64 = 600_000;
    let output = "output = { timestamps = true, maxSize = \"2MiB\", maxFiles = 1000 }";
    let pair = Pair::new("", &counted("w", &format!("--numbers {LINES} --burst 3000"), output));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let log = log(&pair, "w.out");
    let last = format!(" {LINES} \n");
    let kills = take_over_until(&pair, "the last line", || whole(&log).ends_with(&last));
    let text = whole(&log);
    let lines: Vec<&str> = text.lines().map(unstamped).collect();
    assert_all(&numbers(&lines.join("\n"), "line "), "the lines");
    assert_eq!(lines.len() as u64, LINES);
    assert_untouched(&pair, &pids);
    println!("{kills} takeovers");
}
