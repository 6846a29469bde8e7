//! The pair's own logs: JSON, journald, gzip, opened again.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::{Pair, wait_until};
use crate::tools::{exits, has};
use crate::*;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;

const SLEEPER: &str = "exec sleep 1000";

#[test]
fn the_logs_of_the_pair_are_json_when_that_is_wanted_also_after_a_takeover() {
    let node = "logFormat = \"json\"";
    let pair = Pair::new(node, &shell("w", SLEEPER, "to = \"null\""));
    pair.start();
    take_over(&pair);
    for is_standby in [false, true] {
        let log = pair.log(is_standby);
        assert!(!log.is_empty());
        for line in log.lines() {
            let read: serde_json::Value = serde_json::from_str(line).expect(line);
            assert!(read["time"].as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()));
            assert_eq!(read["node"], pair.name());
            let has_all = ["level", "code", "text"].iter().all(|key| read[key].is_string());
            assert!(has_all && read["pid"].is_number(), "{line}");
        }
        has(&log, &["\"code\":\"0207\""]);
    }
    let since = pair.ok(&["logs", "--self", "--since", "1h"]);
    assert_eq!(since, pair.log(false));
}

#[test]
fn the_logs_of_the_pair_go_to_journald_with_their_priorities() {
    let node = "logTarget = \"journal\"\njournalSocket = \"{home}/journal\"";
    let pair = Pair::new(node, &shell("w", SLEEPER, "to = \"null\""));
    let (_, err) = exits(&pair, &["run", "--detach"], 1);
    has(&err, &["cannot write the log to the journal at", "needs systemd-journald"]);
    let listener = UnixListener::bind(pair.home.join("journal")).expect("journald's socket");
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let send = send.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.for_each(|line| drop(send.send(line)));
            });
        }
    });
    pair.start();
    take_over(&pair);
    let mut all: Vec<String> = Vec::new();
    wait_until("the takeover to be told", || {
        all.extend(lines.try_iter());
        all.iter().any(|line| line.starts_with("<4>[NodeManager-0207] takeover after the death"))
    });
    // Each stream is read by a thread of its own.
    wait_until("the streams before it", || {
        all.extend(lines.try_iter());
        all.iter().any(|line| line.starts_with("<6>[NodeManager-0101] "))
            && all.iter().any(|line| line == pair.name())
    });
    assert!(!pair.home.join(format!("logs/{}.log", pair.name())).exists());
    has(&exits(&pair, &["logs", "--self"], 1).1, &["journalctl -t"]);
}

#[test]
fn rotated_logs_of_the_pair_are_compressed_and_logs_reads_them() {
    let node = "logCompress = true\nlogMaxSize = \"2KiB\"\nlogMaxFiles = 100";
    let pair = Pair::new(node, &shell("w", SLEEPER, "to = \"null\""));
    pair.start();
    let own = log(&pair, &format!("{}.log", pair.name()));
    let gzipped = || {
        let rotated = nodemanager::output::rotate::rotated_files(&own);
        rotated.iter().filter(|(_, path)| path.extension().is_some_and(|e| e == "gz")).count()
    };
    wait_until("compressed logs", || {
        exits(&pair, &["restart", "w"], 0);
        gzipped() >= 2
    });
    take_over(&pair);
    let shown = pair.ok(&["logs", "--self", "-n", "100000"]);
    has(shown.lines().next().unwrap_or_default(), &["NodeManager-0"]);
    has(&shown, &["NodeManager-0101", "NodeManager-0207"]);
}

#[test]
fn logs_that_were_moved_are_opened_again_when_that_is_asked_for() {
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done";
    let pair = Pair::new("", &shell("w", script, "to = \"pipe\""));
    has(&exits(&pair, &["logs", "--reopen"], 69).1, &["no node manager runs"]);
    pair.start();
    pair.wait_whole();
    let (path, moved) = (log(&pair, "w.out"), log(&pair, "moved"));
    wait_until("output", || !whole(&path).is_empty());
    fs::rename(&path, &moved).expect("the log");
    has(&exits(&pair, &["logs", "--reopen"], 0).0, &["opens its logs again"]);
    wait_until("more output", || !whole(&path).is_empty());
    exits(&pair, &["stop", "w"], 0);
    let all = whole(&moved) + &whole(&path);
    assert_all(&numbers(&all, "line "), "the lines");
    exits(&pair, &["logs", "--reopen", "w"], 64);
}
