//! `logs -f` over everything that happens to a log.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::{Pair, wait_until};
use crate::tools::{Ended, exits};
use crate::*;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

/// A `logs` that goes on, and the lines that came from it.
struct Following {
    _process: Ended,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Following {
    fn new(pair: &Pair, words: &[&str]) -> Following {
        let child = pair.command(words).stdout(Stdio::piped()).spawn();
        let mut process = Ended(child.expect("logs can be run"));
        let out = process.0.stdout.take().expect("its output");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Following { _process: process, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, what: &str, is_last: impl Fn(&str) -> bool) {
        wait_until(what, || {
            self.seen.extend(self.lines.try_iter());
            self.seen.iter().any(|line| is_last(line))
        });
    }
}

#[test]
fn every_line_is_shown_once_over_three_takeovers_five_rotations_compression_and_a_restart() {
    let script = "n=0; while :; do n=$((n+1)); echo $$$$ $n; \
                  [ $((n % 50)) -eq 0 ] && sleep 0.01; done";
    let output = "maxSize = \"60KiB\", maxFiles = 1000, compress = true";
    let pair = Pair::new("", &(shell("w", script, output) + "autoStart = false\n"));
    // There is no log yet.
    let mut follow = Following::new(&pair, &["logs", "-f", "-n", "0", "w"]);
    pair.start();
    exits(&pair, &["start", "w"], 0);
    let mut pids = vec![pair.pids()["w"]];
    let path = log(&pair, "w.out");
    let rotated = || nodemanager::output::rotate::rotated_files(&path).len();
    for round in 1..=3 {
        wait_until("two rotations", || rotated() >= round * 2);
        take_over(&pair);
        if round == 2 {
            exits(&pair, &["restart", "w"], 0);
            pids.push(pair.pids()["w"]);
        }
    }
    exits(&pair, &["stop", "w"], 0);
    let text = whole_when_compressed(&path);
    let last = text.lines().last().expect("a line").to_owned();
    follow.wait_for("the last line", |line| line == last);
    assert!(rotated() >= 5, "{} rotations", rotated());
    assert_eq!(pair.status()["takeovers"], 3);
    let expected: Vec<&str> = text.lines().collect();
    assert_eq!(follow.seen.len(), expected.len());
    assert!(follow.seen.iter().zip(expected).all(|(seen, line)| seen == line));
    for pid in pids {
        assert_all(&numbers(&text, &format!("{pid} ")), "the lines");
    }
}

/// All that is in the log, when nobody compresses it any more.
fn whole_when_compressed(path: &Path) -> String {
    wait_until("all to be compressed", || {
        let rotated = nodemanager::output::rotate::rotated_files(path);
        rotated.iter().all(|(_, path)| path.extension().is_some_and(|ending| ending == "gz"))
    });
    whole(path)
}

#[test]
fn several_logs_are_followed_with_their_names_in_front_and_without_colours_in_a_pipe() {
    let script = |name: &str| {
        format!("for n in 1 2 3; do echo {name} $n; sleep 0.05; done; exec sleep 1000")
    };
    let servers = shell("web", &script("a"), "to = \"pipe\"")
        + &shell("worker", &script("b"), "to = \"direct\"")
        + &shell("other", &script("c"), "to = \"pipe\"");
    let pair = Pair::new("", &servers);
    let mut follow = Following::new(&pair, &["logs", "-f", "w*"]);
    pair.start();
    follow.wait_for("the one", |line| line == "[web] a 3");
    follow.wait_for("the other", |line| line == "[worker] b 3");
    for (prefix, what) in [("[web] a ", "web"), ("[worker] b ", "worker")] {
        let found = numbers(&follow.seen.join("\n"), prefix);
        assert_eq!(found, [1, 2, 3], "{what}");
    }
    assert_eq!(follow.seen.len(), 6, "{:?}", follow.seen);
}
